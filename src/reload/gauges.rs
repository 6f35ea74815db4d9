//! What metrics want to know of all sites, without a word for people.

use std::time::{Duration, SystemTime};

use super::Follower;
use super::status::State;
use crate::site::counts::Sums;

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
    /// Each backend, and whether it gets requests.
    pub backends: Vec<(String, bool)>,
}

impl Follower {
    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            sites: self.book.gauges(),
            reloads: self.reloads,
            last_reload: self.last_reload,
            certificates: self.keyring.ends(),
        }
    }
}
