//! Bodies pass as they come: at once, whole, both ways, in bounded memory.

use std::fs;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Client, Conversation, PATIENCE, Plan, Proxy, found, until};

/// A onedoor with one site, `app.test`, in front of `app`.
fn in_front_of(app: &Backend) -> Plan {
    Proxy::plan().site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
}

/// A backend that does `what` once it has read a request, with a channel on which the test says when to go on.
fn on_cue(
    what: impl Fn(&mut Conversation, &Receiver<()>) + Send + Sync + 'static,
) -> (Backend, Sender<()>) {
    let (go, cue) = channel();
    let cue = Mutex::new(cue);
    let app = Backend::doing(move |conversation| {
        if conversation.request().is_some() {
            what(conversation, &cue.lock().unwrap());
        }
    });
    (app, go)
}

#[test]
fn a_server_sent_event_arrives_before_the_next_is_written() {
    let (app, go) = on_cue(|conversation, cue| {
        conversation.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..3 {
            conversation.send(format!("9\r\ndata: {number}\n\n\r\n"));
            cue.recv().unwrap();
        }
        conversation.send("0\r\n\r\n");
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let head = client.response_head();
    assert_eq!(head.value("content-type"), "text/event-stream");
    for number in 0..3 {
        // The chunk as such may be framed anew; its data must be here before the backend goes on.
        let mut got = String::new();
        while !got.contains(&format!("data: {number}\n\n")) {
            got.push(client.bytes(1)[0] as char);
        }
        go.send(()).unwrap();
    }
}

#[test]
fn a_head_arrives_before_the_body() {
    let (app, go) = on_cue(|conversation, cue| {
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        cue.recv().unwrap();
        conversation.send("late");
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    go.send(()).unwrap();
    assert_eq!(client.bytes(4), b"late");
}

#[test]
fn a_request_body_passes_while_it_is_still_being_sent() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        // Answers each half when it is there: both directions at once.
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..2 {
            let half = conversation.bytes(5);
            conversation.send(half);
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.bytes(5), b"hello");
    client.send("world");
    assert_eq!(client.bytes(5), b"world");
}

#[test]
fn chunked_bodies_pass_both_ways_and_the_connections_live_on() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in request.body.chunks(3) {
                conversation.send(format!("{:x};x=y\r\n", piece.len()));
                conversation.send(piece);
                conversation.send("\r\n");
            }
            conversation.send("0\r\n\r\n");
        }
    });
    let proxy = in_front_of(&app).flag("--workers=1").start();
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("5;a=\"b\"\r\nhello\r\n0006\r\n world\r\n0\r\n\r\n");
        assert_eq!(client.response().text(), "hello world");
    }
    assert!(
        app.requests()
            .iter()
            .all(|request| request.complete && request.body == b"hello world")
    );
    assert_eq!(app.accepted(), 1);
}

#[test]
fn trailers_pass_but_none_that_would_lie() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        );
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Mine: 5\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 9\r\nHost: evil.test\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!(answer.text(), "ok");
    assert!(
        answer.trailers.to_ascii_lowercase().contains("x-sum: 7"),
        "{:?}",
        answer.trailers
    );
    let request = app.only_request();
    assert_eq!(request.body, b"hi");
    assert!(
        request.trailers.to_ascii_lowercase().contains("x-mine: 5"),
        "{:?}",
        request.trailers
    );
    assert!(
        !request.trailers.contains("6.6.6.6"),
        "{:?}",
        request.trailers
    );
    assert!(
        !request.trailers.to_ascii_lowercase().contains("host"),
        "{:?}",
        request.trailers
    );
    assert!(
        !request
            .trailers
            .to_ascii_lowercase()
            .contains("content-length"),
        "{:?}",
        request.trailers
    );
}

#[test]
fn interim_responses_reach_the_client_before_the_final_one() {
    let (app, go) = on_cue(|conversation, cue| {
        conversation.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        cue.recv().unwrap();
        conversation
            .send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let mut early = String::new();
    while !early.ends_with("\r\n\r\n") {
        early.push(client.bytes(1)[0] as char);
    }
    assert!(
        early.starts_with("HTTP/1.1 103 ") && early.contains("/a.css"),
        "{early}"
    );
    go.send(()).unwrap();
    let answer = client.response();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.interim.len(), 1);
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_response_and_no_chunks() {
    let app = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let answer = client.response();
    assert!(answer.interim.is_empty());
    assert!(!answer.has("transfer-encoding"), "{}", answer.head);
    assert_eq!(answer.text(), "hello");
    client.expect_close();
}

#[test]
fn a_client_may_wait_for_100_continue() {
    let app = Backend::doing(|conversation| {
        let Some((_, head)) = conversation.request_head() else {
            return;
        };
        assert_eq!(head.values("expect"), ["100-continue"]);
        conversation.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conversation.bytes(5);
        conversation.answer(body);
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.bytes(21), b"HTTP/1.1 100 Continue");
    assert_eq!(client.bytes(4), b"\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_final_answer_instead_of_100_ends_the_matter() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 38\r\nExpect: 100-continue\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (417, "no"));
    // The client may send the body or not (RFC 9110 10.1.1); either way it is no request.
    drop(client.try_send("GET /smuggled HTTP/1.1\r\nHost: x.test\r\n\r\n"));
    client.finish_sending();
    client.expect_close();
    assert!(!app.raw_bytes().contains("via: 1.1 smuggled"));
    assert!(
        app.requests()
            .iter()
            .all(|request| request.target() != "/smuggled")
    );
}

/// An app that believes that no body comes: what it gets next is the body.
fn answering_at_once(status: &'static str) -> Backend {
    Backend::doing(move |conversation| {
        while let Some((_, head)) = conversation.request_head() {
            if head.method() != "POST" {
                conversation.answer(head.target());
                continue;
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n");
            conversation.send(answer);
            // Its end comes when the body has.
            conversation.until_more();
            conversation.send("no");
        }
    })
}

/// CASES.
#[test]
fn an_app_that_answers_without_the_body_gets_nobody_else_s_request_behind_it() {
    let app = answering_at_once("401 Unauthorized");
    let proxy = in_front_of(&app).flag("--workers=1").start();
    let body = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\nX-Ignore: ";
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut client = proxy.client();
        client.send(format!(
            "POST /login HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n{expect}\r\n",
            body.len()
        ));
        assert_eq!(client.response_head().status, 401);
        client.send(body);
        assert_eq!(client.bytes(2), b"no");
        assert_eq!(proxy.get("app.test", "/home").text(), "/home", "{expect}");
        // Whoever did not ask for it is not trusted with it either.
        let mut client = proxy.client();
        client.send(format!(
            "POST /login HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(client.response().text(), "no");
        assert_eq!(proxy.get("app.test", "/home").text(), "/home");
    }
}

#[test]
fn responses_without_a_body_are_complete_at_once() {
    for (request, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n",
        ),
    ] {
        let app = Backend::raw_and_open(response);
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(format!("{request} / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            let answer = client.response_to_head();
            assert!(
                response.contains(&answer.status.to_string()),
                "{response}: {}",
                answer.head
            );
        }
    }
}

#[test]
fn a_response_that_ends_by_close_is_passed_whole() {
    let app = Backend::raw("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        // Chunked towards the client, or closed; both are right. A closed one cannot be asked again.
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "until the end");
        if !answer.has("transfer-encoding") {
            break;
        }
    }
}

#[test]
fn an_app_of_http_1_0_is_understood() {
    let app = Backend::raw("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold but good");
    let proxy = in_front_of(&app).start();
    let answer = proxy.get("app.test", "/");
    assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
    assert_eq!(answer.text(), "old but good");
}

const BIG: usize = 48 << 20;

#[test]
fn a_big_request_body_arrives_whole() {
    for framing in ["length", "chunked"] {
        let app = Backend::doing(move |conversation| {
            let Some((_, head)) = conversation.request_head() else {
                return;
            };
            let sum = if head.has("content-length") {
                sum_of(|piece| {
                    let bytes = conversation.bytes(piece.len());
                    piece[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                })
            } else {
                // Chunk sizes are onedoor's own; the harness decodes them.
                let mut body = Vec::new();
                conversation.chunked_body(&mut body);
                let mut rest = &body[..];
                sum_of(|piece| rest.read(piece).unwrap())
            };
            conversation.answer(sum.to_string());
        });
        let proxy = in_front_of(&app).start();
        let mut client = proxy.client();
        let mut pattern = Pattern::new();
        if framing == "length" {
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {BIG}\r\n\r\n"
            ));
        } else {
            client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        for _ in 0..BIG / PIECE {
            let piece = pattern.next_piece();
            if framing == "chunked" {
                client.send(format!("{PIECE:x}\r\n"));
            }
            client.send(piece);
            if framing == "chunked" {
                client.send("\r\n");
            }
        }
        if framing == "chunked" {
            client.send("0\r\n\r\n");
        }
        assert_eq!(
            client.response().text(),
            pattern.sum.to_string(),
            "{framing}"
        );
    }
}

#[test]
fn a_big_response_body_arrives_whole() {
    for framing in ["length", "chunked", "close"] {
        let app = Backend::doing(move |conversation| {
            conversation.request();
            conversation.send(match framing {
                "length" => format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"),
                "chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_string(),
                _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_string(),
            });
            let mut pattern = Pattern::new();
            for _ in 0..BIG / PIECE {
                let piece = pattern.next_piece();
                if framing == "chunked" {
                    conversation.send(format!("{PIECE:x}\r\n"));
                }
                conversation.send(piece);
                if framing == "chunked" {
                    conversation.send("\r\n");
                }
            }
            if framing == "chunked" {
                conversation.send("0\r\n\r\n");
            }
        });
        let proxy = in_front_of(&app).start();
        let answer = proxy.get("app.test", "/");
        assert_eq!(answer.body.len(), BIG, "{framing}");
        let mut rest = &answer.body[..];
        let mut pattern = Pattern::new();
        (0..BIG / PIECE).for_each(|_| drop(pattern.next_piece()));
        assert_eq!(
            sum_of(|piece| rest.read(piece).unwrap()),
            pattern.sum,
            "{framing}"
        );
    }
}

#[test]
fn a_slow_reader_holds_a_buffer_and_not_the_body() {
    const HUGE: usize = 256 << 20;
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n"));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..HUGE >> 20 {
            if conversation.try_send(&piece).is_err() {
                return;
            }
        }
    });
    let proxy = in_front_of(&app).start();
    let before = proxy.peak_memory();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(client.response_head().status, 200);
    }
    // Each reads some, so that everything between is full, and then no more.
    for client in &mut clients {
        client.bytes(32 << 20);
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 24 << 20, "four slow readers cost {grown} bytes");
}

#[test]
fn a_slow_app_holds_a_buffer_and_not_the_upload() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        conversation.bytes(1000);
        // Reads no more; stays until onedoor lets it go.
        thread::park_timeout(Duration::from_secs(20));
    });
    let proxy = in_front_of(&app).start();
    let before = proxy.peak_memory();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\n");
    client
        .stream()
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while client.try_send(&piece).is_ok() {
        sent += piece.len();
        assert!(
            sent < 200 << 20,
            "nobody reads, and still {sent} bytes were taken"
        );
    }
    let grown = proxy.peak_memory() - before;
    assert!(
        grown < 24 << 20,
        "an upload that nobody reads costs {grown} bytes"
    );
}

#[test]
fn a_client_that_leaves_is_noticed_by_the_app() {
    let app = Backend::silent();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    app.until_requests(1);
    drop(client);
    until("the app's connection is closed", || app.closed() == 1);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_is_noticed_by_the_app() {
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    client.reset();
    until("the app's connection is closed", || app.closed() == 1);
}

#[test]
fn an_app_that_answers_before_the_body_ended_is_heard() {
    let app = Backend::doing(|conversation| {
        conversation.request_head();
        conversation.answer("enough");
        conversation.rest();
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\nhello");
    assert_eq!(client.response().text(), "enough");
}

#[test]
fn a_hundred_clients_are_served_at_once() {
    let app = Backend::echoing();
    let proxy = in_front_of(&app).start();
    thread::scope(|scope| {
        for number in 0..100 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = proxy.client();
                for turn in 0..5 {
                    let path = format!("/{number}/{turn}");
                    let text = client.get("app.test", &path).text();
                    assert!(
                        text.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                        "{text}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_request_in_single_bytes_is_understood() {
    let app = Backend::echoing();
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    for byte in b"POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send([*byte]);
        client.stream().flush().unwrap();
    }
    assert!(client.response().text().ends_with("\r\n\r\nabc"));
}

const PIECE: usize = 1 << 16;

/// Bytes that repeat nowhere soon, and their sum.
struct Pattern {
    state: u32,
    sum: u64,
}

impl Pattern {
    fn new() -> Pattern {
        Pattern { state: 1, sum: 0 }
    }

    fn next_piece(&mut self) -> Vec<u8> {
        let mut piece = Vec::with_capacity(PIECE);
        for _ in 0..PIECE / 4 {
            // xorshift32: any change of order or loss shows in the sum below.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 17;
            self.state ^= self.state << 5;
            piece.extend_from_slice(&self.state.to_le_bytes());
        }
        self.sum = add(self.sum, &piece);
        piece
    }
}

fn sum_of(mut read: impl FnMut(&mut [u8]) -> usize) -> u64 {
    let (mut sum, mut left) = (0, BIG);
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let mut filled = 0;
        while filled < PIECE {
            match read(&mut piece[filled..]) {
                0 => return 0,
                count => filled += count,
            }
        }
        sum = add(sum, &piece);
        left -= PIECE;
    }
    sum
}

fn add(sum: u64, piece: &[u8]) -> u64 {
    piece.chunks_exact(8).fold(sum, |sum, eight| {
        let value = u64::from_le_bytes([
            eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7],
        ]);
        sum.rotate_left(5) ^ value
    })
}

#[test]
fn however_a_request_is_cut_the_app_gets_the_same() {
    let requests = [
        "POST /a?b HTTP/1.1\r\nHost: app.test\r\nContent-Length: 11\r\nX-Odd:  spaced \r\n\r\nhello world".to_string(),
        "POST /c HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;ext=\"a;b\"\r\nhello\r\nA\r\n, chunked!\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
            .to_string(),
        format!(
            "PUT /d HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            "3\r\nabc\r\n".repeat(900)
        ),
        "GET /e HTTP/1.1\r\nHost: app.test\r\n\r\n".to_string(),
    ];
    let bytes = requests.concat().into_bytes();
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    let received = |cuts: &[usize]| {
        app.forget();
        let mut client = proxy.client();
        let mut start = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            client.send(&bytes[start..cut]);
            start = cut;
            thread::sleep(Duration::from_millis(1));
        }
        for _ in &requests {
            assert_eq!(client.response().said(), "200", "cut at {cuts:?}");
        }
        let seen = app.requests().into_iter().map(|request| {
            let head: Vec<String> = request
                .head
                .lines()
                .filter(|line| !line.starts_with("X-Request-Id"))
                .map(str::to_string)
                .collect();
            (head, request.body, request.trailers, request.complete)
        });
        seen.collect::<Vec<_>>()
    };
    let whole = received(&[]);
    assert_eq!(whole.len(), requests.len());
    assert_eq!(whole[1].2, "X-Sum: 1\r\nX-More: 2\r\n");
    // A fixed seed; the cuts are printed when they fail. Most fall where heads and framing are.
    let mut random = 0x0dd_5eed_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    for round in 0..60 {
        let mut cuts: Vec<usize> = (0..1 + round % 12)
            .map(|n| {
                if n % 4 == 0 {
                    next(bytes.len())
                } else {
                    next(420)
                }
            })
            .filter(|&cut| cut > 0)
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        assert_eq!(received(&cuts), whole, "cut at {cuts:?}");
    }
}

/// CASES D-15.
#[test]
fn what_is_compressed_passes_as_it_is() {
    // Ten bytes that say that they are a gigabyte: nobody here looks.
    const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff";
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            assert_eq!(request.body, BOMB);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                BOMB.len()
            );
            conversation.send([head.as_bytes(), BOMB].concat());
        }
    });
    let proxy = in_front_of(&app).start();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        BOMB.len()
    );
    let answer = proxy.ask([head.as_bytes(), BOMB].concat());
    assert_eq!(answer.value("content-encoding"), "gzip");
    assert_eq!(answer.body, BOMB);
}

/// CASES D-14: the first of them a block each, the others what they are owed and little more.
#[test]
fn many_clients_that_do_not_read_hold_little_each() {
    const CLIENTS: usize = 400;
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
        for _ in 0..1 << 10 {
            if conversation.try_send(&chunk).is_err() {
                return;
            }
            SENT.fetch_add(1, Ordering::Relaxed);
        }
    });
    let proxy = in_front_of(&app).flag("--workers=1").start();
    proxy.get("nobody.test", "/");
    let before = proxy.peak_memory();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect_with_least_buffers(proxy.address());
            client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            client
        })
        .collect();
    app.until_requests(CLIENTS);
    let mut sent = 0;
    until("nothing moves any more", || {
        thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut sent, SENT.load(Ordering::Relaxed)) == sent
    });
    let grown = proxy.peak_memory() - before;
    // A block for each would be 27 MiB.
    assert!(grown < 20 << 20, "{} KiB for {CLIENTS}", grown >> 10);
    drop(clients);
}

/// CASES D-05.
#[test]
fn connections_that_wait_for_a_request_hold_no_buffer() {
    const IDLE: usize = 500;
    let app = Backend::saying("x");
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    let before = proxy.peak_memory();
    let mut idle: Vec<Client> = (0..IDLE).map(|_| proxy.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
    let grown = proxy.peak_memory() - before;
    // 2 KiB each without optimisation, and what the allocator takes at a time.
    assert!(grown < 4 << 20, "{} KiB for {IDLE}", grown >> 10);
}

#[test]
fn a_long_body_is_spliced_where_it_runs_and_copied_where_it_drips() {
    const LONG: usize = 16 << 20;
    if !found("strace") {
        return;
    }
    let (came, has_come) = channel();
    let app = Backend::doing(move |conversation| {
        conversation.request_head();
        for _ in 0..50 {
            conversation.bytes(1);
            came.send(()).unwrap();
        }
        conversation.bytes(LONG - 50);
        conversation.answer("all of it");
    });
    let plan = in_front_of(&app);
    let trace = plan.folder().join("trace");
    let words = ["strace", "-f", "-qq", "-e", "trace=splice", "-o"];
    let proxy = plan
        .under(words.into_iter().chain([trace.to_str().unwrap()]))
        .start();
    let spliced = || -> u64 {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        let counts = text
            .lines()
            .filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok());
        counts.sum()
    };
    let mut client = proxy.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {LONG}\r\n\r\n"
    ));
    for _ in 0..50 {
        client.send("x");
        has_come.recv_timeout(PATIENCE).unwrap();
    }
    assert!(spliced() <= 2, "the first byte, in and out of a pipe");
    client.send(vec![b'x'; LONG - 50]);
    assert_eq!(client.response().text(), "all of it");
    // In and out of a pipe; how soon it runs is the machine's affair.
    until("most of it has been spliced", || spliced() > LONG as u64);
}
