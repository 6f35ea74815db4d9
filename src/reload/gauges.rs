//! What metrics want to know of all sites, without a word for people.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

use super::Follower;
use super::status::State;
use crate::site::counts::Sums;
use crate::site::faults::Fault;

/// As of now.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub sites: Vec<SiteGauges>,
    /// Tables that were put in force.
    pub reloads: u64,
    /// From the first notice of the last change to its table in force.
    pub last_reload: Duration,
    /// The end of each certificate, by one of its names.
    pub certificates: Vec<(String, SystemTime)>,
}

#[derive(Clone, Debug)]
pub struct SiteGauges {
    pub name: String,
    pub state: State,
    pub answered: Sums,
    pub connections: usize,
    /// Each backend once.
    pub backends: Vec<BackendGauges>,
}

#[derive(Clone, Debug)]
pub struct BackendGauges {
    pub name: String,
    /// Whether it gets requests.
    pub is_fit: bool,
    /// What was found wrong with it, and how often.
    pub faults: Vec<(Fault, u64)>,
}

/// Between two looks at the ends of certificates.
const LOOK_AT_ENDS: Duration = Duration::from_secs(3600);
/// From here on an end is said, once a day: time for somebody to do what a timer has not done.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const A_DAY: Duration = Duration::from_secs(86_400);

impl Follower {
    /// Says which certificates are near their end.
    pub(super) fn tell_ends(&mut self) {
        let now = Instant::now();
        if now < self.ends_at {
            return;
        }
        self.ends_at = now + LOOK_AT_ENDS;
        let wall = SystemTime::now();
        for (name, end) in self.keyring.ends() {
            if end > wall + SOON {
                self.ends_told.remove(&name);
                continue;
            }
            let told = self.ends_told.get(&name);
            if told.is_some_and(|told| now.duration_since(*told) < A_DAY) {
                continue;
            }
            match end.duration_since(wall) {
                Ok(left) => {
                    let days = left.as_secs() / 86_400;
                    warn!(certificate = name, "it ends in {days} days");
                }
                Err(_) => warn!(certificate = name, "it has ended; clients refuse it"),
            }
            self.ends_told.insert(name, now);
        }
    }

    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            sites: self.book.gauges(),
            reloads: self.reloads,
            last_reload: self.last_reload,
            certificates: self.keyring.ends(),
        }
    }
}
