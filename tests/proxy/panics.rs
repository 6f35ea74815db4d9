//! A panic ends one connection: told once, counted, nothing left behind. Beyond a connection it ends the process,
//! loudly.
//!
//! The panics are real, and so is the executable: strace lets the kernel say what no kernel says, and the standard
//! library or the runtime gives up.

use crate::harness::{Backend, Plan, Proxy, found, until};

/// A onedoor with one worker to which the kernel lies as `inject` says. Each thread counts its own system calls.
fn lied_to(call: &str, inject: &str) -> Option<Plan> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{inject}"));
    let strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
    let words = || strace.into_iter().chain(["-e", &trace, "-e", &inject]);
    found("strace").then(|| Proxy::plan().under(words()).flag("--workers=1"))
}

/// More than any buffer holds: whoever believes it is out of bounds.
const TOO_MANY_BYTES: &str = "retval=10000000";

const TOLD: &str = "a panic has ended a connection";

#[test]
fn a_panic_ends_one_connection_is_told_once_and_leaves_nothing() {
    let Some(plan) = lied_to("recvfrom", &format!("{TOO_MANY_BYTES}:when=20..200+9")) else {
        return;
    };
    let app = Backend::saying("hello");
    let site = format!(
        "host = 'app.test'\nto = {}\n[timeout]\npool_idle = '300ms'",
        app.port
    );
    let plan = plan
        .site("app.toml", site)
        .site("own.toml", "host = 'own.test'\nrespond = 'hello'");
    let proxy = plan.start();
    let mut bystander = proxy.client();
    assert_eq!(bystander.get("own.test", "/").text(), "hello");
    // Without the bystander; the worker has everything that it needs by now.
    let before = proxy.sockets() - 1;

    let (mut answered, mut cut) = (0, 0);
    while answered < 250 {
        let mut client = proxy.client();
        let host = if answered % 3 == 0 {
            "own.test"
        } else {
            "app.test"
        };
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        match client.try_response("GET") {
            Ok(response) => {
                assert_eq!(response.text(), "hello");
                answered += 1;
            }
            Err(broken) => {
                assert_eq!(broken.so_far.status, 0, "{broken:?}");
                cut += 1;
            }
        }
    }
    assert!(cut > 5, "{cut} panics");
    assert_eq!(
        bystander.get("own.test", "/").text(),
        "hello",
        "its neighbour has not noticed"
    );
    drop(bystander);
    until("no descriptor is left", || proxy.sockets() == before);

    // Asked only now: the kernel lies to the control thread as well, once that has received so often.
    let counters = proxy.counters();
    assert_eq!(counters["open"], 0, "{counters}");
    let panics = counters["reasons"]["panic"].as_u64().unwrap();
    // Some fall on a client that has its answer and is about to leave.
    assert!(panics >= cut, "{counters}");
    until("each is told", || told(&proxy.log()) >= panics);
    let log = proxy.log();
    assert_eq!(told(&log), panics, "each once:\n{log}");
    for line in log.lines().filter(|line| line.contains("panic")) {
        for part in ["ERROR", TOLD, "place=", ".rs:"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert!(
        !log.contains("panicked at") && !log.contains("RUST_BACKTRACE"),
        "{log}"
    );
}

/// How many panics a log tells of. The same line in a row is said once, and how often it came.
fn told(log: &str) -> u64 {
    let mut count = 0;
    let mut is_about_panics = false;
    for line in log.lines() {
        let more = line
            .split_once("the line before was said ")
            .map(|(_, more)| more);
        match more.and_then(|more| more.split(' ').next()?.parse::<u64>().ok()) {
            Some(more) if is_about_panics => count += more,
            Some(_) => {}
            None => {
                is_about_panics = line.contains(TOLD);
                count += u64::from(is_about_panics);
            }
        }
    }
    count
}

#[test]
fn a_panic_with_a_request_in_work_is_told_with_the_id_that_the_backend_knows() {
    let Some(plan) = lied_to("recvfrom", &format!("{TOO_MANY_BYTES}:when=5+5")) else {
        return;
    };
    let app = Backend::recording();
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = plan.site("app.toml", site).start();
    until(
        "a response of the backend was what nobody could read",
        || {
            let mut client = proxy.client();
            client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            drop(client.try_response("GET"));
            proxy.log().contains("request_id=")
        },
    );
    let log = proxy.log();
    let line = log
        .lines()
        .find(|line| line.contains("request_id="))
        .unwrap();
    let id = line
        .split("request_id=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert_eq!(id.len(), 32, "{line}");
    assert!(line.contains("site=\"app\""), "{line}");
    assert!(line.contains("client=127.0.0.1:"), "{line}");
    let known = app
        .requests()
        .iter()
        .any(|request| request.values("x-request-id") == [id]);
    assert!(known, "{id} is none of {:?}", app.requests());
}

#[test]
fn a_client_of_a_response_that_a_panic_cuts_short_sees_a_reset_and_no_end() {
    let Some(plan) = lied_to("recvfrom", &format!("{TOO_MANY_BYTES}:when=4+4")) else {
        return;
    };
    // Without a length the close is what ends it, for a 1.0 client.
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\n\r\nhalf");
        conversation.rest();
    });
    let site = format!(
        "host = 'app.test'\nto = {}\n[timeout]\nidle = '200ms'",
        app.port
    );
    let proxy = plan.site("app.toml", site).start();
    while proxy.log().matches(TOLD).count() < 3 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
        assert!(
            client.try_response("GET").is_err(),
            "half of it looked whole"
        );
    }
}

#[test]
fn a_panic_on_the_admin_socket_ends_that_question_alone() {
    // The control thread receives on the admin socket only.
    let Some(plan) = lied_to("recvfrom", &format!("{TOO_MANY_BYTES}:when=3")) else {
        return;
    };
    let proxy = plan
        .site("own.toml", "host = 'own.test'\nrespond = 'x'")
        .start();
    until("a question has ended in a panic", || {
        drop(proxy.command(["ls"]));
        proxy.log().contains("panic")
    });
    assert_eq!(proxy.command(["ls"]).status.code(), Some(0));
    proxy.site("new.toml", "host = 'new.test'\nrespond = 'y'");
    assert_eq!(proxy.get("new.test", "/").text(), "y");
}

#[test]
fn a_worker_that_cannot_wait_for_anything_any_more_ends_the_process_with_a_word() {
    // Nothing is sent to the door, so it is the worker's clock and nobody else that waits so often.
    let Some(plan) = lied_to("epoll_wait", "error=EBADF:when=60") else {
        return;
    };
    let mut proxy = plan
        .site("own.toml", "host = 'own.test'\nrespond = 'x'")
        .start();
    let mut client = proxy.client();
    while client
        .try_send("GET / HTTP/1.1\r\nHost: own.test\r\n\r\n")
        .is_ok()
        && client.try_response("GET").is_ok()
    {}
    assert_eq!(proxy.exit_code(), 1, "{}", proxy.log());
    proxy.until_logged("a worker is lost; ending, so that whoever supervises this starts it again");
    assert!(proxy.log().contains("a panic: "), "{}", proxy.log());
}

#[test]
fn a_control_thread_that_cannot_wait_for_anything_any_more_ends_the_process_with_a_word() {
    let Some(plan) = lied_to("epoll_wait", "error=EBADF:when=60") else {
        return;
    };
    let mut proxy = plan.start();
    // The worker sleeps; every question wakes the control thread.
    until("it has ended", || {
        drop(proxy.command(["ls"]));
        proxy.has_ended()
    });
    assert_eq!(proxy.exit_code(), 1, "{}", proxy.log());
    proxy.until_logged("the control thread has panicked; ending");
}
