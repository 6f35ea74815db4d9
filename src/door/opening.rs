//! The first bytes of a connection: what is spoken on it, and with TLS for which name.
//!
//! Every byte read here is handed on. Knows nothing of sites.

use std::future::poll_fn;
use std::task::Poll;

use super::alert::Alert;
use super::client_hello::{self, ClientHello, Room};
use crate::block::Block;
use crate::http::Arrival;
use crate::http::h2::PREFACE;
use crate::parsed::Parsed;

/// What a connection begins with.
#[derive(Debug)]
pub(super) enum Opening {
    /// The first bytes of a request, perhaps not all of its head.
    Http(Block),
    /// The preface of HTTP/2, in clear text and without a word before it (RFC 9113 3.3), and what came behind it.
    Http2(Block),
    Tls(Hello),
}

/// A client hello, whole.
#[derive(Debug)]
pub(super) struct Hello {
    /// The name asked for, normalised.
    pub(super) sni: Option<Box<str>>,
    /// The protocols offered, as the client wrote them.
    pub(super) alpn: Box<[u8]>,
    /// It offers no version of TLS that may still be spoken.
    pub(super) is_outdated: bool,
    /// As it came, with what came behind it.
    pub(super) bytes: Box<[u8]>,
}

/// Why the connection is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It did not all come in time.
    Slow,
    /// Nothing has come, and others need the room.
    MadeRoom,
    /// The client left.
    Gone,
    /// What came is nothing anybody here speaks (CASES T-01).
    Unknown,
    /// A load balancer that must say whose connection it is, and does not, or not so that it can be read.
    ProxyHeader,
    /// The client that a load balancer speaks for has its share of connections.
    ClientFull,
    /// It speaks TLS, and not as it should.
    Hello(Alert),
}

/// Waits for the first bytes. The deadline for all of the opening is set, and stays; as long as nothing has come, the
/// connection may be told to make room.
///
/// # Errors
/// `Slow`, `MadeRoom`, `Gone`.
pub(super) async fn first_bytes(arrival: &mut Arrival) -> Result<Block, Refusal> {
    let limit = arrival.kit.shared.limits.opening_time;
    let deadline = arrival.timer.wheel().at(limit);
    arrival.timer.rest(limit);
    let came = wait(arrival, &[]).await?;
    arrival.timer.set_at(deadline);
    Ok(came)
}

/// Reads on until it is known what is spoken, and with TLS for whom.
///
/// # Errors
/// See [`Refusal`].
pub(super) async fn read(mut came: Block, arrival: &mut Arrival) -> Result<Opening, Refusal> {
    match protocol(came.filled().first()) {
        Some(Protocol::Http) => return read_http(came, arrival).await,
        Some(Protocol::Tls) => {}
        None => return Err(Refusal::Unknown),
    }
    loop {
        if let Some(hello) = whole(&came, arrival.kit.shared.limits.hello_bytes)? {
            return Ok(Opening::Tls(hello));
        }
        came = more(arrival, came).await?;
    }
}

/// HTTP/1, unless all of it so far is the preface of HTTP/2: no request begins with more than a few bytes of that.
async fn read_http(mut came: Block, arrival: &mut Arrival) -> Result<Opening, Refusal> {
    loop {
        let bytes = came.filled();
        if bytes.starts_with(PREFACE) {
            return Ok(Opening::Http2(came));
        }
        if !PREFACE.starts_with(bytes) {
            return Ok(Opening::Http(came));
        }
        came = more(arrival, came).await?;
    }
}

/// Waits until more has come. Meanwhile the connection holds the bytes that are there, not a block.
pub(super) async fn more(arrival: &mut Arrival, came: Block) -> Result<Block, Refusal> {
    let held = came.filled().to_vec();
    drop(came);
    wait(arrival, &held).await
}

async fn wait(arrival: &mut Arrival, held: &[u8]) -> Result<Block, Refusal> {
    let Arrival { stream, timer, .. } = arrival;
    poll_fn(|cx| {
        if stream.poll_readable(cx).is_ready() {
            let mut block = Block::lend();
            let fits = block.append(held);
            debug_assert!(fits, "what is waited for fits into a block");
            match block.poll_fill(cx, stream) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Refusal::Gone)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(block)),
                Poll::Pending => {}
            }
        }
        timer.poll_fired(cx).map(|()| match timer.fired_for_room() {
            true => Err(Refusal::MadeRoom),
            false => Err(Refusal::Slow),
        })
    })
    .await
}

fn whole(came: &Block, most: usize) -> Result<Option<Hello>, Refusal> {
    let mut room = Room::default();
    match client_hello::read(came.filled(), most, &mut room) {
        Ok(Parsed::Complete(ClientHello {
            sni,
            alpn,
            is_outdated,
            ..
        })) => Ok(Some(Hello {
            sni: sni.map(Box::from),
            alpn: alpn.list().into(),
            is_outdated,
            bytes: came.filled().into(),
        })),
        Ok(Parsed::NeedMore) => Ok(None),
        Err(refusal) => Err(Refusal::Hello(refusal.alert())),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Tls,
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
