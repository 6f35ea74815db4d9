//! Limits on size: heads and bodies.

use super::{with_limits, with_site};
use crate::harness::{Backend, until};

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

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn chunks_that_are_mostly_framing_are_400() {
    let app = Backend::recording();
    let proxy = with_limits("[limit]\nframing = '1kb'\n", &app);
    let padded = format!("1;{}\r\nx\r\n", "a".repeat(60));
    let few = chunked(&format!("{}0\r\n\r\n", padded.repeat(10)));
    assert_eq!(proxy.ask(few).status, 200);
    app.forget();
    let many = chunked(&format!("{}0\r\n\r\n", padded.repeat(100)));
    assert_eq!(proxy.ask(many).said(), "400 malformed-body");
    let endless = chunked(&format!("1;{}", "a".repeat(3000)));
    assert_eq!(proxy.ask(endless).said(), "400 malformed-body");
    assert!(app.requests().iter().all(|request| !request.complete));
    proxy.until_counted("malformed-body", 2);
}

#[test]
fn small_chunks_alone_are_no_offence() {
    let app = Backend::recording();
    let proxy = with_limits("[limit]\nframing = '1kb'\n", &app);
    let events = chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000)));
    assert_eq!(proxy.ask(events).status, 200);
    assert_eq!(app.only_request().body.len(), 20_000);
}

#[test]
fn trailers_beyond_what_a_head_may_be_are_400() {
    let app = Backend::recording();
    let proxy = with_limits("[limit]\nhead = '1kb'\n", &app);
    let with_trailers = |count| {
        chunked(&format!(
            "1\r\nx\r\n0\r\n{}\r\n",
            "X-T: 0123456789\r\n".repeat(count)
        ))
    };
    assert_eq!(proxy.ask(with_trailers(20)).status, 200);
    app.forget();
    assert_eq!(proxy.ask(with_trailers(80)).said(), "400 malformed-body");
    assert!(app.requests().iter().all(|request| !request.complete));
}

#[test]
fn a_client_that_sends_too_much_after_the_last_answer_is_cut() {
    let app = Backend::recording();
    let proxy = with_limits("[timeout]\nlinger = '1h'\n[limit]\nlinger = '64kb'\n", &app);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().said(), "400 no-host");
    until("it is cut", || {
        client.try_send("a".repeat(4 << 10)).is_err()
    });
}
