//! What an edit changed, in words for the log: the keys of a site file that mean something else now.

use super::entry::Live;
use crate::document::problem::printable;
use crate::site::{Action, Site};

/// `backends, headers`; the file's own words where there are some. Else the files beside it that are other ones.
pub(super) fn what_changed(before: &Live, after: &Live) -> String {
    let (old, new) = (&*before.site, &*after.site);
    let words = [
        ("hosts", old.claims != new.claims),
        ("what answers", action(old) != action(new)),
        ("allow", old.allow != new.allow),
        ("paths", paths(old) != paths(new)),
        ("balancing", old.balancing != new.balancing),
        ("retry", old.retry != new.retry),
        ("health", old.health != new.health),
        ("send_host", old.send_host != new.send_host),
        ("send_proxy", old.send_proxy != new.send_proxy),
        ("headers", old.headers != new.headers),
        ("limit", old.limits != new.limits),
        ("timeout", old.timeouts != new.timeouts),
        ("drain", old.drain != new.drain),
        ("tls", old.tls != new.tls),
        ("access_log", old.access_log != new.access_log),
        ("note", old.note != new.note),
    ];
    let changed = words.iter().filter(|(_, is_another)| *is_another);
    let changed: Vec<&str> = changed.map(|(word, _)| *word).collect();
    if !changed.is_empty() {
        return changed.join(", ");
    }
    let known = &before.made_of.files;
    let files = after.made_of.files.iter();
    let names: Vec<String> = files
        .filter(|file| !known.contains(file))
        .map(|(path, _)| printable(&path.file_name().unwrap_or_default().to_string_lossy()))
        .collect();
    match names.is_empty() {
        true => "words without a meaning".to_owned(),
        false => format!("what is in {}", names.join(", ")),
    }
}

fn action(site: &Site) -> Option<String> {
    site.action.as_ref().map(shown)
}

/// Only to be compared, and never shown: bodies are in it.
fn shown(action: &Action) -> String {
    match action {
        Action::Proxy(backends) => backends
            .list
            .iter()
            .map(|member| {
                format!(
                    "{member} {} {} {:?};",
                    member.weight, member.backup, member.max
                )
            })
            .collect(),
        Action::Redirect(redirect) => format!("{redirect:?}"),
        Action::Respond(respond) => format!("{respond:?}"),
    }
}

fn paths(site: &Site) -> Vec<String> {
    let each = site.paths.iter().map(|rule| {
        let action = rule.action.as_ref().map(shown);
        format!(
            "{} {} {:?} {action:?}",
            rule.pattern, rule.strip, rule.allow
        )
    });
    each.collect()
}
