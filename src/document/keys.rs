//! The table of keys: every key of a site file and of the daemon file, where it belongs and what it is for.
//!
//! Reading, "did you mean", defaults and the README's reference come from this one table. What a value means is
//! read by `site::file` and `settings`.

use std::fmt::Write;

/// A table of a file, which is where keys belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A site file, above its first table.
    Site,
    /// `[[path]]`
    Path,
    /// An entry of `to` that is a table.
    Backend,
    Redirect,
    Respond,
    Tls,
    Drain,
    Limit,
    Timeout,
    Headers,
    /// `[headers.request]` and `[headers.response]`
    Edits,
    /// onedoor.toml, above its first table.
    Daemon,
    Trust,
    DoorLimit,
    DoorTimeout,
    Log,
    Defaults,
}

impl Place {
    const SITE: [Place; 11] = [
        Place::Site,
        Place::Path,
        Place::Backend,
        Place::Redirect,
        Place::Respond,
        Place::Tls,
        Place::Drain,
        Place::Limit,
        Place::Timeout,
        Place::Headers,
        Place::Edits,
    ];
    const DAEMON: [Place; 6] = [
        Place::Daemon,
        Place::DoorTimeout,
        Place::DoorLimit,
        Place::Trust,
        Place::Log,
        Place::Defaults,
    ];

    /// How the place is written in a file.
    pub fn title(self) -> &'static str {
        match self {
            Place::Site | Place::Daemon => "the top of the file",
            Place::Path => "[[path]]",
            Place::Backend => "an entry of to",
            Place::Redirect => "redirect",
            Place::Respond => "respond",
            Place::Tls => "[tls]",
            Place::Drain => "drain",
            Place::Limit | Place::DoorLimit => "[limit]",
            Place::Timeout | Place::DoorTimeout => "[timeout]",
            Place::Headers => "[headers]",
            Place::Edits => "[headers.request] or [headers.response]",
            Place::Trust => "[trust]",
            Place::Log => "[log]",
            Place::Defaults => "[defaults]",
        }
    }

    fn is_top(self) -> bool {
        matches!(self, Place::Site | Place::Daemon)
    }

    /// The places of the same file.
    fn neighbours(self) -> &'static [Place] {
        if Place::DAEMON.contains(&self) {
            &Place::DAEMON
        } else {
            &Place::SITE
        }
    }
}

/// What a value may be in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A text or a list of texts.
    Texts,
    Flag,
    Count,
    Duration,
    /// A duration, or "off".
    DurationOrOff,
    Size,
    SizeOrOff,
    /// A table with keys of this place.
    Table(Place),
    /// `[[...]]`
    Tables(Place),
    TextOrTable(Place),
    TextNumberOrTable(Place),
    /// A number, a text, a table, or a list of these.
    Backends,
    /// A number, a text, or a list of these.
    Listeners,
    /// Any names; values are texts, `{ file = "..." }` or lists of these.
    Fields,
    /// Whatever: the key is not built yet.
    Anything,
}

impl Kind {
    pub fn words(self) -> &'static str {
        match self {
            Kind::Text => "a text",
            Kind::Texts => "a text or a list of texts",
            Kind::Flag => "true or false",
            Kind::Count => "a whole number",
            Kind::Duration => "a duration such as \"30s\"",
            Kind::DurationOrOff => "a duration such as \"30s\", or \"off\"",
            Kind::Size => "a size such as \"8kb\"",
            Kind::SizeOrOff => "a size such as \"10mb\", or \"off\"",
            Kind::Table(_) => "a table",
            Kind::Tables(_) => "a list of tables, written [[...]]",
            Kind::TextOrTable(_) => "a text or a table",
            Kind::TextNumberOrTable(_) => "a text, a number or a table",
            Kind::Backends => "a port, an address, or a list of these",
            Kind::Listeners => "a port, an address, or a list of these",
            Kind::Fields => "a table of header names and values",
            Kind::Anything => "a value",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Built,
    /// Known, refused with these words, so that nobody believes it is in force.
    Planned,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub place: Place,
    pub kind: Kind,
    /// As one would write it; empty when there is none.
    pub default: &'static str,
    /// One line for the reference.
    pub about: &'static str,
    /// Why the default is what it is; empty when it needs no reason.
    pub reason: &'static str,
    pub status: Status,
}

const fn key(
    place: Place,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        place,
        kind,
        default,
        about,
        reason: "",
        status: Status::Built,
    }
}

const fn planned(place: Place, name: &'static str) -> Key {
    Key {
        name,
        place,
        kind: Kind::Anything,
        default: "",
        about: "",
        reason: "",
        status: Status::Planned,
    }
}

impl Key {
    const fn because(mut self, reason: &'static str) -> Key {
        self.reason = reason;
        self
    }
}

/// Every key, in the order of the reference.
pub const KEYS: &[Key] = &[
    key(
        Place::Site,
        "host",
        Kind::Texts,
        "the file's name, when that is a hostname",
        "who may ask: `shop.example.com`, `*.shop.example.com` (one label), an IP address, `*` (see `catch_all`)",
    ),
    key(
        Place::Site,
        "to",
        Kind::Backends,
        "",
        "where requests go: `5000`, `\"10.0.0.7:5000\"`, `\"app.internal:5000\"`, `\"unix:/run/shop.sock\"`, or a list, taken in turn",
    ),
    key(
        Place::Site,
        "redirect",
        Kind::TextOrTable(Place::Redirect),
        "",
        "sends the client elsewhere; path and query are kept when the target has no path",
    ),
    key(
        Place::Site,
        "respond",
        Kind::TextNumberOrTable(Place::Respond),
        "",
        "an answer from here: a body, a status, or both",
    ),
    key(
        Place::Site,
        "redirect_from",
        Kind::Texts,
        "",
        "names to claim and to send to the first `host` with 308",
    ),
    key(
        Place::Site,
        "allow",
        Kind::Texts,
        "everybody",
        "client networks that may ask, `\"10.0.0.0/8\"`; 403 for others",
    ),
    key(
        Place::Site,
        "send_host",
        Kind::Text,
        "\"keep\"",
        "the Host a backend is sent: `\"keep\"`, `\"backend\"` or a name",
    )
    .because("apps build links and cookies from the name the client asked for"),
    key(
        Place::Site,
        "drain",
        Kind::TextOrTable(Place::Drain),
        "\"30s\"",
        "how long open work may go on when the site is removed; a table says more",
    ),
    key(
        Place::Site,
        "tls",
        Kind::TextOrTable(Place::Tls),
        "\"auto\"",
        "`\"off\"` or `\"auto\"`; the same until TLS is there",
    ),
    key(
        Place::Site,
        "note",
        Kind::Text,
        "",
        "your own words, shown by `onedoor ls`",
    ),
    key(
        Place::Site,
        "path",
        Kind::Tables(Place::Path),
        "",
        "refines the site below a path",
    ),
    key(
        Place::Site,
        "limit",
        Kind::Table(Place::Limit),
        "",
        "bounds on size",
    ),
    key(
        Place::Site,
        "timeout",
        Kind::Table(Place::Timeout),
        "",
        "bounds on time",
    ),
    key(
        Place::Site,
        "headers",
        Kind::Table(Place::Headers),
        "",
        "changes to heads",
    ),
    planned(Place::Site, "balance"),
    planned(Place::Site, "sticky"),
    planned(Place::Site, "hold"),
    planned(Place::Site, "send_proxy"),
    planned(Place::Site, "health"),
    planned(Place::Site, "retry"),
    planned(Place::Site, "buffer"),
    key(
        Place::Path,
        "match",
        Kind::Text,
        "",
        "`\"/api\"` covers `/api` and what is below it; `\"=/health\"` only itself",
    ),
    key(
        Place::Path,
        "strip",
        Kind::Flag,
        "false",
        "remove the matched prefix and send it as X-Forwarded-Prefix",
    ),
    key(
        Place::Path,
        "allow",
        Kind::Texts,
        "the site's",
        "takes the place of the site's `allow`",
    ),
    key(
        Place::Path,
        "to",
        Kind::Backends,
        "the site's",
        "as in the site",
    ),
    key(
        Place::Path,
        "redirect",
        Kind::TextOrTable(Place::Redirect),
        "",
        "as in the site",
    ),
    key(
        Place::Path,
        "respond",
        Kind::TextNumberOrTable(Place::Respond),
        "",
        "as in the site",
    ),
    key(Place::Backend, "at", Kind::Text, "", "the address"),
    planned(Place::Backend, "weight"),
    planned(Place::Backend, "backup"),
    key(
        Place::Redirect,
        "to",
        Kind::Text,
        "",
        "`\"https://www.example.com\"`, with a path or without, or a path alone",
    ),
    key(
        Place::Redirect,
        "status",
        Kind::Count,
        "308",
        "301, 302, 303, 307 or 308",
    )
    .because("a moved POST stays a POST"),
    key(Place::Respond, "status", Kind::Count, "200", "200 to 599"),
    key(Place::Respond, "body", Kind::Text, "", "the text to send"),
    key(
        Place::Respond,
        "file",
        Kind::Text,
        "",
        "or a file with the body, up to 4 MiB, read when the site file is",
    ),
    key(
        Place::Respond,
        "type",
        Kind::Text,
        "by the file's name, else \"text/plain; charset=utf-8\"",
        "Content-Type",
    ),
    key(
        Place::Drain,
        "edit",
        Kind::Text,
        "\"never\"",
        "how long open work may go on when the site is edited",
    )
    .because("an edit should disturb nobody"),
    key(
        Place::Drain,
        "remove",
        Kind::Duration,
        "\"30s\"",
        "the same when it is removed; `\"0s\"` cuts at once",
    ),
    key(
        Place::Tls,
        "mode",
        Kind::Text,
        "\"auto\"",
        "the same as `tls = \"...\"`",
    ),
    planned(Place::Tls, "cert"),
    planned(Place::Tls, "key"),
    planned(Place::Tls, "client"),
    planned(Place::Tls, "min"),
    planned(Place::Tls, "http"),
    key(
        Place::Limit,
        "body",
        Kind::SizeOrOff,
        "\"off\"",
        "bytes of a request body; 413 beyond",
    )
    .because("the app decides; nothing is buffered here"),
    planned(Place::Limit, "rate"),
    planned(Place::Limit, "max"),
    planned(Place::Limit, "queue"),
    key(
        Place::Timeout,
        "connect",
        Kind::Duration,
        "\"5s\"",
        "until a backend accepts",
    )
    .because("one that needs longer is not there"),
    key(
        Place::Timeout,
        "first_byte",
        Kind::Duration,
        "\"120s\"",
        "from the request to the first byte of the response",
    )
    .because("slow apps are common, dead ones are found by connect and health"),
    key(
        Place::Timeout,
        "idle",
        Kind::Duration,
        "\"60s\"",
        "between two bytes of a body, either way",
    ),
    key(
        Place::Timeout,
        "websocket_idle",
        Kind::DurationOrOff,
        "\"off\"",
        "between two bytes of an upgraded connection",
    ),
    key(
        Place::Timeout,
        "total",
        Kind::DurationOrOff,
        "\"off\"",
        "a whole request",
    )
    .because("the app decides"),
    key(
        Place::Timeout,
        "pool_idle",
        Kind::Duration,
        "\"4s\"",
        "how long an idle upstream is kept",
    )
    .because("Node closes after 5 s, gunicorn after 2"),
    key(
        Place::Headers,
        "via",
        Kind::Flag,
        "true",
        "whether requests carry Via; nginx backends stop compressing when they see it",
    ),
    key(
        Place::Headers,
        "request",
        Kind::Table(Place::Edits),
        "",
        "changes to what backends are sent",
    ),
    key(
        Place::Headers,
        "response",
        Kind::Table(Place::Edits),
        "",
        "changes to what clients are sent",
    ),
    key(
        Place::Edits,
        "remove",
        Kind::Texts,
        "",
        "names of headers to remove; done first",
    ),
    key(
        Place::Edits,
        "set",
        Kind::Fields,
        "",
        "headers to replace: `X-Env = \"live\"`; a value may be `{ file = \"secret\" }`",
    ),
    key(
        Place::Edits,
        "add",
        Kind::Fields,
        "",
        "headers to add beside what is there",
    ),
    key(
        Place::Daemon,
        "listen",
        Kind::Listeners,
        "\"127.0.0.1:8080\"",
        "where to listen, one or a list; `8080` and `\":8080\"` mean all IPv4 interfaces",
    ),
    key(
        Place::Daemon,
        "sites",
        Kind::Text,
        "\"./sites.d\"",
        "the sites directory",
    ),
    key(
        Place::Daemon,
        "state",
        Kind::Text,
        "$STATE_DIRECTORY, else below $XDG_STATE_HOME or ~/.local/state",
        "last good versions and claims; never inside `sites`",
    ),
    key(
        Place::Daemon,
        "admin",
        Kind::Text,
        "in the state directory",
        "the socket that `ls` and `wait` talk to",
    ),
    key(
        Place::Daemon,
        "workers",
        Kind::Count,
        "one per core",
        "threads that serve connections",
    ),
    key(
        Place::Daemon,
        "watch",
        Kind::Text,
        "\"auto\"",
        "`\"auto\"`, `\"events\"` or `\"poll 2s\"`",
    ),
    key(
        Place::Daemon,
        "catch_all",
        Kind::Text,
        "",
        "the one site that may claim `host = \"*\"`",
    ),
    key(
        Place::Daemon,
        "files_under",
        Kind::Texts,
        "the sites directory",
        "folders, besides the sites directory, whose files a site file may point at",
    ),
    key(
        Place::Daemon,
        "sockets_under",
        Kind::Texts,
        "anywhere",
        "folders whose sockets a site file may point at",
    ),
    key(
        Place::Daemon,
        "allow_link_local",
        Kind::Flag,
        "false",
        "whether 169.254.0.0/16 and fe80::/10 may be backends",
    )
    .because("clouds hand out credentials there"),
    key(
        Place::Daemon,
        "timeout",
        Kind::Table(Place::DoorTimeout),
        "",
        "bounds on time before a site is known",
    ),
    key(
        Place::Daemon,
        "limit",
        Kind::Table(Place::DoorLimit),
        "",
        "bounds on size and number before a site is known",
    ),
    key(
        Place::Daemon,
        "trust",
        Kind::Table(Place::Trust),
        "",
        "who is believed",
    ),
    key(
        Place::Daemon,
        "log",
        Kind::Table(Place::Log),
        "",
        "what is told, and how",
    ),
    key(
        Place::Daemon,
        "defaults",
        Kind::Table(Place::Defaults),
        "",
        "site keys, for sites that do not set them",
    ),
    planned(Place::Daemon, "certificates"),
    key(
        Place::DoorTimeout,
        "opening",
        Kind::Duration,
        "\"10s\"",
        "from accept to the first bytes",
    )
    .because("no site is known yet, so no app needs more"),
    key(
        Place::DoorTimeout,
        "head",
        Kind::Duration,
        "\"10s\"",
        "for a whole request head, however slowly it comes",
    )
    .because("slowloris"),
    key(
        Place::DoorTimeout,
        "idle",
        Kind::Duration,
        "\"75s\"",
        "between two requests of a connection",
    )
    .because("as nginx"),
    key(
        Place::DoorTimeout,
        "drain",
        Kind::Duration,
        "\"30s\"",
        "how long open work may go on after SIGTERM",
    ),
    key(
        Place::DoorLimit,
        "line",
        Kind::Size,
        "\"8kb\"",
        "the request line",
    )
    .because("Kestrel's and nginx's order of size"),
    key(
        Place::DoorLimit,
        "field",
        Kind::Size,
        "\"16kb\"",
        "one header field",
    ),
    key(
        Place::DoorLimit,
        "fields",
        Kind::Count,
        "100",
        "number of header fields, at most 128",
    ),
    key(
        Place::DoorLimit,
        "head",
        Kind::Size,
        "\"32kb\"",
        "a whole request head, at most 60kb",
    ),
    key(
        Place::DoorLimit,
        "connections",
        Kind::Count,
        "40 % of the file descriptors",
        "client connections open at once",
    )
    .because("a proxied connection needs two descriptors"),
    key(
        Place::DoorLimit,
        "per_client",
        Kind::Count,
        "a quarter of connections",
        "the same from one address; loopback and `[trust]` are exempt",
    )
    .because("NAT and CDNs"),
    key(
        Place::Trust,
        "proxies",
        Kind::Texts,
        "nobody",
        "networks whose X-Forwarded-* are believed",
    ),
    planned(Place::Trust, "proxy_protocol"),
    key(
        Place::Log,
        "level",
        Kind::Text,
        "\"info\"",
        "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"`, or a tracing filter",
    ),
    key(
        Place::Log,
        "format",
        Kind::Text,
        "\"text\"",
        "`\"text\"` or `\"json\"`",
    ),
    key(
        Place::Log,
        "color",
        Kind::Text,
        "\"auto\"",
        "`\"auto\"`, `\"always\"` or `\"never\"`",
    ),
    key(
        Place::Defaults,
        "send_host",
        Kind::Text,
        "",
        "as in a site file",
    ),
    key(
        Place::Defaults,
        "drain",
        Kind::TextOrTable(Place::Drain),
        "",
        "as in a site file",
    ),
    key(
        Place::Defaults,
        "limit",
        Kind::Table(Place::Limit),
        "",
        "as in a site file",
    ),
    key(
        Place::Defaults,
        "timeout",
        Kind::Table(Place::Timeout),
        "",
        "as in a site file",
    ),
    key(
        Place::Defaults,
        "headers",
        Kind::Table(Place::Headers),
        "",
        "as in a site file",
    ),
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

/// The key `name` of `place`.
pub fn find(place: Place, name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.place == place && key.name == name)
}

/// What somebody who wrote an unknown key probably meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Another word in the same place, as it is written there.
    Instead(&'static str),
    /// The same word in another place.
    Elsewhere(Place),
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
}

fn elsewhere(place: Place, name: &str) -> Option<Place> {
    // Keys of small inline tables ("status", "file", "at") are no hint; nor is one level of the same thing another.
    let others = place.neighbours().iter().copied().filter(|&other| {
        other != place
            && !matches!(
                other,
                Place::Backend | Place::Redirect | Place::Respond | Place::Drain
            )
    });
    others
        .into_iter()
        .find(|&other| find(other, name).is_some())
}

fn written(key: &'static Key) -> &'static str {
    match (key.name, key.kind) {
        ("path", _) => "[[path]]",
        ("limit", Kind::Table(_)) => "[limit]",
        ("timeout", Kind::Table(_)) => "[timeout]",
        ("headers", Kind::Table(_)) => "[headers]",
        ("log", Kind::Table(_)) => "[log]",
        ("trust", Kind::Table(_)) => "[trust]",
        (name, _) => name,
    }
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().take(64).collect());
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
    match (guess(place, name), header) {
        (Some(Guess::Instead(ours)), _) => {
            format!("unknown key {name:?}, did you mean {}?", quoted(ours))
        }
        (Some(Guess::Elsewhere(other)), Some((header, line))) if other.is_top() => {
            format!("{name:?} belongs above {header}, line {line}")
        }
        (Some(Guess::Elsewhere(other)), _) => format!("{name:?} belongs in {}", other.title()),
        (None, _) => format!("unknown key {name:?}"),
    }
}

fn quoted(word: &str) -> String {
    if word.starts_with('[') {
        word.to_owned()
    } else {
        format!("{word:?}")
    }
}

/// The reference of both files, in Markdown, for the README.
pub fn reference() -> String {
    let mut text = String::new();
    let files = [
        ("A site file", &Place::SITE[..]),
        ("onedoor.toml", &Place::DAEMON[..]),
    ];
    for (title, places) in files {
        text.push_str(&format!("### {title}\n\n"));
        for &place in places {
            write_place(&mut text, place);
        }
    }
    text
}

fn write_place(text: &mut String, place: Place) {
    let code = if place.is_top() {
        place.title().to_owned()
    } else {
        format!("`{}`", place.title())
    };
    text.push_str(&format!(
        "| {code} | default | what it does |\n|---|---|---|\n"
    ));
    for key in KEYS
        .iter()
        .filter(|key| key.place == place && key.status == Status::Built)
    {
        let default = match key.default {
            "" => String::new(),
            code if code.starts_with('"')
                && code.matches('"').count() == 2
                && code.ends_with('"') =>
            {
                format!("`{code}`")
            }
            "true" | "false" => format!("`{}`", key.default),
            words => words.to_owned(),
        };
        let reason = if key.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", key.reason)
        };
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "| `{}` | {default} | {}{reason} |",
            key.name, key.about
        );
        debug_assert!(written.is_ok());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn names_are_unique_in_a_place_and_synonyms_are_no_keys() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(
                !KEYS[..at]
                    .iter()
                    .any(|k| k.place == key.place && k.name == key.name),
                "{key:?}"
            );
            assert!(
                key.status == Status::Planned || !key.about.is_empty(),
                "{key:?}"
            );
        }
        for (place, words, _) in SYNONYMS {
            for word in *words {
                assert!(
                    find(*place, word).is_none_or(|key| key.status == Status::Planned),
                    "{place:?} {word}"
                );
            }
        }
    }

    #[test]
    fn the_reference_names_every_key_that_is_built() {
        let text = reference();
        for key in KEYS {
            assert_eq!(
                text.contains(&format!("| `{}` |", key.name)),
                KEYS.iter()
                    .any(|k| k.name == key.name && k.status == Status::Built),
                "{key:?}"
            );
        }
    }
}
