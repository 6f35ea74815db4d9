//! What is wrong with a backend: the log says which and why, and metrics count it.

use super::plan;
use crate::harness::{Backend, Proxy, free_port, until};

fn counted(proxy: &Proxy, backend: &str, reason: &str) -> u64 {
    let series = format!(
        "onedoor_backend_errors_total{{site=\"app\",backend=\"{backend}\",reason=\"{reason}\"}} "
    );
    let text = proxy.admin("GET", "/metrics").1;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&series)?.parse().ok());
    value.unwrap_or(0)
}

#[test]
fn the_log_says_once_which_backend_fails_and_why_and_when_it_is_over() {
    let port = free_port();
    let proxy = plan(format!("to = {port}\nhold = 'off'")).start();
    for _ in 0..50 {
        assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    }
    let at = format!("localhost:{port}");
    let line =
        format!("{at} does not accept connections: Connection refused (os error 111) site=app");
    let reason = format!("site=app backend={at} reason=backend-refused");
    proxy.until_logged(&reason);
    let _app = Backend::saying_on_port(port, "app");
    assert_eq!(proxy.get("app.test", "/").text(), "app");
    proxy.until_logged(&format!(
        "it accepts connections again site=app backend={at}"
    ));
    let log = proxy.log();
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    assert_eq!(log.matches(&reason).count(), 1, "{log}");
    assert_eq!(counted(&proxy, &at, "backend-refused"), 50);
}

/// What a command prints, and its exit code.
fn said(proxy: &Proxy, words: &[&str]) -> (String, Option<i32>) {
    let output = proxy.command(words.iter().copied());
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.code())
}

#[test]
fn an_app_that_is_the_only_one_and_gone_is_shown_everywhere_until_it_is_back() {
    let (port, other) = (free_port(), free_port());
    let proxy = plan(format!(
        "to = {port}\nhold = 'off'\n[[path]]\nmatch = '/api'\nto = {other}"
    ));
    let socket = proxy.folder().join("no.sock");
    let text = format!(
        "host = 'socket.test'\nto = 'unix:{}'\nhold = 'off'",
        socket.display()
    );
    let proxy = proxy.site("socket.toml", text).start();
    let wrong = |at: &str| {
        let (all, code) = said(&proxy, &["ls", "--errors"]);
        let refused = format!("{at} does not accept connections: ");
        let line = all.lines().find(|line| line.contains(&refused));
        (line.map(str::to_owned), code)
    };
    assert_eq!(
        said(&proxy, &["ls", "--errors"]),
        ("nothing is wrong\n".into(), Some(0))
    );
    for (host, path, site, at) in [
        ("app.test", "/", "app", format!("localhost:{port}")),
        ("app.test", "/api/x", "app", format!("localhost:{other}")),
        (
            "socket.test",
            "/",
            "socket",
            format!("unix:{}", socket.display()),
        ),
    ] {
        let answer = proxy.get(host, path);
        assert_eq!(answer.said(), "502 backend-refused");
        let (line, code) = wrong(&at);
        let line = line.unwrap_or_else(|| panic!("{at} is not listed"));
        assert!(line.starts_with(&format!("{site}: {at} ")), "{line}");
        assert!(
            line.contains(" (since ") && line.contains(", tried last at "),
            "{line}"
        );
        assert_eq!(code, Some(1));
        let refused = format!("{at} does not accept connections: ");
        for words in [&["ls"][..], &["ls", "--json"]] {
            let (all, code) = said(&proxy, words);
            assert!(all.contains(&refused), "{words:?}: {all}");
            assert_eq!(code, Some(0));
        }
        let url = format!("http://{host}{path}");
        let (walk, _) = said(&proxy, &["explain", &url]);
        assert!(walk.contains(&refused), "{walk}");
        assert!(
            walk.contains(&format!(
                "the app at {at} is asked; the last connect to it failed"
            )),
            "{walk}"
        );
    }
    let _app = Backend::saying_on_port(port, "app");
    assert_eq!(proxy.get("app.test", "/").text(), "app");
    assert_eq!(wrong(&format!("localhost:{port}")).0, None);
    assert!(wrong(&format!("localhost:{other}")).0.is_some());
}

#[test]
fn a_backend_that_accepts_and_gives_no_answer_is_listed_until_it_answers() {
    for (app, keys, cause) in [
        (
            Backend::closing(),
            "",
            "closed the connection before it answered",
        ),
        (
            Backend::silent(),
            "[timeout]\nfirst_byte = '200ms'",
            "took the request and did not answer in time",
        ),
        (
            Backend::raw_and_open("SSH-2.0-OpenSSH_9.2\r\n"),
            "",
            "sent ",
        ),
    ] {
        let port = app.port;
        let proxy = plan(format!("to = {port}\nhold = 'off'\n{keys}")).start();
        let clean = ("nothing is wrong\n".to_owned(), Some(0));
        assert_eq!(said(&proxy, &["ls", "--errors"]), clean);
        assert!(proxy.get("app.test", "/").status >= 502);
        let (line, code) = said(&proxy, &["ls", "--errors"]);
        assert!(
            line.starts_with(&format!("app: localhost:{port} {cause}")),
            "{line}"
        );
        assert!(
            line.contains(" (since ") && line.contains(", tried last at "),
            "{line}"
        );
        assert_eq!(code, Some(1));
        for words in [&["ls"][..], &["explain", "http://app.test/"]] {
            let (all, _) = said(&proxy, words);
            assert!(all.contains(cause), "{words:?}: {all}");
        }
        let (walk, _) = said(&proxy, &["explain", "http://app.test/"]);
        assert!(
            walk.contains("is asked; the last request to it got no answer"),
            "{walk}"
        );
        drop(app);
        let _app = Backend::saying_on_port(port, "app");
        proxy.until_answer("app.test", "it answers", |answer| answer.text() == "app");
        assert_eq!(said(&proxy, &["ls", "--errors"]), clean);
    }
}

#[test]
fn a_backend_that_requests_took_out_is_listed_with_its_site_and_the_cause() {
    for (app, key, cause) in [
        (
            Backend::closing(),
            "reset",
            "3 requests in a row got no answer",
        ),
        (
            Backend::raw_and_open("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"),
            "5xx",
            "3 answers in a row from 500 on",
        ),
    ] {
        let spare = Backend::saying("spare");
        let proxy = plan(format!(
            "to = [{}, {}]\nbalance = 'round-robin'\n[health]\npassive = {{ {key} = 3 }}",
            app.port, spare.port
        ))
        .start();
        until("it is out", || {
            proxy.get("app.test", "/");
            proxy.log().contains("backend out for")
        });
        let (all, code) = said(&proxy, &["ls", "--errors"]);
        assert!(
            all.starts_with(&format!("app: localhost:{}: out since ", app.port)),
            "{all}"
        );
        assert!(
            all.contains(&format!("{cause}; it is tried again soon\n")),
            "{all}"
        );
        assert_eq!(code, Some(1));
        let (all, _) = said(&proxy, &["ls"]);
        assert!(all.contains("live 1/2"), "{all}");
    }
}

#[test]
fn what_was_wrong_is_counted_by_backend_and_reason_also_where_another_has_answered() {
    let text = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    for (app, times, reason, is_answered) in [
        (Backend::closing(), 3, "backend-failed", true),
        (
            Backend::raw("nonsense\r\n\r\n"),
            3,
            "backend-malformed",
            false,
        ),
        (Backend::raw_and_open(text(503)), 3, "5xx", false),
        (Backend::raw(half), 3, "backend-failed", false),
    ] {
        let spare = Backend::saying("spare");
        let proxy = plan(format!(
            "to = [{}, {}]\nbalance = 'round-robin'",
            app.port, spare.port
        ))
        .start();
        for _ in 0..2 * times {
            let mut client = proxy.client();
            client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
            let answer = String::from_utf8_lossy(&client.rest()).into_owned();
            assert!(!is_answered || answer.ends_with("spare"), "{answer}");
        }
        let at = format!("localhost:{}", app.port);
        // A retry may have taken the other one's turn.
        until("each time is counted", || {
            (times..=2 * times).contains(&counted(&proxy, &at, reason))
        });
        let other = format!("localhost:{}", spare.port);
        let text = proxy.admin("GET", "/metrics").1;
        assert!(
            !text.contains(&format!("errors_total{{site=\"app\",backend=\"{other}\"")),
            "{text}"
        );
        if reason != "5xx" {
            proxy.until_logged(&format!("site=app backend={at} reason={reason}"));
        }
    }
}

#[test]
fn an_app_that_does_not_answer_in_time_is_named() {
    let app = Backend::silent();
    let proxy = plan(format!(
        "to = {}\n[timeout]\nfirst_byte = '200ms'",
        app.port
    ))
    .start();
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    let at = format!("localhost:{}", app.port);
    proxy.until_logged(&format!("site=app backend={at} reason=backend-timeout"));
    assert_eq!(counted(&proxy, &at, "backend-timeout"), 1);
}
