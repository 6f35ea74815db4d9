//! Answers that cost in proportion to the sites: made once for all who ask at the same time, and not one after another
//! without a rest, however many ask.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// One kind of such answers. Nobody gets one that was begun before they asked: what `wait` waited for is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Costly(Arc<Mutex<Last>>);

/// The last one that was made.
#[derive(Debug, Default)]
struct Last {
    begun: Option<Instant>,
    ended: Option<Instant>,
    /// Kept by those to whom it is being written, and by nobody longer: it may have megabytes.
    body: Weak<Vec<u8>>,
}

impl Costly {
    /// What `make` makes, or what it has made for somebody who asked a little earlier and had to wait. Half of the time
    /// nothing is made. Dropping the future leaves it to the next who waits.
    pub(super) async fn ask(&self, make: impl Future<Output = Vec<u8>>) -> Arc<Vec<u8>> {
        let asked = Instant::now();
        // Held while one is made: those who wait here are those who share the next.
        let mut last = self.0.lock().await;
        if last.begun.is_some_and(|begun| begun >= asked)
            && let Some(body) = last.body.upgrade()
        {
            return body;
        }
        if let (Some(begun), Some(ended)) = (last.begun, last.ended) {
            let took = ended.saturating_duration_since(begun).min(LONGEST_REST);
            sleep_until(ended + took).await;
        }
        let begun = Instant::now();
        let body = Arc::new(make.await);
        *last = Last {
            begun: Some(begun),
            ended: Some(Instant::now()),
            body: Arc::downgrade(&body),
        };
        body
    }
}

/// Somebody waits.
const LONGEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::sleep;

    use super::*;

    const TAKES: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn who_asks_while_one_is_made_shares_the_next_with_all_the_others() {
        let costly = Costly::default();
        let made = Rc::new(Cell::new(0u8));
        let tasks = LocalSet::new();
        let ask = |after: u64| {
            let (costly, made) = (costly.clone(), Rc::clone(&made));
            spawn_local(async move {
                sleep(Duration::from_millis(after)).await;
                let body = costly.ask(async {
                    made.set(made.get() + 1);
                    let body = vec![made.get()];
                    sleep(TAKES).await;
                    body
                });
                let body = body.await;
                // Somebody to whom it takes time to be written.
                sleep(TAKES).await;
                body[0]
            })
        };
        let begun = Instant::now();
        let asked = tasks.run_until(async {
            let all: Vec<_> = (0..40).map(|number| ask(number * 4)).collect();
            let mut got = Vec::new();
            for one in all {
                got.push(one.await.expect("no panic"));
            }
            got
        });
        let got = asked.await;
        assert_eq!(got[0], 1);
        assert!(got[1..].iter().all(|&number| number == 2), "{got:?}");
        // The second began after a rest.
        assert!(begun.elapsed() >= 4 * TAKES, "{:?}", begun.elapsed());
        // Nobody gets what was made before, and nothing is kept for it.
        assert!(costly.0.lock().await.body.upgrade().is_none());
        assert_eq!(*costly.ask(async { vec![7] }).await, [7]);
    }
}
