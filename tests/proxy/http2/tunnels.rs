//! WebSockets over HTTP/2 (RFC 8441) to an app that knows only Upgrade.

use super::in_front_of;
use crate::harness::http2::{Http2, RST_STREAM, block};
use crate::harness::{Backend, until};

/// The block of an extended CONNECT.
fn connect(protocol: &str, path: &str) -> Vec<u8> {
    block(&[
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":authority", "app.test"),
        (":path", path),
        ("sec-websocket-version", "13"),
        ("origin", "http://app.test"),
    ])
}

/// CASES W-12, R-13.
#[test]
fn an_extended_connect_becomes_an_upgrade_and_its_data_a_tunnel() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: x\r\n\r\nhello ");
        conversation.echo();
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    client.settle();
    // SETTINGS_ENABLE_CONNECT_PROTOCOL.
    assert!(client.settings.contains(&(8, 1)), "{:?}", client.settings);
    let stream = client.begin(&connect("websocket", "/chat?room=1"));
    let answer = client.until(stream, |seen| seen.status() != 0);
    assert_eq!(
        (answer.status(), answer.value("sec-websocket-protocol")),
        (200, "chat".to_owned())
    );
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert_eq!(answer.value(name), "", "{name}");
    }
    client.data(stream, b"from here");
    client.until(stream, |seen| seen.body == b"hello from here");
    client.last_data(stream, b", the end");
    let whole = client.whole(stream);
    assert_eq!(whole.text(), "hello from here, the end");
    assert_eq!(whole.reset, None);
    let got = app.only_request();
    assert!(
        got.head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.value("upgrade"), "websocket");
    assert_eq!(got.value("connection"), "Upgrade");
    assert_eq!(got.value("sec-websocket-version"), "13");
    assert_eq!(got.value("sec-websocket-key").len(), 24);
}

/// CASES R-12: any success would tell the client that it has its tunnel.
#[test]
fn without_a_switch_there_is_no_tunnel() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/no" => conversation.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
                "/other" => conversation.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n"),
                _ => conversation.answer("plain"),
            }
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let stream = client.begin(&connect("websocket", "/no"));
    let answer = client.whole(stream);
    assert_eq!((answer.status(), answer.text()), (403, "no".to_owned()));
    let stream = client.begin(&connect("websocket", "/"));
    assert!(client.whole(stream).reset.is_some());
    let stream = client.begin(&connect("websocket", "/other"));
    assert_eq!(client.whole(stream).status(), 502);
    let stream = client.begin(&connect("connect-udp", "/"));
    assert_eq!(client.whole(stream).status(), 405);
    assert_eq!(client.get("app.test", "/").text(), "plain");
}

/// CASES W-08.
#[test]
fn a_tunnel_ends_on_both_sides_when_one_breaks_off() {
    let app = Backend::doing(|conversation| {
        let request = conversation.request().unwrap();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
        if request.target() == "/cut" {
            conversation.bytes(2);
            return conversation.reset();
        }
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let stream = client.begin(&connect("websocket", "/cut"));
    client.until(stream, |seen| seen.status() == 200);
    client.data(stream, b"hi");
    assert!(client.whole(stream).reset.is_some());
    let stream = client.begin(&connect("websocket", "/"));
    client.until(stream, |seen| seen.status() == 200);
    client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    until("the app's side is closed", || app.closed() == 2);
}
