//! Idle upstreams of one worker, last in first out, and how many of any kind there may be.

use std::cell::Cell;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Endpoint;
use crate::stream::Stream;
use crate::wheel::Tick;

/// By endpoint, so that sites with the same backend share them. No task, timer or channel per idle upstream.
#[derive(Debug)]
pub(super) struct Pool {
    idle: HashMap<Endpoint, Vec<Idle>, RandomState>,
    count: usize,
    most_per_backend: usize,
    room: Rc<Room>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    until: Tick,
    _place: Place,
}

/// How many upstreams of a worker may be idle, wherever they wait: each holds a descriptor.
#[derive(Debug)]
pub(super) struct Room {
    taken: Cell<usize>,
    most: Cell<usize>,
}

/// The right of one of them to wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Rc<Room>);

impl Room {
    pub(super) fn new(most: usize) -> Rc<Room> {
        Rc::new(Room {
            taken: Cell::new(0),
            most: Cell::new(most),
        })
    }

    /// What is too many now stays for its short time.
    pub(super) fn allow(&self, most: usize) {
        self.most.set(most);
    }

    pub(super) fn place(self: &Rc<Room>) -> Option<Place> {
        let taken = self.taken.get();
        (taken < self.most.get()).then(|| {
            self.taken.set(taken + 1);
            Place(Rc::clone(self))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Place(room) = self;
        room.taken.set(room.taken.get() - 1);
    }
}

impl Pool {
    pub(super) fn new(most_per_backend: usize, room: Rc<Room>) -> Pool {
        Pool {
            idle: HashMap::default(),
            count: 0,
            most_per_backend,
            room,
        }
    }

    /// What is too many now stays for its short time.
    pub(super) fn allow(&mut self, most_per_backend: usize) {
        self.most_per_backend = most_per_backend;
    }

    /// The one used last, unless its time is over.
    pub(super) fn take(&mut self, endpoint: &Endpoint, now: Tick) -> Option<Stream> {
        let list = self.idle.get_mut(endpoint)?;
        let idle = list.pop()?;
        self.count -= 1;
        if idle.until < now {
            // The others are older.
            self.count -= list.len();
            list.clear();
            return None;
        }
        Some(idle.stream)
    }

    /// Keeps `stream`, or closes it when there are enough.
    pub(super) fn give_back(&mut self, endpoint: Endpoint, stream: Stream, until: Tick) {
        let Some(place) = self.room.place() else {
            return;
        };
        let list = self.idle.entry(endpoint).or_default();
        if list.len() < self.most_per_backend {
            list.push(Idle {
                stream,
                until,
                _place: place,
            });
            self.count += 1;
        }
    }

    /// Closes what is over its time or was closed at the other end, and forgets endpoints without idle upstreams.
    pub(super) fn sweep(&mut self, now: Tick) {
        self.idle.retain(|_, list| {
            list.retain(|idle| idle.until >= now && idle.stream.is_quiet());
            !list.is_empty()
        });
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// Closes everything, and says how many that were.
    pub(super) fn clear(&mut self) -> usize {
        self.idle.clear();
        std::mem::take(&mut self.count)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}
