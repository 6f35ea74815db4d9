//! A connection that speaks TLS, with a client or with a backend, as a stream of clear text.
//!
//! Between two reads it holds the session, and the bytes of a record that has not come whole; between two writes
//! nothing, unless the other side does not take what was written: then one block.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::{BESIDE_BYTES, Session};
use crate::block::Block;

#[cfg(test)]
mod tests;

/// See the module.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: Session,
    alpn: Option<Box<[u8]>>,
    /// Bytes that came and are not opened: less than a record, unless a reader had no room.
    sealed: Box<[u8]>,
    /// Clear text that a reader had no room for: less than a record.
    clear: Vec<u8>,
    /// Records that the kernel has not taken yet.
    out: Option<Block>,
    /// Clear bytes that are in `out` or were. They count as written when all of it is with the kernel, so that
    /// whoever has written everything has nothing left to flush.
    owed: usize,
    /// The last words are said as soon as the kernel has taken `out`.
    is_ending: bool,
    /// What came was not as it should.
    failed: Option<Error>,
    is_aborted: Cell<bool>,
}

impl TlsStream {
    /// `sealed`: what has come behind the handshake.
    pub(super) fn new(
        tcp: TcpStream,
        session: Session,
        alpn: Option<Box<[u8]>>,
        sealed: Box<[u8]>,
    ) -> TlsStream {
        TlsStream {
            tcp,
            session,
            alpn,
            sealed,
            clear: Vec::new(),
            out: None,
            owed: 0,
            is_ending: false,
            failed: None,
            is_aborted: Cell::new(false),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// Whether a read may find something. No system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.can_read_without_the_wire() {
            return Poll::Ready(());
        }
        self.tcp.poll_read_ready(cx).map(drop)
    }

    fn can_read_without_the_wire(&self) -> bool {
        !self.clear.is_empty()
            || self.failed.is_some()
            || self.session.peer_has_ended()
            || self.session.can_open(&self.sealed)
    }

    /// Whether the other side has said that nothing more comes. An end without that may be a cut.
    pub fn peer_has_ended(&self) -> bool {
        self.session.peer_has_ended()
    }

    /// Says that nothing more comes: without a close_notify the other side could not tell the end from a cut
    /// (RFC 8446 6.1). `false`: the kernel has no room for it yet. Then it is said by a shutdown, which waits.
    pub fn say_goodbye(&mut self) -> bool {
        self.is_aborted.get() || self.say_last()
    }

    /// The other side shall notice that something is missing: no close_notify, not even when this is dropped.
    pub fn abort(&self) -> &TcpStream {
        self.is_aborted.set(true);
        self.tcp()
    }

    /// Takes what was kept for the want of room.
    fn take_clear(&mut self, to: &mut ReadBuf<'_>) {
        let count = self.clear.len().min(to.remaining());
        to.put_slice(&self.clear[..count]);
        self.clear.drain(..count);
        if self.clear.is_empty() {
            self.clear = Vec::new();
        }
    }

    /// A block with all that has come and is not opened: one more read, unless there is a record already. `None`: no
    /// more will come.
    fn poll_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Block>>> {
        if self.session.can_open(&self.sealed) {
            return Poll::Ready(Ok(Some(self.with_sealed())));
        }
        if !self.sealed.is_empty() {
            // Rather than copy for nothing.
            ready!(self.tcp.poll_read_ready(cx))?;
        }
        let mut block = self.with_sealed();
        if !block.has_room() {
            // Pieces of one message, and no end of it.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        match ready!(block.poll_fill(cx, &mut self.tcp))? {
            0 => Poll::Ready(Ok(None)),
            _ => Poll::Ready(Ok(Some(block))),
        }
    }

    fn with_sealed(&self) -> Block {
        let mut block = Block::lend();
        let fits = block.append(&self.sealed);
        debug_assert!(fits, "what is left of a block fits into one");
        block
    }

    /// Opens what is in `block` and keeps what is not used. Returns how many clear bytes came of it.
    fn open(&mut self, mut block: Block, to: &mut ReadBuf<'_>) -> usize {
        let opened = self.session.open(
            block.filled_mut(),
            to.initialize_unfilled(),
            &mut self.clear,
        );
        block.consume(opened.sealed);
        if !(block.is_empty() && self.sealed.is_empty()) {
            self.sealed = block.filled().into();
        }
        to.advance(opened.clear);
        if let Some(error) = opened.error {
            self.say_last();
            self.failed = Some(error);
        }
        opened.clear
    }

    /// Says why or that it is over, behind what was said before, as far as the kernel takes it at once. Whether that
    /// was all.
    fn say_last(&mut self) -> bool {
        self.is_ending |= !self.session.is_over();
        loop {
            self.put_last_words_out();
            let Some(out) = &mut self.out else {
                return true;
            };
            match self.tcp.try_write(out.filled()) {
                Ok(count) if count > 0 => out.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // There is nobody to be told.
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Hands records to the kernel until it has them all.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.put_last_words_out();
            let Some(out) = &mut self.out else {
                return Poll::Ready(Ok(()));
            };
            match Pin::new(&mut self.tcp).poll_write(cx, out.filled())? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => out.consume(count),
                Poll::Pending => {
                    out.settle();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Where all of `out` has been taken, the last words come next.
    fn put_last_words_out(&mut self) {
        if self.out.as_ref().is_some_and(Block::is_empty) {
            self.out = None;
        }
        if self.out.is_none() && std::mem::take(&mut self.is_ending) {
            let mut record = [0; BESIDE_BYTES];
            let length = self.session.end(&mut record, &mut self.sealed);
            let mut out = Block::lend();
            if length > 0 && out.append(&record[..length]) {
                self.out = Some(out);
            }
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.clear.is_empty() {
            this.take_clear(buf);
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0 {
            if let Some(error) = &this.failed {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    error.clone(),
                )));
            }
            if this.session.peer_has_ended() {
                break;
            }
            match ready!(this.poll_sealed(cx))? {
                Some(block) => {
                    if this.open(block, buf) > 0 {
                        break;
                    }
                }
                // No close_notify from a client: its requests end by length or by chunks and are whole all the same.
                // What a backend sends may end by the close alone, and then it is cut (CASES T-54).
                None if this.session.is_client() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.owed == 0 && !buf.is_empty() {
            // Something of a shutdown, perhaps.
            ready!(this.poll_out(cx))?;
            let mut out = Block::lend();
            let mut sealed = Ok((0, 0));
            let held = &mut this.sealed;
            out.write_with(|room| {
                sealed = this.session.seal(buf, room, held);
                sealed.as_ref().map_or(0, |&(_, length)| length)
            });
            this.owed = sealed.map_err(io::Error::other)?.0;
            this.out = Some(out);
        }
        ready!(this.poll_out(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut this.owed).min(buf.len())))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_ending |= !this.session.is_over() && !this.is_aborted.get();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

/// A peer that has no room even now has to do without a goodbye.
impl Drop for TlsStream {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}
