//! What to do about a file or a folder that we may not look into.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whose the file is, who we are, and the command that brings the two together.
pub(super) fn how_to_permit(path: &Path, right: &'static str) -> String {
    let our_user = effective_user().map_or("?".to_owned(), user);
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
    let advice = format!("chmod o+{right} '{shown}' or setfacl -m u:{our_user}:{right} '{shown}'");
    match fs::metadata(place) {
        Ok(metadata) => format!(
            "{what} belongs to {} with mode {:04o} and onedoor runs as {our_user}; {advice}",
            user(metadata.uid()),
            metadata.mode() & 0o7777,
        ),
        Err(_) => format!("onedoor runs as {our_user}; {advice}"),
    }
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
