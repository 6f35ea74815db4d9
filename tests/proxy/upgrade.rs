//! WebSocket and other upgrades: a tunnel only after the app's 101, whole in both directions.

use crate::harness::{Backend, Plan, Proxy, until};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn in_front_of(app: &Backend) -> Plan {
    Proxy::plan().site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
}

#[test]
fn an_upgrade_passes_and_bytes_flow_both_ways() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    let answer = client.response_head();
    assert_eq!(
        (answer.status, answer.value("upgrade").as_str()),
        (101, "websocket")
    );
    assert!(answer.value("connection").eq_ignore_ascii_case("upgrade"));
    let request = app.only_request();
    assert_eq!(request.value("upgrade"), "websocket");
    assert!(request.value("connection").eq_ignore_ascii_case("upgrade"));
    assert_eq!(
        request.value("sec-websocket-key"),
        "dGhlIHNhbXBsZSBub25jZQ=="
    );
    for text in ["hello", "\0\u{1}binary", "again"] {
        client.send(text);
        assert_eq!(client.bytes(text.len()), text.as_bytes());
    }
}

#[test]
fn any_protocol_may_be_asked_for() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: my-own/2\r\n\r\n",
    );
    assert_eq!(client.response_head().value("upgrade"), "my-own/2");
    client.send("x");
    assert_eq!(client.bytes(1), b"x");
}

#[test]
fn bytes_sent_early_wait_for_the_101_and_then_pass() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(format!("{ASK}early"));
    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.bytes(5), b"early");
}

#[test]
fn bytes_that_come_with_the_101_are_not_lost() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nwelcome",
        );
        conversation.echo();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.bytes(7), b"welcome");
}

#[test]
fn without_a_101_there_is_no_tunnel() {
    for status in ["200 OK", "426 Upgrade Required", "403 Forbidden"] {
        let app =
            Backend::raw_and_open(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        client.send(format!(
            "{ASK}GET /second HTTP/1.1\r\nHost: nobody.test\r\n\r\n"
        ));
        assert_eq!(client.response().text(), "no", "{status}");
        // What follows is a request like any other, and routed by its own Host.
        assert_eq!(client.response().status, 421, "{status}");
        assert!(!app.raw_bytes().contains("/second"));
    }
}

#[test]
fn a_101_that_nobody_asked_for_is_a_broken_app() {
    let app =
        Backend::raw("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-malformed");
}

#[test]
fn a_101_to_another_protocol_is_a_broken_app() {
    for head in ["Upgrade: other", "Upgrade: websocket, other", "X: y"] {
        let app = Backend::raw(format!(
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n{head}\r\n\r\n"
        ));
        let proxy = in_front_of(&app).start();
        assert_eq!(proxy.ask(ASK).said(), "502 backend-malformed", "{head}");
    }
}

#[test]
fn upgrades_that_would_hide_http_are_taken_out() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    for upgrade in [
        "h2c",
        "HTTP/2.0",
        "TLS/1.0",
        "h2c, websocket",
        "websocket, h2c",
    ] {
        app.forget();
        let answer = proxy.ask(format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAA\r\n\r\n"
        ));
        if answer.status == 200 {
            let request = app.only_request();
            let passed = request.values("upgrade").join(",").to_ascii_lowercase();
            assert!(
                !passed.contains("h2c") && !passed.contains("tls") && !passed.contains("http"),
                "{passed}"
            );
            assert!(!request.has("http2-settings"));
        } else {
            assert_eq!(answer.status, 400, "{upgrade}");
        }
    }
}

#[test]
fn an_upgrade_with_a_body_or_without_its_connection_token_is_a_plain_request() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    for request in [
        "GET / HTTP/1.0\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        app.forget();
        assert_eq!(proxy.ask(request).status, 200, "{request}");
        assert!(!app.only_request().has("upgrade"), "{request}");
    }
}

#[test]
fn a_client_that_has_finished_sending_still_gets_everything() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation
            .send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let all = conversation.rest();
        conversation.send(format!("{} bytes", all.len()));
        conversation.send(vec![b'x'; 1 << 20]);
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    client.send(vec![b'y'; 1 << 20]);
    client.finish_sending();
    let rest = client.rest();
    assert!(rest.starts_with(b"1048576 bytes"));
    assert_eq!(rest.len(), 13 + (1 << 20));
}

#[test]
fn an_app_that_has_finished_sending_still_gets_everything() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation
            .send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbye");
        conversation.finish_sending();
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.rest(), b"bye");
    client.send("last words");
    client.finish_sending();
    until("the app has the last words", || {
        app.raw_bytes().ends_with("last words")
    });
    until("the app's connection ends", || app.closed() == 1);
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    client.reset();
    until("the app's connection ends", || app.closed() == 1);

    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation
            .send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        conversation.bytes(1);
        conversation.reset();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    client.send("x");
    client.expect_close();
}

#[test]
fn a_tunnel_carries_megabytes_both_ways_at_once() {
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    let bytes: Vec<u8> = (0..8_u32 << 20)
        .map(|number| (number % 251) as u8)
        .collect();
    let mut sender = client.stream().try_clone().unwrap();
    let expected = bytes.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &bytes));
    assert!(
        client.bytes(expected.len()) == expected,
        "the same bytes in the same order"
    );
    sending.join().unwrap().unwrap();
}

#[test]
fn a_tunnel_without_traffic_ends_after_its_own_time_and_not_after_the_body_s() {
    let app = Backend::upgrading();
    let text = |more: &str| {
        format!(
            "host = 'app.test'\nto = {}\n[timeout]\nidle = '200ms'\n{more}",
            app.port
        )
    };
    let proxy = Proxy::plan()
        .site("app.toml", text("websocket_idle = '1s'\n"))
        .start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    let begun = std::time::Instant::now();
    client.expect_close();
    assert!(
        begun.elapsed() > std::time::Duration::from_millis(700),
        "closed after {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_tunnel_of_which_one_side_has_ended_waits_for_the_other_as_for_a_body() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        conversation.bytes(2);
        conversation.finish_sending();
        // Waits for a client that is gone.
        conversation.rest();
    });
    let text = format!(
        "host = 'app.test'\nto = {}\n[timeout]\nidle = '1s'\n",
        app.port
    );
    let proxy = Proxy::plan().site("app.toml", text).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    // As long as both may speak there is no limit.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    client.send("go");
    assert_eq!(client.rest(), b"");
    until("the app is let go", || app.closed() == 1);
    proxy.until_counted("tunnel-timeout", 1);
}

/// Whether the kernel has a timer of minutes for the connection between these two ports of this machine: the first looks at
/// the second (proc(5): `tr` 02, and when it fires in hundredths of a second).
fn is_probed(ours: u16, theirs: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let between = format!(" 0100007F:{ours:04X} 0100007F:{theirs:04X} 01 ");
    let line = table.lines().find(|line| line.contains(&between));
    let timer = line.and_then(|line| line.split_whitespace().nth(5));
    let Some((kind, when)) = timer.and_then(|timer| timer.split_once(':')) else {
        return false;
    };
    kind == "02" && u64::from_str_radix(when, 16).is_ok_and(|when| (3_000..=12_100).contains(&when))
}

#[test]
fn the_kernel_asks_both_sides_of_a_tunnel_whether_they_are_still_there() {
    let (told, tell) = std::sync::mpsc::channel();
    let app = Backend::doing(move |conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        told.send(conversation.peer().port()).unwrap();
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response_head().status, 101);
    let port = client.stream().local_addr().unwrap().port();
    until("the client is asked", || {
        is_probed(proxy.address().port(), port)
    });
    let port = tell.recv().unwrap();
    until("the app is asked", || is_probed(port, app.port));
}

/// CASES W-10.
#[test]
fn a_slow_reader_of_a_tunnel_holds_a_buffer_and_not_the_stream() {
    const HUGE: usize = 256 << 20;
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..HUGE >> 20 {
            if conversation.try_send(&piece).is_err() {
                return;
            }
        }
    });
    let proxy = in_front_of(&app).start();
    let before = proxy.peak_memory();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(ASK);
        assert_eq!(client.response_head().status, 101);
    }
    // Each reads some, so that everything between is full, and then no more.
    for client in &mut clients {
        client.bytes(32 << 20);
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 24 << 20, "four slow readers cost {grown} bytes");
}

/// CASES W-11.
#[test]
fn tunnels_in_which_nothing_moves_hold_little_each() {
    const TUNNELS: usize = 300;
    let app = Backend::upgrading();
    let proxy = in_front_of(&app).start();
    let opened = || {
        let mut client = proxy.client();
        client.send(ASK);
        assert_eq!(client.response_head().status, 101);
        client.send("x");
        assert_eq!(client.bytes(1), b"x");
        client
    };
    let first = opened();
    let before = proxy.peak_memory();
    let tunnels: Vec<_> = (0..TUNNELS).map(|_| opened()).collect();
    let grown = proxy.peak_memory() - before;
    // Some 10 KiB each without optimisation; a block each would be 20 MiB.
    assert!(grown < 8 << 20, "{} KiB for {TUNNELS}", grown >> 10);
    drop((first, tunnels));
}
