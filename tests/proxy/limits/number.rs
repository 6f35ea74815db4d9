//! Limits on number: connections, and the descriptors they need.

use std::thread;
use std::time::Duration;

use super::with_limits;
use crate::harness::{Backend, Client, PATIENCE, Proxy, Tls, until};

#[test]
fn no_more_requests_are_served_at_once_than_there_may_be_connections() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.rest();
    });
    let proxy = with_limits(
        "[limit]\nconnections = 4\n[defaults]\nlimit.connections = 4\n",
        &app,
    );
    let ask = || {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client
    };
    let mut open: Vec<_> = (0..4).map(|_| ask()).collect();
    app.until_requests(4);
    let fifth = ask();
    proxy.until_logged("new ones wait");
    assert_eq!(app.requests().len(), 4);
    assert_eq!(proxy.counters()["open"], 4);
    // There is room again.
    open.pop();
    app.until_requests(5);
    assert_eq!(proxy.counted("made-room"), 0);
    drop(fifth);
}

#[test]
fn idle_connections_make_room_for_new_ones_whatever_worker_has_them() {
    let app = Backend::saying("x");
    let proxy = with_limits(
        "[timeout]\nidle_when_full = '100ms'\n[limit]\nconnections = 4\n[defaults]\nlimit.connections = 4\n",
        &app,
    );
    let open: Vec<_> = (0..20)
        .map(|_| {
            let mut client = proxy.client();
            assert_eq!(client.get("app.test", "/").text(), "x");
            client
        })
        .collect();
    let made_room = proxy.counted("made-room");
    assert!(made_room >= 16, "{made_room}");
    drop(open);
}

#[test]
fn the_connection_that_has_been_idle_longest_makes_room() {
    let app = Backend::saying("x");
    let proxy = one_worker(
        "[timeout]\nidle_when_full = '100ms'\n[limit]\nconnections = 3\n[defaults]\nlimit.connections = 3\n",
        &[("app", &app)],
    );
    let mut open: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            assert_eq!(client.get("app.test", "/").text(), "x");
            // More than one tick of the coarse clock.
            thread::sleep(Duration::from_millis(300));
            client
        })
        .collect();
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    open[0].expect_close();
    // Where the first takes its time to go, the next one is asked to: one at a time, and never out of turn.
    let went = open[1..].iter_mut().map(|client| {
        client
            .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .ok();
        client.try_response("GET").is_err()
    });
    let went: Vec<bool> = went.collect();
    assert_ne!(went, [false, true]);
    let count = 1 + went.iter().filter(|&&went| went).count();
    assert_eq!(proxy.counted("made-room"), count as u64);
}

#[test]
fn connections_that_have_said_nothing_yet_make_room_too() {
    let app = Backend::saying("x");
    let proxy = with_limits(
        "[timeout]\nopening = '1h'\nidle_when_full = '100ms'\n[limit]\nconnections = 4\n[defaults]\nlimit.connections = 4\n",
        &app,
    );
    let silent: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    until("all are taken", || proxy.counters()["open"] == 4);
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    assert!(proxy.counted("made-room") >= 1);
    drop(silent);
}

/// They have been told why, and are only waited for so that they can read it.
#[test]
fn clients_whose_handshake_was_refused_make_room_before_they_close() {
    let proxy = Proxy::plan()
        .daemon_file(
            "workers = 1\n[timeout]\nlinger = '1h'\nidle_when_full = '100ms'\n[limit]\nconnections = 4\n",
        )
        .site("blue.localhost.toml", "respond = 'blue'")
        .start();
    // An alert of ours before there is a handshake, and one of the library in the middle of it.
    let unknown = Tls::to("unknown.example.com").hello();
    let known = Tls::to("blue.localhost").hello();
    let garbage = b"\x16\x03\x03\x00\x04\x7f\x00\x00\x00";
    for (hello, more, counted) in [
        (&unknown, &b""[..], "unrecognized-name"),
        (&known, garbage, "handshake-malformed"),
    ] {
        let before = proxy.counted("made-room");
        let refused: Vec<_> = (1..=4)
            .map(|count| {
                let mut client = proxy.client();
                client.send(hello);
                client.bytes(1);
                client.send(more);
                proxy.until_counted(counted, count);
                client
            })
            .collect();
        assert_eq!(proxy.get("blue.localhost", "/").text(), "blue");
        assert!(proxy.counted("made-room") > before);
        drop(refused);
    }
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
fn the_last_request_that_a_connection_may_make_is_told_so() {
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nrequests = 3\n", &app);
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.get("app.test", "/");
        assert!(!response.has("connection"), "{}", response.head);
    }
    let last = client.get("app.test", "/");
    assert_eq!(
        (last.text(), last.value("connection")),
        ("x".into(), "close".into())
    );
    client.expect_close();
    // The same for what never reaches an app.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: none.test\r\n\r\n".repeat(5));
    for _ in 0..2 {
        assert_eq!(client.response().said(), "421 no-site-for-host");
    }
    assert_eq!(client.response().value("connection"), "close");
    client.expect_close();
}

#[test]
fn an_app_may_say_only_so_much_before_its_response() {
    let app = Backend::doing(|conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        let line = request.head.lines().next().unwrap();
        let count = usize::from(line.contains("/3")) + 2;
        conversation.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count));
        conversation.answer("x");
    });
    let proxy = with_limits("[limit]\ninterim = 2\n", &app);
    assert_eq!(proxy.get("app.test", "/2").interim.len(), 2);
    assert_eq!(proxy.get("app.test", "/3").said(), "502 backend-malformed");
}

#[test]
fn only_so_many_idle_upstreams_are_kept_for_a_backend() {
    let app = Backend::recording();
    let proxy = one_worker("[limit]\npool = 1\n", &[("app", &app)]);
    two_at_once(&proxy, [("app.test", &app), ("app.test", &app)]);
    until("one upstream is let go", || app.closed() == 1);
    assert_eq!(app.accepted(), 2);
    assert_eq!(proxy.get("app.test", "/").status, 200);
    assert_eq!(app.accepted(), 2, "the other one was kept");
}

#[test]
fn only_so_many_idle_upstreams_are_kept_in_all() {
    let (app, other) = (Backend::recording(), Backend::recording());
    let proxy = one_worker(
        "[limit]\npool_all = 1\n",
        &[("app", &app), ("other", &other)],
    );
    two_at_once(&proxy, [("app.test", &app), ("other.test", &other)]);
    until("one upstream is let go", || {
        app.closed() + other.closed() == 1
    });
}

fn one_worker(daemon_file: &str, apps: &[(&str, &Backend)]) -> Proxy {
    let mut plan = Proxy::plan()
        .daemon_file(daemon_file)
        .flag("--workers")
        .flag("1");
    for (name, app) in apps {
        let text = format!(
            "host = '{name}.test'\nto = {}\n[timeout]\npool_idle = '1h'\n",
            app.port
        );
        plan = plan.site(&format!("{name}.toml"), text);
    }
    plan.start()
}

/// Two requests of which neither is over before the other has begun.
fn two_at_once(proxy: &Proxy, to: [(&str, &Backend); 2]) {
    let mut clients = to.map(|(host, _)| {
        let mut client = proxy.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\na"
        ));
        client
    });
    // Both heads are there, and neither body is whole.
    for (_, app) in to {
        let here = to.iter().filter(|(_, other)| other.port == app.port);
        app.until_requests(here.count());
    }
    for client in &mut clients {
        client.send("b");
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn ten_thousand_requests_at_once_are_worked_on_one_by_one_in_little_memory() {
    const MANY: usize = 10_000;
    let app = Backend::saying("x");
    let proxy = one_worker("[limit]\nrequests = 1000000\n", &[("app", &app)]);
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    let before = proxy.peak_memory();
    let mut client = proxy.client();
    let mut sender = client.stream().try_clone().unwrap();
    // 2.5 MB, most of which waits in the kernel's buffers or with the client until its turn comes.
    let request = format!(
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-Pad: {}\r\n\r\n",
        "a".repeat(200)
    );
    let sending = thread::spawn(move || {
        std::io::Write::write_all(&mut sender, request.repeat(MANY).as_bytes()).unwrap();
    });
    for _ in 0..MANY {
        assert_eq!(client.response().text(), "x");
    }
    sending.join().unwrap();
    assert_eq!(app.accepted(), 1, "one upstream, so one at a time");
    let grown = proxy.peak_memory() - before;
    assert!(grown < 1 << 20, "{grown} bytes more at the peak");
}

#[test]
fn a_handshake_that_is_one_too_many_waits_until_another_is_over() {
    let proxy = Proxy::plan()
        .daemon_file("workers = 1\n[timeout]\nidle_when_full = '1h'\n[limit]\nhandshakes = 1\n")
        .site("blue.localhost.toml", "respond = 'blue'")
        .start();
    let tls = Tls::to("blue.localhost");
    // Says hello, gets the answer, and says no more.
    let mut silent = proxy.client();
    silent.send(tls.hello());
    silent.bytes(1);
    let mut second = proxy.client();
    second.send(tls.hello());
    let patience = Some(Duration::from_millis(500));
    second.stream().set_read_timeout(patience).unwrap();
    let (answer, was_closed) = second.rest_if_closed();
    assert!(answer.is_empty() && !was_closed, "it waits");
    drop(silent);
    second.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    second.bytes(1);
    drop(second);
    tls.shake(proxy.address()).unwrap();
}

#[test]
fn clients_that_say_hello_and_no_more_keep_nobody_out() {
    const PLACES: usize = 8;
    let text = format!("workers = 1\n[timeout]\nopening = '10m'\n[limit]\nhandshakes = {PLACES}\n");
    let proxy = Proxy::plan()
        .daemon_file(&text)
        .site("blue.localhost.toml", "respond = 'blue'")
        .start();
    let tls = Tls::to("blue.localhost");
    let hello = tls.hello();
    let _silent: Vec<Client> = (0..3 * PLACES)
        .map(|_| {
            let mut client = proxy.client();
            client.send(&hello);
            client
        })
        .collect();
    let mut good = Client::over(tls.shake(proxy.address()).unwrap());
    assert_eq!(good.get("blue.localhost", "/").text(), "blue");
    // Each of those who came later has had the place of one before it.
    until("room is made", || {
        proxy.counted("made-room") >= 2 * PLACES as u64
    });
    assert_eq!(proxy.counted("handshake-timeout"), 0);
}
