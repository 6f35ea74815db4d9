//! Apps that are processes of their own: ended, stopped, started again.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::plan;
use crate::harness::{Client, found, free_port, suspend, until};

/// A small app in Python: `/` says "app", `/large` a megabyte that never ends.
const APP: &str = r#"
import socket, sys, threading
door = socket.socket()
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind(("127.0.0.1", int(sys.argv[1])))
door.listen(512)
def serve(one):
    with one, one.makefile("rb") as lines:
        while True:
            line = lines.readline()
            if not line:
                return
            while lines.readline() not in (b"\r\n", b""):
                pass
            if b"/large" in line:
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1000000)
                threading.Event().wait()
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp")
while True:
    one, _ = door.accept()
    threading.Thread(target=serve, args=(one,), daemon=True).start()
"#;

/// A running one, ended when dropped.
struct App(Child);

impl App {
    fn start(port: u16) -> App {
        let mut command = Command::new("python3");
        command.args(["-c", APP, &port.to_string()]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        App(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.0.wait().unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn an_app_that_is_killed_in_the_middle_of_a_body_cuts_that_response_alone() {
    if !found("python3") {
        return;
    }
    let port = free_port();
    let app = App::start(port);
    let proxy = plan(format!("to = {port}\nhold = '30s'")).start();
    let mut client = proxy.client();
    client.send("GET /large HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.bytes(1_000_000).len(), 1_000_000);
    app.end(Signal::KILL);
    let (rest, _) = client.rest_if_closed();
    assert_eq!(rest.len(), 0, "nothing is made up");
    let asking = super::under_way(&proxy, 3);
    let _app = App::start(port);
    for request in asking {
        assert_eq!(request.join().unwrap(), "app");
    }
}

#[test]
fn an_app_that_is_stopped_is_504_in_time_and_goes_on_when_it_is_continued() {
    if !found("python3") {
        return;
    }
    let port = free_port();
    let app = App::start(port);
    let proxy = plan(format!(
        "to = {port}\nhold = '30s'\n[timeout]\nfirst_byte = '500ms'"
    ))
    .start();
    assert_eq!(proxy.get("app.test", "/").text(), "app");
    suspend(Pid::from_child(&app.0));
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    app.signal(Signal::CONT);
    proxy.until_answer("app.test", "it goes on", |answer| answer.text() == "app");
}

#[test]
fn an_app_that_is_restarted_every_second_costs_no_request() {
    if !found("python3") {
        return;
    }
    /// Of each of four visitors, who are 200 requests a second together.
    const PACE: Duration = Duration::from_millis(20);
    const RESTARTS: usize = 5;
    let port = free_port();
    let mut app = App::start(port);
    let proxy = plan(format!("to = {port}\nhold = '30s'")).start();
    assert_eq!(proxy.get("app.test", "/").text(), "app");
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (address, is_over) = (proxy.address(), is_over.clone());
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let (mut count, mut failed) = (0, Vec::new());
                let mut next = Instant::now();
                while !is_over.load(Ordering::SeqCst) {
                    let answer = client.get("app.test", "/");
                    count += 1;
                    if answer.text() != "app" {
                        failed.push(answer.said());
                    }
                    next += PACE;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                (count, failed)
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        thread::sleep(Duration::from_secs(1));
        app.end(Signal::TERM);
        app = App::start(port);
        // Each restart for itself: one that ends before it is there would fail whoever waited for it.
        until("it accepts", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }
    until("it is back", || {
        Client::connect(proxy.address()).get("app.test", "/").status == 200
    });
    is_over.store(true, Ordering::SeqCst);
    let mut count = 0;
    for visitor in visitors {
        let (asked, failed) = visitor.join().unwrap();
        assert_eq!(failed, Vec::<String>::new(), "of {asked}");
        count += asked;
    }
    assert!(count > 100, "{count} requests");
}
