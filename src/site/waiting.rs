//! Requests of one site that wait for a backend: because none is fit, or because each has as many as it takes.
//!
//! Over all workers and over all versions of the site. Touched only by a request that has to wait, and by whoever
//! makes an end of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::Site;

/// See the module.
#[derive(Debug, Default)]
pub struct Waiting {
    /// How many wait. A request that finds a backend only reads it, and only where a backend has a `max`.
    count: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of coming.
    line: VecDeque<Waiter>,
    next: u64,
    /// The version that serves.
    current: Weak<Site>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
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
    /// A place at the end of the line, when fewer than `most` wait.
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut queue = self.queue();
        if queue.line.len() >= most {
            return None;
        }
        let number = queue.next;
        queue.next += 1;
        queue.line.push_back(Waiter {
            number,
            called: false,
            waker: Waker::noop().clone(),
        });
        self.count.store(queue.line.len(), Ordering::Relaxed);
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

    /// Something has become free: calls who has waited longest and has not been called.
    pub fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue();
        if let Some(first) = queue.line.iter_mut().find(|waiter| !waiter.called) {
            first.called = true;
            first.waker.wake_by_ref();
        }
    }

    /// A backend is fit again, or the site has others: calls everybody.
    pub fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        for waiter in &mut self.queue().line {
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
        if std::mem::take(&mut waiter.called) {
            queue.call_behind(self.number);
        }
    }

    /// Whether nobody has waited for longer.
    pub fn is_first(&self) -> bool {
        let queue = self.waiting.queue();
        queue
            .line
            .front()
            .is_none_or(|first| first.number == self.number)
    }
}

impl Queue {
    /// Numbers only grow along the line.
    fn find(&mut self, number: u64) -> Option<&mut Waiter> {
        let at = self.line.binary_search_by_key(&number, |w| w.number).ok()?;
        self.line.get_mut(at)
    }

    fn call_behind(&mut self, number: u64) {
        let mut behind = self.line.iter_mut().skip_while(|w| w.number <= number);
        if let Some(next) = behind.find(|waiter| !waiter.called) {
            next.called = true;
            next.waker.wake_by_ref();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.waiting.queue();
        let number = self.number;
        let Ok(at) = queue.line.binary_search_by_key(&number, |w| w.number) else {
            return;
        };
        let left = queue.line.remove(at);
        self.waiting
            .count
            .store(queue.line.len(), Ordering::Relaxed);
        // It leaves with a call it may not have used: the next one looks.
        if left.is_some_and(|left| left.called) {
            queue.call_behind(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_is_called_first_and_a_call_is_not_lost() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.enter(2).expect("room");
        let second = waiting.enter(2).expect("room");
        assert!(waiting.enter(2).is_none());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.is_first() && !second.is_first());
        waiting.wake_one();
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
}
