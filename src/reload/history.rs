//! Former versions of each site, on disk: what `history`, `diff` and `rollback` know.
//!
//! A version that is replaced, or whose site is gone, is kept aside as it is: one folder for each site, one file for
//! each version, named by when it went live. The present version is the last good one, which is kept elsewhere.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::last_good::{file_stem, read_one};
use crate::site::SiteName;

/// Former versions of one site. More than anybody goes back, and an hour of a script that writes every three minutes.
const MOST_VERSIONS: usize = 20;
/// Sites that have some. The ones whose newest is oldest go first.
const MOST_SITES: usize = 10_000;
/// Where they are in the state directory.
const FOLDER: &str = "history";

/// One version of a site file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it went live.
    pub since: SystemTime,
    pub text: String,
}

/// Keeps the last good version `file`, which went live at `since`, before another takes its place or none does. `sites` is
/// the folder of last good versions. The file stays where it is until then: a process that ends in between would not know
/// what served and which names it has.
///
/// # Errors
/// What the filesystem says.
pub(super) fn keep_aside(
    sites: &Path,
    name: &SiteName,
    file: &Path,
    since: SystemTime,
) -> io::Result<()> {
    let Some(state) = sites.parent() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let folder = state.join(FOLDER).join(file_stem(name));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    // Later than those before it, also for a program that edits twice in a millisecond, and for a clock that is set back.
    let newest = stamps(&folder).pop();
    let behind = newest.map(|newest| newest + Duration::from_millis(1));
    let at = behind.map_or(since, |behind| behind.max(since));
    let aside = path_of(&folder, at);
    // Some filesystems know no second name.
    fs::hard_link(file, &aside).or_else(|_| fs::copy(file, &aside).map(drop))?;
    let mut all = stamps(&folder);
    while all.len() > MOST_VERSIONS {
        fs::remove_file(path_of(&folder, all.remove(0)))?;
    }
    Ok(())
}

/// Lets go of the history of sites that nobody has had for longest, where there are too many.
pub(super) fn tidy(sites: &Path) {
    let Some(history) = sites.parent().map(|state| state.join(FOLDER)) else {
        return;
    };
    let folders: Vec<PathBuf> = fs::read_dir(&history)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let surplus = folders.len().saturating_sub(MOST_SITES);
    if surplus == 0 {
        return;
    }
    let mut by_age: Vec<(Option<SystemTime>, PathBuf)> = folders
        .into_iter()
        .map(|folder| (stamps(&folder).pop(), folder))
        .collect();
    by_age.sort();
    for (_, folder) in by_age.into_iter().take(surplus) {
        // One that cannot be removed now is too many the next time, too.
        fs::remove_dir_all(folder).ok();
    }
}

/// Every version of `name` that is kept, the newest first, and whether the first of them is the present one. What cannot
/// be read is left out. Blocks on the disk.
pub fn versions(state: &Path, name: &SiteName) -> (Vec<Version>, bool) {
    let stem = file_stem(name);
    let present = read(&state.join("sites").join(format!("{stem}.json")));
    let has_present = present.is_some();
    let folder = state.join(FOLDER).join(stem);
    let former = stamps(&folder).into_iter().rev();
    let former = former.filter_map(|since| {
        let version = read(&path_of(&folder, since))?;
        Some(Version { since, ..version })
    });
    (present.into_iter().chain(former).collect(), has_present)
}

fn read(file: &Path) -> Option<Version> {
    let version = read_one(file).ok()?;
    Some(Version {
        since: version.since,
        text: version.document.text,
    })
}

fn path_of(folder: &Path, since: SystemTime) -> PathBuf {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    folder.join(format!("{:015}.json", since.as_millis()))
}

/// When each version in `folder` went live, the oldest first.
fn stamps(folder: &Path) -> Vec<SystemTime> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut all: Vec<SystemTime> = names
        .filter_map(|name| {
            let milliseconds = name.strip_suffix(".json")?.parse().ok()?;
            Some(UNIX_EPOCH + Duration::from_millis(milliseconds))
        })
        .collect();
    all.sort();
    all
}
