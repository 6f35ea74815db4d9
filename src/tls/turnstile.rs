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
    passed: Cell<u32>,
    is_turning: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
}

impl Turnstile {
    /// At most `most` handshakes at once.
    pub fn new(most: usize) -> Turnstile {
        Turnstile {
            at_once: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            passed: Cell::new(0),
            is_turning: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    /// Waits for a place and a turn. The place is free again when what is returned is dropped, after the handshake;
    /// whoever is dropped while waiting gives the turn to the next.
    pub async fn pass(self: &Rc<Self>) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        let place = self.at_once.acquire().await.ok();
        self.turn_up().await;
        place
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
}
