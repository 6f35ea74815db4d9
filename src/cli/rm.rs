//! `onedoor rm`: a site file removed, and waited for until nobody serves it. What nobody else has is kept.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::args::Places;
use super::drop_in::{DropInError, Folder, refuse};
use super::said::Said;
use super::{FAILED, complain, daemon, wait};
use crate::admin::client::{Client, ClientError};
use crate::document::mask;
use crate::document::problem::printable;
use crate::reload::Until;
use crate::site::SiteName;

/// Ends with 0 when the site is served no more.
pub(super) fn rm(
    places: &Places,
    name: &str,
    now: bool,
    timeout: Duration,
    mut said: Said,
) -> ExitCode {
    let removed = Folder::find(places).and_then(|folder| {
        let (site, file) = folder.file_of(name)?;
        let left = remove(&folder, &site, &file, timeout, &mut said)?;
        Ok((folder, site, file, left))
    });
    let (folder, site, file, left) = match removed {
        Ok(removed) => removed,
        Err(code) => return said.end(code),
    };
    let Some(daemon) = &folder.daemon else {
        tell_undo(&left, &site, &file, places, &mut said, "");
        complain(folder.nobody_answers("not serve it"));
        return said.end(ExitCode::SUCCESS);
    };
    let mut code = ExitCode::SUCCESS;
    let mut by_whom = "";
    match daemon.gone(site.as_str(), now) {
        Ok(_) => {}
        // Whoever may write into the folder needs nobody's leave, but to have it done at once.
        Err(ClientError::Refused { status: 403, .. }) => {
            by_whom = ", as root or the user that onedoor runs as";
            if now {
                complain(
                    "open work is not cut: that is for root and the user that onedoor runs as",
                );
                code = ExitCode::from(FAILED);
            }
        }
        Err(error) => {
            tell_undo(&left, &site, &file, places, &mut said, "");
            return said.end(daemon::explain(&error));
        }
    }
    let waited = wait::until(daemon, site.as_str(), Until::Gone, timeout, &mut said);
    tell_undo(&left, &site, &file, places, &mut said, by_whom);
    if waited != ExitCode::SUCCESS {
        code = waited;
    }
    said.end(code)
}

/// Where the text of a file is that is in its place no more.
enum Left {
    /// It is what was live last.
    InHistory,
    /// Nobody else has it; beside, under a name that is no site's.
    Aside { file: PathBuf, has_history: bool },
    /// It was a link, and what it led to is where it was.
    Link(PathBuf),
    /// It was no text.
    Nowhere,
}

fn remove(
    folder: &Folder,
    site: &SiteName,
    file: &Path,
    timeout: Duration,
    said: &mut Said,
) -> Result<Left, ExitCode> {
    let is_link = fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink());
    let text = folder.read(file);
    let newest = folder
        .daemon
        .as_ref()
        .and_then(|daemon| newest(daemon, site));
    let cannot = |error: &dyn std::fmt::Display| {
        refuse(format_args!("cannot remove {}: {error}", file.display()))
    };
    let left = match text {
        _ if is_link => Left::Link(fs::read_link(file).map_err(|error| cannot(&error))?),
        Ok(Some(text)) if newest.as_ref().is_some_and(|newest| newest.is(&text)) => Left::InHistory,
        Ok(None) | Err(DropInError::NotRegular) => Left::Nowhere,
        // Through the folder of a team that is a link: what lies there is somebody else's.
        Err(error @ DropInError::Outside { .. }) => return Err(cannot(&error)),
        // What cannot be read may be worth as much.
        Ok(Some(_)) | Err(_) => Left::Aside {
            file: folder.set_aside(file).map_err(|error| cannot(&error))?,
            has_history: newest.is_some(),
        },
    };
    let removed = match &left {
        Left::Aside { .. } => Ok(()),
        _ => fs::remove_file(file),
    };
    match removed {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // `wait` knows what was meant, once the daemon has looked too.
            return Err(match &folder.daemon {
                Some(daemon) => wait::until(daemon, site.as_str(), Until::Serving, timeout, said),
                None => refuse(format_args!("there is no {}", file.display())),
            });
        }
        Err(error) => return Err(cannot(&error)),
    }
    said.line(format_args!("removed {}", file.display()));
    said.fact("removed", file.to_string_lossy());
    Ok(left)
}

/// The version that went live last.
struct Newest {
    text: String,
    /// Without its secrets: who asks may not see them.
    is_masked: bool,
}

impl Newest {
    /// Whether `text` is that version, for sure.
    fn is(&self, text: &str) -> bool {
        self.text == text && (!self.is_masked || mask(text) == text)
    }
}

fn newest(daemon: &Client, site: &SiteName) -> Option<Newest> {
    let (kept, is_masked) = match daemon.history(site.as_str(), true) {
        Ok(kept) => (kept, false),
        Err(_) => (daemon.history(site.as_str(), false).ok()?, true),
    };
    let text = kept["versions"][0]["text"].as_str()?.to_owned();
    Some(Newest { text, is_masked })
}

fn tell_undo(
    left: &Left,
    site: &SiteName,
    file: &Path,
    places: &Places,
    said: &mut Said,
    by_whom: &str,
) {
    let quoted = |path: &Path| {
        let path = path.to_string_lossy().replace('\'', "'\\''");
        format!("'{}'", printable(&path))
    };
    let rollback = format!("onedoor rollback {site}{}", places.flags());
    let undo = match left {
        Left::InHistory => {
            said.line(format_args!("to undo{by_whom}: {rollback}"));
            rollback
        }
        Left::Aside {
            file: aside,
            has_history,
        } => {
            let undo = format!("mv {} {}", quoted(aside), quoted(file));
            said.line(format_args!(
                "its text has not been live and is kept; to undo: {undo}"
            ));
            if *has_history {
                said.line(format_args!(
                    "or{by_whom}, to the version that was live last: {rollback}"
                ));
            }
            said.fact("kept_as", aside.to_string_lossy());
            undo
        }
        Left::Link(target) => {
            let undo = format!("ln -s {} {}", quoted(target), quoted(file));
            said.line(format_args!("it was a link; to undo: {undo}"));
            undo
        }
        Left::Nowhere => return,
    };
    said.fact("undo", undo);
}
