//! From a changed file to a published table.
//!
//! One loop on the control thread: notes of the watch and slow looks say where something may have changed, `look`
//! says what is there, `settle` when it counts, `book` what follows, and the table is published. Whatever goes wrong
//! with a file, what served before goes on serving. Only what changed is opened, read and built.

mod access;
mod book;
mod claims;
mod guard;
mod handle;
mod last_good;
mod look;
mod parallel;
mod settle;
mod status;
mod wait;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

pub use handle::Reload;
pub use status::{FileStatus, Overview, Report, State, Summary, Waited};

use crate::route::{Current, RouteTable};
use crate::settings::Settings;
use crate::site::directory::{self, Listing};
use crate::site::file::{self, Rules};
use crate::site::{Site, SiteName};
use access::Access;
use book::{Book, Ground, Moment, Step};
use handle::Request;
use last_good::{LastGood, Store};
use look::{Found, Look, Question};
use settle::{Hint, Settle, Verdict};
use wait::{Goal, Progress, Waiter};
use watch::{Identity, Note, Watch};

/// Between two publishes: a thousand files at once make a few tables and not a thousand.
const PACE: Duration = Duration::from_millis(20);
/// Between two looks at everything, whatever the events say.
const NET: Duration = Duration::from_secs(30);
/// Between two looks at what makes no events: the folder itself and files from elsewhere.
const GLANCE: Duration = Duration::from_secs(2);
/// The same while the sites directory is missing: somebody is about to make it.
const GLANCE_MISSING: Duration = Duration::from_millis(200);
/// More files from elsewhere than that are left to the net.
const ELSEWHERE: usize = 2000;
/// More folders than that, outside of the sites directory, are left to the glance.
const FOLDERS: usize = 256;
/// How long a `reload` waits for files that somebody is still writing.
const RELOAD_TIME: Duration = Duration::from_secs(10);

/// Loads all sites, publishes the first table and goes on following the directory, as a task of the current runtime
/// (single-threaded: the control thread's). Nothing in the directory makes this fail.
pub async fn start(settings: &Settings, rules: Rules, current: Arc<Current>) -> (Reload, Summary) {
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
        spawn_blocking(move || read_everything(&sites, &rules, &kept_in)).await
    };
    let first = first.unwrap_or_default();

    let (reload, requests) = Reload::new();
    let (acks, acknowledged) = mpsc::unbounded_channel();
    let now = Instant::now();
    let mut follower = Follower {
        access: Access::of(&sites),
        closed: BTreeSet::new(),
        exposed: BTreeSet::new(),
        last_filled: None,
        sites,
        rules,
        current,
        watch,
        store: Store::open(kept_in),
        settle: Settle::default(),
        book: Book::default(),
        ignored: BTreeMap::new(),
        requests,
        acks,
        acknowledged,
        outstanding: BTreeMap::new(),
        waiters: Vec::new(),
        paced: now,
        looked: now,
        glance: now + GLANCE,
        rescan: false,
        elsewhere: None,
    };
    follower.begin(first);
    let summary = follower.book.summary(follower.ignored.len());
    tokio::spawn(follower.follow());
    (reload, summary)
}

/// What there is on disk at the start.
#[derive(Default)]
struct First {
    listing: Option<Listing>,
    looks: Vec<Look>,
    /// What served before, and the site where its file does not give the same.
    records: Vec<(LastGood, Option<Site>)>,
}

fn read_everything(sites: &Path, rules: &Rules, kept_in: &Path) -> First {
    let listing = match directory::list(sites) {
        Ok(listing) => Some(listing),
        Err(error) => {
            let path = sites.display();
            let why = directory::why_closed(sites, &error);
            warn!(%path, "cannot read the sites directory, waiting for it: {why}");
            None
        }
    };
    let found = listing.iter().flat_map(|listing| listing.files.values());
    let question = |found: &directory::Found| Question {
        name: found.name.clone(),
        path: found.path.clone(),
        before: None,
    };
    let looks = look::look_at_all(found.map(question).collect(), rules);
    let records = last_good::read_all(kept_in);
    let seen: HashMap<&SiteName, u64> = looks
        .iter()
        .filter_map(|look| match &look.found {
            Found::Site(print, _) => Some((&look.name, print.digest)),
            _ => None,
        })
        .collect();
    let records = parallel::map(records, |record| {
        let is_same =
            seen.get(&record.document.name) == Some(&digest(record.document.text.as_bytes()));
        let site = if is_same {
            None
        } else {
            revive(&record, rules)
        };
        (record, site)
    });
    First {
        listing,
        looks,
        records,
    }
}

/// The site as it last served, or nothing when today's rules no longer admit it.
fn revive(record: &LastGood, rules: &Rules) -> Option<Site> {
    match file::read(&record.document, rules) {
        Ok(accepted) => Some(accepted.site),
        Err(problems) => {
            let reason = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            warn!(site = %record.document.name, "what served before cannot serve any more: {reason}");
            None
        }
    }
}

/// The loop's state.
struct Follower {
    sites: PathBuf,
    rules: Arc<Rules>,
    current: Arc<Current>,
    watch: Watch,
    store: Store,
    settle: Settle,
    book: Book,
    ignored: BTreeMap<PathBuf, String>,
    requests: mpsc::UnboundedReceiver<Request>,
    acks: mpsc::UnboundedSender<u64>,
    acknowledged: mpsc::UnboundedReceiver<u64>,
    /// Tables that not all workers have yet, and the numbers that are free afterwards.
    outstanding: BTreeMap<u64, Vec<u32>>,
    waiters: Vec<Waiter>,
    access: Access,
    /// Which folder the sites directory was when it last had files.
    last_filled: Option<Identity>,
    /// Team folders that cannot be listed, as far as it has been said.
    closed: BTreeSet<PathBuf>,
    /// Folders that everybody may write into, the same.
    exposed: BTreeSet<PathBuf>,
    /// The next publish is not before.
    paced: Instant,
    /// When everything was last looked at.
    looked: Instant,
    glance: Instant,
    /// Look at everything.
    rescan: bool,
    /// Look at files from elsewhere, and believe this of those that differ.
    elsewhere: Option<Hint>,
}

impl Follower {
    /// The first table.
    fn begin(&mut self, first: First) {
        let at = self.moment();
        let mut step = Step::default();
        let mut looks = first.looks;
        let mut stored = HashMap::new();
        let mut lost = Vec::new();
        for (record, site) in first.records {
            let name = record.document.name.clone();
            self.book.restore(&record, site, at, &mut step);
            let is_listed = first
                .listing
                .as_ref()
                .is_some_and(|listing| listing.files.contains_key(&name));
            if !is_listed {
                lost.push(name.clone());
            }
            stored.insert(name, record);
        }
        if let Some(listing) = first.listing {
            for name in lost {
                let path = self.book.path(&name).cloned().unwrap_or_default();
                if !is_in_any(&path, &listing.unreadable) {
                    looks.push(Look {
                        name,
                        path,
                        found: Found::Nothing { off: false },
                    });
                }
            }
            self.take_listing_notes(&listing);
        }
        self.book.apply(looks, at, &mut step);
        if self.book.has_files() {
            self.last_filled = self.access.identity();
        }
        self.book.hurry(at.now);
        // Nothing was known of an empty folder but from the state: it may be a mount that is still to come.
        let ground = if self.book.has_files() {
            Ground::Same
        } else {
            Ground::Other
        };
        self.book.tick(ground, at, &mut step);
        self.book.tell_conflicts(|_| false);
        step.keep.retain(|version| {
            let before = stored.get(&version.document.name);
            before.is_none_or(|before| {
                before.document.text != version.document.text || before.claims != version.claims
            })
        });
        self.publish(step, at);
        self.arm_elsewhere();
    }

    async fn follow(mut self) {
        loop {
            let next = self.next();
            tokio::select! {
                note = self.watch.next() => self.take_note(note),
                request = self.requests.recv() => match request {
                    Some(request) => self.take_request(request).await,
                    None => return,
                },
                Some(generation) = self.acknowledged.recv() => {
                    let numbers = self.outstanding.remove(&generation);
                    self.book.free(numbers.unwrap_or_default());
                }
                () = sleep_until(next) => {}
            }
            self.take_notes();
            self.turn().await;
        }
    }

    /// When there is something to do without anybody saying so.
    fn next(&self) -> Instant {
        let mut next = self.net().min(self.glance);
        let work = [self.settle.next(), self.book.due()]
            .into_iter()
            .flatten()
            .min();
        if let Some(work) = work {
            next = next.min(work.max(self.paced));
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
        if self.rescan || now >= self.net() {
            self.look_everywhere().await;
        }
        if let Some(hint) = self.elsewhere.take() {
            self.look_elsewhere(hint).await;
        }
        if now >= self.paced {
            self.settle_and_publish().await;
        }
        self.answer_waiters();
    }

    /// Reads what is due, and publishes what counts.
    async fn settle_and_publish(&mut self) {
        let due = self.settle.due(Instant::now());
        let looks = self.look_at(due).await;
        // A write that overtook the reading has made its events by now.
        self.take_notes();
        let at = self.moment();
        let mut counted = Vec::new();
        for (look, was_touched) in looks {
            if was_touched {
                self.settle.hint(&look.name, Hint::Whole, at.now);
            }
            if self.settle.looked(&look.name, look.seen(), at.now) == Verdict::Counts {
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

    async fn look_at(&self, names: Vec<SiteName>) -> Vec<(Look, bool)> {
        if names.is_empty() {
            return Vec::new();
        }
        let question = |name: SiteName| Question {
            path: self.path_of(&name),
            before: self.book.print(&name).cloned(),
            name,
        };
        let questions: Vec<Question> = names.into_iter().map(question).collect();
        let rules = self.rules.clone();
        // A look that panicked saw nothing; the files stay pending and are looked at again by the net.
        spawn_blocking(move || look::look_twice(questions, &rules))
            .await
            .unwrap_or_default()
    }

    fn path_of(&self, name: &SiteName) -> PathBuf {
        match self.book.path(name) {
            Some(path) => path.clone(),
            None => self.sites.join(format!("{name}.toml")),
        }
    }

    fn publish(&mut self, step: Step, at: Moment) {
        let Step {
            edits,
            changes,
            keep,
            forget,
            freed,
            added,
            changed,
            removed,
        } = step;
        self.report(&added, &changed, &removed);
        if !edits.is_empty() || !changes.is_empty() || at.generation == 1 {
            let table: RouteTable = self.current.snapshot().with(edits);
            let generation = table.generation();
            let published = self.current.publish(table, changes);
            self.outstanding.insert(generation, freed);
            let acks = self.acks.clone();
            tokio::spawn(async move {
                published.await;
                // A loop that has ended has nobody to tell.
                acks.send(generation).ok();
            });
            self.paced = at.now + PACE;
        } else {
            self.book.free(freed);
        }
        forget.iter().for_each(|name| self.store.forget(name));
        for version in keep {
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

/// What may have changed.
impl Follower {
    fn take_notes(&mut self) {
        while let Some(note) = self.watch.try_next() {
            self.take_note(note);
        }
    }

    fn take_note(&mut self, note: Note) {
        match note {
            Note::Everything => self.rescan = true,
            // A new folder may have the inode of the old one, so only its name is certain.
            Note::Folder { path } => {
                self.watch.disarm(&path);
                self.rescan = true;
                if path == self.sites {
                    self.glance = Instant::now();
                }
            }
            Note::Moved { from, to } => {
                if is_another_name(&from, &to, &self.sites) {
                    self.take_hint(&from, Hint::Moved);
                }
            }
            Note::At { path, hint } => self.take_hint(&path, hint),
        }
    }

    fn take_hint(&mut self, path: &Path, hint: Hint) {
        let Ok(relative) = path.strip_prefix(&self.sites) else {
            return self.take_hint_elsewhere(path, hint);
        };
        match directory::classify(relative) {
            Ok(name) => self.settle.hint(&name, hint, Instant::now()),
            Err(_) if relative.as_os_str().is_empty() => self.glance = Instant::now(),
            Err(ignored) => {
                if hint == Hint::Gone {
                    self.watch.disarm(path);
                }
                if path.is_dir() {
                    // A folder that was renamed in, or a link to one: perhaps a team's, perhaps what links lead
                    // through.
                    self.rescan = true;
                } else if !is_inner(path) && fs::symlink_metadata(path).is_ok() {
                    self.ignored.insert(path.to_owned(), ignored.to_string());
                } else if self.ignored.remove(path).is_none() {
                    self.rescan |= relative.components().count() == 1 && hint == Hint::Gone;
                }
                self.take_hint_elsewhere(path, hint);
            }
        }
    }

    /// No site file, but perhaps what a site is made from: a file that it names, or what a link leads through.
    fn take_hint_elsewhere(&mut self, path: &Path, hint: Hint) {
        // By the last part of the name: the way to it may lead through links.
        let is_it = |file: &Path| file.file_name() == path.file_name();
        let is_behind = |print: &look::Print| {
            let mut files = print.files.iter();
            print.real.as_deref().is_some_and(is_it) || files.any(|(file, _)| is_it(file))
        };
        let files = self
            .book
            .elsewhere()
            .filter(|(_, _, print)| is_behind(print));
        let names: Vec<SiteName> = files.map(|(name, _, _)| name.clone()).collect();
        let now = Instant::now();
        for name in &names {
            self.settle.hint(name, hint, now);
        }
        // Kubernetes renames one link, and with it every file behind it is another one. Anything else next to such
        // files is nobody's, and asks the disk for none of them.
        let leads_on = || {
            let metadata = fs::symlink_metadata(path);
            metadata.is_ok_and(|metadata| metadata.is_symlink() || metadata.is_dir())
        };
        if names.is_empty() && (is_inner(path) || leads_on()) {
            match hint {
                Hint::Whole => self.elsewhere = Some(hint),
                _ => drop(self.elsewhere.get_or_insert(Hint::Differs)),
            }
        }
    }

    /// Looks at what makes no events: which folder the sites directory is, and files from elsewhere.
    async fn glance(&mut self) {
        let sites = self.sites.clone();
        let access = spawn_blocking(move || Access::of(&sites)).await;
        let access = access.unwrap_or_else(|_| self.access.clone());
        if access != self.access {
            self.say_access(&access);
            if !matches!(access, Access::Closed(_)) {
                // Its watch may be on another folder now. One that is only closed still makes events.
                self.watch.disarm(&self.sites);
            }
            self.access = access;
            self.rescan = true;
        }
        let pause = match self.access {
            Access::Missing => GLANCE_MISSING,
            Access::Open(_) | Access::Closed(_) => GLANCE,
        };
        self.glance = Instant::now() + pause;
        self.elsewhere.get_or_insert(Hint::Differs);
    }

    fn say_access(&self, access: &Access) {
        let path = self.sites.display();
        match (&self.access, access) {
            (_, Access::Missing) => {
                warn!(%path, "the sites directory is gone, still serving what was there");
            }
            (_, Access::Closed(why)) => {
                warn!(%path, "the sites directory cannot be read, still serving what was there: {why}");
            }
            (Access::Closed(_), Access::Open(_)) => {
                info!(%path, "the sites directory can be read again, looking at it");
            }
            (_, Access::Open(_)) => {
                info!(%path, "the sites directory is another one, looking at it")
            }
        }
    }

    async fn look_elsewhere(&mut self, hint: Hint) {
        let files = self.book.elsewhere();
        let known: Vec<_> = files
            .take(ELSEWHERE)
            .map(|(name, path, print)| (name.clone(), path.clone(), print.clone()))
            .collect();
        if known.is_empty() {
            return;
        }
        let differing = spawn_blocking(move || look::which_differ(known))
            .await
            .unwrap_or_default();
        let now = Instant::now();
        for name in differing {
            self.settle.hint(&name, hint, now);
        }
    }

    /// Lists the directory, arms what can be watched and marks what differs from what is known. Returns the sites
    /// that have no file; all of them, when there is no directory.
    async fn look_everywhere(&mut self) -> Vec<SiteName> {
        self.rescan = false;
        self.watch.recover();
        self.watch.arm(&self.sites);
        let sites = self.sites.clone();
        let listed = spawn_blocking(move || list_with_folders(&sites)).await;
        self.looked = Instant::now();
        let (mut listing, folders) = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return self.book.names().cloned().collect();
            }
            // Nothing is known then, and nothing is lost.
            Ok(Err(_)) | Err(_) => return Vec::new(),
        };
        let mut is_new = false;
        for folder in &folders {
            is_new |= self.watch.arm(folder);
        }
        if is_new {
            // What came in between listing and watching has made no event.
            let sites = self.sites.clone();
            let again = spawn_blocking(move || directory::list(&sites)).await;
            if let Ok(Ok(again)) = again {
                listing = again;
            }
        }
        self.compare(listing)
    }

    fn compare(&mut self, listing: Listing) -> Vec<SiteName> {
        let now = Instant::now();
        for (name, found) in &listing.files {
            let differs = self
                .book
                .print(name)
                .is_none_or(|print| print.differs(found.stamp));
            if differs {
                self.settle.hint(name, Hint::Differs, now);
            }
        }
        let known = self
            .book
            .names()
            .filter(|name| !listing.files.contains_key(name));
        let absent = known.filter(|name| {
            let path = self.book.path(name);
            path.is_none_or(|path| !is_in_any(path, &listing.unreadable))
        });
        let absent: Vec<SiteName> = absent.cloned().collect();
        for name in &absent {
            if !self.settle.is_pending(name) && !self.book.is_leaving(name) {
                self.settle.hint(name, Hint::Gone, now);
            }
        }
        self.take_listing_notes(&listing);
        absent
    }

    fn take_listing_notes(&mut self, listing: &Listing) {
        let ignored = listing.ignored.iter();
        self.ignored = ignored
            .map(|(path, why)| (path.clone(), why.to_string()))
            .collect();
        let mut closed = BTreeSet::new();
        for (path, error) in &listing.unreadable {
            let why = directory::why_closed(path, error);
            if !self.closed.contains(path) {
                let path = path.display();
                warn!(%path, "this folder cannot be read, still serving what was there: {why}");
            }
            closed.insert(path.clone());
            self.ignored
                .insert(path.clone(), format!("cannot be listed: {why}"));
        }
        for path in self.closed.difference(&closed) {
            info!(path = %path.display(), "this folder can be read again, or is gone");
        }
        self.closed = closed;
        for path in &listing.exposed {
            if !self.exposed.contains(path) {
                let path = path.display();
                warn!(%path, "everybody may write into this folder and so have any free name; chmod o-w '{path}'");
            }
        }
        self.exposed = listing.exposed.iter().cloned().collect();
        let folders: BTreeSet<&Path> = listing
            .files
            .values()
            .filter_map(|found| found.path.parent())
            .collect();
        for folder in folders {
            self.watch.arm(folder);
        }
    }

    fn ground(&self) -> Ground {
        match self.access.identity() {
            None => Ground::Missing,
            folder if folder == self.last_filled => Ground::Same,
            Some(_) => Ground::Other,
        }
    }

    /// Watches the folders of files that are reached by links or named in site files.
    fn arm_elsewhere(&mut self) {
        let made_elsewhere = self.book.elsewhere();
        let paths = made_elsewhere.flat_map(|(_, _, print)| {
            let files = print.files.iter().map(|(file, _)| file);
            print.real.iter().chain(files)
        });
        let folders: BTreeSet<PathBuf> = paths
            .filter_map(|path| path.parent())
            .map(Path::to_owned)
            .take(FOLDERS)
            .collect();
        for folder in folders {
            if !self.watch.covers(&folder) {
                self.watch.arm(&folder);
            }
        }
    }
}

/// What others ask.
impl Follower {
    async fn take_request(&mut self, request: Request) {
        match request {
            Request::List { reply } => {
                let notice = self.blind().or(self.book.kept().map(str::to_owned));
                let mut files = self.book.statuses(notice.as_deref());
                let ignored = self.ignored.iter();
                files.extend(ignored.map(|(path, why)| ignored_status(path, why)));
                reply.send(Overview { files, notice }).ok();
            }
            Request::Flush { reply } => {
                let store = self.store.clone();
                tokio::spawn(async move {
                    store.flush().await;
                    reply.send(()).ok();
                });
            }
            Request::Wait {
                name: Some(name),
                gone,
                timeout,
                reply,
            } => {
                let name = SiteName::new(name);
                self.look_now(&name).await;
                let goal = Goal::One {
                    name: name.clone(),
                    gone,
                    reply,
                };
                self.wait(goal, HashSet::from([name]), timeout);
            }
            Request::Wait {
                name: None,
                timeout,
                reply,
                ..
            } => {
                self.look_everywhere().await;
                self.wait(Goal::All { reply }, self.settle.names(), timeout);
            }
            Request::Reload {
                accept_removals,
                reply,
            } => {
                let report = Report::default();
                self.wait(Goal::Report { report, reply }, HashSet::new(), RELOAD_TIME);
                self.glance().await;
                let absent = self.look_everywhere().await;
                if accept_removals {
                    self.let_go(absent);
                }
                let unsettled = self.settle.names();
                if let Some(waiter) = self.waiters.last_mut() {
                    waiter.unsettled = unsettled;
                }
            }
        }
    }

    /// An operator said that what is gone is meant to be gone.
    fn let_go(&mut self, absent: Vec<SiteName>) {
        let at = self.moment();
        let mut looks = Vec::new();
        for name in absent {
            let path = self.path_of(&name);
            self.settle.forget(&name);
            looks.push(Look {
                name,
                path,
                found: Found::Nothing { off: true },
            });
        }
        let mut step = Step::default();
        self.book.apply(looks, at, &mut step);
        self.book.accept_removals(at.now);
        self.book.tick(self.ground(), at, &mut step);
        self.publish(step, at);
    }

    /// Looks at one file without waiting for events, which may still be on their way.
    async fn look_now(&mut self, name: &SiteName) {
        if self.settle.is_pending(name) || !is_plain(name) {
            return;
        }
        let looks = self.look_at(vec![name.clone()]).await;
        for (look, _) in looks {
            let is_known = self.book.print(name).is_some();
            match look.found {
                Found::Same(_) | Found::Unknown => {}
                Found::Nothing { .. } if !is_known => {}
                Found::Nothing { .. } => self.settle.hint(name, Hint::Gone, Instant::now()),
                _ => self.settle.hint(name, Hint::Differs, Instant::now()),
            }
        }
    }

    /// Why nothing is known of what is on disk, for a person.
    fn blind(&self) -> Option<String> {
        let path = self.sites.display();
        let serving = match self.book.serving() {
            0 => String::new(),
            1 => "still serving its site; ".to_owned(),
            count => format!("still serving its {} sites; ", status::thousands(count)),
        };
        match &self.access {
            Access::Open(_) => None,
            Access::Closed(why) => Some(format!("{path} cannot be read; {serving}{why}")),
            Access::Missing if serving.is_empty() => Some(format!("{path} is missing")),
            Access::Missing => Some(format!(
                "{path} is missing; {serving}onedoor reload --accept-removals"
            )),
        }
    }

    fn wait(&mut self, goal: Goal, unsettled: HashSet<SiteName>, timeout: Duration) {
        let now = Instant::now();
        let deadline = now
            .checked_add(timeout)
            .unwrap_or(now + Duration::from_secs(86_400));
        self.waiters.push(Waiter {
            goal,
            unsettled,
            deadline,
        });
    }

    fn answer_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let published = self.current.generation();
        let blind = self.blind();
        let acknowledged = match self.outstanding.first_key_value() {
            Some((oldest, _)) => oldest - 1,
            None => published,
        };
        let waiters = std::mem::take(&mut self.waiters);
        let progress = Progress {
            book: &self.book,
            settle: &self.settle,
            blind: blind.as_deref(),
            sites: &self.sites,
            ignored: &self.ignored,
            acknowledged,
            published,
            now: Instant::now(),
        };
        let waiting = waiters
            .into_iter()
            .filter_map(|waiter| waiter.proceed(progress))
            .collect();
        self.waiters = waiting;
    }
}

fn ignored_status(path: &Path, why: &str) -> FileStatus {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let since = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    FileStatus {
        name: crate::document::problem::printable(&name),
        path: path.to_owned(),
        state: State::Ignored,
        since: since.unwrap_or(SystemTime::UNIX_EPOCH),
        serving_since: None,
        hosts: Vec::new(),
        backends: Vec::new(),
        answers: Vec::new(),
        note: None,
        problems: Vec::new(),
        reason: Some(why.to_owned()),
    }
}

/// The directory, and the folders in it that teams may have.
fn list_with_folders(sites: &Path) -> io::Result<(Listing, Vec<PathBuf>)> {
    let listing = directory::list(sites)?;
    let mut folders = Vec::new();
    for entry in fs::read_dir(sites)? {
        let entry = entry?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !is_inner(&entry.path()) {
            folders.push(entry.path());
        }
    }
    Ok((listing, folders))
}

/// The inside of a mounted ConfigMap, `..data` and the like: not files of anybody's.
fn is_inner(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"..")
}

/// Whether `from` does not come back: it has become the file of another site, or was switched off.
fn is_another_name(from: &Path, to: &Path, sites: &Path) -> bool {
    let is_site = |path: &Path| {
        path.strip_prefix(sites)
            .is_ok_and(|relative| directory::classify(relative).is_ok())
    };
    let is_off = ["off", "disabled"]
        .iter()
        .any(|ending| to.extension() == Some(OsStr::new(ending)));
    is_site(to) || is_off && to.with_extension("") == from
}

/// Whether a name that somebody typed can be one of ours, and does not lead out of the sites directory.
fn is_plain(name: &SiteName) -> bool {
    directory::classify(Path::new(&format!("{name}.toml")))
        .is_ok_and(|classified| classified == *name)
}

fn is_in_any(path: &Path, folders: &[(PathBuf, io::Error)]) -> bool {
    folders.iter().any(|(folder, _)| path.starts_with(folder))
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
