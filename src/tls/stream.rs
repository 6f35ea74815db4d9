//! A connection that speaks TLS, with a client or with a backend, as a stream of clear text.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream as Inner;

/// See the module.
#[derive(Debug)]
pub struct TlsStream {
    inner: Inner<TcpStream>,
    /// Bytes that are encrypted and not all with the kernel yet. They count as written when they are, so that
    /// whoever has written everything has nothing left to flush.
    owed: usize,
    is_aborted: std::cell::Cell<bool>,
}

impl TlsStream {
    pub(super) fn new(inner: Inner<TcpStream>) -> TlsStream {
        TlsStream {
            inner,
            owed: 0,
            is_aborted: std::cell::Cell::new(false),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        self.inner.get_ref().0
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.session().alpn_protocol()
    }

    pub(super) fn session(&self) -> &CommonState {
        self.inner.get_ref().1
    }

    /// Whether a read may find something. No system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // With clear text at hand, or after the end, the library wants nothing from the wire.
        if !self.session().wants_read() {
            return Poll::Ready(());
        }
        self.tcp().poll_read_ready(cx).map(drop)
    }

    /// The other side shall notice that something is missing: no close_notify when this is dropped.
    pub fn abort(&self) -> &TcpStream {
        self.is_aborted.set(true);
        self.tcp()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match (
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf)),
            &this.inner,
        ) {
            // No close_notify from a client: its requests end by length or by chunks and are whole all the same. What
            // a backend sends may end by the close alone, and then it is cut: the error stays one (CASES T-54).
            (Err(error), Inner::Server(_)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            (read, _) => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.owed == 0 {
            this.owed = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        }
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut this.owed).min(buf.len())))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Says goodbye, as far as the kernel takes it at once: without a close_notify the other side could not tell the end
/// from a cut (RFC 8446 6.1).
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.is_aborted.get() {
            return;
        }
        self.inner.get_mut().1.send_close_notify();
        let mut out = Vec::new();
        while self.session().wants_write() {
            let written = match &mut self.inner {
                Inner::Client(inner) => inner.get_mut().1.write_tls(&mut out),
                Inner::Server(inner) => inner.get_mut().1.write_tls(&mut out),
            };
            if written.is_err() {
                return;
            }
        }
        if !out.is_empty() {
            // A peer that reads nothing has to do without it.
            drop(self.tcp().try_write(&out));
        }
    }
}
