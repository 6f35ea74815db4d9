//! The half of an HTTP/2 stream that we receive on, whether a client or a backend is at its other end: what comes, and how
//! it ends.
//!
//! The library keeps what nobody has taken frame by frame, and ends the whole connection when those are too many and small.
//! So whoever has no use for more just now takes it all the same ([`Receiving::take_ahead`]), and only its bytes are kept:
//! no more of them than the window of the stream, which is opened again when they are used.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::{Error, RecvStream};
use http::HeaderMap;

/// See the module.
#[derive(Debug)]
pub struct Receiving {
    stream: RecvStream,
    /// Taken before there was a use for it.
    ahead: Vec<u8>,
    taken: Option<Rc<SmallTaken>>,
}

/// How many small frames of a connection were taken, but for the last of each stream: what is not, the library counts for
/// as long as the connection lives.
#[derive(Debug, Default)]
pub struct SmallTaken(Cell<u64>);

/// A frame of data with less costs more to keep than what it carries.
pub const SMALL_BYTES: usize = 256;

impl SmallTaken {
    pub fn read(&self) -> u64 {
        self.0.get()
    }
}

impl Receiving {
    pub fn new(stream: RecvStream) -> Receiving {
        Receiving {
            stream,
            ahead: Vec::new(),
            taken: None,
        }
    }

    /// The same, where small frames are counted.
    pub fn counted(stream: RecvStream, taken: &Rc<SmallTaken>) -> Receiving {
        Receiving {
            taken: Some(Rc::clone(taken)),
            ..Receiving::new(stream)
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let polled = self.stream.poll_data(cx);
        if let Some(SmallTaken(count)) = self.taken.as_deref()
            && let Poll::Ready(Some(Ok(bytes))) = &polled
            && (1..SMALL_BYTES).contains(&bytes.len())
            && !self.stream.is_end_stream()
        {
            count.set(count.get() + 1);
        }
        polled
    }

    /// Whether nothing more comes, trailers included.
    pub fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.stream.is_end_stream()
    }

    /// The next bytes. `None`: there are no more.
    ///
    /// # Errors
    /// When the stream was reset, or its connection is gone.
    pub fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ahead).into())));
        }
        self.poll_frame(cx)
    }

    /// What came behind the last bytes.
    ///
    /// # Errors
    /// As for [`Receiving::poll_bytes`].
    pub fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Error>> {
        self.stream.poll_trailers(cx)
    }

    /// Takes what has come, for a later [`Receiving::poll_bytes`], and is woken when more does. Whether anything had. An end
    /// or an error will be said again.
    pub fn take_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.ahead.len();
        while let Poll::Ready(Some(Ok(bytes))) = self.poll_frame(cx) {
            self.ahead.extend_from_slice(&bytes);
        }
        self.ahead.len() > before
    }

    /// Throws away what has come. Whether that was all: the other side has ended it, taken it back, or is gone.
    pub fn throw_away(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.ahead.clear();
        loop {
            match self.poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return error.is_remote() || error.is_io(),
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
    }

    /// As many bytes are used, and the other side may send as many again.
    ///
    /// # Errors
    /// As for [`Receiving::poll_bytes`].
    pub fn release(&mut self, count: usize) -> Result<(), Error> {
        self.stream.flow_control().release_capacity(count)
    }
}
