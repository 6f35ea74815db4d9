//! What `ls`, `wait` and `reload` tell about site files.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::swapped::CertificateChange;
use crate::site::counts::Sums;

/// The state of a file, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// What is on disk serves.
    Live,
    /// What is on disk cannot be used; an older version serves.
    Stale,
    /// What is on disk cannot be used, and there is no older version.
    Down,
    /// Another site owns a name it claims. An older version may serve.
    Conflict,
    /// It waits for something else: a certificate file, a first fit backend.
    Waiting,
    /// No site file, by its name.
    Ignored,
}

impl State {
    pub const ALL: [State; 6] = [
        State::Live,
        State::Stale,
        State::Down,
        State::Conflict,
        State::Waiting,
        State::Ignored,
    ];

    pub fn word(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Stale => "stale",
            State::Down => "down",
            State::Conflict => "conflict",
            State::Waiting => "waiting",
            State::Ignored => "ignored",
        }
    }
}

/// One file of the sites directory, as of now.
#[derive(Clone, Debug)]
pub struct FileStatus {
    /// The name of the site; of an ignored file its own.
    pub name: String,
    pub path: PathBuf,
    pub state: State,
    /// Of the state.
    pub since: SystemTime,
    /// When the version that serves went live. `None`: none serves.
    pub serving_since: Option<SystemTime>,
    /// What the version that serves claims, hosts first; without one, empty.
    pub hosts: Vec<String>,
    /// Where the version that serves goes, each once.
    pub to: Vec<String>,
    /// The same, with what is known of them.
    pub backends: Vec<BackendStatus>,
    /// Client connections that are with it now. `None`: nothing of it serves.
    pub connections: Option<usize>,
    /// What it has answered so far.
    pub answered: Option<Sums>,
    /// What it says itself: `respond 200`, `redirect https://www.shop.test`; each once.
    pub answers: Vec<String>,
    pub note: Option<String>,
    /// Why requests and connections for it were refused or ended by onedoor, and how often; since it first went live.
    pub refusals: Vec<(&'static str, u64)>,
    /// Drawn for a terminal, errors first, then warnings.
    pub problems: Vec<String>,
    /// Why it is in this state, in one line, where that is not the problems.
    pub reason: Option<String>,
}

impl FileStatus {
    /// The same without what changes with every request: written into a file, which must not change all the time.
    pub(super) fn state_json(&self) -> Value {
        let mut json = self.json();
        if let Some(object) = json.as_object_mut() {
            for counted in [
                "connections",
                "requests",
                "errors",
                "durations",
                "backends",
                "refusals",
            ] {
                object.remove(counted);
            }
        }
        json
    }

    /// As programs get it.
    pub fn json(&self) -> Value {
        let status = self;
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
            "answers": status.answers,
            "connections": status.connections,
            "requests": status.answered.as_ref().map(Sums::requests),
            "errors": status.answered.as_ref().map(Sums::errors),
            "durations": status.answered.as_ref().map(|sums| sums.durations),
            "backends": status.backends.iter().map(BackendStatus::json).collect::<Vec<_>>(),
            "since": seconds(status.since),
            "serving_since": status.serving_since.map(seconds),
            "note": status.note,
            "refusals": refusals,
            "problems": status.problems,
            "reason": status.reason,
        })
    }
}

/// Unix time: programs compare it, and `ls` knows how people like to read it.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// One backend of a site, as of now.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// As the file has it, or nearly.
    pub at: String,
    pub fit: bool,
    /// What was found out about it, in one line.
    pub reason: Option<String>,
    /// What its name leads to.
    pub addresses: Vec<String>,
    pub in_flight: u32,
}

impl BackendStatus {
    fn json(&self) -> Value {
        json!({
            "at": self.at,
            "fit": self.fit,
            "reason": self.reason,
            "addresses": self.addresses,
            "in_flight": self.in_flight,
        })
    }
}

/// The whole sites directory, as of now.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// In the order of names, ignored ones last.
    pub files: Vec<FileStatus>,
    /// What stands between the directory and what serves, in one line, with what to do.
    pub notice: Option<String>,
}

/// What a reload brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names of sites, each list in order.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// In the order in which they were noticed.
    pub certificates: Vec<CertificateChange>,
    /// Everything on disk that cannot be served as it is, also from before.
    pub rejected: Vec<String>,
    /// Those of what is on disk that wait for a certificate file, or for a backend that passes their check.
    pub waiting: Vec<String>,
    /// Still being written when the reload ended.
    pub unsettled: Vec<String>,
    /// How many sites serve now.
    pub live: usize,
    /// What is gone or cannot be seen and is served all the same, and how to have that ended.
    pub kept: Option<String>,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// What is on disk serves.
    Serving,
    /// The site is served no more.
    Gone,
    /// What is on disk serves, and no request or stream is left on backends that it does not name.
    Drained,
}

/// How a `wait` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// What is on disk serves, on every worker.
    Serving,
    /// No worker serves it any more.
    Gone,
    /// It serves, or is gone, and nothing is left on backends that its file does not name any more.
    Drained,
    /// Drawn for a terminal.
    Rejected { problems: Vec<String> },
    /// Still to come at the end of the time, each with what it lacks where that is known; and what may be the reason.
    Timeout {
        pending: Vec<(String, Option<String>)>,
        notice: Option<String>,
    },
    /// It serves, but not for long: the daemon is on its way to its end.
    Draining,
    /// The sites directory is away or closed, so nobody knows: why, and what to do.
    Blind { notice: String },
    /// There is no such site file.
    Unknown {
        did_you_mean: Option<String>,
        reason: Option<String>,
    },
}

/// What there is after the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub live: usize,
    /// Those of them whose certificate files are still being read.
    pub unread: usize,
    /// Files that are not served as they are: stale, down, in conflict.
    pub not_live: usize,
    /// Sites that serve and have no file.
    pub kept: usize,
    pub ignored: usize,
    /// Why they do, and what to do about it.
    pub notice: Option<String>,
}

/// `14:02:07 UTC`, and how many days before `now` that was, where it was not the same day.
pub(super) fn clock(time: SystemTime, now: SystemTime) -> String {
    let of_day = seconds(time) % 86_400;
    let second = of_day % 60;
    format!("{}:{second:02} UTC{}", hour(of_day), days(time, now))
}

/// `14:02 UTC`, the same.
pub(super) fn minute(time: SystemTime, now: SystemTime) -> String {
    format!("{} UTC{}", hour(seconds(time) % 86_400), days(time, now))
}

fn hour(of_day: u64) -> String {
    format!("{:02}:{:02}", of_day / 3600, of_day / 60 % 60)
}

fn days(time: SystemTime, now: SystemTime) -> String {
    match (seconds(now) / 86_400).saturating_sub(seconds(time) / 86_400) {
        0 => String::new(),
        1 => " yesterday".to_owned(),
        days => format!(" {days} days ago"),
    }
}

/// `19998` is hard to read in a hurry.
pub(super) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(19_998), "19,998");
        assert_eq!(thousands(1_000_000), "1,000,000");
        let then = UNIX_EPOCH + Duration::from_secs(86_400 + 14 * 3600 + 127);
        let later = |hours: u64| clock(then, then + Duration::from_secs(hours * 3600));
        assert_eq!(later(0), "14:02:07 UTC");
        assert_eq!(later(10), "14:02:07 UTC yesterday");
        assert_eq!(later(48), "14:02:07 UTC 2 days ago");
        let hour = Duration::from_secs(3600);
        assert_eq!(minute(then, then + hour), "14:02 UTC");
        assert_eq!(minute(then, then + 10 * hour), "14:02 UTC yesterday");
    }
}
