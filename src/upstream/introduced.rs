//! Idle upstreams that were told whose connection they are: each is one client connection's, and nobody else's (CASES T-32).
//!
//! A connection of HTTP/1 has one of them, for its next request. One of HTTP/2 may leave behind as many as it had requests
//! open, and here they wait for its next ones: a few, each for its time, and not once somebody needs what they hold.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::Upstream;
use super::pool::{Place, Room};
use crate::wheel::Tick;

/// How many one client connection keeps. 8: what a page asks for at once, most of the time.
const MOST: usize = 8;

/// Those of one client connection. Closed with it.
#[derive(Debug)]
pub struct Introduced {
    list: RefCell<Vec<(Upstream, Place)>>,
    room: Rc<Room>,
}

/// Those of all client connections of a worker.
#[derive(Debug)]
pub(super) struct AllIntroduced {
    list: RefCell<Vec<Weak<Introduced>>>,
    room: Rc<Room>,
}

impl Introduced {
    /// The one used last.
    pub fn take(&self) -> Option<Upstream> {
        let kept = self.list.borrow_mut().pop();
        kept.map(|(upstream, _place)| upstream)
    }

    /// Keeps `upstream`, or closes it when there are enough.
    pub fn keep(&self, upstream: Upstream) {
        let mut list = self.list.borrow_mut();
        if list.len() < MOST
            && let Some(place) = self.room.place()
        {
            list.push((upstream, place));
        }
    }

    fn sweep(&self, now: Tick) {
        let is_well = |upstream: &Upstream| upstream.kept_until >= now && upstream.is_quiet();
        self.list
            .borrow_mut()
            .retain(|(upstream, _)| is_well(upstream));
    }
}

impl AllIntroduced {
    pub(super) fn new(room: Rc<Room>) -> AllIntroduced {
        AllIntroduced {
            list: RefCell::default(),
            room,
        }
    }

    /// For a client connection.
    pub(super) fn begin(&self) -> Rc<Introduced> {
        let begun = Rc::new(Introduced {
            list: RefCell::default(),
            room: Rc::clone(&self.room),
        });
        self.list.borrow_mut().push(Rc::downgrade(&begun));
        begun
    }

    /// Closes what is over its time or was closed at the other end.
    pub(super) fn sweep(&self, now: Tick) {
        self.list.borrow_mut().retain(|of_one| {
            let of_one = of_one.upgrade();
            of_one.is_some_and(|of_one| {
                of_one.sweep(now);
                true
            })
        });
    }

    /// Closes everything, and says how many that were.
    pub(super) fn clear(&self) -> usize {
        let all = self.list.borrow();
        let all = all.iter().filter_map(Weak::upgrade);
        all.map(|of_one| of_one.list.take().len()).sum()
    }
}
