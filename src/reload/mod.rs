//! From a changed file to a published table.
//!
//! One loop on the control thread: notes of the watch and slow looks say where something may have changed, `look`
//! says what is there, `settle` when it counts, `book` what follows, and the table is published. Whatever goes wrong
//! with a file, what served before goes on serving. Only what changed is opened, read and built.

mod access;
mod book;
mod certificates;
mod claims;
mod contest;
mod covered;
mod first;
mod gauges;
mod guard;
mod handle;
pub mod history;
mod last_good;
mod look;
mod news;
mod offline;
mod on_disk;
mod parallel;
mod requests;
mod search;
mod settle;
mod status;
mod status_files;
mod swapped;
mod wait;
mod watch;
mod watched;
mod wrong;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

pub use contest::{Contender, Contest, Incumbent, patterns_for};
pub use gauges::{BackendGauges, Gauges, SiteGauges};
pub use handle::Reload;
pub use news::News;
pub use offline::Offline;
pub(crate) use status::seconds;
pub use status::{BackendStatus, FileStatus, Overview, Report, State, Summary, Until, Waited};
pub use swapped::CertificateChange;
pub(crate) use wrong::wrong_with;

use crate::observe::panic::contain;
use crate::route::{Current, RouteTable};
use crate::settings::{self, Settings};
use crate::site::file::Rules;
use crate::site::{HostPattern, SiteName, directory};
use crate::tls::{Keyring, Removals};
use crate::upstream::States;
use access::Access;
use book::{Book, Moment, Step};
use certificates::Read;
use covered::{Passed, Which};
use first::read_everything;
use gauges::Ends;
use handle::Request;
use last_good::{Leftovers, Store};
use look::{Look, Question};
use on_disk::Deferred;
use search::GLANCE;
use settle::{Hint, Settle, Verdict};
use status_files::StatusFiles;
use wait::{Goal, Waiter};
use watch::Watch;
use watched::Identity;

/// Between two publishes: a thousand files at once make a few tables and not a thousand.
const PACE: Duration = Duration::from_millis(20);
/// Between two looks at everything, whatever the events say.
const NET: Duration = Duration::from_secs(30);
/// Between two looks at the requests that somebody waits for the end of.
const REQUESTS: Duration = Duration::from_millis(50);
/// Before everything is begun anew: a panic that comes back must not keep a processor busy.
const BEGIN_ANEW: Duration = Duration::from_secs(1);

/// Loads all sites, publishes the first table and goes on following the directory, as a task of the current runtime
/// (single-threaded: the control thread's). Nothing in the directory makes this fail.
pub async fn start(
    settings: &Settings,
    rules: Rules,
    current: Arc<Current>,
    keyring: Arc<Keyring>,
    states: Arc<States>,
    news: mpsc::UnboundedSender<News>,
) -> (Reload, Summary) {
    let sites = std::path::absolute(&settings.sites).unwrap_or_else(|_| settings.sites.clone());
    // First the watch, then the list: what changes in between is seen twice rather than never.
    let watch = Watch::start(&sites, settings.watch).await;
    let kept_in = settings.state.join("sites");
    let rules = Arc::new(Rules {
        sites: sites.clone(),
        ..rules
    });
    let first = {
        let (sites, rules, kept_in) = (sites.clone(), rules.clone(), kept_in.clone());
        let keyring = Arc::clone(&keyring);
        spawn_blocking(move || {
            // Before anybody is served: what has a certificate is not served in clear text.
            let told = keyring.search(Removals::Doubted);
            let first = read_everything(&sites, &rules, &kept_in, Leftovers::Remove);
            (told, first)
        })
        .await
    };
    let (told, first) = first.unwrap_or_default();
    certificates::tell_of_folders(&told.problems);

    let (reload, requests) = Reload::new();
    let (acks, acknowledged) = mpsc::unbounded_channel();
    let (reads, read) = mpsc::unbounded_channel();
    let now = Instant::now();
    let mut follower = Follower {
        access: Access::of(&sites),
        closed: BTreeSet::new(),
        exposed: BTreeSet::new(),
        last_filled: None,
        was_away: false,
        sites,
        rules,
        current,
        keyring,
        reads,
        read,
        news,
        passed: Passed::default(),
        wish: settings.watch,
        kept_in: kept_in.clone(),
        base: None,
        abandoned: Vec::new(),
        watch,
        armed: BTreeSet::new(),
        unarmed: BTreeSet::new(),
        store: Store::open(kept_in),
        status_files: StatusFiles::open(settings.status.clone()),
        settle: Settle::default(),
        book: Book::new(states),
        ignored: BTreeMap::new(),
        requests,
        deferred: VecDeque::new(),
        looking_since: None,
        acks,
        acknowledged,
        outstanding: BTreeMap::new(),
        waiters: Vec::new(),
        paced: now,
        looked: now,
        glance: now + GLANCE,
        search: told.again_in.map(|pause| now + pause),
        rescan: false,
        anew: BTreeSet::new(),
        elsewhere: None,
        reloads: 0,
        last_reload: Duration::ZERO,
        reloading: Duration::ZERO,
        listings: 0,
        // What is read at the start says so itself.
        ends: Ends::from(now + NET),
    };
    follower.begin(first);
    follower.warn_of_missing_catch_all();
    let summary = Summary {
        notice: follower.notice(),
        ..follower.book.summary(follower.ignored.len())
    };
    tokio::spawn(keep_following(follower));
    (reload, summary)
}

/// Follows the directory until nobody asks any more. After a panic half of a step may be in the books: the table in
/// force stays, and everything else is begun anew from what is on disk.
async fn keep_following(mut follower: Follower) {
    let mut panicked = contain(FOLLOWING, follower.follow()).await.is_err();
    while panicked {
        sleep(BEGIN_ANEW).await;
        let again = async {
            follower.begin_anew().await?;
            follower.follow().await;
            Ok::<(), JoinError>(())
        };
        panicked = !matches!(contain(FOLLOWING, again).await, Ok(Ok(())));
    }
}

const FOLLOWING: &str = "the following of the sites directory, which begins anew";

/// The loop's state.
struct Follower {
    sites: PathBuf,
    rules: Arc<Rules>,
    current: Arc<Current>,
    keyring: Arc<Keyring>,
    reads: mpsc::UnboundedSender<Option<Read>>,
    /// Certificates of sites that serve already. `None`: those that were to be read at once are.
    read: mpsc::UnboundedReceiver<Option<Read>>,
    /// To whoever watches backends.
    news: mpsc::UnboundedSender<News>,
    /// Whose TLS is passed through.
    passed: Passed,
    wish: settings::Watch,
    kept_in: PathBuf,
    /// What the next table is made from, where that is not the one in force.
    base: Option<RouteTable>,
    /// Numbers of sites that nobody remembers once that table is in force.
    abandoned: Vec<u32>,
    watch: Watch,
    /// Folders with files behind sites: those that are watched, and those that could not be yet.
    armed: BTreeSet<PathBuf>,
    unarmed: BTreeSet<PathBuf>,
    store: Store,
    status_files: StatusFiles,
    settle: Settle,
    book: Book,
    ignored: BTreeMap<PathBuf, String>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// Those that came during a look, in the order in which they came.
    deferred: VecDeque<Deferred>,
    /// When the look began that is being waited for.
    looking_since: Option<Instant>,
    acks: mpsc::UnboundedSender<u64>,
    acknowledged: mpsc::UnboundedReceiver<u64>,
    /// Tables that not all workers have yet, and the numbers that are free afterwards.
    outstanding: BTreeMap<u64, Vec<u32>>,
    waiters: Vec<Waiter>,
    access: Access,
    /// Which folder the sites directory was when it last had files.
    last_filled: Option<Identity>,
    /// The sites directory could not be looked into, and has not been since.
    was_away: bool,
    /// Team folders that cannot be listed, as far as it has been said.
    closed: BTreeSet<PathBuf>,
    /// Folders that everybody may write into, the same.
    exposed: BTreeSet<PathBuf>,
    /// The next publish is not before.
    paced: Instant,
    /// When everything was last looked at.
    looked: Instant,
    glance: Instant,
    /// When the folders of certificates are looked into before everything is: something there is half done, or away.
    search: Option<Instant>,
    /// Look at everything.
    rescan: bool,
    /// Rejected files to be read once more, though they look as they did: the reason may be elsewhere.
    anew: BTreeSet<SiteName>,
    /// Look at files from elsewhere, and believe this of those that differ.
    elsewhere: Option<Hint>,
    /// Tables that were put in force, how long the last one took, and all of them together.
    reloads: u64,
    last_reload: Duration,
    reloading: Duration,
    /// How often the whole directory was listed.
    listings: u64,
    ends: Ends,
}

impl Follower {
    /// Forgets everything but the numbers that are in use, and reads what is on disk as at the start. The table in
    /// force is replaced by the new one in one step.
    ///
    /// # Errors
    /// When reading panics; nothing has changed then.
    async fn begin_anew(&mut self) -> Result<(), JoinError> {
        self.store.flush().await;
        self.watch = Watch::start(&self.sites, self.wish).await;
        self.armed.clear();
        self.unarmed.clear();
        let (sites, rules, kept_in) =
            (self.sites.clone(), self.rules.clone(), self.kept_in.clone());
        let first = self
            .on_disk(move || read_everything(&sites, &rules, &kept_in, Leftovers::Remove))
            .await?;
        // Freed with the old table, but for those that will be anyway.
        let is_outstanding = |number: &u32| {
            self.outstanding
                .values()
                .any(|freed| freed.contains(number))
        };
        self.abandoned = self.book.numbers();
        self.abandoned.retain(|number| !is_outstanding(number));
        self.book = Book::after(&self.book);
        self.settle = Settle::default();
        self.ignored.clear();
        self.waiters.clear();
        self.access = Access::of(&self.sites);
        self.base = Some(self.current.snapshot().emptied());
        self.begin(first);
        warn!("everything on disk has been read anew");
        Ok(())
    }

    async fn follow(&mut self) {
        loop {
            while let Some(request) = self.take_deferred() {
                self.take_request(request).await;
            }
            let next = self.next();
            tokio::select! {
                note = self.watch.next() => self.take_note(note),
                request = self.requests.recv() => match request {
                    Some(request) => self.take_request(request).await,
                    None => return,
                },
                Some(generation) = self.acknowledged.recv() => {
                    let numbers = self.outstanding.remove(&generation);
                    self.free(numbers.unwrap_or_default());
                }
                Some(read) = self.read.recv() => match read {
                    Some(read) => self.take_read(read),
                    None => self.tell_covered(Which::All),
                },
                () = sleep_until(next) => {}
            }
            self.take_notes();
            self.turn().await;
        }
    }

    /// When there is something to do without anybody saying so.
    fn next(&self) -> Instant {
        let mut next = self.net().min(self.glance);
        next = self.search.map_or(next, |search| next.min(search));
        let work = [self.settle.next(), self.book.due()]
            .into_iter()
            .flatten()
            .min();
        if let Some(work) = work {
            next = next.min(work.max(self.paced));
        }
        // Nobody says when a request ends.
        if self.waiters.iter().any(Waiter::is_for_requests) {
            next = next.min(Instant::now() + REQUESTS);
        }
        self.waiters
            .iter()
            .fold(next, |next, waiter| next.min(waiter.deadline))
    }

    /// When everything is to be looked at next. Events may have failed since the last time.
    fn net(&self) -> Instant {
        self.looked + self.watch.poll_every().unwrap_or(NET)
    }

    async fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.glance {
            self.glance().await;
        }
        if self.search.is_some_and(|search| now >= search) {
            self.search_certificates(Removals::Doubted).await;
        }
        self.tell_ends();
        if self.rescan || now >= self.net() {
            self.look_everywhere().await;
        }
        if let Some(hint) = self.elsewhere.take() {
            self.look_elsewhere(hint).await;
        }
        if now >= self.paced {
            self.settle_and_publish().await;
        }
        self.answer_waiters(|_| true);
        if self.status_files.are_wanted() {
            let notice = self.notice();
            self.status_files.tell(notice);
        }
    }

    /// Reads what is due, and publishes what counts.
    async fn settle_and_publish(&mut self) {
        let due = self.settle.due(Instant::now());
        let looks = self.look_at(due).await;
        if self.may_have_come_with_pairs(&looks) {
            self.search_certificates(Removals::Doubted).await;
        }
        // A write that overtook the reading has made its events by now.
        self.take_notes();
        let at = self.moment();
        let mut counted = Vec::new();
        for (look, was_touched) in looks {
            if was_touched {
                self.settle.hint(&look.name, Hint::Whole, at.now);
            }
            if self.settle.looked(&look.name, look.seen(), at.now) == Verdict::Counts {
                self.anew.remove(&look.name);
                counted.push(look);
            }
        }
        let mut step = Step::default();
        if !counted.is_empty() {
            let is_filled = counted.iter().any(Look::is_of_a_file);
            self.book.apply(counted, at, &mut step);
            if is_filled {
                self.last_filled = self.access.identity();
            }
        }
        self.book.tick(self.ground(), at, &mut step);
        self.book
            .tell_conflicts(|owner| self.settle.is_pending(owner));
        let is_news = !step.edits.is_empty();
        self.publish(step, at);
        if is_news {
            self.arm_elsewhere();
        }
    }

    async fn look_at(&mut self, names: Vec<SiteName>) -> Vec<(Look, bool)> {
        if names.is_empty() {
            return Vec::new();
        }
        let question = |name: SiteName| Question {
            path: self.path_of(&name),
            before: match self.anew.contains(&name) {
                true => None,
                false => self.book.print(&name).cloned(),
            },
            name,
        };
        let questions: Vec<Question> = names.into_iter().map(question).collect();
        let rules = self.rules.clone();
        let looked = self.on_disk(move || look::look_twice(questions, &rules));
        // Faults that a file brings out are told of that file. After any other nothing was seen, and what is pending is
        // looked at again, but not all the time.
        looked.await.unwrap_or_else(|_| {
            self.paced = Instant::now() + BEGIN_ANEW;
            Vec::new()
        })
    }

    fn path_of(&self, name: &SiteName) -> PathBuf {
        directory::path_of(&self.sites, name)
    }

    fn publish(&mut self, step: Step, at: Moment) {
        let Step {
            edits,
            changes,
            keep,
            forget,
            mut freed,
            added,
            changed,
            removed,
            held,
        } = step;
        let live = held.iter().map(|held| Arc::clone(&held.site)).collect();
        let mut claims = held.iter().flat_map(|held| &held.site.claims);
        let may_stand_for_others =
            claims.any(|claim| !matches!(claim.pattern, HostPattern::Exact(_)));
        self.hold(held);
        self.tell_news(live, &changes);
        self.report(&added, &changed, &removed);
        let base = self.base.take();
        freed.append(&mut self.abandoned);
        if !edits.is_empty() || !changes.is_empty() || at.generation == 1 || base.is_some() {
            let table = match base {
                Some(base) => base.with(edits),
                None => self.current.snapshot().with(edits),
            };
            if may_stand_for_others {
                self.keyring.remember_found(|host| table.find(host));
            }
            let generation = table.generation();
            let published = self.current.publish(table, changes);
            self.outstanding.insert(generation, freed);
            self.reloads += 1;
            self.last_reload = at.now.elapsed();
            self.reloading += self.last_reload;
            let acks = self.acks.clone();
            tokio::spawn(async move {
                published.await;
                // A loop that has ended has nobody to tell.
                acks.send(generation).ok();
            });
            self.paced = at.now + PACE;
        } else {
            self.free(freed);
        }
        self.write_status();
        forget.iter().for_each(|name| self.store.forget(name));
        for version in keep {
            self.store.keep(version);
        }
    }

    /// Tells those who read files of what is another now.
    fn write_status(&mut self) {
        let touched = self.book.touched();
        if !self.status_files.are_wanted() {
            return;
        }
        let adviser = self.keyring.adviser();
        let batch = touched.into_iter().map(|name| {
            let status = self.book.status_of(&name, &adviser);
            (name, status.map(|status| status.state_json()))
        });
        self.status_files.write(batch.collect());
    }

    /// No worker has a connection of a site with these numbers any more.
    fn free(&mut self, numbers: Vec<u32>) {
        let had = numbers.iter().copied();
        let had: Vec<u32> = had.filter(|number| self.keyring.has_own(*number)).collect();
        for number in &numbers {
            self.keyring.forget(*number);
            self.passed.forget(*number);
            // Who watches may have ended, with the process.
            self.news.send(News::Gone(*number)).ok();
        }
        self.book.free(numbers);
        self.tell_covered_by(&had);
    }

    /// Something is known of a backend that was not known before.
    fn backends_changed(&mut self) {
        for version in self.book.proven() {
            self.store.keep(version);
        }
    }

    fn report(&mut self, added: &[SiteName], changed: &[SiteName], removed: &[SiteName]) {
        let extend = |list: &mut Vec<String>, names: &[SiteName]| {
            list.extend(names.iter().map(SiteName::to_string));
            list.sort();
            list.dedup();
        };
        for waiter in &mut self.waiters {
            if let Goal::Report { report, .. } = &mut waiter.goal {
                extend(&mut report.added, added);
                extend(&mut report.changed, changed);
                extend(&mut report.removed, removed);
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: Instant::now(),
            wall: SystemTime::now(),
            generation: self.current.generation() + 1,
        }
    }
}

/// Tells two texts apart.
fn digest(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests;
