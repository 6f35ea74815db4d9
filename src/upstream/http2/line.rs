//! One stream of a connection, as a line that speaks HTTP/1.1.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::bytes::Bytes;
use ::h2::Reason;
use ::h2::client::{ResponseFuture, SendRequest};
use ::http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Connection;
use super::talk::{self, Piece, Pieces};
use super::wrong::{self, broken};
use crate::receiving::Receiving;
use crate::sending::Sending;

/// What one write takes at most.
const WRITE_BYTES: usize = 64 << 10;

/// See the module. What is written to it is one request, written by us; what is read from it is its response.
#[derive(Debug)]
pub struct Line {
    connection: Rc<Connection>,
    /// The one that its connection was opened for.
    is_first: bool,
    requests: SendRequest<Bytes>,
    up: Up,
    down: Down,
    /// How often its connection had heard something when it was asked.
    heard: u32,
    /// Text of the response that was not read yet.
    text: Vec<u8>,
    at: usize,
    is_head: bool,
    /// A WebSocket was asked for; its client's handshake is answered with this.
    websocket: Option<Option<HeaderValue>>,
}

/// How far the request is.
#[derive(Debug)]
enum Up {
    Head(Vec<u8>),
    Length(Sending<Bytes>, u64),
    Chunked(Sending<Bytes>, Pieces),
    /// Whatever is said in a WebSocket, until it ends.
    WebSocket(Sending<Bytes>),
    Sent,
}

/// How far the response is.
#[derive(Debug)]
enum Down {
    NotAsked,
    /// It could not be asked; whoever reads is told why.
    Failed(Option<io::Error>),
    Awaited(ResponseFuture),
    /// So many bytes of it are still to come.
    Length(Receiving, u64),
    Chunked(Receiving),
    WebSocket(Receiving),
    /// Nothing but its end is to come.
    Bodiless(Receiving),
    Ended,
}

impl Line {
    pub(super) fn on(connection: &Rc<Connection>) -> Line {
        connection.is_taken();
        drop(connection.place.take());
        Line {
            requests: connection.requests.clone(),
            connection: Rc::clone(connection),
            is_first: false,
            up: Up::Head(Vec::new()),
            down: Down::NotAsked,
            heard: 0,
            text: Vec::new(),
            at: 0,
            is_head: false,
            websocket: None,
        }
    }

    /// The one that `connection` was opened for.
    pub(super) fn first_on(connection: &Rc<Connection>) -> Line {
        let mut line = Line::on(connection);
        line.is_first = true;
        line
    }

    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether a read would find something.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_text(cx).map(drop)
    }

    /// The response has not come in its time. Where nothing else has come on the connection either, it may be gone without
    /// a word: nobody asks for anything on it any more. What is open on it may still end.
    pub fn give_up(&self) {
        if matches!(self.down, Down::Awaited(_)) && self.heard == self.connection.heard.get() {
            self.connection.is_over.set(true);
        }
    }

    /// Nobody reads just now, and others share the connection.
    pub fn take_ahead(&mut self, cx: &mut Context<'_>) {
        if let Down::Length(recv, _) | Down::Chunked(recv) | Down::WebSocket(recv) = &mut self.down
            && recv.take_ahead(cx)
        {
            self.connection.hears();
        }
    }

    /// Waits until there is text to read, or the end.
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_more(cx);
        if matches!(polled, Poll::Ready(Err(_))) {
            self.down = Down::Failed(None);
        }
        polled
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
            match &mut self.down {
                // Whoever reads now writes first, and comes again.
                Down::NotAsked => return Poll::Pending,
                Down::Failed(error) => {
                    let error = error.take();
                    let error = error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
                    return Poll::Ready(Err(error));
                }
                Down::Awaited(response) => {
                    if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                        self.connection.hears();
                        talk::write_interim(&mut self.text, &interim.map_err(broken)?);
                        continue;
                    }
                    let response = ready!(Pin::new(response).poll(cx)).map_err(broken)?;
                    self.connection.hears();
                    let (head, recv) = response.into_parts();
                    let recv = Receiving::new(recv);
                    let is_over = recv.is_over();
                    if let Some(accept) = &self.websocket
                        && head.status.is_success()
                    {
                        talk::write_switch(&mut self.text, &head, accept.as_ref());
                        self.down = Down::WebSocket(recv);
                        continue;
                    }
                    self.down = match talk::write_head(&mut self.text, &head, is_over, self.is_head)
                    {
                        talk::Body::None if is_over => Down::Ended,
                        talk::Body::None => Down::Bodiless(recv),
                        talk::Body::Length(length) => Down::Length(recv, length),
                        talk::Body::Chunked => Down::Chunked(recv),
                    };
                }
                Down::Length(recv, _) | Down::WebSocket(recv) => {
                    match ready!(recv.poll_bytes(cx)) {
                        Some(bytes) => {
                            let bytes = bytes.map_err(broken)?;
                            self.connection.hears();
                            recv.release(bytes.len()).map_err(broken)?;
                            self.text.extend_from_slice(&bytes);
                            if let Down::Length(_, left) = &mut self.down {
                                *left = left.saturating_sub(bytes.len() as u64);
                            }
                        }
                        None => self.down = Down::Ended,
                    }
                }
                Down::Chunked(recv) => match ready!(recv.poll_bytes(cx)) {
                    Some(bytes) => {
                        let bytes = bytes.map_err(broken)?;
                        self.connection.hears();
                        recv.release(bytes.len()).map_err(broken)?;
                        talk::write_chunk(&mut self.text, &bytes);
                    }
                    None => {
                        let trailers = ready!(recv.poll_trailers(cx)).map_err(broken)?;
                        talk::write_end(&mut self.text, trailers.as_ref());
                        self.down = Down::Ended;
                    }
                },
                Down::Bodiless(_) | Down::Ended => return Poll::Ready(Ok(())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the request whose head is `text`. What is wrong is what whoever reads next is told.
    fn ask(&mut self, text: &[u8]) -> io::Result<Up> {
        let (request, body) = match talk::read_head(text, self.connection.scheme) {
            Ok(read) => read,
            Err(error) => {
                self.down = Down::Failed(Some(error));
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        };
        self.is_head = request.method() == ::http::Method::HEAD;
        let is_all = matches!(body, talk::Upload::None | talk::Upload::Length(0));
        if let talk::Upload::WebSocket(accept) = &body {
            // Said in its first SETTINGS, which have come.
            if !self.requests.is_extended_connect_protocol_enabled() {
                self.down = Down::Failed(Some(wrong::no_websockets()));
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.websocket = Some(accept.clone());
        }
        let (response, send) = match self.requests.send_request(request, is_all) {
            Ok(sent) => sent,
            Err(error) => {
                self.down = Down::Failed(Some(broken(error)));
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        };
        self.down = Down::Awaited(response);
        self.heard = self.connection.heard.get();
        self.connection.was_asked.set(true);
        let send = Sending::new(send);
        Ok(match body {
            _ if is_all => Up::Sent,
            talk::Upload::Length(left) => Up::Length(send, left),
            talk::Upload::WebSocket(_) => Up::WebSocket(send),
            talk::Upload::None | talk::Upload::Chunked => Up::Chunked(send, Pieces::default()),
        })
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.up {
            Up::Head(text) => {
                if let Err(error) = ready!(self.requests.poll_ready(cx)) {
                    self.down = Down::Failed(Some(broken(error)));
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                let before = text.len();
                text.extend_from_slice(bytes);
                let from = before.saturating_sub(3);
                let Some(end) = memchr::memmem::find(&text[from..], b"\r\n\r\n") else {
                    return Poll::Ready(Ok(bytes.len()));
                };
                let end = from + end + 4;
                let head = std::mem::take(text);
                self.up = self.ask(&head[..end])?;
                Poll::Ready(Ok(end - before))
            }
            Up::Length(send, left) => {
                let most = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                if most == 0 {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                }
                let count = ready!(send.poll_credit(cx, most.min(WRITE_BYTES))).map_err(broken)?;
                *left -= count as u64;
                let data = Bytes::copy_from_slice(&bytes[..count]);
                send.put(data, *left == 0).map_err(broken)?;
                if *left == 0 {
                    self.up = Up::Sent;
                }
                Poll::Ready(Ok(count))
            }
            Up::Chunked(send, pieces) => {
                let mut taken = 0;
                loop {
                    let Some((piece, count)) = pieces.next(&bytes[taken..])? else {
                        // Only framing was left.
                        return Poll::Ready(Ok(bytes.len()));
                    };
                    match piece {
                        Piece::Payload(most) => {
                            let credit = match send.poll_credit(cx, most.min(WRITE_BYTES)) {
                                Poll::Ready(credit) => credit.map_err(broken)?,
                                // What was framing before it is taken.
                                Poll::Pending if taken + count > 0 => {
                                    return Poll::Ready(Ok(taken + count));
                                }
                                Poll::Pending => return Poll::Pending,
                            };
                            let start = taken + count;
                            let data = Bytes::copy_from_slice(&bytes[start..start + credit]);
                            send.put(data, false).map_err(broken)?;
                            pieces.took(credit);
                            taken = start + credit;
                        }
                        Piece::End(trailers) => {
                            match trailers {
                                None => send.put(Bytes::new(), true).map_err(broken)?,
                                Some(fields) => send.put_trailers(fields).map_err(broken)?,
                            }
                            self.up = Up::Sent;
                            return Poll::Ready(Ok(taken + count));
                        }
                    }
                }
            }
            Up::WebSocket(send) => {
                let most = bytes.len().min(WRITE_BYTES);
                let count = ready!(send.poll_credit(cx, most)).map_err(broken)?;
                let data = Bytes::copy_from_slice(&bytes[..count]);
                send.put(data, false).map_err(broken)?;
                Poll::Ready(Ok(count))
            }
            Up::Sent => Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
        }
    }

    /// Whether the backend has more to say, or may have.
    fn is_awaited(&self) -> bool {
        match &self.down {
            Down::Awaited(_) => true,
            // Its end alone is no more.
            Down::Length(recv, left) => *left > 0 && !recv.is_over(),
            Down::Chunked(recv) | Down::WebSocket(recv) => !recv.is_over(),
            Down::NotAsked | Down::Failed(_) | Down::Bodiless(_) | Down::Ended => false,
        }
    }

    /// Says that nothing more comes, where that is not known from what was said before.
    fn end(&mut self) -> io::Result<()> {
        if let Up::WebSocket(send) = &mut self.up {
            send.put(Bytes::new(), true).map_err(broken)?;
            self.up = Up::Sent;
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_awaited() {
            self.connection.is_taken_back();
        }
        if matches!(self.up, Up::Sent)
            && let Down::Length(recv, 0) | Down::Bodiless(recv) =
                std::mem::replace(&mut self.down, Down::Ended)
        {
            self.connection.endings.wait_for(recv);
        }
        self.connection.is_left();
        // Whoever needs nothing more says so at once, and not only by letting go.
        match &mut self.up {
            // Both sides have had their last word; ours was only not passed on.
            Up::WebSocket(_) if matches!(self.down, Down::Ended) => drop(self.end()),
            Up::Length(send, _) | Up::Chunked(send, _) | Up::WebSocket(send) => {
                send.reset(Reason::CANCEL);
            }
            Up::Head(_) | Up::Sent => {}
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        ready!(line.poll_text(cx))?;
        let text = &line.text[line.at..];
        let count = text.len().min(buf.remaining());
        buf.put_slice(&text[..count]);
        line.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end())
    }
}
