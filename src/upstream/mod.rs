//! Open connections to backends: take an idle one, or open one.

mod balance;
mod connect;
mod dial;
mod endpoint;
mod http2;
mod introduced;
mod pool;
mod resolve;
mod socket;
mod states;
mod tally;
mod trying;

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::observe::Trouble;
use crate::site::fitness::Moment;
use crate::site::{Address, Member, SendProxy};
use crate::stream::Stream;
use crate::tls::{Keyring, Turnstile};
use crate::wheel::{Tick, Timer, Wheel};

pub use balance::{Among, Balancer, PLACES, Tried, Way};
pub use connect::{reach, secure};
use dial::{Progress, leads_elsewhere, no_identity};
pub use endpoint::Endpoint;
pub use http2::{
    Line, alone, breach, is_stream_reset, is_untouched, takes_no_websockets, wants_http1,
};
use introduced::AllIntroduced;
pub use introduced::Introduced;
use pool::{Pool, Room};
pub use resolve::look_up;
pub use states::States;
pub use tally::{InFlight, Tally};

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process started, the same for all threads; what is known of backends is dated by it. Asks the
/// system's clock, so not on the way of a request that finds a fit backend.
pub fn moment() -> Moment {
    Moment::try_from(STARTED.elapsed().as_millis()).map_or(Moment::MAX, |now| now + 1)
}

/// An open connection to a backend. Dropping it closes it; [`Upstreams::give_back`] keeps it for another exchange.
#[derive(Debug)]
pub struct Upstream {
    pub stream: Stream,
    pub endpoint: Endpoint,
    /// Whether it has carried an exchange before: then it may turn out to be closed.
    pub reused: bool,
    /// Whether a backend has authenticated one client by this connection: it belongs to that client for good.
    pub is_pinned: bool,
    /// The PROXY header it began with: then it is the connection of one client, and of no other (CASES T-32).
    pub introduced: Option<SendProxy>,
    /// How long it may wait for the next request of the one client that it belongs to.
    pub kept_until: Tick,
}

impl Upstream {
    /// Whether its connection was opened for it, and is not one that others have begun.
    pub fn is_opened(&self) -> bool {
        match &self.stream {
            Stream::Line(line) => line.is_first(),
            _ => !self.reused,
        }
    }

    /// Whether it is one of many on a connection of HTTP/2.
    pub fn is_shared(&self) -> bool {
        matches!(self.stream, Stream::Line(_))
    }

    /// Whether it is open and has said nothing that nobody asked for. No system call.
    pub fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }
}

/// Why there is no upstream.
#[derive(Debug)]
pub enum UpstreamError {
    /// Nobody listens there, or the way there is closed.
    Refused { backend: Address, source: io::Error },
    TimedOut {
        backend: Address,
        after: Duration,
        during: Phase,
    },
    /// It accepts, and TLS with it comes to nothing.
    Tls {
        backend: Address,
        /// For a person; names the backend.
        why: String,
    },
    /// It accepts, and what it says is no HTTP/2.
    NoHttp2 {
        backend: Address,
        /// For a person; names the backend.
        why: String,
    },
    /// The name has no address.
    Unresolved { backend: Address, source: io::Error },
    /// It is ours: no descriptors, memory or ports are left for any upstream.
    Exhausted { source: io::Error },
}

impl UpstreamError {
    /// Whether nobody is there: another place may be asked, and who comes back may be waited for. What is wrong with TLS
    /// stays wrong, and is no reason to go where something else is believed; nor does anybody learn another protocol.
    pub fn is_absence(&self) -> bool {
        match self {
            UpstreamError::Refused { .. } | UpstreamError::Unresolved { .. } => true,
            UpstreamError::TimedOut { during, .. } => *during == Phase::Connect,
            UpstreamError::Tls { .. }
            | UpstreamError::NoHttp2 { .. }
            | UpstreamError::Exhausted { .. } => false,
        }
    }
}

/// What may be spoken on an upstream, where the backend leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Any,
    /// The connection as a whole may become something else.
    Http1,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The files that its TLS needs are being read.
    Files,
    /// Somebody else opens a connection that may be shared.
    Others,
    Connect,
    Handshake,
    /// What the backend says first in HTTP/2.
    Greeting,
}

/// The upstreams of one worker.
#[derive(Debug)]
pub struct Upstreams {
    room: Rc<Room>,
    pool: RefCell<Pool>,
    http2: http2::Connections,
    introduced: AllIntroduced,
    keyring: Arc<Keyring>,
    turnstile: Rc<Turnstile>,
    wheel: Rc<Wheel>,
    exhausted: Trouble,
    /// Which address of a name comes next.
    turn: Cell<u64>,
}

impl Upstreams {
    /// Keeps at most `most` idle ones, and `most_per_backend` to the same endpoint.
    pub fn new(
        most_per_backend: usize,
        most: usize,
        keyring: Arc<Keyring>,
        turnstile: Rc<Turnstile>,
        wheel: Rc<Wheel>,
    ) -> Upstreams {
        let room = Room::new(most);
        Upstreams {
            pool: RefCell::new(Pool::new(most_per_backend, Rc::clone(&room))),
            http2: http2::Connections::new(Rc::clone(&room)),
            introduced: AllIntroduced::new(Rc::clone(&room)),
            room,
            keyring,
            turnstile,
            wheel,
            exhausted: Trouble::default(),
            turn: Cell::new(RandomState::default().hash_one(0)),
        }
    }

    /// Other numbers than those it was made with, from now on.
    pub fn allow(&self, most_per_backend: usize, most: usize) {
        self.pool.borrow_mut().allow(most_per_backend);
        self.room.allow(most);
    }

    /// An idle upstream to `backend`, the one used last. One that was closed meanwhile, or has said something
    /// nobody asked for (CASES R-08), is dropped. No system call.
    pub fn take_idle(&self, member: &Member, speaks: Speaks) -> Option<Upstream> {
        let backend = &member.backend;
        let Address::Name { .. } = backend.address else {
            return self.take_idle_of(Endpoint::of(backend)?, speaks);
        };
        // When there is none, a new one is opened there.
        let next = member.state.next_address(self.turn.get())?;
        let idle = self.take_idle_of(Endpoint::at(&next, backend)?, speaks)?;
        self.turn();
        Some(idle)
    }

    fn take_idle_of(&self, endpoint: Endpoint, speaks: Speaks) -> Option<Upstream> {
        if (speaks == Speaks::Any || endpoint.is_h2c())
            && endpoint.may_speak_http2()
            && let Some(line) = self.http2.line(&endpoint)
        {
            return Some(on_line(line, endpoint, true));
        }
        let mut pool = self.pool.borrow_mut();
        while let Some(stream) = pool.take(&endpoint, self.wheel.now()) {
            let upstream = Upstream {
                stream,
                endpoint: endpoint.clone(),
                reused: true,
                is_pinned: false,
                introduced: None,
                kept_until: Tick::MAX,
            };
            if upstream.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Opens an upstream to `member`, says `first` on it, and then shakes hands where TLS is spoken, waiting at most
    /// `limit` for all of it. Never retries, the caller chooses; but where nothing is left to open one with, idle
    /// upstreams are given up for it. Of a name, one address after the other is tried, each connection beginning with
    /// another one.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn open(
        &self,
        member: &Member,
        speaks: Speaks,
        first: &[u8],
        limit: Duration,
        timer: &Timer,
    ) -> Result<Upstream, UpstreamError> {
        let address = &member.backend.address;
        let progress = Progress {
            phase: Cell::new(Phase::Connect),
            trying: RefCell::default(),
        };
        let opening = async {
            match address {
                // Boxed, so that an exchange with any other is no larger for it.
                Address::Name { .. } => {
                    return Box::pin(self.dial_name(member, speaks, first, limit, &progress)).await;
                }
                _ => {
                    self.dial_at(address, &member.backend, speaks, first, &progress)
                        .await
                }
            }
            .map(|stream| (stream, address.clone()))
        };
        let (stream, at) = match timer.within(limit, opening).await {
            Ok(opened) => opened?,
            Err(_) => {
                // Whose site is gone has not waited for its end, and slow files are our own.
                if let Some(trying) = progress.trying.take()
                    && timer.cut().is_none()
                    && progress.phase.get() != Phase::Files
                {
                    trying.failed();
                    leads_elsewhere(member);
                }
                return Err(UpstreamError::TimedOut {
                    backend: address.clone(),
                    after: limit,
                    during: progress.phase.get(),
                });
            }
        };
        Ok(Upstream {
            stream,
            endpoint: Endpoint::at(&at, &member.backend).ok_or_else(|| no_identity(address))?,
            reused: false,
            is_pinned: false,
            introduced: None,
            kept_until: Tick::MAX,
        })
    }

    fn turn(&self) -> u64 {
        let turn = self.turn.get();
        self.turn.set(RandomState::default().hash_one(turn));
        turn
    }

    /// Closes all idle upstreams, because somebody needs what they hold. Whether there were any.
    pub fn close_idle(&self) -> bool {
        self.pool.borrow_mut().clear() + self.introduced.clear() + self.http2.close_idle() > 0
    }

    /// Keeps `upstream` for at most `idle`. The caller knows that its last exchange has ended where it should.
    pub fn give_back(&self, upstream: Upstream, idle: Duration) {
        if matches!(upstream.stream, Stream::Line(_)) {
            return; // its connection is kept
        }
        let until = self.wheel.at(idle);
        self.pool
            .borrow_mut()
            .give_back(upstream.endpoint, upstream.stream, until);
    }

    /// Where a client connection keeps its own, which are told whose they are.
    pub fn introduced(&self) -> Rc<Introduced> {
        self.introduced.begin()
    }

    /// Closes what has been idle for too long, or that the backend has closed. Called once a second.
    pub fn sweep(&self) {
        self.pool.borrow_mut().sweep(self.wheel.now());
        self.introduced.sweep(self.wheel.now());
        self.http2.sweep();
    }

    /// How many are idle.
    pub fn idle(&self) -> usize {
        self.pool.borrow().len()
    }
}

fn on_line(line: Line, endpoint: Endpoint, reused: bool) -> Upstream {
    Upstream {
        stream: Stream::Line(Box::new(line)),
        endpoint,
        reused,
        is_pinned: false,
        introduced: None,
        kept_until: Tick::MAX,
    }
}
