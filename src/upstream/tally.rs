//! How many requests a worker has in flight at each backend of each site.
//!
//! Only that worker writes, so a count is a load and a store; anybody may read. Found by
//! [`BackendState::number`](crate::site::BackendState), without a map.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts in a part that is made when the first of them is needed.
const PART: usize = 1024;
/// A million backends of sites. Those beyond share their counts, which are then too large.
const PARTS: usize = 1024;

/// The counts of one worker.
#[derive(Debug)]
pub struct Tally {
    parts: Box<[OnceLock<Box<[AtomicU32; PART]>>]>,
}

/// One request in flight; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight<'t> {
    tally: &'t Tally,
    number: u32,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            parts: (0..PARTS).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl Tally {
    /// Counts one more. Called by the worker alone.
    pub fn enter(&self, number: u32) -> InFlight<'_> {
        let count = self.count(number);
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        InFlight {
            tally: self,
            number,
        }
    }

    pub fn read(&self, number: u32) -> u32 {
        let number = number as usize;
        let part = self.parts.get(number / PART % PARTS);
        let part = part.and_then(OnceLock::get);
        part.map_or(0, |part| part[number % PART].load(Ordering::Relaxed))
    }

    fn count(&self, number: u32) -> &AtomicU32 {
        let number = number as usize;
        let part = self.parts[number / PART % PARTS]
            .get_or_init(|| Box::new([const { AtomicU32::new(0) }; PART]));
        &part[number % PART]
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let count = self.tally.count(self.number);
        let before = count.load(Ordering::Relaxed);
        count.store(before.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_counted_until_it_is_dropped() {
        let tally = Tally::default();
        let first = tally.enter(5000);
        let second = tally.enter(5000);
        assert_eq!((tally.read(5000), tally.read(1)), (2, 0));
        drop(first);
        assert_eq!(tally.read(5000), 1);
        drop(second);
        assert_eq!(tally.read(5000), 0);
    }
}
