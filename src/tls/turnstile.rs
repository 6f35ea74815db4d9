//! Bounds the handshakes of a worker: how many there are at once, and how many a turn do what is expensive, the rest in
//! the order they came.
//!
//! A full handshake costs as much as ten requests, and one with RSA forty. A thousand hellos at once must not keep
//! everybody else on the worker waiting until the last of them is answered. And each holds memory for as long as its
//! client likes: where all places are taken, the client that has let wait longest makes room for the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;

/// Handshakes between two looks at the sockets: about half a millisecond of signatures.
const PER_TURN: u32 = 4;
/// How often whoever waits for a place looks whether somebody may be told to make room by now.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The turnstile of one worker.
#[derive(Debug)]
pub struct Turnstile {
    at_once: Semaphore,
    most: Cell<usize>,
    /// Places that are taken and will not be given again.
    owed: Cell<usize>,
    /// Those whose turn has come, in that order.
    shaking: RefCell<VecDeque<Shaking>>,
    last: Cell<u64>,
    passed: Cell<u32>,
    is_turning: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
}

/// A handshake that waits for nothing but its client.
#[derive(Debug)]
struct Shaking {
    number: u64,
    since: Instant,
    is_in_the_way: Rc<Notify>,
}

/// The right to be one of those who shake hands; free again when dropped.
#[derive(Debug)]
pub struct Place<'t> {
    turnstile: &'t Turnstile,
    permit: Option<SemaphorePermit<'t>>,
    number: u64,
    is_in_the_way: Rc<Notify>,
}

/// Others need the place of a client that has let them wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTheWay;

impl Place<'_> {
    /// Goes through with a handshake, as long as nobody needs its place.
    ///
    /// # Errors
    /// [`InTheWay`].
    pub async fn shake<T>(&self, hands: Pin<&mut impl Future<Output = T>>) -> Result<T, InTheWay> {
        tokio::select! {
            biased;
            shaken = hands => Ok(shaken),
            () = self.is_in_the_way.notified() => Err(InTheWay),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let turnstile = self.turnstile;
        let mut shaking = turnstile.shaking.borrow_mut();
        // Not there: its turn has not come, or it has been told to make room.
        if let Ok(at) = shaking.binary_search_by_key(&self.number, |shaking| shaking.number) {
            shaking.remove(at);
        }
        if let Some(owed) = turnstile.owed.get().checked_sub(1)
            && let Some(permit) = self.permit.take()
        {
            turnstile.owed.set(owed);
            permit.forget();
        }
    }
}

impl Turnstile {
    /// At most `most` handshakes at once.
    pub fn new(most: usize) -> Turnstile {
        let most = most.min(Semaphore::MAX_PERMITS);
        Turnstile {
            at_once: Semaphore::new(most),
            most: Cell::new(most),
            owed: Cell::new(0),
            shaking: RefCell::default(),
            last: Cell::new(0),
            passed: Cell::new(0),
            is_turning: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    /// Another number of places from now on. Handshakes that go on keep theirs.
    pub fn allow(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let before = self.most.replace(most);
        if most < before {
            let fewer = before - most;
            let free = self.at_once.forget_permits(fewer);
            self.owed.set(self.owed.get() + fewer - free);
        } else {
            let more = most - before;
            let owed = self.owed.get().min(more);
            self.owed.set(self.owed.get() - owed);
            self.at_once.add_permits(more - owed);
        }
    }

    /// Waits for a place and a turn. The place is free again when what is returned is dropped, after the handshake;
    /// whoever is dropped while waiting gives the turn to the next. Where there is no place, a client that has been waited
    /// for since `patience` or longer makes room.
    pub async fn pass(self: &Rc<Self>, patience: Duration) -> Option<Place<'_>> {
        let permit = match self.at_once.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.find_place(patience).await?,
        };
        let mut place = Place {
            turnstile: self,
            permit: Some(permit),
            number: 0,
            is_in_the_way: Rc::default(),
        };
        self.turn_up().await;
        place.number = self.last.get() + 1;
        self.last.set(place.number);
        self.shaking.borrow_mut().push_back(Shaking {
            number: place.number,
            since: Instant::now(),
            is_in_the_way: Rc::clone(&place.is_in_the_way),
        });
        Some(place)
    }

    /// In the order of asking.
    #[cold]
    async fn find_place(&self, patience: Duration) -> Option<SemaphorePermit<'_>> {
        let mut place = pin!(self.at_once.acquire());
        loop {
            self.make_room(patience);
            tokio::select! {
                biased;
                // Never closed.
                place = &mut place => return place.ok(),
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn make_room(&self, patience: Duration) {
        let mut shaking = self.shaking.borrow_mut();
        let is_over = |first: &Shaking| first.since.elapsed() >= patience;
        if shaking.front().is_some_and(is_over)
            && let Some(first) = shaking.pop_front()
        {
            first.is_in_the_way.notify_one();
        }
    }

    /// Waits for a turn alone. For handshakes with backends: one that is slow must not keep clients out.
    pub async fn turn_up(self: &Rc<Self>) {
        if !self.is_turning.replace(true) {
            spawn_local(Rc::clone(self).turn());
        }
        if self.passed.get() < PER_TURN && self.waiting.borrow().is_empty() {
            self.passed.set(self.passed.get() + 1);
            return;
        }
        let (go, gone) = oneshot::channel();
        self.waiting.borrow_mut().push_back(go);
        // The other end is never dropped before it was used, but with the worker.
        drop(gone.await);
    }

    /// Runs as long as anybody passes: a worker without handshakes has nothing to turn.
    async fn turn(self: Rc<Self>) {
        loop {
            yield_now().await;
            self.passed.set(0);
            loop {
                let Some(next) = self.waiting.borrow_mut().pop_front() else {
                    break;
                };
                if next.send(()).is_ok() {
                    self.passed.set(self.passed.get() + 1);
                }
                if self.passed.get() >= PER_TURN {
                    break;
                }
            }
            if self.passed.get() == 0 {
                self.is_turning.set(false);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::MAX;

    fn on_a_worker(what: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(Default::default())
            .expect("runtime");
        runtime.block_on(what);
    }

    #[test]
    fn everybody_passes_a_few_a_turn_and_in_order() {
        on_a_worker(async {
            let turnstile = Rc::new(Turnstile::new(100));
            let order = Rc::new(RefCell::new(Vec::new()));
            let passing: Vec<_> = (0..50)
                .map(|number| {
                    let (turnstile, order) = (Rc::clone(&turnstile), Rc::clone(&order));
                    spawn_local(async move {
                        turnstile.pass(NEVER).await;
                        order.borrow_mut().push(number);
                    })
                })
                .collect();
            yield_now().await;
            assert!(
                order.borrow().len() <= 2 * PER_TURN as usize,
                "{:?}",
                order.borrow()
            );
            for one in passing {
                one.await.expect("passed");
            }
            assert_eq!(*order.borrow(), (0..50).collect::<Vec<_>>());
        });
    }

    #[test]
    fn whoever_gives_up_holds_nobody_up() {
        on_a_worker(async {
            let turnstile = Rc::new(Turnstile::new(100));
            for _ in 0..PER_TURN {
                turnstile.pass(NEVER).await;
            }
            let waiting = spawn_local({
                let turnstile = Rc::clone(&turnstile);
                async move { drop(turnstile.pass(NEVER).await) }
            });
            waiting.abort();
            for _ in 0..20 {
                turnstile.pass(NEVER).await;
            }
        });
    }

    #[test]
    fn no_more_than_so_many_shake_hands_at_once() {
        on_a_worker(async {
            let turnstile = Rc::new(Turnstile::new(1));
            let first = turnstile.pass(NEVER).await;
            let second = spawn_local({
                let turnstile = Rc::clone(&turnstile);
                async move { drop(turnstile.pass(NEVER).await) }
            });
            for _ in 0..20 {
                yield_now().await;
            }
            assert!(!second.is_finished());
            drop(first);
            second.await.expect("passed");
        });
    }

    #[test]
    fn fewer_places_count_when_those_that_are_taken_are_free() {
        on_a_worker(async {
            let turnstile = Rc::new(Turnstile::new(2));
            let (first, second) = (turnstile.pass(NEVER).await, turnstile.pass(NEVER).await);
            turnstile.allow(1);
            drop(first);
            assert_eq!(turnstile.at_once.available_permits(), 0);
            drop(second);
            assert_eq!(turnstile.at_once.available_permits(), 1);
            turnstile.allow(3);
            assert_eq!(turnstile.at_once.available_permits(), 3);
        });
    }

    #[test]
    fn whoever_has_let_wait_longest_makes_room() {
        on_a_worker(async {
            let turnstile = Rc::new(Turnstile::new(2));
            let patience = Duration::from_millis(50);
            let silent = |turnstile: Rc<Turnstile>| async move {
                let place = turnstile.pass(patience).await.expect("a place");
                place.shake(pin!(std::future::pending::<()>())).await
            };
            let first = spawn_local(silent(Rc::clone(&turnstile)));
            let second = spawn_local(silent(Rc::clone(&turnstile)));
            let third = spawn_local(silent(Rc::clone(&turnstile)));
            assert_eq!(first.await.expect("over"), Err(InTheWay));
            yield_now().await;
            assert!(!second.is_finished() && !third.is_finished());
            let fourth = spawn_local(silent(Rc::clone(&turnstile)));
            assert_eq!(second.await.expect("over"), Err(InTheWay));
            for one in [&third, &fourth] {
                assert!(!one.is_finished());
                one.abort();
            }
            // Who has left is not told any more, and its place is free.
            drop((third.await, fourth.await));
            assert!(turnstile.shaking.borrow().is_empty());
            let place = turnstile.pass(NEVER).await.expect("a place");
            assert_eq!(place.shake(pin!(async { 5 })).await, Ok(5));
            drop(place);
            assert_eq!(turnstile.at_once.available_permits(), 2);
        });
    }
}
