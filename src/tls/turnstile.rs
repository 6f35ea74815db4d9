//! Bounds the handshakes of a worker: how many there are at once, and how many a turn do what is expensive, the rest in
//! the order they came.
//!
//! A full handshake costs as much as ten requests, and one with RSA forty. A thousand hellos at once must not keep
//! everybody else on the worker waiting until the last of them is answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::{spawn_local, yield_now};

/// Handshakes between two looks at the sockets: about half a millisecond of signatures.
const PER_TURN: u32 = 4;

/// The turnstile of one worker.
#[derive(Debug)]
pub struct Turnstile {
    at_once: Semaphore,
    most: Cell<usize>,
    /// Places that are taken and will not be given again.
    owed: Cell<usize>,
    passed: Cell<u32>,
    is_turning: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
}

/// The right to be one of those who shake hands; free again when dropped.
#[derive(Debug)]
pub struct Place<'t> {
    permit: Option<SemaphorePermit<'t>>,
    owed: &'t Cell<usize>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(owed) = self.owed.get().checked_sub(1)
            && let Some(permit) = self.permit.take()
        {
            self.owed.set(owed);
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
    /// whoever is dropped while waiting gives the turn to the next.
    pub async fn pass(self: &Rc<Self>) -> Option<Place<'_>> {
        // Never closed.
        let permit = self.at_once.acquire().await.ok()?;
        let place = Place {
            permit: Some(permit),
            owed: &self.owed,
        };
        self.turn_up().await;
        Some(place)
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

    #[test]
    fn everybody_passes_a_few_a_turn_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(Default::default())
            .expect("runtime");
        runtime.block_on(async {
            let turnstile = Rc::new(Turnstile::new(100));
            let order = Rc::new(RefCell::new(Vec::new()));
            let passing: Vec<_> = (0..50)
                .map(|number| {
                    let (turnstile, order) = (Rc::clone(&turnstile), Rc::clone(&order));
                    spawn_local(async move {
                        turnstile.pass().await;
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(Default::default())
            .expect("runtime");
        runtime.block_on(async {
            let turnstile = Rc::new(Turnstile::new(100));
            for _ in 0..PER_TURN {
                turnstile.pass().await;
            }
            let waiting = spawn_local({
                let turnstile = Rc::clone(&turnstile);
                async move { drop(turnstile.pass().await) }
            });
            waiting.abort();
            for _ in 0..20 {
                turnstile.pass().await;
            }
        });
    }

    #[test]
    fn no_more_than_so_many_shake_hands_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(Default::default())
            .expect("runtime");
        runtime.block_on(async {
            let turnstile = Rc::new(Turnstile::new(1));
            let first = turnstile.pass().await;
            let second = spawn_local({
                let turnstile = Rc::clone(&turnstile);
                async move { drop(turnstile.pass().await) }
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(Default::default())
            .expect("runtime");
        runtime.block_on(async {
            let turnstile = Rc::new(Turnstile::new(2));
            let (first, second) = (turnstile.pass().await, turnstile.pass().await);
            turnstile.allow(1);
            drop(first);
            assert_eq!(turnstile.at_once.available_permits(), 0);
            drop(second);
            assert_eq!(turnstile.at_once.available_permits(), 1);
            turnstile.allow(3);
            assert_eq!(turnstile.at_once.available_permits(), 3);
        });
    }
}
