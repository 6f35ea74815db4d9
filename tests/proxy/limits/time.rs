//! Limits on time: what is too slow, or never ends.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::{with_limits, with_site};
use crate::harness::{Backend, Client, Proxy, until};

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
fn a_head_that_can_no_longer_become_one_is_answered_when_that_comes() {
    let app = Backend::recording();
    let proxy = with_limits("[timeout]\nhead = '1h'\n", &app);
    for (good, bad) in [
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX-A", " : b\r\n"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\n", " folded"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX-A: b", "\0"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX-A: b", "\n"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX-A: b\r", "c"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX-A", "\r\n"),
        ("GET / HTTP/1.", "x"),
    ] {
        let mut client = proxy.client();
        client.send(good);
        // Read by itself, or together with what follows: both must be told.
        proxy.get("nobody.test", "/");
        client.send(bad);
        let answer = client.response();
        assert_eq!(answer.said(), "400 malformed-request", "{good:?} {bad:?}");
    }
    assert!(app.requests().is_empty());
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

/// And nothing is held against the app, which may accept in its own time.
#[test]
fn the_time_of_a_whole_request_holds_for_connecting_too() {
    let listener = full_listener();
    let port = listener.0.local_addr().unwrap().port();
    let proxy = with_site(port, "[timeout]\ntotal = '300ms'\nconnect = '10m'\n").start();
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    assert!(!proxy.log().contains("WARN"), "{}", proxy.log());
}

#[test]
fn who_does_not_accept_in_a_whole_second_is_out_also_where_a_request_has_no_more() {
    let listener = full_listener();
    let hole = listener.0.local_addr().unwrap().port();
    let app = Backend::saying("here");
    let site = format!(
        "host = 'app.test'\nto = [{hole}, {}]\n[timeout]\ntotal = '2s'\nconnect = '10m'\n",
        app.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    // Each that meets the hole waits for its second. The third is the last.
    for met in 1..=3 {
        assert!(!proxy.log().contains("backend out"), "before {met}");
        proxy.until_answer("app.test", "met the hole", |answer| answer.status == 504);
    }
    proxy.until_logged("backend out");
}

/// Nobody accepts there, and its queue is full.
pub(super) fn full_listener() -> (TcpListener, Vec<socket2::Socket>) {
    full_listener_at(([127, 0, 0, 1], 0).into())
}

pub(crate) fn full_listener_at(
    address: std::net::SocketAddr,
) -> (TcpListener, Vec<socket2::Socket>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
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
    // Each byte is well within the idle time, all of them are far below the rate once the grace is over.
    let app = Backend::recording();
    let proxy = with_site(
        app.port,
        "[timeout]\ngrace = '500ms'\n[limit]\nmin_rate = '1kb/s'\n",
    )
    .start();
    let mut client = proxy.client();
    let dripping = drip_a_body(&mut client, 100_000);
    assert_eq!(client.response().said(), "408 body-timeout");
    drop(client);
    dripping.join().unwrap();
    proxy.until_counted("body-timeout", 1);
}

#[test]
fn a_slow_body_is_taken_where_no_rate_is_asked_for() {
    let app = Backend::recording();
    let proxy = with_site(
        app.port,
        "[timeout]\ngrace = '100ms'\n[limit]\nmin_rate = 'off'\n",
    )
    .start();
    let mut client = proxy.client();
    let dripping = drip_a_body(&mut client, 20);
    assert_eq!(client.response().status, 200);
    dripping.join().unwrap();
}

#[test]
fn a_slow_body_is_taken_once_the_response_has_begun() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        assert_eq!(conversation.bytes(20).len(), 20);
        conversation.send("0\r\n\r\n");
    });
    let proxy = with_site(
        app.port,
        "[timeout]\ngrace = '1s'\n[limit]\nmin_rate = '1mb/s'\n",
    )
    .start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 20\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    for _ in 0..20 {
        client.send("a");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.rest(), b"1\r\nx\r\n0\r\n\r\n");
}

#[test]
fn nobody_is_judged_by_a_rate_after_an_upgrade() {
    let app = Backend::upgrading();
    let proxy = with_site(
        app.port,
        "[timeout]\nidle = '200ms'\ngrace = '100ms'\n[limit]\nmin_rate = '1mb/s'\n",
    )
    .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(client.response_head().status, 101);
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(300));
        client.send("a");
        assert_eq!(client.bytes(1), b"a");
    }
}

/// Sends a request whose body of this length comes byte by byte, 50 ms each.
fn drip_a_body(client: &mut Client, length: u32) -> thread::JoinHandle<()> {
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n"
    ));
    let mut sender = client.stream().try_clone().unwrap();
    thread::spawn(move || {
        for _ in 0..length.min(600) {
            if std::io::Write::write_all(&mut sender, b"a").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    })
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
fn a_client_that_sends_on_after_the_last_answer_is_cut_after_a_while() {
    let app = Backend::recording();
    let proxy = with_limits(
        "[timeout]\nlinger = '300ms'\n[limit]\nlinger = '1gb'\n",
        &app,
    );
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().said(), "400 no-host");
    let begun = Instant::now();
    until("it is cut", || client.try_send("more").is_err());
    assert!(begun.elapsed() >= Duration::from_millis(250));
}

/// Many times what the kernel takes for a client that does not read.
const LONG: usize = 32 << 20;

/// An app with a body that is [`LONG`], asked by a client that has read only the head.
fn long_response(proxy: &Proxy) -> Client {
    let mut client = Client::connect_with_small_buffer(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    client
}

#[test]
fn a_client_that_reads_a_little_now_and_then_is_cut_by_its_rate() {
    let app = Backend::saying(&"x".repeat(LONG));
    let proxy = with_site(
        app.port,
        "[timeout]\nidle = '2s'\ngrace = '500ms'\n[limit]\nmin_rate = '100mb/s'\n",
    )
    .start();
    let mut client = long_response(&proxy);
    // It goes on reading, so that something moves all the time; 32 MiB last for a minute.
    until("it is cut", || {
        thread::sleep(Duration::from_millis(20));
        client.bytes_if_open(16 << 10).is_err()
    });
    proxy.until_counted("slow-reader", 1);
    until("the upstream is let go", || app.closed() == 1);
}

#[test]
fn a_client_that_does_not_read_at_all_is_cut_whatever_the_rate() {
    let app = Backend::saying(&"x".repeat(LONG));
    let proxy = with_site(
        app.port,
        "[timeout]\nidle = '500ms'\n[limit]\nmin_rate = 'off'\n",
    )
    .start();
    let client = long_response(&proxy);
    proxy.until_counted("slow-reader", 1);
    until("the upstream is let go", || app.closed() == 1);
    drop(client);
}

#[test]
fn a_slow_client_behind_a_large_send_buffer_is_served_to_the_end() {
    // The kernel takes more from us only when a third of its buffer is free again: much later than the idle time.
    let app = Backend::saying(&"x".repeat(LONG));
    let proxy = with_site(app.port, "[timeout]\nidle = '3s'\ngrace = '1s'\n").start();
    let mut client = long_response(&proxy);
    let mut read = 0;
    for _ in 0..80 {
        read += client.bytes_if_open(4 << 10).unwrap().len();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        client.bytes_if_open(LONG - read).unwrap().len(),
        LONG - read
    );
    assert_eq!(client.get("app.test", "/").status, 200);
    assert_eq!(proxy.counted("slow-reader"), 0);
}

#[test]
fn an_app_that_is_slow_itself_makes_no_slow_reader() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..10 {
            conversation.send("1\r\nx\r\n");
            thread::sleep(Duration::from_millis(300));
        }
        conversation.send("0\r\n\r\n");
    });
    let proxy = with_site(
        app.port,
        "[timeout]\nidle = '20s'\ngrace = '100ms'\n[limit]\nmin_rate = '100mb/s'\n",
    )
    .start();
    assert_eq!(proxy.get("app.test", "/").text(), "x".repeat(10));
}

#[test]
fn an_app_that_bursts_and_then_pauses_has_the_idle_time_for_it() {
    // A body gives way to others after so many bytes, which must not be taken for a client that does not read.
    let app = Backend::doing(|conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        let count: usize = request.target().trim_start_matches('/').parse().unwrap();
        conversation.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            count + 4
        ));
        conversation.send(vec![b'x'; count]);
        thread::sleep(Duration::from_millis(1500));
        conversation.send("last");
    });
    let proxy = with_site(app.port, "[timeout]\nidle = '20s'\ngrace = '200ms'\n")
        .flag("--workers=1")
        .start();
    thread::scope(|scope| {
        for number in 0..24 {
            let proxy = &proxy;
            scope.spawn(move || {
                let count = 262_144 + 65_536 * (number % 12);
                let response = proxy.get("app.test", &format!("/{count}"));
                assert!(response.body.ends_with(b"last"), "{count}");
            });
        }
    });
}

#[test]
fn a_long_answer_of_a_site_file_that_nobody_reads_is_cut_and_not_ended() {
    let plan = Proxy::plan();
    plan.sites().write("long.txt", "x".repeat(4 << 20));
    let proxy = plan
        .site(
            "app.toml",
            "host = 'app.test'\nrespond.file = 'long.txt'\n[timeout]\nidle = '500ms'\n",
        )
        .start();
    let mut client = Client::connect_with_least_buffers(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    proxy.until_counted("slow-reader", 1);
    let cut = client.try_response("GET").unwrap_err();
    assert_eq!(
        cut.error.kind(),
        ErrorKind::ConnectionReset,
        "{:?}",
        cut.error
    );
}

#[test]
fn a_long_answer_of_a_site_file_waits_for_a_slow_client() {
    let plan = Proxy::plan().daemon_file("[timeout]\nhead = '500ms'\n");
    let body = "x".repeat(4 << 20);
    plan.sites().write("long.txt", &body);
    let proxy = plan
        .site("app.toml", "host = 'app.test'\nrespond.file = 'long.txt'\n")
        .start();
    let mut client = long_response(&proxy);
    let mut read = 0;
    for _ in 0..20 {
        read += client.bytes_if_open(4 << 10).unwrap().len();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        client.bytes_if_open(body.len() - read).unwrap().len(),
        body.len() - read
    );
}
