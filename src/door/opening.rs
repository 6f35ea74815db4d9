//! Tells by the first bytes of a connection what is spoken on it.
//!
//! Every byte read here is handed on. Knows nothing of sites.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::block::Block;
use crate::stream::Stream;
use crate::wheel::Timer;

/// The first bytes, and what they are the beginning of.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) protocol: Protocol,
    pub(super) first: Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Tls,
}

/// Why the connection is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing came in time.
    Slow,
    /// Nothing has come, and others need the room.
    MadeRoom,
    /// The client left without a word.
    Gone,
    /// What came is nothing anybody here speaks (CASES T-01).
    Unknown,
}

/// Waits for the first bytes, at most `limit`, holding no buffer meanwhile.
///
/// # Errors
/// See [`Refusal`].
pub(super) async fn read(
    stream: &mut Stream,
    timer: &Timer,
    limit: Duration,
) -> Result<Opening, Refusal> {
    timer.rest(limit);
    let first = poll_fn(|cx| {
        let mut block = Block::lend();
        match block.poll_fill(cx, stream) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Refusal::Gone)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(block)),
            Poll::Pending => timer.poll_fired(cx).map(|()| match timer.fired_for_room() {
                true => Err(Refusal::MadeRoom),
                false => Err(Refusal::Slow),
            }),
        }
    })
    .await?;
    let protocol = protocol(first.filled().first()).ok_or(Refusal::Unknown)?;
    Ok(Opening { protocol, first })
}

/// One byte tells: a TLS record of type handshake, or text, which HTTP answers even when it refuses it. What is
/// neither is not answered at all.
fn protocol(first: Option<&u8>) -> Option<Protocol> {
    match first? {
        0x16 => Some(Protocol::Tls),
        b' '..=b'~' | b'\t' | b'\r' => Some(Protocol::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_tells_what_is_spoken() {
        assert_eq!(protocol(Some(&0x16)), Some(Protocol::Tls));
        assert_eq!(protocol(Some(&b'G')), Some(Protocol::Http));
        assert_eq!(protocol(Some(&b'\r')), Some(Protocol::Http));
        for other in [b'\n', 0, 0x80, 0x05, 0x7f] {
            assert_eq!(protocol(Some(&other)), None);
        }
    }
}
