//! TLS that is passed through: bytes unchanged, half-close kept, the certificate is the app's.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::harness::Agreed;
use crate::harness::{
    Authority, Backend, Client, Plan, Proxy, Tls, found, free_port, from_latin1, in_records,
    is_same, tls_app, until,
};

const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

fn with_site(to: impl std::fmt::Display, more: &str) -> Plan {
    Proxy::plan().site(
        "app.toml",
        format!("host = 'app.test'\nto = {to}\ntls = 'passthrough'\n{more}"),
    )
}

fn hello() -> Vec<u8> {
    Tls::to("app.test").alpn(&["h2"]).hello()
}

/// Reads `count` bytes and says `there`; then waits for the end.
fn taking(count: usize) -> Backend {
    Backend::doing(move |conversation| {
        conversation.bytes(count);
        conversation.send("there");
        conversation.rest();
    })
}

#[track_caller]
fn has_read(app: &Backend, bytes: &[u8]) {
    let read = || from_latin1(&app.raw_bytes());
    until("the app has read all of it", || read().len() >= bytes.len());
    assert!(read() == bytes, "other bytes than were sent");
}

#[test]
fn the_app_shakes_hands_with_its_own_certificate() {
    let authority = Authority::new("test");
    let pair = authority.pair(&["app.test"]);
    let app = tls_app(&pair, "hello from the app");
    let proxy = with_site(app.port, "").start();
    let line = Tls::to("app.test")
        .trusting(&authority.pem)
        .shake(proxy.address())
        .unwrap();
    assert!(is_same(&pair.cert, &line.shown()));
    let mut client = Client::over(line);
    assert_eq!(client.bytes(18), b"hello from the app");
    client.send("and back");
    assert_eq!(client.bytes(8), b"and back");
}

#[test]
fn the_hello_and_what_came_behind_it_reach_the_app_unchanged() {
    let sent = [hello(), b"\x14\x03\x03\x00\x01\x01early".to_vec()].concat();
    let app = taking(sent.len());
    let proxy = with_site(app.port, "").start();
    let mut client = proxy.client();
    client.send(&sent);
    assert_eq!(client.bytes(5), b"there");
    has_read(&app, &sent);
}

#[test]
fn the_records_that_a_hello_came_in_reach_the_app_unchanged() {
    for count in [2, 50] {
        let sent = in_records(&hello(), vec![hello().len() / count; count]);
        let app = taking(sent.len());
        let proxy = with_site(app.port, "").start();
        let mut client = proxy.client();
        for byte in &sent {
            client.send([*byte]);
        }
        assert_eq!(client.bytes(5), b"there");
        has_read(&app, &sent);
    }
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let app = Backend::doing(|conversation| {
        let asked = conversation.rest().len();
        conversation.send(format!("read {asked}"));
    });
    let proxy = with_site(app.port, "").start();
    let mut client = proxy.client();
    let hello = hello();
    client.send(&hello);
    client.finish_sending();
    assert_eq!(client.rest(), format!("read {}", hello.len()).as_bytes());
}

#[test]
fn an_app_that_has_finished_sending_still_reads() {
    let hello = hello();
    let expected = hello.len() + 6;
    let app = Backend::doing(move |conversation| {
        conversation.send("bye");
        conversation.finish_sending();
        conversation.bytes(expected);
    });
    let proxy = with_site(app.port, "").start();
    let mut client = proxy.client();
    client.send(&hello);
    assert_eq!(client.rest(), b"bye");
    client.send("behind");
    client.finish_sending();
    has_read(&app, &[&hello[..], b"behind"].concat());
}

#[test]
fn an_app_that_breaks_off_is_no_end() {
    let hello_bytes = hello().len();
    let app = Backend::doing(move |conversation| {
        conversation.bytes(hello_bytes);
        conversation.send("half");
        conversation.bytes(1);
        conversation.reset();
    });
    let proxy = with_site(app.port, "").start();
    let mut client = proxy.client();
    client.send(hello());
    assert_eq!(client.bytes(4), b"half");
    client.send("x");
    let error = client.stream().read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn two_apps_two_certificates_of_ours_and_clear_text_share_the_port() {
    let authority = Authority::new("test");
    let (one, two) = (
        authority.pair(&["one.test"]),
        authority.pair(&["*.two.test"]),
    );
    let (first, second) = (tls_app(&one, "1"), tls_app(&two, "2"));
    let clear = Backend::saying("clear");
    let plan = Proxy::plan();
    let ours = ["ours.test", "also.test"].map(|name| {
        let pair = authority.pair(&[name]);
        pair.write(plan.sites().path(), name.trim_end_matches(".test"));
        pair
    });
    let proxy = plan
        .site(
            "one.toml",
            format!(
                "host = 'one.test'\nto = {}\ntls = 'passthrough'\n",
                first.port
            ),
        )
        .site(
            "two.toml",
            format!(
                "host = '*.two.test'\nto = {}\n[tls]\nmode = 'passthrough'\nhttp = 'refuse'\n",
                second.port
            ),
        )
        .site(
            "ours.toml",
            "host = 'ours.test'\nrespond = 'ours'\n[tls]\ncert = 'ours.pem'\nkey = 'ours.key'\n",
        )
        .site(
            "also.toml",
            "host = 'also.test'\nrespond = 'also'\n[tls]\ncert = 'also.pem'\nkey = 'also.key'\n",
        )
        .site(
            "clear.toml",
            format!("host = 'clear.test'\nto = {}\n", clear.port),
        )
        .start();
    let shake = |name: &str| {
        let tls = Tls::to(name).trusting(&authority.pem);
        Client::over(tls.shake(proxy.address()).unwrap())
    };
    assert_eq!(shake("one.test").bytes(1), b"1");
    assert_eq!(shake("a.two.test").bytes(1), b"2");
    assert_eq!(shake("ours.test").get("ours.test", "/").text(), "ours");
    assert_eq!(shake("also.test").get("also.test", "/").text(), "also");
    for (name, pair) in [
        ("one.test", &one),
        ("b.two.test", &two),
        ("ours.test", &ours[0]),
        ("also.test", &ours[1]),
    ] {
        let shown = Tls::to(name).shake(proxy.address()).unwrap().shown();
        assert!(is_same(&pair.cert, &shown), "{name}");
    }
    assert_eq!(proxy.get("clear.test", "/").text(), "clear");
    for wrong in ["two.test", "a.b.two.test", "three.test"] {
        let error = Tls::to(wrong).shake(proxy.address()).unwrap_err();
        assert!(
            error.to_string().contains("UnrecognisedName"),
            "{wrong}: {error}"
        );
    }
    // A terminated connection shows a certificate that is not for the app's name, nor for the other site's.
    for other in ["one.test", "also.test"] {
        assert_eq!(
            shake("ours.test").get(other, "/").said(),
            "421 wrong-tls-connection"
        );
    }
    // In clear text the app cannot be asked, so a browser is sent to where it can.
    assert_eq!(
        proxy.get("one.test", "/x").value("location"),
        "https://one.test/x"
    );
    let post = "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(proxy.ask(post).said(), "421 tls-only");
    assert_eq!(proxy.get("a.two.test", "/").said(), "421 tls-only");
    assert_eq!((first.accepted(), second.accepted()), (2, 2));
}

#[test]
fn apps_are_taken_in_turn_and_one_that_refuses_is_passed_over() {
    let gone = free_port();
    let hello_bytes = hello().len();
    let (one, two) = (taking(hello_bytes), taking(hello_bytes));
    let list = format!("[{}, {gone}, {}]", one.port, two.port);
    let in_turn = "balance = 'round-robin'\n";
    let proxy = with_site(list, in_turn).flag("--workers=1").start();
    for _ in 0..6 {
        let mut client = proxy.client();
        client.send(hello());
        assert_eq!(client.bytes(5), b"there");
    }
    assert_eq!(one.accepted() + two.accepted(), 6);
    assert!(one.accepted() >= 2 && two.accepted() >= 2);
}

#[test]
fn without_an_app_the_client_is_told_so_in_its_own_language() {
    let gone = free_port();
    let proxy = with_site(gone, "").start();
    let mut client = proxy.client();
    client.send(hello());
    assert_eq!(client.rest(), INTERNAL_ERROR);
}

#[test]
fn who_may_not_ask_never_reaches_the_app() {
    let app = taking(1);
    let proxy = with_site(app.port, "allow = '192.0.2.1'\n").start();
    let mut client = proxy.client();
    client.send(hello());
    assert_eq!(client.rest(), ACCESS_DENIED);
    assert_eq!(app.accepted(), 0);
}

/// A tunnel in which a byte has gone each way.
fn open_tunnel(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(hello());
    assert_eq!(client.bytes(5), b"there");
    client
}

#[test]
fn a_tunnel_ends_when_its_site_is_removed() {
    let app = taking(hello().len());
    let proxy = with_site(app.port, "drain = '0s'\n").start();
    let mut client = open_tunnel(&proxy);
    proxy.sites().rename("app.toml", "app.toml.off");
    assert_eq!(client.rest(), b"");
    until("the app sees the end", || app.closed() == 1);
    proxy.until_counted("site-gone", 1);
}

#[test]
fn an_edit_leaves_a_tunnel_alone_unless_its_client_may_no_longer_ask() {
    let app = taking(hello().len());
    let proxy = with_site(app.port, "").start();
    let mut client = open_tunnel(&proxy);
    let with = |more: &str| {
        format!(
            "host = 'app.test'\nto = {}\ntls = 'passthrough'\n{more}",
            app.port
        )
    };
    proxy.site("app.toml", with("note = 'edited'\n"));
    proxy.site("app.toml", with("allow = '127.0.0.0/8'\n"));
    client.send("still");
    until("the app reads on", || app.raw_bytes().ends_with("still"));
    proxy.site("app.toml", with("allow = '192.0.2.1'\n"));
    assert_eq!(client.rest(), b"");
    proxy.until_counted("site-edited", 1);
    assert_eq!(proxy.counted("site-gone"), 0);
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    let app = taking(hello().len());
    let proxy = with_site(app.port, "[timeout]\npassthrough_idle = '300ms'\n").start();
    let mut client = open_tunnel(&proxy);
    assert_eq!(client.rest(), b"");
    until("the app sees the end", || app.closed() == 1);
}

#[test]
fn an_app_that_does_not_accept_in_time_is_passed_over() {
    // Its queue is full, so the kernel answers nobody.
    let deaf = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&deaf, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let address: std::net::SocketAddr =
        rustix::net::getsockname(&deaf).unwrap().try_into().unwrap();
    let queued: Vec<_> = (0..4)
        .map_while(|_| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok()
        })
        .collect();
    assert!(queued.len() < 4, "the queue is not full");
    let app = taking(hello().len());
    let list = format!("[{}, {}]", address.port(), app.port);
    let proxy = with_site(list, "[timeout]\nconnect = '300ms'\n").start();
    for _ in 0..2 {
        drop(open_tunnel(&proxy));
    }
}

/// Sends so many megabytes through a tunnel to an app that sends them back, and looks at each.
fn megabytes_there_and_back(plan: impl FnOnce(Plan) -> Plan, megabytes: usize) -> Proxy {
    let hello_bytes = hello().len();
    let app = Backend::doing(move |conversation| {
        conversation.bytes(hello_bytes);
        let mut piece = vec![0; 1 << 20];
        let mut left = megabytes << 20;
        while left > 0 {
            let Ok(count @ 1..) = conversation.read(&mut piece) else {
                return;
            };
            assert!(left >= count);
            conversation.send(&piece[..count]);
            left -= count;
        }
    });
    let proxy = plan(with_site(app.port, "")).start();
    let mut client = proxy.client();
    client.send(hello());
    let mut sender = client.stream().try_clone().unwrap();
    let sending = thread::spawn(move || {
        for number in 0..megabytes {
            sender.write_all(&megabyte(number)).unwrap();
        }
    });
    for number in 0..megabytes {
        assert!(
            client.bytes(1 << 20) == megabyte(number),
            "megabyte {number}"
        );
    }
    sending.join().unwrap();
    client.expect_close();
    proxy
}

#[test]
fn megabytes_pass_both_ways_whole() {
    megabytes_there_and_back(|plan| plan, 64);
}

#[test]
fn what_runs_fast_is_spliced() {
    if !found("strace") {
        return;
    }
    let mut trace = PathBuf::new();
    let proxy = megabytes_there_and_back(
        |plan| {
            trace = plan.folder().join("trace");
            let words = ["strace", "-f", "-qq", "-e", "trace=splice", "-o"];
            plan.under(words.into_iter().chain([trace.to_str().unwrap()]))
        },
        32,
    );
    // Each byte is spliced twice each way. How soon a direction runs fast is the machine's affair.
    until("most of it has been spliced", || {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        let spliced = text
            .lines()
            .filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok());
        spliced.sum::<u64>() > 32 << 20
    });
    drop(proxy);
}

fn megabyte(number: usize) -> Vec<u8> {
    (0..1u32 << 20)
        .map(|n| (n >> 8) as u8 ^ n as u8 ^ number as u8)
        .collect()
}
