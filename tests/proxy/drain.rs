//! Open work finishes; the deadline holds; a second signal does not wait.

use std::fs::OpenOptions;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::harness::{Backend, Plan, Proxy, until, until_some, words_of};

fn in_front_of(app: &Backend, drain: &str) -> Plan {
    Proxy::plan()
        .daemon_file(&format!("[timeout]\ndrain = '{drain}'\n"))
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
}

/// A backend that answers a request with its own body: it is under way until the client sends the body.
fn patient() -> Backend {
    Backend::doing(|conversation| {
        while conversation.request_head().is_some() {
            let body = conversation.bytes(2);
            conversation.answer(body);
        }
    })
}

#[test]
fn without_open_work_it_ends_at_once_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::start();
        let begun = Instant::now();
        proxy.signal(signal);
        assert_eq!(proxy.exit_code(), 0);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_request_under_way_is_finished_and_its_connection_closed() {
    let app = patient();
    let mut proxy = in_front_of(&app, "30s").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n");
    app.until_requests(1);
    proxy.signal(Signal::TERM);
    let address = proxy.address();
    until("new connections are refused", || {
        TcpStream::connect(address).is_err()
    });
    assert!(!proxy.has_ended());
    client.send("hi");
    let answer = client.response();
    assert_eq!(answer.text(), "hi");
    assert_eq!(answer.value("connection"), "close");
    client.expect_close();
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn one_open_connection_is_spoken_of_as_one() {
    let app = patient();
    let proxy = in_front_of(&app, "10s").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n");
    app.until_requests(1);
    let said = words_of(&proxy.command(["drain"]));
    assert!(
        said.contains("; the one that is open may finish within 10s"),
        "{said}"
    );
}

#[test]
fn whoever_waits_for_a_drain_is_told_what_was_cut() {
    let app = patient();
    let mut proxy = in_front_of(&app, "2s").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n");
    app.until_requests(1);
    let output = proxy.command(["drain", "--wait"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{words}");
    let cut = "1 connection had not finished and was cut; [timeout] drain is 2s\n";
    assert!(words.contains(cut), "{words}");
    // That its time was over is no failure of the daemon's.
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn whoever_waits_for_a_drain_in_which_all_finishes_is_told_nothing_else() {
    let app = patient();
    let mut proxy = in_front_of(&app, "60s").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n");
    app.until_requests(1);
    let address = proxy.address();
    let output = std::thread::scope(|scope| {
        let drain = scope.spawn(|| proxy.command(["drain", "--wait"]));
        until("new connections are refused", || {
            TcpStream::connect(address).is_err()
        });
        client.send("hi");
        assert_eq!(client.response().text(), "hi");
        drain.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn idle_connections_are_closed_at_once() {
    let app = Backend::saying("x");
    let mut proxy = in_front_of(&app, "30s").start();
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_close();
    }
    assert_eq!(proxy.exit_code(), 0);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_websocket_lives_until_the_deadline_and_no_longer() {
    let app = Backend::upgrading();
    let mut proxy = in_front_of(&app, "1s").start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    client.send("still");
    assert_eq!(client.bytes(5), b"still");
    client.expect_close();
    let after = begun.elapsed();
    assert!(
        after > Duration::from_millis(700) && after < Duration::from_secs(15),
        "closed after {after:?}"
    );
    assert_eq!(proxy.exit_code(), 0);
    until("the app's connection is closed", || app.closed() == 1);
}

#[test]
fn a_stream_that_never_ends_is_cut_at_the_deadline() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        conversation.rest();
    });
    let mut proxy = in_front_of(&app, "500ms").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    proxy.signal(Signal::TERM);
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, not completed");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn a_second_signal_ends_it_now() {
    let app = Backend::upgrading();
    let mut proxy = in_front_of(&app, "60s").start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    proxy.signal(Signal::TERM);
    let address = proxy.address();
    until("it drains", || TcpStream::connect(address).is_err());
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.exit_status();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_reload_that_hangs_keeps_nobody_from_stopping() {
    let mut proxy = Proxy::plan().daemon_file("workers = 1\n").start();
    let file = proxy.folder().join("onedoor.toml");
    std::fs::remove_file(&file).unwrap();
    // Whoever opens it waits until somebody writes.
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    proxy.signal(Signal::HUP);
    proxy.until_logged("SIGHUP: reading the daemon file");
    let _silent = until_some("it is being read", || {
        let mut open = OpenOptions::new();
        let without_waiting = OFlags::NONBLOCK.bits() as i32;
        open.write(true)
            .custom_flags(without_waiting)
            .open(&file)
            .ok()
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 0);
    assert!(proxy.log().contains("drained"), "{}", proxy.log());
}

#[test]
fn connections_in_the_accept_queue_are_served_before_the_end() {
    let app = Backend::saying("x");
    let mut proxy = in_front_of(&app, "10s").start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    }
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(
            client.response().text(),
            "x",
            "a connection that was made is served"
        );
    }
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn after_a_kill_it_starts_again_on_the_same_port() {
    let app = Backend::saying("x");
    let mut proxy = in_front_of(&app, "10s").start();
    let port = proxy.address().port();
    let mut client = proxy.client();
    client.get("app.test", "/");
    proxy.kill();
    let text = format!("host = 'app.test'\nto = {}", app.port);
    let again = Proxy::plan()
        .no_listen()
        .flag(format!("--listen=127.0.0.1:{port}"))
        .site("app.toml", text)
        .start();
    assert_eq!(again.get("app.test", "/").text(), "x");
    // In its own folder too: neither lock nor socket file of the dead one is in the way.
    proxy.start_again();
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    assert_eq!(proxy.command(["ls"]).status.code(), Some(0));
}
