//! What to do about a file or a folder that we may not look into.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What to do about something that is named below `sites`. Of what a link leads to elsewhere no command is given: whoever
/// may drop a link must not choose what root opens to everybody.
pub(super) fn how_to_permit_below(sites: &Path, path: &Path, right: &'static str) -> String {
    match leads_out(sites, path) {
        Some(to) => format!(
            "it leads to {}, which onedoor (running as {}) may not read",
            to.display(),
            our_user()
        ),
        None => how_to_permit(path, right),
    }
}

/// Where `path` leads, if that is not below `sites`, or nobody can tell.
fn leads_out(sites: &Path, path: &Path) -> Option<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        let is_below = sites
            .canonicalize()
            .is_ok_and(|sites| real.starts_with(sites));
        return (!is_below).then_some(real);
    }
    let below = path.ancestors().take_while(|part| *part != sites);
    below
        .filter_map(|part| Some(part.parent()?.join(fs::read_link(part).ok()?)))
        .last()
}

/// Whose the file is, who we are, and the command that brings the two together.
pub(super) fn how_to_permit(path: &Path, right: &'static str) -> String {
    permit(path, right, Whom::Everybody)
}

/// The same of a key, which nobody else may read, with all the folders on the way to where links lead.
pub fn how_to_let_in(key: &Path) -> String {
    format!("permission denied: {}", permit(key, "r", Whom::Us))
}

/// Who may be given a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Everybody,
    Us,
}

fn permit(path: &Path, right: &'static str, whom: Whom) -> String {
    let our_user = our_user();
    let closed = path
        .ancestors()
        .skip(1)
        .filter(|folder| fs::metadata(folder).is_ok())
        .find(|folder| {
            let inside = path
                .strip_prefix(folder)
                .ok()
                .and_then(|rest| rest.components().next());
            inside.is_some_and(|next| {
                fs::symlink_metadata(folder.join(next))
                    .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            })
        });
    let (what, place, right) = match closed {
        Some(folder) => ("its folder", folder, "x"),
        None => ("it", path, right),
    };
    let shown = place.display();
    let for_us = format!("setfacl -m u:{our_user}:{right} '{shown}'");
    let advice = match whom {
        Whom::Everybody => format!("chmod o+{right} '{shown}' or {for_us}"),
        Whom::Us => for_us,
    };
    match fs::metadata(place) {
        Ok(metadata) => format!(
            "{what} belongs to {} with mode {:04o} and onedoor runs as {our_user}; {advice}",
            user(metadata.uid()),
            metadata.mode() & 0o7777,
        ),
        Err(_) => format!("onedoor runs as {our_user}; {advice}"),
    }
}

fn our_user() -> String {
    effective_user().map_or("?".to_owned(), user)
}

/// Not the owner of `/proc/self`: with a capability on the executable, as a low port needs it, that is root (proc(5)).
fn effective_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The name of a user, or the number where it has none.
fn user(uid: u32) -> String {
    let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}
