//! Everything known of all site files, and which versions serve.
//!
//! Takes what was seen on disk and counts, and says what follows: edits of the route table, news for the workers,
//! what to keep for a restart. No I/O, no clock; the loop does what is said here.

mod change;
mod elsewhere;
mod entry;
mod leave;
mod take;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

pub(super) use elsewhere::Changes;
pub(super) use tell::{Standing, few};

use super::claims::Claims;
use super::guard::{Guard, Judgement};
use super::last_good::LastGood;
use super::look::{Absence, Complaint, Print};
use crate::route::{SiteChange, TableEdit};
use crate::site::{HostPattern, Site, SiteName, fitness};
use crate::tls::Loaded;
use crate::upstream::States;
use elsewhere::Elsewhere;
use entry::{Entry, Files, Live, MadeOf, Verdict};

/// A batch with more sites than that is said in one line.
pub(super) const TALKATIVE: usize = 50;

#[derive(Debug)]
pub(super) struct Book {
    entries: BTreeMap<SiteName, Entry>,
    claims: Claims,
    /// Names that nobody owns and that are served a moment longer.
    grace: HashMap<HostPattern, Grace>,
    /// Sites that serve and have no file any more.
    leaving: BTreeMap<SiteName, Leaving>,
    guard: Guard,
    /// Those of `leaving`, or soon there, that were kept until somebody says that they may go.
    missed: BTreeSet<SiteName>,
    numbers: Numbers,
    /// What is known of the backends of all sites.
    states: Arc<States>,
    versions: u64,
    /// Those whose changes may make no events in the sites directory.
    elsewhere: Elsewhere,
    /// How many entries have a file.
    present: usize,
    /// How many entries serve.
    serving: usize,
    /// What the guard keeps, as it was said.
    kept: Option<Kept>,
    /// Versions that are kept for a restart when a backend of theirs is fit; until then the one before is.
    unproven: BTreeMap<SiteName, LastGood>,
    /// Conflicts nobody has been told of yet.
    untold: Vec<SiteName>,
    /// When [`Book::tick`] has something to do.
    due: Option<Instant>,
    /// Whose state may be another one since somebody asked.
    touched: BTreeSet<SiteName>,
}

#[derive(Debug)]
struct Grace {
    site: Arc<Site>,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// It serves until then.
    until: Instant,
    absence: Absence,
}

#[derive(Debug)]
struct Kept {
    losses: Losses,
    message: String,
}

/// What is gone and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Team folders that are as good as gone, and of how many sites each.
    teams: BTreeMap<String, usize>,
    /// Of the others so many.
    lost: usize,
    judgement: Judgement,
}

/// Which folder the sites directory is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// The one that it was when it last had files.
    Same,
    /// Another one: made anew, mounted or unmounted.
    Other,
    Missing,
}

/// What follows from what was seen.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) edits: Vec<TableEdit>,
    pub(super) changes: Vec<SiteChange>,
    pub(super) keep: Vec<LastGood>,
    pub(super) forget: Vec<SiteName>,
    /// To be given back to [`Book::free`] when the workers have acknowledged.
    pub(super) freed: Vec<u32>,
    pub(super) added: Vec<SiteName>,
    pub(super) changed: Vec<SiteName>,
    pub(super) removed: Vec<SiteName>,
    /// What belongs to the sites in `edits`, to be there before they are.
    pub(super) held: Vec<Held>,
}

/// A site that is about to serve, and what its TLS needs. `None`: to be read yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) site: Arc<Site>,
    pub(super) tls: Option<Loaded>,
}

/// When something happened: for deciding and for telling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    /// Of the table that will be made from this.
    pub(super) generation: u64,
}

impl Book {
    pub(super) fn new(states: Arc<States>) -> Book {
        Book {
            entries: BTreeMap::new(),
            claims: Claims::default(),
            grace: HashMap::new(),
            leaving: BTreeMap::new(),
            guard: Guard::default(),
            missed: BTreeSet::new(),
            numbers: Numbers::default(),
            states,
            versions: 0,
            elsewhere: Elsewhere::default(),
            present: 0,
            serving: 0,
            kept: None,
            unproven: BTreeMap::new(),
            untold: Vec::new(),
            due: None,
            touched: BTreeSet::new(),
        }
    }

    /// An empty one that gives no number which `before` may have given: somebody may still go by it.
    pub(super) fn after(before: &Book) -> Book {
        Book {
            numbers: Numbers {
                next: before.numbers.next,
                free: before.numbers.free.clone(),
            },
            versions: before.versions,
            ..Book::new(Arc::clone(&before.states))
        }
    }

    /// The numbers of everything that serves, or is on its way out.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let free: HashSet<u32> = self.numbers.free.iter().copied().collect();
        let all = 0..self.numbers.next;
        all.filter(|number| !free.contains(number)).collect()
    }

    /// Takes over what served before a restart: its claims, and the site itself where its file is no longer fit.
    pub(super) fn restore(
        &mut self,
        record: &LastGood,
        site: Option<Site>,
        at: Moment,
        step: &mut Step,
    ) {
        let name = record.document.name.clone();
        self.touched.insert(name.clone());
        self.claims.record(&name, record.claims.iter().cloned());
        let live = site.map(|site| {
            let site = self.numbered(site, None);
            step.held.push(Held {
                site: site.clone(),
                tls: None,
            });
            for claim in &site.claims {
                if self.claims.owns(&name, &claim.pattern) {
                    step.own(&claim.pattern, &site);
                }
            }
            self.serving += 1;
            let text = super::digest(record.document.text.as_bytes());
            let made_of = MadeOf {
                text,
                files: Vec::new(),
            };
            Live {
                site,
                made_of,
                since: at.wall,
                warnings: Vec::new(),
                is_shut: false,
                closed: None,
                files: Files::Read,
            }
        });
        let entry = Entry {
            path: record.document.origin.clone(),
            print: None,
            verdict: Verdict::Absent,
            since: at.wall,
            live,
            wanted: None,
            generation: at.generation,
        };
        self.entries.insert(name, entry);
    }

    /// Numbers of removed sites, which nobody uses any more.
    pub(super) fn free(&mut self, numbers: Vec<u32>) {
        self.numbers.free.extend(numbers);
    }

    /// Lets go of what is remembered of sites that are gone. Called now and then.
    pub(super) fn sweep(&self, now: fitness::Moment) {
        self.states.sweep(now);
    }

    /// `old` is the version whose place it takes.
    fn numbered(&mut self, mut site: Site, old: Option<&Site>) -> Arc<Site> {
        self.versions += 1;
        self.states.bind(&mut site, old);
        let site = Arc::new(Site {
            number: old.map_or_else(|| self.numbers.next(), |old| old.number),
            version: self.versions,
            slots: old.map_or_else(Arc::default, |old| Arc::clone(&old.slots)),
            waiting: old.map_or_else(Arc::default, |old| Arc::clone(&old.waiting)),
            ..site
        });
        site.waiting.follow(&site);
        site
    }

    /// Versions of which a backend has turned out to be fit since the last call, to be kept for a restart.
    pub(super) fn proven(&mut self) -> Vec<LastGood> {
        let Book {
            unproven, entries, ..
        } = self;
        let is_proven = |name: &SiteName, _: &mut LastGood| {
            let live = entries.get(name).and_then(|entry| entry.live.as_ref());
            live.is_none_or(|live| !live.site.awaits_a_fit_backend())
        };
        let proven = unproven.extract_if(.., is_proven);
        proven.map(|(_, version)| version).collect()
    }

    /// Whether this very version serves.
    pub(super) fn is_serving(&self, site: &Arc<Site>) -> bool {
        let entry = self.entries.get(&site.name);
        entry
            .and_then(|entry| entry.live.as_ref())
            .is_some_and(|live| Arc::ptr_eq(&live.site, site))
    }

    /// The version of a site that serves.
    pub(super) fn site(&self, name: &SiteName) -> Option<&Arc<Site>> {
        let live = self.entries.get(name)?.live.as_ref()?;
        Some(&live.site)
    }

    /// The sites that serve.
    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        let live = self
            .entries
            .values()
            .filter_map(|entry| entry.live.as_ref());
        live.map(|live| &live.site)
    }

    /// Adds to what an operator should know of the version that serves.
    pub(super) fn warn(&mut self, name: &SiteName, complaints: Vec<Complaint>) {
        if let Some(entry) = self.entries.get_mut(name)
            && let Some(live) = &mut entry.live
        {
            live.warnings.extend(complaints);
        }
    }

    /// Whose state may be another one since this was last asked.
    pub(super) fn touched(&mut self) -> BTreeSet<SiteName> {
        std::mem::take(&mut self.touched)
    }

    /// Requests that are still at backends which the live version of a site does not name.
    pub(super) fn left_behind(&self, name: &SiteName) -> u32 {
        let live = self.entries.get(name).and_then(|entry| entry.live.as_ref());
        self.states
            .left_behind(name, live.map(|live| &*live.site))
            .unwrap_or(0)
    }

    /// Whether a site of this name is remembered for what is still at its backends, or was a moment ago.
    pub(super) fn has_left_something(&self, name: &SiteName) -> bool {
        self.states.left_behind(name, None).is_some()
    }

    /// When [`Book::tick`] is next worth a call.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is gone and kept all the same.
    pub(super) fn kept(&self) -> Option<&str> {
        self.kept.as_ref().map(|kept| kept.message.as_str())
    }

    pub(super) fn has_files(&self) -> bool {
        self.present > 0
    }

    pub(super) fn serving(&self) -> usize {
        self.serving
    }

    /// How many of them answer more than that they have no certificate.
    pub(super) fn open(&self) -> usize {
        let live = self
            .entries
            .values()
            .filter_map(|entry| entry.live.as_ref());
        live.filter(|live| live.serves()).count()
    }

    /// Every name that some site owns.
    /// The site that answers for a name.
    pub(super) fn owner(&self, pattern: &HostPattern) -> Option<&SiteName> {
        self.claims.owner(pattern)
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.claims.patterns()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &SiteName> {
        self.entries.keys()
    }

    /// Whether the site serves without a file, as far as is known.
    pub(super) fn is_leaving(&self, name: &SiteName) -> bool {
        self.leaving.contains_key(name)
    }

    pub(super) fn path(&self, name: &SiteName) -> Option<&PathBuf> {
        self.entries.get(name).map(|entry| &entry.path)
    }

    pub(super) fn print(&self, name: &SiteName) -> Option<&Print> {
        self.entries.get(name)?.print.as_ref()
    }

    /// Every file whose changes may make no events in the sites directory, with its place and print.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = (&SiteName, &PathBuf, &Print)> {
        let names = self.elsewhere.names();
        names.filter_map(|name| Some((name, self.path(name)?, self.print(name)?)))
    }

    /// Sites that a file of this name is behind.
    pub(super) fn with_file(&self, file: &OsStr) -> Vec<SiteName> {
        self.elsewhere.with_file(file).cloned().collect()
    }

    /// Files of this name that sites are made from.
    pub(super) fn files_called<'b>(&'b self, file: &'b OsStr) -> impl Iterator<Item = &'b PathBuf> {
        self.elsewhere.files_called(file)
    }

    /// Folders with files behind sites that have come or gone since the last call.
    pub(super) fn folders_elsewhere(&mut self) -> Changes {
        self.elsewhere.changes()
    }
}

impl Step {
    fn own(&mut self, pattern: &HostPattern, site: &Arc<Site>) {
        let (pattern, site) = (pattern.clone(), site.clone());
        self.edits.push(TableEdit::Own { pattern, site });
    }
}

/// Dense numbers, each given again once it is free.
#[derive(Debug, Default)]
struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            self.next += 1;
            number
        })
    }
}
