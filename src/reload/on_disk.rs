//! Looks at the disk, one at a time: the loop waits for each, and meanwhile answers who only asks what serves.
//!
//! Nothing in the books changes until a look is back, and what would change them waits its turn. A mount that hangs keeps
//! edits waiting, but nobody from learning of it, and not the process from its end.

use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Follower;
use super::handle::Request;
use super::requests::RELOAD_TIME;
use super::status::{Report, Waited};
use super::wait::Goal;
use crate::site::SiteName;

/// A look that has taken so long is told: far beyond all of 100,000 files on a slow disk.
const SLOW: Duration = Duration::from_secs(3);

/// A request that came during a look and has to wait for its end.
#[derive(Debug)]
pub(super) struct Deferred {
    asked: Instant,
    request: Request,
}

impl Follower {
    /// Has `work` done off the control thread, and waits for it.
    ///
    /// # Errors
    /// When it panics.
    pub(super) async fn on_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let begun = Instant::now();
        self.looking_since = Some(begun);
        let mut running = spawn_blocking(work);
        let mut is_told = false;
        let done = loop {
            let slow = (!is_told).then_some(begun + SLOW);
            let next = slow.into_iter().chain(self.first_deadline()).min();
            let next = next.unwrap_or(begun + SLOW * 1000);
            tokio::select! {
                done = &mut running => break done,
                Some(request) = self.requests.recv() => self.take_meanwhile(request),
                () = sleep_until(next) => {
                    if !is_told && begun.elapsed() >= SLOW {
                        is_told = true;
                        warn!(path = %self.sites.display(), "the disk does not answer; edits wait until it does");
                    }
                    self.answer_late_ones();
                }
            }
        };
        self.looking_since = None;
        if is_told {
            info!(path = %self.sites.display(), "the disk has answered, after {:.0?}", begun.elapsed());
        }
        done
    }

    /// What there is to say of a look that takes long.
    pub(super) fn stuck(&self) -> Option<String> {
        let taken = self.looking_since?.elapsed();
        let path = self.sites.display();
        (taken >= SLOW).then(|| {
            let seconds = taken.as_secs();
            format!(
                "the disk below {path} has not answered for {seconds} s; edits wait until it does"
            )
        })
    }

    fn take_meanwhile(&mut self, request: Request) {
        match request {
            Request::List { .. }
            | Request::Gauges { .. }
            | Request::Contest { .. }
            | Request::Flush { .. }
            | Request::Farewell { .. } => self.answer(request),
            _ => {
                let asked = Instant::now();
                self.deferred.push_back(Deferred { asked, request });
            }
        }
    }

    /// The next one of those that came during a look.
    pub(super) fn take_deferred(&mut self) -> Option<Request> {
        let Deferred { asked, mut request } = self.deferred.pop_front()?;
        if let Request::Wait { timeout, .. } = &mut request {
            *timeout = timeout.saturating_sub(asked.elapsed());
        }
        Some(request)
    }

    /// When somebody has waited long enough.
    fn first_deadline(&self) -> Option<Instant> {
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline);
        let deferred = self.deferred.iter().filter_map(Deferred::deadline);
        waiters.chain(deferred).min()
    }

    fn answer_late_ones(&mut self) {
        let now = Instant::now();
        self.answer_waiters(|waiter| waiter.deadline <= now);
        let is_late = |deferred: &Deferred| deferred.deadline().is_some_and(|at| at <= now);
        let (late, on_time) = std::mem::take(&mut self.deferred)
            .into_iter()
            .partition(is_late);
        self.deferred = on_time;
        let notice = self.notice();
        for Deferred { request, .. } in Vec::from(late) {
            // Who no longer listens has given up.
            match request {
                Request::Wait { name, reply, .. } => drop(reply.send(Waited::Timeout {
                    pending: name.into_iter().map(|name| (name, None)).collect(),
                    notice: notice.clone(),
                })),
                Request::Reload { reply, .. } => drop(reply.send(self.report_of_nothing())),
                _ => {}
            }
        }
    }

    /// What a reload tells that could not look.
    fn report_of_nothing(&self) -> Report {
        Report {
            rejected: self.book.rejected().map(SiteName::to_string).collect(),
            live: self.book.open(),
            kept: self.notice(),
            ..Report::default()
        }
    }

    /// The one whose looks are just being made.
    pub(super) fn report_under_way(&mut self) -> Option<&mut super::wait::Waiter> {
        let is_it = |goal: &Goal| matches!(goal, Goal::Report { is_looking, .. } if *is_looking);
        self.waiters.iter_mut().find(|waiter| is_it(&waiter.goal))
    }
}

impl Deferred {
    fn deadline(&self) -> Option<Instant> {
        match &self.request {
            Request::Wait { timeout, .. } => self.asked.checked_add(*timeout),
            Request::Reload { .. } => Some(self.asked + RELOAD_TIME),
            _ => None,
        }
    }
}
