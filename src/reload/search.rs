//! Where something may have changed: what the watch notes, glances at what makes no events, looks at everything.
//!
//! Only finds out which files to look at and gives hints of them to `settle`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::access::Access;
use super::book::{Changes, Ground};
use super::settle::Hint;
use super::watch::{Note, WAITING_NOTES};
use super::{Follower, look};
use crate::site::SiteName;
use crate::site::directory::{self, Ignored, Listing};
use crate::tls::Removals;
use crate::upstream::moment;

/// Between two looks at what makes no events: the folder itself and files from elsewhere.
pub(super) const GLANCE: Duration = Duration::from_secs(2);
/// The same while the sites directory is missing: somebody is about to make it.
const GLANCE_MISSING: Duration = Duration::from_millis(200);
/// More files from elsewhere than that are left to the net.
const ELSEWHERE: usize = 2000;
/// More folders than that, beside the sites directory and those of teams, are left to the glance.
const FOLDERS: usize = 256;

impl Follower {
    pub(super) fn take_notes(&mut self) {
        // Those that may wait, and not for ever: somebody may be writing without a pause.
        for _ in 0..WAITING_NOTES {
            let Some(note) = self.watch.try_next() else {
                return;
            };
            self.take_note(note);
        }
    }

    pub(super) fn take_note(&mut self, note: Note) {
        match note {
            Note::Everything => self.rescan = true,
            // A new folder may have the inode of the old one, so only its name is certain.
            Note::Folder { path } => {
                self.watch.disarm(&path);
                if self.armed.remove(&path) {
                    self.unarmed.insert(path.clone());
                }
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
            // Next to a file that a site names, as in `sites.d/../pki` or `sites.d/team/pki/old`: no listing has it.
            Err(Ignored::Elsewhere | Ignored::TooDeep) => self.take_hint_elsewhere(path, hint),
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
                } else if self.ignored.remove(path).is_none()
                    && hint == Hint::Gone
                    && ignored.may_be_a_folder()
                {
                    // It may have been a team's.
                    self.rescan |= relative.components().count() == 1;
                }
                self.take_hint_elsewhere(path, hint);
            }
        }
    }

    /// No site file, but perhaps what a site is made from: a file that it names, or what a link leads through.
    fn take_hint_elsewhere(&mut self, path: &Path, hint: Hint) {
        if hint == Hint::Gone && self.armed.remove(path) {
            self.watch.disarm(path);
            self.unarmed.insert(path.to_owned());
            self.rescan = true;
        }
        let names = self.book.with_file(path.file_name().unwrap_or_default());
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
    pub(super) async fn glance(&mut self) {
        let sites = self.sites.clone();
        let access = self.on_disk(move || Access::of(&sites)).await;
        let access = access.unwrap_or_else(|_| self.access.clone());
        if access != self.access {
            self.say_access(&access);
            if !matches!(access, Access::Closed(_)) {
                // Its watch may be on another folder now. One that is only closed still makes events.
                self.watch.disarm(&self.sites);
            }
            self.access = access;
            self.was_away |= self.access.identity().is_none();
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

    pub(super) async fn look_elsewhere(&mut self, hint: Hint) {
        let files = self.book.elsewhere();
        let known: Vec<_> = files
            .take(ELSEWHERE)
            .map(|(name, path, print)| (name.clone(), path.clone(), print.clone()))
            .collect();
        if known.is_empty() {
            return;
        }
        let differing = self
            .on_disk(move || look::which_differ(known))
            .await
            .unwrap_or_default();
        let now = Instant::now();
        for name in differing {
            self.settle.hint(&name, hint, now);
        }
    }

    /// Lists the directory, arms what can be watched and marks what differs from what is known. Returns the sites
    /// that have no file; all of them, when there is no directory.
    pub(super) async fn look_everywhere(&mut self) -> Vec<SiteName> {
        self.rescan = false;
        self.book.sweep(moment());
        self.search_certificates(Removals::Doubted).await;
        self.watch.recover();
        self.watch.arm(&self.sites);
        let sites = self.sites.clone();
        let listed = self.on_disk(move || list_with_folders(&sites)).await;
        self.looked = Instant::now();
        self.listings += 1;
        let (mut listing, folders) = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return self.book.names().cloned().collect();
            }
            // Nothing is known then, and nothing is lost.
            _ => return Vec::new(),
        };
        let mut is_new = false;
        for folder in &folders {
            is_new |= self.watch.arm(folder);
        }
        if is_new {
            // What came in between listing and watching has made no event.
            let sites = self.sites.clone();
            let again = self.on_disk(move || directory::list(&sites)).await;
            if let Ok(Ok(again)) = again {
                listing = again;
            }
        }
        // Another one may have been mounted on the same path.
        for folder in &self.armed {
            self.watch.arm(folder);
        }
        self.arm_elsewhere();
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
        if std::mem::take(&mut self.was_away) {
            self.book.miss(&absent);
        }
        for name in &absent {
            if !self.settle.is_pending(name) && !self.book.is_leaving(name) {
                self.settle.hint(name, Hint::Gone, now);
            }
        }
        self.take_listing_notes(&listing);
        absent
    }

    pub(super) fn take_listing_notes(&mut self, listing: &Listing) {
        let ignored = listing.ignored.iter();
        self.ignored = ignored
            .map(|(path, why)| (path.clone(), why.to_string()))
            .collect();
        let mut closed = BTreeSet::new();
        for (path, error) in &listing.unreadable {
            let why = directory::why_team_closed(&self.sites, path, error);
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

    pub(super) fn ground(&self) -> Ground {
        match self.access.identity() {
            None => Ground::Missing,
            folder if folder == self.last_filled => Ground::Same,
            Some(_) => Ground::Other,
        }
    }

    /// Watches the folders of files that are reached by links or named in site files.
    pub(super) fn arm_elsewhere(&mut self) {
        let Changes { came, gone } = self.book.folders_elsewhere();
        for folder in gone {
            self.unarmed.remove(&folder);
            if self.armed.remove(&folder) {
                self.watch.disarm(&folder);
            }
        }
        self.unarmed.extend(came);
        for folder in std::mem::take(&mut self.unarmed) {
            if self.armed.len() >= FOLDERS || self.watch.has(&folder) {
                continue;
            }
            // One that is not there yet is tried again.
            match self.watch.arm(&folder) {
                true => self.armed.insert(folder),
                false => self.unarmed.insert(folder),
            };
        }
    }
}

/// The directory, and the folders in it that teams may have.
fn list_with_folders(sites: &Path) -> io::Result<(Listing, Vec<PathBuf>)> {
    let listing = directory::list(sites)?;
    let mut folders = Vec::new();
    for entry in fs::read_dir(sites)? {
        let entry = entry?;
        let path = entry.path();
        if directory::is_folder(&entry, &path)
            && !is_inner(&path)
            && !directory::is_itself(sites, &path)
        {
            folders.push(path);
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

pub(super) fn is_in_any(path: &Path, folders: &[(PathBuf, io::Error)]) -> bool {
    folders.iter().any(|(folder, _)| path.starts_with(folder))
}
