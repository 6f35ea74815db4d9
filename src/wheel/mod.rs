//! A worker's coarse clock and the deadlines of its connections.
//!
//! One slot a tick (100 ms). A connection has one entry; what it does on the way of a request is write a number
//! into it. The entry is looked at again when its slot comes round, and filed anew if its deadline has moved on,
//! so no request costs a timer operation. Times are therefore late by at most two ticks, and never early; where a great many
//! end at the same tick, also by what ending them in groups takes.

mod filing;
mod room;
mod serving;
#[cfg(test)]
mod tests;
mod timer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use filing::{Entry, Filing};
use room::RestingAtSites;
pub use serving::{Came, Cut, GONE, Serving};
pub use timer::{Expired, Timer};

/// The unit of this clock.
pub const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: u64 = 10;
/// Slots of the wheel: 51.2 s. A later deadline is filed at the far end and looked at again there.
const SLOTS: u32 = 512;
/// No deadline.
const NEVER: u32 = u32::MAX;

/// A point in time, in ticks since the worker started. Wraps after thirteen years.
pub type Tick = u32;

/// The wheel of one worker.
#[derive(Debug)]
pub struct Wheel {
    started: Instant,
    now: Cell<Tick>,
    draining: Cell<bool>,
    /// When it last turned out that nobody could make room.
    no_room: Cell<Tick>,
    resting_at_sites: RefCell<RestingAtSites>,
    filing: RefCell<Filing>,
}

impl Wheel {
    pub fn new() -> Rc<Wheel> {
        Rc::new(Wheel {
            started: Instant::now(),
            now: Cell::new(0),
            draining: Cell::new(false),
            no_room: Cell::new(NEVER),
            resting_at_sites: RefCell::default(),
            filing: RefCell::new(Filing {
                entries: Vec::new(),
                free: Vec::new(),
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                swept: 0,
                due: Vec::new(),
            }),
        })
    }

    /// The coarse time, as of the last turn.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// The first tick that lies at least `after` from now.
    pub fn at(&self, after: Duration) -> Tick {
        self.after(self.now(), after)
    }

    /// The first tick that lies at least `after` from `since`.
    pub fn after(&self, since: Tick, after: Duration) -> Tick {
        // In 64 bits: this is on the way of every request, several times.
        let part = after.subsec_nanos().div_ceil(TICK.subsec_nanos());
        let ticks = after.as_secs().saturating_mul(TICKS_PER_SECOND) + u64::from(part);
        since
            .saturating_add(u32::try_from(ticks).unwrap_or(NEVER))
            .saturating_add(1)
    }

    /// Whether the worker is draining: whoever is between two requests ends.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on connections between two requests end. Wakes everybody, so that they notice.
    pub fn drain(&self) {
        self.draining.set(true);
        for entry in &mut self.filing.borrow_mut().entries {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// A timer for one connection. Nothing is set.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let entry = Entry {
            deadline: NEVER,
            cut: NEVER,
            filed: NEVER,
            position: 0,
            fired: false,
            resting: NEVER,
            site: GONE,
            waker: None,
            serving: None,
        };
        let mut filing = self.filing.borrow_mut();
        let index = match filing.free.pop() {
            Some(index) => {
                filing.entries[index as usize] = entry;
                index
            }
            None => {
                filing.entries.push(entry);
                u32::try_from(filing.entries.len() - 1).unwrap_or(NEVER)
            }
        };
        Timer {
            wheel: Rc::clone(self),
            index,
        }
    }

    /// Takes the time, and notes whose deadline has passed. Called once a tick; [`Wheel::wake`] tells them.
    pub fn turn(&self) {
        let ticks = self.started.elapsed().as_millis() / TICK.as_millis();
        self.turn_to(u32::try_from(ticks).unwrap_or(NEVER - 1));
    }

    fn turn_to(&self, now: Tick) {
        self.now.set(now);
        let mut filing = self.filing.borrow_mut();
        // After a long pause every slot is looked at once, not once a lost tick.
        let first = (filing.swept + 1).max(now.saturating_sub(SLOTS - 1));
        for tick in first..=now {
            filing.sweep(tick, now);
        }
        filing.swept = now;
    }

    /// Wakes up to `most` of those whose deadline has passed. Whether there are more: deadlines fall together on ticks,
    /// and ending a thousand connections in a row would keep everybody else waiting.
    pub fn wake(&self, most: usize) -> bool {
        let mut filing = self.filing.borrow_mut();
        let Filing { due, entries, .. } = &mut *filing;
        let rest = due.len().saturating_sub(most);
        for index in due.drain(rest..) {
            // Somebody else's by now, it has not fired; and if it has, it is only told so twice.
            let entry = &entries[index as usize];
            if let (true, Some(waker)) = (entry.fired, &entry.waker) {
                waker.wake_by_ref();
            }
        }
        rest > 0
    }
}
