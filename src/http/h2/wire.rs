//! What lies between a client's stream and the library: one buffer that gathers what is to be written, and the meter.
//!
//! The library writes and flushes frame by frame. Here a flush only counts once the connection has nothing more to
//! say ([`Wire::poll_send`]), so that the frames of many streams are one system call.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use super::meter::{Budget, Excess, Meter};
use crate::block::Block;
use crate::stream::Stream;
use crate::wheel::Wheel;

/// Small frames of data in one read, after which their requests come first.
const MOST_SMALL: u32 = 64;

/// Both ends of it: the library has one, the connection another.
#[derive(Clone, Debug)]
pub(super) struct Wire(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    stream: Stream,
    wheel: Rc<Wheel>,
    meter: Meter,
    /// Read and not yet taken by the library.
    unread: Option<Block>,
    /// Bytes of the preface that the meter has not passed.
    preface: usize,
    /// And that the library has not read.
    unread_preface: usize,
    /// Written by the library and not yet sent.
    unsent: Option<Block>,
    sent: u64,
    received: u64,
    /// Nothing more is read before the requests have had their turn.
    gives_way: bool,
    /// The connection knows of the meter's verdict.
    is_told: bool,
}

impl Wire {
    /// `early` has come already.
    pub(super) fn new(
        stream: Stream,
        early: Option<Block>,
        budget: Budget,
        wheel: &Rc<Wheel>,
    ) -> Wire {
        let mut meter = Meter::new(budget);
        let mut preface = PREFACE.len();
        if let Some(early) = &early {
            meter_received(&mut meter, &mut preface, early.filled(), wheel.now());
        }
        Wire(Rc::new(RefCell::new(Inner {
            stream,
            wheel: Rc::clone(wheel),
            meter,
            unread: early,
            preface,
            unread_preface: PREFACE.len(),
            unsent: None,
            sent: 0,
            received: 0,
            gives_way: false,
            is_told: false,
        })))
    }

    /// What the client has done too much of; said once.
    pub(super) fn take_excess(&self) -> Option<Excess> {
        let mut inner = self.0.borrow_mut();
        let excess = inner.meter.excess()?;
        let is_new = !std::mem::replace(&mut inner.is_told, true);
        is_new.then_some(excess)
    }

    /// Whether the requests are to have their turn before more is read; then whoever asks comes again, behind them.
    pub(super) fn gives_way(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().gives_way)
    }

    /// Whether its first frame has come.
    pub(super) fn has_heard(&self) -> bool {
        self.0.borrow().meter.has_heard()
    }

    /// The number of the head that has begun and has not come to its end.
    pub(super) fn unfinished_head(&self) -> Option<u64> {
        self.0.borrow().meter.unfinished_head()
    }

    /// How many small frames of data have come, but for the last of each stream.
    pub(super) fn small_in_all(&self) -> u64 {
        self.0.borrow().meter.small_in_all()
    }

    /// How much the client has sent.
    pub(super) fn received(&self) -> u64 {
        self.0.borrow().received
    }

    /// Sends what was gathered. Ready when all of it is with the kernel.
    ///
    /// # Errors
    /// What the stream says.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// How much has been sent, and how much of it has not arrived.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        let inner = self.0.borrow();
        (inner.sent, inner.stream.unacknowledged())
    }

    /// For the polite end, once the library has let go of its end.
    pub(super) fn into_stream(self) -> Option<Stream> {
        Rc::into_inner(self.0).map(|inner| inner.into_inner().stream)
    }
}

fn meter_received(meter: &mut Meter, preface: &mut usize, bytes: &[u8], now: u32) {
    let skip = bytes.len().min(*preface);
    *preface -= skip;
    meter.received(&bytes[skip..], now);
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(block) = &mut self.unsent else {
            return Poll::Ready(Ok(()));
        };
        while !block.is_empty() {
            let count = ready!(self.stream.poll_put(cx, block.filled()))?;
            block.consume(count);
            self.sent += count as u64;
        }
        self.unsent = None;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever overdoes it is told so, and not listened to meanwhile. But without a preface nobody can be told.
        let most = match (self.meter.excess(), self.unread_preface) {
            (Some(_), 0) => return Poll::Pending,
            (Some(_), preface) => preface,
            (None, _) => usize::MAX,
        };
        let block = match &mut self.unread {
            Some(block) => block,
            None => {
                // The library keeps each frame until its request has had its turn, and ends the connection when they are too
                // many.
                self.gives_way |= self.meter.take_small() > MOST_SMALL;
                if self.gives_way {
                    return Poll::Pending;
                }
                let mut block = Block::lend();
                if ready!(block.poll_fill(cx, &mut self.stream))? == 0 {
                    return Poll::Ready(Ok(()));
                }
                let now = self.wheel.now();
                meter_received(&mut self.meter, &mut self.preface, block.filled(), now);
                self.received += block.len() as u64;
                self.unread.insert(block)
            }
        };
        let count = block.len().min(buf.remaining()).min(most);
        self.unread_preface = self.unread_preface.saturating_sub(count);
        buf.put_slice(&block.filled()[..count]);
        block.consume(count);
        if block.is_empty() {
            self.unread = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let block = self.unsent.get_or_insert_with(Block::lend);
            let count = block.room().min(bytes.len());
            if count > 0 {
                let fits = block.append(&bytes[..count]);
                debug_assert!(fits, "cut to fit");
                self.meter.sent(&bytes[..count]);
                return Poll::Ready(Ok(count));
            }
            ready!(self.poll_send(cx))?;
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, buf)
    }

    /// See the module.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        inner.stream.poll_end(cx)
    }
}
