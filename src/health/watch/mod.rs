//! The loop: when each check is asked, and what its answer changes. Which checks there are, and for whom, is in `link`;
//! what each asks in `same`; what is told of them in `tell`.

mod link;
mod same;
mod tell;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::course::{Course, Turn};
use super::names::Names;
use super::probe::{Failure, Probe};
use super::schedule::{Agenda, Beat, FEW, SOON};
use super::{Event, Tools};
use crate::observe::panic::contain;
use crate::reload::News;
use crate::site::{EndpointState, Site};
use same::Same;

pub(super) struct Watch {
    tools: Tools,
    /// By `Site::number`.
    sites: HashMap<u32, Watched>,
    checks: HashMap<u64, Running>,
    numbers: HashMap<Same, u64>,
    names: Names,
    agenda: Agenda,
    started: Instant,
    /// Checks being asked, and how many of those failed last time: they may wait for their whole time.
    asking: usize,
    asking_failing: usize,
    last_number: u64,
    random: u64,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
}

/// One site, as it serves.
struct Watched {
    site: Arc<Site>,
    /// For each of its backends, in their order, for each address: the number of the check.
    checks: Vec<Vec<u64>>,
    /// Those of its backends that are names.
    names: Vec<Arc<str>>,
}

/// One check.
struct Running {
    probe: Arc<Probe>,
    same: Same,
    course: Course,
    beat: Beat,
    /// How often it is still asked sooner than its interval says.
    soon: u32,
    /// `None`: it is being asked.
    due: Option<Instant>,
    is_failing: bool,
    /// Why it failed last, where it did.
    told: Option<Arc<str>>,
    /// Of the backend that is asked: that it accepts is found here, too.
    endpoint: Arc<EndpointState>,
    users: Vec<User>,
}

/// A backend of a site that a check is asked for, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    site: u32,
    member: usize,
}

impl Watch {
    pub(super) fn new(tools: Tools) -> Watch {
        let (events, inbox) = mpsc::unbounded_channel();
        let link_local = *tools.link_local.borrow();
        Watch {
            names: Names::new(link_local),
            random: tools.seed[0] | 1,
            tools,
            sites: HashMap::new(),
            checks: HashMap::new(),
            numbers: HashMap::new(),
            agenda: Agenda::default(),
            started: Instant::now(),
            asking: 0,
            asking_failing: 0,
            last_number: 0,
            events,
            inbox,
        }
    }

    /// `live` are the sites that the news were about, also those from before this watch.
    pub(super) async fn follow(
        mut self,
        news: &mut mpsc::UnboundedReceiver<News>,
        live: &mut BTreeMap<u32, Arc<Site>>,
    ) {
        const AT_ONCE: usize = 1024;
        let mut batch: Vec<News> = live.values().cloned().map(News::Live).collect();
        self.take_news(&mut batch);
        let doubts = Arc::clone(&self.names.doubts);
        loop {
            let next = self.next();
            tokio::select! {
                count = news.recv_many(&mut batch, AT_ONCE) => match count {
                    0 => return,
                    _ => {
                        for news in &batch {
                            match news {
                                News::Live(site) => live.insert(site.number, Arc::clone(site)),
                                News::Gone(number) => live.remove(number),
                                News::LookUp => None,
                            };
                        }
                        self.take_news(&mut batch);
                    }
                },
                Some(event) = self.inbox.recv() => self.take(event),
                Ok(()) = self.tools.link_local.changed() => {
                    let link_local = *self.tools.link_local.borrow_and_update();
                    self.names.change_fence(link_local, Instant::now());
                }
                () = doubts.notified() => self.names.hear_doubts(Instant::now()),
                () = sleep_until(next) => {}
            }
            while let Ok(event) = self.inbox.try_recv() {
                self.take(event);
            }
            self.turn();
        }
    }

    fn next(&self) -> Instant {
        let far = Instant::now() + std::time::Duration::from_secs(3600);
        // Who is full goes on with the next answer.
        let check = self.agenda.next().filter(|_| self.asking < self.tools.most);
        [check, self.names.next()]
            .into_iter()
            .flatten()
            .fold(far, Instant::min)
    }

    /// Asks who is due.
    fn turn(&mut self) {
        let now = Instant::now();
        let random = self.random();
        self.names.turn(self.started, now, random, &self.events);
        while self.asking < self.tools.most
            && let Some(number) = self.agenda.take(now)
        {
            self.ask(number, now);
        }
    }

    fn ask(&mut self, number: u64, now: Instant) {
        let Some(running) = self.checks.get_mut(&number) else {
            return;
        };
        // Those that keep us waiting must not keep the others from being asked.
        if running.is_failing && self.asking_failing >= self.tools.most.div_ceil(2) {
            let later = now + SOON;
            running.due = Some(later);
            self.agenda.put(number, later);
            return;
        }
        running.due = None;
        self.asking += 1;
        self.asking_failing += usize::from(running.is_failing);
        let (probe, events) = (Arc::clone(&running.probe), self.events.clone());
        let is_failing = running.is_failing;
        drop(spawn_local(async move {
            let answer = contain("a check of a backend", probe.ask()).await;
            let answer = answer.unwrap_or(Err(Failure::Exhausted));
            // A loop that has ended watches nothing.
            events
                .send(Event::Answered {
                    number,
                    is_failing,
                    answer,
                })
                .ok();
        }));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Answered {
                number,
                is_failing,
                answer,
            } => {
                self.asking -= 1;
                self.asking_failing -= usize::from(is_failing);
                self.take_answer(number, answer);
            }
            Event::Found(found) => {
                let sites = self.names.take(found, Instant::now());
                for number in sites {
                    if let Some(watched) = self.sites.get(&number) {
                        let site = Arc::clone(&watched.site);
                        self.link(site, FEW);
                    }
                }
                self.tools.reload.backends_changed();
            }
        }
    }

    fn take_answer(&mut self, number: u64, answer: Result<(), Failure>) {
        let (now, random) = (Instant::now(), self.random());
        // Nobody wants to know any more.
        let Some(running) = self.checks.get_mut(&number) else {
            return;
        };
        let due = match running.soon {
            0 => running.beat.next(self.started, now, random),
            _ => now + SOON.min(running.same.check.every),
        };
        running.soon = running.soon.saturating_sub(1);
        running.due = Some(due);
        self.agenda.put(number, due);
        let check = Arc::clone(&running.same.check);
        let turn = match answer {
            Err(Failure::Exhausted) => return,
            Ok(()) => {
                running.soon = 0;
                running.is_failing = false;
                running.endpoint.trouble.is_over();
                running.course.passed(&check)
            }
            Err(failure) => {
                running.is_failing = true;
                let told = running.probe.told(&failure);
                if running.told.as_deref() != Some(&*told) {
                    running.told = Some(told.into());
                }
                running.course.failed(&check)
            }
        };
        if turn == Turn::Nothing {
            return;
        }
        let users = self
            .checks
            .get(&number)
            .map(|running| running.users.clone());
        for user in users.unwrap_or_default() {
            self.judge(user);
        }
        // What the log says holds for the next request.
        self.tell(number, turn);
        self.tools.reload.backends_changed();
    }

    fn take_news(&mut self, batch: &mut Vec<News>) {
        let come = batch.iter().filter(|news| matches!(news, News::Live(_)));
        let come = come.count();
        for news in batch.drain(..) {
            match news {
                News::Live(site) => self.link(site, come),
                News::Gone(number) => {
                    let old = self.sites.remove(&number);
                    let had = old.iter().flat_map(|old| old.names.iter().cloned());
                    self.names.let_go(number, &had.collect::<Vec<_>>(), &[]);
                    self.unlink(number, old.iter());
                    self.drop_unused(old.iter());
                }
                News::LookUp => self.names.look_up_all(Instant::now()),
            }
        }
        self.tools.reload.backends_changed();
    }

    /// xorshift64: for spreading, not for secrets.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
