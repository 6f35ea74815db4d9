//! The half of an HTTP/2 stream that we send on, whether a client or a backend is at its other end: how much it takes
//! just now, and how it ends.

use std::task::{Context, Poll, ready};

use bytes::Buf;
use h2::{Error, Reason, SendStream};
use http::HeaderMap;

/// See the module. Nothing is given to it that its windows do not let through.
#[derive(Debug)]
pub struct Sending<B: Buf>(SendStream<B>);

impl<B: Buf> Sending<B> {
    pub fn new(stream: SendStream<B>) -> Sending<B> {
        Sending(stream)
    }

    /// How many bytes it takes now, at most `want`, and at least one.
    ///
    /// # Errors
    /// When it takes no more: it was reset, or its connection is gone.
    pub fn poll_credit(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, Error>> {
        self.0.reserve_capacity(want);
        loop {
            let credit = self.0.capacity();
            if credit > 0 {
                return Poll::Ready(Ok(credit.min(want)));
            }
            match ready!(self.0.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
    }

    /// Gives back what was promised and is not needed: other streams of the connection may have it.
    pub fn give_back_credit(&mut self) {
        self.0.reserve_capacity(0);
    }

    /// Sends `bytes`, for which there is credit. `last`: nothing follows.
    ///
    /// # Errors
    /// As for [`Sending::poll_credit`].
    pub fn put(&mut self, bytes: B, last: bool) -> Result<(), Error> {
        self.0.send_data(bytes, last)
    }

    /// Nothing follows but these.
    ///
    /// # Errors
    /// As for [`Sending::poll_credit`].
    pub fn put_trailers(&mut self, trailers: HeaderMap) -> Result<(), Error> {
        self.0.send_trailers(trailers)
    }

    /// Takes the stream back. Of no effect once both sides have ended it.
    pub fn reset(&mut self, code: Reason) {
        self.0.send_reset(code);
    }

    /// Ready when the other side has taken it back, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_reset(cx).map(drop)
    }
}
