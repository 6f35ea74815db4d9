//! What a visit at a backend holds besides its count: one of its `max` turns, and the right to try one that was out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::site::fitness;
use crate::site::{BackendState, Line, Member, Site, Waiting};
use crate::upstream::moment;

/// One of the `max` requests that a backend sees at once. Free again when dropped, and whoever waits is called.
#[derive(Debug)]
pub(super) struct Turn {
    state: Arc<BackendState>,
    waiting: Arc<Waiting>,
    line: Line,
}

/// The one request that tries a backend which failures have taken out.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) state: Arc<BackendState>,
    pub(super) of: fitness::Tried,
}

impl Turn {
    /// `None`: the backend has as many as it takes.
    pub(super) fn take(site: &Site, line: Line, member: &Member) -> Option<Turn> {
        let max = member.max?.get();
        let free = |taken: u32| (taken < max).then_some(taken + 1);
        let taken = &member.state.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .ok()?;
        Some(Turn {
            state: Arc::clone(&member.state),
            waiting: Arc::clone(&site.waiting),
            line,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.taken.fetch_sub(1, Ordering::Relaxed);
        self.waiting.wake_one(self.line);
    }
}

impl Trial {
    /// `None`: nothing has to be tried, or not now, or somebody does.
    pub(super) fn of(state: &Arc<BackendState>) -> Option<Trial> {
        let of = state.trial(moment)?;
        let state = Arc::clone(state);
        Some(Trial { state, of })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.state.outage(self.of).trial_is_over();
    }
}
