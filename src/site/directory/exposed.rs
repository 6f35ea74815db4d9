//! Whether everybody may write a file, or put another in its place: also behind a link, and on the way there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::document::{Problem, Severity};

pub(super) const OTHERS_WRITE: u32 = 0o002;
/// What is in such a folder only its owner removes or renames.
const STICKY: u32 = 0o1000;

/// CASES S-03: whoever may write the file owns the site. With the command that ends it, for what has to be changed: the
/// file behind a link, or the folder that this lies in. (The folder of the link is told with the sites directory.)
pub fn exposed(path: &Path) -> Vec<Problem> {
    let warn = |message: String, exposed: &Path| Problem {
        severity: Severity::Warning,
        ..Problem::of_file(path, message).with_help(format!("chmod o-w '{}'", exposed.display()))
    };
    let Ok(metadata) = path.metadata() else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let behind = hop(path).and_then(|to| Some((replaceable_in(&to), real(&to)?)));
    if metadata.mode() & OTHERS_WRITE != 0 {
        let mode = metadata.mode() & 0o7777;
        problems.push(match &behind {
            None => warn(
                format!("everybody may write this file (mode {mode:04o})"),
                path,
            ),
            Some((_, file)) => {
                let shown = file.display();
                let message = format!(
                    "everybody may write the file behind this link, {shown} (mode {mode:04o})"
                );
                warn(message, file)
            }
        });
    }
    if let Some((Some(folder), _)) = behind {
        let shown = folder.display();
        let message =
            format!("everybody may write into {shown}, and so replace the file behind this link");
        problems.push(warn(message, &folder));
    }
    problems
}

/// The folder in which everybody may put something else in the place of the file at `path`, or of a link on the way to it.
pub fn replaceable_in(path: &Path) -> Option<PathBuf> {
    // As many as the kernel follows.
    const MOST_HOPS: usize = 40;
    let hops = std::iter::successors(Some(path.to_owned()), |path| hop(path));
    let mut folders = hops.take(MOST_HOPS).filter_map(|path| real(path.parent()?));
    folders.find(|folder| {
        let mode = folder.metadata().map_or(0, |metadata| metadata.mode());
        mode & (OTHERS_WRITE | STICKY) == OTHERS_WRITE
    })
}

/// Where the link at `path` leads next.
fn hop(path: &Path) -> Option<PathBuf> {
    let to = fs::read_link(path).ok()?;
    Some(path.parent()?.join(to))
}

fn real(path: &Path) -> Option<PathBuf> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    fs::canonicalize(path).ok()
}
