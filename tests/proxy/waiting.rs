//! What deploy scripts wait for, and what they are told when it does not come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Output;

use rustix::process::Signal;

use crate::harness::{Backend, PATIENCE, Proxy, UnderWay, free_port, under_way, until, words_of};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A site whose app is asked all the time whether it is well.
fn checked(host: &str, port: u16) -> String {
    format!("host = '{host}'\nto = {port}\n[health]\npath = '/health'\nevery = '50ms'\n")
}

const WAIT_FOR_EVER: &str =
    "GET /v1/wait?name=a&gone&timeout=20h HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn those_who_wait_keep_nobody_from_asking() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::plan()
        .flag(format!("--admin-listen={address}"))
        .site("a.toml", says("a.test", "x"))
        .start();
    proxy.until_logged("the page and the metrics are at");
    let socket = proxy.state().join("admin.sock");
    let at_the_socket = || {
        let mut one = UnixStream::connect(&socket).unwrap();
        one.write_all(WAIT_FOR_EVER.as_bytes()).unwrap();
        one
    };
    let at_the_address = || {
        let mut one = TcpStream::connect(address).unwrap();
        one.write_all(WAIT_FOR_EVER.as_bytes()).unwrap();
        one
    };
    let mut operators: Vec<UnixStream> = (0..300).map(|_| at_the_socket()).collect();
    let mut browsers: Vec<TcpStream> = (0..300).map(|_| at_the_address()).collect();
    // The last of them are told, and whoever asks something else is answered.
    for last in [
        operators.last_mut().unwrap() as &mut dyn Read,
        browsers.last_mut().unwrap(),
    ] {
        let mut answer = String::new();
        last.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("too many wait here already"), "{answer}");
    }
    let output = proxy.command(["ls"]);
    assert!(output.status.success(), "{}", words_of(&output));
    let output = proxy.command(["reload"]);
    assert!(output.status.success(), "{}", words_of(&output));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    // Whoever gives up makes room.
    drop((operators, browsers));
    until("there is room to wait again", || {
        proxy.command(["wait", "a"]).status.success()
    });
}

/// As `nc -N` and socat do.
#[test]
fn who_says_that_nothing_more_will_be_asked_is_answered() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    let socket = proxy.state().join("admin.sock");
    let ask = |target: &str| {
        let mut one = UnixStream::connect(&socket).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        one.write_all(head.as_bytes()).unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        one
    };
    let answer = |mut one: UnixStream| {
        let mut answer = String::new();
        one.read_to_string(&mut answer).unwrap();
        answer
    };
    for (target, part) in [
        ("/metrics", "onedoor_build_info"),
        ("/v1/sites", "a.test"),
        ("/v1/history?name=a", "\"versions\""),
        ("/healthz", "ok\n"),
    ] {
        let answer = answer(ask(target));
        assert!(answer.contains(part), "{target}: {answer:?}");
    }
    let late = ask("/v1/wait?name=late&timeout=20h");
    proxy.site("late.toml", says("late.test", "x"));
    let answer = answer(late);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

#[test]
fn everything_on_disk_serves_only_when_each_site_has_a_fit_backend() {
    let port = free_port();
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    proxy.sites().write("late.toml", checked("late.test", port));
    let all = proxy.command(["wait", "--timeout", "300ms"]);
    assert_eq!(all.status.code(), Some(3), "{}", words_of(&all));
    let why = "late: no backend has passed its check yet";
    assert!(
        err(&all).contains(&format!("waiting for {why}")),
        "{}",
        err(&all)
    );
    let one = proxy.command(["wait", "late", "--timeout", "300ms"]);
    assert_eq!(one.status.code(), Some(3), "{}", words_of(&one));
    let why = "not serving yet after 300ms: no backend has passed its check yet";
    assert!(err(&one).contains(why), "{}", err(&one));
    // It has brought nothing itself that would have to be waited for, and says what waits.
    let reload = proxy.command(["reload"]);
    assert!(reload.status.success(), "{}", words_of(&reload));
    assert!(
        err(&reload).contains("not everything on disk serves"),
        "{}",
        words_of(&reload)
    );
    let said = String::from_utf8_lossy(&reload.stdout).into_owned();
    assert!(said.contains("waiting   late\n"), "{said}");
    let app = Backend::saying_on_port(port, "here");
    let all = proxy.command(["wait", "--timeout", "30s"]);
    assert!(all.status.success(), "{}", words_of(&all));
    assert_eq!(proxy.get("late.test", "/").text(), "here");
    let reload = proxy.command(["reload"]);
    assert!(reload.status.success(), "{}", words_of(&reload));
    // An edit to a backend that never passes is not a deployment either.
    proxy
        .sites()
        .write("late.toml", checked("late.test", free_port()));
    let all = proxy.command(["wait", "--timeout", "300ms"]);
    assert_eq!(all.status.code(), Some(3), "{}", words_of(&all));
    drop(app);
}

#[test]
fn one_app_that_is_down_is_no_matter_of_whoever_deploys_another() {
    let app = Backend::saying("here");
    let port = app.port;
    let proxy = Proxy::plan()
        .site("a.toml", checked("a.test", port))
        .site("b.toml", says("b.test", "x"))
        .start();
    let all = proxy.command(["wait", "--timeout", "30s"]);
    assert!(all.status.success(), "{}", words_of(&all));
    drop(app);
    proxy.until_logged("backend out");
    proxy.sites().write("b.toml", says("b.test", "y"));
    for words in [&["wait", "--timeout", "30s"][..], &["reload"]] {
        let output = proxy.command(words.iter().copied());
        assert!(output.status.success(), "{}", words_of(&output));
    }
    assert_eq!(proxy.get("b.test", "/").text(), "y");
    // Who waits for that very site is not told that all is well.
    let one = proxy.command(["wait", "a", "--timeout", "300ms"]);
    assert_eq!(one.status.code(), Some(3), "{}", words_of(&one));
}

#[test]
fn a_site_that_waits_for_its_certificate_is_waited_for_and_not_rejected() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    let files = "[tls]\ncert = 'late.pem'\nkey = 'late.pem'\n";
    proxy.sites().write("w.toml", says("w.test", "x") + files);
    for words in [
        &["wait", "--timeout", "2s"][..],
        &["wait", "w", "--timeout", "2s"],
    ] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(3), "{}", words_of(&output));
        assert!(
            err(&output).contains("late.pem is not there yet"),
            "{}",
            err(&output)
        );
    }
    // What is wrong is not made better by it, and is said at once.
    proxy.sites().write("bad.toml", "nonsense");
    let output = proxy.command(["wait", "--timeout", "20s"]);
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
}

#[test]
fn what_serves_while_the_daemon_drains_is_no_deployment() {
    let UnderWay {
        mut proxy,
        client: _client,
        app: _app,
    } = under_way();
    proxy.signal(Signal::TERM);
    proxy.until_logged("draining: no new connections");
    for words in [&["wait"][..], &["wait", "slow"]] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
        assert!(
            err(&output).contains("the daemon is draining"),
            "{}",
            err(&output)
        );
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn a_host_in_the_place_of_a_site_is_told_whose_it_is() {
    let proxy = Proxy::plan()
        .site("two.toml", says("shop.test", "x"))
        .start();
    for words in [
        &["wait", "shop.test"][..],
        &["rm", "shop.test"],
        &["history", "shop.test"],
    ] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
        assert!(
            err(&output).contains("shop.test is a host of the site \"two\""),
            "{}",
            err(&output)
        );
    }
}

/// Processor time of the process so far.
fn cpu_seconds(proxy: &Proxy) -> f64 {
    let metrics = proxy.admin("GET", "/metrics").1;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn many_who_wait_for_everything_cost_an_edit_no_more_than_one_does() {
    let plan = Proxy::plan();
    for number in 0..2_000 {
        let text = says(&format!("s{number}.test"), "x");
        std::fs::write(plan.sites().join(&format!("s{number}.toml")), text).unwrap();
    }
    // Never fit, so that what they wait for does not come.
    let never = checked("never.test", free_port());
    let proxy = plan.site("never.toml", never).start();
    let wait = |time: &str| {
        let mut one = UnixStream::connect(proxy.state().join("admin.sock")).unwrap();
        let head = format!("GET /v1/wait?timeout={time} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        one.write_all(head.as_bytes()).unwrap();
        one
    };
    // Whoever asks behind the others is answered behind them.
    let until_they_wait = || {
        until("whoever asked before is heard", || {
            let mut answer = String::new();
            wait("100ms").read_to_string(&mut answer).unwrap();
            answer.contains("\"pending\":[\"never\"]")
        });
    };
    let edits = || {
        let before = cpu_seconds(&proxy);
        for number in 0..30 {
            proxy.site("s0.toml", says("s0.test", &number.to_string()));
        }
        cpu_seconds(&proxy) - before
    };
    let _one = wait("20h");
    until_they_wait();
    let with_one = edits();
    let _many: Vec<_> = (0..150).map(|_| wait("20h")).collect();
    until_they_wait();
    let with_many = edits();

    assert!(
        with_many < 4.0 * with_one + 1.0,
        "{with_many} s, and {with_one} s with one"
    );
}
