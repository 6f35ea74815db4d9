//! Answers that cost in proportion to the sites: made once for all who ask at the same time, and not one after another
//! without a rest, however many ask.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn;
use tokio::time::{Instant, sleep_until};

/// How many may be in memory at once, the one that is being made included: those that somebody is slow to take, for up to
/// the time there is for that.
const HELD: usize = 4;

/// One kind of such answers. Nobody gets one that was begun before they asked: what `wait` waited for is in it.
#[derive(Clone, Debug)]
pub(super) struct Costly {
    last: Arc<Mutex<Last>>,
    places: Arc<Semaphore>,
}

/// The last one that was made.
#[derive(Debug, Default)]
struct Last {
    begun: Option<Instant>,
    ended: Option<Instant>,
    body: Weak<Body>,
}

/// Kept by those to whom it is being written, and by nobody longer: it may have megabytes.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    /// What is made for one alone takes none.
    _place: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body {
            bytes,
            _place: None,
        }
    }
}

impl Default for Costly {
    fn default() -> Costly {
        Costly {
            last: Arc::default(),
            places: Arc::new(Semaphore::new(HELD)),
        }
    }
}

impl Costly {
    /// What `make` makes, or what it has made for somebody who asked a little earlier and had to wait. Half of the time
    /// nothing is made. Whoever drops the future before it is made for them leaves that to the next who waits; what has been
    /// begun is carried to its end, whoever has gone meanwhile, and nothing else is begun beside it.
    pub(super) async fn ask<M>(&self, make: impl FnOnce() -> M) -> Arc<Body>
    where
        M: Future<Output = Vec<u8>> + Send + 'static,
    {
        let asked = Instant::now();
        // Held while one is made: those who wait here are those who share the next.
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if last.begun.is_some_and(|begun| begun >= asked)
            && let Some(body) = last.body.upgrade()
        {
            return body;
        }
        if let (Some(begun), Some(ended)) = (last.begun, last.ended) {
            let took = ended.saturating_duration_since(begun).min(LONGEST_REST);
            sleep_until(ended + took).await;
        }
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let begun = Instant::now();
        let making = make();
        let made = spawn(async move {
            let body = Arc::new(Body {
                bytes: making.await,
                _place: place,
            });
            *last = Last {
                begun: Some(begun),
                ended: Some(Instant::now()),
                body: Arc::downgrade(&body),
            };
            body
        });
        let empty = |_| Arc::new(Body::from(Vec::new()));
        made.await.unwrap_or_else(empty)
    }
}

/// Somebody waits.
const LONGEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use tokio::sync::Notify;
    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::sleep;

    use super::*;

    /// Answers that are made when that is told.
    #[derive(Clone, Default)]
    struct Made {
        costly: Costly,
        begun: Arc<AtomicU8>,
        go: Arc<Notify>,
    }

    impl Made {
        /// Somebody asks.
        async fn ask(&self) -> JoinHandle<Arc<Body>> {
            let Made { costly, begun, go } = self.clone();
            let asked = spawn(async move {
                let make = || async move {
                    let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
                    go.notified().await;
                    vec![number]
                };
                costly.ask(make).await
            });
            // As far as it goes by itself.
            for _ in 0..100 {
                yield_now().await;
            }
            asked
        }

        fn begun(&self) -> u8 {
            self.begun.load(Ordering::Relaxed)
        }

        async fn until_begun(&self, count: u8) {
            while self.begun() < count {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    const TAKES: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn who_asks_while_one_is_made_shares_the_next_with_all_the_others() {
        let made = Made::default();
        let first = made.ask().await;
        let mut others = Vec::new();
        for _ in 0..40 {
            others.push(made.ask().await);
        }
        sleep(TAKES).await;
        let ended = Instant::now();
        made.go.notify_one();
        made.until_begun(2).await;
        // After a rest as long as the first has taken.
        assert!(ended.elapsed() >= TAKES, "{:?}", ended.elapsed());
        made.go.notify_one();
        assert_eq!(first.await.expect("no panic")[..], [1]);
        for other in others {
            assert_eq!(other.await.expect("no panic")[..], [2]);
        }
        // Nobody gets what was made before, and nothing is kept for it.
        assert!(made.costly.last.lock().await.body.upgrade().is_none());
        made.go.notify_one();
        let alone = made.ask().await.await.expect("no panic");
        assert_eq!(alone[..], [3]);
    }

    #[tokio::test]
    async fn beside_what_was_begun_for_somebody_who_has_gone_nothing_is_made() {
        let made = Made::default();
        for _ in 0..50 {
            made.ask().await.abort();
        }
        let last = made.ask().await;
        assert_eq!(made.begun(), 1);
        sleep(TAKES).await;
        let ended = Instant::now();
        made.go.notify_one();
        made.until_begun(2).await;
        assert!(ended.elapsed() >= TAKES, "{:?}", ended.elapsed());
        made.go.notify_one();
        // For the last alone: the others had gone before it was begun.
        assert_eq!(last.await.expect("no panic")[..], [2]);
        assert_eq!(made.begun(), 2);
    }

    #[tokio::test]
    async fn no_more_are_held_than_there_are_places() {
        let made = Made::default();
        let mut held = Vec::new();
        for _ in 0..HELD {
            made.go.notify_one();
            held.push(made.ask().await.await.expect("no panic"));
        }
        let waits = made.ask().await;
        sleep(TAKES).await;
        assert_eq!(usize::from(made.begun()), HELD);
        held.pop();
        made.go.notify_one();
        waits.await.expect("no panic");
    }
}
