//! Open connections to backends: take an idle one, or open one.

mod balance;
mod connect;
mod endpoint;
mod pool;
mod resolve;
mod states;
mod tally;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::observe::Trouble;
use crate::site::backend_tls::BackendTls;
use crate::site::fitness::Moment;
use crate::site::{Address, Backend, SendProxy};
use crate::stream::Stream;
use crate::tls::{Identity, Keyring, Turnstile};
use crate::wheel::{Timer, Wheel};

pub use balance::{Among, Balancer, PLACES, Tried, Way};
pub use endpoint::Endpoint;
use pool::Pool;
pub use resolve::Resolver;
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
}

impl Upstream {
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
    /// The name has no address.
    Unresolved { backend: Address, source: io::Error },
    /// It is ours: no descriptors, memory or ports are left for any upstream.
    Exhausted { source: io::Error },
}

/// How far opening an upstream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The files that its TLS needs are being read.
    Files,
    Connect,
    Handshake,
}

/// The upstreams of one worker.
#[derive(Debug)]
pub struct Upstreams {
    pool: RefCell<Pool>,
    resolver: Arc<Resolver>,
    keyring: Arc<Keyring>,
    turnstile: Rc<Turnstile>,
    wheel: Rc<Wheel>,
    exhausted: Trouble,
}

impl Upstreams {
    /// Keeps at most `most` idle ones, and `most_per_backend` to the same endpoint.
    pub fn new(
        most_per_backend: usize,
        most: usize,
        resolver: Arc<Resolver>,
        keyring: Arc<Keyring>,
        turnstile: Rc<Turnstile>,
        wheel: Rc<Wheel>,
    ) -> Upstreams {
        Upstreams {
            pool: RefCell::new(Pool::new(most_per_backend, most)),
            resolver,
            keyring,
            turnstile,
            wheel,
            exhausted: Trouble::default(),
        }
    }

    /// An idle upstream to `backend`, the one used last. One that was closed meanwhile, or has said something
    /// nobody asked for (CASES R-08), is dropped. No system call.
    pub fn take_idle(&self, backend: &Backend) -> Option<Upstream> {
        let endpoint = Endpoint::of(backend)?;
        let mut pool = self.pool.borrow_mut();
        while let Some(stream) = pool.take(&endpoint, self.wheel.now()) {
            let upstream = Upstream {
                stream,
                endpoint: endpoint.clone(),
                reused: true,
                is_pinned: false,
                introduced: None,
            };
            if upstream.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Opens an upstream to `backend`, says `first` on it, and then shakes hands where TLS is spoken, waiting at most
    /// `limit` for all of it. Never retries, the caller chooses; but where nothing is left to open one with, idle
    /// upstreams are given up for it.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn open(
        &self,
        backend: &Backend,
        first: &[u8],
        limit: Duration,
        timer: &Timer,
    ) -> Result<Upstream, UpstreamError> {
        let Backend { address, tls } = backend;
        let phase = Cell::new(Phase::Connect);
        let opening = async {
            match tls {
                None => self.dial_and_say(address, first).await,
                // Boxed, so that a clear text exchange is no larger for it.
                Some(tls) => Box::pin(self.dial_tls(address, first, tls, &phase)).await,
            }
        };
        let stream = match timer.within(limit, opening).await {
            Ok(opened) => opened?,
            Err(_) => {
                return Err(UpstreamError::TimedOut {
                    backend: address.clone(),
                    after: limit,
                    during: phase.get(),
                });
            }
        };
        Ok(Upstream {
            stream,
            endpoint: Endpoint::of(backend).ok_or_else(|| no_identity(address))?,
            reused: false,
            is_pinned: false,
            introduced: None,
        })
    }

    async fn dial_tls(
        &self,
        address: &Address,
        first: &[u8],
        tls: &BackendTls,
        phase: &Cell<Phase>,
    ) -> Result<Stream, UpstreamError> {
        phase.set(Phase::Files);
        let identity = self.identity(address, tls).await?;
        phase.set(Phase::Connect);
        let stream = self.dial_and_say(address, first).await?;
        phase.set(Phase::Handshake);
        self.turnstile.turn_up().await;
        connect::secure(stream, &identity, address).await
    }

    async fn dial_and_say(&self, address: &Address, first: &[u8]) -> Result<Stream, UpstreamError> {
        let mut stream = self.dial(address).await?;
        match stream.put_all(first).await {
            Ok(()) => Ok(stream),
            Err(source) => Err(UpstreamError::Refused {
                backend: address.clone(),
                source,
            }),
        }
    }

    /// How TLS is spoken to it. Early in a start its files are still being read.
    async fn identity(
        &self,
        address: &Address,
        tls: &BackendTls,
    ) -> Result<Arc<Identity>, UpstreamError> {
        loop {
            let read = self.keyring.something_was_read();
            match tls.identity.get() {
                Some(Ok(identity)) => {
                    let found = self.keyring.identity(identity);
                    return found.ok_or_else(|| no_identity(address));
                }
                Some(Err(why)) => {
                    return Err(UpstreamError::Tls {
                        backend: address.clone(),
                        why: format!("TLS with {address} is not set up: {why}"),
                    });
                }
                None => read.await,
            }
        }
    }

    async fn dial(&self, address: &Address) -> Result<Stream, UpstreamError> {
        let mut dialled = connect::dial(address, &self.resolver).await;
        if matches!(dialled, Err(UpstreamError::Exhausted { .. })) && self.close_idle() {
            dialled = connect::dial(address, &self.resolver).await;
        }
        match &dialled {
            Err(UpstreamError::Exhausted { source }) if self.exhausted.is_to_be_said() => {
                warn!(cause = %source, "cannot open connections to backends; answering 503");
            }
            Ok(_) if self.exhausted.is_over() => {
                info!("connections to backends can be opened again");
            }
            _ => {}
        }
        dialled
    }

    /// Closes all idle upstreams, because somebody needs what they hold. Whether there were any.
    pub fn close_idle(&self) -> bool {
        self.pool.borrow_mut().clear() > 0
    }

    /// Keeps `upstream` for at most `idle`. The caller knows that its last exchange has ended where it should.
    pub fn give_back(&self, upstream: Upstream, idle: Duration) {
        let until = self.wheel.at(idle);
        self.pool
            .borrow_mut()
            .give_back(upstream.endpoint, upstream.stream, until);
    }

    /// Closes what has been idle for too long. Called once a second.
    pub fn sweep(&self) {
        self.pool.borrow_mut().sweep(self.wheel.now());
    }

    /// How many are idle.
    pub fn idle(&self) -> usize {
        self.pool.borrow().len()
    }
}

/// Cannot be: the keyring keeps what the site has.
fn no_identity(address: &Address) -> UpstreamError {
    UpstreamError::Tls {
        backend: address.clone(),
        why: format!("TLS with {address} is not set up"),
    }
}
