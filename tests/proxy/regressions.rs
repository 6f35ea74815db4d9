//! One test for each bug that was found by reading, named after what is right instead.

use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Plan, Proxy, until};

fn in_front_of(app: &Backend) -> Plan {
    Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", site(app, ""))
}

fn site(app: &Backend, more: &str) -> String {
    format!("host = 'app.test'\nto = {}\n{more}", app.port)
}

/// Sends bytes of an endless response until nobody takes them.
fn endless() -> Backend {
    Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conversation.try_send("1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn work_that_began_before_an_edit_still_ends_when_the_site_is_removed() {
    let app = endless();
    let drain = "drain = { remove = '100ms' }\n";
    let proxy = Proxy::plan()
        .site("app.toml", site(&app, drain))
        .site("other.toml", "host = 'other.test'\nrespond = 'x'\n")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    proxy.site("app.toml", site(&app, &format!("{drain}note = 'edited'\n")));
    proxy.sites().remove("app.toml");
    proxy.wait_gone("app.toml");
    until("the app is let go", || app.closed() == 1);
}

#[test]
fn work_that_began_before_an_edit_still_ends_when_its_client_is_shut_out() {
    let app = endless();
    let proxy = Proxy::plan()
        .site(
            "app.toml",
            site(&app, "[[path]]\nmatch = '/a'\n[[path]]\nmatch = '/b'\n"),
        )
        .start();
    let mut client = proxy.client();
    client.send("GET /b HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    // The place of /b among the paths is another one in each version.
    proxy.site("app.toml", site(&app, "[[path]]\nmatch = '/b'\n"));
    proxy.site(
        "app.toml",
        site(
            &app,
            "[[path]]\nmatch = '/a'\n[[path]]\nmatch = '/b'\nallow = ['10.0.0.0/8']\n",
        ),
    );
    until("the app is let go", || app.closed() == 1);
    proxy.until_counted("site-edited", 1);
}

#[test]
fn an_edit_asks_who_is_behind_a_trusted_proxy_and_not_the_proxy() {
    let app = endless();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxies = ['127.0.0.0/8']\n")
        .site("app.toml", site(&app, "allow = ['10.0.0.0/8']\n"))
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    proxy.site(
        "app.toml",
        site(&app, "allow = ['10.0.0.0/8']\nnote = 'edited'\n"),
    );
    client.bytes(60);
    proxy.site("app.toml", site(&app, "allow = ['127.0.0.0/8']\n"));
    until("the app is let go", || app.closed() == 1);
}

#[test]
fn an_upstream_closed_while_idle_is_noticed_also_after_many_pipelined_requests() {
    // tokio lets a task do some 128 things at once; then it says of everything that it is not ready.
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.answer("x");
    });
    let proxy = in_front_of(&app)
        .site("own.toml", "host = 'own.test'\nrespond = 'o'\n")
        .start();
    for count in 122..132 {
        let before = app.closed();
        assert_eq!(proxy.get("app.test", "/").text(), "x");
        until("the upstream is closed", || app.closed() > before);
        thread::sleep(Duration::from_millis(20));
        let mut client = proxy.client();
        let mut bytes = "GET / HTTP/1.1\r\nHost: own.test\r\n\r\n".repeat(count);
        bytes.push_str("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n");
        client.send(bytes);
        for _ in 0..count {
            assert_eq!(client.response().text(), "o");
        }
        assert_eq!(client.response().said(), "200", "behind {count}");
    }
}

#[test]
fn a_last_response_is_whole_although_the_client_had_sent_more() {
    let app = Backend::saying(&"x".repeat(3 << 20));
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    let mut more = client.stream().try_clone().unwrap();
    let sending = thread::spawn(move || {
        let more = std::io::Write::write_all(&mut more, &[b'y'; 300_000]);
        drop(more); // how much of it is still taken is not the question
    });
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.response().body.len(), 3 << 20);
    sending.join().unwrap();
}

#[test]
fn an_edit_does_not_end_the_head_of_a_pipelined_request() {
    let app = Backend::saying("x");
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\nGET / HTTP/1.1\r\nHost: ap");
    assert_eq!(client.response().text(), "x");
    proxy.site("app.toml", site(&app, "allow = ['10.0.0.0/8']\n"));
    client.send("p.test\r\n\r\n");
    assert_eq!(client.response().said(), "403 not-allowed");
}

#[test]
fn a_request_is_not_sent_again_once_an_interim_response_has_come() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.answer("x");
        if conversation.request().is_some() {
            conversation.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        }
    });
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-failed");
    assert_eq!(app.requests().len(), 2);
}

#[test]
fn large_interim_responses_leave_room_for_the_final_one() {
    let hints = format!(
        "HTTP/1.1 103 Early Hints\r\n{}\r\n",
        format!("Link: </{}>\r\n", "x".repeat(990)).repeat(29)
    );
    let app = Backend::raw(format!(
        "{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        hints.repeat(5)
    ));
    let proxy = in_front_of(&app).start();
    let response = proxy.get("app.test", "/");
    assert_eq!(
        (response.text().as_str(), response.interim.len()),
        ("ok", 5)
    );
}

#[test]
fn an_upstream_that_was_shown_negotiate_belongs_to_its_client() {
    // Kerberos needs no 401 before it: the first request may authenticate the connection.
    let app = Backend::doing(|conversation| {
        while conversation.request().is_some() {
            conversation.answer(conversation.number().to_string());
        }
    });
    let proxy = in_front_of(&app).start();
    let mut one = proxy.client();
    one.send("GET / HTTP/1.1\r\nHost: app.test\r\nAuthorization: Negotiate YII=\r\n\r\n");
    let upstream = one.response().text();
    assert_ne!(proxy.get("app.test", "/").text(), upstream);
    assert_eq!(one.get("app.test", "/").text(), upstream);
}

#[test]
fn a_client_that_waits_for_100_is_not_a_slow_one() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        thread::sleep(Duration::from_millis(6500));
        conversation.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conversation.bytes(5);
        conversation.answer(body);
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.bytes(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    thread::sleep(Duration::from_millis(500));
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn the_time_of_a_slow_head_is_not_counted_against_its_body() {
    let app = Backend::echoing();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\n");
    thread::sleep(Duration::from_millis(5500));
    client.send("Content-Length: 5\r\n\r\n");
    thread::sleep(Duration::from_millis(800));
    client.send("hello");
    assert_eq!(client.response().said(), "200");
}

#[test]
fn a_site_s_own_edits_replace_the_default_ones() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file(
            "[defaults.headers.request]\nset = { X-One = 'd', X-Two = 'd', X-Four = 'd' }\nadd = { X-Three = 'd' }\n",
        )
        .site(
            "app.toml",
            site(
                &app,
                "[headers.request]\nset = { x-one = 's', X-Three = 's' }\nremove = ['x-two']\nadd = { X-Four = 's' }\n",
            ),
        )
        .start();
    proxy.get("app.test", "/");
    let request = app.only_request();
    assert_eq!(request.values("x-one"), ["s"]);
    assert!(!request.has("x-two"));
    assert_eq!(request.values("x-three"), ["s"]);
    assert_eq!(request.values("x-four"), ["d", "s"]);
}

#[test]
fn edits_of_our_own_answers_leave_no_field_twice() {
    let proxy = Proxy::plan()
        .site(
            "app.toml",
            "host = 'app.test'\nrespond = 'x'\n[headers.response]\nset = { Content-Type = 'text/html', date = 'today' }\n",
        )
        .site(
            "away.toml",
            "host = 'away.test'\nredirect = 'https://there.test'\n[headers.response]\nset = { Location = '/here' }\nremove = ['date']\n",
        )
        .start();
    let response = proxy.get("app.test", "/");
    assert_eq!(response.value("content-type"), "text/html");
    assert_eq!(response.value("date"), "today");
    let response = proxy.get("away.test", "/");
    assert_eq!(response.value("location"), "/here");
    assert!(!response.has("date"), "{}", response.head);
}

#[test]
fn edits_hold_for_what_we_write_ourselves() {
    let app = Backend::doing(|conversation| {
        while let Some((_, head)) = conversation.request_head() {
            let body = conversation.bytes(5);
            assert_eq!(body, b"hello");
            conversation.answer(head.values("expect").concat());
        }
    });
    let proxy = in_front_of(&app)
        .site(
            "app.toml",
            site(
                &app,
                "[headers]\nrequest.remove = ['expect']\nresponse.set = { Date = 'today' }\n",
            ),
        )
        .start();
    let response = proxy.ask(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    );
    assert_eq!(response.text(), "");
    assert_eq!(response.value("date"), "today");
}

#[test]
fn a_204_has_no_length_and_is_not_trusted_with_one() {
    let app = Backend::raw_and_open("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    let proxy = in_front_of(&app).start();
    for _ in 0..2 {
        let mut client = proxy.client();
        client.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let response = client.response_to_head();
        assert_eq!(response.status, 204);
        assert!(!response.has("content-length"), "{}", response.head);
    }
    assert_eq!(app.accepted(), 2);
}

#[test]
fn connection_cannot_name_what_a_trusted_proxy_says_away() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxies = ['127.0.0.0/8']\n")
        .site("app.toml", site(&app, ""))
        .start();
    proxy.ask(
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc\r\n\
         Connection: x-forwarded-proto, x-request-id\r\n\r\n",
    );
    let request = app.only_request();
    assert_eq!(request.value("x-forwarded-proto"), "https");
    assert_eq!(request.value("x-request-id"), "abc");
}

#[test]
fn asking_for_everything_is_asking_for_the_root() {
    let app = Backend::saying("x");
    let path = "[[path]]\nmatch = '/'\nallow = ['10.0.0.0/8']\n";
    let proxy = Proxy::plan().site("app.toml", site(&app, path)).start();
    let ask = |target: &str| {
        proxy.ask(format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"
        ))
    };
    assert_eq!(ask("/").said(), "403 not-allowed");
    assert_eq!(ask("*").said(), "403 not-allowed");
    proxy.site(
        "app.toml",
        site(&app, "[[path]]\nmatch = '/'\nstrip = true\n"),
    );
    assert_eq!(ask("*").said(), "200");
    assert!(app.requests()[0].head.starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn what_refuses_a_head_request_has_no_body() {
    let app = Backend::saying("x");
    let many: String = (0..17).map(|n| format!("X-{n},")).collect();
    for (head, said) in [
        (
            "HEAD https://app.test/ HTTP/1.1\r\nHost: app.test\r\n".to_owned(),
            400,
        ),
        ("HEAD / HTTP/1.0\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n".to_owned(), 400),
        (
            format!("HEAD / HTTP/1.1\r\nHost: app.test\r\nConnection: {many}x\r\n"),
            400,
        ),
    ] {
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        client.send(format!("{head}\r\n"));
        assert_eq!(client.response_to_head().status, said, "{head}");
        assert_eq!(client.rest(), b"", "{head}");
    }
}
