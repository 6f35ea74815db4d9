//! The loop: which checks there are and for whom, when each is asked, and what its answer changes.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::course::{Course, Standing, Turn};
use super::names::Names;
use super::probe::{Failure, Probe};
use super::schedule::{Agenda, Beat, FEW, SOON, SOON_TIMES};
use super::{Event, Tools, hash_of};
use crate::http::Visit;
use crate::observe::panic::contain;
use crate::proxy_header;
use crate::reload::News;
use crate::site::addresses::{Addresses, Located};
use crate::site::fitness::Against;
use crate::site::health::{Ask, Check};
use crate::site::{Address, Backend, HostPattern, Member, SendHost, SendProxy, Site, Wire};
use crate::tls::InClear;
use crate::upstream::moment;

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

/// What makes two checks the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    asked: Asked,
    check: Arc<Check>,
}

/// Who is asked for what, however often.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    address: Address,
    identity: Option<NonZeroU32>,
    h2c: bool,
    introduction: Option<SendProxy>,
    ask: Ask,
    head: Box<[u8]>,
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
        self.tell(number, turn);
        let users = self
            .checks
            .get(&number)
            .map(|running| running.users.clone());
        for user in users.unwrap_or_default() {
            self.judge(user);
        }
        self.tools.reload.backends_changed();
    }

    /// One line for what an operator must know.
    fn tell(&mut self, number: u64, turn: Turn) {
        let Some(running) = self.checks.get_mut(&number) else {
            return;
        };
        let backend = &running.probe.address;
        let sites = names_of(&self.sites, &running.users);
        let told = running.told.as_deref().unwrap_or_default();
        match turn {
            Turn::NotInForce => warn!(site = %sites, "{told}; check not in force"),
            Turn::InForce if running.told.is_some() => {
                info!(site = %sites, "{}; check in force", running.probe.passes());
            }
            Turn::Out => warn!(site = %sites, %backend, "backend out: {told}"),
            Turn::Back => {
                info!(site = %sites, %backend, "backend back: {}", running.probe.passes())
            }
            Turn::InForce | Turn::Nothing => {}
        }
        if matches!(turn, Turn::InForce | Turn::Back) {
            running.told = None;
        }
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

    /// Takes `site` in the place of the version before: what both ask alike goes on. `come`: how many come together.
    fn link(&mut self, site: Arc<Site>, come: usize) {
        let now = Instant::now();
        let number = site.number;
        let old = self.sites.remove(&number);
        self.unlink(number, old.iter());
        let mut still = Vec::new();
        let members: Vec<&Member> = site.members().collect();
        let mut checks = Vec::new();
        for (at, member) in members.iter().enumerate() {
            if let Address::Name { name, .. } = &member.backend.address {
                still.push(Arc::clone(name));
            }
            let addresses = self.addresses(&site, member, now);
            let user = User {
                site: number,
                member: at,
            };
            let numbers = addresses
                .into_iter()
                .filter_map(|address| self.check(&site, member, address, user, come, old.as_ref()))
                .collect();
            checks.push(numbers);
        }
        let had = old.as_ref().map(|old| &*old.names).unwrap_or_default();
        self.names.let_go(number, had, &still);
        self.drop_unused(old.iter());
        let count = checks.len();
        let watched = Watched {
            site,
            checks,
            names: still,
        };
        self.sites.insert(number, watched);
        for member in 0..count {
            self.judge(User {
                site: number,
                member,
            });
        }
    }

    /// Where `member` is to be asked: its address, or those that its name leads to, which requests learn here.
    fn addresses(&mut self, site: &Site, member: &Member, now: Instant) -> Vec<Address> {
        let Address::Name { name, port } = &member.backend.address else {
            return vec![member.backend.address.clone()];
        };
        let state = &member.state;
        let Some(answer) = self.names.of(name, site.number, now) else {
            state.fitness.set(Against::Unresolved, moment());
            state.find(
                self.names
                    .trouble(name)
                    .map(|why| format!("{name} does not resolve: {why}")),
            );
            return Vec::new();
        };
        let before = state.leads_to();
        let located = |ip: &std::net::IpAddr| {
            let address = Address::Ip((*ip, *port).into());
            let known = before.iter().flat_map(|before| before.list.iter());
            let known = known.into_iter().find(|located| located.address == address);
            known.cloned().unwrap_or_else(|| {
                let backend = Backend {
                    address: address.clone(),
                    tls: member.backend.tls.clone(),
                    h2c: member.backend.h2c,
                };
                Located {
                    endpoint: self.tools.states.endpoint(&backend),
                    address,
                    is_out: Arc::new(AtomicBool::new(false)),
                }
            })
        };
        let list: Box<[Located]> = answer.iter().map(located).collect();
        let addresses = list.iter().map(|located| located.address.clone()).collect();
        let doubt = self.names.doubt(name);
        state.lead_to(Addresses { list, doubt });
        if state.fitness.clear(Against::Unresolved, moment()) {
            site.waiting.wake_all();
        }
        addresses
    }

    /// The check of `member` at `address`: one that runs already, or a new one.
    fn check(
        &mut self,
        site: &Site,
        member: &Member,
        address: Address,
        user: User,
        come: usize,
        old: Option<&Watched>,
    ) -> Option<u64> {
        let check = site.health.check.as_ref()?;
        let (same, probe) = self.probe(site, member, address, check)?;
        if let Some(number) = self.numbers.get(&same) {
            let running = self.checks.get_mut(number)?;
            running.users.push(user);
            return Some(*number);
        }
        self.last_number += 1;
        let number = self.last_number;
        let beat = Beat::new(check.every, hash_of(&same));
        let now = Instant::now();
        let is_one_of_few = come <= FEW;
        let due = if is_one_of_few { now } else { beat.first(now) };
        // Only how often or how long changed: what was found out still holds.
        let earlier = old.into_iter().flat_map(|old| old.checks.iter().flatten());
        let course = earlier
            .filter_map(|number| self.checks.get(number))
            .find(|running| running.same.asked == same.asked)
            .map(|running| running.course.clone())
            .unwrap_or_default();
        let soon = match course.standing() {
            Standing::NeverPassed if is_one_of_few => SOON_TIMES,
            _ => 0,
        };
        self.agenda.put(number, due);
        self.numbers.insert(same.clone(), number);
        let running = Running {
            probe: Arc::new(probe),
            same,
            course,
            beat,
            soon,
            due: Some(due),
            is_failing: false,
            told: None,
            users: vec![user],
        };
        self.checks.insert(number, running);
        Some(number)
    }

    /// `None`: how TLS is spoken there is not known yet, or cannot be; told again when it is.
    fn probe(
        &self,
        site: &Site,
        member: &Member,
        address: Address,
        check: &Arc<Check>,
    ) -> Option<(Same, Probe)> {
        let identity = match &member.backend.tls {
            None => None,
            Some(tls) => Some(tls.identity.get()?.as_ref().ok()?),
        };
        let head = match &check.ask {
            Ask::Connect => Box::default(),
            Ask::Get(get) => {
                let host = get.send_host.as_deref().map(str::to_owned);
                let host = host.unwrap_or_else(|| self.host(site, member));
                let visit = Visit {
                    site,
                    path: &get.path,
                    wire: self.wire(site, &host),
                    host: &host,
                    port: self.tools.port,
                    request_id: self.request_id(),
                    via: &self.tools.via,
                };
                visit.head()?.into_boxed_slice()
            }
        };
        let mut introduction = Vec::new();
        if let Some(version) = site.send_proxy {
            proxy_header::write_own(&mut introduction, version);
        }
        let same = Same {
            asked: Asked {
                address: address.clone(),
                identity: identity.map(|identity| identity.number()),
                h2c: member.backend.h2c,
                introduction: site.send_proxy,
                ask: check.ask.clone(),
                head: head.clone(),
            },
            check: Arc::clone(check),
        };
        let identity = match identity {
            None => None,
            Some(identity) => Some(self.tools.keyring.identity(identity)?),
        };
        let probe = Probe {
            address,
            identity,
            h2c: member.backend.h2c,
            check: Arc::clone(check),
            introduction: introduction.into(),
            head,
        };
        Some((same, probe))
    }

    /// The Host that a visitor's request has when it gets there.
    fn host(&self, site: &Site, member: &Member) -> String {
        let exact = site.claims.iter().find_map(|claim| match &claim.pattern {
            HostPattern::Exact(name) if name.as_str().contains(':') => Some(format!("[{name}]")),
            HostPattern::Exact(name) => Some(name.to_string()),
            _ => None,
        });
        match &site.send_host {
            SendHost::Name(name) => name.to_string(),
            SendHost::Keep if let Some(exact) = exact => exact,
            SendHost::Keep | SendHost::Backend => member.backend.host(),
        }
    }

    /// What visitors of `host` end up with.
    fn wire(&self, site: &Site, host: &str) -> Wire {
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        match self.tools.keyring.in_clear(site, host, here) {
            InClear::Serve => Wire::ClearText,
            _ => Wire::Tls,
        }
    }

    /// The same for all checks of this run, so that equal ones are equal.
    fn request_id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        let text = format!("{:016x}{:016x}", self.tools.seed[0], self.tools.seed[1]);
        id.copy_from_slice(&text.as_bytes()[..32]);
        id
    }

    /// Site number `site` asks for none of the checks of `old` any more.
    fn unlink<'w>(&mut self, site: u32, old: impl Iterator<Item = &'w Watched>) {
        for number in old.flat_map(|old| old.checks.iter().flatten()) {
            if let Some(running) = self.checks.get_mut(number) {
                running.users.retain(|user| user.site != site);
            }
        }
    }

    /// Ends those that nobody asks for.
    fn drop_unused<'w>(&mut self, old: impl Iterator<Item = &'w Watched>) {
        for number in old.flat_map(|old| old.checks.iter().flatten()) {
            let is_unused = |running: &Running| running.users.is_empty();
            if self.checks.get(number).is_some_and(is_unused)
                && let Some(running) = self.checks.remove(number)
            {
                self.numbers.remove(&running.same);
                if let Some(due) = running.due {
                    self.agenda.take_out(*number, due);
                }
            }
        }
    }

    /// Writes down what is known of one backend of one site, where requests read it.
    fn judge(&self, user: User) {
        let Some(watched) = self.sites.get(&user.site) else {
            return;
        };
        let site = &watched.site;
        let (Some(member), Some(numbers)) = (
            site.members().nth(user.member),
            watched.checks.get(user.member),
        ) else {
            return;
        };
        let running: Vec<&Running> = numbers
            .iter()
            .filter_map(|number| self.checks.get(number))
            .collect();
        let fitness = &member.state.fitness;
        let is_out = |running: &&Running| running.course.standing() == Standing::Out;
        if let Some(addresses) = member.state.leads_to() {
            for located in &addresses.list {
                let mut here = running
                    .iter()
                    .filter(|r| r.probe.address == located.address);
                located.is_out.store(here.any(is_out), Ordering::Relaxed);
            }
        }
        let now = moment();
        let mut is_back = false;
        if !running.is_empty() && running.iter().all(is_out) {
            fitness.set(Against::Check, now);
        } else {
            is_back |= fitness.clear(Against::Check, now);
        }
        let has_passed = |running: &&Running| running.course.standing() == Standing::Fit;
        let ever = |running: &&Running| running.course.standing() != Standing::NeverPassed;
        member.state.set_passed(running.iter().any(ever));
        if site.health.check.is_none() || running.iter().any(has_passed) {
            is_back |= fitness.clear(Against::Unproven, now);
        }
        let why = running.iter().find_map(|running| running.told.clone());
        if !fitness.has(Against::Unresolved) {
            member.state.find(why.map(|why| why.to_string()));
        }
        if is_back {
            site.waiting.wake_all();
        }
    }

    /// xorshift64: for spreading, not for secrets.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Whose check it is, for a line of the log: the first few by name.
fn names_of(sites: &HashMap<u32, Watched>, users: &[User]) -> String {
    const FEW: usize = 3;
    let mut numbers: Vec<u32> = users.iter().map(|user| user.site).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let named = numbers.iter().filter_map(|number| sites.get(number));
    let named: Vec<&str> = named.map(|watched| watched.site.name.as_str()).collect();
    let mut text = named
        .iter()
        .take(FEW)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    if named.len() > FEW {
        text.push_str(&format!(" +{}", named.len() - FEW));
    }
    text
}
