//! The text of a site file -> a [`Site`], or every reason why not, each with its place.
//!
//! Shape and spelling of keys are checked by [`crate::document`]; here is what the values mean. Knows no other site:
//! who owns a name is decided where all files are known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::backend::{Address, LinkLocal};
use super::fence::Fence;
use super::headers::{self, is_field_value};
use super::hostname::{HostBuffer, HostPattern, Hostname, authority};
use super::path::PathPattern;
use super::{
    Action, Allow, Backends, Claim, ClaimRole, DrainPolicy, HeaderEdits, PathRule, Redirect,
    Respond, SendHost, Site, SiteDocument, SiteName,
};
use crate::document::keys::Place;
use crate::document::units;
use crate::document::{Excerpt, Problem, Reader, Span, Table, Value, integer, one_or_more};
use crate::limits::{RESPOND_FILE_BYTES, SiteLimits, SiteTimeouts};

/// What the daemon file says about all site files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub sites: PathBuf,
    /// The one site that may claim `*`.
    pub catch_all: Option<SiteName>,
    /// Folders, besides `sites`, whose files a site file may point at.
    pub files_under: Vec<PathBuf>,
    /// `None`: sockets may be anywhere.
    pub sockets_under: Option<Vec<PathBuf>>,
    pub allow_link_local: bool,
    /// Our own addresses, which are no backends.
    pub listen: Vec<SocketAddr>,
    pub defaults: Defaults,
    /// Whose text may be shown in errors.
    pub excerpts: Excerpts,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            sites: "sites.d".into(),
            catch_all: None,
            files_under: Vec::new(),
            sockets_under: None,
            allow_link_local: false,
            listen: Vec::new(),
            defaults: Defaults::default(),
            excerpts: Excerpts::InsideSites,
        }
    }
}

/// Which files are quoted in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excerpts {
    /// Those that really are in the sites directory: a link must not make onedoor read others aloud.
    InsideSites,
    /// All: the person who asks could read the file himself (`check PATH`).
    Always,
}

/// What sites have that do not say otherwise: `[defaults]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Defaults {
    pub limits: SiteLimits,
    pub timeouts: SiteTimeouts,
    /// Applied in front of a site's own.
    pub headers: HeaderEdits,
    pub drain: DrainPolicy,
    pub send_host: SendHost,
}

/// A site that can go live.
#[derive(Debug)]
pub struct Accepted {
    pub site: Site,
    pub warnings: Vec<Problem>,
    /// Other files it was made from: bodies of `respond`, values of headers. It changes when they do.
    pub files: Vec<PathBuf>,
}

/// Reads a site file. `Site::number` and `Site::version` are left 0 for `reload` to give.
///
/// # Errors
/// Everything that is wrong with the file, at least one error among it.
pub fn read(document: &SiteDocument, rules: &Rules) -> Result<Accepted, Vec<Problem>> {
    let excerpt = excerpt(document, rules);
    let (reader, table) = Reader::open(&document.text, &document.origin, excerpt, Place::Site);
    let fence = Fence {
        folder: document.real.parent().unwrap_or(Path::new("")),
        sites: &rules.sites,
        files_under: &rules.files_under,
        sockets_under: rules.sockets_under.as_deref(),
    };
    let mut file = SiteFile {
        reader,
        name: &document.name,
        rules,
        fence,
        files: Vec::new(),
    };
    let site = file.site(&table);
    let SiteFile { reader, files, .. } = file;
    match (site, reader.has_errors()) {
        (Some(site), false) => Ok(Accepted {
            site,
            warnings: reader.finish(),
            files,
        }),
        _ => Err(reader.finish()),
    }
}

/// Whether problems of a document may show its text.
pub fn excerpt(document: &SiteDocument, rules: &Rules) -> Excerpt {
    let inside = || {
        document.real.starts_with(&rules.sites)
            || rules
                .sites
                .canonicalize()
                .is_ok_and(|sites| document.real.starts_with(sites))
    };
    match rules.excerpts {
        Excerpts::Always => Excerpt::Shown,
        Excerpts::InsideSites if inside() => Excerpt::Shown,
        Excerpts::InsideSites => Excerpt::Hidden,
    }
}

/// One site file while it is read.
struct SiteFile<'a, 't> {
    reader: Reader<'t>,
    name: &'a SiteName,
    rules: &'a Rules,
    fence: Fence<'a>,
    files: Vec<PathBuf>,
}

impl<'t> SiteFile<'_, 't> {
    /// `None` when there is nothing a site could be made of; then there are errors.
    fn site(&mut self, table: &Table<'t>) -> Option<Site> {
        let claims = self.claims(table);
        let action = self.action(table);
        let paths = self.paths(table);
        if action.is_none() && !paths.iter().any(|rule| rule.action.is_some()) && !has_action(table)
        {
            self.reader.missing(
                0..0,
                "the site has no \"to\", no \"redirect\" and no \"respond\"",
                "write to = 5000",
            );
        }
        self.tls(table);
        let defaults = &self.rules.defaults;
        let headers = match inner(table, "headers") {
            Some(table) => headers::read(
                &mut self.reader,
                table,
                &self.fence,
                &defaults.headers,
                &mut self.files,
            ),
            None => defaults.headers.clone(),
        };
        let site = Site {
            name: self.name.clone(),
            number: 0,
            version: 0,
            action,
            allow: self.allow(table),
            paths: paths.into(),
            send_host: read_send_host(&mut self.reader, table, &defaults.send_host),
            headers,
            limits: read_limits(&mut self.reader, table, &defaults.limits),
            timeouts: read_timeouts(&mut self.reader, table, &defaults.timeouts),
            drain: read_drain(&mut self.reader, table, &defaults.drain),
            note: self.note(table),
            claims: claims.into(),
        };
        (!site.claims.is_empty()).then_some(site)
    }

    // Names.

    fn claims(&mut self, table: &Table<'t>) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut lines = HashMap::new();
        match self.reader.texts(table, "host") {
            Some(hosts) => {
                if hosts.is_empty()
                    && let Some(value) = table.get("host")
                {
                    self.reader.error(
                        value.span(),
                        "\"host\" is an empty list, so nobody could ask for this site",
                    );
                }
                for (text, span) in hosts {
                    self.claim(&mut claims, &mut lines, text, span, ClaimRole::Serve);
                }
            }
            // Of the wrong shape, and said so.
            None if table.contains_key("host") => {}
            None => {
                claims.extend(self.claim_by_file_name());
                lines.extend(
                    claims
                        .iter()
                        .map(|claim: &Claim| (claim.pattern.clone(), claim.line)),
                );
            }
        }
        let from = self
            .reader
            .texts(table, "redirect_from")
            .unwrap_or_default();
        if let Some((_, span)) = from.first()
            && let Some(first) = claims.first()
            && !matches!(first.pattern, HostPattern::Exact(_))
        {
            let first = first.pattern.to_string();
            self.reader.error(
                span.clone(),
                format!("\"redirect_from\" sends clients to the first host, and {first:?} is not one name"),
            );
        }
        for (text, span) in from {
            self.claim(
                &mut claims,
                &mut lines,
                text,
                span,
                ClaimRole::RedirectToFirst,
            );
        }
        claims
    }

    fn claim_by_file_name(&mut self) -> Option<Claim> {
        let stem = self.name.as_str().rsplit('/').next().unwrap_or_default();
        // A name without a dot ("shop") is more likely no host at all than one of the local network.
        let named = Hostname::parse(stem).ok().filter(|_| stem.contains('.'));
        if named.is_none() {
            let help = "write host = \"shop.example.com\", or give the file that name with .toml behind it";
            self.reader.missing(0..0, "the site has no \"host\"", help);
        }
        named.map(|name| Claim {
            pattern: HostPattern::Exact(name),
            role: ClaimRole::Serve,
            line: 1,
            column: 1,
        })
    }

    /// `lines` has the line in which each pattern was claimed first.
    fn claim(
        &mut self,
        claims: &mut Vec<Claim>,
        lines: &mut HashMap<HostPattern, u32>,
        text: &str,
        span: Span,
        role: ClaimRole,
    ) {
        let pattern = match HostPattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => return self.reader.error(span, format!("{text:?}: {error}")),
        };
        if pattern == HostPattern::Any && !self.may_claim_any(&span, role) {
            return;
        }
        let (line, column) = self.reader.place_of(span.start);
        if let Some(first) = lines.get(&pattern) {
            let message = format!("\"{pattern}\" is claimed twice, first in line {first}");
            return self.reader.error(span, message);
        }
        lines.insert(pattern.clone(), line);
        claims.push(Claim {
            pattern,
            role,
            line,
            column,
        });
    }

    fn may_claim_any(&mut self, span: &Span, role: ClaimRole) -> bool {
        let message = match &self.rules.catch_all {
            _ if role == ClaimRole::RedirectToFirst => {
                "\"*\" cannot stand in redirect_from".to_owned()
            }
            Some(named) if named == self.name => return true,
            Some(named) => format!(
                "\"*\" may only be claimed by the site \"{named}\", as catch_all in onedoor.toml says"
            ),
            None => format!("\"*\" needs catch_all = \"{}\" in onedoor.toml", self.name),
        };
        self.reader.error(span.clone(), message);
        false
    }

    // What answers.

    /// The one of `to`, `redirect` and `respond` that is there.
    fn action(&mut self, table: &Table<'t>) -> Option<Action> {
        let mut there: Vec<(&str, Span)> = table
            .iter()
            .filter(|(name, _)| ACTIONS.contains(&name.get_ref().as_ref()))
            .map(|(name, _)| (name.get_ref().as_ref(), name.span()))
            .collect();
        there.sort_by_key(|(_, span)| span.start);
        if let [(first, first_span), (second, span), ..] = &there[..] {
            let line = self.reader.line_of(first_span);
            let message = format!(
                "{second:?} beside {first:?} in line {line}: only one of to, redirect, respond can answer"
            );
            self.reader.error(span.clone(), message);
        }
        let (name, _) = there.first()?;
        let value = table.get(*name)?;
        match *name {
            "to" => self.backends(value).map(Action::Proxy),
            "redirect" => self.redirect(value).map(Action::Redirect),
            _ => self.respond(value).map(Action::Respond),
        }
    }

    fn backends(&mut self, value: &Value<'t>) -> Option<Backends> {
        let mut list: Vec<Address> = Vec::new();
        for entry in one_or_more(value) {
            let Some(address) = self.backend(entry) else {
                continue;
            };
            if list.contains(&address) {
                self.reader
                    .warning(entry.span(), format!("{address} is listed twice"));
            }
            list.push(address);
        }
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            self.reader.error(value.span(), "\"to\" is an empty list");
        }
        (!list.is_empty()).then(|| Backends { list: list.into() })
    }

    fn backend(&mut self, entry: &Value<'t>) -> Option<Address> {
        if let Some(number) = integer(entry.get_ref()) {
            return match u16::try_from(number) {
                Ok(port) if port > 0 => self.admit(Address::loopback(port), entry.span()),
                _ => {
                    self.reader
                        .error(entry.span(), "a port is a number from 1 to 65535");
                    None
                }
            };
        }
        if let Some(table) = entry.get_ref().as_table() {
            let Some(at) = table.get("at") else {
                self.reader.missing(
                    entry.span(),
                    "the entry has no \"at\"",
                    "write { at = \"10.0.0.7:5000\" }",
                );
                return None;
            };
            return self.backend(at);
        }
        let text = entry.get_ref().as_str()?;
        let link_local = if self.rules.allow_link_local {
            LinkLocal::Allowed
        } else {
            LinkLocal::Refused
        };
        match Address::parse(text, self.fence.folder, link_local) {
            Ok(address) => self.admit(address, entry.span()),
            Err(error) => {
                self.reader.error_with_help(
                    entry.span(),
                    format!("{text:?}: {error}"),
                    error.help(),
                );
                None
            }
        }
    }

    /// Refuses our own addresses and sockets outside the fence.
    fn admit(&mut self, address: Address, span: Span) -> Option<Address> {
        if let Some(own) = self
            .rules
            .listen
            .iter()
            .find(|listen| is_own(&address, listen))
        {
            self.reader.error(span, format!("{address} is where onedoor itself listens ({own}), requests would go round in circles"));
            return None;
        }
        if let Address::Unix(path) = &address
            && !self.fence.admits_socket(path)
        {
            let message = format!(
                "the socket {} lies outside of sockets_under in onedoor.toml",
                path.display()
            );
            self.reader.error(span, message);
            return None;
        }
        Some(address)
    }

    fn redirect(&mut self, value: &Value<'t>) -> Option<Redirect> {
        let (to, span, status) = match value.get_ref().as_table() {
            None => (value.get_ref().as_str()?, value.span(), None),
            Some(table) => {
                let status = table.get("status");
                let Some((to, span)) = self.reader.text(table, "to") else {
                    self.reader.missing(
                        value.span(),
                        "the redirect has no \"to\"",
                        "write to = \"https://www.example.com\"",
                    );
                    return None;
                };
                (to, span, status)
            }
        };
        let status = match status {
            None => 308,
            Some(value) => match integer(value.get_ref())? {
                status @ (301 | 302 | 303 | 307 | 308) => status as u16,
                _ => {
                    self.reader.error(
                        value.span(),
                        "a redirect's status is 301, 302, 303, 307 or 308",
                    );
                    return None;
                }
            },
        };
        match read_location(to) {
            Ok(keep_path) => Some(Redirect {
                location: to.into(),
                keep_path,
                status,
            }),
            Err(message) => {
                self.reader.error(span, format!("{to:?}: {message}"));
                None
            }
        }
    }

    fn respond(&mut self, value: &Value<'t>) -> Option<Respond> {
        let plain = |status, body: &str| Respond {
            status,
            content_type: PLAIN_TEXT.into(),
            body: body.as_bytes().into(),
        };
        if let Some(body) = value.get_ref().as_str() {
            return Some(plain(200, body));
        }
        let Some(table) = value.get_ref().as_table() else {
            return Some(plain(self.status(value)?, ""));
        };
        let status = match table.get("status") {
            Some(status) => self.status(status)?,
            None => 200,
        };
        let (content_type, body) = match (
            self.reader.text(table, "body"),
            self.reader.text(table, "file"),
        ) {
            (Some(_), Some((_, span))) => {
                self.reader.error(
                    span,
                    "\"file\" beside \"body\": only one of them can be sent",
                );
                return None;
            }
            (None, Some((path, span))) => self.body_file(path, span)?,
            (body, None) => (
                PLAIN_TEXT,
                body.map(|(text, _)| text.as_bytes().to_vec())
                    .unwrap_or_default(),
            ),
        };
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            self.reader.error(
                value.span(),
                format!("an answer with status {status} has no body"),
            );
            return None;
        }
        let content_type = match self.reader.text(table, "type") {
            Some((text, span)) if text.is_empty() || !is_field_value(text.as_bytes()) => {
                self.reader
                    .error(span, format!("{text:?} is not a content type"));
                return None;
            }
            Some((text, _)) => text,
            None => content_type,
        };
        Some(Respond {
            status,
            content_type: content_type.into(),
            body: body.into(),
        })
    }

    fn status(&mut self, value: &Value<'t>) -> Option<u16> {
        let number = integer(value.get_ref())?;
        let status = u16::try_from(number)
            .ok()
            .filter(|status| (200..=599).contains(status));
        if status.is_none() {
            self.reader
                .error(value.span(), "a status is a number from 200 to 599");
        }
        status
    }

    fn body_file(&mut self, text: &str, span: Span) -> Option<(&'static str, Vec<u8>)> {
        let path = self.fence.locate(text);
        match self.fence.read(&path, RESPOND_FILE_BYTES) {
            Ok(body) => {
                let content_type = content_type(&path, &body);
                self.files.push(path);
                Some((content_type, body))
            }
            Err(error) => {
                self.reader
                    .error_about(span, format!("{} {error}", path.display()), path);
                None
            }
        }
    }

    // Paths.

    /// In matching order.
    fn paths(&mut self, table: &Table<'t>) -> Vec<PathRule> {
        let entries = table
            .get("path")
            .and_then(|value| value.get_ref().as_array());
        let mut rules: Vec<PathRule> = Vec::new();
        let mut lines = HashMap::new();
        for entry in entries.into_iter().flatten() {
            let Some(path) = entry.get_ref().as_table() else {
                continue;
            };
            let Some((rule, span)) = self.path(path, entry.span()) else {
                continue;
            };
            let line = self.reader.line_of(&span);
            match lines.entry(rule.pattern.clone()) {
                Entry::Occupied(first) => {
                    let message = format!(
                        "the path \"{}\" is already in line {}",
                        rule.pattern,
                        first.get()
                    );
                    self.reader.error(span, message);
                    continue;
                }
                Entry::Vacant(free) => free.insert(line),
            };
            if rule.action.is_none() && !has_action(path) && !has_action(table) {
                let message = format!(
                    "nothing answers for \"{}\": neither the path nor the site says what",
                    rule.pattern
                );
                self.reader.missing(
                    span.clone(),
                    message,
                    "write to, redirect or respond below it",
                );
            }
            rules.push(rule);
        }
        rules.sort_by(|a, b| a.pattern.order(&b.pattern));
        rules
    }

    /// A rule and the place of its `match`.
    fn path(&mut self, table: &Table<'t>, entry: Span) -> Option<(PathRule, Span)> {
        let action = self.action(table);
        let allow = self.allow(table);
        let Some((text, span)) = self.reader.text(table, "match") else {
            if !table.contains_key("match") {
                self.reader.missing(
                    entry,
                    "the [[path]] has no \"match\"",
                    "write match = \"/api\"",
                );
            }
            return None;
        };
        let pattern = PathPattern::parse(text);
        let pattern = pattern
            .map_err(|error| {
                self.reader
                    .error(span.clone(), format!("{text:?}: {error}"))
            })
            .ok()?;
        let strip = self.reader.flag(table, "strip").unwrap_or(false);
        if strip
            && let Some(value) = table.get("strip")
            && matches!(action, Some(Action::Redirect(_) | Action::Respond(_)))
        {
            let message = "\"strip\" has no effect where nothing is forwarded";
            self.reader.warning(value.span(), message);
        }
        Some((
            PathRule {
                pattern,
                strip,
                action,
                allow,
            },
            span,
        ))
    }

    // The rest.

    fn allow(&mut self, table: &Table<'t>) -> Option<Allow> {
        let networks = self.reader.texts(table, "allow")?;
        if networks.is_empty()
            && let Some(value) = table.get("allow")
        {
            self.reader.error(
                value.span(),
                "\"allow\" is an empty list, so nobody could ask",
            );
        }
        let read = networks
            .into_iter()
            .filter_map(|(text, span)| read_network(&mut self.reader, text, span));
        Some(Allow(read.collect()))
    }

    fn tls(&mut self, table: &Table<'t>) {
        let mode = match inner(table, "tls") {
            Some(tls) => self.reader.text(tls, "mode"),
            None => self.reader.text(table, "tls"),
        };
        match mode {
            None | Some(("off" | "auto", _)) => {}
            Some((text @ ("local" | "files" | "passthrough"), span)) => {
                self.reader.error(
                    span,
                    format!("tls = {text:?} is not there yet: TLS comes in a later version"),
                );
            }
            Some((text, span)) => self.reader.error(
                span,
                format!("{text:?} is no way of TLS, write \"auto\" or \"off\""),
            ),
        }
    }

    fn note(&mut self, table: &Table<'t>) -> Option<Box<str>> {
        let (text, span) = self.reader.text(table, "note")?;
        if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            self.reader.error(span, "a note has no control characters");
        }
        Some(text.into())
    }
}

const ACTIONS: [&str; 3] = ["to", "redirect", "respond"];
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Also when it is misspelt: that is told where it stands, and once.
fn has_action(table: &Table<'_>) -> bool {
    table.keys().any(|name| {
        let meant = crate::document::keys::guess(Place::Site, name.get_ref());
        ACTIONS.iter().any(|action| {
            name.get_ref() == action || meant.is_some_and(|meant| meant.is_instead(action))
        })
    })
}

fn inner<'a, 't>(table: &'a Table<'t>, name: &str) -> Option<&'a Table<'t>> {
    table.get(name)?.get_ref().as_table()
}

/// Whether a backend is one of our own listening addresses. Names are not resolved here; a loop through one is found
/// by its Via.
fn is_own(address: &Address, listen: &SocketAddr) -> bool {
    let own = listen.ip().to_canonical();
    match address {
        Address::Loopback { port } => {
            *port == listen.port() && (own.is_loopback() || own.is_unspecified())
        }
        Address::Ip(backend) => {
            let ip = backend.ip().to_canonical();
            backend.port() == listen.port()
                && (ip == own || own.is_unspecified() && ip.is_loopback())
        }
        Address::Name { .. } | Address::Unix(_) => false,
    }
}

/// An IP address or a network, read as what it can only mean.
pub(crate) fn read_network(reader: &mut Reader<'_>, text: &str, span: Span) -> Option<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(IpNet::from(ip.to_canonical()));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        reader.error(
            span,
            format!("{text:?} is neither an IP address nor a network such as \"10.0.0.0/8\""),
        );
        return None;
    };
    if network.trunc() != network {
        reader.warning(
            span,
            format!(
                "\"{network}\" has bits behind its prefix, it is taken as \"{}\"",
                network.trunc()
            ),
        );
    }
    Some(network.trunc())
}

/// Whether path and query of the request go behind `target`: it is a URL without a path of its own.
fn read_location(target: &str) -> Result<bool, String> {
    const NEITHER: &str = "a redirect goes to https://, http:// or a path";
    if let Some(bad) = target.chars().find(|c| {
        !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    }) {
        return Err(format!("{bad:?} must be percent-encoded in a URL"));
    }
    if target.starts_with('/') && !target.starts_with("//") {
        return Ok(false);
    }
    let lower = target.to_ascii_lowercase();
    let rest = lower
        .strip_prefix("https://")
        .or_else(|| lower.strip_prefix("http://"))
        .ok_or(NEITHER)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let mut buffer = HostBuffer::new();
    authority(&rest.as_bytes()[..end], &mut buffer)
        .map_err(|_| "the URL has no valid host".to_owned())?;
    Ok(end == rest.len())
}

/// By the file's extension; what has none that we know is text if it is UTF-8.
fn content_type(path: &Path, body: &[u8]) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "csv" => "text/csv; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ if std::str::from_utf8(body).is_ok() => PLAIN_TEXT,
        _ => "application/octet-stream",
    }
}

// Keys that [defaults] has too.

pub(crate) fn read_limits(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SiteLimits,
) -> SiteLimits {
    let Some(limit) = inner(table, "limit") else {
        return base.clone();
    };
    SiteLimits {
        body_bytes: reader.size_or_off(limit, "body").unwrap_or(base.body_bytes),
    }
}

pub(crate) fn read_timeouts(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SiteTimeouts,
) -> SiteTimeouts {
    let Some(timeout) = inner(table, "timeout") else {
        return base.clone();
    };
    SiteTimeouts {
        connect: reader.duration(timeout, "connect").unwrap_or(base.connect),
        first_byte: reader
            .duration(timeout, "first_byte")
            .unwrap_or(base.first_byte),
        idle: reader.duration(timeout, "idle").unwrap_or(base.idle),
        websocket_idle: reader
            .duration_or_off(timeout, "websocket_idle")
            .unwrap_or(base.websocket_idle),
        total: reader
            .duration_or_off(timeout, "total")
            .unwrap_or(base.total),
        pool_idle: reader
            .duration(timeout, "pool_idle")
            .unwrap_or(base.pool_idle),
    }
}

pub(crate) fn read_drain(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &DrainPolicy,
) -> DrainPolicy {
    match inner(table, "drain") {
        None => DrainPolicy {
            remove: drain_time(reader, table, "drain").unwrap_or(base.remove),
            ..*base
        },
        Some(drain) => DrainPolicy {
            edit: match reader.text(drain, "edit") {
                None => base.edit,
                Some(("never", _)) => None,
                Some(_) => drain_time(reader, drain, "edit").or(base.edit),
            },
            remove: drain_time(reader, drain, "remove").unwrap_or(base.remove),
        },
    }
}

/// Unlike other durations this may be zero: cut at once.
fn drain_time(reader: &mut Reader<'_>, table: &Table<'_>, name: &str) -> Option<Duration> {
    let (text, span) = reader.text(table, name)?;
    reader.unit(text, &span, units::duration)
}

pub(crate) fn read_send_host(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SendHost,
) -> SendHost {
    match reader.text(table, "send_host") {
        None => base.clone(),
        Some(("keep", _)) => SendHost::Keep,
        Some(("backend", _)) => SendHost::Backend,
        Some((text, span)) => match read_host_field(text) {
            Ok(name) => SendHost::Name(name),
            Err(error) => {
                reader.error(
                    span,
                    format!("{text:?} is neither \"keep\" nor \"backend\" nor a name: {error}"),
                );
                base.clone()
            }
        },
    }
}

/// A name, perhaps with a port, as it stands in a Host field.
fn read_host_field(text: &str) -> Result<Box<str>, super::hostname::HostnameError> {
    let digits =
        |port: &str| !port.is_empty() && port.parse::<u16>().is_ok() && !port.starts_with('+');
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if digits(port) && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port))
        }
        _ => (text, None),
    };
    let name = Hostname::parse(name)?;
    let name = if name.as_str().contains(':') {
        format!("[{name}]")
    } else {
        name.to_string()
    };
    Ok(port
        .map_or(name.clone(), |port| format!("{name}:{port}"))
        .into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::HeaderEdit;
    use super::*;

    fn document(text: &str) -> SiteDocument {
        SiteDocument {
            name: SiteName::new("shop"),
            text: text.to_owned(),
            origin: "sites.d/shop.toml".into(),
            real: "sites.d/shop.toml".into(),
        }
    }

    fn site(text: &str) -> Site {
        match read(&document(text), &Rules::default()) {
            Ok(accepted) => accepted.site,
            Err(problems) => panic!("{problems:#?}"),
        }
    }

    fn errors_with(text: &str, rules: &Rules) -> Vec<String> {
        let problems = match read(&document(text), rules) {
            Ok(accepted) => accepted.warnings,
            Err(problems) => problems,
        };
        problems
            .iter()
            .map(|problem| problem.to_string().replace("sites.d/shop.toml", ""))
            .collect()
    }

    /// The one error of a file whose first two lines are a good host and a good backend.
    fn error(rest: &str) -> String {
        let mut errors = errors_with(
            &format!("host = 'a.test'\nto = 5000\n{rest}"),
            &Rules::default(),
        );
        assert_eq!(errors.len(), 1, "{rest}: {errors:#?}");
        errors.remove(0)
    }

    fn proxied(site: &Site) -> Vec<String> {
        match &site.action {
            Some(Action::Proxy(backends)) => backends.list.iter().map(Address::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_lines_are_a_site() {
        let site = site("host = \"Shop.Example.com.\"\nto   = 5000\n");
        assert_eq!(site.claims.len(), 1);
        assert_eq!(site.claims[0].pattern.to_string(), "shop.example.com");
        assert_eq!((site.claims[0].line, site.claims[0].column), (1, 8));
        assert_eq!(proxied(&site), ["localhost:5000"]);
        assert_eq!((site.limits, site.timeouts, site.drain), Default::default());
        assert_eq!((site.headers, site.send_host), Default::default());
    }

    #[test]
    fn every_key_has_its_effect() {
        let site = site(
            r#"
            host = ["a.test", "*.a.test"]
            to = [5000, "10.0.0.7:80", { at = "unix:/run/x.sock" }]
            redirect_from = "www.b.test"
            allow = ["10.0.0.0/8", "::1"]
            send_host = "backend"
            drain = { edit = "5s", remove = "0s" }
            tls = "off"
            note = "the shop"
            [[path]]
            match = "/api/"
            strip = true
            [[path]]
            match = "=/gone"
            respond = { status = 410, body = "gone" }
            allow = "127.0.0.1"
            [[path]]
            match = "/old"
            redirect = { to = "https://c.test", status = 302 }
            [limit]
            body = "10mb"
            [timeout]
            connect = "1s"
            first_byte = "2s"
            idle = "3s"
            websocket_idle = "4s"
            total = "5s"
            pool_idle = "6s"
            [headers]
            via = false
            [headers.request]
            remove = "X-Secret"
            set = { X-Env = "live" }
            [headers.response.add]
            Link = ["</a>", "</b>"]
            "#,
        );
        let claims: Vec<_> = site
            .claims
            .iter()
            .map(|claim| (claim.pattern.to_string(), claim.role))
            .collect();
        assert_eq!(claims[1], ("*.a.test".to_owned(), ClaimRole::Serve));
        assert_eq!(
            claims[2],
            ("www.b.test".to_owned(), ClaimRole::RedirectToFirst)
        );
        assert!(site.redirects("www.b.test") && !site.redirects("a.test"));
        assert_eq!(
            proxied(&site),
            ["localhost:5000", "10.0.0.7:80", "unix:/run/x.sock"]
        );
        assert_eq!(site.allow.as_ref().map(|allow| allow.0.len()), Some(2));
        assert_eq!(site.send_host, SendHost::Backend);
        assert_eq!(
            site.drain,
            DrainPolicy {
                edit: Some(Duration::from_secs(5)),
                remove: Duration::ZERO
            }
        );
        assert_eq!(site.note.as_deref(), Some("the shop"));
        assert_eq!(site.limits.body_bytes, Some(10 << 20));
        assert_eq!(site.timeouts.total, Some(Duration::from_secs(5)));
        assert_eq!(site.timeouts.pool_idle, Duration::from_secs(6));
        let paths: Vec<_> = site
            .paths
            .iter()
            .map(|rule| rule.pattern.to_string())
            .collect();
        assert_eq!(paths, ["=/gone", "/api", "/old"]);
        assert!(
            matches!(&site.paths[0].action, Some(Action::Respond(r)) if r.status == 410 && &*r.body == b"gone")
        );
        assert!(
            matches!(&site.paths[2].action, Some(Action::Redirect(r)) if r.status == 302 && r.keep_path)
        );
        assert!(site.paths[1].action.is_none() && site.paths[1].strip);
        assert!(!site.headers.via);
        assert_eq!(
            site.headers.request[0],
            HeaderEdit::Remove {
                name: "X-Secret".into()
            }
        );
        assert_eq!(
            site.headers.request[1],
            HeaderEdit::Set {
                name: "X-Env".into(),
                value: b"live"[..].into()
            }
        );
        assert_eq!(site.headers.response.len(), 2);
    }

    #[test]
    fn a_file_named_like_a_host_needs_no_host() {
        let mut named = document("to = 5000");
        named.name = SiteName::new("team/Shop.example.com");
        let site = read(&named, &Rules::default()).expect("a site").site;
        assert_eq!(site.claims[0].pattern.to_string(), "shop.example.com");
        let errors = errors_with("to = 5000", &Rules::default());
        assert_eq!(errors, [":1:1: the site has no \"host\""]);
    }

    #[test]
    fn all_errors_of_a_file_are_reported_at_once_in_its_order() {
        let text = "hots = 'a'\nhost = 'a b'\nto = \"https://x\"\nupstream = 3\n[timeout]\nidle = '5'\nsticky = 1\n";
        let errors = errors_with(text, &Rules::default());
        assert_eq!(errors.len(), 6, "{errors:#?}");
        assert_eq!(
            errors[0],
            ":1:1: unknown key \"hots\", did you mean \"host\"?"
        );
        assert_eq!(errors[1], ":2:8: \"a b\": ' ' is not allowed in a hostname");
        assert!(
            errors[2].contains("https:// backends are not there yet"),
            "{errors:#?}"
        );
        assert_eq!(
            errors[3],
            ":4:1: unknown key \"upstream\", did you mean \"to\"?"
        );
        assert!(
            errors[4].starts_with(":6:8: \"5\": a duration is a whole number and a unit"),
            "{errors:#?}"
        );
        assert_eq!(
            errors[5],
            ":7:1: \"sticky\" belongs above [timeout], line 5"
        );
    }

    #[test]
    fn a_broken_line_is_one_error_and_the_rest_is_still_read() {
        let errors = errors_with(
            "host = 'shop.test'\nto = nowhere\nnoet = 'x'\n",
            &Rules::default(),
        );
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert!(errors[0].starts_with(":2:6: "), "{errors:#?}");
        assert!(
            errors[1].starts_with(":3:1: unknown key \"noet\""),
            "{errors:#?}"
        );
    }

    #[test]
    fn one_thing_answers_per_level() {
        let errors = errors_with(
            "host = 'a.test'\nto = 1\nredirect = 'https://b.test'\n",
            &Rules::default(),
        );
        assert_eq!(
            errors,
            [
                ":3:1: \"redirect\" beside \"to\" in line 2: only one of to, redirect, respond can answer"
            ]
        );
        let errors = errors_with("host = 'a.test'\n", &Rules::default());
        assert_eq!(
            errors,
            [":1:1: the site has no \"to\", no \"redirect\" and no \"respond\""]
        );
        let errors = errors_with("host = 'a.test'\nrespnd = 'x'\n", &Rules::default());
        assert_eq!(
            errors,
            [":2:1: unknown key \"respnd\", did you mean \"respond\"?"],
            "what is misspelt is not missing, too"
        );
        let errors = errors_with(
            "host = 'a.test'\n[[path]]\nmatch = '/x'\nto = 1\n[[path]]\nmatch = '/y'\n",
            &Rules::default(),
        );
        assert_eq!(
            errors,
            [":6:9: nothing answers for \"/y\": neither the path nor the site says what"]
        );
    }

    #[test]
    fn what_a_value_cannot_be_is_said() {
        for (rest, message) in [
            (
                "redirect_from = ['a.test']",
                "\"a.test\" is claimed twice, first in line 1",
            ),
            ("redirect_from = '*'", "\"*\" cannot stand in redirect_from"),
            (
                "allow = 'nobody'",
                "\"nobody\" is neither an IP address nor a network",
            ),
            ("allow = []", "\"allow\" is an empty list"),
            (
                "send_host = 'a b'",
                "\"a b\" is neither \"keep\" nor \"backend\" nor a name",
            ),
            ("drain = '5'", "a duration is a whole number and a unit"),
            (
                "tls = 'passthrough'",
                "not there yet: TLS comes in a later version",
            ),
            ("tls = 'on'", "is no way of TLS"),
            ("[tls]\nmode = 'files'", "not there yet"),
            ("[tls]\ncert = 'x'", "\"cert\" is planned and not built yet"),
            (
                "balance = 'least'",
                "\"balance\" is planned and not built yet",
            ),
            ("note = \"\\u001b\"", "a note has no control characters"),
            ("[[path]]\nstrip = true", "the [[path]] has no \"match\""),
            ("[[path]]\nmatch = '/api/*'", "write \"/api\""),
            (
                "[[path]]\nmatch = '/a'\n[[path]]\nmatch = '/%61/'",
                "the path \"/a\" is already in line 4",
            ),
            (
                "[[path]]\nmatch = '/a'\nrespond = 99",
                "a status is a number from 200 to 599",
            ),
            (
                "[[path]]\nmatch = '/a'\nredirect = 'b.test'",
                "a redirect goes to https://, http:// or a path",
            ),
            (
                "[[path]]\nmatch = '/a'\nredirect = \"https://b\\r\\nX: y\"",
                "must be percent-encoded",
            ),
            (
                "[[path]]\nmatch = '/a'\nredirect = {to = '/b', status = 200}",
                "a redirect's status is",
            ),
            (
                "[[path]]\nmatch = '/a'\nrespond = {body = 'x', file = 'y'}",
                "only one of them can be sent",
            ),
            (
                "[[path]]\nmatch = '/a'\nrespond = {body = 'x', status = 204}",
                "has no body",
            ),
            (
                "[timeout]\nconnect = '0s'",
                "\"connect\" must be longer than 0",
            ),
            ("[timeout]\nconnect = 'off'", "a duration is a whole number"),
            (
                "[timeout]\nidle = 5",
                "\"idle\" is a duration such as \"30s\", found a number",
            ),
            (
                "[headers.request.set]\nHost = 'x'",
                "send_host says which Host a backend is sent",
            ),
            (
                "[headers.request]\nremove = 'X_Forwarded_For'",
                "[trust] proxies",
            ),
            (
                "[headers.response.add]\nTransfer-Encoding = 'x'",
                "writes the framing of every message itself",
            ),
            (
                "[headers.request.set]\n'a b' = 'x'",
                "\"a b\" is not a header name",
            ),
            (
                "[headers.request.set]\nA = \"x\\r\\ny\"",
                "a header's value is one line",
            ),
            ("[headers.request.set]\nA = 5", "a header's value is a text"),
            (
                "[headers.request]\nremove = 'a'\nset = { A = 'x' }",
                "\"A\" is set or removed twice",
            ),
        ] {
            let error = error(rest);
            assert!(error.contains(message), "{rest}: {error}");
        }
    }

    #[test]
    fn the_catch_all_is_for_the_site_that_the_daemon_file_names() {
        let text = "host = '*'\nto = 1";
        assert_eq!(
            errors_with(text, &Rules::default()),
            [":1:8: \"*\" needs catch_all = \"shop\" in onedoor.toml"]
        );
        let other = Rules {
            catch_all: Some(SiteName::new("other")),
            ..Rules::default()
        };
        assert!(errors_with(text, &other)[0].contains("only be claimed by the site \"other\""));
        let ours = Rules {
            catch_all: Some(SiteName::new("shop")),
            ..Rules::default()
        };
        assert_eq!(errors_with(text, &ours), Vec::<String>::new());
        assert!(
            errors_with("host = '*'\nto = 1\nredirect_from = 'a.test'", &ours)[0]
                .contains("is not one name")
        );
    }

    #[test]
    fn our_own_listeners_are_no_backends() {
        let listening = |address: &str| Rules {
            listen: vec![address.parse().expect(address)],
            ..Rules::default()
        };
        for (listen, to, own) in [
            ("127.0.0.1:80", "80", true),
            ("127.0.0.1:80", "'127.0.0.1:80'", true),
            ("0.0.0.0:80", "80", true),
            ("0.0.0.0:80", "'127.0.0.1:80'", true),
            ("[::]:80", "'[::1]:80'", true),
            ("10.0.0.1:80", "'10.0.0.1:80'", true),
            ("10.0.0.1:80", "80", false),
            ("127.0.0.1:80", "81", false),
            ("0.0.0.0:80", "'10.0.0.9:80'", false),
        ] {
            let errors = errors_with(&format!("host = 'a.test'\nto = {to}"), &listening(listen));
            assert_eq!(!errors.is_empty(), own, "{listen} {to} {errors:?}");
        }
    }

    #[test]
    fn files_and_sockets_stay_inside_their_fences() {
        let root = std::env::temp_dir().join(format!("onedoor-fence-{}", std::process::id()));
        let sites = root.join("sites.d");
        std::fs::create_dir_all(&sites).expect("folder");
        std::fs::write(root.join("secret"), "s3cret\n").expect("file");
        std::fs::write(sites.join("page.html"), "<p>").expect("file");
        symlink(root.join("secret"), sites.join("link")).expect("link");
        let mut document = document("");
        document.real = sites.join("shop.toml");
        let mut rules = Rules {
            sites: sites.clone(),
            ..Rules::default()
        };
        let mut outcome = |file: &str, rules: &Rules| {
            document.text = format!(
                "host = 'a.test'\nrespond = {{ file = '{file}' }}\n[headers.request.set]\nA = {{ file = '{file}' }}"
            );
            read(&document, rules)
        };
        let accepted = outcome("page.html", &rules).expect("inside");
        assert_eq!(
            accepted.files,
            [sites.join("page.html"), sites.join("page.html")]
        );
        assert!(
            matches!(&accepted.site.action, Some(Action::Respond(r)) if &*r.content_type == "text/html; charset=utf-8")
        );
        for outside in ["link", "../secret", "/etc/passwd"] {
            let problems = outcome(outside, &rules).expect_err(outside);
            assert!(
                problems
                    .iter()
                    .all(|problem| problem.message.contains("lies outside")),
                "{problems:?}"
            );
            assert!(problems[0].about.is_some());
        }
        assert!(
            outcome("nothing", &rules).expect_err("missing")[0]
                .message
                .contains("cannot be read")
        );
        rules.files_under = vec![root.clone()];
        let accepted = outcome("link", &rules).expect("allowed");
        assert_eq!(
            accepted.site.headers.request[0],
            HeaderEdit::Set {
                name: "A".into(),
                value: b"s3cret"[..].into()
            }
        );

        document.text = "host = 'a.test'\nto = 'unix:x.sock'".into();
        rules.sockets_under = Some(vec![root.join("run")]);
        assert!(read(&document, &rules).is_err());
        rules.sockets_under = Some(vec![sites.clone()]);
        assert!(read(&document, &rules).is_ok());
        std::fs::remove_dir_all(&root).expect("gone");
    }

    #[test]
    fn defaults_apply_where_the_site_says_nothing() {
        let mut rules = Rules::default();
        rules.defaults.timeouts.idle = Duration::from_secs(1);
        rules.defaults.headers.request = Box::new([HeaderEdit::Remove { name: "A".into() }]);
        rules.defaults.send_host = SendHost::Backend;
        let text =
            "host = 'a.test'\nto = 1\n[timeout]\ntotal = '9s'\n[headers.request]\nremove = 'B'";
        let site = read(&document(text), &rules).expect("a site").site;
        assert_eq!(
            (site.timeouts.idle, site.timeouts.total),
            (Duration::from_secs(1), Some(Duration::from_secs(9)))
        );
        assert_eq!(
            site.headers
                .request
                .iter()
                .map(HeaderEdit::name)
                .collect::<Vec<_>>(),
            ["A", "B"]
        );
        assert_eq!(site.send_host, SendHost::Backend);
    }

    /// The table of keys says what the code does.
    #[test]
    fn the_defaults_in_the_table_of_keys_are_the_defaults() {
        use crate::document::keys::{KEYS, Kind};
        let mut text = "host = 'a.test'\nto = 1\n".to_owned();
        for place in [Place::Limit, Place::Timeout] {
            text.push_str(&format!("{}\n", place.title()));
            for key in KEYS
                .iter()
                .filter(|key| key.place == place && key.kind != Kind::Anything)
            {
                text.push_str(&format!("{} = {}\n", key.name, key.default));
            }
        }
        let site = site(&text);
        assert_eq!((site.limits, site.timeouts), Default::default());
    }

    #[test]
    fn a_file_outside_the_sites_directory_is_not_quoted() {
        let mut outside = document("root = 'x'\nhost = 'se cret'");
        outside.real = "/etc/shadow".into();
        let problems = read(&outside, &Rules::default()).expect_err("errors");
        for problem in problems {
            let drawn = problem.render(&outside.text, false);
            assert!(
                !drawn.contains("se cret") && !drawn.contains("root"),
                "{drawn}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_lines_are_a_site_or_errors_that_can_be_drawn(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("host = 'a.test'"), Just("to = 5000"), Just("[[path]]"), Just("match = '/a'"), Just("[limit]"),
                    Just("[headers.request]"), Just("set = { A = 'b' }"), Just("[headers]"), Just("path = 5"),
                    Just("redirect = { to = 'https://b.test' }"), Just("to = ["), Just("]"), Just("note = \"\"\""),
                    Just("tls = { mode = 'x'"), Just("respond.status = 5"), Just("host = '\u{e9}.x'"), Just("drain.edit = '1s'"),
                ],
                0..8,
            ),
            noise in "\\PC{0,12}",
        ) {
            let text = format!("{}\n{noise}", lines.join("\n"));
            if let Err(problems) = read(&document(&text), &Rules::default()) {
                prop_assert!(problems.iter().any(Problem::is_error));
                for problem in problems {
                    prop_assert!(!problem.render(&text, false).is_empty());
                    prop_assert!(!problem.to_string().contains('\n'));
                }
            }
        }
    }

    /// The corpus of the fuzz target `site_file`, and what the target asks of it.
    #[test]
    fn the_fuzz_corpus_is_read_or_refused_with_places() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/site_file");
        let Ok(files) = std::fs::read_dir(folder) else {
            return;
        };
        for file in files {
            let bytes = std::fs::read(file.expect("entry").path()).expect("corpus file");
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            if let Err(problems) = read(&document(&text), &Rules::default()) {
                assert!(problems.iter().any(Problem::is_error));
                assert!(
                    problems
                        .iter()
                        .all(|problem| !problem.render(&text, true).is_empty())
                );
            }
        }
    }
}
