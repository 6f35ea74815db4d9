//! `[health]`: how it is found out whether a backend is fit, and what happens when none is.
//!
//! Values only: asking is done by `health`, counting by `upstream`.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    /// `None`: nobody is asked, what requests meet with is all that is known.
    pub check: Option<Arc<Check>>,
    pub passive: Passive,
    pub when_none: WhenNone,
}

/// What each backend is asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    pub ask: Ask,
    /// From one asking to the next. 2 s: with `fall`, a backend that dies is out after some six seconds, and a thousand
    /// of them cost 500 small requests a second (HAProxy: the same).
    pub every: Duration,
    /// For all of one asking. 2 s: an app that is slower than that at its health page is not well.
    pub timeout: Duration,
    /// Passes in a row until a backend that was out is back. 2: one may be luck.
    pub rise: u32,
    /// Failures in a row until one is out. 3: one may be bad luck.
    pub fall: u32,
}

impl Default for Check {
    fn default() -> Check {
        Check {
            ask: Ask::Connect,
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// What passes a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// It accepts, and behind `https://` shakes hands.
    Connect,
    /// It answers a GET.
    Get(Get),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Get {
    /// Path and query; visible ASCII that begins with a slash.
    pub path: Box<str>,
    /// The Host to ask for. `None`: what visitors ask for.
    pub send_host: Option<Box<str>>,
    pub expect: Statuses,
    /// What must stand in the body, whole or in the first [`crate::limits::CHECK_BODY_BYTES`]. Never empty.
    pub contains: Option<Box<str>>,
}

/// Statuses that are good. Never empty; each range within 100 to 999.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statuses(pub Box<[RangeInclusive<u16>]>);

impl Statuses {
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// 200 to 399: an app that sends its visitors to a login page is alive.
impl Default for Statuses {
    fn default() -> Statuses {
        Statuses(Box::new([200..=399]))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// How many in a row of what requests meet with take a backend out for a while; `None`: that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Connects that are refused or too slow. 3: a refused one costs the visitor nothing, it goes to the next backend;
    /// one that is too slow costs five seconds.
    pub connect: Option<NonZeroU32>,
    /// Upstreams that break off before they answer, or do not answer in time. Not counted unless asked for; then 5.
    pub reset: Option<NonZeroU32>,
    /// Answers from 500 on. Not counted unless asked for: a fault in one page is no fault of the backend. Then 5, as
    /// Envoy.
    pub server_error: Option<NonZeroU32>,
}

impl Passive {
    pub const NOTHING: Passive = Passive {
        connect: None,
        reset: None,
        server_error: None,
    };
    /// In a row, where a file does not say how many.
    pub const CONNECTS: NonZeroU32 = NonZeroU32::new(3).unwrap();
    pub const RESETS: NonZeroU32 = NonZeroU32::new(5).unwrap();
    pub const SERVER_ERRORS: NonZeroU32 = NonZeroU32::new(5).unwrap();
}

impl Default for Passive {
    fn default() -> Passive {
        Passive {
            connect: Some(Passive::CONNECTS),
            ..Passive::NOTHING
        }
    }
}

/// What becomes of a request while no backend passes its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenNone {
    /// All are tried: the check may be what is wrong.
    #[default]
    Try,
    /// 503.
    Refuse,
}
