//! Handshakes that come to nothing: each is counted by who has to do something about it.

use std::io::Read;
use std::process::{Command, Stdio};

use rustls::version::{TLS12, TLS13};
use socket2::SockRef;

use super::{tls_to, two_and_one, with_files};
use crate::harness::{Authority, Client, Proxy, Tls, found, words_of};

const FATAL: u8 = 2;
const INTERNAL_ERROR: u8 = 80;

/// A client that has been shown a certificate.
fn half_way(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(Tls::to("shop.example.com").hello());
    client.bytes(1);
    client
}

/// What `openssl s_client` says that is run with these words.
fn openssl(proxy: &Proxy, words: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-servername", "shop.example.com"])
        .args(["-connect", &proxy.address().to_string()])
        .args(words)
        .current_dir(proxy.folder().path())
        .stdin(Stdio::null())
        .output();
    words_of(&output.unwrap())
}

#[test]
fn a_client_that_refuses_our_certificate_is_told_apart() {
    let proxy = two_and_one(&Authority::new("test"));
    let strangers = Authority::new("strangers").pem;
    for version in [&TLS12, &TLS13] {
        let tls = Tls::to("shop.example.com").version(version);
        assert!(tls.trusting(&strangers).shake(proxy.address()).is_err());
    }
    proxy.until_counted("certificate-refused", 2);
    if found("openssl") {
        std::fs::write(proxy.folder().join("strangers.pem"), &strangers).unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let words = [version, "-verify_return_error", "-CAfile", "strangers.pem"];
            let said = openssl(&proxy, &words);
            assert!(said.contains("certificate verify failed"), "{said}");
        }
        proxy.until_counted("certificate-refused", 4);
    }
    let shop = proxy.status("shop").unwrap();
    let counted = proxy.counted("certificate-refused");
    assert_eq!(shop["refusals"]["certificate-refused"], counted);
    let metrics = proxy.admin("GET", "/metrics").1;
    let line = format!("onedoor_refused_total{{reason=\"certificate-refused\"}} {counted}");
    assert!(metrics.contains(&line), "{metrics}");
    assert_eq!(proxy.counted("handshake-failed"), 0);
}

#[test]
fn a_version_that_only_one_side_speaks_is_told_apart() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let file = with_files("blog.example.com", "blog", "blog") + "min = '1.3'\n";
    proxy.site("blog.toml", file);
    let old = Tls::to("blog.example.com").version(&TLS12);
    assert!(old.shake(proxy.address()).is_err());
    proxy.until_counted("handshake-version", 1);
    if !found("openssl") {
        return;
    }
    let ancient = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let said = openssl(&proxy, &ancient);
    assert!(said.contains("alert protocol version"), "{said}");
    proxy.until_counted("handshake-version", 2);
    for site in ["blog", "shop"] {
        let status = proxy.status(site).unwrap();
        assert_eq!(status["refusals"]["handshake-version"], 1, "{site}");
    }
}

#[test]
fn what_the_two_sides_have_not_in_common_is_told_apart() {
    let proxy = two_and_one(&Authority::new("test"));
    let odd = Tls::to("shop.example.com").alpn(&["foo"]);
    assert!(odd.shake(proxy.address()).is_err());
    proxy.until_counted("handshake-mismatch", 1);
    if !found("openssl") {
        return;
    }
    for (count, words) in [
        (2, &["-tls1_2", "-cipher", "AES128-SHA256"][..]),
        (3, &["-tls1_3", "-groups", "P-521"]),
        // No signature of ours is by RSA.
        (4, &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"]),
        (5, &["-tls1_2", "-sigalgs", "RSA+SHA256"]),
    ] {
        let said = openssl(&proxy, words);
        assert!(said.contains("alert"), "{said}");
        proxy.until_counted("handshake-mismatch", count);
    }
    assert_eq!(proxy.counted("handshake-failed"), 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_is_told_apart() {
    let proxy = two_and_one(&Authority::new("test"));
    drop(half_way(&proxy));
    proxy.until_counted("handshake-abandoned", 1);
    // And with a reset.
    let mut stream = std::net::TcpStream::connect(proxy.address()).unwrap();
    let hello = Tls::to("shop.example.com").hello();
    std::io::Write::write_all(&mut stream, &hello).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let at_once = Some(std::time::Duration::ZERO);
    SockRef::from(&stream).set_linger(at_once).unwrap();
    drop(stream);
    proxy.until_counted("handshake-abandoned", 2);
    let mut shop = tls_to(&proxy, &Tls::to("shop.example.com"));
    assert_eq!(shop.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn what_is_no_tls_and_what_a_client_does_not_explain_are_told_apart() {
    let proxy = two_and_one(&Authority::new("test"));
    let mut client = half_way(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    client.rest();
    proxy.until_counted("handshake-malformed", 1);
    let mut client = half_way(&proxy);
    client.send([21, 3, 3, 0, 2, FATAL, INTERNAL_ERROR]);
    client.rest();
    proxy.until_counted("handshake-failed", 1);
}
