//! Bytes that a connection owes its client, in a shape that the library can queue.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;

use crate::block::{Block, Kept};

/// How much is queued on one connection, and who waits for room. Whatever its windows allow, a client that does not
/// read makes us hold no more than this.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    queued: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Queue {
    pub(super) fn new(most: usize) -> Rc<Queue> {
        Rc::new(Queue {
            most,
            queued: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// Ready when there is room.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queued.get() < self.most {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn left(&self, count: usize) {
        let before = self.queued.get();
        let now = before - count;
        self.queued.set(now);
        // Half of it must be free, so that nobody is woken for a few bytes.
        if before >= self.most / 2 && now < self.most / 2 {
            for waker in self.waiting.borrow_mut().drain(..) {
                waker.wake();
            }
        }
    }
}

/// One piece of a body.
#[derive(Debug)]
pub(super) struct Load {
    bytes: Bytes,
    queue: Rc<Queue>,
}

#[derive(Debug)]
enum Bytes {
    None,
    /// From here on.
    Few(Box<[u8]>, usize),
    Many(Block),
    /// A part of what others hold too.
    Shared(Arc<[u8]>, Range<usize>),
}

impl Load {
    /// All of `block`, which is empty afterwards.
    pub(super) fn all_of(block: &mut Block, queue: &Rc<Queue>) -> Load {
        let bytes = match std::mem::replace(block, Block::empty()).keep() {
            Kept::Few(bytes) => Bytes::Few(bytes, 0),
            Kept::Many(block) => Bytes::Many(block),
        };
        Load::of(bytes, queue)
    }

    /// The first `count` bytes of `block`.
    pub(super) fn front_of(block: &mut Block, count: usize, queue: &Rc<Queue>) -> Load {
        let load = Load::copy(&block.filled()[..count], queue);
        block.consume(count);
        load
    }

    pub(super) fn copy(bytes: &[u8], queue: &Rc<Queue>) -> Load {
        Load::of(Bytes::Few(bytes.into(), 0), queue)
    }

    /// A part of `bytes`, not copied.
    pub(super) fn share(bytes: &Arc<[u8]>, part: Range<usize>, queue: &Rc<Queue>) -> Load {
        Load::of(Bytes::Shared(Arc::clone(bytes), part), queue)
    }

    pub(super) fn nothing(queue: &Rc<Queue>) -> Load {
        Load {
            bytes: Bytes::None,
            queue: Rc::clone(queue),
        }
    }

    fn of(bytes: Bytes, queue: &Rc<Queue>) -> Load {
        let load = Load {
            bytes,
            queue: Rc::clone(queue),
        };
        queue.queued.set(queue.queued.get() + load.remaining());
        load
    }
}

impl Buf for Load {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.bytes {
            Bytes::None => &[],
            Bytes::Few(bytes, at) => &bytes[*at..],
            Bytes::Many(block) => block.filled(),
            Bytes::Shared(bytes, part) => &bytes[part.clone()],
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.bytes {
            Bytes::None => return,
            Bytes::Few(_, at) => *at += count,
            Bytes::Many(block) => block.consume(count),
            Bytes::Shared(_, part) => part.start += count,
        }
        self.queue.left(count);
    }
}

/// A stream that was reset lets go of what was not sent.
impl Drop for Load {
    fn drop(&mut self) {
        let rest = self.remaining();
        if rest > 0 {
            self.queue.left(rest);
        }
    }
}
