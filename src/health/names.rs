//! Backends that are names: looked up at load, every 30 s, and when a connect fails; the last good answer is kept.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::schedule::Beat;
use super::{Event, hash_of};
use crate::site::addresses::Doubt;
use crate::site::backend::LinkLocal;
use crate::upstream;

/// getaddrinfo does not show a TTL; 30 s is what most zones of moving services use.
const EVERY: Duration = Duration::from_secs(30);
/// After a failure: soon, and then twice as long each time, up to [`EVERY`].
const SOON: Duration = Duration::from_secs(1);
/// A resolver that needs longer is spoken of, and its answer is taken whenever it comes.
const SLOW: Duration = Duration::from_secs(5);
/// Lookups under way at once; each holds a thread until the system's resolver lets go of it, which may be 30 s.
const AT_ONCE: usize = 32;

/// All names that some live site has among its backends.
pub(super) struct Names {
    known: HashMap<Arc<str>, Known>,
    /// When each is looked up next.
    due: BTreeSet<(Instant, Arc<str>)>,
    link_local: LinkLocal,
    turns: Arc<Semaphore>,
    pub(super) doubts: Arc<Notify>,
}

struct Known {
    /// Numbers of the sites.
    sites: BTreeSet<u32>,
    answer: Option<Arc<[IpAddr]>>,
    /// What went wrong last. `None`: nothing.
    trouble: Option<String>,
    asked: Option<Instant>,
    is_asking: bool,
    /// Somebody has wanted a newer answer than the one that is under way.
    is_wanted: bool,
    due: Instant,
    again_after: Duration,
    beat: Beat,
    doubt: Doubt,
}

/// What a lookup brought.
#[derive(Debug)]
pub(super) struct Found {
    name: Arc<str>,
    answer: Result<Box<[IpAddr]>, String>,
    /// Whether the resolver has let go of it.
    is_over: bool,
}

impl Names {
    pub(super) fn new(link_local: LinkLocal) -> Names {
        Names {
            known: HashMap::new(),
            due: BTreeSet::new(),
            link_local,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            doubts: Arc::default(),
        }
    }

    /// What `name` leads to, for site number `site`, which is told of changes from now on.
    pub(super) fn of(&mut self, name: &Arc<str>, site: u32, now: Instant) -> Option<Arc<[IpAddr]>> {
        let Names {
            known, due, doubts, ..
        } = self;
        let known = known.entry(Arc::clone(name)).or_insert_with(|| {
            due.insert((now, Arc::clone(name)));
            Known {
                sites: BTreeSet::new(),
                answer: None,
                trouble: None,
                asked: None,
                is_asking: false,
                is_wanted: false,
                due: now,
                again_after: SOON,
                beat: Beat::new(EVERY, hash_of(name)),
                doubt: Doubt::telling(doubts),
            }
        });
        known.sites.insert(site);
        known.answer.clone()
    }

    pub(super) fn doubt(&self, name: &str) -> Doubt {
        let known = self.known.get(name);
        known.map(|known| known.doubt.clone()).unwrap_or_default()
    }

    /// What is wrong with `name`, where it leads nowhere.
    pub(super) fn trouble(&self, name: &str) -> Option<&str> {
        self.known.get(name)?.trouble.as_deref()
    }

    /// Site number `site` had the names `had`, and has `still` these.
    pub(super) fn let_go(&mut self, site: u32, had: &[Arc<str>], still: &[Arc<str>]) {
        for name in had.iter().filter(|name| !still.contains(name)) {
            let Some(known) = self.known.get_mut(name) else {
                continue;
            };
            known.sites.remove(&site);
            if known.sites.is_empty() {
                self.due.remove(&(known.due, Arc::clone(name)));
                self.known.remove(name);
            }
        }
    }

    /// Other addresses count from now on: looks everything up anew. What is out of bounds now is no answer any more, and
    /// what it was before stays, as a site does that was live before its fence.
    pub(super) fn change_fence(&mut self, link_local: LinkLocal, now: Instant) {
        self.link_local = link_local;
        for (name, known) in &mut self.known {
            known.again_after = SOON;
            known.put_off(&mut self.due, name, now);
        }
    }

    /// When something is to be looked up next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Somebody has connected in vain: looks those names up soon.
    pub(super) fn hear_doubts(&mut self, now: Instant) {
        for (name, known) in &mut self.known {
            if known.doubt.take() && !known.is_asking {
                known.look_up_soon(&mut self.due, name, now);
            }
        }
    }

    /// Somebody knows that names lead elsewhere now, or thinks so.
    pub(super) fn look_up_all(&mut self, now: Instant) {
        for (name, known) in &mut self.known {
            known.is_wanted = known.is_asking;
            if !known.is_asking {
                known.look_up_soon(&mut self.due, name, now);
            }
        }
    }

    /// Looks up what is due.
    pub(super) fn turn(
        &mut self,
        start: Instant,
        now: Instant,
        random: u64,
        events: &mpsc::UnboundedSender<Event>,
    ) {
        while let Some((_, name)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            let Some(known) = self.known.get_mut(&name) else {
                self.due.pop_first();
                continue;
            };
            let next = known.beat.next(start, now, random);
            known.put_off(&mut self.due, &name, next);
            if known.is_asking {
                continue;
            }
            known.is_asking = true;
            known.asked = Some(now);
            let turns = Arc::clone(&self.turns);
            drop(spawn_local(ask(
                name,
                self.link_local,
                turns,
                events.clone(),
            )));
        }
    }

    /// Takes what a lookup brought. The numbers of the sites for which something has changed.
    pub(super) fn take(&mut self, found: Found, now: Instant) -> Vec<u32> {
        let Found {
            name,
            answer,
            is_over,
        } = found;
        let Some(known) = self.known.get_mut(&name) else {
            return Vec::new();
        };
        known.is_asking &= !is_over;
        if is_over && std::mem::take(&mut known.is_wanted) {
            known.look_up_soon(&mut self.due, &name, now);
        }
        match answer {
            Ok(addresses) => {
                known.again_after = SOON;
                let is_new = known.answer.as_deref() != Some(&*addresses);
                let listed = || {
                    let all: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                    all.join(", ")
                };
                if known.trouble.take().is_some() {
                    info!(%name, "the name resolves again: {}", listed());
                } else if is_new && known.answer.is_some() {
                    info!(%name, "the name leads elsewhere: {}", listed());
                }
                if !is_new {
                    return Vec::new();
                }
                known.answer = Some(addresses.into());
            }
            Err(why) => {
                let at = known.due.min(now + known.again_after);
                known.put_off(&mut self.due, &name, at);
                known.again_after = (known.again_after * 2).min(EVERY);
                if known.trouble.is_some() {
                    return Vec::new();
                }
                match known.answer {
                    Some(_) => {
                        warn!(%name, "the name does not resolve, its last addresses are used: {why}")
                    }
                    None => warn!(%name, "the name does not resolve: {why}"),
                }
                known.trouble = Some(why);
            }
        }
        known.sites.iter().copied().collect()
    }
}

impl Known {
    /// At once, unless it has just been.
    fn look_up_soon(
        &mut self,
        due: &mut BTreeSet<(Instant, Arc<str>)>,
        name: &Arc<str>,
        now: Instant,
    ) {
        let soonest = self.asked.map_or(now, |asked| asked + SOON);
        let at = self.due.min(soonest.max(now));
        self.put_off(due, name, at);
    }

    fn put_off(&mut self, due: &mut BTreeSet<(Instant, Arc<str>)>, name: &Arc<str>, at: Instant) {
        due.remove(&(self.due, Arc::clone(name)));
        due.insert((at, Arc::clone(name)));
        self.due = at;
    }
}

async fn ask(
    name: Arc<str>,
    link_local: LinkLocal,
    turns: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
) {
    // Closed by nobody.
    let Ok(turn) = turns.acquire_owned().await else {
        return;
    };
    let asked = Arc::clone(&name);
    let mut lookup = spawn_blocking(move || {
        let answer = upstream::look_up(&asked, link_local);
        // Only now: the thread was held until here.
        drop(turn);
        answer
    });
    let tell = |answer, is_over| {
        let name = Arc::clone(&name);
        // A loop that has ended watches nothing.
        events
            .send(Event::Found(Found {
                name,
                answer,
                is_over,
            }))
            .ok();
    };
    let answer = match timeout(SLOW, &mut lookup).await {
        Ok(answer) => answer,
        Err(_) => {
            tell(
                Err(format!("the resolver has not answered within {SLOW:?}")),
                false,
            );
            lookup.await
        }
    };
    let answer = match answer {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("looking it up has panicked".to_owned()),
    };
    tell(answer, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u32; 0] = [];

    struct Story {
        names: Names,
        name: Arc<str>,
        now: Instant,
    }

    impl Story {
        fn new() -> Story {
            let (name, now): (Arc<str>, _) = ("app.internal".into(), Instant::now());
            let mut names = Names::new(LinkLocal::Refused);
            assert_eq!(names.of(&name, 7, now), None);
            Story { names, name, now }
        }

        fn brings(&mut self, answer: Result<&[[u8; 4]], &str>) -> Vec<u32> {
            let answer = answer
                .map(|all| all.iter().map(|ip| IpAddr::from(*ip)).collect())
                .map_err(str::to_owned);
            let found = Found {
                name: Arc::clone(&self.name),
                answer,
                is_over: true,
            };
            self.names.take(found, self.now)
        }

        fn put_off(&mut self, at: Instant) {
            let known = self.names.known.get_mut(&self.name).expect("known");
            known.put_off(&mut self.names.due, &self.name, at);
        }

        fn leads_to(&mut self) -> Option<usize> {
            self.names.of(&self.name, 7, self.now).map(|all| all.len())
        }
    }

    #[test]
    fn the_last_good_answer_is_kept_when_the_resolver_fails() {
        let mut story = Story::new();
        assert_eq!(story.brings(Ok(&[[10, 0, 0, 1], [10, 0, 0, 2]])), [7]);
        assert_eq!(
            story.brings(Ok(&[[10, 0, 0, 1], [10, 0, 0, 2]])),
            NOBODY,
            "nothing new"
        );
        assert_eq!(story.brings(Err("down")), [7], "to be shown");
        assert_eq!(story.leads_to(), Some(2));
        assert_eq!(story.names.trouble("app.internal"), Some("down"));
        assert_eq!(story.brings(Err("down")), NOBODY, "said once");
        assert_eq!(story.brings(Ok(&[[10, 0, 0, 3]])), [7]);
        assert_eq!(story.leads_to(), Some(1));
        assert_eq!(story.names.trouble("app.internal"), None);
    }

    #[test]
    fn a_name_without_an_answer_is_asked_for_again_soon_and_then_less_often() {
        let mut story = Story::new();
        let far = story.now + Duration::from_secs(3600);
        let mut waits = Vec::new();
        for _ in 0..7 {
            story.put_off(far);
            story.brings(Err("no such name"));
            waits.push((story.names.next().expect("a time") - story.now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_name_that_no_site_has_is_forgotten() {
        let mut story = Story::new();
        story.names.of(&story.name.clone(), 8, story.now);
        let had = [story.name.clone()];
        story.names.let_go(7, &had, &[]);
        assert!(story.names.next().is_some());
        story.names.let_go(8, &had, &had);
        assert!(story.names.next().is_some(), "it still has it");
        story.names.let_go(8, &had, &[]);
        assert_eq!(story.names.next(), None);
        assert_eq!(story.brings(Ok(&[[10, 0, 0, 1]])), NOBODY);
    }

    #[test]
    fn a_doubt_is_heard_but_not_more_than_once_a_second() {
        let mut story = Story::new();
        story.brings(Ok(&[[10, 0, 0, 1]]));
        let far = story.now + Duration::from_secs(20);
        let asked = story.now;
        story.put_off(far);
        let known = story.names.known.get_mut("app.internal").expect("known");
        known.asked = Some(asked);
        story.names.hear_doubts(story.now);
        assert_eq!(story.names.next(), Some(far), "nobody doubts");
        story.names.doubt("app.internal").raise();
        story.names.hear_doubts(story.now);
        assert_eq!(story.names.next(), Some(asked + SOON));
    }

    #[test]
    fn all_are_looked_up_when_somebody_says_so_and_once_more_where_an_answer_is_on_its_way() {
        let mut story = Story::new();
        story.brings(Ok(&[[10, 0, 0, 1]]));
        let far = story.now + Duration::from_secs(20);
        story.put_off(far);
        story.names.look_up_all(story.now);
        assert_eq!(story.names.next(), Some(story.now));
        let known = story.names.known.get_mut("app.internal").expect("known");
        (known.is_asking, known.asked) = (true, Some(story.now));
        story.put_off(far);
        story.names.look_up_all(story.now);
        assert_eq!(story.names.next(), Some(far), "it is being asked");
        story.brings(Ok(&[[10, 0, 0, 1]]));
        assert_eq!(story.names.next(), Some(story.now + SOON));
    }
}
