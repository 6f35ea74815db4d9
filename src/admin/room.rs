//! Who is being talked to: so many at once. When all places are taken, whoever keeps us waiting longest makes room for
//! whoever comes: a health check that finds the door full ends a container.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// How long whoever comes waits before the next one is told to make room: one that was is gone in a moment.
const AGAIN: Duration = Duration::from_millis(50);
/// How long an answer may at least be taken, also where others wait for the room: megabytes need a moment.
const TAKING: Duration = Duration::from_secs(1);

/// The places of one socket or address.
#[derive(Clone, Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    guests: Arc<Mutex<Guests>>,
}

/// Those who keep us waiting, by their numbers, the oldest first.
#[derive(Debug, Default)]
struct Guests {
    last: u64,
    waited_for: BTreeMap<u64, WaitedFor>,
}

#[derive(Debug)]
struct WaitedFor {
    what: What,
    since: Instant,
    /// Told when it is to leave.
    leave: Arc<Notify>,
}

/// What somebody has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Asked.
    Question,
    /// Taken what was answered.
    Taking,
}

/// One who is talked to has made room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MadeRoom;

/// The right to be talked to; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    guests: Arc<Mutex<Guests>>,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn with(places: usize) -> Room {
        Room {
            places: Arc::new(Semaphore::new(places)),
            guests: Arc::default(),
        }
    }

    /// A place for somebody who is there already. Waits for as long as all are taken by those for whom something is done.
    pub(super) async fn place(&self) -> Option<Place> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => loop {
                guests(&self.guests).make_room();
                let place = Arc::clone(&self.places).acquire_owned();
                if let Ok(permit) = timeout(AGAIN, place).await {
                    break permit.ok()?;
                }
            },
        };
        let mut all = guests(&self.guests);
        all.last += 1;
        Some(Place {
            number: all.last,
            guests: Arc::clone(&self.guests),
            _permit: permit,
        })
    }
}

impl Guests {
    /// Tells the oldest to leave, of those who have not even asked, if there are any.
    fn make_room(&mut self) {
        let now = Instant::now();
        let may_leave = |one: &WaitedFor| now.duration_since(one.since) >= TAKING;
        let mut all = self.waited_for.iter();
        let silent = all.find(|(_, one)| one.what == What::Question);
        let oldest = silent.or_else(|| self.waited_for.iter().find(|(_, one)| may_leave(one)));
        if let Some((&number, _)) = oldest
            && let Some(one) = self.waited_for.remove(&number)
        {
            one.leave.notify_one();
        }
    }
}

impl Place {
    /// What comes of `doing`, which waits for `what`.
    ///
    /// # Errors
    /// `MadeRoom`, when others need the place more.
    pub(super) async fn wait_for<T>(
        &self,
        what: What,
        doing: impl Future<Output = T>,
    ) -> Result<T, MadeRoom> {
        let leave = Arc::new(Notify::new());
        let waited_for = WaitedFor {
            what,
            since: Instant::now(),
            leave: Arc::clone(&leave),
        };
        let _listed = Listed::of(self, waited_for);
        tokio::select! {
            biased;
            done = doing => Ok(done),
            () = leave.notified() => Err(MadeRoom),
        }
    }
}

/// Somebody is among those who keep us waiting for as long as this lives.
struct Listed<'p>(&'p Place);

impl<'p> Listed<'p> {
    fn of(place: &'p Place, waited_for: WaitedFor) -> Listed<'p> {
        let mut all = guests(&place.guests);
        all.waited_for.insert(place.number, waited_for);
        Listed(place)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        guests(&self.0.guests).waited_for.remove(&self.0.number);
    }
}

fn guests(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    // A list of who is there is whole whatever panicked beside it.
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::{JoinHandle, spawn, yield_now};

    use super::*;

    /// Somebody who comes and keeps us waiting for `what`; whether room was made of it is what comes of it.
    async fn comes(room: &Room, what: What) -> JoinHandle<Result<(), MadeRoom>> {
        let place = room.place().await.expect("never closed");
        let task = spawn(async move { place.wait_for(what, pending()).await });
        yield_now().await;
        task
    }

    #[tokio::test]
    async fn the_oldest_of_those_who_have_not_asked_makes_room() {
        let room = Room::with(3);
        let taking = comes(&room, What::Taking).await;
        let first = comes(&room, What::Question).await;
        let second = comes(&room, What::Question).await;
        let third = comes(&room, What::Question).await;
        assert_eq!(first.await.expect("no panic"), Err(MadeRoom));
        assert!(!taking.is_finished() && !second.is_finished() && !third.is_finished());
        // Nobody is told to leave where there is room.
        third.abort();
        drop(third.await);
        let fourth = comes(&room, What::Question).await;
        assert!(!taking.is_finished() && !second.is_finished() && !fourth.is_finished());
    }

    #[tokio::test]
    async fn who_takes_an_answer_has_a_moment_for_it() {
        let room = Room::with(1);
        let begun = Instant::now();
        let taking = comes(&room, What::Taking).await;
        let _next = comes(&room, What::Question).await;
        assert!(begun.elapsed() >= TAKING, "{:?}", begun.elapsed());
        assert_eq!(taking.await.expect("no panic"), Err(MadeRoom));
    }
}
