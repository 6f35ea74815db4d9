//! What a walk found, as it is told to programs, and as what is printed for people is made from.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Changes, Greeting};
use crate::http::answer::Answer;
use crate::observe::Reason;

/// See the module. `None` and empty where the walk has not come so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub method: String,
    pub url: String,
    pub client: IpAddr,
    pub offline: bool,
    /// Where it would arrive.
    pub listener: Option<SocketAddr>,
    pub tls: Option<Greeting>,
    /// The host as it is understood.
    pub hostname: Option<String>,
    pub site: Option<Winner>,
    /// Who else claims the name.
    pub lost: Vec<Loser>,
    pub path: Option<PathWalk>,
    pub limits: Vec<Limit>,
    /// What changes in the head on its way to the app.
    pub request: Changes,
    /// What the site changes in the response.
    pub response: Changes,
    pub backends: Vec<BackendState>,
    /// How one of them is chosen, where there are several.
    pub balance: Option<String>,
    pub outcome: Outcome,
    /// What may help.
    pub hints: Vec<String>,
}

/// The site that answers, and the claim that made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winner {
    pub name: String,
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub pattern: String,
    pub state: String,
    /// Of the state, in Unix time.
    #[serde(default)]
    pub since: Option<u64>,
    /// Why it is in this state, where it is not live.
    #[serde(default)]
    pub why: Option<String>,
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loser {
    pub name: String,
    pub file: Option<String>,
    pub line: u32,
    pub column: u32,
    pub pattern: String,
    pub why: String,
}

/// Which part of the site answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathWalk {
    pub path: String,
    /// `None`: the site itself.
    pub rule: Option<Rule>,
    /// What the app is asked for, where that differs.
    pub sent_as: Option<String>,
    pub lost: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    #[serde(rename = "match")]
    pub pattern: String,
    pub line: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// As in a file: `timeout.connect`.
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendState {
    pub address: String,
    pub state: String,
    /// Whether the next such request would go there.
    pub chosen: bool,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub kind: OutcomeKind,
    /// `None`: the app decides, or there is none.
    pub status: Option<u16>,
    /// As in Onedoor-Reason.
    pub reason: Option<String>,
    pub location: Option<String>,
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// An app answers.
    Forward,
    /// An app gets the whole connection.
    PassThrough,
    Respond,
    Redirect,
    /// An answer of our own that says no.
    Refuse,
    /// No answer: the connection ends.
    Close,
}

impl Outcome {
    pub(super) fn of(kind: OutcomeKind, status: u16, words: impl Into<String>) -> Outcome {
        Outcome {
            kind,
            status: Some(status),
            reason: None,
            location: None,
            words: words.into(),
        }
    }

    pub(super) fn closed(reason: Reason, words: &str) -> Outcome {
        Outcome {
            kind: OutcomeKind::Close,
            status: None,
            reason: Some(reason.code().to_owned()),
            location: None,
            words: words.to_owned(),
        }
    }

    pub(super) fn redirect(status: u16, location: String) -> Outcome {
        Outcome {
            location: Some(location.clone()),
            ..Outcome::of(OutcomeKind::Redirect, status, format!("to {location}"))
        }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        let (status, reason, sentence) = answer.parts();
        Outcome {
            reason: Some(reason.code().to_owned()),
            ..Outcome::of(OutcomeKind::Refuse, status, sentence)
        }
    }
}
