//! The route table in force: publish a table, take a snapshot.
//!
//! One writer, the control thread; readers are the workers, who compare [`Current::generation`] at every request
//! and are also told, so that an idle one does not keep an old table alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::RouteTable;
use crate::site::Site;

/// The route table as it was at one moment.
pub type Snapshot = Arc<RouteTable>;

/// The table in force, process-wide.
#[derive(Debug, Default)]
pub struct Current {
    table: ArcSwap<RouteTable>,
    /// That of `table`, or for a moment that of the one before.
    generation: AtomicU64,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Published>>>,
}

impl Current {
    /// An empty table, until the first publish.
    pub fn new() -> Current {
        Current::default()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.table.load_full()
    }

    /// Generation of the newest table. One atomic load: every request compares it with its snapshot's.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is published from now on. One per worker, taken before it starts. Nothing is lost as long as the
    /// receiver lives; dropping it counts as acknowledging everything.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Published> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock_subscribers().push(sender);
        receiver
    }

    /// Puts `table` in force, at once; the returned future resolves when every subscriber has acknowledged. Dropping
    /// it takes nothing back. What the subscribers give back is freed where it is polled.
    pub fn publish(
        &self,
        table: RouteTable,
        changes: Vec<SiteChange>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let generation = table.generation();
        let before = self.table.swap(Arc::new(table));
        self.generation.store(generation, Ordering::Release);
        let (retire, mut retired) = mpsc::unbounded_channel();
        let published = Published {
            generation,
            changes: changes.into(),
            retire,
        };
        self.lock_subscribers()
            .retain(|subscriber| subscriber.send(published.clone()).is_ok());
        drop(published);
        async move {
            // Ends when the last `Published` is gone, acknowledged or dropped.
            while let Some(snapshots) = retired.recv().await {
                drop::<Vec<Snapshot>>(snapshots);
            }
            drop(before);
        }
    }

    fn lock_subscribers(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::UnboundedSender<Published>>> {
        // A list of senders is whole whatever panicked beside it.
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a site, for those who hold connections of it.
#[derive(Clone, Debug)]
pub enum SiteChange {
    Edited {
        old: Arc<Site>,
        new: Arc<Site>,
    },
    /// Open work may go on for `drain`.
    Removed {
        old: Arc<Site>,
        drain: Duration,
    },
}

/// The news of one publish. To be acknowledged; dropping it says the same, with nothing to give back.
#[derive(Clone, Debug)]
pub struct Published {
    pub generation: u64,
    pub changes: Arc<[SiteChange]>,
    retire: mpsc::UnboundedSender<Vec<Snapshot>>,
}

impl Published {
    /// Says that this worker has taken the new table for its next request. `retired` are its old snapshots: a table
    /// of 100,000 names takes milliseconds to free, which the publisher does off the workers.
    pub fn acknowledge(self, retired: Vec<Snapshot>) {
        // A publisher that no longer listens has dropped its future: then they are freed here.
        self.retire.send(retired).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_done(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn a_published_table_is_in_force_at_once() {
        let current = Current::new();
        let next = current.snapshot().with([]);
        drop(current.publish(next, Vec::new()));
        assert_eq!(current.generation(), 1);
        assert_eq!(current.snapshot().generation(), 1);
    }

    #[test]
    fn a_publish_is_finished_when_every_subscriber_has_acknowledged() {
        let current = Current::new();
        let (mut one, mut two) = (current.subscribe(), current.subscribe());
        let mut publish = pin!(current.publish(current.snapshot().with([]), Vec::new()));
        assert!(!is_done(publish.as_mut()));
        one.try_recv().expect("news").acknowledge(Vec::new());
        assert!(!is_done(publish.as_mut()));
        let news = two.try_recv().expect("news");
        assert_eq!(news.generation, 1);
        news.acknowledge(Vec::new());
        assert!(is_done(publish.as_mut()));
    }

    #[test]
    fn a_subscriber_that_is_gone_counts_as_acknowledged() {
        let current = Current::new();
        let (deaf, mut forgetful) = (current.subscribe(), current.subscribe());
        drop(current.subscribe());
        let mut publish = pin!(current.publish(current.snapshot().with([]), Vec::new()));
        drop(deaf);
        assert!(!is_done(publish.as_mut()));
        drop(forgetful.try_recv());
        assert!(is_done(publish.as_mut()));
    }

    #[test]
    fn an_old_table_is_freed_by_the_publisher() {
        let current = Current::new();
        let mut worker = current.subscribe();
        let held = current.snapshot();
        let watched = Arc::downgrade(&held);
        let mut publish = pin!(current.publish(held.with([]), Vec::new()));
        worker.try_recv().expect("news").acknowledge(vec![held]);
        assert!(watched.upgrade().is_some());
        assert!(is_done(publish.as_mut()));
        assert!(watched.upgrade().is_none());
    }
}
