//! What a name in `to` leads to, as far as one backend of one site is concerned.
//!
//! Replaced as a whole when the name leads elsewhere; a request takes what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::fitness::EndpointState;
use super::{Address, BackendState};

/// See the module. Never empty.
#[derive(Debug)]
pub struct Addresses {
    pub list: Box<[Located]>,
    pub doubt: Doubt,
}

/// One of the addresses.
#[derive(Clone, Debug)]
pub struct Located {
    /// An IP address with the port of the backend.
    pub address: Address,
    pub endpoint: Arc<EndpointState>,
    /// Whether the site's check fails there.
    pub is_out: Arc<AtomicBool>,
}

/// By which who connects in vain tells that the name may lead elsewhere by now.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    raised: Arc<AtomicBool>,
    heard: Arc<Notify>,
}

impl Addresses {
    /// The places in `list` in the order in which they are to be tried: from where `turn` points, those that something
    /// speaks against last.
    pub fn in_turn(&self, turn: u64) -> impl Iterator<Item = &Located> {
        let count = self.list.len();
        // Below the count, which is one.
        let first = (turn % count.max(1) as u64) as usize;
        let all = (0..count).map(move |n| &self.list[(first + n) % count]);
        let (fit, others) = (all.clone(), all);
        let fit = fit.filter(|located| located.is_fit());
        fit.chain(others.filter(|located| !located.is_fit()))
    }
}

impl Located {
    /// Whether the site's check fails there.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    pub fn is_fit(&self) -> bool {
        !self.is_out() && self.endpoint.fitness.is_fit()
    }
}

impl Doubt {
    /// One that wakes whoever waits for `heard`.
    pub fn telling(heard: &Arc<Notify>) -> Doubt {
        Doubt {
            raised: Arc::default(),
            heard: Arc::clone(heard),
        }
    }

    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::Relaxed) {
            self.heard.notify_one();
        }
    }

    /// Whether it has been raised since the last time.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }
}

impl BackendState {
    /// From now on its name leads here.
    pub fn lead_to(&self, addresses: Addresses) {
        self.findings.addresses.store(Some(Arc::new(addresses)));
    }

    /// The address that a request of this turn goes to, without counting a hold on them all.
    pub fn next_address(&self, turn: u64) -> Option<Address> {
        let addresses = self.findings.addresses.load();
        let next = addresses.as_deref()?.in_turn(turn).next()?;
        Some(next.address.clone())
    }

    /// What the backend's name leads to. `None`: it is no name, or leads nowhere yet.
    pub fn leads_to(&self) -> Option<Arc<Addresses>> {
        self.findings.addresses.load_full()
    }
}
