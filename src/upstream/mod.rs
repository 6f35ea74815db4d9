//! Open connections to backends: take an idle one, or open one.

mod connect;
mod pool;
mod resolve;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::observe::Trouble;
use crate::site::{Address, SendProxy};
use crate::stream::Stream;
use crate::wheel::{Timer, Wheel};

use pool::Pool;
pub use resolve::Resolver;

/// An open connection to a backend. Dropping it closes it; [`Upstreams::give_back`] keeps it for another exchange.
#[derive(Debug)]
pub struct Upstream {
    pub stream: Stream,
    pub address: Address,
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
    Refused {
        backend: Address,
        source: io::Error,
    },
    TimedOut {
        backend: Address,
        after: Duration,
    },
    /// The name has no address.
    Unresolved {
        backend: Address,
        source: io::Error,
    },
    /// It is ours: no descriptors, memory or ports are left for any upstream.
    Exhausted {
        source: io::Error,
    },
}

/// The upstreams of one worker.
#[derive(Debug)]
pub struct Upstreams {
    pool: RefCell<Pool>,
    resolver: Arc<Resolver>,
    wheel: Rc<Wheel>,
    exhausted: Trouble,
}

impl Upstreams {
    /// Keeps at most `most` idle ones, and `most_per_backend` to the same address.
    pub fn new(
        most_per_backend: usize,
        most: usize,
        resolver: Arc<Resolver>,
        wheel: Rc<Wheel>,
    ) -> Upstreams {
        Upstreams {
            pool: RefCell::new(Pool::new(most_per_backend, most)),
            resolver,
            wheel,
            exhausted: Trouble::default(),
        }
    }

    /// An idle upstream to `address`, the one used last. One that was closed meanwhile, or has said something
    /// nobody asked for (CASES R-08), is dropped. No system call.
    pub fn take_idle(&self, address: &Address) -> Option<Upstream> {
        let mut pool = self.pool.borrow_mut();
        while let Some(stream) = pool.take(address, self.wheel.now()) {
            let upstream = Upstream {
                stream,
                address: address.clone(),
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

    /// Opens an upstream to `address` and says `first` on it, waiting at most `limit`. Never retries, the caller chooses; but where nothing
    /// is left to open one with, idle upstreams are given up for it.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn open(
        &self,
        address: &Address,
        first: &[u8],
        limit: Duration,
        timer: &Timer,
    ) -> Result<Upstream, UpstreamError> {
        let opened = async {
            let mut stream = self.dial(address).await?;
            match stream.put_all(first).await {
                Ok(()) => Ok(stream),
                Err(source) => Err(UpstreamError::Refused {
                    backend: address.clone(),
                    source,
                }),
            }
        };
        match timer.within(limit, opened).await {
            Ok(Ok(stream)) => Ok(Upstream {
                stream,
                address: address.clone(),
                reused: false,
                is_pinned: false,
                introduced: None,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(UpstreamError::TimedOut {
                backend: address.clone(),
                after: limit,
            }),
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
            .give_back(upstream.address, upstream.stream, until);
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
