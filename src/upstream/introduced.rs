//! Idle upstreams that were told whose connection they are: each is one client connection's, and nobody else's (CASES T-32).
//!
//! A connection of HTTP/1 has one of them, for its next request. One of HTTP/2 may leave behind as many as it had requests
//! open, and here they wait for its next ones: a few, each for its time, and not once somebody needs what they hold.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::Upstream;
use crate::wheel::Tick;

/// How many one client connection keeps. 8: what a page asks for at once, most of the time.
const MOST: usize = 8;

/// Those of one client connection. Closed with it.
#[derive(Debug, Default)]
pub struct Introduced(RefCell<Vec<Upstream>>);

/// Those of all client connections of a worker.
#[derive(Debug, Default)]
pub(super) struct AllIntroduced(RefCell<Vec<Weak<Introduced>>>);

impl Introduced {
    /// The one used last.
    pub fn take(&self) -> Option<Upstream> {
        self.0.borrow_mut().pop()
    }

    /// Keeps `upstream`, or closes it when there are enough.
    pub fn keep(&self, upstream: Upstream) {
        let mut list = self.0.borrow_mut();
        if list.len() < MOST {
            list.push(upstream);
        }
    }

    fn sweep(&self, now: Tick) {
        let is_well = |upstream: &Upstream| upstream.kept_until >= now && upstream.is_quiet();
        self.0.borrow_mut().retain(is_well);
    }
}

impl AllIntroduced {
    /// For a client connection.
    pub(super) fn begin(&self) -> Rc<Introduced> {
        let begun = Rc::default();
        self.0.borrow_mut().push(Rc::downgrade(&begun));
        begun
    }

    /// Closes what is over its time or was closed at the other end.
    pub(super) fn sweep(&self, now: Tick) {
        self.0.borrow_mut().retain(|of_one| {
            let of_one = of_one.upgrade();
            of_one.is_some_and(|of_one| {
                of_one.sweep(now);
                true
            })
        });
    }

    /// Closes everything, and says how many that were.
    pub(super) fn clear(&self) -> usize {
        let all = self.0.borrow();
        let all = all.iter().filter_map(Weak::upgrade);
        all.map(|of_one| of_one.0.take().len()).sum()
    }
}
