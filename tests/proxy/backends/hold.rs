use std::thread;
use std::time::{Duration, Instant};

use super::{plan, under_way};
use crate::harness::http2::{Http2, RST_STREAM, request};
use crate::harness::{Backend, Client, Proxy, Tls, free_port, until};

/// How long apps in these tests need to be back.
const OUTAGE: Duration = Duration::from_millis(1500);

#[test]
fn requests_wait_for_an_app_that_restarts() {
    let port = free_port();
    let app = Backend::saying_on_port(port, "before");
    let proxy = Proxy::plan()
        .flag("--workers=2")
        .site(
            "app.toml",
            format!("host = 'app.test'\nto = {port}\nhold = '30s'"),
        )
        .start();
    assert_eq!(proxy.get("app.test", "/").text(), "before");
    drop(app);
    let waiting = under_way(&proxy, 20);
    thread::sleep(OUTAGE);
    let app = Backend::saying_on_port(port, "after");
    for request in waiting {
        assert_eq!(request.join().unwrap(), "after");
    }
    assert_eq!(app.requests().len(), 20);
}

#[test]
fn what_was_posted_waits_too_because_nothing_of_it_was_sent() {
    let port = free_port();
    let proxy = plan(format!("to = {port}\nhold = '30s'")).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
    thread::sleep(OUTAGE);
    let app = Backend::saying_on_port(port, "taken");
    assert_eq!(client.response().text(), "taken");
    assert_eq!(app.only_request().body, b"hello");
}

#[test]
fn the_time_is_counted_from_when_the_last_one_was_lost() {
    let proxy = plan(format!("to = {}\nhold = '3s'", free_port())).start();
    let began = Instant::now();
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    assert!(began.elapsed() >= Duration::from_secs(3), "it is held");
    // It is not counted anew for each.
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    }
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn no_time_is_no_waiting() {
    let proxy = plan(format!("to = {}\nhold = 'off'", free_port())).start();
    let began = Instant::now();
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_client_that_leaves_while_it_is_held_is_noticed() {
    let port = free_port();
    let proxy = plan(format!("to = {port}\nhold = '1h'")).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    until("it has come", || proxy.counters()["open"] == 1);
    drop(client);
    until("its end is noticed", || proxy.counters()["open"] == 0);
    let app = Backend::saying_on_port(port, "app");
    proxy.until_answer("app.test", "the app is back", |answer| {
        answer.text() == "app"
    });
    assert!(!app.requests().is_empty());
}

#[test]
fn more_than_the_line_takes_are_503() {
    let proxy = plan(format!(
        "to = {}\nhold = '1h'\n[limit]\nqueue = 2",
        free_port()
    ))
    .start();
    let mut held: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    }
    let answer = proxy.until_answer("app.test", "the line is full", |answer| {
        answer.said() == "503 queue-full"
    });
    assert_eq!(answer.value("retry-after"), "1");
}

#[test]
fn held_requests_follow_their_site_to_its_new_backends() {
    let proxy = plan(format!("to = {}\nhold = '1h'", free_port())).start();
    let waiting = under_way(&proxy, 5);
    until("they have come", || proxy.counters()["open"] == 5);
    let app = Backend::saying("elsewhere");
    proxy.site(
        "app.toml",
        format!("host = 'app.test'\nto = {}\nhold = '1h'", app.port),
    );
    for request in waiting {
        assert_eq!(request.join().unwrap(), "elsewhere");
    }
}

#[test]
fn a_passed_through_connection_is_held_too() {
    let port = free_port();
    let proxy = plan(format!("to = {port}\ntls = 'passthrough'\nhold = '30s'")).start();
    let mut client = proxy.client();
    client.send(Tls::to("app.test").hello());
    thread::sleep(OUTAGE);
    let _app = Backend::on_port(port, |conversation| {
        conversation.bytes(5);
        conversation.send("behind");
        conversation.rest();
    });
    assert_eq!(client.bytes(6), b"behind");
}

#[test]
fn after_a_silence_the_time_is_counted_anew_but_not_again_and_again() {
    let port = free_port();
    let proxy = plan(format!("to = {port}\nhold = '2s'")).start();
    let ask = || {
        let began = Instant::now();
        let said = proxy.get("app.test", "/").said();
        (said, began.elapsed() >= Duration::from_secs(2))
    };
    let refused = || "502 backend-refused".to_owned();
    assert_eq!(ask(), (refused(), true), "it was lost just now");
    assert_eq!(ask(), (refused(), false), "and nobody has come back");
    // Long enough once, and too short for the next time.
    const SILENCE: Duration = Duration::from_millis(5_500);
    thread::sleep(SILENCE);
    assert_eq!(ask(), (refused(), true), "it may have been there meanwhile");
    thread::sleep(SILENCE);
    assert_eq!(ask(), (refused(), false), "that was in vain");
    let app = Backend::saying_on_port(port, "app");
    proxy.until_answer("app.test", "it is back", |answer| answer.text() == "app");
    drop(app);
    assert_eq!(ask(), (refused(), true), "lost again");
}

#[test]
fn an_app_that_fails_its_check_and_answers_is_waited_for_from_when_it_is_gone() {
    let port = free_port();
    let serve = |health: &'static str| {
        Backend::on_port(port, move |conversation| {
            while let Some(request) = conversation.request() {
                match request.target() {
                    "/health" => conversation.send(health),
                    _ => conversation.answer("app"),
                }
            }
        })
    };
    let well = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = plan(format!(
        "to = {port}\nhold = '2s'\n[health]\npath = '/health'\nevery = '50ms'\nfall = 1"
    ))
    .start();
    well.until_requests(2);
    drop(well);
    let ill = serve("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    proxy.until_logged("backend out");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(proxy.get("app.test", "/").text(), "app", "all are tried");
    drop(ill);
    let waiting = under_way(&proxy, 1);
    thread::sleep(Duration::from_millis(500));
    let _app = serve("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    for request in waiting {
        assert_eq!(request.join().unwrap(), "app");
    }
}

/// Held with a body that nobody has read: what it sends is left where it is.
#[test]
fn a_held_client_that_leaves_in_the_middle_of_its_body_gives_its_place_back() {
    let port = free_port();
    let site = format!("to = {port}\nhold = '1h'\n[limit]\nqueue = 1");
    let proxy = plan(site).start();
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 500000\r\n\r\n";
    let is_full = || {
        proxy.until_answer("app.test", "the line is full", |answer| {
            answer.said() == "503 queue-full"
        });
    };
    let mut client = proxy.client();
    client.send(format!("{post}{}", "x".repeat(5_000)));
    until("it has come", || proxy.counters()["open"] == 1);
    is_full();
    drop(client);
    until("its end is noticed", || proxy.counters()["aborted"] == 1);
    let mut next = Http2::to(&proxy);
    let stream = next.begin(&request("POST", "app.test", "/", &[]));
    next.data(stream, b"the beginning");
    next.settle();
    is_full();
    next.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    until("this one's too", || proxy.counters()["aborted"] == 2);
    next.begin(&request("POST", "app.test", "/", &[]));
    next.settle();
    is_full();
    drop(next);
    until("and this one's", || proxy.counters()["aborted"] == 3);
}

#[test]
fn a_passed_through_client_that_leaves_while_it_is_held_is_noticed() {
    let proxy = plan(format!(
        "to = {}\ntls = 'passthrough'\nhold = '1h'",
        free_port()
    ))
    .start();
    let mut client = proxy.client();
    client.send(Tls::to("app.test").hello());
    until("it has come", || proxy.counters()["open"] == 1);
    drop(client);
    until("its end is noticed", || proxy.counters()["open"] == 0);
}
