//! Each limit crossed once.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Plan, Proxy, until};

fn with_limits(daemon_file: &str, app: &Backend) -> Proxy {
    Proxy::plan()
        .daemon_file(daemon_file)
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start()
}

fn with_site(app: u16, more: &str) -> Plan {
    Proxy::plan().site("app.toml", format!("host = 'app.test'\nto = {app}\n{more}"))
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let app = Backend::recording();
    let proxy = with_limits("[timeout]\nopening = '300ms'\n", &app);
    let begun = Instant::now();
    proxy.client().expect_close();
    assert!(
        begun.elapsed() >= Duration::from_millis(250),
        "closed after {:?}",
        begun.elapsed()
    );
    proxy.until_counted("opening-timeout", 1);
}

#[test]
fn half_a_tls_hello_is_closed_by_the_same_time() {
    let app = Backend::recording();
    let proxy = with_limits("[timeout]\nopening = '300ms'\n", &app);
    let mut client = proxy.client();
    client.send([0x16]);
    client.rest();
}

#[test]
fn a_head_that_drips_gets_a_408_by_one_deadline_for_all_of_it() {
    let app = Backend::recording();
    let proxy = with_limits("[timeout]\nhead = '500ms'\n", &app);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n");
    let begun = Instant::now();
    let mut sender = client.stream().try_clone().unwrap();
    let dripping = thread::spawn(move || {
        // Each byte comes well within the time; all of them do not.
        while std::io::Write::write_all(&mut sender, b"X: y\r\n").is_ok()
            && begun.elapsed() < Duration::from_secs(20)
        {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(client.response().said(), "408 head-timeout");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "after {:?}",
        begun.elapsed()
    );
    client.rest();
    drop(client);
    dripping.join().unwrap();
    assert!(app.requests().is_empty());
    proxy.until_counted("head-timeout", 1);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let app = Backend::saying("x");
    let proxy = with_limits("[timeout]\nidle = '300ms'\n", &app);
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/").text(), "x");
    client.expect_close();
    proxy.until_counted("idle-timeout", 1);
}

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

#[test]
fn an_app_that_does_not_answer_in_time_is_504() {
    let app = Backend::silent();
    let proxy = with_site(app.port, "[timeout]\nfirst_byte = '300ms'\n").start();
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    until("the upstream is let go", || app.closed() == 1);
    proxy.until_counted("backend-timeout", 1);
}

#[test]
fn an_app_that_does_not_accept_in_time_is_504() {
    // A listener with a full queue: nobody accepts, and the kernel drops further openings.
    let listener = full_listener();
    let port = listener.0.local_addr().unwrap().port();
    let proxy = with_site(port, "[timeout]\nconnect = '300ms'\nfirst_byte = '300ms'\n").start();
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
}

fn full_listener() -> (TcpListener, Vec<socket2::Socket>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap().into();
    let waiting = (0..8)
        .map(|_| {
            let client =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            // In progress, and will stay so.
            drop(client.connect(&address));
            client
        })
        .collect();
    (listener, waiting)
}

#[test]
fn a_response_that_stops_in_the_middle_is_cut() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        conversation.rest();
    });
    let proxy = with_site(app.port, "[timeout]\nidle = '300ms'\n").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let cut = client.try_response("GET").unwrap_err();
    assert_eq!(cut.so_far.body, b"hello", "{}", cut.error);
    until("the upstream is let go", || app.closed() == 1);
    proxy.until_counted("response-timeout", 1);
}

#[test]
fn a_request_body_that_stops_in_the_middle_is_408() {
    let app = Backend::recording();
    let proxy = with_site(app.port, "[timeout]\nidle = '300ms'\n").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().said(), "408 body-timeout");
    client.expect_close();
    assert!(app.requests().iter().all(|request| !request.complete));
    proxy.until_counted("body-timeout", 1);
}

#[test]
fn a_body_of_a_byte_now_and_then_is_cut_by_its_rate() {
    // Each byte is within the idle time, all of them are far below 240 bytes a second after the first 5 seconds.
    let app = Backend::recording();
    let proxy = with_site(app.port, "").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000\r\n\r\n");
    let begun = Instant::now();
    let mut sender = client.stream().try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while std::io::Write::write_all(&mut sender, b"a").is_ok()
            && begun.elapsed() < Duration::from_secs(25)
        {
            thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(client.response().said(), "408 body-timeout");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "after {:?}",
        begun.elapsed()
    );
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn a_request_that_takes_longer_than_all_of_it_may_is_ended() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conversation.try_send("1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let proxy = with_site(app.port, "[timeout]\ntotal = '500ms'\n").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let cut = client.try_response("GET").unwrap_err();
    assert_eq!(cut.so_far.status, 200, "{}", cut.error);
    assert!(!cut.so_far.body.is_empty());
    proxy.until_counted("total-timeout", 1);
}

#[test]
fn no_more_connections_are_served_than_the_limit_says() {
    let app = Backend::saying("x");
    let proxy = with_limits(
        "[limit]\nconnections = 4\nper_client = 4\n[timeout]\nidle = '20s'\n",
        &app,
    );
    let mut open: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
    // The fifth is refused, or waits until one of the four goes; it is not served beside them.
    let mut fifth = proxy.client();
    fifth
        .stream()
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    drop(fifth.try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    let answer = fifth.try_response("GET");
    assert!(answer.is_err() || answer.unwrap().status == 503);
    drop((fifth, open));
    until("there is room again", || {
        let mut client = proxy.client();
        client
            .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .is_ok()
            && client
                .try_response("GET")
                .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn one_address_does_not_get_all_connections_but_this_machine_may() {
    // Loopback is exempt, so the limit must not show here.
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nconnections = 50\nper_client = 2\n", &app);
    let mut open: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
}

#[test]
fn few_descriptors_lower_the_number_of_connections_and_it_says_so() {
    if !crate::harness::found("prlimit") {
        return;
    }
    let app = Backend::saying("x");
    let proxy = Proxy::plan()
        .under(["prlimit", "--nofile=64:64"])
        .daemon_file("[limit]\nconnections = 1000\n")
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    proxy.until_logged("descriptors");
    // More than fit: the door must neither stop nor spin, and serve again when there is room.
    let open: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    drop(open);
    until("it serves again", || {
        let mut client = proxy.client();
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        client
            .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .is_ok()
            && client
                .try_response("GET")
                .is_ok_and(|response| response.status == 200)
    });
}
