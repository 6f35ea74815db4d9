//! One stream of a connection, as the client's side of an exchange.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::Reason;
use ::h2::server::SendResponse;
use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::load::{Load, Queue};
use super::response::{self, ResponseOut, put_interim};
use crate::block::Block;
use crate::http::body::{Body, Written};
use crate::http::h1::head::{Framing, HeadLimits};
use crate::http::reader::{Pace, Reader, Unsent, poll_slow};
use crate::http::side::{ClientSide, Sink, Source};
use crate::receiving::Receiving;
use crate::relay::{Ending, Outcome, Silence};
use crate::sending::Sending;
use crate::site::Wire;
use crate::stream::Stream;
use crate::wheel::Timer;

/// See the module.
#[derive(Debug)]
pub(super) struct ClientStream {
    pub(super) wire: Wire,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) head_limits: HeadLimits,
    /// It asks for a tunnel; success is for that alone.
    pub(super) is_tunnel: bool,
}

/// What the client sends.
#[derive(Debug)]
pub(super) struct Incoming {
    recv: Receiving,
    /// Come and not yet read.
    left: Bytes,
    has_ended: bool,
    trailers: Option<HeaderMap>,
    /// How many of them there may be. More are none at all, and what they end is no request.
    most_trailers: usize,
    has_too_many: bool,
}

/// What it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    respond: SendResponse<Load>,
    /// Once the head has left.
    send: Option<Sending<Load>>,
    queue: Rc<Queue>,
}

/// The body of a response of our own, on its way.
struct AnswerBody<'b> {
    bytes: AnswerBytes<'b>,
    sent: usize,
}

enum AnswerBytes<'b> {
    Written(&'b [u8]),
    Behind(Arc<[u8]>),
}

impl AnswerBytes<'_> {
    fn len(&self) -> usize {
        match self {
            AnswerBytes::Written(bytes) => bytes.len(),
            AnswerBytes::Behind(bytes) => bytes.len(),
        }
    }
}

impl Incoming {
    pub(super) fn new(recv: Receiving, most_trailers: usize) -> Incoming {
        Incoming {
            recv,
            left: Bytes::new(),
            has_ended: false,
            trailers: None,
            most_trailers,
            has_too_many: false,
        }
    }

    /// Nobody reads on.
    pub(super) fn throw_away(&mut self) {
        self.recv.throw_away();
    }

    /// Waits for the next bytes, or the end with its trailers.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() && !self.has_ended {
            if self.has_too_many {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            match ready!(self.recv.poll_bytes(cx)) {
                Some(bytes) => self.left = bytes.map_err(broken)?,
                None => {
                    self.trailers = ready!(self.recv.poll_trailers(cx)).map_err(broken)?;
                    let count = self.trailers.as_ref().map_or(0, HeaderMap::len);
                    self.has_too_many = count > self.most_trailers;
                    self.has_ended = !self.has_too_many;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Source for Incoming {
    const TELLS_END: bool = true;

    fn is_over(&self) -> bool {
        self.left.is_empty() && self.recv.is_over() && !self.has_too_many
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if block.is_empty() {
            block.clear();
        }
        let mut count = 0;
        // The frames that have come are one write to the other side.
        while count < most && block.has_room() {
            match self.poll_next(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending if count == 0 => return Poll::Pending,
                Poll::Ready(Err(error)) if count == 0 => return Poll::Ready(Err(error)),
                // It will be said again.
                Poll::Pending | Poll::Ready(Err(_)) => break,
            }
            let part = self.left.len().min(most - count).min(block.read_room());
            if part == 0 {
                break;
            }
            let fits = block.append(&self.left[..part]);
            debug_assert!(fits, "cut to fit");
            self.left.advance(part);
            count += part;
            // The client may send as much again: what is here is all that is held.
            self.recv.release(part).map_err(broken)?;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_next(cx).map(drop)
    }

    fn take_ahead(&mut self, cx: &mut Context<'_>) {
        self.recv.take_ahead(cx);
    }

    fn plain(&self) -> Option<&Stream> {
        None
    }

    fn trailers(&mut self, mut each: impl FnMut(&[u8], &[u8])) {
        for (name, value) in self.trailers.take().iter().flatten() {
            each(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

impl Outgoing {
    pub(super) fn new(respond: SendResponse<Load>, queue: &Rc<Queue>) -> Outgoing {
        Outgoing {
            respond,
            send: None,
            queue: Rc::clone(queue),
        }
    }

    /// Takes the stream back.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Ready when the client has taken the stream back, or is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }

    fn begin(&mut self, head: http::Response<()>, is_all: bool) -> io::Result<()> {
        let send = self.respond.send_response(head, is_all).map_err(broken)?;
        self.send = Some(Sending::new(send));
        Ok(())
    }

    fn send(&mut self) -> io::Result<&mut Sending<Load>> {
        self.send
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Sends a whole response of our own, written as for HTTP/1, to a client that takes it. What it sends meanwhile
    /// (`incoming`) is not left lying. A large body is not in
    /// `answer` but in `behind`, and only as much of it is on its way as the client's windows let through.
    ///
    /// # Errors
    /// See [`Unsent`].
    pub(super) async fn put_answer(
        &mut self,
        answer: &[u8],
        behind: Option<Arc<[u8]>>,
        incoming: &mut Incoming,
        pace: Pace,
        timer: &Timer,
    ) -> Result<(), Unsent> {
        let body = self.begin_answer(answer, behind);
        let mut body = body.map_err(|_| Unsent::Gone)?;
        let mut reader = Reader::new(pace);
        poll_fn(|cx| match self.poll_answer(cx, &mut body) {
            Poll::Ready(put) => Poll::Ready(put.map_err(|_| Unsent::Gone)),
            Poll::Pending => {
                incoming.take_ahead(cx);
                poll_slow(cx, &mut reader, || None, body.sent as u64, timer)
            }
        })
        .await
    }

    /// Sends its head. What remains is the body.
    fn begin_answer<'b>(
        &mut self,
        answer: &'b [u8],
        behind: Option<Arc<[u8]>>,
    ) -> io::Result<AnswerBody<'b>> {
        let answer = response::read_answer(answer);
        let (head, body) = answer.ok_or(io::ErrorKind::InvalidData)?;
        let bytes = match behind {
            None => AnswerBytes::Written(body),
            Some(body) => AnswerBytes::Behind(body),
        };
        self.begin(head, bytes.len() == 0)?;
        Ok(AnswerBody { bytes, sent: 0 })
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut AnswerBody<'_>,
    ) -> Poll<io::Result<()>> {
        let whole = body.bytes.len();
        while body.sent < whole {
            let credit = ready!(self.poll_credit(cx, whole - body.sent))?;
            let part = body.sent..body.sent + credit;
            let load = match &body.bytes {
                AnswerBytes::Written(bytes) => Load::copy(&bytes[part], &self.queue),
                AnswerBytes::Behind(bytes) => Load::share(bytes, part, &self.queue),
            };
            body.sent += credit;
            let is_last = body.sent == whole;
            self.send()?.put(load, is_last).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink for Outgoing {
    const FRAMES: bool = true;

    fn poll_credit(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        if self.queue.poll_room(cx).is_pending() {
            // A reset is noticed all the same.
            return match self.poll_reset(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        self.send()?.poll_credit(cx, want).map_err(broken)
    }

    fn give_back_credit(&mut self) {
        if let Some(send) = &mut self.send {
            send.give_back_credit();
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut Block,
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.poll_credit(cx, block.len()))?;
        let is_all = count == block.len();
        let load = if is_all {
            Load::all_of(block, &self.queue)
        } else {
            Load::front_of(block, count, &self.queue)
        };
        self.send()?.put(load, last && is_all).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        let nothing = Load::nothing(&self.queue);
        let send = self.send()?;
        if trailers.is_empty() {
            return send.put(nothing, true).map_err(broken);
        }
        match response::trailers(trailers) {
            Some(fields) => send.put_trailers(fields).map_err(broken),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn plain(&self) -> Option<&Stream> {
        None
    }
}

impl ClientSide for ClientStream {
    type Source = Incoming;
    type Sink = Outgoing;
    type Head = ResponseOut;

    fn source(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    fn sink(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    fn wire(&self) -> Wire {
        self.wire
    }

    fn alpn(&self) -> Option<&[u8]> {
        (self.wire == Wire::Tls).then_some(b"h2")
    }

    fn untaken(&self) -> Option<u64> {
        // What is taken from us is what the client's windows let through; the connection looks at the rest.
        None
    }

    fn request_is_over(&mut self, _: &mut Body) {}

    fn behind(&mut self) -> Option<Block> {
        None
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.outgoing.poll_reset(cx)
    }

    fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.outgoing.poll_reset(cx)
    }

    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        self.outgoing.poll_reset(cx).is_ready()
    }

    fn insist_on_http1(&mut self) -> bool {
        self.outgoing.reset(Reason::HTTP_1_1_REQUIRED);
        true
    }

    async fn put_interim(&mut self, head: ResponseOut) -> io::Result<()> {
        put_interim(&mut self.outgoing.respond, head)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn begin_response(
        &mut self,
        head: ResponseOut,
        body: &mut Body,
        _: Pace,
        _: &Timer,
    ) -> Result<(), Unsent> {
        // a plain answer opens no tunnel, and any success would say that one is open (RFC 8441 5).
        if self.is_tunnel && (200..300).contains(&head.status()) {
            return Err(Unsent::Gone);
        }
        let head = head.into_response().ok_or(Unsent::Gone)?;
        let begun = self.outgoing.begin(head, body.tell_end());
        begun.map_err(|_| Unsent::Gone)
    }

    async fn put_answer(&mut self, answer: &[u8]) -> io::Result<()> {
        let mut body = self.outgoing.begin_answer(answer, None)?;
        poll_fn(|cx| {
            let polled = self.outgoing.poll_answer(cx, &mut body);
            if polled.is_pending() {
                self.incoming.take_ahead(cx);
            }
            polled
        })
        .await
    }

    async fn tunnel(
        &mut self,
        head: ResponseOut,
        upstream: &mut Stream,
        early: Option<Block>,
        silence: Silence,
        timer: &Timer,
    ) -> Result<Outcome, Unsent> {
        // Boxed, so that other requests are no larger for it.
        Box::pin(self.relay(head, upstream, early, silence, timer)).await
    }
}

impl ClientStream {
    async fn relay(
        &mut self,
        head: ResponseOut,
        upstream: &mut Stream,
        early: Option<Block>,
        silence: Silence,
        timer: &Timer,
    ) -> Result<Outcome, Unsent> {
        let head = head.agree().into_response().ok_or(Unsent::Gone)?;
        self.outgoing.begin(head, false).map_err(|_| Unsent::Gone)?;
        let endless = |written| Body::new(Framing::Close, written, None, self.head_limits, 0);
        let mut up = endless(Written::Plainly);
        let mut down = endless(Written::InFrames);
        if let Some(early) = early {
            down.take(early).map_err(|_| Unsent::Gone)?;
        }
        silence.set(timer, false);
        let mut has_one_ended = false;
        let mut is_told = false;
        let ending = poll_fn(|cx| {
            let before = up.moved + down.moved;
            if !up.is_done() {
                match up.poll(cx, &mut self.incoming, upstream) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Ending::Broken),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if up.is_done() && !is_told {
                // Gone already: then it has no need to be told.
                is_told = upstream.poll_end(cx).is_ready();
            }
            if !down.is_done() {
                match down.poll(cx, upstream, &mut self.outgoing) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Ending::Broken),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if up.is_done() && is_told && down.is_done() {
                return Poll::Ready(Ending::Finished);
            }
            if self.outgoing.poll_reset(cx).is_ready() {
                return Poll::Ready(Ending::Broken);
            }
            let ended = up.is_done() || down.is_done();
            if up.moved + down.moved != before || ended != has_one_ended {
                has_one_ended = ended;
                silence.set(timer, ended);
            }
            timer.poll_fired(cx).map(|()| Ending::by(timer))
        })
        .await;
        Ok(Outcome {
            ending,
            from_client: up.moved,
            from_upstream: down.moved,
        })
    }
}

fn broken(error: ::h2::Error) -> io::Error {
    io::Error::other(error)
}
