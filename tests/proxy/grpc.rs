//! gRPC from end to end, with the client and the server that people use (CASES G-01 to G-08).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::{Plan, Proxy, found, until};

/// A Python script that says what it does, line by line.
struct Script {
    child: Child,
    out: BufReader<ChildStdout>,
    into: Option<ChildStdin>,
}

impl Script {
    fn run(name: &str, words: &[&str]) -> Script {
        let mut child = Command::new("python3")
            .arg(format!(
                "{}/tests/proxy/grpc/{name}",
                env!("CARGO_MANIFEST_DIR")
            ))
            .args(words)
            .env("GRPC_VERBOSITY", "NONE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let into = child.stdin.take();
        Script { child, out, into }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Lets it go on.
    fn tell(&mut self) {
        self.into.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// All it says from here on.
    fn rest(mut self) -> Vec<String> {
        drop(self.into.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.into.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether Python has what these tests need; in CI it must.
fn has_grpc() -> bool {
    let probe = Command::new("python3")
        .args(["-c", "import grpc"])
        .stderr(Stdio::null())
        .status();
    let has = found("python3") && probe.is_ok_and(|status| status.success());
    assert!(
        has || std::env::var_os("CI").is_none(),
        "grpcio is not installed"
    );
    if !has {
        eprintln!("skipped: python3 has no grpcio");
    }
    has
}

fn app() -> (Script, u16) {
    let mut app = Script::run("server.py", &[]);
    let line = app.line();
    let port = line
        .strip_prefix("port ")
        .and_then(|port| port.parse().ok());
    (app, port.unwrap_or_else(|| panic!("{line:?}")))
}

fn in_front_of(port: u16) -> Plan {
    Proxy::plan().site(
        "app.toml",
        format!("host = 'grpc.test'\nto = 'h2c://127.0.0.1:{port}'"),
    )
}

fn call(proxy: &Proxy, what: &str) -> Script {
    Script::run(
        "client.py",
        &[&proxy.address().to_string(), "grpc.test", what],
    )
}

/// CASES G-01, G-02, G-06.
#[test]
fn calls_of_all_four_kinds() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = [
        "unary hello mine",
        "client-stream 42",
        "server-stream 0,1,2,3,4",
        "bidi ['you said 0', 'you said 1', 'you said 2']",
    ];
    assert_eq!(call(&proxy, "kinds").rest(), said);
}

/// CASES G-01: answers that are only trailers, and trailers behind a beginning.
#[test]
fn a_status_arrives_as_it_was_said() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = [
        "fail NOT_FOUND nothing here",
        "unknown UNIMPLEMENTED",
        "half ['first'] RESOURCE_EXHAUSTED no more",
    ];
    assert_eq!(call(&proxy, "statuses").rest(), said);
}

/// CASES G-07.
#[test]
fn messages_of_4_mib_pass_both_ways() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = call(&proxy, "large").rest();
    assert_eq!(
        said,
        ["large True", "large-bidi [4194313, 4194313, 4194313]"]
    );
}

/// CASES G-03.
#[test]
fn a_deadline_ends_the_call_at_the_app_too() {
    if !has_grpc() {
        return;
    }
    let (mut app, port) = app();
    let proxy = in_front_of(port).start();
    let client = call(&proxy, "deadline");
    assert_eq!(app.line(), "hanging");
    assert_eq!(app.line(), "cancelled");
    assert_eq!(client.rest(), ["deadline DEADLINE_EXCEEDED"]);
}

/// CASES G-04.
#[test]
fn a_cancelled_call_is_cancelled_at_the_app_and_others_go_on() {
    if !has_grpc() {
        return;
    }
    let (mut app, port) = app();
    let proxy = in_front_of(port).start();
    let mut client = call(&proxy, "cancel");
    assert_eq!(client.line(), "called");
    assert_eq!(app.line(), "hanging");
    client.tell();
    assert_eq!(app.line(), "cancelled");
    assert_eq!(client.rest(), ["cancelled", "after fine"]);
}

/// CASES G-05.
#[test]
fn an_app_that_is_down_is_unavailable() {
    if !has_grpc() {
        return;
    }
    let proxy = in_front_of(1).start();
    assert_eq!(call(&proxy, "down").rest(), ["down UNAVAILABLE"]);
}

/// CASES G-08: the calls share connections, which the app may end.
#[test]
fn calls_go_on_while_site_files_change() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let mut client = call(&proxy, "many");
    assert_eq!(client.line(), "calling");
    for number in 0..5 {
        proxy.site(
            "other.toml",
            format!("host = 'other.test'\nto = {}", 5000 + number),
        );
        proxy.site(
            "app.toml",
            format!("# {number}\nhost = 'grpc.test'\nto = 'h2c://127.0.0.1:{port}'"),
        );
    }
    client.tell();
    assert_eq!(client.rest(), ["many True []"]);
    until("one connection served them", || {
        proxy.counted("backend-failed") == 0
    });
}
