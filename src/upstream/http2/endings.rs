//! Responses of which all has come but their end, which many an app says in a frame of its own. Nobody waits for it: but to
//! let go of such a stream would be to take it back, and its app would see a request that was broken off.

use std::cell::RefCell;

use super::MOST_LINES;
use crate::receiving::Receiving;

/// See the module. As many as there may be streams; the end of one more is not waited for.
#[derive(Debug, Default)]
pub(super) struct Endings(RefCell<Vec<Ending>>);

#[derive(Debug)]
struct Ending {
    recv: Receiving,
    /// A tick has seen it already.
    is_late: bool,
}

impl Endings {
    pub(super) fn wait_for(&self, mut recv: Receiving) {
        let mut list = self.0.borrow_mut();
        if !recv.throw_away() && list.len() < usize::from(MOST_LINES) {
            list.push(Ending {
                recv,
                is_late: false,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Lets go of the oldest beyond `most`: they take the place of streams.
    pub(super) fn keep(&self, most: usize) {
        let mut list = self.0.borrow_mut();
        let excess = list.len().saturating_sub(most);
        list.drain(..excess);
    }

    /// Something has come on the connection.
    pub(super) fn look(&self) {
        let mut list = self.0.borrow_mut();
        list.retain_mut(|ending| !ending.recv.throw_away());
    }

    /// Lets go of those that have had a tick to end.
    pub(super) fn tick(&self) {
        let mut list = self.0.borrow_mut();
        list.retain_mut(|ending| !std::mem::replace(&mut ending.is_late, true));
    }
}
