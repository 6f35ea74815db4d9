//! Streams of one connection beside each other: flow, drain, edits.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::Signal;

use super::{client_of, in_front_of, in_front_of_with};
use crate::harness::http2::{DATA, GOAWAY, Http2, PING, RST_STREAM, frame, request};
use crate::harness::{Backend, Proxy, free_port, until};

/// Its own window is all that a stalled stream holds.
#[test]
fn a_stream_that_is_not_read_does_not_stop_the_others() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/large" => conversation.answer(vec![b'x'; 1 << 20]),
                _ => conversation.answer("small"),
            }
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::over(proxy.client(), &[(4, 10_000)]);
    client.reads = false;
    let stalled: Vec<u32> = (0..5)
        .map(|_| client.ask(&request("GET", "app.test", "/large", &[])))
        .collect();
    for &stream in &stalled {
        client.until(stream, |seen| seen.body.len() == 10_000);
    }
    for _ in 0..5 {
        assert_eq!(client.get("app.test", "/").text(), "small");
    }
    for &stream in &stalled {
        client.window(stream, 100);
        client.until(stream, |seen| seen.body.len() == 10_100);
    }
}

/// CASES D-07: each holds an upstream, as a connection of HTTP/1 does.
#[test]
fn requests_beside_each_other_are_of_the_share_of_their_client() {
    // No name of this machine alone.
    const HOST: &str = "app.example.com";
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/wait" {
                conversation.rest();
                return;
            }
            conversation.answer("app");
        }
    });
    let text = format!("host = '{HOST}'\nto = {}", app.port);
    let proxy = Proxy::plan()
        .site("app.toml", text)
        .daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\n[limit]\nper_client = 4\n")
        .start();
    let connection_of = |address: &str| {
        let mut client = proxy.client();
        client.send(format!("PROXY TCP4 {address} 198.51.100.1 50000 443\r\n"));
        client
    };
    let client_at = |address: &str| Http2::over(connection_of(address), &[]);
    let mut client = client_at("192.0.2.7");
    let waiting: Vec<u32> = (0..4)
        .map(|_| client.ask(&request("GET", HOST, "/wait", &[])))
        .collect();
    let seen = client.get(HOST, "/");
    let reason = seen.value("onedoor-reason");
    assert_eq!((seen.status(), reason), (503, "client-full".to_owned()));
    // So does another connection of it, and nobody else.
    connection_of("192.0.2.7").expect_close();
    assert_eq!(client_at("192.0.2.8").get(HOST, "/").text(), "app");
    for stream in waiting {
        client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    }
    client.settle();
    until("its share is free again", || {
        client.get(HOST, "/").status() == 200
    });
}

/// The library keeps each until its request takes it, and ends a connection that makes it keep too many.
#[test]
fn small_messages_do_not_end_the_connection_of_their_client() {
    let port = free_port();
    let text = format!("host = 'app.test'\nto = {port}\nhold = '60s'");
    let proxy = Proxy::plan()
        .site("app.toml", text)
        .site("own.toml", "host = 'own.test'\nrespond = 'own'")
        .start();
    let mut client = Http2::to(&proxy);
    // Of an app that restarts.
    let held = client.begin(&request("POST", "app.test", "/", &[]));
    for _ in 0..10 {
        let message = frame(DATA, 0, held, b"0123456789");
        client.send(message.repeat(1000));
        assert_eq!(client.get("own.test", "/").text(), "own");
    }
    client.last_data(held, b"");
    let _app = Backend::on_port(port, |conversation| {
        while let Some(request) = conversation.request() {
            conversation.answer(request.body.len().to_string());
        }
    });
    assert_eq!(client.whole(held).text(), "100000");
    // And of one that is there: as many at once as its window lets through.
    let many = client.begin(&request("POST", "app.test", "/", &[]));
    client.send(frame(DATA, 0, many, b"x").repeat(200_000));
    client.last_data(many, b"");
    assert_eq!(client.whole(many).text(), "200000");
    assert_eq!(client.get("own.test", "/").text(), "own");
}

/// Back-pressure: what the client does not take stays with the backend.
#[test]
fn a_backend_is_not_read_faster_than_the_client_reads() {
    let (told, sent) = channel();
    let told = Mutex::new(told);
    let app = Backend::doing(move |conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
        let mut count = 0;
        while conversation.try_send(vec![b'x'; 64 << 10]).is_ok() {
            count += 64 << 10;
            told.lock().unwrap().send(count).unwrap();
        }
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    client.reads = false;
    let stream = client.ask(&request("GET", "app.test", "/", &[]));
    client.until(stream, |seen| seen.body.len() == 65_535);
    // Kernel buffers hold some megabytes; what is asked for is that it ends.
    let mut last = 0;
    while let Ok(count) = sent.recv_timeout(std::time::Duration::from_secs(1)) {
        last = count;
    }
    assert!(last < 40 << 20, "{last}");
}

/// And what the backend does not take stays with the client: the window is not opened again.
#[test]
fn a_client_may_not_send_faster_than_the_backend_reads() {
    let (go, cue) = channel::<()>();
    let cue = Mutex::new(cue);
    let app = Backend::doing(move |conversation| {
        conversation.request_head();
        cue.lock().unwrap().recv().unwrap();
        conversation.answer("ok");
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    let sent = fill(&mut client, stream);
    assert!(sent < 32 << 20, "{sent}");
    go.send(()).unwrap();
}

/// Sends a body until no more of it is taken. Returns how much was.
fn fill(client: &mut Http2, stream: u32) -> u64 {
    let mut sent = 0;
    loop {
        client.settle();
        let may = (256 << 10) + client.opened(stream);
        if sent == may || sent > 64 << 20 {
            return sent;
        }
        while sent < may {
            let piece = vec![b'x'; (may - sent).min(16 << 10) as usize];
            client.data(stream, &piece);
            sent += piece.len() as u64;
        }
    }
}

/// CASES G-04.
#[test]
fn a_request_that_is_taken_back_is_cancelled_at_the_backend_and_the_others_go_on() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/hangs" => {
                    conversation.rest();
                }
                _ => conversation.answer("fine"),
            }
        }
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.ask(&request("GET", "app.test", "/hangs", &[]));
    app.until_requests(1);
    client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    until("its upstream is closed", || app.closed() == 1);
    assert_eq!(client.get("app.test", "/").text(), "fine");
}

/// CASES H-02: also while its body waits for a backend that does not read.
#[test]
fn an_upload_that_is_taken_back_is_cancelled_at_a_backend_that_does_not_read() {
    let (end, ended) = channel::<()>();
    let ended = Mutex::new(ended);
    let app = Backend::doing(move |conversation| {
        conversation.request_head();
        // As long as the test lasts.
        ended.lock().unwrap().recv().ok();
    });
    let (proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    fill(&mut client, stream);
    client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    until("its upstream is closed", || {
        proxy.counters()["aborted"].as_u64() == Some(1)
    });
    drop(end);
}

/// RFC 9113 6.8; CASES H-28.
#[test]
fn a_drain_says_goodbye_twice_and_lets_streams_finish() {
    let app = Backend::doing(|conversation| {
        while conversation.request_head().is_some() {
            let body = conversation.bytes(2);
            conversation.answer(body);
        }
    });
    let mut proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let stream = client.begin(&request(
        "POST",
        "app.test",
        "/",
        &[("content-length", "2")],
    ));
    app.until_requests(1);
    proxy.signal(Signal::TERM);
    while client.goaways.len() < 2 {
        client.read().unwrap();
    }
    assert_eq!(client.goaways, [(0x7fff_ffff, 0), (stream, 0)]);
    client.last_data(stream, b"hi");
    assert_eq!(client.whole(stream).text(), "hi");
    client.ended();
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn an_idle_connection_is_told_and_closed() {
    let app = Backend::saying("app");
    let times = "[timeout]\nidle = '1s'\nlinger = '1s'\n";
    let (proxy, mut client) = client_of(in_front_of(&app).daemon_file(times));
    assert_eq!(client.get("app.test", "/").text(), "app");
    assert_eq!(client.ended(), Some(0));
    assert!(client.came[&GOAWAY] >= 1);
    until("it is counted", || proxy.counted("idle-timeout") == 1);
}

#[test]
fn a_connection_has_so_many_requests() {
    let app = Backend::saying("app");
    let proxy = in_front_of(&app)
        .daemon_file("[limit]\nrequests = 3\n")
        .start();
    let mut client = Http2::to(&proxy);
    for _ in 0..3 {
        assert_eq!(client.get("app.test", "/").text(), "app");
    }
    assert_eq!(client.ended(), Some(0));
}

#[test]
fn a_site_that_is_removed_takes_its_own_streams_only() {
    let app = Backend::doing(|conversation| {
        while conversation.request_head().is_some() {
            let body = conversation.bytes(2);
            conversation.answer(body);
        }
    });
    let port = app.port;
    let proxy = Proxy::plan()
        .site(
            "one.toml",
            format!("host = 'one.test'\nto = {port}\ndrain = {{ remove = '0s' }}"),
        )
        .site("two.toml", format!("host = 'two.test'\nto = {port}"))
        .start();
    let mut client = Http2::to(&proxy);
    let head = |host| request("POST", host, "/", &[("content-length", "2")]);
    let one = client.begin(&head("one.test"));
    let two = client.begin(&head("two.test"));
    app.until_requests(2);
    proxy.sites().remove("one.toml");
    proxy.wait_gone("one.toml");
    let gone = client.whole(one);
    assert_eq!(
        (gone.status(), gone.value("onedoor-reason")),
        (503, "site-gone".to_owned())
    );
    client.last_data(two, b"hi");
    assert_eq!(client.whole(two).text(), "hi");
    assert_eq!(client.get("one.test", "/").status(), 421);
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of_with(&app, "[timeout]\nidle = '1s'"));
    let stream = client.begin(&request(
        "POST",
        "app.test",
        "/",
        &[("content-length", "5")],
    ));
    client.data(stream, b"hel");
    let answer = client.whole(stream);
    assert_eq!(
        (answer.status(), answer.value("onedoor-reason")),
        (408, "body-timeout".to_owned())
    );
    assert_eq!(client.get("app.test", "/").status(), 200);
}

#[test]
fn an_app_that_does_not_answer_is_504_for_its_stream() {
    let app = Backend::silent();
    let proxy = in_front_of_with(&app, "[timeout]\nfirst_byte = '1s'").start();
    let answer = Http2::to(&proxy).get("app.test", "/");
    assert_eq!(
        (answer.status(), answer.value("onedoor-reason")),
        (504, "backend-timeout".to_owned())
    );
}

/// A call of gRPC may be silent for as long as it likes, but not towards an app that does not speak HTTP/2.
#[test]
fn what_calls_itself_grpc_has_the_times_of_others_where_it_cannot_be() {
    let app = Backend::silent();
    let (_proxy, mut client) = client_of(in_front_of_with(&app, "[timeout]\nfirst_byte = '1s'"));
    let said = [("content-type", "application/grpc")];
    let stream = client.ask(&request("POST", "app.test", "/", &said));
    let answer = client.whole(stream);
    assert_eq!(
        (answer.status(), answer.value("onedoor-reason")),
        (504, "backend-timeout".to_owned())
    );
}

/// What it asked for would stay for ever, where nothing else has a time.
#[test]
fn a_client_that_does_not_answer_pings_is_gone() {
    let app = Backend::silent();
    let times = "[timeout]\nidle = '1s'\n";
    let (_proxy, mut client) = client_of(in_front_of(&app).daemon_file(times));
    client.ask(&request("GET", "app.test", "/", &[]));
    app.until_requests(1);
    // It reads nothing from here on, and so says nothing.
    until("it is given up", || app.closed() == 1);
}

#[test]
fn a_client_that_answers_pings_may_wait() {
    let (go, cue) = channel::<()>();
    let cue = Mutex::new(cue);
    let app = Backend::doing(move |conversation| {
        conversation.request();
        cue.lock().unwrap().recv().unwrap();
        conversation.answer("at last");
    });
    let times = "[timeout]\nidle = '1s'\n";
    let (_proxy, mut client) = client_of(in_front_of(&app).daemon_file(times));
    let stream = client.ask(&request("GET", "app.test", "/", &[]));
    while client.came.get(&PING) < Some(&3) {
        client.read().unwrap();
    }
    go.send(()).unwrap();
    assert_eq!(client.whole(stream).text(), "at last");
}

/// As those of HTTP/1 do, when all connections are taken.
#[test]
fn idle_connections_make_room_for_new_ones() {
    let app = Backend::saying("x");
    let limits = "[timeout]\nidle_when_full = '100ms'\nlinger = '1h'\n[limit]\nconnections = 4\n[defaults]\nlimit.connections = 4\n";
    let proxy = in_front_of(&app).daemon_file(limits).start();
    let mut open: Vec<_> = (0..12)
        .map(|_| {
            let mut client = Http2::to(&proxy);
            assert_eq!(client.get("app.test", "/").text(), "x");
            client
        })
        .collect();
    assert!(proxy.counted("made-room") >= 8);
    // It was told, and that nothing of it is lost.
    assert_eq!(open[0].ended(), Some(0));
}

/// A request cannot wait, as a new connection does, until others have made room: an eighth more get in, and no more.
#[test]
fn a_few_more_requests_get_in_while_all_connections_are_taken() {
    let app = Backend::silent();
    let limits = "[timeout]\nidle_when_full = '1h'\n[limit]\nconnections = 8\n[defaults]\nlimit.connections = 20\n";
    let proxy = in_front_of(&app).daemon_file(limits).start();
    let mut client = Http2::to(&proxy);
    let asked = [0; 10].map(|_| client.ask(&request("GET", "app.test", "/", &[])));
    let seen = client.whole(asked[9]);
    assert_eq!(
        (seen.status(), seen.value("onedoor-reason")),
        (503, "client-full".to_owned())
    );
    app.until_requests(9);
    assert_eq!(client.so_far(asked[8]).status(), 0);
}

/// A request takes a connection of its site's, and gives it back; an idle connection has none.
#[test]
fn idle_connections_take_nothing_of_a_site() {
    let app = Backend::saying("x");
    let proxy = in_front_of_with(&app, "limit.connections = 2").start();
    let mut open: Vec<_> = (0..10).map(|_| Http2::to(&proxy)).collect();
    for client in &mut open {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
    assert_eq!(proxy.get("app.test", "/").text(), "x");
}

/// However many ask for it at once, and take none of it.
#[test]
fn a_large_respond_is_held_once() {
    let text = format!("host = 'app.test'\nrespond = '{}'", "x".repeat(900 << 10));
    let proxy = Proxy::plan().site("app.toml", text).start();
    assert_eq!(proxy.get("app.test", "/").body.len(), 900 << 10);
    let before = proxy.peak_memory();
    let mut client = Http2::over(proxy.client(), &[(4, 1000)]);
    client.reads = false;
    let asked: Vec<u32> = (0..90)
        .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    // The windows of the connection let through what 65 of them may have.
    for &stream in &asked[..60] {
        client.until(stream, |seen| seen.body.len() == 1000);
    }
    client.settle();
    let more = proxy.peak_memory() - before;
    assert!(more < 8 << 20, "{more}");
    // And all of it comes to those who take it.
    client.window(0, 1 << 20);
    client.window(asked[0], 1 << 20);
    let whole = client.whole(asked[0]);
    assert!(whole.body == vec![b'x'; 900 << 10], "{}", whole.body.len());
}
