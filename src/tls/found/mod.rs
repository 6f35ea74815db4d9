//! Certificates that lie in the daemon's `certificates` folders, found by the names inside.
//!
//! Whatever the layout: certbot's `live/NAME/fullchain.pem` and `privkey.pem`, a folder of wildcards, pairs with any
//! other names. A chain and a key belong together when they fit, and they must lie in one folder. Blocks on the disk.
//!
//! `listing` says what is there, `folder` which pairs a folder has, `file` what one file holds, `names` which pair is shown
//! for a name, `difference` for which it is another one after a look, `served` whether some do for others, `missing` what
//! becomes of those that do not come back, `lone` which keys are for nothing.
//! What cannot be looked at is unknown and not gone; nor is what has vanished with everything around it.

mod difference;
mod file;
mod folder;
mod listing;
mod lone;
mod missing;
mod names;
mod served;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::advice;
use super::certificate::Certificate;
use crate::site::HostPattern;
pub use difference::{Difference, Fate};
use folder::{Folder, News, Pair};
use listing::{Grounds, Listing, Stamps};
use missing::Lack;
use names::{Names, Shown};

/// A folder that has just changed may be half of something: certbot moves one link after the other.
const RESTLESS: Duration = Duration::from_secs(1);
/// What cannot be looked at, and was good, is on its way back or somebody is called.
const CLOSED: Duration = Duration::from_secs(2);

type Folders = BTreeMap<PathBuf, Arc<Folder>>;

/// All pairs, and which is for which name.
#[derive(Debug, Default)]
pub(super) struct Found {
    names: Arc<Names>,
    folders: Folders,
    /// Folders that cannot be listed, or from which all has gone at once, and what was said of it.
    closed: BTreeMap<PathBuf, String>,
    /// Those of `certificates` that were so, and have not got everything back.
    lacks: BTreeMap<PathBuf, Lack>,
    /// Which folders those of `certificates` were when they last had files.
    grounds: Grounds,
    /// Those of them that have none, and had none.
    bare: BTreeSet<PathBuf>,
    /// Folders that were not there any more, for the first time: whoever swaps one takes it away before the new one comes.
    leaving: BTreeSet<PathBuf>,
}

/// What it means that a folder of `certificates` is gone, or everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removals {
    /// It looks like that where a volume is not mounted.
    Doubted,
    /// An operator has said that it may go.
    Meant,
}

/// A folder of which is unknown what is in it.
struct Away {
    path: PathBuf,
    line: String,
    /// What was found in it, and goes on being shown.
    kept: Folders,
}

/// What another look at the folders brought.
#[derive(Debug)]
pub(super) struct Again {
    /// `None`: all is as it was.
    pub(super) found: Option<Found>,
    pub(super) told: Told,
}

/// What there is to say of a look, and to do after it.
#[derive(Debug, Default)]
pub struct Told {
    /// Other certificates are shown than before.
    pub is_news: bool,
    /// Names for which nothing is shown any more.
    pub lost: HashSet<HostPattern>,
    /// Names for which other certificates are shown.
    pub difference: Option<Difference>,
    /// What could not be used, each once as long as it stays so.
    pub problems: Vec<String>,
    /// Look again so soon.
    pub again_in: Option<Duration>,
}

impl Found {
    /// What is shown for `host` (normalised): what is good today before what is not, then what is for the very name before
    /// what is for a wildcard.
    pub(super) fn find(&self, host: &str) -> Option<&Shown> {
        self.names.find(host)
    }

    /// The names for which something is shown.
    pub(super) fn names(&self) -> impl Iterator<Item = HostPattern> {
        self.names.names()
    }

    /// What is shown for all that `pattern` may stand for.
    pub(super) fn covering(&self, pattern: &HostPattern) -> Option<&Shown> {
        self.names.covering(pattern)
    }

    /// Those that are shown for some name; for several as often.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.names.certificates()
    }

    /// Folders of `certificates` in which there is nothing.
    pub(super) fn bare(&self) -> impl Iterator<Item = &PathBuf> {
        self.bare.iter()
    }

    /// What is of no use in the folders.
    pub(super) fn problems(&self) -> impl Iterator<Item = &String> {
        let of_folders = self.folders.values().flat_map(|folder| &folder.problems);
        let lacks = self.lacks.values().map(|lack| &lack.line);
        self.closed.values().chain(lacks).chain(of_folders)
    }

    /// What an operator should know of the pairs that are shown for `pattern`, as of `now`.
    pub(super) fn advice(&self, pattern: &HostPattern, now: SystemTime) -> Vec<String> {
        let shown = self.covering(pattern).into_iter();
        let shown = shown.flat_map(|shown| shown.certificates.iter());
        let pairs = shown.filter_map(|certificate| {
            let folder = self.folders.get(certificate.file.parent()?)?;
            let mut pairs = folder.pairs.iter();
            pairs.find(|pair| Arc::ptr_eq(&pair.certificate, certificate))
        });
        pairs.flat_map(|pair| pair.advice(now)).collect()
    }

    /// What is there now, reading only what has changed since `self`.
    pub(super) fn again(&self, roots: &[PathBuf], now: SystemTime, removals: Removals) -> Again {
        let Listing {
            seen,
            closed,
            filled,
            bare,
        } = Listing::of(roots);
        let mut told = Told::default();
        let mut news = Vec::new();
        let mut folders = self.look(seen, now, &mut news);
        let mut away: Vec<Away> = (closed.into_iter())
            .map(|(path, why)| self.closed_off(path, &why, &folders, removals))
            .collect();
        let mut without = BTreeSet::new();
        for (path, ground) in bare {
            match self.emptied(&path, ground, removals) {
                Some(emptied) => away.push(emptied),
                None => drop(without.insert(path)),
            }
        }
        let mut said = BTreeMap::new();
        for Away { path, line, kept } in away {
            if !kept.is_empty() {
                told.again_in = Some(CLOSED);
            }
            if self.closed.get(&path) != Some(&line) {
                told.problems.push(line.clone());
            }
            said.insert(path, line);
            folders.extend(kept);
        }
        let awaited = match removals {
            Removals::Doubted => self.awaited(roots, &folders),
            Removals::Meant => BTreeMap::new(),
        };
        folders.extend(self.look(awaited, now, &mut news));
        missing::let_go(&mut folders, removals);
        let lacks = self.lacks(roots, &folders, &said, &mut told.problems);
        let left = match removals {
            Removals::Doubted => self.left(&folders),
            Removals::Meant => Folders::new(),
        };
        let leaving: BTreeSet<PathBuf> = left.keys().cloned().collect();
        folders.extend(left);
        let mut grounds = self.grounds.clone();
        grounds.retain(|path, _| roots.contains(path));
        grounds.extend(filled);
        if !leaving.is_empty() || folders.values().any(|folder| folder.is_restless) {
            told.again_in = Some(RESTLESS);
        }
        let is_same = |(path, folder): (&PathBuf, &Arc<Folder>)| {
            let before = self.folders.get(path);
            before.is_some_and(|before| Arc::ptr_eq(before, folder))
        };
        let is_same = folders.len() == self.folders.len() && folders.iter().all(is_same);
        told.is_news = !self.names.are_as_of(now) || !is_same && !self.has_pairs_of(&folders);
        let is_same_around = said == self.closed
            && leaving == self.leaving
            && lacks == self.lacks
            && grounds == self.grounds
            && without == self.bare;
        if is_same && is_same_around && !told.is_news {
            return Again { found: None, told };
        }
        let names = match told.is_news {
            true => {
                let pairs = folders.values().flat_map(|folder| folder.pairs.iter());
                let names = Names::of(pairs, now);
                told.lost = self.names.lost_in(&names);
                let names = Arc::new(names);
                told.difference = Difference::between(&self.names, &names);
                names
            }
            false => Arc::clone(&self.names),
        };
        let is_said = |news: &News| news.of.as_ref().is_none_or(|one| names.show(one));
        let news = news.into_iter().filter(is_said).map(|news| news.line);
        told.problems.extend(news);
        let found = Some(Found {
            names,
            folders,
            closed: said,
            lacks,
            grounds,
            bare: without,
            leaving,
        });
        Again { found, told }
    }

    fn look(
        &self,
        seen: BTreeMap<PathBuf, Stamps>,
        now: SystemTime,
        news: &mut Vec<News>,
    ) -> Folders {
        let looked = seen.into_iter().map(|(path, stamps)| {
            let folder = match self.folders.get(&path) {
                Some(before) if !before.is_another(&stamps) => Arc::clone(before),
                before => {
                    let before = before.map(Arc::as_ref);
                    let was_away = self.closed.keys().any(|away| path.starts_with(away));
                    let (folder, new) = Folder::look(&path, stamps, before, was_away, now);
                    news.extend(new);
                    Arc::new(folder)
                }
            };
            (path, folder)
        });
        looked.collect()
    }

    /// One that cannot be listed.
    fn closed_off(&self, path: PathBuf, why: &str, seen: &Folders, removals: Removals) -> Away {
        let is_gone = path.try_exists().is_ok_and(|is_there| !is_there);
        let kept = match removals {
            Removals::Meant if is_gone => Folders::new(),
            _ => self.unknown(&path, seen),
        };
        let rest = match (kept.is_empty(), is_gone) {
            (true, _) => String::new(),
            (false, true) => format!("; {GOES_ON}, also if it is gone for good: {LET_GO}"),
            (false, false) => format!("; {GOES_ON}"),
        };
        let line = format!("{} cannot be listed: {why}{rest}", path.display());
        Away { path, line, kept }
    }

    /// One of `certificates` without any file, if it has lost more than one pair at once, or is another folder than the one
    /// that had them: then nobody has just taken away a pair.
    fn emptied(&self, path: &Path, ground: Option<(u64, u64)>, removals: Removals) -> Option<Away> {
        let kept = self.unknown(path, &Folders::new());
        let pairs: usize = kept.values().map(|folder| folder.pairs.len()).sum();
        let is_other = || self.grounds.get(path) != Some(&ground);
        let is_missed = pairs > 1 || pairs == 1 && is_other();
        if !is_missed || removals == Removals::Meant {
            return None;
        }
        let line = format!(
            "{} has no certificate any more, as where a volume is not mounted; {GOES_ON}, also if that is meant: {LET_GO}",
            path.display()
        );
        let path = path.to_owned();
        Some(Away { path, line, kept })
    }

    /// What was known of `closed` and all below, as far as nobody has seen it now.
    fn unknown(&self, closed: &Path, seen: &Folders) -> Folders {
        let below = self.folders.iter().filter(|(path, _)| {
            let is_below = path.starts_with(closed);
            is_below && !seen.contains_key(*path)
        });
        below
            .map(|(path, folder)| (path.clone(), Arc::clone(folder)))
            .collect()
    }

    /// Folders that are not among those `seen` and are gone, for the first time.
    fn left(&self, seen: &Folders) -> Folders {
        let unseen = self.folders.iter();
        let unseen = unseen.filter(|(path, _)| !seen.contains_key(*path));
        // One that is there has been emptied, or is not one of ours any more.
        let left = unseen.filter(|(path, _)| !self.leaving.contains(*path) && !path.exists());
        left.map(|(path, folder)| (path.clone(), Arc::clone(folder)))
            .collect()
    }

    fn has_pairs_of(&self, folders: &Folders) -> bool {
        let (own, other) = (self.folders.values(), folders.values());
        let own = own.flat_map(|folder| folder.pairs.iter().map(Arc::as_ptr));
        own.eq(other.flat_map(|folder| folder.pairs.iter().map(Arc::as_ptr)))
    }
}

const GOES_ON: &str = "what was found in it goes on being shown";
const LET_GO: &str = "`onedoor reload --accept-removals` lets it go";

impl Pair {
    fn of_certificate(&self, now: SystemTime) -> impl Iterator<Item = String> + use<> {
        advice::of_certificate(&self.certificate, "clients", now)
    }

    /// As of `now`.
    fn advice(&self, now: SystemTime) -> impl Iterator<Item = String> {
        self.of_certificate(now)
            .chain(self.of_key.clone())
            .chain(self.half.map(|half| self.with(half)))
    }
}

#[cfg(test)]
mod tests;
