//! Bytes both ways until both sides are done, without reading them.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::block::Block;
use crate::stream::Stream;
use crate::wheel::Timer;

/// Bytes one direction may move before the other tasks of the worker get their turn.
const TURN_BYTES: u64 = 256 << 10;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have said that they are done.
    Finished,
    /// One side broke off.
    Broken,
    /// Nothing moved for too long.
    Idle,
    /// The site was edited or removed, and its time is over.
    Cut,
}

/// What was relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ending: Ending,
    pub from_client: u64,
    pub from_upstream: u64,
}

/// Relays until both sides are done; `early` are bytes that each side has sent already. A side that ends is told
/// so to the other, whose bytes go on (half-close kept). Holds a block only for bytes that the other side does
/// not take.
///
/// At `idle` without a byte either way both sides are closed; `None` is never.
pub async fn both(
    client: &mut Stream,
    early_client: Option<Block>,
    upstream: &mut Stream,
    early_upstream: Option<Block>,
    idle: Option<Duration>,
    timer: &Timer,
) -> Outcome {
    let mut up = Direction {
        pending: early_client,
        ..Direction::default()
    };
    let mut down = Direction {
        pending: early_upstream,
        ..Direction::default()
    };
    let set = || match idle {
        Some(idle) => timer.set(idle),
        None => timer.clear(),
    };
    set();
    let ending = poll_fn(|cx| {
        let before = up.moved + down.moved;
        let there = up.poll(cx, client, upstream);
        let back = down.poll(cx, upstream, client);
        match (there, back) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(Ending::Broken);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Finished),
            _ => {}
        }
        if up.moved + down.moved != before {
            set();
        }
        timer.poll_fired(cx).map(|()| {
            if timer.was_cut() {
                Ending::Cut
            } else {
                Ending::Idle
            }
        })
    })
    .await;
    Outcome {
        ending,
        from_client: up.moved,
        from_upstream: down.moved,
    }
}

/// One of the two directions.
#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet taken by the other side.
    pending: Option<Block>,
    moved: u64,
    ended: bool,
    done: bool,
}

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        let mut turn = 0;
        loop {
            if let Some(block) = &mut self.pending {
                while !block.is_empty() {
                    let Poll::Ready(count) = to.poll_put(cx, block.filled())? else {
                        return Poll::Pending;
                    };
                    block.consume(count);
                    self.moved += count as u64;
                    turn += count as u64;
                }
            }
            if self.ended {
                self.pending = None;
                if !self.done {
                    match to.poll_end(cx) {
                        Poll::Pending => return Poll::Pending,
                        // Gone already: then it has no need to be told.
                        Poll::Ready(_) => self.done = true,
                    }
                }
                return Poll::Ready(Ok(()));
            }
            if turn >= TURN_BYTES {
                cx.waker().wake_by_ref();
                self.pending = None;
                return Poll::Pending;
            }
            let mut block = self.pending.take().unwrap_or_else(Block::lend);
            match block.poll_fill(cx, from) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.ended = true,
                // A backend's TLS without its last word. What is tunnelled says its end itself, as a WebSocket does,
                // and a reset would take from the client what is still on its way.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.ended = true;
                }
                Poll::Ready(Ok(_)) => self.pending = Some(block),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}
