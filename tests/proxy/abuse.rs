//! slowhttptest in its four modes, against limits that their keys have shortened: others are served during it, and
//! nothing of it is left.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Backend, Proxy, found, until};

/// How many connections it opens, and how many a second.
const CONNECTIONS: u64 = 300;
const RATE: &str = "150";
/// How long it goes on, in seconds.
const LENGTH: &str = "8";
/// Each limit that it runs into. Far shorter than its own waits, which are 10 s where nothing else is said.
const LIMITS: &str = "[timeout]\nopening = '1s'\nhead = '1s'\nidle = '1s'\n";
const SITE_LIMITS: &str = "[timeout]\nidle = '1s'\n";
/// What one of its connections may cost: a block of 68 KiB for who does not read, and what the allocator keeps.
const MEMORY_EACH: u64 = 100 << 10;

struct Attack(Child);

impl Attack {
    fn start(proxy: &Proxy, words: &[&str]) -> Attack {
        let url = format!("http://127.0.0.1:{}/", proxy.address().port());
        let child = Command::new("slowhttptest")
            .args(words)
            .args(["-c", &CONNECTIONS.to_string(), "-r", RATE, "-l", LENGTH])
            .args(["-u", &url, "-p", "3", "-v", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Attack(child)
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // Over already, as a rule.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A good client is served all the time while this goes on; connections end before it lets go of them, and all of them
/// are gone soon after.
fn others_are_served_during(words: &[&str], body: usize) {
    if !found("slowhttptest") {
        return;
    }
    let body = vec![b'x'; body];
    let app = Backend::doing(move |conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/good" => conversation.answer("hello"),
                _ => conversation.answer(&body),
            }
        }
    });
    let site = format!("host = '127.0.0.1'\nto = {}\n{SITE_LIMITS}", app.port);
    let proxy = Proxy::plan()
        .daemon_file(LIMITS)
        .site("app.toml", site)
        .start();
    let good = || {
        let begun = Instant::now();
        assert_eq!(proxy.get("127.0.0.1", "/good").text(), "hello");
        begun.elapsed()
    };
    good();
    let memory = proxy.peak_memory();

    let mut attack = Attack::start(&proxy, words);
    let (mut most, mut slowest, mut asked) = (0, Duration::ZERO, 1);
    until("the attack is over", || {
        slowest = slowest.max(good());
        asked += 1;
        most = most.max(proxy.counters()["open"].as_u64().unwrap_or_default());
        attack.is_over()
    });
    let came = proxy.counters()["connections"].as_u64().unwrap() - asked;
    // All of it, unless the attacker is held up as well.
    assert!(came >= CONNECTIONS / 4, "only {came} of it came");
    // A machine that is busy with other tests is slow; one that is kept out waits until it has no more patience.
    assert!(
        slowest < Duration::from_secs(30),
        "the slowest took {slowest:?}"
    );
    until("nothing of it is left", || proxy.counters()["open"] == 0);
    let grown = proxy.peak_memory() - memory;
    assert!(
        grown < most * MEMORY_EACH + (8 << 20),
        "{grown} bytes for {most} connections"
    );
    good();
    assert!(!proxy.log().contains("panic"), "{}", proxy.log());
}

#[test]
fn slow_heads_do_not_keep_others_out() {
    others_are_served_during(&["-H", "-i", "1", "-t", "GET", "-x", "24"], 5);
}

#[test]
fn slow_bodies_do_not_keep_others_out() {
    others_are_served_during(
        &["-B", "-i", "2", "-s", "8192", "-t", "POST", "-x", "10"],
        5,
    );
}

#[test]
fn requests_for_many_ranges_do_not_keep_others_out() {
    others_are_served_during(&["-R", "-t", "HEAD", "-a", "10", "-b", "3000"], 5);
}

#[test]
fn slow_readers_do_not_keep_others_out() {
    let words = [
        "-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3",
    ];
    others_are_served_during(&words, 4 << 20);
}

#[test]
fn clients_that_ask_ahead_cost_little_more_than_those_who_wait() {
    let app = Backend::silent();
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = Proxy::plan().site("app.toml", site).start();
    let ask = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let asking = |text: String| {
        let mut client = proxy.client();
        client.send(text);
        client
    };
    let first = asking(ask.to_string());
    app.until_requests(1);
    let mut requests = 1;
    let mut cost_of_300 = |text: &str| {
        let before = proxy.peak_memory();
        let clients: Vec<_> = (0..300).map(|_| asking(text.to_string())).collect();
        requests += 300;
        app.until_requests(requests);
        (proxy.peak_memory() - before, clients)
    };
    let (waiting, one_each) = cost_of_300(ask);
    let (ahead, three_each) = cost_of_300(&ask.repeat(3));
    // A block for each would be 20 MB.
    assert!(
        ahead < waiting + (6 << 20),
        "{ahead} bytes, and {waiting} for who waits"
    );
    drop((first, one_each, three_each));
}

/// CASES D-17.
#[test]
fn bad_clients_write_nothing_into_the_log() {
    let app = Backend::saying("x");
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = Proxy::plan()
        .site("app.toml", site)
        .site("dead.toml", "host = 'dead.test'\nto = 1")
        .start();
    // That an app is not there is for its operator to know, and said once.
    assert_eq!(proxy.get("dead.test", "/").status, 502);
    proxy.until_logged("does not accept connections");
    let before = proxy.log();
    for _ in 0..50 {
        for bytes in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \u{1b}[31m\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: dead.test\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            assert!(proxy.ask(bytes).status >= 400);
        }
        let mut client = proxy.client();
        client.send([0x16, 3, 1, 0, 1, 0xff]);
        client.rest();
    }
    assert_eq!(proxy.log(), before);
}
