//! The polite end: no new connections, a deadline for the open ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many client connections are open, over all workers. Touched at accept and at close only.
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<AtomicUsize>);

/// The right to have one connection open; free again when dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// A slot, or `None` when `limit` are taken.
    pub fn take(&self, limit: usize) -> Option<Slot> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Slot(Arc::clone(&self.0)))
    }

    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
