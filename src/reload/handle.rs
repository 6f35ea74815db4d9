//! What others may ask of the reload loop: a message there, an answer back.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::contest::Contest;
use super::gauges::Gauges;
use super::status::{Overview, Report, Until, Waited};
use crate::site::SiteName;
use crate::site::file::Rules;

/// A hold on the reload loop, for the admin socket and for signals. The loop ends with the last clone.
#[derive(Clone, Debug)]
pub struct Reload {
    requests: mpsc::UnboundedSender<Request>,
}

#[derive(Debug)]
pub(super) enum Request {
    Reload {
        accept_removals: bool,
        reply: oneshot::Sender<Report>,
    },
    Wait {
        name: Option<String>,
        until: Until,
        timeout: Duration,
        reply: oneshot::Sender<Waited>,
    },
    Rules {
        rules: Box<Rules>,
    },
    List {
        reply: oneshot::Sender<Overview>,
    },
    Gauges {
        reply: oneshot::Sender<Gauges>,
    },
    Contest {
        host: String,
        winner: Option<SiteName>,
        reply: oneshot::Sender<Contest>,
    },
    Gone {
        name: SiteName,
        cut: bool,
        reply: oneshot::Sender<bool>,
    },
    /// What is known of backends is another one.
    Backends,
    Flush {
        reply: oneshot::Sender<()>,
    },
    /// It is over: what only says how things are now is removed.
    Farewell {
        reply: oneshot::Sender<()>,
    },
    /// A fault somewhere in the loop.
    #[cfg(test)]
    Panic,
    /// A look that does not end before somebody says so.
    #[cfg(test)]
    Hang {
        until: std::sync::mpsc::Receiver<()>,
    },
}

impl Reload {
    pub(super) fn new() -> (Reload, mpsc::UnboundedReceiver<Request>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Reload { requests }, receiver)
    }

    #[cfg(test)]
    pub(super) fn panic(&self) {
        self.requests.send(Request::Panic).expect("it follows");
    }

    #[cfg(test)]
    pub(super) fn hang(&self) -> std::sync::mpsc::Sender<()> {
        let (end, until) = std::sync::mpsc::channel();
        self.requests
            .send(Request::Hang { until })
            .expect("it follows");
        end
    }

    /// Looks at everything on disk now and answers when what it found serves or is rejected, at the latest after
    /// ten seconds. `accept_removals`: what is gone may go, however much it is.
    pub async fn reload(&self, accept_removals: bool) -> Report {
        let ask = |reply| Request::Reload {
            accept_removals,
            reply,
        };
        self.ask(ask).await.unwrap_or_default()
    }

    /// From now on site files are read by `rules`, and all that are there once more.
    pub fn change_rules(&self, rules: Rules) {
        let rules = Box::new(rules);
        // A loop that has ended reads no more.
        self.requests.send(Request::Rules { rules }).ok();
    }

    /// Waits until what is on disk at the moment of the call serves on every worker, or for what else `until` says of a
    /// site. Without a name: all files. Dropping the future changes nothing.
    pub async fn wait(&self, name: Option<String>, until: Until, timeout: Duration) -> Waited {
        let ask = |reply| Request::Wait {
            name,
            until,
            timeout,
            reply,
        };
        let waited = self.ask(ask).await;
        waited.unwrap_or(Waited::Timeout {
            pending: Vec::new(),
            notice: None,
        })
    }

    /// A backend has gone out or come back: whoever waits for one looks again.
    pub fn backends_changed(&self) {
        // A loop that has ended has nobody who waits.
        self.requests.send(Request::Backends).ok();
    }

    /// Every file of the sites directory.
    pub async fn list(&self) -> Overview {
        self.ask(|reply| Request::List { reply })
            .await
            .unwrap_or_default()
    }

    /// What metrics want to know.
    pub async fn gauges(&self) -> Gauges {
        self.ask(|reply| Request::Gauges { reply })
            .await
            .unwrap_or_default()
    }

    /// Who wants to answer for `host`, a normalised name, which `winner` does.
    pub async fn contest(&self, host: &str, winner: Option<SiteName>) -> Contest {
        let host = host.to_owned();
        self.ask(|reply| Request::Contest {
            host,
            winner,
            reply,
        })
        .await
        .unwrap_or_default()
    }

    /// Its operator has removed the file of `name` and means it: no grace. `cut`: open work is not waited for either.
    /// `false`: the file is still there, and nothing is done.
    pub async fn gone(&self, name: SiteName, cut: bool) -> bool {
        self.ask(|reply| Request::Gone { name, cut, reply })
            .await
            .unwrap_or_default()
    }

    /// Waits until what is live is on disk in the state directory, or has failed to be. For a polite end.
    pub async fn flush(&self) {
        self.ask(|reply| Request::Flush { reply })
            .await
            .unwrap_or_default();
    }

    /// Removes the status files: nothing of what they say is so any more. For a polite end.
    pub async fn farewell(&self) {
        self.ask(|reply| Request::Farewell { reply })
            .await
            .unwrap_or_default();
    }

    /// `None` when the loop has ended, with the runtime it ran on.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).ok()?;
        answer.await.ok()
    }
}
