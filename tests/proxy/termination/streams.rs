//! Bodies, streams and tunnels through TLS: whole, at once, and with an end that says so.

use std::io::Read;

use super::{tls_to, with_files};
use crate::harness::{Authority, Backend, Client, Conversation, Proxy, Tls};

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
