//! How much of one site may be open at once, and how often something was refused or ended for it: over all workers, and
//! over all versions of the site.
//!
//! Touched when a connection comes to a site or leaves it, when an upstream has to be opened, and when we answer in the
//! place of a backend; never on the way of a request that finds both and gets its response.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

#[cfg(feature = "serve")]
use super::client_faults::ClientFaults;
#[cfg(feature = "serve")]
use super::counts::SiteCounts;

/// What one site has taken.
#[derive(Debug, Default)]
pub struct SiteSlots {
    connections: AtomicUsize,
    connecting: AtomicUsize,
    /// What it has answered.
    #[cfg(feature = "serve")]
    pub counts: SiteCounts,
    pub refusals: Tally,
    /// Why clients were turned away that it asks for certificates.
    #[cfg(feature = "serve")]
    pub client_faults: ClientFaults,
}

/// How often each of a few reasons was one. Takes no room before the first.
#[derive(Debug, Default)]
pub struct Tally(OnceLock<Box<[AtomicU64; Tally::REASONS]>>);

impl Tally {
    /// More than there are.
    const REASONS: usize = 80;

    /// Counts the reason of this number.
    pub fn add(&self, reason: usize) {
        let counts = self
            .0
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; Tally::REASONS]));
        if let Some(count) = counts.get(reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was one.
    pub fn read(&self, reason: usize) -> u64 {
        let count = self.0.get().and_then(|counts| counts.get(reason));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// The right to one of them; free again when dropped.
#[derive(Debug)]
pub struct SiteSlot {
    slots: Arc<SiteSlots>,
    of: Of,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Connections,
    Connecting,
}

impl SiteSlots {
    /// How many client connections are with the site.
    pub fn open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A slot for a client connection, when fewer than `most` are taken.
    pub fn connection(self: &Arc<Self>, most: usize) -> Option<SiteSlot> {
        self.take(Of::Connections, most)
    }

    /// A slot for a request that waits for an upstream to be opened, when fewer than `most` do.
    pub fn connecting(self: &Arc<Self>, most: usize) -> Option<SiteSlot> {
        self.take(Of::Connecting, most)
    }

    fn take(self: &Arc<Self>, of: Of, most: usize) -> Option<SiteSlot> {
        let taken = self.count(of).fetch_add(1, Ordering::Relaxed);
        // Given back by its drop when it is one too many.
        let slot = SiteSlot {
            slots: Arc::clone(self),
            of,
        };
        (taken < most).then_some(slot)
    }

    fn count(&self, of: Of) -> &AtomicUsize {
        match of {
            Of::Connections => &self.connections,
            Of::Connecting => &self.connecting,
        }
    }
}

impl SiteSlot {
    /// What it is a part of.
    pub fn slots(&self) -> &SiteSlots {
        &self.slots
    }

    /// Whether it is one of these.
    pub fn is_of(&self, slots: &Arc<SiteSlots>) -> bool {
        Arc::ptr_eq(&self.slots, slots)
    }
}

impl Drop for SiteSlot {
    fn drop(&mut self) {
        self.slots.count(self.of).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_dropped_and_each_kind_counts_by_itself() {
        let slots = Arc::new(SiteSlots::default());
        let first = slots.connection(2).expect("free");
        let second = slots.connection(2).expect("free");
        assert!(slots.connection(2).is_none());
        assert!(slots.connecting(1).is_some());
        drop(second);
        assert!(slots.connection(2).is_some());
        assert!(slots.connection(1).is_none());
        drop(first);
        assert!(slots.connection(1).is_some());
    }

    #[test]
    fn a_tally_counts_each_reason_by_itself() {
        let tally = Tally::default();
        assert_eq!(tally.read(3), 0);
        tally.add(3);
        tally.add(3);
        tally.add(Tally::REASONS);
        let counts = [2, 3, Tally::REASONS].map(|reason| tally.read(reason));
        assert_eq!(counts, [0, 2, 0]);
    }
}
