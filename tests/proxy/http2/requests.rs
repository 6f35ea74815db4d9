//! What a backend of HTTP/1.1 gets of a request of HTTP/2, and what the client gets back.

use super::{client_of, in_front_of, in_front_of_with, over_tls};
use crate::harness::http2::{Http2, block, request};
use crate::harness::{Backend, Client, Proxy, Tls};

#[test]
fn a_request_arrives_as_one_of_http_1_1() {
    let app = Backend::saying("hello");
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let head = request(
        "GET",
        "App.test:81",
        "/a?b",
        &[("accept", "*/*"), ("x-own", "1"), ("te", "trailers")],
    );
    let stream = client.ask(&head);
    let answer = client.whole(stream);
    assert_eq!((answer.status(), answer.text()), (200, "hello".to_owned()));
    let got = app.only_request();
    assert!(
        got.head.starts_with("GET /a?b HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.value("host"), "app.test:81");
    assert_eq!(got.value("x-own"), "1");
    assert_eq!(got.value("x-forwarded-for"), "127.0.0.1");
    assert_eq!(got.value("x-forwarded-proto"), "http");
    assert!(!got.has("te") && !got.has("content-length") && !got.has("transfer-encoding"));
    assert!(got.value("via").starts_with("2 "), "{}", got.head);
}

#[test]
fn many_requests_share_a_connection_and_their_answers_do_not_mix() {
    let app = Backend::echoing();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let asked: Vec<u32> = (0..90)
        .map(|number| client.ask(&request("GET", "app.test", &format!("/{number}"), &[])))
        .collect();
    for (number, stream) in asked.into_iter().enumerate() {
        let text = client.whole(stream).text();
        assert!(
            text.starts_with(&format!("GET /{number} HTTP/1.1\r\n")),
            "{text}"
        );
    }
}

#[test]
fn the_crumbs_of_a_cookie_are_one_field() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let crumbs = [
        ("cookie", "a=1"),
        ("x-own", "1"),
        ("cookie", "b=2"),
        ("cookie", "c=3"),
    ];
    let stream = client.ask(&request("GET", "app.test", "/", &crumbs));
    assert_eq!(client.whole(stream).status(), 200);
    assert_eq!(app.only_request().value("cookie"), "a=1; b=2; c=3");
}

#[test]
fn a_body_without_a_length_goes_on_in_chunks_with_its_trailers() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    client.data(stream, b"hello ");
    client.data(stream, b"world");
    let trailers = block(&[
        ("x-sum", "11"),
        ("content-length", "3"),
        ("x-forwarded-for", "9.9.9.9"),
    ]);
    client.frame(1, 5, stream, &trailers);
    assert_eq!(client.whole(stream).status(), 200);
    let got = app.only_request();
    assert_eq!(got.value("transfer-encoding"), "chunked");
    assert_eq!((&got.body[..], got.complete), (&b"hello world"[..], true));
    assert_eq!(got.trailers, "x-sum: 11\r\n");
}

#[test]
fn a_body_of_known_length_goes_on_with_it() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("PUT", "app.test", "/", &[("content-length", "5")]));
    client.data(stream, b"hel");
    client.last_data(stream, b"lo");
    assert_eq!(client.whole(stream).status(), 200);
    let got = app.only_request();
    assert_eq!(
        (got.value("content-length"), got.body),
        ("5".to_owned(), b"hello".to_vec())
    );
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.answer(request.body);
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::over(proxy.client(), &[(4, 1 << 20)]);
    client.window(0, 4 << 20);
    // Before that a window is 64 KiB.
    client.settle();
    let body: Vec<u8> = (0..3u32 << 20).map(|n| (n % 251) as u8).collect();
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    // 256 KiB may be under way before a window is opened again.
    let mut sent = 0;
    for piece in body.chunks(16 << 10) {
        while sent + piece.len() as u64 > (256 << 10) + client.opened(stream) {
            client.read().unwrap();
        }
        client.data(stream, piece);
        sent += piece.len() as u64;
    }
    client.last_data(stream, b"");
    let answer = client.whole(stream);
    assert_eq!(answer.status(), 200);
    assert!(
        answer.body == body,
        "{} of {} bytes",
        answer.body.len(),
        body.len()
    );
}

#[test]
fn head_204_and_304_have_no_body() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            });
        }
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    for (method, path, status, length) in [
        ("HEAD", "/", 200, "9"),
        ("GET", "/204", 204, ""),
        ("GET", "/304", 304, "9"),
    ] {
        let stream = client.ask(&request(method, "app.test", path, &[]));
        let answer = client.whole(stream);
        assert_eq!(
            (answer.status(), &answer.value("content-length")[..]),
            (status, length)
        );
        assert!(answer.has_ended && answer.body.is_empty() && answer.reset.is_none());
    }
}

#[test]
fn what_comes_before_the_final_response_is_passed_on() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        conversation.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conversation.bytes(2);
        conversation.answer(body);
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let more = [("expect", "100-continue"), ("content-length", "2")];
    let stream = client.begin(&request("POST", "app.test", "/", &more));
    client.until(stream, |seen| seen.interim == [103, 100]);
    client.last_data(stream, b"hi");
    assert_eq!(client.whole(stream).text(), "hi");
}

#[test]
fn trailers_of_a_response_come_as_trailers() {
    let app = Backend::raw_and_open(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\nContent-Length: 7\r\n\r\n",
    );
    let proxy = in_front_of(&app).start();
    let answer = Http2::to(&proxy).get("app.test", "/");
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "5".to_owned())]);
    for name in ["transfer-encoding", "connection", "x-hop"] {
        assert_eq!(answer.value(name), "", "{name}");
    }
}

/// CASES: never as if it were complete.
#[test]
fn a_response_that_breaks_off_resets_its_stream_alone() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/short" => {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal");
                    return conversation.cut();
                }
                "/bad" => conversation.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
                ),
                _ => conversation.answer("fine"),
            }
        }
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    for path in ["/short", "/bad"] {
        let answer = client.get("app.test", path);
        // What is found out before anything was passed on can still be said.
        let is_said = path == "/bad" && answer.status() == 502;
        assert!(
            is_said || (answer.reset, answer.has_ended) == (Some(2), false),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(client.get("app.test", "/").text(), "fine");
}

#[test]
fn our_own_answers_are_those_of_http_1() {
    let app = Backend::recording();
    let port = app.port;
    let proxy = Proxy::plan()
        .site(
            "app.toml",
            format!("host = 'app.test'\nto = {port}\nallow = '10.0.0.0/8'"),
        )
        .site(
            "old.toml",
            "host = 'old.test'\nredirect = 'https://new.test'",
        )
        .site("word.toml", "host = 'word.test'\nrespond = 'a word'")
        .site("gone.toml", "host = 'gone.test'\nto = 1")
        .start();
    let mut client = Http2::to(&proxy);
    for (host, status, reason) in [
        ("app.test", 403, "not-allowed"),
        ("old.test", 308, ""),
        ("word.test", 200, ""),
        ("nobody.test", 421, "no-site-for-host"),
        ("gone.test", 502, "backend-refused"),
    ] {
        let (ours, theirs) = (client.get(host, "/x"), proxy.get(host, "/x"));
        assert_eq!(ours.status(), status, "{host}");
        assert_eq!(ours.value("onedoor-reason"), reason, "{host}");
        assert_eq!(theirs.status, status, "{host}");
        assert_eq!(ours.text(), theirs.text(), "{host}");
        assert_eq!(ours.value("connection"), "", "{host}");
    }
    let stream = client.ask(&request("HEAD", "nobody.test", "/", &[]));
    let answer = client.whole(stream);
    assert_eq!((answer.status(), answer.body.len()), (421, 0));
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn trace_and_connect_are_not_served() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.ask(&request("TRACE", "app.test", "/", &[]));
    assert_eq!(client.whole(stream).status(), 405);
    let stream = client.begin(&block(&[
        (":method", "CONNECT"),
        (":authority", "app.test:80"),
    ]));
    assert_eq!(client.whole(stream).status(), 405);
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn a_body_over_the_limit_of_its_site_is_413() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of_with(&app, "[limit]\nbody = '1kb'"));
    let stream = client.begin(&request(
        "POST",
        "app.test",
        "/",
        &[("content-length", "2000")],
    ));
    assert_eq!(client.whole(stream).status(), 413);
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    client.data(stream, &[b'x'; 2000]);
    assert_eq!(client.whole(stream).status(), 413);
}

#[test]
fn requests_at_once_count_against_the_connections_of_a_site() {
    let app = Backend::silent();
    let (_proxy, mut client) = client_of(in_front_of_with(&app, "[limit]\nconnections = 3"));
    let asked: Vec<u32> = (0..4)
        .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    let refused = client.whole(asked[3]);
    assert_eq!(
        (refused.status(), refused.value("onedoor-reason")),
        (503, "site-full".to_owned())
    );
}

/// RFC 9113 9.1.1; CASES H-29.
#[test]
fn over_tls_a_connection_serves_the_names_of_its_certificate_and_sends_others_away() {
    let app = Backend::saying("app");
    let (plan, authority) = over_tls(&app);
    let three = authority.pair(&["three.test"]);
    three.write(plan.sites().path(), "three");
    let text = "host = 'three.test'\nto = 1\n[tls]\ncert = 'three.pem'\nkey = 'three.key'";
    let proxy = plan.site("three.toml", text).start();
    let line = Tls::to("one.test")
        .trusting(&authority.pem)
        .alpn(&["h2", "http/1.1"])
        .shake(proxy.address())
        .unwrap();
    let mut client = Http2::over(Client::over(line), &[]);
    let ask = |client: &mut Http2, host: &str| {
        let pseudo = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/"),
        ];
        let stream = client.ask(&block(&pseudo));
        client.whole(stream)
    };
    assert_eq!(ask(&mut client, "one.test").text(), "app");
    assert_eq!(ask(&mut client, "two.test").text(), "app");
    let refused = ask(&mut client, "three.test");
    assert_eq!(refused.status(), 421);
    assert_eq!(refused.value("onedoor-reason"), "wrong-tls-connection");
    assert_eq!(ask(&mut client, "one.test").text(), "app");
    assert_eq!(app.requests()[0].value("x-forwarded-proto"), "https");
}

#[test]
fn a_site_may_do_without_http_2() {
    let app = Backend::saying("app");
    let port = app.port;
    let text = format!("host = 'app.localhost'\nto = {port}\n[tls]\nmode = 'local'\nhttp2 = false");
    let proxy = Proxy::plan().site("app.toml", text).start();
    let line = Tls::to("app.localhost")
        .alpn(&["h2", "http/1.1"])
        .shake(proxy.address())
        .unwrap();
    assert_eq!(line.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// The preface and nothing else, in any pieces (CASES T-25, H-30).
#[test]
fn the_preface_may_come_byte_by_byte() {
    let app = Backend::saying("app");
    let proxy = in_front_of(&app).start();
    let mut client = Http2::silent(proxy.client());
    for byte in crate::harness::http2::PREFACE {
        client.send([*byte]);
    }
    client.frame(4, 0, 0, &[]);
    assert_eq!(client.get("app.test", "/").text(), "app");
    for text in [
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    ] {
        let answer = proxy.ask(format!("{text}GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        assert_ne!(answer.status, 0, "{text}");
    }
}

/// NTLM and Negotiate authenticate connections, and this one carries many requests at once (RFC 9113 7).
#[test]
fn an_app_that_authenticates_connections_is_asked_in_http_1_1() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/basic" => conversation.send(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n",
                ),
                _ => conversation.send(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nContent-Length: 5\r\n\r\nlogin",
                ),
            }
        }
    });
    let (proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.ask(&request("GET", "app.test", "/", &[]));
    let answer = client.whole(stream);
    // HTTP_1_1_REQUIRED
    assert_eq!((answer.status(), answer.reset), (0, Some(13)));
    assert_eq!(client.get("app.test", "/basic").status(), 401);
    assert_eq!(proxy.counted("http1-required"), 1);
    let answer = proxy.get("app.test", "/");
    assert_eq!((answer.status, answer.text()), (401, "login".to_owned()));
}

/// As many as a head may have fields.
#[test]
fn trailers_are_limited_in_number() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    client.data(stream, b"hello");
    let names: Vec<String> = (0..150).map(|number| format!("x-{number}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "1")).collect();
    client.frame(1, 5, stream, &block(&fields));
    assert!(client.whole(stream).reset.is_some());
    assert_eq!(client.get("app.test", "/").status(), 200);
    let whole = app
        .requests()
        .into_iter()
        .filter(|request| request.complete);
    assert_eq!(whole.count(), 1);
}
