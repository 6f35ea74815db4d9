//! No descriptors, no memory, no luck at accept: said once, served again by itself as soon as there is room.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Client, Plan, Proxy, found, until};

/// A onedoor with one worker to which a system call fails as `inject` says. Each thread counts its own calls.
fn failing(call: &str, inject: &str) -> Option<Plan> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{inject}"));
    let strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
    let words = || strace.into_iter().chain(["-e", &trace, "-e", &inject]);
    found("strace").then(|| Proxy::plan().under(words()).flag("--workers=1"))
}

/// A onedoor with 64 descriptors, of which it needs some twenty itself: with 22 requests in work there are none left.
fn with_few_descriptors() -> Option<Plan> {
    let plan = || Proxy::plan().flag("--workers=1");
    found("prlimit").then(plan)
}

/// Takes descriptors away from a process that has shared them out already: otherwise it would never run out.
fn take_descriptors_away(proxy: &Proxy) {
    let lowered = std::process::Command::new("prlimit")
        .args(["--nofile=64:64", "--pid", &proxy.id().to_string()])
        .status();
    assert!(lowered.unwrap().success());
}

const CANNOT_ACCEPT: &str = "cannot accept connections";
const CANNOT_OPEN: &str = "cannot open connections to backends";

/// An app that answers, but not a request for /wait.
fn app() -> Backend {
    Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/wait" {
                conversation.rest();
                return;
            }
            conversation.answer("hello");
        }
    })
}

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn accept_fails_for_a_while(error: &str) {
    // Each failure is followed by a rest of 20 ms; without one, forty of them are over in no time.
    let Some(plan) = failing("accept4", &format!("error={error}:when=1..40")) else {
        return;
    };
    let proxy = plan.site("shop.toml", says("shop.test", "x")).start();
    let begun = Instant::now();
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(700), "spun for {took:?}");
    proxy.until_logged("connections are accepted again");
    let said = proxy.log().matches(CANNOT_ACCEPT).count() as u64;
    assert!(said > 0 && said <= 1 + took.as_secs(), "{}", proxy.log());
}

#[test]
fn no_descriptor_at_accept_is_said_once_a_second_and_waited_for_without_spinning() {
    accept_fails_for_a_while("EMFILE");
}

#[test]
fn no_descriptor_in_the_whole_machine_is_waited_for_too() {
    accept_fails_for_a_while("ENFILE");
}

#[test]
fn no_memory_at_accept_is_waited_for_too() {
    accept_fails_for_a_while("ENOMEM");
}

#[test]
fn a_connection_that_failed_before_it_was_accepted_is_nobody_else_s_trouble() {
    for error in ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH"] {
        let Some(plan) = failing("accept4", &format!("error={error}:when=1..40")) else {
            return;
        };
        let proxy = plan.site("shop.toml", says("shop.test", "x")).start();
        assert_eq!(proxy.get("shop.test", "/").text(), "x");
        assert!(!proxy.log().contains(CANNOT_ACCEPT), "{}", proxy.log());
    }
}

#[test]
fn no_memory_for_an_upstream_is_a_503_that_says_so_and_passes() {
    // The first is the admin socket's question whether anybody has it; the worker counts anew.
    let Some(plan) = failing("connect", "error=ENOMEM:when=1..3") else {
        return;
    };
    let app = app();
    let site = format!("host = 'app.localhost'\nto = '127.0.0.1:{}'", app.port);
    let proxy = plan.site("app.toml", site).start();
    for _ in 0..3 {
        let refused = proxy.get("app.localhost", "/");
        assert_eq!(refused.said(), "503 proxy-exhausted");
        assert_eq!(refused.value("retry-after"), "1");
        assert!(
            refused.text().contains("onedoor cannot open another"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(proxy.get("app.localhost", "/").text(), "hello");
    proxy.until_logged("connections to backends can be opened again");
    let log = proxy.log();
    assert_eq!(log.matches(CANNOT_OPEN).count(), 1, "said once:\n{log}");
    assert!(log.contains("Cannot allocate memory"), "{log}");
    assert_eq!(proxy.counted("proxy-exhausted"), 3);
}

fn asking(proxy: &Proxy, host: &str, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client
}

#[test]
fn with_all_descriptors_in_use_it_says_so_answers_questions_and_recovers() {
    let Some(plan) = with_few_descriptors() else {
        return;
    };
    let app = app();
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = plan.site("app.toml", site).start();
    take_descriptors_away(&proxy);
    let mut waiting = Vec::new();
    until("there is nothing left", || {
        waiting.push(asking(&proxy, "app.test", "/wait"));
        proxy.descriptors().len() >= 64
    });
    // One that is waiting for a descriptor, or is answered that there is none.
    let late = asking(&proxy, "app.test", "/wait");
    until("it is said", || {
        let log = proxy.log();
        log.contains(CANNOT_ACCEPT) || log.contains(CANNOT_OPEN)
    });
    assert_eq!(
        proxy.state_of("app"),
        "live",
        "`ls` has a descriptor of its own"
    );
    assert_eq!(proxy.state_of("app"), "live", "and the next one too");
    proxy.sites().write("late.toml", says("late.test", "x"));

    drop((waiting, late));
    until("it serves again", || {
        proxy.get("app.test", "/").status == 200
    });
    proxy.until_answer("late.test", "written without descriptors", |answer| {
        answer.text() == "x"
    });
    until("everything is let go", || {
        proxy.counters()["open"] == 0 && proxy.descriptors().len() < 30
    });
}

#[test]
fn idle_upstreams_are_given_up_for_those_who_wait() {
    let Some(plan) = with_few_descriptors() else {
        return;
    };
    let now = app();
    let apps = [
        Backend::saying("x"),
        Backend::saying("x"),
        Backend::saying("x"),
    ];
    let site = format!("host = 'now.test'\nto = {}", now.port);
    let mut plan = plan.site("now.toml", site);
    for (number, app) in apps.iter().enumerate() {
        let site = format!(
            "host = 'a{number}.test'\nto = {}\n[timeout]\npool_idle = '10m'",
            app.port
        );
        plan = plan.site(&format!("a{number}.toml"), site);
    }
    let proxy = plan.start();
    take_descriptors_away(&proxy);
    // Six requests at once to each leave six idle upstreams each.
    for (number, app) in apps.iter().enumerate() {
        let host = format!("a{number}.test");
        let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\n"
            ));
        }
        until("all are connected", || app.accepted() == 6);
        for client in &mut clients {
            client.send("x");
            assert_eq!(client.response().text(), "x");
        }
    }
    let mut waiting = Vec::new();
    for count in 1..=15 {
        waiting.push(asking(&proxy, "now.test", "/wait"));
        now.until_requests(count);
    }
    assert!(
        apps.iter().any(|app| app.closed() > 0),
        "some were given up"
    );
    assert_eq!(proxy.counted("proxy-exhausted"), 0);
}

#[test]
fn without_pipes_a_long_body_is_copied() {
    let Some(plan) = failing("pipe2", "error=EMFILE") else {
        return;
    };
    const BYTES: usize = 8 << 20;
    let app = Backend::doing(|conversation| {
        while conversation.request().is_some() {
            conversation.answer(vec![b'x'; BYTES]);
        }
    });
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = plan.site("app.toml", site).start();
    assert_eq!(proxy.get("app.test", "/").body, vec![b'x'; BYTES]);
}

#[test]
fn clients_in_the_queue_are_taken_when_accepting_is_possible_again() {
    let Some(plan) = failing("accept4", "error=EMFILE:when=1..20") else {
        return;
    };
    let proxy = plan.site("shop.toml", says("shop.test", "x")).start();
    let clients: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(proxy.address()).unwrap())
        .collect();
    assert_eq!(
        proxy.get("shop.test", "/").text(),
        "x",
        "behind fifty others"
    );
    drop(clients);
}
