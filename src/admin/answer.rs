//! What is answered on the admin socket, as bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::question::Refusal;
use super::{About, Reloaded};
use crate::observe::{Counters, Reason};
use crate::reload::{BackendStatus, FileStatus, Overview, Waited};

/// Status and JSON.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let body = format!("{}\n", self.body);
        let reason = match self.status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            _ => "Bad Request",
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            body.len()
        );
        (head + &body).into_bytes()
    }
}

pub(super) fn refused(refusal: Refusal) -> Answer {
    let (status, error) = match refusal {
        Refusal::Malformed => (400, "this is no HTTP/1.1 request".to_string()),
        Refusal::TooLong => (431, "the request head is too long".to_string()),
        Refusal::TooSlow => (408, "the request did not come in time".to_string()),
        Refusal::NoSuchPath(path) => (
            404,
            format!(
                "no {path} here; there are GET /v1/status, GET /v1/sites, GET /v1/counters, GET /v1/wait and POST /v1/reload"
            ),
        ),
        Refusal::WrongMethod(wanted) => (405, format!("ask with {wanted}")),
        Refusal::BadParameter(what) => (400, what),
    };
    Answer {
        status,
        body: json!({ "error": error }),
    }
}

pub(super) fn status(about: &About) -> Answer {
    let listening: Vec<String> = about.listening.iter().map(ToString::to_string).collect();
    fine(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "listening": listening,
        "sites": about.sites.to_string_lossy(),
        "state": about.state.to_string_lossy(),
    }))
}

/// The sums over all workers. Each of them goes on counting meanwhile.
pub(super) fn counters(about: &About) -> Answer {
    let sum = |of: fn(&Counters) -> u64| -> u64 { about.counters.iter().map(|one| of(one)).sum() };
    let reasons: Map<String, Value> = Reason::ALL
        .into_iter()
        .map(|reason| {
            let count: u64 = about.counters.iter().map(|one| one.count(reason)).sum();
            (reason.code().to_string(), count.into())
        })
        .collect();
    fine(json!({
        "open": sum(|one| one.connections.read()).saturating_sub(sum(|one| one.closed.read())),
        "connections": sum(|one| one.connections.read()),
        "exchanges": sum(|one| one.exchanges.read()),
        "aborted": sum(|one| one.aborted.read()),
        "tunnels": sum(|one| one.tunnels.read()),
        "refused": sum(|one| one.refused.read()),
        "retries": sum(|one| one.retries.read()),
        "bytes_from_clients": sum(|one| one.from_client.read()),
        "bytes_to_clients": sum(|one| one.to_client.read()),
        "reasons": reasons,
    }))
}

pub(super) fn sites(overview: &Overview) -> Answer {
    let files: Vec<Value> = overview.files.iter().map(file).collect();
    fine(json!({ "sites": files, "notice": overview.notice }))
}

fn file(status: &FileStatus) -> Value {
    let refusals = status.refusals.iter();
    let refusals: Map<String, Value> = refusals
        .map(|(code, count)| ((*code).to_string(), (*count).into()))
        .collect();
    json!({
        "name": status.name,
        "state": status.state.word(),
        "file": status.path.to_string_lossy(),
        "hosts": status.hosts,
        "to": status.to,
        "backends": status.backends.iter().map(backend).collect::<Vec<_>>(),
        "answers": status.answers,
        "since": seconds(status.since),
        "serving_since": status.serving_since.map(seconds),
        "note": status.note,
        "refusals": refusals,
        "problems": status.problems,
        "reason": status.reason,
    })
}

fn backend(status: &BackendStatus) -> Value {
    json!({
        "at": status.at,
        "fit": status.fit,
        "reason": status.reason,
        "addresses": status.addresses,
        "in_flight": status.in_flight,
    })
}

/// Unix time: programs compare it, and `ls` knows how people like to read it.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

pub(super) fn reloaded(reloaded: &Reloaded) -> Answer {
    let Reloaded { renewed, report } = reloaded;
    fine(json!({
        "settings": {
            "changed": renewed.changed,
            "needs_restart": renewed.waiting,
            "problems": renewed.problems,
        },
        "added": report.added,
        "changed": report.changed,
        "removed": report.removed,
        "rejected": report.rejected,
        "unsettled": report.unsettled,
        "live": report.live,
        "kept": report.kept,
    }))
}

pub(super) fn waited(waited: &Waited) -> Answer {
    fine(match waited {
        Waited::Serving => json!({ "outcome": "serving" }),
        Waited::Gone => json!({ "outcome": "gone" }),
        Waited::Drained => json!({ "outcome": "drained" }),
        Waited::Rejected { problems } => json!({ "outcome": "rejected", "problems": problems }),
        Waited::Timeout { pending } => json!({ "outcome": "timeout", "pending": pending }),
        Waited::Unknown {
            did_you_mean,
            reason,
        } => {
            json!({ "outcome": "unknown", "did_you_mean": did_you_mean, "reason": reason })
        }
    })
}

fn fine(body: Value) -> Answer {
    Answer { status: 200, body }
}
