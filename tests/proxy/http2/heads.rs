//! Heads that are none: nothing of them reaches a backend.

use super::{client_of, in_front_of};
use crate::harness::hpack::plain;
use crate::harness::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, block, request};
use crate::harness::{Backend, Proxy};

const PROTOCOL_ERROR: u32 = 1;

/// Sends the head on a connection of its own: 400, or a reset with PROTOCOL_ERROR, after which it goes on. A name that
/// cannot be one ends the connection with that code, which RFC 9113 5.4.2 allows.
#[track_caller]
fn is_malformed(proxy: &Proxy, what: &str, block: &[u8]) {
    let mut client = Http2::to(proxy);
    let stream = client.ask(block);
    while !client.so_far(stream).has_ended && client.so_far(stream).reset.is_none() {
        if client.read().is_err() {
            assert_eq!(
                client.goaways.last().map(|(_, code)| *code),
                Some(PROTOCOL_ERROR),
                "{what}"
            );
            return;
        }
    }
    let answer = client.so_far(stream);
    assert!(
        answer.status() == 400 || answer.reset == Some(PROTOCOL_ERROR),
        "{what}: {answer:?}"
    );
    assert_eq!(client.get("app.test", "/after").status(), 200, "{what}");
}

/// CASES H-09 to H-14, H-16.
#[test]
fn a_malformed_head_reaches_nobody_and_ends_its_stream_alone() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    let fields = |list: &[(&str, &str)]| block(list);
    let pseudo = |method, authority, path| {
        [
            (":method", method),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ]
    };
    let with = |name: &str, value: &str| request("GET", "app.test", "/", &[(name, value)]);
    let good = pseudo("GET", "app.test", "/");
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: &str, block: Vec<u8>| list.push((what.to_owned(), block));
    for (name, value) in [
        ("X-Upper", "1"),
        ("", "no name"),
        ("a:b", "1"),
        ("a b", "1"),
        ("x-a", "1\r\nX-Smuggled: 1"),
        ("x-a", "1\nb"),
        ("x-a", "a\0b"),
        ("x-a", " leading"),
        ("x-a", "trailing "),
        ("x-a", "\ttab"),
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("host", "other.test"),
        (":path", "/again"),
        (":unknown", "1"),
        (":status", "200"),
        ("content-length", "+0"),
        ("content-length", "0x0"),
        ("content-length", ""),
        ("content-length", "-1"),
        ("content-length", "99999999999999999999"),
    ] {
        add(&format!("{name:?}: {value:?}"), with(name, value));
    }
    for (what, list) in [
        ("no method", &good[1..]),
        ("no path", &good[..3]),
        ("no scheme", &[good[0], good[2], good[3]][..]),
    ] {
        add(what, fields(list));
    }
    for (what, list) in [
        ("an empty path", pseudo("GET", "app.test", "")),
        ("a path that is none", pseudo("GET", "app.test", "x")),
        ("an asterisk for GET", pseudo("GET", "app.test", "*")),
        ("a space in the path", pseudo("GET", "app.test", "/a b")),
        (
            "a line in the path",
            pseudo("GET", "app.test", "/ HTTP/1.1\r\nX: y"),
        ),
        ("8 bits in the path", pseudo("GET", "app.test", "/\u{e9}")),
        ("a space in the method", pseudo("GE T", "app.test", "/")),
        (
            "a line in the method",
            pseudo("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", "app.test", "/"),
        ),
        ("an empty method", pseudo("", "app.test", "/")),
        ("head", pseudo("head", "app.test", "/")),
        ("userinfo", pseudo("GET", "user@app.test", "/")),
        ("a port that is none", pseudo("GET", "app.test:x", "/")),
        ("a port too large", pseudo("GET", "app.test:99999", "/")),
        ("a list of names", pseudo("GET", "app.test,b.test", "/")),
        (
            "a line in the authority",
            pseudo("GET", "app.test\r\nX: y", "/"),
        ),
        ("an empty authority", pseudo("GET", "", "/")),
    ] {
        add(what, fields(&list));
    }
    for (what, scheme) in [
        ("a scheme that is none", "ht tp"),
        ("another scheme", "ftp"),
        ("the other scheme", "https"),
    ] {
        let mut list = good;
        list[1] = (":scheme", scheme);
        add(what, fields(&list));
    }
    add("no name at all", fields(&[good[0], good[1], good[3]]));
    add(
        "Host twice",
        request(
            "GET",
            "app.test",
            "/",
            &[("host", "app.test"), ("host", "app.test")],
        ),
    );
    add(
        "lengths that differ",
        request(
            "GET",
            "app.test",
            "/",
            &[("content-length", "0"), ("content-length", "1")],
        ),
    );
    add(
        "a pseudo-field behind a field",
        fields(&[good[0], good[1], ("x-a", "1"), good[2], good[3]]),
    );
    add(
        "an 8-bit name",
        [request("GET", "app.test", "/", &[]), plain("x\u{fc}", b"1")].concat(),
    );
    for (what, block) in &list {
        is_malformed(&proxy, what, block);
    }
    let seen: Vec<String> = app
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert!(seen.iter().all(|target| target == "/after"), "{seen:?}");
}

/// What the library takes: cut off behind the `#`, so that everybody behind us reads the same (CASES H-14).
#[test]
fn a_fragment_goes_no_further() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    client.get("app.test", "/a#b");
    for request in app.requests() {
        assert_eq!(request.target(), "/a");
    }
}

/// CASES H-15.
#[test]
fn a_body_that_differs_from_its_length_is_never_complete_for_the_backend() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    for (length, body) in [("5", &b"hell"[..]), ("5", b"hello!"), ("0", b"x")] {
        let mut client = Http2::to(&proxy);
        let head = request("POST", "app.test", "/", &[("content-length", length)]);
        let stream = client.begin(&head);
        client.last_data(stream, body);
        assert_eq!(client.whole(stream).reset, Some(PROTOCOL_ERROR), "{length}");
        assert_eq!(client.get("app.test", "/after").status(), 200);
    }
    // A length, and nothing at all.
    let mut client = Http2::to(&proxy);
    let head = request("POST", "app.test", "/", &[("content-length", "5")]);
    let stream = client.ask(&head);
    assert_eq!(client.whole(stream).reset, Some(PROTOCOL_ERROR));
    let whole = app
        .requests()
        .into_iter()
        .filter(|request| request.complete && request.target() == "/");
    assert_eq!(whole.count(), 0);
}

/// CASES H-18. Pseudo-fields in trailers are dropped by the library; they go no further.
#[test]
fn trailers_have_no_pseudo_fields_and_always_an_end() {
    let app = Backend::recording();
    let (proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    client.data(stream, b"x");
    let trailers = block(&[(":path", "/x"), ("x-a", "1")]);
    client.frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
    client.until(stream, |seen| seen.reset.is_some() || seen.has_ended);
    assert!(
        app.requests()
            .iter()
            .all(|request| matches!(&request.trailers[..], "" | "x-a: 1\r\n"))
    );
    app.forget();
    let mut client = Http2::to(&proxy);
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    client.data(stream, b"x");
    client.frame(HEADERS, END_HEADERS, stream, &block(&[("x-a", "1")]));
    let answer = client.until(stream, |seen| seen.reset.is_some() || seen.has_ended);
    assert_eq!(answer.reset, Some(PROTOCOL_ERROR));
    assert!(app.requests().iter().all(|request| !request.complete));
}

/// CASES H-04: what is small on the line and large afterwards; crumbs count.
#[test]
fn a_head_is_limited_by_its_decoded_size_and_the_number_of_its_fields() {
    let app = Backend::recording();
    let (proxy, mut client) = client_of(in_front_of(&app));
    // An entry of the table, and 1 byte for each time it is meant.
    let entry = [&[0x40][..], &plain("x-large", &[b'x'; 2000])[1..]].concat();
    let bomb = [
        request("GET", "app.test", "/", &[]),
        entry.clone(),
        vec![0x80 | 62; 40],
    ]
    .concat();
    let stream = client.ask(&bomb);
    assert_eq!(client.whole(stream).status(), 431);
    // The tables of both sides still agree.
    assert_eq!(client.get("app.test", "/after").status(), 200);
    let many: Vec<(String, &str)> = (0..101).map(|number| (format!("x-{number}"), "")).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (&name[..], *value))
        .collect();
    let stream = client.ask(&request("GET", "app.test", "/", &many));
    assert_eq!(client.whole(stream).status(), 431);
    for (crumbs, status) in [(200, 200), (201, 431)] {
        let crumbs = vec![("cookie", "a=1"); crumbs];
        let stream = client.ask(&request("GET", "app.test", "/crumbs", &crumbs));
        assert_eq!(client.whole(stream).status(), status);
    }
    let long = format!("/{}", "x".repeat(9000));
    let stream = client.ask(&request("GET", "app.test", &long, &[]));
    assert_eq!(client.whole(stream).status(), 414);
    // Far beyond what is advertised: somebody who does not listen.
    let mut client = Http2::to(&proxy);
    let bomb = [
        request("GET", "app.test", "/", &[]),
        entry,
        vec![0x80 | 62; 4000],
    ]
    .concat();
    client.ask(&bomb);
    assert_eq!(client.ended(), Some(11));
    assert_eq!(app.requests().len(), 2);
}

#[test]
fn the_limits_of_a_head_are_those_that_are_set() {
    let app = Backend::recording();
    let plan = in_front_of(&app).daemon_file("[limit]\ncrumbs = 3\nfields = 5\n");
    let proxy = plan.start();
    let mut client = Http2::to(&proxy);
    let stream = client.ask(&request("GET", "app.test", "/", &[("cookie", "a=1"); 4]));
    assert_eq!(client.whole(stream).status(), 431);
    let fields = [
        ("x-1", ""),
        ("x-2", ""),
        ("x-3", ""),
        ("x-4", ""),
        ("x-5", ""),
        ("x-6", ""),
    ];
    let stream = client.ask(&request("GET", "app.test", "/", &fields));
    assert_eq!(client.whole(stream).status(), 431);
    assert_eq!(client.get("app.test", "/").status(), 200);
}
