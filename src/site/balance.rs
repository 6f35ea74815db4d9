//! How requests are spread over the backends of a site, and what happens when one fails: what the file says.

use std::time::Duration;

/// `balance`, `sticky`, `hold`, `fallback`, `slow_start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    pub by: Balance,
    /// `None`: nobody is sent to the same backend again for a cookie's sake.
    pub sticky: Option<Sticky>,
    /// How long requests wait for a backend, counted from when the last fit one was lost. Zero: not at all. 5 s: an app
    /// that is restarted is back by then, and nobody waits longer for a page.
    pub hold: Duration,
    /// Whether the backends of the version before answer as long as new ones refuse, while `hold` runs.
    pub fallback: bool,
    /// How long a backend that is back takes to get its whole share. 10 s: caches and compilers of an app warm up by
    /// then. Zero: at once.
    pub slow_start: Duration,
}

impl Default for Balancing {
    fn default() -> Balancing {
        Balancing {
            by: Balance::LeastRequests,
            sticky: None,
            hold: Duration::from_secs(5),
            fallback: true,
            slow_start: Duration::from_secs(10),
        }
    }
}

/// `balance`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Balance {
    /// Of two random ones, the one with fewer requests in flight.
    #[default]
    LeastRequests,
    /// In turn, weights exact on each worker.
    RoundRobin,
    Random,
    /// The same backend for the same value, on all workers and after reloads.
    Hash(HashBy),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// Of who asked in truth.
    Ip,
    Header(Box<str>),
    Cookie(Box<str>),
    Path,
}

/// `sticky`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: Box<str>,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts for one request. 1: the second backend is not where the first one is.
    pub times: u32,
    pub on: RetryOn,
    /// Retries may be this share of requests, in percent. 20: when more fail, a retry only adds to the load.
    pub budget: u32,
}

/// After what a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// The backend did not accept. Nothing was sent, so any method.
    pub connect: bool,
    /// It closed before a byte of its response.
    pub reset: bool,
    pub bad_gateway: bool,
    pub unavailable: bool,
    pub gateway_timeout: bool,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            times: 1,
            on: RetryOn {
                connect: true,
                reset: true,
                bad_gateway: false,
                unavailable: false,
                gateway_timeout: false,
            },
            budget: 20,
        }
    }
}

impl RetryOn {
    pub const NOTHING: RetryOn = RetryOn {
        connect: false,
        reset: false,
        bad_gateway: false,
        unavailable: false,
        gateway_timeout: false,
    };

    /// Whether a response with this status is asked for again.
    pub fn status(self, status: u16) -> bool {
        match status {
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            _ => false,
        }
    }
}
