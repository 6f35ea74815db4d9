//! What is answered on the admin socket, as bytes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::conversation::Wanted;
use super::costly::Body;
use super::question::Refusal;
use super::{About, Reloaded};
use crate::document::mask;
use crate::http::explain::Explanation;
use crate::observe::events::Events;
use crate::observe::{Counters, Reason};
use crate::reload::history::Version;
use crate::reload::{CertificateChange, Overview, Waited, seconds};

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    body: Arc<Body>,
    /// More lines of the head.
    more: &'static str,
}

pub(super) const JSON: &str = "application/json";

impl Answer {
    /// Writes head and body, in one piece where that is small: two would wait for each other on an address.
    pub(super) async fn write(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        wanted: Wanted,
    ) -> io::Result<()> {
        const SMALL: usize = 64 << 10;
        let mut head = self.head();
        if wanted == Wanted::Head {
            return stream.write_all(&head).await;
        }
        if self.body.len() <= SMALL {
            head.extend_from_slice(&self.body);
            return stream.write_all(&head).await;
        }
        stream.write_all(&head).await?;
        stream.write_all(&self.body).await
    }

    fn head(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            403 => "Forbidden",
            404 => "Not Found",
            409 => "Conflict",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            421 => "Misdirected Request",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{}Connection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.more
        );
        head.into_bytes()
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
                "no {path} here; there are GET /, GET /metrics, GET /healthz, GET /readyz, GET /v1/status, GET /v1/sites, GET /v1/counters, GET /v1/wait, GET /v1/explain, GET /v1/history, GET /v1/events, POST /v1/reload, POST /v1/gone and POST /v1/drain"
            ),
        ),
        Refusal::WrongMethod(wanted) => (405, format!("ask with {wanted}")),
        Refusal::BadParameter(what) => (400, what),
        Refusal::NotAllowed => (
            403,
            "only root and the user that onedoor runs as may ask for this".to_owned(),
        ),
        Refusal::NotOurHost => (
            421,
            "ask for localhost, 127.0.0.1 or [::1]: pages of other names may not look in here"
                .to_owned(),
        ),
        Refusal::FromElsewhere => (
            403,
            "X-Forwarded-For says that this is asked from another machine; only this one may look in here"
                .to_owned(),
        ),
        Refusal::TooManyWait => (
            503,
            "too many wait here already; ask again when some of them have ended".to_owned(),
        ),
        Refusal::NotDone(why) => (409, why),
    };
    Answer {
        status,
        ..fine(json!({ "error": error }))
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
        "config": about.config.as_deref().map(Path::to_string_lossy),
    }))
}

/// Client connections that are open now.
pub(super) fn open(about: &About) -> u64 {
    Counters::open(&about.counters)
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
        "open": open(about),
        "connections": sum(|one| one.connections.read()),
        "exchanges": sum(|one| one.exchanges.read()),
        "aborted": sum(|one| one.aborted.read()),
        "tunnels": sum(|one| one.tunnels.read()),
        "refused": sum(|one| one.refused.read()),
        "retries": sum(|one| one.retries.read()),
        "bytes_from_clients": sum(|one| one.from_client.read()),
        "bytes_to_clients": sum(|one| one.to_client.read()),
        "access_log_lost": about.access.lost().read(),
        "reasons": reasons,
    }))
}

/// The body of such an answer, for [`shared`]. File by file: all of them as values would be many times as large.
pub(super) fn sites(overview: Overview) -> Vec<u8> {
    let mut body = String::from("{\"sites\":[");
    for (at, file) in overview.files.into_iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(&file.json().to_string());
    }
    let notice = json!(overview.notice);
    body.push_str(&format!("],\"notice\":{notice}}}\n"));
    body.into_bytes()
}

/// One that others get as well.
pub(super) fn shared(content_type: &'static str, body: Arc<Body>) -> Answer {
    Answer {
        status: 200,
        content_type,
        body,
        more: "",
    }
}

pub(super) fn reloaded(reloaded: &Reloaded) -> Answer {
    let Reloaded {
        renewed,
        report,
        unfit,
    } = reloaded;
    let certificates = report.certificates.iter();
    let certificates: Vec<Value> = certificates.map(CertificateChange::json).collect();
    fine(json!({
        "settings": {
            "changed": renewed.changed,
            "needs_restart": renewed.waiting,
            "problems": renewed.problems,
            "unfit": unfit,
        },
        "added": report.added,
        "changed": report.changed,
        "removed": report.removed,
        "certificates": certificates,
        "rejected": report.rejected,
        "waiting": report.waiting,
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
        Waited::Timeout { pending, notice } => {
            let names: Vec<&str> = pending.iter().map(|(name, _)| name.as_str()).collect();
            let reasons = pending.iter().filter_map(|(name, reason)| {
                let reason = reason.as_ref()?;
                Some((name.clone(), Value::from(reason.as_str())))
            });
            let reasons: Map<String, Value> = reasons.collect();
            json!({ "outcome": "timeout", "pending": names, "reasons": reasons, "notice": notice })
        }
        Waited::Draining => json!({ "outcome": "draining" }),
        Waited::Blind { notice } => json!({ "outcome": "blind", "notice": notice }),
        Waited::Unknown {
            did_you_mean,
            reason,
        } => {
            json!({ "outcome": "unknown", "did_you_mean": did_you_mean, "reason": reason })
        }
    })
}

/// The versions of a site, the newest first, and where its file is today, which need not be where it was then.
pub(super) fn history(
    (name, file): (&str, &Path),
    versions: &[Version],
    has_present: bool,
    whole: bool,
) -> Answer {
    let versions = versions.iter().enumerate().map(|(at, version)| {
        let text = match whole {
            true => version.text.clone(),
            false => mask(&version.text),
        };
        let before = versions.get(at + 1);
        json!({
            "since": seconds(version.since),
            "present": has_present && at == 0,
            "file": file.to_string_lossy(),
            "text": text,
            "same_as_before": before.is_some_and(|before| before.text == version.text),
        })
    });
    fine(json!({ "name": name, "versions": versions.collect::<Vec<_>>() }))
}

pub(super) fn gone() -> Answer {
    fine(json!({ "gone": true }))
}

pub(super) fn draining(limit: Duration, open: u64) -> Answer {
    fine(json!({ "draining": true, "limit": limit.as_secs(), "open": open }))
}

/// How many connections were cut.
pub(super) fn drained(cut: u64) -> Answer {
    fine(json!({ "drained": cut == 0, "cut": cut }))
}

pub(super) fn explained(explanation: &Explanation) -> Answer {
    // Texts and numbers: there is nothing in it that JSON does not have.
    fine(serde_json::to_value(explanation).unwrap_or_default())
}

fn fine(body: Value) -> Answer {
    text(200, JSON, format!("{body}\n"))
}

pub(super) fn text(status: u16, content_type: &'static str, body: String) -> Answer {
    Answer {
        status,
        content_type,
        body: Arc::new(body.into_bytes().into()),
        more: "",
    }
}

/// Nothing in it comes from elsewhere, and nothing of it may be shown inside of another.
pub(super) fn page() -> Answer {
    Answer {
        more: "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'\r\nReferrer-Policy: no-referrer\r\n",
        ..text(
            200,
            "text/html; charset=utf-8",
            include_str!("page.html").to_owned(),
        )
    }
}

/// The newest first.
pub(super) fn events(events: &Events) -> Answer {
    let events = events.last().into_iter().map(|event| {
        json!({
            "time": seconds(event.time),
            "level": event.level,
            "site": event.site,
            "text": event.text,
        })
    });
    fine(json!({ "events": events.collect::<Vec<_>>() }))
}
