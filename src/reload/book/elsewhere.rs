//! Sites whose changes may make no events in the sites directory: reached by links, mounted on their names, or made from
//! other files as well. Found by the name of any file behind them, and the folders that those are in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::reload::look::Print;
use crate::site::SiteName;

#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// What is behind each of them.
    sites: BTreeMap<SiteName, Vec<PathBuf>>,
    by_file: HashMap<OsString, BTreeSet<SiteName>>,
    /// How many files are behind sites in each folder.
    folders: HashMap<PathBuf, usize>,
    changes: Changes,
}

/// Folders that have something behind a site now, or nothing any more, since somebody asked.
#[derive(Debug, Default)]
pub(in crate::reload) struct Changes {
    pub(in crate::reload) came: BTreeSet<PathBuf>,
    pub(in crate::reload) gone: BTreeSet<PathBuf>,
}

impl Elsewhere {
    /// Takes what the file of a site shows now. `None`: it is gone.
    pub(super) fn set(&mut self, name: &SiteName, print: Option<&Print>) {
        let print = print.filter(|print| print.is_made_elsewhere());
        let behind = print.map(|print| {
            let files = print.files.iter().map(|(file, _)| file);
            print.real.iter().chain(files).cloned().collect()
        });
        if self.sites.get(name) == behind.as_ref() {
            return;
        }
        for file in self.sites.remove(name).unwrap_or_default() {
            self.let_go(name, &file);
        }
        let Some(behind) = behind else { return };
        for file in &behind {
            self.take(name, file);
        }
        self.sites.insert(name.clone(), behind);
    }

    fn take(&mut self, name: &SiteName, file: &Path) {
        let (folder, file) = parts(file);
        let names = self.by_file.entry(file.to_owned()).or_default();
        names.insert(name.clone());
        let count = self.folders.entry(folder.to_owned()).or_default();
        *count += 1;
        if *count == 1 && !self.changes.gone.remove(folder) {
            self.changes.came.insert(folder.to_owned());
        }
    }

    fn let_go(&mut self, name: &SiteName, file: &Path) {
        let (folder, file) = parts(file);
        if let Some(names) = self.by_file.get_mut(file) {
            names.remove(name);
            if names.is_empty() {
                self.by_file.remove(file);
            }
        }
        if let Some(count) = self.folders.get_mut(folder) {
            *count -= 1;
            if *count == 0 {
                self.folders.remove(folder);
                if !self.changes.came.remove(folder) {
                    self.changes.gone.insert(folder.to_owned());
                }
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &SiteName> {
        self.sites.keys()
    }

    /// Those that a file of this name is behind, whatever folder it is in: the way to it may lead through links.
    pub(super) fn with_file(&self, file: &OsStr) -> impl Iterator<Item = &SiteName> {
        self.by_file.get(file).into_iter().flatten()
    }

    /// Whatever is behind sites under this name.
    pub(super) fn files_called<'e>(&'e self, file: &'e OsStr) -> impl Iterator<Item = &'e PathBuf> {
        let behind = self.with_file(file).filter_map(|name| self.sites.get(name));
        behind
            .flatten()
            .filter(move |path| path.file_name() == Some(file))
    }

    pub(super) fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}

fn parts(file: &Path) -> (&Path, &OsStr) {
    let folder = file.parent().unwrap_or(Path::new(""));
    (folder, file.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(files: &[&str]) -> Print {
        Print {
            digest: 0,
            stamp: None,
            racy: false,
            real: None,
            mounted: false,
            files: files.iter().map(|file| (file.into(), None)).collect(),
        }
    }

    #[test]
    fn sites_are_found_by_the_files_behind_them_and_folders_come_and_go_with_those() {
        let mut elsewhere = Elsewhere::default();
        let (a, b) = (SiteName::new("a"), SiteName::new("b"));
        let found = |elsewhere: &Elsewhere, file: &str| -> Vec<SiteName> {
            elsewhere.with_file(OsStr::new(file)).cloned().collect()
        };
        let folders = |set: BTreeSet<PathBuf>| -> Vec<String> {
            set.iter().map(|path| path.display().to_string()).collect()
        };
        elsewhere.set(&a, Some(&print(&["/x/cert", "/x/key"])));
        elsewhere.set(&b, Some(&print(&["/y/cert"])));
        assert_eq!(found(&elsewhere, "cert"), [a.clone(), b.clone()]);
        assert_eq!(found(&elsewhere, "key"), std::slice::from_ref(&a));
        assert!(found(&elsewhere, "note.txt").is_empty());
        assert_eq!(folders(elsewhere.changes().came), ["/x", "/y"]);

        elsewhere.set(&a, Some(&print(&["/z/cert"])));
        assert!(found(&elsewhere, "key").is_empty());
        let changes = elsewhere.changes();
        assert_eq!(folders(changes.came), ["/z"]);
        assert_eq!(folders(changes.gone), ["/x"]);

        elsewhere.set(&a, Some(&print(&[])));
        elsewhere.set(&b, None);
        assert!(found(&elsewhere, "cert").is_empty());
        assert!(elsewhere.sites.is_empty() && elsewhere.by_file.is_empty());
        assert!(elsewhere.folders.is_empty());
    }
}
