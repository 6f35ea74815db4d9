//! One asking: connects to one backend, says what a visitor would, and judges the answer. Bounded in time and bytes.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::judge::Judge;
use crate::parsed::Parsed;
use crate::site::Address;
use crate::site::health::{Ask, Check};
use crate::tls::Identity;
use crate::upstream::{self, Speaks, UpstreamError};

/// Read at once: a health page in one piece.
const READ_BYTES: usize = 8 << 10;

/// What is asked of whom.
#[derive(Debug)]
pub(super) struct Probe {
    /// No name: what it leads to.
    pub(super) address: Address,
    /// `None`: clear text.
    pub(super) identity: Option<Arc<Identity>>,
    /// HTTP/2 by prior knowledge.
    pub(super) h2c: bool,
    pub(super) check: Arc<Check>,
    /// A PROXY header, or nothing.
    pub(super) introduction: Box<[u8]>,
    /// The request; of no use for a connect.
    pub(super) head: Box<[u8]>,
}

/// Why a backend does not pass, said of the backend.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(io::Error),
    Tls(String),
    SpeaksTls,
    SpeaksNoHttp2(io::Error),
    TimedOut {
        after: Duration,
        during: Phase,
    },
    Closed(&'static str),
    Malformed(&'static str),
    Status(u16),
    /// What its body must contain is not there.
    Lacks,
    /// Nothing is known of it: onedoor has nothing left to ask with.
    Exhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Handshake,
    Answer,
}

impl Probe {
    /// Asks once. Dropping the future ends it.
    ///
    /// # Errors
    /// Why it does not pass.
    pub(super) async fn ask(&self) -> Result<(), Failure> {
        let phase = Cell::new(Phase::Connect);
        let after = self.check.timeout;
        tokio::time::timeout(after, self.ask_without_end(&phase))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::TimedOut {
                    after,
                    during: phase.get(),
                })
            })
    }

    async fn ask_without_end(&self, phase: &Cell<Phase>) -> Result<(), Failure> {
        let mut stream = upstream::reach(&self.address).await?;
        // Who closes already has said no.
        stream
            .put_all(&self.introduction)
            .await
            .map_err(Failure::Refused)?;
        if let Some(identity) = &self.identity {
            phase.set(Phase::Handshake);
            // As for a visitor: it chooses what is spoken.
            stream = upstream::secure(stream, identity, &self.address, Speaks::Any).await?;
        }
        let Ask::Get(get) = &self.check.ask else {
            return Ok(());
        };
        phase.set(Phase::Answer);
        if self.h2c || stream.alpn() == Some(b"h2") {
            let line = upstream::alone(stream, &self.address).await;
            stream = line.map_err(Failure::SpeaksNoHttp2)?;
        }
        // Whoever answers without reading may be right; what it says decides.
        let said = stream.put_all(&self.head).await;
        let mut judge = Judge::of(get);
        let mut bytes = [0; READ_BYTES];
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) => return Err(judge.ended()),
                Ok(count) => match judge.take(&mut bytes[..count])? {
                    Parsed::Complete(()) => return Ok(()),
                    Parsed::NeedMore => {}
                },
                Err(_) if said.is_ok() => return Err(judge.ended()),
                Err(_) => return Err(Failure::Closed("before it was asked")),
            }
        }
    }

    /// What is said of a pass.
    pub(super) fn passes(&self) -> String {
        let Probe { address, check, .. } = self;
        match &check.ask {
            Ask::Connect => format!("{address} accepts connections"),
            Ask::Get(get) => format!("GET {} on {address} passes", get.path),
        }
    }

    /// What is said of a failure, in one line.
    pub(super) fn told(&self, failure: &Failure) -> String {
        let Probe { address, check, .. } = self;
        match (&check.ask, failure) {
            (_, Failure::Tls(why)) => why.clone(),
            (
                Ask::Get(get),
                Failure::Closed(_)
                | Failure::Malformed(_)
                | Failure::SpeaksNoHttp2(_)
                | Failure::Status(_)
                | Failure::Lacks
                | Failure::TimedOut {
                    during: Phase::Answer,
                    ..
                },
            ) => format!("GET {} on {address} {failure}", get.path),
            _ => format!("{address} {failure}"),
        }
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Failure {
        match error {
            UpstreamError::Refused { source, .. } | UpstreamError::Unresolved { source, .. } => {
                Failure::Refused(source)
            }
            UpstreamError::Tls { why, .. } | UpstreamError::NoHttp2 { why, .. } => {
                Failure::Tls(why)
            }
            UpstreamError::TimedOut { after, .. } => Failure::TimedOut {
                after,
                during: Phase::Connect,
            },
            UpstreamError::Exhausted { .. } => Failure::Exhausted,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(source) => write!(f, "does not accept connections: {source}"),
            Failure::Tls(why) => f.write_str(why),
            Failure::SpeaksTls => f.write_str("speaks TLS; write \"https://\" in front of it"),
            Failure::SpeaksNoHttp2(error) => write!(f, "is not answered in HTTP/2: {error}"),
            Failure::TimedOut { after, during } => match during {
                Phase::Connect => write!(f, "does not accept within {after:?}"),
                Phase::Handshake => write!(f, "does not shake hands within {after:?}"),
                Phase::Answer => write!(f, "does not answer within {after:?}"),
            },
            Failure::Closed(when) => write!(f, "closes the connection {when}"),
            Failure::Malformed(what) => write!(f, "answers something else than HTTP: {what}"),
            Failure::Status(status) => write!(f, "answers {status}"),
            Failure::Lacks => f.write_str("answers without what its body must contain"),
            Failure::Exhausted => f.write_str("cannot be asked: nothing is left to connect with"),
        }
    }
}
