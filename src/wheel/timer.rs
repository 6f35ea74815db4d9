//! What a connection holds of the wheel: its deadline, and what it says of itself.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::{Cut, GONE, NEVER, Serving, Tick, Wheel};

/// What [`Timer::within`] says instead of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// The deadline of one connection.
#[derive(Debug)]
pub struct Timer {
    pub(super) wheel: Rc<Wheel>,
    pub(super) index: u32,
}

impl Timer {
    pub fn wheel(&self) -> &Rc<Wheel> {
        &self.wheel
    }

    /// Fires `after` from now, unless set anew before.
    pub fn set(&self, after: Duration) {
        self.set_at(self.wheel.at(after));
    }

    /// The connection is busy with nothing and waits for a request, at most for `after`. It may be told to make room.
    pub fn rest(&self, after: Duration) {
        let now = self.wheel.now();
        let deadline = self.wheel.at(after);
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = None;
        entry.cut = NEVER;
        entry.deadline = deadline;
        entry.resting = now;
        entry.fired = false;
        if deadline < entry.filed {
            filing.file_by(self.index, deadline, now);
        }
    }

    /// Says which site the connection takes a slot of; [`super::GONE`]: of none.
    pub fn at_site(&self, site: u32) {
        self.wheel.filing.borrow_mut().entries[self.index as usize].site = site;
    }

    /// Whether it fired before its time: somebody else needs the room.
    pub fn fired_for_room(&self) -> bool {
        let filing = self.wheel.filing.borrow();
        filing.entries[self.index as usize].deadline > self.wheel.now.get()
    }

    /// Fires at `deadline`, unless set anew before.
    pub fn set_at(&self, deadline: Tick) {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.deadline = deadline;
        entry.resting = NEVER;
        entry.fired = entry.cut <= self.wheel.now.get();
        if deadline < entry.filed {
            filing.file_by(self.index, deadline, self.wheel.now());
        }
    }

    /// Fires no more, except to cut.
    pub fn clear(&self) {
        self.set_at(NEVER);
    }

    /// Says what the connection is busy with, and forgets a cut that was about something else.
    pub fn serving(&self, serving: Option<Serving>) {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = serving;
        entry.cut = NEVER;
    }

    /// Whether the deadline has passed. When not, the task that asks is woken once it has.
    pub fn poll_fired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        if entry.fired {
            return Poll::Ready(());
        }
        if !entry
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Why the connection is cut. `None`: it is not, and if the timer has fired, it was for the deadline.
    pub fn cut(&self) -> Option<Cut> {
        let filing = self.wheel.filing.borrow();
        let entry = &filing.entries[self.index as usize];
        let is_gone = entry.serving.is_some_and(|serving| serving.site == GONE);
        let cut = if is_gone { Cut::Gone } else { Cut::Edited };
        (entry.cut <= self.wheel.now.get()).then_some(cut)
    }

    /// Runs `work`, but at most for `limit`. What `work` had done when it is dropped at the limit is its own affair.
    ///
    /// # Errors
    /// [`Expired`] at the limit.
    pub fn within<W: Future>(&self, limit: Duration, work: W) -> UntilFired<'_, W> {
        self.set(limit);
        self.until_fired(work)
    }

    /// Runs `work`, but no longer than to the deadline that is set already.
    ///
    /// # Errors
    /// [`Expired`] at the deadline.
    pub fn until_fired<W: Future>(&self, work: W) -> UntilFired<'_, W> {
        UntilFired { timer: self, work }
    }
}

// Not an `async fn`: that would hold `work` twice, as it was given and where it is pinned, and these lie in one another.
pin_project! {
    /// See [`Timer::until_fired`].
    #[project = UntilFiredProjected]
    #[derive(Debug)]
    #[must_use = "it does nothing unless it is awaited"]
    pub struct UntilFired<'t, W> {
        timer: &'t Timer,
        #[pin]
        work: W,
    }
}

impl<W: Future> Future for UntilFired<'_, W> {
    type Output = Result<W::Output, Expired>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let UntilFiredProjected { timer, work } = self.project();
        match work.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => timer.poll_fired(cx).map(|()| Err(Expired)),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut filing = self.wheel.filing.borrow_mut();
        filing.take_out(self.index);
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = None;
        entry.resting = NEVER;
        let waker = entry.waker.take();
        filing.free.push(self.index);
        drop(filing);
        drop(waker); // last: dropping a waker may drop a task, and that task's timer
    }
}
