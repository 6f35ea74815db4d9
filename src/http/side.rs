//! The two sides of an exchange, as much of them as what lies between them needs to know.
//!
//! All of it is chosen when the program is built: between two streams of HTTP/1 the pump is what it would be if there
//! were nothing else.

use std::io;
use std::task::{Context, Poll, ready};

use super::body::Body;
use super::forward::HeadOut;
use super::reader::{Pace, Unsent};
use crate::block::Block;
use crate::relay::{Outcome, Silence};
use crate::site::Wire;
use crate::stream::Stream;
use crate::wheel::Timer;

/// What a body is read from.
pub(super) trait Source {
    /// Whether its last bytes come together with the word that they are the last.
    const TELLS_END: bool;

    /// Whether they have, and there were no trailers.
    fn is_over(&self) -> bool;

    /// Reads once into the free room of `block`, at most `most` bytes; 0 is the end.
    ///
    /// # Errors
    /// When it breaks off.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        most: usize,
    ) -> Poll<io::Result<usize>>;

    /// Whether a read would find something.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Nobody has a use for more just now: what has come is taken from where too much of it would end what others share.
    fn take_ahead(&mut self, cx: &mut Context<'_>);

    /// The stream itself, where its bytes are those of the body and the kernel may move them.
    fn plain(&self) -> Option<&Stream>;

    /// The trailer fields that came with the end, where they are not part of the bytes.
    fn trailers(&mut self, each: impl FnMut(&[u8], &[u8]));
}

/// What a body is written to.
pub(super) trait Sink {
    /// Whether it frames bodies by itself, and says how much it takes before it is given anything.
    const FRAMES: bool;

    /// How many bytes it would take now, at most `want`.
    ///
    /// # Errors
    /// When it takes no more.
    fn poll_credit(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>>;

    /// Gives back what was promised and is not needed.
    fn give_back_credit(&mut self);

    /// Takes what it can from the front of `block`. `last`: nothing follows.
    ///
    /// # Errors
    /// When it takes no more.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        last: bool,
    ) -> Poll<io::Result<usize>>;

    /// The body has ended, with these trailer fields.
    ///
    /// # Errors
    /// When it takes no more.
    fn end(&mut self, trailers: &[u8]) -> io::Result<()>;

    /// As for a [`Source`].
    fn plain(&self) -> Option<&Stream>;
}

/// The client's side of one exchange: a connection of HTTP/1 while it is busy with a request, or a stream of HTTP/2.
pub(super) trait ClientSide {
    type Source: Source;
    type Sink: Sink;
    /// A response head as this client gets it.
    type Head: HeadOut + Default;

    fn source(&mut self) -> &mut Self::Source;
    fn sink(&mut self) -> &mut Self::Sink;

    fn wire(&self) -> Wire;
    fn alpn(&self) -> Option<&[u8]>;

    /// How many bytes it has been sent that have not arrived. `None`: nobody knows.
    fn untaken(&self) -> Option<u64>;

    /// The request has come to its end; what came behind it is the client's next.
    fn request_is_over(&mut self, upload: &mut Body);

    /// What came behind the request, to go on with.
    fn behind(&mut self) -> Option<Block>;

    /// Ready when it leaves although a response is owed to it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether it has left, as far as that can be known without reading what it sends. Nobody is woken for it.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool;

    /// Ready when it has taken its request back before that was at its end, where there is a word for that.
    fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Asks a client whose connection cannot be authenticated as one to come by HTTP/1.1. Whether it was asked.
    fn insist_on_http1(&mut self) -> bool;

    /// Passes on a response before the final one.
    ///
    /// # Errors
    /// When it takes no more.
    async fn put_interim(&mut self, head: Self::Head) -> io::Result<()>;

    /// Begins the response; where that saves a write, `body` takes the head along.
    ///
    /// # Errors
    /// See [`Unsent`].
    async fn begin_response(
        &mut self,
        head: Self::Head,
        body: &mut Body,
        pace: Pace,
        timer: &Timer,
    ) -> Result<(), Unsent>;

    /// Sends a whole response of our own, written as for HTTP/1.
    ///
    /// # Errors
    /// When it takes no more.
    async fn put_answer(&mut self, answer: &[u8]) -> io::Result<()>;

    /// Says that the switch was agreed on, and then relays until both sides are done.
    ///
    /// # Errors
    /// When the client is not there to hear it, for as long as `silence` lets one side alone be silent.
    async fn tunnel(
        &mut self,
        head: Self::Head,
        upstream: &mut Stream,
        early: Option<Block>,
        silence: Silence,
        timer: &Timer,
    ) -> Result<Outcome, Unsent>;
}

impl Source for Stream {
    const TELLS_END: bool = false;

    fn is_over(&self) -> bool {
        false
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        block.poll_fill_at_most(cx, self, most)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Line(line) => line.poll_readable(cx),
            stream => Stream::poll_readable(stream, cx),
        }
    }

    fn take_ahead(&mut self, cx: &mut Context<'_>) {
        Stream::take_ahead(self, cx);
    }

    fn plain(&self) -> Option<&Stream> {
        self.is_plain().then_some(self)
    }

    fn trailers(&mut self, _: impl FnMut(&[u8], &[u8])) {}
}

impl Sink for Stream {
    const FRAMES: bool = false;

    fn poll_credit(&mut self, _: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(want))
    }

    fn give_back_credit(&mut self) {}

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        _: bool,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.poll_put(cx, block.filled()))?;
        block.consume(count);
        Poll::Ready(Ok(count))
    }

    fn end(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn plain(&self) -> Option<&Stream> {
        self.is_plain().then_some(self)
    }
}
