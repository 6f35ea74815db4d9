//! Bodies, streams and tunnels through TLS: whole, at once, and with an end that says so.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::{tls_to, with_files};
use crate::harness::{Authority, Backend, Client, Conversation, Proxy, Tls, until};

/// A onedoor with one site over TLS in front of `app`.
fn in_front_of(app: &Backend) -> Proxy {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    plan.site(
        "shop.toml",
        format!(
            "host = 'shop.example.com'\nto = {}\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n",
            app.port
        ),
    )
    .start()
}

#[test]
fn megabytes_arrive_whole_both_ways() {
    let app = Backend::echoing();
    let proxy = in_front_of(&app);
    let body: Vec<u8> = (0..5 << 20).map(|n: u32| (n / 7) as u8).collect();
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    for _ in 0..2 {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(
            response.body.ends_with(&body),
            "{} bytes came back",
            response.body.len()
        );
    }
}

#[test]
fn a_stream_is_passed_on_at_once() {
    let (tell, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let app = Backend::doing(move |talk: &mut Conversation| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for word in ["one", "two"] {
            talk.send(format!("3\r\n{word}\r\n"));
            told.lock().unwrap().recv().unwrap();
        }
    });
    let proxy = in_front_of(&app);
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    client.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    client.response_head();
    for word in ["one", "two"] {
        assert_eq!(client.bytes(8), format!("3\r\n{word}\r\n").as_bytes());
        tell.send(()).unwrap();
    }
}

#[test]
fn the_end_is_said_before_the_connection_closes() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .start();
    let mut line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    std::io::Write::write_all(
        &mut line,
        b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let mut text = String::new();
    // Without close_notify the library calls it an unexpected end.
    line.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("shop"), "{text}");
}

#[test]
fn a_response_that_breaks_off_is_no_end() {
    let app = Backend::doing(|talk: &mut Conversation| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    let proxy = in_front_of(&app);
    let mut line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    std::io::Write::write_all(
        &mut line,
        b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
    )
    .unwrap();
    let mut text = Vec::new();
    assert!(line.read_to_end(&mut text).is_err());
}

/// Sends every byte in a segment of its own.
struct ByteByByte<'a>(&'a mut TcpStream);

impl Read for ByteByByte<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // And takes them one by one.
        self.0.read(&mut buf[..1])
    }
}

impl Write for ByteByByte<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(&buf[..1])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a response that ends with `shop`.
fn until_shop(line: &mut impl Read) {
    let mut text = Vec::new();
    while !text.ends_with(b"shop") {
        let mut byte = [0];
        line.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
}

#[test]
fn records_that_come_byte_by_byte_are_read() {
    let app = Backend::saying("shop");
    let proxy = in_front_of(&app);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let tls = Tls::to("shop.example.com").version(version);
        let mut line = tls.shake(proxy.address()).unwrap();
        for end in ["", "Connection: close\r\n"] {
            let mut wire = ByteByByte(&mut line.sock);
            let mut line = rustls::Stream::new(&mut line.conn, &mut wire);
            line.write_all(
                format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\n{end}\r\n").as_bytes(),
            )
            .unwrap();
            until_shop(&mut line);
        }
        assert_eq!(line.read(&mut [0; 10]).unwrap(), 0, "and a goodbye");
    }
}

#[test]
fn a_client_that_changes_keys_all_the_time_is_cut_off() {
    let app = Backend::saying("shop");
    let proxy = in_front_of(&app);
    let mut line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    line.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Long: ")
        .unwrap();
    // With some text each time, and in much less than the head may take.
    for _ in 0..100 {
        if line.conn.refresh_traffic_keys().is_err() || line.write_all(b"x").is_err() {
            return; // it was told while it went on
        }
    }
    let error = line.write_all(b"\r\n\r\n").and_then(|()| {
        let mut answer = Vec::new();
        line.read_to_end(&mut answer)
    });
    assert!(error.is_err(), "{error:?}");
    // Now and then is what it is made for.
    let mut line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    for _ in 0..10 {
        line.conn.refresh_traffic_keys().unwrap();
        line.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
            .unwrap();
        until_shop(&mut line);
    }
}

#[test]
fn a_websocket_opens_over_tls() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app);
    let mut client: Client = tls_to(&proxy, &Tls::to("shop.example.com"));
    client.send(
        "GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    client.send("hello");
    assert_eq!(client.bytes(5), b"hello");
}

/// Whoever asks with HTTP/1.0 for what has no length knows by its end alone that it is whole. That a goodbye finds no room
/// in the kernel is a matter of 24 bytes; `tls::stream::tests` makes it happen.
#[test]
fn a_long_answer_without_a_length_has_an_end_for_those_who_read_late() {
    let app = Backend::doing(|talk: &mut Conversation| {
        let Some(request) = talk.request() else {
            return;
        };
        let length = request.target().trim_start_matches('/').parse().unwrap();
        talk.send("HTTP/1.1 200 OK\r\n\r\n");
        talk.send(vec![b'x'; length]);
    });
    let proxy = in_front_of(&app);
    let lengths: Vec<usize> = (0..8).map(|n| 2_100_000 + n * 120_001).collect();
    let lines: Vec<_> = lengths
        .iter()
        .map(|length| {
            let mut line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
            line.write_all(
                format!("GET /{length} HTTP/1.0\r\nHost: shop.example.com\r\n\r\n").as_bytes(),
            )
            .unwrap();
            line
        })
        .collect();
    until("all has been sent", || app.closed() == lengths.len());
    for (mut line, length) in lines.into_iter().zip(lengths) {
        let mut text = Vec::new();
        // Without close_notify the library calls it an unexpected end.
        let end = line.read_to_end(&mut text);
        end.unwrap_or_else(|error| panic!("{length} bytes: {error} after {}", text.len()));
        let body = text
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        assert_eq!(text.len() - body, length);
    }
}
