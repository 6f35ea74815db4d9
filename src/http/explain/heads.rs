//! What onedoor changes in heads, found by writing them and looking at what came of it.

use serde::{Deserialize, Serialize};

use crate::http::field::{Fields, Kind, is_about_certificates};
use crate::http::forward::replaces;
use crate::http::h1::head::RequestHead;
use crate::site::{HeaderEdit, HeaderEdits, Site, Wire};

/// The fields that the next hop gets or does not get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: Vec<Added>,
    pub removed: Vec<Removed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub name: String,
    /// Masked where it is a secret.
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub name: String,
    pub why: String,
}

/// In place of a value that is nobody's business.
pub const MASK: &str = "(not shown)";

/// `written` is the head of `head` as a backend of `site` gets it.
pub(super) fn of_request(written: &[u8], head: &RequestHead<'_>, site: &Site) -> Changes {
    let mut before = lines_of(&head.fields);
    let mut added = Vec::new();
    for line in written.split(|&byte| byte == b'\n').skip(1) {
        let Some((name, value)) = name_and_value(line) else {
            continue;
        };
        match before
            .iter()
            .position(|(old, was)| old.eq_ignore_ascii_case(&name) && *was == value)
        {
            Some(same) => drop(before.swap_remove(same)),
            None => added.push(shown(name, value, &site.headers)),
        }
    }
    let mut removed: Vec<Removed> = before
        .into_iter()
        .map(|(name, _)| Removed {
            why: why_removed(&name, site).to_owned(),
            name,
        })
        .collect();
    removed.sort_by(|a, b| a.name.cmp(&b.name));
    Changes { added, removed }
}

/// What the site changes in every response; what else a proxy must change depends on the app's.
pub(super) fn of_response(edits: &HeaderEdits, wire: Wire) -> Changes {
    let mut changes = Changes::default();
    for edit in edits.of_response(wire) {
        match edit {
            HeaderEdit::Set { name, value } | HeaderEdit::Add { name, value } => {
                let value = String::from_utf8_lossy(value).into_owned();
                changes.added.push(shown(name.to_string(), value, edits));
            }
            HeaderEdit::Remove { name } => changes.removed.push(Removed {
                name: name.to_string(),
                why: OF_SITE.to_owned(),
            }),
        }
    }
    changes
}

const OF_SITE: &str = "the site file says so";

fn shown(name: String, value: String, edits: &HeaderEdits) -> Added {
    let value = match edits.may_show(&name) {
        true => value,
        false => MASK.to_owned(),
    };
    Added { name, value }
}

fn lines_of(fields: &Fields<'_>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields
        .iter()
        .map(|(header, _)| (header.name.to_owned(), text(header.value)))
        .collect()
}

fn name_and_value(line: &[u8]) -> Option<(String, String)> {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.trim_end_matches('\r').split_once(": ")?;
    Some((name.to_owned(), value.to_owned()))
}

fn why_removed(name: &str, site: &Site) -> &'static str {
    if replaces(&site.headers.request, name.as_bytes()) {
        return OF_SITE;
    }
    match Kind::of(name.as_bytes()) {
        Kind::Host => "the host as it was understood is sent in its place",
        Kind::Identity
            if site.tls.tells_certificates() && is_about_certificates(name.as_bytes()) =>
        {
            "onedoor alone tells the app of certificates that clients show (forward)"
        }
        Kind::ForwardedFor
        | Kind::ForwardedProto
        | Kind::ForwardedHost
        | Kind::ForwardedPort
        | Kind::RealIp
        | Kind::RequestId
        | Kind::Identity => "only [trust] proxies are believed about this",
        Kind::Barred => "never passed on: apps could take it for another header",
        Kind::ContentLength | Kind::TransferEncoding | Kind::Expect | Kind::MaxForwards => {
            "written anew for the next hop"
        }
        Kind::Connection | Kind::KeepAlive | Kind::Upgrade | Kind::Hop => {
            "about this connection only"
        }
        _ => "Connection names it, so it is about this connection only",
    }
}
