//! Backends that refuse, are slow, close half-way, say nonsense, are gone and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Backend, Cut, Plan, Proxy, Response, until};

fn in_front_of(app: &Backend) -> Plan {
    Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
}

/// Whatever its Keep-Alive has said.
#[test]
fn an_idle_upstream_that_its_app_has_closed_is_let_go() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation
            .send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=86400\r\nContent-Length: 2\r\n\r\nok");
        // Read and closed only when the response has been passed on.
        conversation.request();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/").text(), "ok");
    let held = proxy.sockets();
    drop(app);
    until("the upstream is let go", || proxy.sockets() < held);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response().said(), "502 backend-refused");
}

/// What a client gets for a backend that answers with exactly these bytes and closes.
fn answer_to(bytes: &str) -> Result<Response, Cut> {
    let app = Backend::raw(bytes);
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    client.try_response("GET")
}

#[track_caller]
fn assert_malformed(bytes: &str) {
    match answer_to(bytes) {
        Ok(answer) => assert_eq!(answer.said(), "502 backend-malformed", "{bytes:?}"),
        Err(cut) => panic!("{bytes:?}: cut instead of 502: {cut:?}"),
    }
}

/// The client must see that the response is not whole: cut, or refused before its head was passed on.
#[track_caller]
fn assert_cut(bytes: &str) {
    if let Ok(answer) = answer_to(bytes) {
        assert_eq!(
            answer.status, 502,
            "{bytes:?} was taken for whole: {answer:?}"
        );
    }
}

#[test]
fn nobody_there_is_502() {
    let app = Backend::saying("x");
    let port = app.port;
    drop(app);
    let proxy = Proxy::plan()
        .site("app.toml", format!("host = 'app.test'\nto = {port}"))
        .start();
    let mut client = proxy.client();
    let answer = client.get("app.test", "/");
    assert_eq!(answer.said(), "502 backend-refused");
    assert!(
        !answer.has("connection"),
        "the client is not to blame and stays connected"
    );
    assert_eq!(client.get("app.test", "/").said(), "502 backend-refused");
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    let app = Backend::saying("before");
    let port = app.port;
    let proxy = Proxy::plan()
        .site("app.toml", format!("host = 'app.test'\nto = {port}"))
        .start();
    assert_eq!(proxy.get("app.test", "/").text(), "before");
    drop(app);
    assert_eq!(proxy.get("app.test", "/").status, 502);
    let _app = Backend::saying_on_port(port, "after");
    proxy.until_answer("app.test", "the backend that came back", |answer| {
        answer.text() == "after"
    });
}

#[test]
fn a_connect_that_fails_is_tried_at_the_next_backend() {
    let (gone, there) = (Backend::saying("gone"), Backend::saying("there"));
    let text = format!("host = 'app.test'\nto = [{}, {}]", gone.port, there.port);
    drop(gone);
    let proxy = Proxy::plan().site("app.toml", text).start();
    for _ in 0..4 {
        let answer = proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(
            answer.text(),
            "there",
            "nothing was sent, so any method may be"
        );
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_failure_of_its_site_alone() {
    let app = Backend::saying("x");
    let proxy = Proxy::plan()
        .site(
            "lost.toml",
            "host = 'lost.test'\nto = 'no-such-host.invalid:80'",
        )
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    assert_eq!(proxy.get("lost.test", "/").said(), "502 backend-unresolved");
    assert_eq!(proxy.get("app.test", "/").text(), "x");
}

/// CASES D-29. So does inet_aton read it, and with it getaddrinfo: 169.254.169.254.
#[test]
fn a_name_that_leads_to_a_link_local_address_is_fenced_like_the_address() {
    let proxy = Proxy::plan()
        .site(
            "meta.toml",
            "host = 'meta.localhost'\nto = '0xa9fea9fe:80'\n",
        )
        .start();
    let answer = proxy.get("meta.localhost", "/");
    assert_eq!(answer.said(), "502 backend-unresolved");
    assert!(
        answer.text().contains("allow_link_local"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_socket_file_without_anybody_behind_is_502() {
    let plan = Proxy::plan();
    let socket = plan.folder().join("app.sock");
    let site = format!(
        "host = 'app.localhost'\nto = 'unix:{}'\nhold = 'off'\n",
        socket.display()
    );
    let proxy = plan.site("app.toml", site).start();
    let told = || {
        let answer = proxy.get("app.localhost", "/");
        assert_eq!(answer.said(), "502 backend-refused");
        answer.text().to_string()
    };
    assert!(told().contains("there is no such file"), "{}", told());
    // What an app leaves behind that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(told().contains("nobody listens behind it"), "{}", told());
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    assert!(told().contains("is no socket"), "{}", told());
    std::fs::remove_file(&socket).unwrap();
    let _app = Backend::saying_on_socket(&socket, "there");
    assert_eq!(proxy.get("app.localhost", "/").text(), "there");
}

#[test]
fn a_close_before_the_answer_is_502() {
    let app = Backend::closing();
    let proxy = in_front_of(&app).start();
    let answer = proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.said(), "502 backend-failed");
    assert_eq!(
        app.requests().len(),
        1,
        "a POST that was sent is not sent again"
    );
}

#[test]
fn a_reset_before_the_answer_is_502() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.reset();
    });
    let proxy = in_front_of(&app).start();
    let answer = proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.said(), "502 backend-failed");
}

#[test]
fn length_and_chunked_together_are_read_as_chunked_and_the_upstream_is_not_used_again() {
    let app = Backend::raw_and_open(
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let proxy = in_front_of(&app).start();
    for _ in 0..2 {
        let answer = proxy.get("app.test", "/");
        assert_eq!(answer.text(), "ok");
        assert!(
            !(answer.has("content-length") && answer.has("transfer-encoding")),
            "{}",
            answer.head
        );
    }
    assert_eq!(app.accepted(), 2);
}

#[test]
fn a_length_that_is_no_number_is_502() {
    for length in ["-1", "+2", "2,3", "0x2", "2 2", "", "99999999999999999999"] {
        assert_malformed(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok"
        ));
    }
    assert_malformed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok");
}

#[test]
fn a_coding_that_does_not_end_in_chunked_is_read_until_the_close() {
    let answer = answer_to("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nbytes").unwrap();
    assert!(
        answer.status == 502 || answer.text() == "bytes",
        "{answer:?}"
    );
}

#[test]
fn a_malformed_chunk_cuts_the_response() {
    for chunks in [
        "zz\r\nok\r\n0\r\n\r\n",
        "2\r\nokX\r\n0\r\n\r\n",
        "5\r\nok",
        "2\nok\n0\n\n",
        "-1\r\n",
    ] {
        assert_cut(&format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n{chunks}"
        ));
    }
}

#[test]
fn a_close_before_the_length_is_reached_cuts_the_response() {
    assert_cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
}

#[test]
fn a_reset_in_the_middle_cuts_the_response() {
    for head in [
        "Content-Length: 10",
        "Transfer-Encoding: chunked",
        "Connection: close",
    ] {
        let app = Backend::doing(move |conversation| {
            conversation.request_head();
            conversation.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            conversation.send("5\r\nhello\r\n");
            // The test has the first bytes before the reset overtakes them.
            conversation.bytes(1);
            conversation.reset();
        });
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.response_head().status, 200, "{head}");
        client.bytes(1);
        client.send("1\r\nx\r\n");
        let rest = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{head}: never completed");
    }
}

#[test]
fn a_body_where_none_may_be_does_not_become_the_next_answer() {
    for (request, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
    ] {
        let app = Backend::raw_and_open(response);
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        for turn in 0..3 {
            client.send(format!("{request} / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            let answer = if response.contains("\r\n\r\nok") {
                client.response()
            } else {
                client.response_to_head()
            };
            assert!(
                response.starts_with(&format!("HTTP/1.1 {}", answer.status)),
                "{turn}: {response}"
            );
            assert!(!answer.text().contains("evil"));
        }
        assert_eq!(
            app.accepted(),
            3,
            "such an upstream is never used again: {response}"
        );
    }
}

#[test]
fn an_upstream_that_speaks_before_it_is_asked_is_dropped() {
    let said = Arc::new(AtomicUsize::new(0));
    let app = Backend::doing({
        let said = Arc::clone(&said);
        move |conversation| {
            conversation.request();
            conversation.answer("first");
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            said.fetch_add(1, Ordering::SeqCst);
            while conversation.request().is_some() {
                conversation.answer("again");
            }
        }
    });
    let proxy = in_front_of(&app).start();
    for count in 1..=3 {
        assert_eq!(proxy.get("app.test", "/").text(), "first");
        // What comes behind the next request would be its answer, for all that anybody can tell.
        until("it has spoken", || said.load(Ordering::SeqCst) == count);
    }
}

#[test]
fn what_is_wrong_with_a_head_is_said_with_its_line_and_without_its_value() {
    let large = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(130));
    for (head, said) in [
        (
            &*large,
            "sent a head of more than 32kb; [limit] head of onedoor.toml allows more, up to 60kb",
        ),
        (&*many, "sent more than 128 header fields"),
        (
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
            "sent a head that is not HTTP: the version is neither HTTP/1.0 nor HTTP/1.1",
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\nSet Cookie: secret\r\n\r\n",
            "sent a head that is not HTTP: a header name has a character it must not have, in line 3: \"Set Cookie\"",
        ),
    ] {
        let app = Backend::raw(head);
        let proxy = in_front_of(&app).start();
        let answer = proxy.get("app.test", "/");
        assert_eq!(answer.said(), "502 backend-malformed");
        proxy.until_logged(&format!("localhost:{} {said}", app.port));
        assert!(!proxy.log().contains("secret"), "{}", proxy.log());
        let is_too_large = answer
            .text()
            .contains("sent a head that is larger than it may be here");
        assert_eq!(
            is_too_large,
            !said.contains("not HTTP"),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn endless_interim_responses_are_502() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        for _ in 0..1000 {
            if conversation
                .try_send("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n")
                .is_err()
            {
                return;
            }
        }
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let answer = proxy.get("app.test", "/");
    assert_eq!(answer.said(), "502 backend-malformed");
    assert!(answer.interim.len() <= 10, "{}", answer.interim.len());
}

#[test]
fn a_200_to_an_upgrade_is_a_plain_answer() {
    let app = Backend::raw_and_open("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.get("app.test", "/").text(), "ok");
}

#[test]
fn status_lines_that_are_none_are_502() {
    for line in [
        "HTTP/1.1 99 X",
        "HTTP/1.1 1000 X",
        "HTTP/1.1 2x0 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1",
        "hello",
        "HTTP/1.1  200 OK",
    ] {
        assert_malformed(&format!("{line}\r\nContent-Length: 2\r\n\r\nok"));
    }
}

#[test]
fn a_status_line_without_a_reason_is_fine() {
    for line in ["HTTP/1.1 200 ", "HTTP/1.1 200"] {
        let answer = answer_to(&format!("{line}\r\nContent-Length: 2\r\n\r\nok")).unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ok"),
            "{line:?}"
        );
    }
}

#[test]
fn control_bytes_in_a_response_head_are_502() {
    for value in ["a\0b", "a\rb", "a\u{1}b", "a\u{7f}b"] {
        assert_malformed(&format!(
            "HTTP/1.1 200 OK\r\nX-A: {value}\r\nContent-Length: 2\r\n\r\nok"
        ));
    }
}

#[test]
fn a_folded_or_spaced_response_field_is_mended_or_502() {
    for field in ["X-A: a\r\n b", "X-A : a"] {
        let answer = answer_to(&format!(
            "HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nok"
        ))
        .unwrap();
        let mended =
            answer.status == 200 && !answer.head.contains("\r\n ") && !answer.head.contains(" :");
        assert!(
            mended || answer.said() == "502 backend-malformed",
            "{field:?}: {}",
            answer.head
        );
    }
}

#[test]
fn a_response_head_over_the_limit_is_502() {
    assert_malformed(&format!(
        "HTTP/1.1 200 OK\r\nX-A: {}\r\nContent-Length: 2\r\n\r\nok",
        "a".repeat(100_000)
    ));
    assert_malformed(&format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok",
        "X: y\r\n".repeat(1000)
    ));
}

#[test]
fn a_response_head_that_never_ends_is_504() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nX-A: b\r\n");
        conversation.rest();
    });
    let proxy = Proxy::plan()
        .site(
            "app.toml",
            format!(
                "host = 'app.test'\nto = {}\n[timeout]\nfirst_byte = '300ms'\nidle = '300ms'\n",
                app.port
            ),
        )
        .start();
    assert_eq!(proxy.get("app.test", "/").status, 504);
}

#[test]
fn an_answer_that_nobody_waits_for_is_given_to_nobody_else() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/slow" {
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n");
                conversation.send(vec![b's'; 1_000_000]);
                conversation.send(vec![b's'; 1_000_000]);
            } else {
                conversation.answer("fast");
            }
        }
    });
    let proxy = in_front_of(&app).start();
    for _ in 0..5 {
        let mut client = proxy.client();
        client.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.response_head();
        drop(client);
        assert_eq!(proxy.get("app.test", "/fast").text(), "fast");
    }
}

/// Answers the first request of its first connection, and closes that connection when the second is on its way.
fn closes_its_first_connection() -> (Backend, Arc<AtomicUsize>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let app = Backend::doing(move |conversation| {
        conversation.request();
        conversation.answer("ok");
        count.fetch_add(1, Ordering::SeqCst);
        if conversation.number() == 0 {
            // The request that comes now is read and dropped: bytes were sent, no answer came.
            conversation.request();
            return;
        }
        while conversation.request().is_some() {
            conversation.answer("ok");
        }
    });
    (app, answered)
}

#[test]
fn a_get_on_an_upstream_that_was_closed_meanwhile_is_sent_again() {
    let (app, _) = closes_its_first_connection();
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/1").text(), "ok");
    assert_eq!(proxy.get("app.test", "/2").text(), "ok");
    assert_eq!(
        app.requests()
            .iter()
            .filter(|request| request.target() == "/2")
            .count(),
        2
    );
}

#[test]
fn a_post_that_was_sent_on_such_an_upstream_is_not_sent_again() {
    let (app, _) = closes_its_first_connection();
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/1").text(), "ok");
    let answer = proxy.ask("POST /2 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.said(), "502 backend-failed");
    assert_eq!(
        app.requests()
            .iter()
            .filter(|request| request.target() == "/2")
            .count(),
        1
    );
}

#[test]
fn an_upstream_closed_while_idle_costs_nobody_anything() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.answer("ok");
        // Closed at once, without saying so before.
    });
    let proxy = in_front_of(&app).start();
    for number in 0..5 {
        let answer = proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(answer.text(), "ok", "{number}");
        until("the backend has closed", || app.closed() > number);
    }
}

#[test]
fn an_idle_upstream_is_let_go_after_its_time() {
    let app = Backend::saying("ok");
    let proxy = Proxy::plan()
        .site(
            "app.toml",
            format!(
                "host = 'app.test'\nto = {}\n[timeout]\npool_idle = '300ms'\n",
                app.port
            ),
        )
        .start();
    assert_eq!(proxy.get("app.test", "/").text(), "ok");
    until("the idle upstream is closed", || app.closed() == 1);
}

#[test]
fn one_site_s_dead_backend_does_not_slow_another_site() {
    let (silent, app) = (Backend::silent(), Backend::saying("ok"));
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "silent.toml",
            format!("host = 'silent.test'\nto = {}", silent.port),
        )
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    let mut waiting: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n");
    }
    silent.until_requests(50);
    assert_eq!(proxy.get("app.test", "/").text(), "ok");
}

#[test]
fn an_upstream_that_is_not_clear_about_a_body_is_not_used_again() {
    for (request, response) in [
        // RFC 9110 8.6, RFC 9112 6.1: neither may stand in a 1xx or 204.
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        // RFC 9112 6.3: both lengths at once, also where no body follows.
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        let app = Backend::raw_and_open(response);
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(format!("{request} / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            let answer = client.try_response(request).unwrap();
            assert!(answer.status < 400, "{response:?}: {answer:?}");
            assert!(
                !(answer.has("content-length")
                    && response.contains("chunked\r\n\r\n")
                    && answer.text().is_empty()),
                "{}",
                answer.head
            );
            for interim in &answer.interim {
                assert!(!interim.contains("Content-Length"), "{interim}");
                assert!(!interim.contains("Transfer-Encoding"), "{interim}");
            }
        }
        assert_eq!(app.accepted(), 2, "{response:?}");
    }
}

#[test]
fn a_body_behind_an_interim_response_is_502() {
    assert_malformed(
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
}

#[test]
fn fields_of_the_hop_that_cannot_be_told_from_others_are_502() {
    let names: Vec<String> = (0..17).map(|number| format!("X-{number}")).collect();
    assert_malformed(&format!(
        "HTTP/1.1 200 OK\r\nConnection: {}\r\nContent-Length: 2\r\n\r\nok",
        names.join(", ")
    ));
}

#[test]
fn a_coding_that_old_http_does_not_know_is_502() {
    assert_malformed("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
}

#[test]
fn codings_of_a_response_that_nobody_asked_for_are_502() {
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "identity",
        "",
        ",chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
    ] {
        assert_malformed(&format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ));
    }
}

#[test]
fn lines_of_a_response_that_others_would_end_elsewhere_are_502() {
    for head in [
        "HTTP/1.1 200 OK\nContent-Length: 2\n\n",
        "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n",
        "HTTP/1.1 +200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200\tOK\r\nContent-Length: 2\r\n\r\n",
        "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n",
        "ICY 200 OK\r\nContent-Length: 2\r\n\r\n",
    ] {
        assert_malformed(&format!("{head}ok"));
    }
}

#[test]
fn two_answers_in_one_piece_are_one_and_the_rest_is_nobodys() {
    let app = Backend::raw_and_open(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    );
    let proxy = in_front_of(&app).start();
    for _ in 0..3 {
        let mut client = proxy.client();
        assert_eq!(client.get("app.test", "/").text(), "ok");
        assert_eq!(client.get("app.test", "/").text(), "ok");
    }
    assert_eq!(app.accepted(), 6);
}
