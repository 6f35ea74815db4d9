//! All of sites.d: which files are site files, which are not and why, and the text of one.
//!
//! Only looks; what a change means is decided by `reload`.

mod exposed;
mod names;
mod permit;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::SiteName;
use exposed::OTHERS_WRITE;
pub use exposed::{exposed, replaceable_in};
use names::classify_folder;
pub use names::{Ignored, classify};
pub use permit::how_to_let_in;
use permit::{how_to_permit, how_to_permit_below};
pub use text::{ReadError, decode, read};

/// What is in the sites directory, in the order of names.
#[derive(Debug, Default)]
pub struct Listing {
    pub files: BTreeMap<SiteName, Found>,
    /// In the order of paths, each as it would be opened.
    pub ignored: Vec<(PathBuf, Ignored)>,
    /// Team folders that cannot be listed: what was in them is unknown, not gone.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Folders that everybody may write into: whoever does owns every free name.
    pub exposed: Vec<PathBuf>,
}

/// A site file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: SiteName,
    pub path: PathBuf,
    /// `None`: there is a name but no file behind it that could be looked at (dangling link, loop).
    pub stamp: Option<Stamp>,
}

/// Tells one state of a file from another without opening it; of the file behind symlinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub dev: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl Stamp {
    /// The same for one file with the same content, whatever it is called: a rename changes the ctime.
    pub fn file(self) -> impl Eq + std::hash::Hash + Copy {
        (self.dev, self.inode, self.size, self.mtime_ns)
    }

    fn of(metadata: &fs::Metadata) -> Stamp {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Stamp {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Lists the directory and its team folders.
///
/// # Errors
/// When the directory itself cannot be listed.
pub fn list(sites: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let (entries, mode) = entries(sites)?;
    if mode & OTHERS_WRITE != 0 {
        listing.exposed.push(sites.to_owned());
    }
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if is_kubernetes(&name) {
            continue;
        }
        let path = entry.path();
        if !is_folder(&entry, &path) {
            listing.add(Path::new(&name), path);
        } else if let Err(ignored) = classify_folder(&name) {
            listing.ignored.push((path, ignored));
        } else if is_itself(sites, &path) {
            listing.ignored.push((path, Ignored::Itself));
        } else {
            listing.add_team(&name, path);
        }
    }
    listing.ignored.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(listing)
}

impl Listing {
    fn add(&mut self, relative: &Path, path: PathBuf) {
        match classify(relative) {
            Err(ignored) => self.ignored.push((path, ignored)),
            Ok(name) => {
                let stamp = stamp(&path).ok();
                self.files.insert(name.clone(), Found { name, path, stamp });
            }
        }
    }

    fn add_team(&mut self, team: &OsStr, folder: PathBuf) {
        let (entries, mode) = match entries(&folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable.push((folder, error)),
        };
        if mode & OTHERS_WRITE != 0 {
            self.exposed.push(folder.clone());
        }
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.unreadable.push((folder, error)),
            };
            let name = entry.file_name();
            if is_kubernetes(&name) {
                continue;
            }
            let path = entry.path();
            if is_folder(&entry, &path) {
                self.ignored.push((path, Ignored::TooDeep));
            } else {
                self.add(&Path::new(team).join(name), path);
            }
        }
    }
}

/// Whether names in `folder` can be listed and what is behind them can be asked for.
///
/// # Errors
/// As opendir(3) and stat(2); [`why_closed`] has words for a person.
pub fn admits(folder: &Path) -> io::Result<()> {
    entries(folder).map(drop)
}

/// What is in a folder, and its mode.
fn entries(folder: &Path) -> io::Result<(fs::ReadDir, u32)> {
    let entries = fs::read_dir(folder)?;
    // With `r` and without `x` there are names, and every file behind them seems to be broken.
    let metadata = fs::metadata(folder.join("."))?;
    Ok((entries, metadata.mode()))
}

/// Why a folder cannot be listed, with the command that mends it where there is one.
pub fn why_closed(folder: &Path, error: &io::Error) -> String {
    why(error, || how_to_permit(folder, "rx"))
}

/// The same of the folder of a team.
pub fn why_team_closed(sites: &Path, folder: &Path, error: &io::Error) -> String {
    why(error, || how_to_permit_below(sites, folder, "rx"))
}

fn why(error: &io::Error, how_to_permit: impl FnOnce() -> String) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("permission denied: {}", how_to_permit()),
        _ => error.to_string(),
    }
}

/// `..data`, `..2026_11_23` and the like: the inside of a mounted ConfigMap. Links that lead through them are the
/// site files.
fn is_kubernetes(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"..")
}

/// Whether an entry is a folder, or a link to one.
pub fn is_folder(entry: &fs::DirEntry, path: &Path) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

/// Whether `folder` in the sites directory leads to that directory again: then each of its sites would be one of a team, too.
pub fn is_itself(sites: &Path, folder: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    of(sites)
        .ok()
        .is_some_and(|sites| of(folder).ok() == Some(sites))
}

/// The stamp of the file behind `path`.
///
/// # Errors
/// As stat(2).
pub fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| Stamp::of(&metadata))
}

/// Where the file of a site is, or would be.
pub fn path_of(sites: &Path, name: &SiteName) -> PathBuf {
    sites.join(format!("{name}.toml"))
}
