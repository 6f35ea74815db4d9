//! Bytes both ways until both sides are done, without reading them. A direction that runs fast is spliced.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::block::{Block, Brought, READ_BYTES};
use crate::pipe::Pipe;
use crate::stream::Stream;
use crate::wheel::{Cut, Timer};

/// Bytes one direction may move before the other tasks of the worker get their turn.
const TURN_BYTES: u64 = 256 << 10;
/// A splice that brings less than this is no cheaper than a copy. A record of TLS is a little more: whoever sends one
/// that is full has more to say.
const SPLICE_LEAST: usize = 16 << 10;

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
    Cut(Cut),
}

impl Ending {
    /// By `timer`, which has fired.
    pub fn by(timer: &Timer) -> Ending {
        timer.cut().map_or(Ending::Idle, Ending::Cut)
    }
}

/// What was relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ending: Ending,
    pub from_client: u64,
    pub from_upstream: u64,
}

/// How long nothing may come from either side.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// While both may speak. `None`: for ever.
    pub of_both: Option<Duration>,
    /// Once one has ended: the other has an answer to finish, as after any request, or is gone without a word.
    pub of_one: Duration,
}

impl Silence {
    /// Sets the timer for it, with one side ended or not.
    pub fn set(self, timer: &Timer, has_one_ended: bool) {
        let Silence { of_both, of_one } = self;
        match of_both {
            _ if has_one_ended => timer.set(of_both.map_or(of_one, |both| both.min(of_one))),
            Some(both) => timer.set(both),
            None => timer.clear(),
        }
    }
}

/// Relays until both sides are done; `early` are bytes that each side has sent already. A side that ends is told
/// so to the other, whose bytes go on (half-close kept). Holds a block only for bytes that the other side does
/// not take.
///
/// After `silence` both sides are closed.
pub async fn both(
    client: &mut Stream,
    early_client: Option<Block>,
    upstream: &mut Stream,
    early_upstream: Option<Block>,
    silence: Silence,
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
    silence.set(timer, false);
    let mut has_one_ended = false;
    let ending = poll_fn(|cx| {
        let before = up.moved + down.moved;
        let there = up.poll(cx, client, upstream, down.ended);
        let back = down.poll(cx, upstream, client, up.ended);
        match (there, back) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(Ending::Broken);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Finished),
            _ => {}
        }
        let ended = up.ended || down.ended;
        if up.moved + down.moved != before || ended != has_one_ended {
            has_one_ended = ended;
            silence.set(timer, ended);
        }
        timer.poll_fired(cx).map(|()| Ending::by(timer))
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
    /// Read and not yet taken by the other side, without having been here.
    pipe: Option<Pipe>,
    /// Whether the last read has brought at least [`SPLICE_LEAST`].
    is_fast: bool,
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
        other_ended: bool,
    ) -> Poll<io::Result<()>> {
        let turn_ends = self.moved + TURN_BYTES;
        loop {
            match self.poll_put(cx, to) {
                Poll::Ready(put) => put?,
                Poll::Pending => {
                    from.take_ahead(cx);
                    return Poll::Pending;
                }
            }
            if self.ended && other_ended {
                // Both will be closed at once, which says it too.
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return self.poll_end(cx, to);
            }
            if self.moved >= turn_ends {
                cx.waker().wake_by_ref();
                self.pending = None;
                return Poll::Pending;
            }
            if self.is_fast
                && from.is_plain()
                && to.is_plain()
                && let Some(mut pipe) = Pipe::lend()
            {
                self.pending = None;
                let count = ready!(pipe.poll_fill(cx, from, TURN_BYTES as usize))?;
                self.ended = count == 0;
                self.is_fast = count >= SPLICE_LEAST;
                self.pipe = Some(pipe);
                continue;
            }
            let mut block = self.pending.take().unwrap_or_else(Block::lend);
            let Brought { bytes, is_short } = match ready!(block.poll_read(cx, from, READ_BYTES)) {
                // TLS of a backend without its last word: a reset would take from the client what is still on its way.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Brought {
                    bytes: 0,
                    is_short: true,
                },
                read => read?,
            };
            // A read that is short has emptied the socket. Where the end was known by then, it comes next: it is told
            // together with the bytes, without a read that finds nothing else.
            self.ended = bytes == 0 || is_short && from.has_ended();
            if self.ended && from.may_be_cut() {
                // Nobody vouches for this end (RFC 8446 6.1), and so we do not.
                to.forgo_goodbye();
            }
            self.is_fast = bytes >= SPLICE_LEAST;
            self.pending = Some(block);
        }
    }

    /// Gives the other side all that was read.
    fn poll_put(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        if let Some(block) = &mut self.pending {
            while !block.is_empty() {
                let count = match self.ended {
                    true => ready!(to.poll_put_last(cx, block.filled()))?,
                    false => ready!(to.poll_put(cx, block.filled()))?,
                };
                block.consume(count);
                self.moved += count as u64;
            }
        }
        if let Some(pipe) = &mut self.pipe {
            while !pipe.is_empty() {
                let count = ready!(pipe.poll_drain(cx, to))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.moved += count as u64;
            }
            self.pipe = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the other side that nothing more comes.
    fn poll_end(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        self.pending = None;
        if !self.done {
            // Gone already: then it has no need to be told.
            drop(ready!(to.poll_end(cx)));
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheel::Wheel;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// Both ends of a connection; the second is ours.
    fn connection() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let theirs = TcpStream::connect(address).expect("a connection");
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("not blocking");
        let ours = tokio::net::TcpStream::from_std(ours).expect("registered");
        (theirs, Stream::Tcp(ours))
    }

    #[test]
    fn what_was_sent_before_the_end_is_passed_on_also_where_reads_are_small() {
        const SENT: usize = 60_000;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("runtime");
        for lent in [0, 200] {
            let _lent: Vec<Block> = (0..lent).map(|_| Block::lend()).collect();
            runtime.block_on(async {
                let (mut app, mut upstream) = connection();
                let (mut browser, mut client) = connection();
                // All of it, and the end behind it, is there before the first read.
                app.write_all(&[b'x'; SENT]).expect("sent");
                app.shutdown(Shutdown::Write).expect("ended");
                browser.shutdown(Shutdown::Write).expect("ended");
                let timer = Wheel::new().timer();
                let silence = Silence {
                    of_both: None,
                    of_one: Duration::from_secs(60),
                };
                let outcome = both(&mut client, None, &mut upstream, None, silence, &timer).await;
                assert_eq!(outcome.ending, Ending::Finished);
                assert_eq!(outcome.from_upstream, SENT as u64, "{lent} lent");
                drop(client);
                let mut read = Vec::new();
                browser.read_to_end(&mut read).expect("all of it");
                assert_eq!(read.len(), SENT, "{lent} lent");
            });
        }
    }
}
