//! The polite end of a connection: the other side gets to read our last words.

use std::future::poll_fn;
use std::task::{Poll, ready};

use crate::block::Block;
use crate::limits::Limits;
use crate::stream::Stream;
use crate::wheel::{Expired, Timer};

/// Says that we are done, and reads on for a moment. Closed with bytes unread, the kernel would reset the connection,
/// and what was said last could be lost on the way (RFC 9112 9.6). Whoever is waited for so may be told to make room for
/// others.
pub async fn linger(stream: &mut Stream, timer: &Timer, limits: &Limits) -> Lingered {
    let mut left = limits.linger_bytes;
    let mut is_said = false;
    timer.rest(limits.linger_time);
    let done = timer.until_fired(poll_fn(|cx| {
        if !is_said {
            // Who is gone already has no need to be told.
            drop(ready!(stream.poll_end(cx)));
            is_said = true;
        }
        loop {
            let mut block = Block::lend();
            match ready!(block.poll_fill(cx, stream)) {
                Ok(count) if count > 0 && (count as u64) < left => left -= count as u64,
                _ => return Poll::Ready(()),
            }
        }
    }));
    match done.await {
        Err(Expired) if timer.fired_for_room() => Lingered::MadeRoom,
        Ok(()) | Err(Expired) => Lingered::Over,
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lingered {
    Over,
    MadeRoom,
}
