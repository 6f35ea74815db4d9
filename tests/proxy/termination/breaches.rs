//! Clients that break the protocol of TLS, or use it against us: each ends its own connection and nothing else.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustls::version::TLS13;

use super::{tls_to, two_and_one};
use crate::harness::{Authority, Proxy, Tls, found, words_of};

const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];

/// Others are served as before.
#[track_caller]
fn is_served(proxy: &Proxy) {
    let mut client = tls_to(proxy, &Tls::to("shop.example.com"));
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn tls_within_tls_is_no_request() {
    let proxy = two_and_one(&Authority::new("test"));
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    client.send(Tls::to("blog.example.com").hello());
    // What begins with no letter is refused without a word, or as a malformed request; never another handshake.
    let rest = client.rest();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 "),
        "{rest:?}"
    );
    is_served(&proxy);
}

#[test]
fn the_preface_of_another_protocol_than_was_agreed_on_is_no_request() {
    let proxy = two_and_one(&Authority::new("test"));
    for tls in [
        Tls::to("shop.example.com"),
        Tls::to("shop.example.com").alpn(&["http/1.1"]),
    ] {
        let mut client = tls_to(&proxy, &tls);
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let rest = client.rest();
        assert!(
            rest.is_empty()
                || rest.starts_with(b"HTTP/1.1 505 ")
                || rest.starts_with(b"HTTP/1.1 400 "),
            "{:?}",
            String::from_utf8_lossy(&rest)
        );
    }
    is_served(&proxy);
}

#[test]
fn an_order_for_a_certificate_that_nobody_runs_is_not_answered() {
    let proxy = two_and_one(&Authority::new("test"));
    let tls = Tls::to("shop.example.com").alpn(&["acme-tls/1"]);
    let error = tls.shake(proxy.address()).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    is_served(&proxy);
}

#[test]
fn a_handshake_that_stops_after_the_hello_ends_with_the_opening() {
    let proxy = two_and_one(&Authority::new("test"));
    let mut client = proxy.client();
    client.send(Tls::to("shop.example.com").hello());
    client.bytes(1);
    client.rest();
    proxy.until_counted("handshake-timeout", 1);
    is_served(&proxy);
}

#[test]
fn a_goodbye_in_the_middle_of_a_handshake_ends_it() {
    let proxy = two_and_one(&Authority::new("test"));
    let mut client = proxy.client();
    client.send(Tls::to("shop.example.com").hello());
    client.bytes(1);
    client.send(CLOSE_NOTIFY);
    client.rest();
    proxy.until_counted("handshake-abandoned", 1);
    is_served(&proxy);
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let proxy = two_and_one(&Authority::new("test"));
    let tls = Tls::to("shop.example.com").version(&TLS13);
    let mut line = tls.shake(proxy.address()).unwrap();
    for _ in 0..100 {
        line.conn.refresh_traffic_keys().unwrap();
    }
    // It may be closed before all of them are sent.
    line.flush().ok();
    let mut rest = Vec::new();
    let ended = line.read_to_end(&mut rest);
    assert!(rest.is_empty() && ended.is_err(), "{ended:?}");
    is_served(&proxy);
}

#[test]
fn a_ticket_allows_no_early_data() {
    if !found("openssl") {
        return;
    }
    let proxy = two_and_one(&Authority::new("test"));
    std::fs::write(proxy.folder().join("early"), "GET / HTTP/1.1\r\n\r\n").unwrap();
    let connect = |flags: &[&str]| {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-tls1_3",
                "-ign_eof",
                "-servername",
                "shop.example.com",
            ])
            .args(["-connect", &proxy.address().to_string()])
            .args(flags)
            .current_dir(proxy.folder().path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|mut client| {
                let request =
                    "GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";
                client.stdin.take().unwrap().write_all(request.as_bytes())?;
                client.wait_with_output()
            });
        words_of(&output.unwrap())
    };
    connect(&["-sess_out", "session"]);
    let said = connect(&["-sess_in", "session", "-early_data", "early"]);
    assert!(said.contains("Reused, TLSv1.3"), "{said}");
    assert!(said.contains("Early data was not sent"), "{said}");
}
