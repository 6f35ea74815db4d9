//! The folders that the kernel watches for us, and the paths that lead to each.
//!
//! It watches a folder once, by whatever path it was asked to: the first that leads there. When that one goes, another takes
//! the watch over.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{INotifyWatcher, RecursiveMode, Watcher};

use super::watch::Note;

#[derive(Debug)]
pub(super) struct Watched {
    watcher: INotifyWatcher,
    pub(super) folders: HashMap<PathBuf, Identity>,
    /// The paths that lead to one folder. The first is the one that the watcher has: for the kernel they are one
    /// watch, and whoever takes it from one takes it from all.
    paths: HashMap<Identity, Vec<PathBuf>>,
}

/// Which folder a path stands for: another one after a rename or a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Watched {
    pub(super) fn by(watcher: INotifyWatcher) -> Watched {
        Watched {
            watcher,
            folders: HashMap::new(),
            paths: HashMap::new(),
        }
    }

    /// Watches `folder`, of which no path may be known that is this one.
    pub(super) fn add(&mut self, folder: &Path, identity: Identity) -> notify::Result<()> {
        let paths = self.paths.entry(identity).or_default();
        if paths.is_empty()
            && let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive)
        {
            self.paths.remove(&identity);
            return Err(error);
        }
        paths.push(folder.to_owned());
        self.folders.insert(folder.to_owned(), identity);
        Ok(())
    }

    /// Forgets `folder`. Whether another path took its watch over: not in one step.
    pub(super) fn remove(&mut self, folder: &Path) -> bool {
        let Some(known) = self.folders.remove(folder) else {
            return false;
        };
        let mut paths = self.paths.remove(&known).unwrap_or_default();
        let had_the_watch = paths.first().is_some_and(|first| first == folder);
        paths.retain(|path| path != folder);
        if had_the_watch {
            self.watcher.unwatch(folder).ok();
            paths.retain(|path| {
                // Those that lead nowhere by now, or elsewhere, are armed anew when they are found again.
                let still_leads_there = identity(path) == Some(known);
                if !still_leads_there {
                    self.folders.remove(path);
                }
                still_leads_there
            });
            while let Some(heir) = paths.first()
                && self
                    .watcher
                    .watch(heir, RecursiveMode::NonRecursive)
                    .is_err()
            {
                self.folders.remove(&paths.remove(0));
            }
        }
        let is_handed_over = had_the_watch && !paths.is_empty();
        if !paths.is_empty() {
            self.paths.insert(known, paths);
        }
        is_handed_over
    }

    /// The same note, of the other paths that lead there.
    pub(super) fn same_elsewhere(&self, note: &Note) -> Vec<Note> {
        let inside = |path: &Path| -> Vec<PathBuf> {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Vec::new();
            };
            let others = self.others(folder);
            others.map(|other| other.join(name)).collect()
        };
        match note {
            Note::Everything => Vec::new(),
            Note::At { path, hint } => {
                let at = |path| Note::At { path, hint: *hint };
                inside(path).into_iter().map(at).collect()
            }
            Note::Moved { from, to } => {
                let is_within = from.parent() == to.parent();
                let moved = |from: PathBuf| Note::Moved {
                    to: match to.file_name() {
                        Some(name) if is_within => from.with_file_name(name),
                        _ => to.clone(),
                    },
                    from,
                };
                inside(from).into_iter().map(moved).collect()
            }
            Note::Folder { path } => {
                let itself = self.others(path).map(Path::to_owned);
                let all = itself.chain(inside(path));
                all.map(|path| Note::Folder { path }).collect()
            }
        }
    }

    fn others<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        let paths = self
            .folders
            .get(folder)
            .and_then(|known| self.paths.get(known));
        let others = paths.into_iter().flatten().map(PathBuf::as_path);
        others.filter(move |path| *path != folder)
    }
}

pub(super) fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}
