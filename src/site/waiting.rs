//! Requests of one site that wait for a backend: because none is fit, or because each has as many as it takes.
//!
//! Over all workers and over all versions of the site. Touched only by a request that has to wait, and by whoever
//! makes an end of it. Each list of backends has a line of its own, so that a path rule whose backends have all they
//! take keeps nobody from those of another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::Site;

/// Which list of backends a request waits for: the number of its first, which stays over the versions of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub u32);

/// See the module.
#[derive(Debug, Default)]
pub struct Waiting {
    /// How many wait. A request that finds a backend only reads it, and only where a backend has a `max`.
    count: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Of all lines, in the order of coming.
    all: VecDeque<Waiter>,
    next: u64,
    /// The version that serves.
    current: Weak<Site>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    line: Line,
    called: bool,
    waker: Waker,
}

/// A place in the line; let go of when dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    number: u64,
}

impl Waiting {
    /// A place at the end of `line`, when fewer than `most` wait in all lines.
    pub fn enter(self: &Arc<Self>, most: usize, line: Line) -> Option<Place> {
        let mut queue = self.queue();
        if queue.all.len() >= most {
            return None;
        }
        let number = queue.next;
        queue.next += 1;
        queue.all.push_back(Waiter {
            number,
            line,
            called: false,
            waker: Waker::noop().clone(),
        });
        self.count.store(queue.all.len(), Ordering::Relaxed);
        Some(Place {
            waiting: Arc::clone(self),
            number,
        })
    }

    /// Whether anybody waits. One load.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether anybody waits in `line`. One load where nobody waits at all.
    pub fn is_line_empty(&self, line: Line) -> bool {
        self.is_empty() || self.queue().all.iter().all(|waiter| waiter.line != line)
    }

    /// Something has become free for `line`: calls who has waited longest there and has not been called.
    pub fn wake_one(&self, line: Line) {
        if !self.is_empty() {
            self.queue().call_behind(None, line);
        }
    }

    /// A backend is fit again, or the site has others: calls everybody.
    pub fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        for waiter in &mut self.queue().all {
            waiter.called = true;
            waiter.waker.wake_by_ref();
        }
    }

    /// `site` is the version that serves from now on: who waits goes on with it.
    pub fn follow(&self, site: &Arc<Site>) {
        self.queue().current = Arc::downgrade(site);
    }

    /// The version that serves.
    pub fn current(&self) -> Option<Arc<Site>> {
        self.queue().current.upgrade()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in there is ever half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Until it is called. Called again only after the next [`Place::wait_on`].
    pub fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.waiting.queue();
        let Some(waiter) = queue.find(self.number) else {
            return Poll::Ready(());
        };
        if waiter.called {
            return Poll::Ready(());
        }
        if !waiter.waker.will_wake(cx.waker()) {
            waiter.waker = cx.waker().clone();
        }
        Poll::Pending
    }

    /// Called in vain: keeps its place, and the call goes on to the next. What is free may be of use to that one.
    pub fn wait_on(&self) {
        let mut queue = self.waiting.queue();
        let Some(waiter) = queue.find(self.number) else {
            return;
        };
        let line = waiter.line;
        if std::mem::take(&mut waiter.called) {
            queue.call_behind(Some(self.number), line);
        }
    }

    /// Waits in `line` from now on, as long as it has waited.
    pub fn move_to(&self, line: Line) {
        if let Some(waiter) = self.waiting.queue().find(self.number) {
            waiter.line = line;
        }
    }

    /// Whether nobody has waited for longer in its line.
    pub fn is_first(&self) -> bool {
        let mut queue = self.waiting.queue();
        let Some(line) = queue.find(self.number).map(|waiter| waiter.line) else {
            return true;
        };
        let first = queue.all.iter().find(|waiter| waiter.line == line);
        first.is_none_or(|first| first.number == self.number)
    }
}

impl Queue {
    /// Numbers only grow.
    fn find(&mut self, number: u64) -> Option<&mut Waiter> {
        let at = self.all.binary_search_by_key(&number, |w| w.number).ok()?;
        self.all.get_mut(at)
    }

    /// Calls the next one of `line` behind `number`; behind nobody, the first.
    fn call_behind(&mut self, number: Option<u64>, line: Line) {
        let mut behind = self.all.iter_mut().filter(|waiter| waiter.line == line);
        if let Some(next) = behind.find(|waiter| Some(waiter.number) > number && !waiter.called) {
            next.called = true;
            next.waker.wake_by_ref();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.waiting.queue();
        let number = self.number;
        let Ok(at) = queue.all.binary_search_by_key(&number, |w| w.number) else {
            return;
        };
        let left = queue.all.remove(at);
        self.waiting.count.store(queue.all.len(), Ordering::Relaxed);
        // It leaves with a call it may not have used: the next one looks.
        if let Some(left) = left.filter(|left| left.called) {
            queue.call_behind(Some(number), left.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_is_called_first_and_a_call_is_not_lost() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.enter(2, Line(1)).expect("room");
        let second = waiting.enter(2, Line(1)).expect("room");
        assert!(waiting.enter(2, Line(1)).is_none());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.is_first() && !second.is_first());
        waiting.wake_one(Line(1));
        assert!(first.poll_called(&mut cx).is_ready());
        assert!(second.poll_called(&mut cx).is_pending());
        drop(first);
        assert!(second.poll_called(&mut cx).is_ready());
        second.wait_on();
        assert!(second.poll_called(&mut cx).is_pending());
        waiting.wake_all();
        assert!(second.poll_called(&mut cx).is_ready());
        drop(second);
        assert!(waiting.is_empty());
    }
    #[test]
    fn each_line_is_called_by_itself() {
        let waiting = Arc::new(Waiting::default());
        let one = waiting.enter(9, Line(1)).expect("room");
        let other = waiting.enter(9, Line(2)).expect("room");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.is_first() && other.is_first());
        assert!(waiting.is_line_empty(Line(3)) && !waiting.is_line_empty(Line(2)));
        waiting.wake_one(Line(2));
        assert!(one.poll_called(&mut cx).is_pending());
        assert!(other.poll_called(&mut cx).is_ready());
        other.wait_on();
        assert!(one.poll_called(&mut cx).is_pending(), "it is not its call");
        other.move_to(Line(1));
        assert!(!other.is_first());
        assert!(waiting.is_line_empty(Line(2)));
    }
}
