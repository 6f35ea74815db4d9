//! What came of a connection or request: one value when it ends, counted in the worker's own block.

pub mod access;
pub mod events;
pub mod fields;
pub mod log;
mod mark;
pub mod panic;
mod reason;
mod trouble;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use reason::Reason;
pub use trouble::Trouble;

/// How one exchange, tunnel or refused connection ended.
#[derive(Debug)]
pub struct Finished {
    pub kind: Kind,
    pub protocol: Protocol,
    /// `Site::number`, when a site was found.
    pub site: Option<u32>,
    /// Of the response the client was sent; 0 when none was.
    pub status: u16,
    /// Of an answer of our own, or of an end that we made.
    pub reason: Option<Reason>,
    /// Body or relayed bytes from the client.
    pub from_client: u64,
    /// Body or relayed bytes to the client.
    pub to_client: u64,
    /// How often an upstream was tried in vain.
    pub retries: u32,
    /// On the coarse clock.
    pub took: Duration,
    /// When it began, for one of [`SAMPLE`]: looking at the clock costs.
    pub watch: Option<Instant>,
    /// Its line of the access log, where there is one.
    pub log: Option<Box<access::Begun>>,
}

/// Durations are measured of one request in so many on a worker.
pub const SAMPLE: u32 = 8;

impl Finished {
    /// One that has only begun.
    pub fn of(kind: Kind, protocol: Protocol, site: Option<u32>) -> Finished {
        Finished {
            kind,
            protocol,
            site,
            status: 0,
            reason: None,
            from_client: 0,
            to_client: 0,
            retries: 0,
            took: Duration::ZERO,
            watch: None,
            log: None,
        }
    }
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Http1,
    Http2,
    /// TLS that is passed through, or nothing that could be read.
    Other,
}

impl Protocol {
    /// All of them, each at its own number.
    pub const ALL: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Other];

    pub fn word(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Other => "other",
        }
    }
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that was answered, by a backend or by us.
    Exchange,
    /// An exchange that broke off: the client or the backend left in its middle, or a limit cut it.
    Aborted,
    /// An upgraded connection.
    Tunnel,
    /// A connection closed before a request could be read.
    Refused,
}

/// Where a connection is on its way, once that is known; an upgraded one is also still what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its TLS handshake with us.
    Handshake,
    Http1,
    Http2,
    /// TLS that is relayed unopened.
    Passthrough,
    /// Upgraded, on a connection of HTTP/1.
    Upgraded,
    /// The same on a stream of HTTP/2.
    UpgradedStream,
}

impl Stage {
    const COUNT: usize = Stage::UpgradedStream as usize + 1;
}

/// A connection is there for as long as this lives.
#[derive(Debug)]
pub struct InStage {
    counters: Arc<Counters>,
    stage: Stage,
}

impl Drop for InStage {
    fn drop(&mut self) {
        self.counters.stages[self.stage as usize].left.add(1);
    }
}

#[derive(Debug, Default)]
struct Staged {
    entered: Count,
    left: Count,
}

/// The counters of one worker. Only that worker writes, so a count is a load and a store; anybody may read.
#[derive(Debug, Default)]
#[repr(align(128))] // a cache line pair of its own: no two workers write to the same
pub struct Counters {
    pub connections: Count,
    pub closed: Count,
    pub exchanges: Count,
    pub aborted: Count,
    pub tunnels: Count,
    pub refused: Count,
    pub retries: Count,
    /// TLS handshakes that came to their end.
    pub handshakes: Count,
    /// Connections to backends that were opened for a request, and how often one went by a connection that was there.
    pub opened: Count,
    pub reused: Count,
    pub from_client: Count,
    pub to_client: Count,
    stages: [Staged; Stage::COUNT],
    reasons: Reasons,
}

#[derive(Debug)]
struct Reasons([Count; Reason::ALL.len()]);

impl Default for Reasons {
    fn default() -> Reasons {
        Reasons(std::array::from_fn(|_| Count::default()))
    }
}

/// One number with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// How many connections are open now, over all workers.
    pub fn open(all: &[Arc<Counters>]) -> u64 {
        let sum = |of: fn(&Counters) -> u64| -> u64 { all.iter().map(|one| of(one)).sum() };
        sum(|one| one.connections.read()).saturating_sub(sum(|one| one.closed.read()))
    }

    /// Counts a connection in this stage, until the answer is dropped.
    pub fn enter(self: &Arc<Counters>, stage: Stage) -> InStage {
        self.stages[stage as usize].entered.add(1);
        InStage {
            counters: Arc::clone(self),
            stage,
        }
    }

    /// How many have been in this stage so far, and how many of them have left it.
    pub fn in_stage(&self, stage: Stage) -> (u64, u64) {
        let staged = &self.stages[stage as usize];
        // In this order, so that nobody has left who has not entered.
        let left = staged.left.read();
        (staged.entered.read(), left)
    }

    /// Counts a connection that was closed outside of any exchange.
    pub fn because(&self, reason: Reason) {
        self.reasons.0[reason as usize].add(1);
    }

    /// How often this was the reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.reasons.0[reason as usize].read()
    }

    /// Counts what has ended.
    pub fn finished(&self, finished: &Finished) {
        match finished.kind {
            Kind::Exchange => self.exchanges.add(1),
            Kind::Aborted => self.aborted.add(1),
            Kind::Tunnel => self.tunnels.add(1),
            Kind::Refused => self.refused.add(1),
        }
        if let Some(reason) = finished.reason {
            self.because(reason);
        }
        if finished.retries > 0 {
            self.retries.add(u64::from(finished.retries));
        }
        self.from_client.add(finished.from_client);
        self.to_client.add(finished.to_client);
    }
}
