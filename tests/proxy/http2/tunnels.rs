//! WebSockets over HTTP/2 (RFC 8441): from clients, to apps that know only Upgrade; and to apps that speak HTTP/2.

use super::{client_of, in_front_of};
use crate::harness::http2::{Http2, RST_STREAM, block};
use crate::harness::{Backend, Client, Proxy, Script, has_package, until};

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
        // Of HTTP/1.1; here it has no meaning.
        ("sec-websocket-key", "forged"),
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
    let (_proxy, mut client) = client_of(in_front_of(&app));
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
    let keys = got.values("sec-websocket-key");
    assert_eq!((keys.len(), keys[0].len()), (1, 24), "{keys:?}");
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
    let (_proxy, mut client) = client_of(in_front_of(&app));
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
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&connect("websocket", "/cut"));
    client.until(stream, |seen| seen.status() == 200);
    client.data(stream, b"hi");
    assert!(client.whole(stream).reset.is_some());
    let stream = client.begin(&connect("websocket", "/"));
    client.until(stream, |seen| seen.status() == 200);
    client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    until("the app's side is closed", || app.closed() == 2);
}

/// In front of an app in Python that speaks HTTP/2 in clear text.
fn in_front_of_http2(words: &[&str]) -> Option<(Script, Proxy)> {
    if !has_package("h2") {
        return None;
    }
    let (app, port) = Script::serve("http2/websockets.py", words);
    let text = format!("host = 'app.test'\nto = 'h2c://127.0.0.1:{port}'");
    Some((app, Proxy::plan().site("app.toml", text).start()))
}

/// Asks for a switch in HTTP/1.1, with the key of RFC 6455 1.3.
fn switch(proxy: &Proxy, path: &str, protocol: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ));
    client
}

const GREETING: &str = "CONNECT websocket /chat\n";

#[test]
fn an_upgrade_becomes_an_extended_connect_to_an_app_of_http2() {
    let Some((mut app, proxy)) = in_front_of_http2(&[]) else {
        return;
    };
    let mut client = switch(&proxy, "/chat", "websocket");
    let answer = client.response_head();
    assert_eq!(
        (answer.status, answer.value("upgrade")),
        (101, "websocket".to_owned())
    );
    assert_eq!(
        answer.value("sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(answer.value("sec-websocket-protocol"), "chat");
    assert_eq!(client.bytes(GREETING.len()), GREETING.as_bytes());
    let large = vec![b'x'; 300_000];
    client.send(&large);
    assert!(client.bytes(large.len()) == large);
    client.send("the end");
    client.finish_sending();
    assert_eq!(app.line(), "ended");
    assert_eq!(client.rest(), b"the end");
}

#[test]
fn an_extended_connect_stays_one_to_an_app_of_http2() {
    let Some((mut app, proxy)) = in_front_of_http2(&[]) else {
        return;
    };
    let mut client = Http2::to(&proxy);
    let stream = client.begin(&connect("websocket", "/chat"));
    client.until(stream, |seen| seen.text() == GREETING);
    let answer = client.so_far(stream);
    assert_eq!(
        (answer.status(), answer.value("sec-websocket-protocol")),
        (200, "chat".to_owned())
    );
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert_eq!(answer.value(name), "", "{name}");
    }
    client.last_data(stream, b"the end");
    let whole = client.whole(stream);
    assert_eq!(whole.text(), format!("{GREETING}the end"));
    assert_eq!(whole.reset, None);
    assert_eq!(app.line(), "ended");
}

/// CASES W-08, to and from an app of HTTP/2.
#[test]
fn a_websocket_of_an_app_of_http2_ends_on_both_sides_when_one_breaks_off() {
    let Some((mut app, proxy)) = in_front_of_http2(&[]) else {
        return;
    };
    let mut old = switch(&proxy, "/cut", "websocket");
    assert_eq!(old.response_head().status, 101);
    old.send("hi");
    assert_eq!(old.rest(), b"CONNECT websocket /cut\n");
    let mut new = Http2::to(&proxy);
    let stream = new.begin(&connect("websocket", "/cut"));
    new.until(stream, |seen| !seen.body.is_empty());
    new.data(stream, b"hi");
    assert!(new.whole(stream).reset.is_some());
    let stream = new.begin(&connect("websocket", "/chat"));
    new.until(stream, |seen| seen.text() == GREETING);
    new.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    assert_eq!(app.line(), "reset 8");
    let mut old = switch(&proxy, "/chat", "websocket");
    assert_eq!(old.response_head().status, 101);
    old.bytes(GREETING.len());
    old.reset();
    assert_eq!(app.line(), "reset 8");
}

#[test]
fn an_app_of_http2_may_refuse_a_websocket_and_is_asked_for_no_other_protocol() {
    let Some((_app, proxy)) = in_front_of_http2(&[]) else {
        return;
    };
    let answer = switch(&proxy, "/no", "websocket").response();
    assert_eq!((answer.status, answer.text()), (403, "no".to_owned()));
    let mut new = Http2::to(&proxy);
    let stream = new.begin(&connect("websocket", "/no"));
    let answer = new.whole(stream);
    assert_eq!((answer.status(), answer.text()), (403, "no".to_owned()));
    let answer = switch(&proxy, "/", "other").response();
    assert_eq!((answer.status, answer.text()), (200, "GET".to_owned()));
}

#[test]
fn an_app_of_http2_that_takes_no_websockets_is_not_asked_for_one() {
    let Some((_app, proxy)) = in_front_of_http2(&["no"]) else {
        return;
    };
    let answer = switch(&proxy, "/chat", "websocket").response();
    assert_eq!(answer.said(), "502 backend-no-websocket");
    let mut new = Http2::to(&proxy);
    let stream = new.begin(&connect("websocket", "/chat"));
    let answer = new.whole(stream);
    assert_eq!(
        (answer.status(), answer.value("onedoor-reason")),
        (502, "backend-no-websocket".to_owned())
    );
    assert_eq!(new.get("app.test", "/").text(), "GET");
    assert_eq!(proxy.get("app.test", "/").text(), "GET");
}
