//! The walk of a request in words: what every step finds, who wins and who loses, and what comes of it.
//!
//! The steps are those of a request that is served, called in the same order: `route` finds the site, `known_host`
//! says whether such a connection may ask for it, `exchange` decides, `forward` writes the head. Nothing is sent.

mod choice;
mod explanation;
mod greeting;
mod heads;
mod url;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{self, Answer};
use super::asked_by::AskedBy;
use super::begin::certificate_lines;
use super::exchange::{self, Decision};
use super::forward::{self, Onward};
use super::h1::head::{self, Parsed, RequestHead, Room};
use super::kit::{Client, Shared};
use super::known_host::{FoundSite, Gate, KnownHost, gate};
use super::obtain::Affinity;
use crate::reload::{Contest, patterns_for, seconds};
use crate::route::RouteTable;
use crate::site::hostname::{HostBuffer, authority};
use crate::site::{Action, Backends, ClaimRole, HostPattern, SendHost, Site, Wire};

use crate::tls::{self, Secure};

pub use explanation::{
    BackendState, Explanation, Limit, Loser, Outcome, OutcomeKind, PathWalk, Rule, Winner,
};
pub use greeting::{Greeting, Shown};
pub use heads::{Added, Changes, MASK, Removed};
pub use url::Url;

use choice::Choice;
use greeting::Answered;

/// Which request is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub url: String,
    pub method: String,
    /// Names and values, beside Host.
    pub headers: Vec<(String, String)>,
    pub client: IpAddr,
}

/// What it would meet.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub table: &'a RouteTable,
    pub shared: &'a Shared,
    pub listening: &'a [SocketAddr],
    /// Nothing runs: this is what a start would serve.
    pub offline: bool,
}

/// Walks. `contest` knows, of a normalised name and the site that answers for it, who else would like to.
///
/// # Errors
/// What is wrong with the question.
pub fn explain(
    question: &Question,
    scene: Scene<'_>,
    contest: &Contest,
) -> Result<Explanation, String> {
    let url = Url::read(&question.url)?;
    let raw = request_bytes(question, &url)?;
    let local = listener(&url, scene.listening);
    let scheme = match url.wire {
        Wire::ClearText => "http",
        Wire::Tls => "https",
    };
    let mut walk = Walk {
        scene,
        contest,
        client: Client {
            address: SocketAddr::new(question.client, 0),
            local,
            trusted: scene.shared.trusts(question.client.to_canonical()),
        },
        told: Explanation {
            method: question.method.clone(),
            url: format!("{scheme}://{}{}", url.authority, url.target),
            client: question.client,
            offline: scene.offline,
            listener: scene.listening.contains(&local).then_some(local),
            tls: None,
            hostname: None,
            site: None,
            lost: Vec::new(),
            path: None,
            limits: Vec::new(),
            request: Changes::default(),
            response: Changes::default(),
            backends: Vec::new(),
            balance: None,
            outcome: Outcome::of(OutcomeKind::Close, 0, ""),
            hints: Vec::new(),
        },
    };
    let mut outcome = walk.connection(&url, &raw);
    if let Some(condition) = walk.told.tls.as_ref().and_then(Greeting::condition) {
        outcome.words.push_str(&condition);
    }
    walk.told.outcome = outcome;
    walk.hint(&url);
    Ok(walk.told)
}

/// The host that a question is about first, for asking who contests it.
///
/// # Errors
/// As [`explain`].
pub fn host_of(question: &Question) -> Result<String, String> {
    let url = Url::read(&question.url)?;
    let host = given_host(question).map_or(url.host, |given| {
        let mut buffer = HostBuffer::new();
        let read = authority(given.as_bytes(), &mut buffer);
        read.map_or(given.to_owned(), |asked| asked.host.to_owned())
    });
    Ok(host)
}

fn given_host(question: &Question) -> Option<&str> {
    let mut headers = question.headers.iter();
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
    Some(value)
}

/// The head as a client sends it.
fn request_bytes(question: &Question, url: &Url) -> Result<Vec<u8>, String> {
    let mut text = format!("{} {} HTTP/1.1\r\n", question.method, url.target);
    if given_host(question).is_none() {
        text.push_str(&format!("Host: {}\r\n", url.authority));
    }
    for (name, value) in &question.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let lines = 2 + question.headers.len() + usize::from(given_host(question).is_none());
    if text.matches('\n').count() != lines || question.method.contains([' ', '\r']) {
        return Err("a method or header has no line breaks".into());
    }
    Ok(text.into_bytes())
}

/// The address that the request would come to: the one with its port, or else the first.
fn listener(url: &Url, listening: &[SocketAddr]) -> SocketAddr {
    let of_scheme = match url.wire {
        Wire::ClearText => 80,
        Wire::Tls => 443,
    };
    let port = url.port.unwrap_or(of_scheme);
    let asked = listening.iter().find(|address| address.port() == port);
    let unknown = SocketAddr::from(([127, 0, 0, 1], port));
    *asked.or(listening.first()).unwrap_or(&unknown)
}

/// To a site that there is.
fn too_far() -> Outcome {
    Outcome {
        words: greeting::FOR_NEAR.to_owned(),
        ..Answer::NoSite.into()
    }
}

struct Walk<'a> {
    scene: Scene<'a>,
    contest: &'a Contest,
    client: Client,
    told: Explanation,
}

impl Walk<'_> {
    fn connection(&mut self, url: &Url, raw: &[u8]) -> Outcome {
        let Scene { table, shared, .. } = self.scene;
        let mut only_for = None;
        let secure = match url.wire {
            Wire::ClearText => None,
            Wire::Tls => {
                let name = match url.host.parse::<IpAddr>() {
                    Ok(_) => self.client.local.ip().to_canonical().to_string(),
                    Err(_) => url.host.clone(),
                };
                let site = table.find(&name).cloned();
                let ip = self.client.address.ip();
                let (greeting, answered) =
                    greeting::greet(site.as_ref(), &name, ip, &shared.keyring);
                self.told.tls = Some(greeting);
                match answered {
                    Answered::Inside {
                        secure,
                        only_its_name,
                    } => {
                        let advice = tls::of_shown(&secure.certificates, &name);
                        self.told.hints.extend(advice);
                        only_for = only_its_name.then_some(name);
                        Some(secure)
                    }
                    Answered::PassedThrough => return self.passed_through(&name, site),
                    Answered::Closed(outcome) => {
                        self.tell_site(&name, site.as_ref());
                        return outcome;
                    }
                }
            }
        };
        let mut room = Room::new();
        let head = match head::request(raw, &shared.head_limits, &mut room) {
            Ok(Parsed::Complete(head)) => head,
            Ok(Parsed::NeedMore) => return Answer::HeadTimeout.into(),
            Err(refusal) => return Answer::from(refusal).into(),
        };
        let Some(asked_for) = head.authority.filter(|raw| !raw.is_empty()) else {
            return Answer::NoHost.into();
        };
        let mut buffer = HostBuffer::new();
        let Ok(asked) = authority(asked_for, &mut buffer) else {
            return Answer::BadHost.into();
        };
        let host = asked.host.to_owned();
        let site = table.find(&host).cloned();
        self.tell_site(&host, site.as_ref());
        let ip = self.client.address.ip();
        let mut gate = gate(site.as_deref(), &host, ip, secure.as_ref(), &shared.keyring);
        if only_for.is_some_and(|name| name != host) && site.is_some() {
            gate = Gate::Closed(Answer::WrongTlsConnection);
        }
        let found = FoundSite {
            site: site.clone(),
            slot: None,
            generation: table.generation(),
            gate,
        };
        let known = KnownHost::of(asked_for, asked, found, &self.client, url.wire);
        match site {
            None => Answer::NoSite.into(),
            Some(_) if gate == Gate::Closed(Answer::NoSite) => too_far(),
            Some(_) if gate == Gate::NotYet => Outcome {
                words: "its certificate files are still being read; the request waits".into(),
                ..Answer::NoCertificate.into()
            },
            Some(site) => self.request(&head, raw, &known, &site, secure.as_ref()),
        }
    }

    fn passed_through(&mut self, name: &str, site: Option<Arc<Site>>) -> Outcome {
        self.tell_site(name, site.as_ref());
        if let Some(site) = &site {
            self.tell_limits(site, true);
            if let Some(Action::Proxy(backends)) = &site.action {
                let ip = self.client.address.ip().to_canonical();
                self.tell_backends(site, backends, &Affinity::of_connection(site, ip));
            }
        }
        Outcome {
            kind: OutcomeKind::PassThrough,
            status: None,
            reason: None,
            location: None,
            words: "the app behind it gets the connection, TLS and all; nothing of it is read here"
                .into(),
        }
    }

    fn request(
        &mut self,
        head: &RequestHead<'_>,
        raw: &[u8],
        known: &KnownHost,
        site: &Site,
        secure: Option<&Secure>,
    ) -> Outcome {
        let wire = match secure {
            Some(_) => Wire::Tls,
            None => Wire::ClearText,
        };
        let shared = self.scene.shared;
        let asked_by = AskedBy::of(head, &self.client, shared);
        let decision = exchange::decide(head, known, site, &self.client, &asked_by, shared);
        // Behind the gate, and not one that two could read differently.
        if known.gate() == Gate::Open {
            self.tell_path(head, site);
        }
        if !matches!(decision, Decision::ToTls | Decision::Refuse(_)) {
            self.told.response = heads::of_response(&site.headers, wire);
        }
        match decision {
            Decision::Forward { strip, rule } => {
                self.tell_limits(site, false);
                let onward = Onward {
                    certificate: certificate_lines(site, secure),
                    ..exchange::onward(known, site, &self.client, &asked_by, shared, strip, rule)
                };
                let mut out = Vec::new();
                if forward::request_head(&mut out, raw, head, &onward).is_err() {
                    return Answer::TooManyConnectionOptions.into();
                }
                self.told.request = heads::of_request(&out, head, site);
                let of_each = [("X-Request-Id", "(a new one for each request)")];
                self.each_time(&of_each);
                if site.send_host == SendHost::Backend {
                    self.each_time(&[("Host", "(the backend's own address)")]);
                }
                if let Some(path) = &mut self.told.path
                    && strip > 0
                {
                    let rest = &head.target.path()[strip..];
                    let slash = if rest.starts_with('/') { "" } else { "/" };
                    path.sent_as = Some(format!("{slash}{rest}"));
                }
                let mut words = String::new();
                if let Some(backends) = exchange::backends(site, rule) {
                    let is_secure = wire == Wire::Tls;
                    let affinity =
                        Affinity::of(head, site, &self.client, asked_by.nearest, is_secure);
                    words = self.tell_backends(site, backends, &affinity);
                }
                Outcome {
                    kind: OutcomeKind::Forward,
                    status: None,
                    reason: None,
                    location: None,
                    words,
                }
            }
            Decision::Refuse(Answer::NoSite) => too_far(),
            Decision::Refuse(answer) => answer.into(),
            Decision::Redirect(redirect) => Outcome::redirect(
                redirect.status,
                answer::location(redirect, head.target.path_of_link(), head.target.query),
            ),
            Decision::ToTls => Outcome::redirect(308, answer::over_tls(site, known.host(), head)),
            Decision::RedirectToFirst => {
                let asked_for = head.authority.unwrap_or_default();
                let location = answer::first_host(site, asked_for, wire, head);
                Outcome::redirect(308, location)
            }
            Decision::Respond(respond) => Outcome::of(
                OutcomeKind::Respond,
                respond.status,
                format!("{} bytes of {}", respond.body.len(), respond.content_type),
            ),
            Decision::LastStop => Outcome::of(
                OutcomeKind::Respond,
                204,
                "OPTIONS that may go no further is answered here",
            ),
        }
    }

    /// A field that is another one each time.
    fn each_time(&mut self, fields: &[(&str, &str)]) {
        for added in &mut self.told.request.added {
            if let Some((_, value)) = fields.iter().find(|(name, _)| added.name == *name) {
                added.value = (*value).to_owned();
            }
        }
    }

    fn tell_site(&mut self, host: &str, site: Option<&Arc<Site>>) {
        self.told.hostname = Some(host.to_owned());
        let table = self.scene.table;
        let patterns = patterns_for(host);
        let mut before: Option<&HostPattern> = None;
        for pattern in &patterns {
            let Some(owner) = table.owner(pattern) else {
                continue;
            };
            let claim = owner.claims.iter().find(|claim| claim.pattern == *pattern);
            let (line, column) = claim.map_or((1, 1), |claim| (claim.line, claim.column));
            let Some(won) = before else {
                before = Some(pattern);
                let known = self.contest.winner.as_ref();
                let (path, state) = match known {
                    Some(known) => (shown(&known.path), known.state.word()),
                    None => (format!("{}.toml", owner.name), "live"),
                };
                let redirects = claim.is_some_and(|claim| claim.role == ClaimRole::RedirectToFirst);
                self.told.site = Some(Winner {
                    name: owner.name.to_string(),
                    file: path,
                    line,
                    column,
                    pattern: pattern.to_string(),
                    state: state.to_owned(),
                    since: known.map(|known| seconds(known.since)),
                    why: known.and_then(|known| known.why.clone()),
                    note: redirects.then(|| "from redirect_from".to_owned()),
                });
                continue;
            };
            self.told.lost.push(Loser {
                name: owner.name.to_string(),
                file: None,
                line,
                column,
                pattern: pattern.to_string(),
                why: match won {
                    HostPattern::Exact(_) => "an exact name goes before a wildcard and before *",
                    _ => "a wildcard goes before *",
                }
                .to_owned(),
            });
        }
        debug_assert_eq!(
            site.map(|site| site.name.to_string()),
            self.told.site.as_ref().map(|site| site.name.clone())
        );
        self.told
            .lost
            .extend(self.contest.refused.iter().map(|refused| Loser {
                name: refused.site.clone(),
                file: Some(shown(&refused.path)),
                line: refused.line,
                column: refused.column,
                pattern: refused.pattern.clone(),
                why: refused.why.clone(),
            }));
    }

    fn tell_path(&mut self, head: &RequestHead<'_>, site: &Site) {
        let path = head.target.path();
        let Ok(place) = site.place(path.as_bytes()) else {
            return;
        };
        let rule = |at: usize| {
            let rule = &site.paths[at];
            Rule {
                pattern: rule.pattern.to_string(),
                line: rule.line,
            }
        };
        let won = place.rule;
        let lost = (0..site.paths.len())
            .filter(|at| Some(*at) != won && site.paths[*at].pattern.is_for(path.as_bytes()));
        self.told.path = Some(PathWalk {
            path: path.to_owned(),
            rule: won.map(rule),
            sent_as: None,
            lost: lost.map(rule).collect(),
        });
    }

    /// Which of them the request goes to, or may go to. In words for the end.
    fn tell_backends(&mut self, site: &Site, backends: &Backends, affinity: &Affinity) -> String {
        let choice = Choice::of(site, backends, affinity);
        self.told.backends = choice.backends();
        self.told.balance = choice.rule();
        choice.where_to()
    }

    fn tell_limits(&mut self, site: &Site, is_passthrough: bool) {
        let (limits, timeouts) = (&site.limits, &site.timeouts);
        let door = &self.scene.shared.limits;
        let mut tell = |key: &str, value: String| {
            let key = key.to_owned();
            self.told.limits.push(Limit { key, value });
        };
        let time = |time: Duration| format!("{time:?}");
        let perhaps = |limit: Option<Duration>| limit.map_or("off".to_owned(), time);
        let most = limits.connections;
        let most = most.unwrap_or(self.scene.shared.site_connections);
        tell("limit.connections", most.to_string());
        tell("limit.connecting", limits.connecting.to_string());
        tell("timeout.connect", time(timeouts.connect));
        if is_passthrough {
            return tell(
                "timeout.passthrough_idle",
                perhaps(timeouts.passthrough_idle),
            );
        }
        let off = || "off".to_owned();
        let body = limits.body_bytes.map(|bytes| format!("{bytes} bytes"));
        tell("limit.body", body.unwrap_or_else(off));
        let rate = limits.min_rate.map(|rate| format!("{rate} bytes/s"));
        tell("limit.min_rate", rate.unwrap_or_else(off));
        tell("timeout.first_byte", time(timeouts.first_byte));
        tell("timeout.idle", time(timeouts.idle));
        tell("timeout.total", perhaps(timeouts.total));
        tell("timeout.websocket_idle", perhaps(timeouts.websocket_idle));
        tell("timeout.head (onedoor.toml)", time(door.head_time));
        tell(
            "limit.head (onedoor.toml)",
            format!("{} bytes", door.head_bytes),
        );
    }

    fn hint(&mut self, url: &Url) {
        let told = &mut self.told;
        if let Some(listener) = told.listener
            && url.port.is_some_and(|port| port != listener.port())
        {
            told.hints.push(format!(
                "nothing listens on port {}; shown as if it came to {listener}",
                url.port.unwrap_or_default()
            ));
        }
        if told.site.is_some() {
            return;
        }
        if !self.contest.alike.is_empty() {
            let names = self.contest.alike.join(", ");
            told.hints.push(format!("somebody answers for {names}"));
        }
        if !self.contest.rejected.is_empty() {
            let names = self.contest.rejected.join(", ");
            told.hints.push(format!(
                "not served as they are: {names}; `onedoor check` says why"
            ));
        }
    }
}

fn shown(path: &Path) -> String {
    crate::document::problem::printable(&path.to_string_lossy())
}
