//! When something that many connections meet with was said to the operator last: once a minute, with how often it was
//! kept back since.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fitness::Moment;

/// What goes on is said once in so many milliseconds: a minute, as often as somebody looks who waits for it to be over.
const SAY_EVERY: Moment = 60_000;

/// See the module. One for each kind of thing, for all workers.
#[derive(Debug, Default)]
pub struct Said {
    /// 0: never.
    at: AtomicU64,
    kept_back: AtomicU64,
    goes_on: AtomicBool,
}

impl Said {
    /// Whether it is to be said now; then how many have been kept back since the last one that was.
    pub fn is_to_be_said(&self, now: Moment) -> Option<u64> {
        let at = self.at.load(Ordering::Relaxed);
        let is_time = at == 0 || now.saturating_sub(at) >= SAY_EVERY;
        let order = Ordering::Relaxed;
        // One of those that come at once.
        if !is_time || self.at.compare_exchange(at, now, order, order).is_err() {
            self.kept_back.fetch_add(1, order);
            return None;
        }
        self.goes_on.store(true, order);
        Some(self.kept_back.swap(0, order))
    }

    /// It is over. Whether that is to be said, because it was said that it goes on.
    pub fn is_over(&self) -> bool {
        self.goes_on.swap(false, Ordering::Relaxed)
    }
}
