//! The folders with PEM files below the daemon's `certificates`, and the stamps of these files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::site::directory::{self, Stamp, stamp};

/// `certificates`, a folder for each name in it, and one more for whoever sorts them by customer.
const DEPTH: usize = 3;

/// Of the files of one folder, behind links: certbot's names stay, and what they point at changes.
pub(super) type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) seen: BTreeMap<PathBuf, Stamps>,
    /// Folders that cannot be listed, and why: what is in them is unknown.
    pub(super) closed: Vec<(PathBuf, String)>,
    /// Which folder each of those is that have files at all, of `certificates` alone.
    pub(super) filled: Grounds,
    /// Those of `certificates` that can be listed and have none.
    pub(super) bare: Grounds,
}

/// Tells a folder from another with the same name, which was made anew or mounted there: device and inode.
pub(super) type Grounds = BTreeMap<PathBuf, Option<(u64, u64)>>;

impl Listing {
    pub(super) fn of(roots: &[PathBuf]) -> Listing {
        let mut listing = Listing::default();
        for root in roots {
            listing.add(root, DEPTH);
            let stamp = stamp(root).ok();
            let ground = stamp.map(|stamp| (stamp.dev, stamp.inode));
            let is_below = |path: &Path| path.starts_with(root);
            if listing.seen.keys().any(|path| is_below(path)) {
                listing.filled.insert(root.clone(), ground);
            } else if !listing.closed.iter().any(|(path, _)| is_below(path)) {
                listing.bare.insert(root.clone(), ground);
            }
        }
        listing
    }

    fn add(&mut self, folder: &Path, depth: usize) {
        match self.list(folder, depth) {
            Ok(stamps) if stamps.is_empty() => {}
            Ok(stamps) => drop(self.seen.insert(folder.to_owned(), stamps)),
            Err(error) => {
                let why = directory::why_closed(folder, &error);
                self.closed.push((folder.to_owned(), why));
            }
        }
    }

    fn list(&mut self, folder: &Path, depth: usize) -> io::Result<Stamps> {
        directory::admits(folder)?;
        let mut stamps = Stamps::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if is_pem(&path) {
                let stamp = stamp(&path).ok();
                stamps.insert(path, stamp);
            } else if depth > 1 {
                match is_folder(&entry) {
                    Ok(true) => self.add(&path, depth - 1),
                    Ok(false) => {}
                    Err(error) => self
                        .closed
                        .push((path, format!("its link leads nowhere: {error}"))),
                }
            }
        }
        Ok(stamps)
    }
}

fn is_pem(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    matches!(ending, "pem" | "crt" | "cer" | "key")
}

/// Or a link to one. `Err`: nobody knows what such a link leads to.
fn is_folder(entry: &DirEntry) -> io::Result<bool> {
    match entry.file_type()? {
        kind if kind.is_symlink() => Ok(fs::metadata(entry.path())?.is_dir()),
        kind => Ok(kind.is_dir()),
    }
}
