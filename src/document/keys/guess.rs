//! What somebody meant who wrote a key that is not there: by meaning, by place, by spelling.

use super::{KEYS, Key, Kind, Place, find};

/// What somebody who wrote an unknown key probably meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Another word in the same place, as it is written there.
    Instead(&'static str),
    /// The same word in another place.
    Elsewhere(Place),
    /// Another word in another place.
    InsteadElsewhere(&'static str, Place),
}

impl Guess {
    /// Whether `name` is the word that was meant.
    pub fn is_instead(self, name: &str) -> bool {
        matches!(self, Guess::Instead(ours) if ours == name)
    }
}

/// By meaning, by place, by spelling, in this order.
pub fn guess(place: Place, name: &str) -> Option<Guess> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS
        .iter()
        .find(|(at, words, _)| *at == place && words.contains(&folded.as_str()));
    if let Some((_, _, ours)) = synonym {
        return Some(Guess::Instead(ours));
    }
    let here = || KEYS.iter().filter(move |key| key.place == place);
    if let Some(key) = here().find(|key| key.name == folded) {
        return Some(Guess::Instead(written(key)));
    }
    if let Some(other) = elsewhere(place, &folded) {
        return Some(Guess::Elsewhere(other));
    }
    let nearest = here()
        .map(|key| (distance(key.name, &folded), key))
        .min_by_key(|(distance, _)| *distance);
    let allowed = 1 + folded.chars().count() / 4;
    nearest
        .filter(|(distance, key)| *distance <= allowed && *distance < key.name.len())
        .map(|(_, key)| Guess::Instead(written(key)))
        .or_else(|| nearly_elsewhere(place, &folded))
}

fn elsewhere(place: Place, name: &str) -> Option<Place> {
    others(place).find(|&other| find(other, name).is_some())
}

/// There are many words elsewhere, so that one typo in a word of some length has to be enough.
fn nearly_elsewhere(place: Place, name: &str) -> Option<Guess> {
    const LEAST: usize = 4;
    others(place).find_map(|other| {
        let mut keys = KEYS.iter().filter(|key| key.place == other);
        let meant = keys.find(|key| key.name.len() >= LEAST && distance(key.name, name) == 1)?;
        Some(Guess::InsteadElsewhere(written(meant), other))
    })
}

fn others(place: Place) -> impl Iterator<Item = Place> {
    // Keys of small inline tables ("status", "file", "at") are no hint; nor is one level of the same thing another.
    place.neighbours().iter().copied().filter(move |&other| {
        other != place
            && !matches!(
                other,
                Place::Backend | Place::Sticky | Place::Redirect | Place::Respond | Place::Drain
            )
    })
}

fn written(key: &'static Key) -> &'static str {
    match (key.name, key.kind) {
        ("path", _) => "[[path]]",
        ("limit", Kind::Table(_)) => "[limit]",
        ("timeout", Kind::Table(_)) => "[timeout]",
        ("health", Kind::Table(_)) => "[health]",
        ("headers", Kind::Table(_)) => "[headers]",
        ("retry", Kind::Table(_)) => "[retry]",
        ("log", Kind::Table(_)) => "[log]",
        ("trust", Kind::Table(_)) => "[trust]",
        (name, _) => name,
    }
}

/// Edits between two words, or their first 256 characters, a swap of neighbours counting as one (optimal string alignment).
pub fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().take(256).collect::<Vec<char>>());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

/// What to say about an unknown key. `header` is the table it stands in, as written, and that one's line.
pub fn unknown(place: Place, name: &str, header: Option<(&str, u32)>) -> String {
    if matches!(place, Place::Site | Place::Path) && FILE_SERVER.contains(&name) {
        return format!(
            "unknown key {name:?}: onedoor serves no files from disk; let a file server do it and write its port, as in \
             to = 5000, or give one file with respond = {{ file = \"page.html\" }}"
        );
    }
    match (guess(place, name), header) {
        (Some(Guess::Instead(ours)), _) => {
            format!("unknown key {name:?}, did you mean {}?", quoted(ours))
        }
        (Some(Guess::Elsewhere(other)), _) => {
            format!("{name:?} belongs {}", where_to(other, header))
        }
        (Some(Guess::InsteadElsewhere(ours, other)), _) => format!(
            "unknown key {name:?}, did you mean {}, which belongs {}?",
            quoted(ours),
            where_to(other, header)
        ),
        (None, _) => format!("unknown key {name:?}"),
    }
}

fn where_to(place: Place, header: Option<(&str, u32)>) -> String {
    match header {
        Some((header, line)) if place.is_top() => format!("above {header}, line {line}"),
        _ => format!("in {}", place.title()),
    }
}

fn quoted(word: &str) -> String {
    if word.starts_with('[') {
        word.to_owned()
    } else {
        format!("{word:?}")
    }
}

/// Words of programs that serve a folder, which have no like here.
const FILE_SERVER: [&str; 8] = [
    "root",
    "document_root",
    "documentroot",
    "webroot",
    "file_server",
    "try_files",
    "static",
    "index",
];

/// Words other programs use, and ours for the same thing.
const SYNONYMS: &[(Place, &[&str], &str)] = &[
    (
        Place::Site,
        &[
            "proxy_pass",
            "upstream",
            "upstreams",
            "backend",
            "backends",
            "port",
            "target",
            "server",
            "servers",
            "reverse_proxy",
            "url",
            "address",
            "proxy",
        ],
        "to",
    ),
    (
        Place::Site,
        &[
            "server_name",
            "domain",
            "domains",
            "hosts",
            "hostname",
            "hostnames",
            "name",
            "names",
            "vhost",
        ],
        "host",
    ),
    (
        Place::Site,
        &[
            "location",
            "locations",
            "route",
            "routes",
            "paths",
            "rule",
            "rules",
        ],
        "[[path]]",
    ),
    (
        Place::Site,
        &["ssl", "https", "certificate", "certificates"],
        "tls",
    ),
    (Place::Site, &["return", "static", "body"], "respond"),
    (Place::Site, &["description", "comment", "title"], "note"),
    (
        Place::Site,
        &["whitelist", "allowlist", "allow_from", "ip_whitelist"],
        "allow",
    ),
    (
        Place::Site,
        &["aliases", "alias", "redirects"],
        "redirect_from",
    ),
    (
        Place::Site,
        &["check", "checks", "health_check", "healthcheck", "probe"],
        "[health]",
    ),
    (
        Place::Health,
        &["interval", "inter", "period", "health_interval"],
        "every",
    ),
    (Place::Health, &["uri", "url", "health_uri"], "path"),
    (
        Place::Health,
        &["status", "health_status", "expected_statuses", "match"],
        "expect",
    ),
    (Place::Health, &["body", "health_body"], "contains"),
    (Place::Health, &["host", "hostname"], "send_host"),
    (
        Place::Health,
        &["passes", "healthy_threshold", "health_passes"],
        "rise",
    ),
    (
        Place::Health,
        &["fails", "max_fails", "unhealthy_threshold", "health_fails"],
        "fall",
    ),
    (Place::Site, &["header"], "[headers]"),
    (Place::Site, &["timeouts"], "[timeout]"),
    (Place::Site, &["limits"], "[limit]"),
    (
        Place::Path,
        &["prefix", "path", "location", "pattern", "from"],
        "match",
    ),
    (Place::Path, &["strip_prefix", "rewrite"], "strip"),
    (
        Place::Backend,
        &["address", "url", "to", "host", "port"],
        "at",
    ),
    (
        Place::Backend,
        &["sni", "tls_server_name", "servername", "proxy_ssl_name"],
        "server_name",
    ),
    (
        Place::Backend,
        &[
            "root_ca",
            "cafile",
            "ca_file",
            "tls_trust_pool",
            "proxy_ssl_trusted_certificate",
        ],
        "ca",
    ),
    (
        Place::Backend,
        &["certificate", "client_cert", "tls_client_auth"],
        "cert",
    ),
    (
        Place::Backend,
        &[
            "insecure",
            "insecure_skip_verify",
            "insecureskipverify",
            "skip_verify",
            "tls_insecure_skip_verify",
            "proxy_ssl_verify",
        ],
        "verify",
    ),
    (Place::Redirect, &["code"], "status"),
    (Place::Redirect, &["target", "url", "location"], "to"),
    (Place::Respond, &["code"], "status"),
    (Place::Respond, &["content_type"], "type"),
    (Place::Respond, &["text", "content"], "body"),
    (
        Place::Limit,
        &[
            "client_max_body_size",
            "max_body",
            "body_size",
            "request_body",
        ],
        "body",
    ),
    (
        Place::Timeout,
        &["read", "response", "backend", "proxy_read_timeout"],
        "first_byte",
    ),
    (Place::Timeout, &["websocket", "tunnel"], "websocket_idle"),
    (Place::Timeout, &["keepalive", "keep_alive"], "pool_idle"),
    (Place::Headers, &["req", "requests"], "request"),
    (Place::Headers, &["resp", "responses"], "response"),
    (Place::Edits, &["delete", "hide", "drop", "unset"], "remove"),
    (Place::Edits, &["replace"], "set"),
    (Place::Edits, &["append"], "add"),
    (
        Place::Daemon,
        &["bind", "port", "ports", "address", "addr", "entrypoints"],
        "listen",
    ),
    (
        Place::Daemon,
        &["sites_dir", "include", "directory", "sites_d"],
        "sites",
    ),
    (Place::Daemon, &["threads", "worker_processes"], "workers"),
    (
        Place::Daemon,
        &["default_site", "default", "default_server", "fallback"],
        "catch_all",
    ),
    (Place::Daemon, &["timeouts"], "[timeout]"),
    (Place::Daemon, &["limits"], "[limit]"),
    (Place::Daemon, &["logging", "logs"], "[log]"),
    (
        Place::Trust,
        &["proxy", "trusted_proxies", "set_real_ip_from"],
        "proxies",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::keys::Status;

    #[test]
    fn a_mistyped_name_is_near_the_right_one() {
        for (typed, edits) in [("shop", 0), ("shpo", 1), ("sho", 1), ("", 4)] {
            assert_eq!(distance(typed, "shop"), edits, "{typed}");
        }
    }

    #[test]
    fn every_synonym_of_the_design_leads_to_our_word() {
        for (theirs, ours) in [
            ("proxy_pass", "to"),
            ("upstream", "to"),
            ("backend", "to"),
            ("port", "to"),
            ("target", "to"),
            ("server_name", "host"),
            ("domain", "host"),
            ("hosts", "host"),
            ("location", "[[path]]"),
            ("route", "[[path]]"),
            ("paths", "[[path]]"),
            ("ssl", "tls"),
            ("https", "tls"),
            ("Proxy-Pass", "to"),
        ] {
            assert_eq!(
                guess(Place::Site, theirs),
                Some(Guess::Instead(ours)),
                "{theirs}"
            );
        }
    }

    #[test]
    fn a_misspelt_key_leads_to_the_right_one() {
        for (wrong, right) in [
            ("hsot", "host"),
            ("redirct", "redirect"),
            ("Host", "host"),
            ("alow", "allow"),
            ("nota", "note"),
            ("timeuot", "[timeout]"),
        ] {
            assert_eq!(
                guess(Place::Site, wrong),
                Some(Guess::Instead(right)),
                "{wrong}"
            );
        }
        assert_eq!(guess(Place::Site, "xyzzy"), None);
        assert_eq!(guess(Place::Site, ""), None);
        assert_eq!(guess(Place::Site, &"t".repeat(10_000)), None);
    }

    #[test]
    fn a_key_in_the_wrong_place_is_told_its_place() {
        assert_eq!(
            unknown(Place::Timeout, "sticky", Some(("[timeout]", 9))),
            "\"sticky\" belongs above [timeout], line 9"
        );
        assert_eq!(
            unknown(Place::Site, "first_byte", None),
            "\"first_byte\" belongs in [timeout]"
        );
        assert_eq!(unknown(Place::Site, "zzz", None), "unknown key \"zzz\"");
        for (place, name, header, said) in [
            (
                Place::DoorLimit,
                "statte",
                Some(("[limit]", 9)),
                "did you mean \"state\", which belongs above [limit], line 9?",
            ),
            (
                Place::Site,
                "first_bite",
                None,
                "did you mean \"first_byte\", which belongs in [timeout]?",
            ),
        ] {
            let unknown = unknown(place, name, header);
            assert_eq!(unknown, format!("unknown key {name:?}, {said}"));
        }
    }

    #[test]
    fn synonyms_are_no_keys() {
        for (place, words, _) in SYNONYMS {
            for word in *words {
                assert!(
                    find(*place, word).is_none_or(|key| key.status == Status::Planned),
                    "{place:?} {word}"
                );
            }
        }
    }
}
