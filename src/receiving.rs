//! The half of an HTTP/2 stream that we receive on, whether a client or a backend is at its other end: what comes, and how
//! it ends.
//!
//! The library keeps what nobody has taken frame by frame, and ends the whole connection when those are too many and small.
//! So whoever has no use for more just now takes it all the same ([`Receiving::take_ahead`]), and only its bytes are kept:
//! no more of them than the window of the stream, which is opened again when they are used.

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
}

impl Receiving {
    pub fn new(stream: RecvStream) -> Receiving {
        Receiving {
            stream,
            ahead: Vec::new(),
        }
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
        self.stream.poll_data(cx)
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
        while let Poll::Ready(Some(Ok(bytes))) = self.stream.poll_data(cx) {
            self.ahead.extend_from_slice(&bytes);
        }
        self.ahead.len() > before
    }

    /// Throws away what has come. Whether that was all: the other side has ended it, taken it back, or is gone.
    pub fn throw_away(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.ahead.clear();
        loop {
            match self.stream.poll_data(&mut cx) {
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
