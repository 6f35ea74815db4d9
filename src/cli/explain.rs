//! `onedoor explain`: who answers a request and why, in words; by the daemon, or by the files where none runs.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

use super::args::{Asked, Places, Serving};
use super::screen::{Paint, Screen};
use super::{FAILED, complain, daemon, print, run};
use crate::admin::client::ClientError;
use crate::document::problem::printable;
use crate::http::explain::{
    self, Changes, Explanation, Greeting, Loser, OutcomeKind, PathWalk, Question, Scene, Url,
    Winner,
};
use crate::reload::Offline;
use crate::server;
use crate::tls::{Keyring, Removals};

/// Ends with 0 when there is an explanation, 1 when the question is none.
pub(super) fn explain(places: &Places, asked: Asked, json: bool) -> ExitCode {
    let question = Question {
        url: asked.url,
        method: asked.method,
        headers: asked.header,
        client: asked.client,
    };
    let is_offline = asked.offline;
    let explanation = match is_offline {
        true => by_files(places, &question),
        false => by_daemon(places, &question),
    };
    match explanation {
        Ok(explanation) if json => match serde_json::to_string_pretty(&explanation) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => complain(error),
        },
        Ok(explanation) => {
            print(&words(&explanation, Screen::of_output()));
            if !is_offline
                && explanation.site.is_none()
                && let Some(host) = &explanation.hostname
                && let Some(hosts) = hosts_of_site(places, host)
            {
                complain(format_args!(
                    "{host} is no host but a site, which answers for {hosts}"
                ));
            }
        }
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// What the daemon's site of this name answers for: people type what they call it. `None`: there is none, or no daemon.
fn hosts_of_site(places: &Places, name: &str) -> Option<String> {
    let answer = daemon::find(places).ok()?.sites().ok()?;
    let mut sites = answer["sites"].as_array().into_iter().flatten();
    let site = sites.find(|site| site["name"] == name)?;
    let hosts = site["hosts"].as_array().into_iter().flatten();
    let hosts: Vec<_> = hosts
        .filter_map(Value::as_str)
        .map(printable)
        .take(MOST_HOSTS)
        .collect();
    (!hosts.is_empty()).then(|| hosts.join(", "))
}

/// Enough for somebody to see which one is meant.
const MOST_HOSTS: usize = 3;

fn by_daemon(places: &Places, question: &Question) -> Result<Explanation, ExitCode> {
    let daemon = daemon::find(places)?;
    match daemon.explain(question) {
        Ok(value) => serde_json::from_value(value).map_err(|error| {
            complain(format_args!("the daemon is of another version: {error}"));
            ExitCode::from(FAILED)
        }),
        // A socket that was named is the one that is meant.
        Err(ClientError::NotRunning { .. }) if places.admin.is_none() => by_files(places, question),
        Err(ClientError::Refused { message, .. }) => {
            complain(message);
            Err(ExitCode::from(FAILED))
        }
        Err(error) => Err(daemon::explain(&error)),
    }
}

fn by_files(places: &Places, question: &Question) -> Result<Explanation, ExitCode> {
    let failed = |why: String| {
        complain(why);
        ExitCode::from(FAILED)
    };
    let settings = run::settings(places, Serving::default())?;
    let keyring = Keyring::only_to_look(settings.certificates.clone(), settings.state.clone());
    let keyring = Arc::new(keyring.map_err(|error| failed(error.to_string()))?);
    keyring.search(Removals::Doubted);
    let sites = Offline::read(&settings);
    if !sites.has_folder() {
        let folder = settings.sites.display();
        return Err(failed(format!(
            "nothing runs, and there is no folder {folder}; name it with --sites"
        )));
    }
    let host = explain::host_of(question).map_err(failed)?;
    let url = Url::read(&question.url).map_err(failed)?;
    let local = settings.listen.first().map(SocketAddr::ip);
    let names = [
        Some(host.clone()),
        Some(url.host),
        local.map(|ip| ip.to_string()),
    ];
    for site in names
        .iter()
        .flatten()
        .filter_map(|name| sites.table.find(name))
    {
        sites.hold(site, &keyring);
    }
    let winner = sites.table.find(&host).map(|site| site.name.clone());
    let contest = sites.contest(&host, winner.as_ref());
    let scene = Scene {
        table: &sites.table,
        shared: &server::shared_offline(&settings, keyring),
        listening: &settings.listen,
        offline: true,
    };
    explain::explain(question, scene, &contest).map_err(failed)
}

/// The screen: a word in front of each step.
fn words(told: &Explanation, screen: Screen) -> String {
    let mut page = Page {
        text: String::new(),
        screen,
    };
    page.text.push_str(&format!(
        "{} {} from {}\n",
        told.method, told.url, told.client
    ));
    if told.offline {
        page.text
            .push_str("nothing runs here; this is what a start would serve\n");
    }
    page.text.push('\n');
    let listener = told.listener.map(|at| at.to_string());
    page.say(
        "listener",
        &listener.unwrap_or_else(|| "none has its port".into()),
    );
    page.say(
        "tls",
        &told.tls.as_ref().map_or("none, clear text".into(), tls),
    );
    if let Some(hostname) = &told.hostname {
        page.say("hostname", hostname);
    }
    match &told.site {
        Some(site) => page.say("site", &winner(site)),
        None if told.hostname.is_some() => page.say("site", "none claims this name"),
        None => {}
    }
    for loser in &told.lost {
        page.say("  not", &lost(loser));
    }
    if let Some(walk) = &told.path {
        path(&mut page, walk, told.site.as_ref());
    }
    for limits in told.limits.chunks(4) {
        let limits: Vec<String> = limits
            .iter()
            .map(|limit| format!("{} {}", limit.key, limit.value))
            .collect();
        page.say("limits", &limits.join(", "));
    }
    changes(&mut page, "to the app", &told.request);
    changes(&mut page, "to client", &told.response);
    for backend in &told.backends {
        page.say(
            "backend",
            &format!("{}, {}", backend.address, backend.state),
        );
    }
    if let Some(rule) = &told.balance {
        page.say("balance", rule);
    }
    page.text.push('\n');
    answer(&mut page, told);
    for hint in &told.hints {
        page.say("hint", hint);
    }
    page.text
}

struct Page {
    text: String,
    screen: Screen,
}

impl Page {
    fn say(&mut self, word: &str, what: &str) {
        self.say_in(word, what, None);
    }

    /// A line with its word; the word only once for lines of a kind. What files say cannot begin another line.
    fn say_in(&mut self, word: &str, what: &str, paint: Option<Paint>) {
        const WIDTH: usize = 11;
        let line = format!("{word:<WIDTH$}");
        let start = self.screen.paint(Paint::Faint, &line);
        let same = format!("\n{start}");
        let is_same = self.text.rfind('\n').is_some() && self.last_word() == word;
        let word = if is_same {
            " ".repeat(WIDTH)
        } else {
            same[1..].to_owned()
        };
        let what = match paint {
            Some(paint) => self.screen.paint(paint, &printable(what)),
            None => printable(what),
        };
        self.text.push_str(&format!("{word}{what}\n"));
    }

    /// The word of the lines at the end.
    fn last_word(&self) -> &str {
        let lines = self.text.lines().rev();
        let mut words = lines.map(|line| {
            let line = line.strip_prefix(Paint::Faint.start()).unwrap_or(line);
            line.get(..11).unwrap_or_default().trim_end()
        });
        words.find(|word| !word.is_empty()).unwrap_or_default()
    }
}

fn tls(greeting: &Greeting) -> String {
    let name = match &greeting.sni {
        Some(name) => format!("SNI {name}"),
        None => "no SNI, for an address".to_owned(),
    };
    let mut text = format!("{name}, tls = \"{}\"", greeting.mode);
    if let Some(version) = &greeting.min_version {
        text.push_str(&format!(", TLS {version} or newer"));
    }
    if let Some(need) = &greeting.client_certificate {
        let ca = greeting.client_ca.as_ref();
        let ca = ca.map(|ca| format!(" of {ca}")).unwrap_or_default();
        text.push_str(&format!(", a client certificate{ca} is {need}"));
    }
    if let Some(shown) = &greeting.certificate {
        text.push_str(&format!(
            ", certificate for {} from {}",
            shown.names.join(" "),
            shown.from
        ));
        if let Some(ends) = shown.ends {
            text.push_str(&format!(", good until {}", super::screen::date(ends)));
        }
    }
    text
}

fn winner(site: &Winner) -> String {
    let note = site
        .note
        .as_ref()
        .map(|note| format!(" {note}"))
        .unwrap_or_default();
    let since = site.since.filter(|_| site.state == "stale");
    let since = since.map(|since| format!(" since {} UTC", super::screen::minute(since)));
    let why = site.why.as_ref().map(|why| format!(": {why}"));
    format!(
        "{}, {}:{}:{} \"{}\"{note}, {}{}{}",
        site.name,
        site.file,
        site.line,
        site.column,
        site.pattern,
        site.state,
        since.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

fn lost(loser: &Loser) -> String {
    match &loser.file {
        Some(file) => format!(
            "{}, {file}:{}:{} \"{}\": {}",
            loser.name, loser.line, loser.column, loser.pattern, loser.why
        ),
        None => format!(
            "{}, line {} \"{}\": {}",
            loser.name, loser.line, loser.pattern, loser.why
        ),
    }
}

fn path(page: &mut Page, walk: &PathWalk, site: Option<&Winner>) {
    let mut text = match (&walk.rule, site) {
        (Some(rule), Some(site)) => format!(
            "{} by \"{}\", {}:{}",
            walk.path, rule.pattern, site.file, rule.line
        ),
        _ => format!("{} by the site itself", walk.path),
    };
    if let Some(sent) = &walk.sent_as {
        text.push_str(&format!(", sent as {sent}"));
    }
    page.say("path", &text);
    for rule in &walk.lost {
        let why = "an exact path goes first, then the longest";
        page.say(
            "  not",
            &format!("\"{}\", line {}: {why}", rule.pattern, rule.line),
        );
    }
}

fn changes(page: &mut Page, word: &str, changes: &Changes) {
    for added in &changes.added {
        page.say(word, &format!("+ {}: {}", added.name, added.value));
    }
    for removed in &changes.removed {
        page.say(word, &format!("- {} ({})", removed.name, removed.why));
    }
}

fn answer(page: &mut Page, told: &Explanation) {
    let outcome = &told.outcome;
    let status = outcome
        .status
        .map(|status| format!("{status} "))
        .unwrap_or_default();
    let reason = outcome
        .reason
        .as_ref()
        .map(|reason| format!(" (Onedoor-Reason: {reason})"))
        .unwrap_or_default();
    let (paint, text) = match outcome.kind {
        OutcomeKind::Forward | OutcomeKind::PassThrough => (Paint::Good, outcome.words.clone()),
        OutcomeKind::Respond | OutcomeKind::Redirect => {
            (Paint::Good, format!("{status}{}", outcome.words))
        }
        OutcomeKind::Refuse => (Paint::Bad, format!("{status}{}{reason}", outcome.words)),
        OutcomeKind::Close => {
            let reason = outcome
                .reason
                .as_ref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            (
                Paint::Bad,
                format!("none, the connection ends: {}{reason}", outcome.words),
            )
        }
    };
    page.say_in("answer", &text, Some(paint));
}
