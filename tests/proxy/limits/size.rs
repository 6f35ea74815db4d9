//! Limits on size: heads and bodies.

use super::{with_limits, with_site};
use crate::harness::Backend;

#[test]
fn a_request_line_that_is_too_long_is_414() {
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nline = '1kb'\n", &app);
    assert_eq!(
        proxy
            .get("app.test", &format!("/{}", "a".repeat(900)))
            .status,
        200
    );
    assert_eq!(
        proxy
            .get("app.test", &format!("/{}", "a".repeat(1100)))
            .said(),
        "414 target-too-long"
    );
    proxy.until_counted("target-too-long", 1);
}

#[test]
fn a_request_line_without_an_end_is_414_too() {
    let app = Backend::recording();
    let proxy = with_limits("[limit]\nline = '1kb'\n", &app);
    let mut client = proxy.client();
    client.send("GET /");
    client.send("a".repeat(4000));
    assert_eq!(client.response().said(), "414 target-too-long");
}

#[test]
fn a_field_that_is_too_long_is_431() {
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nfield = '1kb'\n", &app);
    let ask = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\nX-Long: {}\r\n\r\n",
            "a".repeat(count)
        )
    };
    assert_eq!(proxy.ask(ask(900)).status, 200);
    assert_eq!(proxy.ask(ask(1100)).said(), "431 head-too-large");
    proxy.until_counted("head-too-large", 1);
}

#[test]
fn too_many_fields_are_431() {
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nfields = 20\n", &app);
    let ask = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\n{}\r\n",
            "X-A: b\r\n".repeat(count)
        )
    };
    assert_eq!(proxy.ask(ask(19)).status, 200);
    assert_eq!(proxy.ask(ask(20)).said(), "431 head-too-large");
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nhead = '4kb'\n", &app);
    let ask = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\n{}\r\n",
            "X-A: 0123456789abcdef\r\n".repeat(count)
        )
    };
    assert_eq!(proxy.ask(ask(90)).status, 200);
    assert!(proxy.ask(ask(99)).status == 200, "99 fields, 2.3 KiB");
    let long = format!(
        "GET / HTTP/1.1\r\nHost: app.test\r\n{}\r\n",
        format!("X-A: {}\r\n", "a".repeat(500)).repeat(9)
    );
    assert_eq!(proxy.ask(long).said(), "431 head-too-large");
}

#[test]
fn a_body_beyond_the_limit_of_the_site_is_413() {
    let app = Backend::recording();
    let proxy = with_site(app.port, "[limit]\nbody = '1kb'\n").start();
    let with_length = |count: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {count}\r\n\r\n{}",
            "a".repeat(count)
        )
    };
    assert_eq!(proxy.ask(with_length(1024)).status, 200);
    app.forget();
    assert_eq!(proxy.ask(with_length(1025)).said(), "413 body-too-large");
    assert!(
        app.requests().is_empty(),
        "a length that is too large is refused before anything is forwarded"
    );
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("200\r\n{}\r\n", "a".repeat(512)).repeat(3)
    );
    assert_eq!(proxy.ask(chunked).said(), "413 body-too-large");
    assert!(app.requests().iter().all(|request| !request.complete));
    proxy.until_counted("body-too-large", 2);
}
