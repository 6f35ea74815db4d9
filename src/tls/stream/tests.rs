//! Over real sockets, against the library's own connections.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::pin::Pin;
use std::task::Poll;
use std::thread::{self, JoinHandle};

use proptest::prelude::*;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{
    AlertDescription, ClientConnection, ConnectionCommon, Error, ServerConnection,
    SupportedCipherSuite,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TlsStream;
use crate::tls::session::tests::{configs, shop, suites, tls12, tls13};
use crate::tls::shake::shake;

/// What the other side does, on a thread of its own: it gets a connection, blocking, and has not shaken hands.
type Other<T> = Box<dyn FnOnce(std::net::TcpStream) -> T + Send>;

/// Runs `ours` on a runtime with a connection to whoever does `other`.
fn with<T: Send + 'static, F: Future>(
    other: Other<T>,
    ours: impl FnOnce(TcpStream, JoinHandle<T>) -> F,
) -> F::Output {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let other = thread::spawn(move || {
        let tcp = std::net::TcpStream::connect(address).expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        other(tcp)
    });
    let (tcp, _) = listener.accept().expect("a connection");
    tcp.set_nonblocking(true).expect("not blocking");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { ours(TcpStream::from_std(tcp).expect("a stream"), other).await })
}

/// Our server and a client of the library that has a thread to itself.
fn server<T: Send + 'static, F: Future>(
    suite: SupportedCipherSuite,
    client: impl FnOnce(ClientConnection, std::net::TcpStream) -> T + Send + 'static,
    ours: impl FnOnce(TlsStream, JoinHandle<T>) -> F,
) -> F::Output {
    let (client_config, server_config) = configs(suite);
    with(
        Box::new(move |tcp| {
            let connection = ClientConnection::new(client_config, shop()).expect("a client");
            client(connection, tcp)
        }),
        async |tcp, other| {
            let connection = UnbufferedServerConnection::new(server_config).expect("a server");
            let shaken = shake(connection, tcp, Box::default())
                .await
                .expect("shaken hands");
            ours(shaken.stream, other).await
        },
    )
}

/// Our client and a server of the library.
fn client<T: Send + 'static, F: Future>(
    suite: SupportedCipherSuite,
    server: impl FnOnce(ServerConnection, std::net::TcpStream) -> T + Send + 'static,
    ours: impl FnOnce(TlsStream, JoinHandle<T>) -> F,
) -> F::Output {
    let (client_config, server_config) = configs(suite);
    with(
        Box::new(move |tcp| {
            let connection = ServerConnection::new(server_config).expect("a server");
            server(connection, tcp)
        }),
        async |tcp, other| {
            let connection =
                UnbufferedClientConnection::new(client_config, shop()).expect("a client");
            let shaken = shake(connection, tcp, Box::default())
                .await
                .expect("shaken hands");
            ours(shaken.stream, other).await
        },
    )
}

/// Writes so many bytes at a time.
struct InPieces<'a> {
    tcp: std::net::TcpStream,
    pieces: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for InPieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.tcp.read(buf)
    }
}

impl Write for InPieces<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let most = self.pieces.next().copied().unwrap_or(1);
        let count = self.tcp.write(&buf[..buf.len().min(most)])?;
        // The other side shall have a chance to see this piece alone.
        thread::yield_now();
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn handshake_and_clear_text_come_through_in_any_pieces(
        suite in suites(),
        pieces in proptest::collection::vec(1usize..3000, 1..12),
        text in proptest::collection::vec(any::<u8>(), 1..60_000),
        rooms in proptest::collection::vec(1usize..70_000, 1..8),
    ) {
        let sent = text.clone();
        let echoed = server(
            suite,
            move |mut connection, tcp| {
                let mut wire = InPieces { tcp, pieces: pieces.iter().cycle() };
                let mut line = rustls::Stream::new(&mut connection, &mut wire);
                line.write_all(&sent).expect("written");
                line.conn.send_close_notify();
                line.flush().expect("flushed");
                let mut back = Vec::new();
                line.read_to_end(&mut back).expect("all of it, and a goodbye");
                back
            },
            async |mut ours, other| {
                let mut read = Vec::new();
                let mut rooms = rooms.iter().cycle();
                loop {
                    let mut room = vec![0; *rooms.next().expect("endless")];
                    match ours.read(&mut room).await.expect("read") {
                        0 => break,
                        count => read.extend_from_slice(&room[..count]),
                    }
                }
                ours.write_all(&read).await.expect("written");
                assert!(holds_nothing(&ours), "{ours:?}");
                drop(ours);
                other.join().expect("the other side")
            },
        );
        prop_assert!(echoed == text);
    }
}

fn holds_nothing(stream: &TlsStream) -> bool {
    stream.sealed.is_empty() && stream.clear.capacity() == 0 && stream.out.is_none()
}

#[test]
fn a_reader_that_sleeps_holds_one_block_and_loses_nothing() {
    let text: Vec<u8> = (0..3 << 20).map(|n: u32| (n / 5) as u8).collect();
    let (wake, sleep) = std::sync::mpsc::channel::<()>();
    let expected = text.clone();
    let whole = server(
        tls13(),
        move |mut connection, mut tcp| {
            let mut line = rustls::Stream::new(&mut connection, &mut tcp);
            line.conn.complete_io(line.sock).expect("shaken hands");
            sleep.recv().expect("woken");
            let mut back = Vec::new();
            line.read_to_end(&mut back).expect("all of it");
            back == expected
        },
        async |mut ours, other| {
            let kernel = socket2::SockRef::from(ours.tcp());
            kernel.set_send_buffer_size(64 << 10).expect("a small one");
            let mut at = 0;
            let mut is_awake = false;
            while at < text.len() {
                let piece = &text[at..text.len().min(at + 50_000)];
                let written = poll_fn(|cx| {
                    let mut ours = Pin::new(&mut ours);
                    match ours.as_mut().poll_write(cx, piece) {
                        Poll::Pending if !is_awake => {
                            // Asked again, nothing is sealed twice.
                            assert!(ours.as_mut().poll_write(cx, piece).is_pending());
                            assert!(ours.out.is_some());
                            wake.send(()).expect("it sleeps");
                            is_awake = true;
                            Poll::Pending
                        }
                        written => written,
                    }
                });
                at += written.await.expect("written");
            }
            assert!(is_awake, "the kernel took all of it");
            assert!(holds_nothing(&ours));
            // The kernel may be full of what is still to be read: a goodbye on dropping might find no room.
            let end = poll_fn(|cx| Pin::new(&mut ours).poll_shutdown(cx)).await;
            end.expect("said to be over");
            other.join().expect("the other side")
        },
    );
    assert!(whole);
}

#[test]
fn a_goodbye_that_finds_no_room_waits_for_it_and_comes_last() {
    let (wake, sleep) = std::sync::mpsc::channel::<()>();
    let (count, end) = server(
        tls13(),
        move |mut connection, mut tcp| {
            let mut line = rustls::Stream::new(&mut connection, &mut tcp);
            line.conn.complete_io(line.sock).expect("shaken hands");
            sleep.recv().expect("woken");
            let mut back = Vec::new();
            let end = line.read_to_end(&mut back).map_err(|error| error.kind());
            (back.len(), end.is_ok())
        },
        async |mut ours, other| {
            let kernel = socket2::SockRef::from(ours.tcp());
            kernel.set_send_buffer_size(64 << 10).expect("a small one");
            let text = vec![b'x'; 50_000];
            poll_fn(|cx| {
                while Pin::new(&mut ours).poll_write(cx, &text).is_ready() {}
                Poll::Ready(())
            })
            .await;
            // Asked again it is not said twice, nor anything instead of it.
            for _ in 0..3 {
                assert!(!ours.say_goodbye());
                assert!(ours.out.is_some());
            }
            wake.send(()).expect("it sleeps");
            let end = poll_fn(|cx| Pin::new(&mut ours).poll_shutdown(cx)).await;
            end.expect("said to be over");
            assert!(ours.say_goodbye());
            assert!(holds_nothing(&ours));
            other.join().expect("the other side")
        },
    );
    assert!(end, "without a goodbye, behind {count} bytes");
    assert_eq!(count % 50_000, 0, "what was begun came whole");
}

#[test]
fn nothing_is_said_behind_half_a_record() {
    // Our alert, then our goodbye, find no room; later there is some.
    let (wake, sleep) = std::sync::mpsc::channel::<()>();
    let end = server(
        tls13(),
        move |mut connection, mut tcp| {
            // What is not read stays with the sender.
            let kernel = socket2::SockRef::from(&tcp);
            kernel.set_recv_buffer_size(4 << 10).expect("a small one");
            while connection.is_handshaking() {
                connection.complete_io(&mut tcp).expect("shaken hands");
            }
            tcp.write_all(&[23, 3, 3, 0, 20]).expect("sent");
            tcp.write_all(&[0; 20]).expect("sent");
            sleep.recv().expect("woken");
            let mut line = rustls::Stream::new(&mut connection, &mut tcp);
            let error = line.read_to_end(&mut Vec::new()).err();
            error.map(|error| (error.kind(), error.to_string()))
        },
        async |mut ours, other| {
            let kernel = socket2::SockRef::from(ours.tcp());
            kernel.set_send_buffer_size(64 << 10).expect("a small one");
            let text = vec![b'x'; 50_000];
            poll_fn(|cx| {
                while Pin::new(&mut ours).poll_write(cx, &text).is_ready() {}
                Poll::Ready(())
            })
            .await;
            assert!(ours.read(&mut [0; 100]).await.is_err());
            assert!(ours.out.is_some() && ours.is_ending);
            wake.send(()).expect("it sleeps");
            // What was begun is finished, and the alert is the last thing.
            let end = poll_fn(|cx| Pin::new(&mut ours).poll_shutdown(cx)).await;
            end.expect("said to be over");
            drop(ours);
            other.join().expect("the other side")
        },
    );
    let (kind, text) = end.expect("an alert is an error");
    assert_eq!(kind, ErrorKind::InvalidData, "{text}");
    assert!(text.contains("BadRecordMac"), "{text}");
}

#[test]
fn what_a_reader_did_not_take_before_the_end_is_missed() {
    let (wake, sleep) = std::sync::mpsc::channel::<()>();
    let end = server(
        tls13(),
        move |mut connection, mut tcp| {
            let mut line = rustls::Stream::new(&mut connection, &mut tcp);
            line.conn.complete_io(line.sock).expect("shaken hands");
            sleep.recv().expect("woken");
            let end = line.read_to_end(&mut Vec::new());
            end.expect_err("it is cut").kind()
        },
        async |mut ours, other| {
            let kernel = socket2::SockRef::from(ours.tcp());
            kernel.set_send_buffer_size(64 << 10).expect("a small one");
            let text = vec![b'x'; 50_000];
            poll_fn(|cx| {
                while Pin::new(&mut ours).poll_write(cx, &text).is_ready() {}
                Poll::Ready(())
            })
            .await;
            drop(ours);
            wake.send(()).expect("it sleeps");
            other.join().expect("the other side")
        },
    );
    assert_eq!(end, ErrorKind::UnexpectedEof);
}

/// Shakes hands and says `text`, of which the last bytes are lost with the connection.
fn cut_off<D, C>(mut connection: C, mut tcp: std::net::TcpStream, text: &[u8])
where
    C: std::ops::DerefMut<Target = ConnectionCommon<D>>,
    D: rustls::SideData,
{
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).expect("shaken hands");
    }
    let mut sealed = Vec::new();
    for text in [b"whole ", text] {
        connection.writer().write_all(text).expect("sealed");
        while connection.wants_write() {
            connection.write_tls(&mut sealed).expect("taken");
        }
    }
    sealed.truncate(sealed.len() - 1);
    tcp.write_all(&sealed).expect("sent");
    tcp.shutdown(Shutdown::Write).expect("closed");
    // Until the other side has seen it.
    drop(tcp.read_to_end(&mut Vec::new()));
}

#[test]
fn what_is_cut_is_not_read_and_is_an_error_from_a_backend() {
    for suite in [tls13(), tls12()] {
        server(
            suite,
            |connection, tcp| cut_off(connection, tcp, b"cut"),
            async |mut ours, other| {
                let mut read = Vec::new();
                ours.read_to_end(&mut read).await.expect("the end");
                assert_eq!(read, b"whole ");
                drop(ours);
                other.join().expect("the other side");
            },
        );
        client(
            suite,
            |connection, tcp| cut_off(connection, tcp, b"cut"),
            async |mut ours, other| {
                let mut read = Vec::new();
                let error = ours.read_to_end(&mut read).await.expect_err("it is cut");
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                assert_eq!(read, b"whole ");
                drop(ours);
                other.join().expect("the other side");
            },
        );
    }
}

#[test]
fn an_end_is_said_and_an_abort_is_not() {
    for (is_aborted, kind) in [(false, None), (true, Some(ErrorKind::UnexpectedEof))] {
        let end = server(
            tls13(),
            |mut connection, mut tcp| {
                let mut line = rustls::Stream::new(&mut connection, &mut tcp);
                line.read_to_end(&mut Vec::new())
                    .err()
                    .map(|error| error.kind())
            },
            async |mut ours, other| {
                ours.write_all(b"half of it").await.expect("written");
                if is_aborted {
                    ours.abort();
                }
                drop(ours);
                other.join().expect("the other side")
            },
        );
        assert_eq!(end, kind);
    }
}

#[test]
fn who_sends_what_was_not_sealed_is_told() {
    let end = server(
        tls13(),
        |mut connection, mut tcp| {
            while connection.is_handshaking() {
                connection.complete_io(&mut tcp).expect("shaken hands");
            }
            tcp.write_all(&[
                23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                20,
            ])
            .expect("sent");
            let mut line = rustls::Stream::new(&mut connection, &mut tcp);
            let error = line.read_to_end(&mut Vec::new()).expect_err("an alert");
            error.downcast::<Error>().expect("of the library")
        },
        async |mut ours, other| {
            for _ in 0..2 {
                let error = ours.read(&mut [0; 100]).await.expect_err("it is nothing");
                assert_eq!(error.kind(), ErrorKind::InvalidData);
            }
            assert!(poll_fn(|cx| ours.poll_readable(cx).map(|()| true)).await);
            assert!(ours.write(b"more").await.is_err());
            other.join().expect("the other side")
        },
    );
    assert_eq!(end, Error::AlertReceived(AlertDescription::BadRecordMac));
}

#[test]
fn a_session_is_kept_for_the_next_connection_to_a_backend() {
    for suite in [tls13(), tls12()] {
        let (client_config, server_config) = configs(suite);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (client_config, server_config) = (client_config.clone(), server_config.clone());
            let kind = with(
                Box::new(move |mut tcp| {
                    let mut connection = ServerConnection::new(server_config).expect("a server");
                    let mut line = rustls::Stream::new(&mut connection, &mut tcp);
                    line.write_all(b"hello").expect("written");
                    drop(line.read_to_end(&mut Vec::new()));
                    connection.handshake_kind()
                }),
                async |tcp, other| {
                    let connection =
                        UnbufferedClientConnection::new(client_config, shop()).expect("a client");
                    let shaken = shake(connection, tcp, Box::default())
                        .await
                        .expect("shaken hands");
                    let mut ours = shaken.stream;
                    ours.read_exact(&mut [0; 5]).await.expect("read");
                    drop(ours);
                    other.join().expect("the other side")
                },
            );
            kinds.push(kind);
        }
        assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed), "{suite:?}");
    }
}
