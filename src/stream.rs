//! A connected byte stream of any kind a client or a backend may use.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use rustix::net::{SendFlags, send};
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

use crate::limits;
use crate::site::Wire;
use crate::tls::TlsStream;
use crate::upstream::Line;

/// Questions of the kernel to the other side of a silent connection.
pub const PROBES: TcpKeepalive = TcpKeepalive::new()
    .with_time(limits::PROBE_AFTER)
    .with_interval(limits::PROBE_AGAIN)
    .with_retries(limits::PROBES);

/// One enum instead of a type parameter: everything above is compiled once, and the branch costs nothing
/// beside a system call.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
    /// One of the streams on a connection of HTTP/2 with a backend.
    Line(Box<Line>),
}

impl Stream {
    /// Whether there is nothing to read: no bytes, no end, no error. No system call. Asks outside of what tokio lets
    /// a task do in one turn: when that is used up, everything would look quiet.
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let readable = coop::unconstrained(poll_fn(|cx| self.poll_readable(cx)));
        pin!(readable).poll(&mut cx).is_pending()
    }

    /// Whether its bytes are those on the wire, so that the kernel can move them by itself.
    pub fn is_plain(&self) -> bool {
        matches!(self, Stream::Tcp(_) | Stream::Unix(_))
    }

    pub fn wire(&self) -> Wire {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Line(_) => Wire::ClearText,
            Stream::Tls(_) => Wire::Tls,
        }
    }

    /// The protocol that was agreed on inside of TLS.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Line(_) => None,
            Stream::Tls(stream) => stream.alpn(),
        }
    }

    /// Whether a read would find something: bytes, the end, or an error. No system call. With TLS what is there may
    /// turn out to be less than a record.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Stream::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            Stream::Tls(stream) => stream.poll_readable(cx),
            // It says nothing that nobody asked for; whether it has an answer, only a read can tell.
            Stream::Line(_) => Poll::Pending,
        }
    }

    /// Nobody has a use for more just now. The kernel keeps what comes meanwhile; of a line its connection would, which is
    /// not its own.
    pub fn take_ahead(&mut self, cx: &mut Context<'_>) {
        if let Stream::Line(line) = self {
            line.take_ahead(cx);
        }
    }

    /// Whether the other side is known to have said that nothing more comes; what it sent before may still be unread.
    /// No system call.
    pub fn has_ended(&self) -> bool {
        let Stream::Tcp(stream) = self else {
            return false;
        };
        // There is nearly always room to write, so it answers at once.
        let ready = stream.ready(Interest::READABLE | Interest::WRITABLE);
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(ready).poll(&mut cx) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// Whether the other side is known to send no more, or to be gone, whatever it sent before and is still unread. For
    /// whoever must not read yet; asked from time to time, because nobody is woken for it. No system call.
    pub fn has_hung_up(&self) -> bool {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut cx = Context::from_waker(Waker::noop());
        // As in `has_ended`.
        let ready = match self {
            Stream::Tcp(stream) => pin!(stream.ready(interest)).poll(&mut cx),
            Stream::Unix(stream) => pin!(stream.ready(interest)).poll(&mut cx),
            Stream::Tls(stream) => pin!(stream.tcp().ready(interest)).poll(&mut cx),
            Stream::Line(_) => return false,
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether a write would find room. No system call.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx).map(drop),
            Stream::Unix(stream) => stream.poll_write_ready(cx).map(drop),
            Stream::Tls(stream) => stream.tcp().poll_write_ready(cx).map(drop),
            Stream::Line(_) => Poll::Ready(()),
        }
    }

    /// Reads with a system call of the caller's own, from a plain stream.
    ///
    /// # Errors
    /// What `read` says; after "would block" [`Stream::poll_readable`] waits.
    pub fn try_read_with(
        &self,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, || read(stream.as_fd())),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, || read(stream.as_fd())),
            Stream::Tls(_) | Stream::Line(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes with a system call of the caller's own, to a plain stream.
    ///
    /// # Errors
    /// What `write` says; after "would block" [`Stream::poll_writable`] waits.
    pub fn try_write_with(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_io(Interest::WRITABLE, || write(stream.as_fd())),
            Stream::Unix(stream) => stream.try_io(Interest::WRITABLE, || write(stream.as_fd())),
            Stream::Tls(_) | Stream::Line(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn put_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < bytes.len() {
                sent += ready!(self.poll_put(cx, &bytes[sent..]))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Writes what the kernel takes at once. Whoever is told to wait comes again with the same bytes.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// As [`Stream::poll_put`], for bytes that are followed by the end at once: one segment carries both.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_put_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Stream::Tcp(_) = self else {
            return self.poll_put(cx, bytes);
        };
        loop {
            ready!(self.poll_writable(cx));
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            match self.try_write_with(|socket| Ok(send(socket, bytes, flags)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Tells the other side that nothing more comes.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    /// Says what is to be said at the end, as far as there is room for it now. `false`: there is none, and dropped now the
    /// end would look like a cut; [`Stream::poll_end`] waits for room.
    pub fn say_goodbye(&mut self) -> bool {
        match self {
            Stream::Tls(stream) => stream.say_goodbye(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Line(_) => true,
        }
    }

    /// Whether the end that a read has found may be a cut: with TLS, one without a goodbye.
    pub fn may_be_cut(&self) -> bool {
        match self {
            Stream::Tls(stream) => !stream.peer_has_ended(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Line(_) => false,
        }
    }

    /// The end that is told from now on is one without a goodbye, where there is one.
    pub fn forgo_goodbye(&self) {
        if let Stream::Tls(stream) = self {
            stream.abort();
        }
    }

    /// How many bytes we have written that the other side has not acknowledged. `None`: nobody knows.
    pub fn unacknowledged(&self) -> Option<u64> {
        match self {
            Stream::Tcp(stream) => send_queue(stream.as_fd()),
            Stream::Unix(stream) => send_queue(stream.as_fd()),
            Stream::Tls(stream) => send_queue(stream.tcp().as_fd()),
            Stream::Line(_) => None,
        }
    }

    /// Has the kernel ask the other side now and then whether it is still there.
    pub fn probe(&self) {
        let stream = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.tcp(),
            // Of this machine; and a line's connection asks by pings of its own.
            Stream::Unix(_) | Stream::Line(_) => return,
        };
        // When it fails the connection is gone, and whoever reads will hear of it.
        drop(socket2::SockRef::from(stream).set_tcp_keepalive(&PROBES));
    }

    /// When this is dropped, the other side notices that something is missing: a reset instead of an end.
    pub fn abort(&self) {
        let stream = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.abort(),
            // A line that is dropped before its end is a reset.
            Stream::Unix(_) | Stream::Line(_) => return,
        };
        // When it fails the connection is gone, which is what was wanted.
        drop(socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
    }
}

/// SIOCOUTQ of tcp(7) and unix(7): bytes in the send queue, sent or not, that have not been acknowledged.
#[expect(
    unsafe_code,
    reason = "no crate at hand wraps this request; it writes one int, which is what is given to it"
)]
fn send_queue(socket: BorrowedFd<'_>) -> Option<u64> {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: for a socket this request stores an `int` at the address it is given and nothing else (tcp(7)); for
    // any other descriptor it is an error and stores nothing.
    let bytes = unsafe {
        let ask = rustix::ioctl::Getter::<SIOCOUTQ, std::ffi::c_int>::new();
        rustix::ioctl::ioctl(socket, ask)
    };
    u64::try_from(bytes.ok()?).ok()
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Stream::Line(line) => Pin::new(&mut **line).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Stream::Line(line) => Pin::new(&mut **line).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Stream::Line(line) => Pin::new(&mut **line).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Stream::Line(line) => Pin::new(&mut **line).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_the_other_side_has_not_taken_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = std::net::TcpStream::connect(listener.local_addr().expect("its address"))
            .expect("a connection");
        let (mut other, _) = listener.accept().expect("a connection");
        assert_eq!(send_queue(client.as_fd()), Some(0));
        client.set_nonblocking(true).expect("not blocking");
        let mut written = 0;
        while let Ok(count) = client.write(&[0; 64 << 10]) {
            written += count as u64;
        }
        let left = send_queue(client.as_fd()).expect("a number");
        assert!(left > 0 && left < written, "{left} of {written}");
        let mut taken = vec![0; written as usize];
        other.read_exact(&mut taken).expect("all of it");
        // The last acknowledgement may be on its way.
        while send_queue(client.as_fd()) != Some(0) {
            std::thread::yield_now();
        }
    }
}
