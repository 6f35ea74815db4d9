//! A client's connection while it is busy with one request.

use std::io;
use std::task::{Context, Poll};

use crate::block::{Block, FEW, Kept, Sheet};
use crate::http::body::Body;
use crate::http::reader::{self, Pace, Unsent};
use crate::http::side::ClientSide;
use crate::relay::{self, Outcome, Silence};
use crate::site::Wire;
use crate::stream::Stream;
use crate::wheel::Timer;

/// See the module.
#[derive(Debug)]
pub(super) struct Busy<'a> {
    pub(super) stream: &'a mut Stream,
    /// What the client sent behind the request. As long as something is there nothing more is read, so what came together
    /// with the request, or a little that came later, is all that a client can make us hold.
    pub(super) behind: Option<Kept>,
}

impl ClientSide for Busy<'_> {
    type Source = Stream;
    type Sink = Stream;
    type Head = Sheet;

    fn source(&mut self) -> &mut Stream {
        self.stream
    }

    fn sink(&mut self) -> &mut Stream {
        self.stream
    }

    fn wire(&self) -> Wire {
        self.stream.wire()
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.stream.alpn()
    }

    fn untaken(&self) -> Option<u64> {
        self.stream.unacknowledged()
    }

    fn request_is_over(&mut self, upload: &mut Body) {
        if self.behind.is_none() {
            self.behind = upload.take_surplus().map(Block::keep_sent_ahead);
        }
    }

    fn behind(&mut self) -> Option<Block> {
        self.behind.take().map(Kept::lend)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.behind.is_some() || self.stream.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut block = Block::lend();
        match block.poll_fill_at_most(cx, self.stream, FEW) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) => {
                self.behind = Some(block.keep());
                Poll::Pending
            }
        }
    }

    fn poll_taken_back(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn has_left(&mut self, _: &mut Context<'_>) -> bool {
        self.stream.has_hung_up()
    }

    fn insist_on_http1(&mut self) -> bool {
        false
    }

    async fn put_interim(&mut self, head: Sheet) -> io::Result<()> {
        self.stream.put_all(&head).await
    }

    async fn begin_response(
        &mut self,
        head: Sheet,
        body: &mut Body,
        pace: Pace,
        timer: &Timer,
    ) -> Result<(), Unsent> {
        // The usual way: head and body are one write, which the pump makes.
        if let Err(rest) = body.put_in_front(&head) {
            body.put_back(rest);
            reader::send(self.stream, &head, pace, timer).await?;
        }
        Ok(())
    }

    async fn put_answer(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.put_all(answer).await
    }

    async fn tunnel(
        &mut self,
        head: Sheet,
        upstream: &mut Stream,
        early: Option<Block>,
        silence: Silence,
        timer: &Timer,
    ) -> Result<Outcome, Unsent> {
        let sent = timer
            .within(silence.of_one, self.stream.put_all(&head))
            .await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Unsent::Gone);
        }
        drop(head);
        let behind = self.behind();
        Ok(relay::both(self.stream, behind, upstream, early, silence, timer).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;

    #[test]
    fn what_a_client_sends_ahead_lends_it_no_block() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("its address");
            let mut client = TcpStream::connect(address).expect("a connection");
            let (ours, _) = listener.accept().expect("a connection");
            ours.set_nonblocking(true).expect("not blocking");
            let ours = tokio::net::TcpStream::from_std(ours).expect("registered");
            client.write_all(&[b'x'; 50_000]).expect("sent");
            ours.readable().await.expect("bytes");
            let mut stream = Stream::Tcp(ours);
            let mut busy = Busy {
                stream: &mut stream,
                behind: None,
            };
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..3 {
                assert!(busy.poll_gone(&mut cx).is_pending());
            }
            assert_eq!(Block::lent(), 0);
            let behind = busy.behind().map(|block| block.len());
            assert_eq!(behind, Some(FEW));
            assert_eq!(Block::lent(), 0);
        });
    }
}
