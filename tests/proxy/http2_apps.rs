//! Apps of HTTP/2, frame by frame: what one visitor's exchange does to the connection that the others share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::harness::hpack::{LAST_STORED, Table, stored};
use crate::harness::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, Http2, PING, PREFACE, RST_STREAM, SETTINGS,
    block, frame, request,
};
use crate::harness::{Authority, Backend, Conversation, Plan, Proxy, put, until};

/// The window of a stream that an app begins with.
const WINDOW: usize = 64 << 10;

fn in_front_of(app: &App) -> Plan {
    let text = format!(
        "host = 'app.test'\nto = 'h2c://127.0.0.1:{}'",
        app.backend.port
    );
    Proxy::plan().flag("--workers=1").site("app.toml", text)
}

const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// What happens to an app.
enum Event {
    /// A request for this path; perhaps its body follows.
    Asked(String),
    TakenBack,
    /// All that was sent before has been read.
    Settled,
}

pub(crate) struct App {
    pub(crate) backend: Backend,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl App {
    fn until_asked(&self) {
        until("the app is asked", || {
            self.requests.load(Ordering::SeqCst) > 0
        });
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An app that answers everything.
pub(crate) fn answering() -> App {
    app(answers)
}

fn answers(conversation: &mut Conversation, stream: u32, event: Event, _: &mut Vec<u32>) {
    if let Event::Asked(_) = event {
        conversation.send(ok(stream));
        conversation.send(frame(DATA, END_STREAM, stream, b"app"));
    }
}

/// An app that does `what`, told on which stream. It says SETTINGS by itself.
fn app(what: impl Fn(&mut Conversation, u32, Event, &mut Vec<u32>) + Send + Sync + 'static) -> App {
    app_at(|talk| Backend::doing(talk), |_| SETTLED.to_vec(), what)
}

/// SETTINGS that say nothing.
const SETTLED: [u8; 9] = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];

/// The same at a `place` of its own, beginning with `settings`.
fn app_at(
    place: impl FnOnce(Box<dyn Fn(&mut Conversation) + Send + Sync>) -> Backend,
    settings: impl Fn(&Conversation) -> Vec<u8> + Send + Sync + 'static,
    what: impl Fn(&mut Conversation, u32, Event, &mut Vec<u32>) + Send + Sync + 'static,
) -> App {
    let requests = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let (asked, opened) = (Arc::clone(&requests), Arc::clone(&connections));
    let backend = place(Box::new(move |conversation| {
        // Whether somebody listens is looked at, too.
        if conversation.bytes(PREFACE.len()).len() < PREFACE.len() {
            return;
        }
        opened.fetch_add(1, Ordering::SeqCst);
        conversation.send(settings(conversation));
        let mut table = Table::default();
        // For whatever the app remembers.
        let mut streams = Vec::new();
        while let Some(frame) = next(conversation) {
            let event = match frame.kind {
                HEADERS => {
                    let fields = table.read(&frame.payload);
                    let path = fields.into_iter().find(|(name, _)| name == ":path");
                    Event::Asked(path.unwrap_or_default().1)
                }
                RST_STREAM if frame.payload == CANCEL => Event::TakenBack,
                PING if frame.flags & ACK != 0 => Event::Settled,
                PING => {
                    conversation.send(self::frame(PING, ACK, 0, &frame.payload));
                    continue;
                }
                _ => continue,
            };
            asked.fetch_add(
                usize::from(matches!(event, Event::Asked(_))),
                Ordering::SeqCst,
            );
            what(conversation, frame.stream, event, &mut streams);
        }
    }));
    App {
        backend,
        requests,
        connections,
    }
}

fn next(conversation: &mut Conversation) -> Option<Frame> {
    let head = conversation.bytes(9);
    let length = u32::from_be_bytes([0, *head.first()?, *head.get(1)?, *head.get(2)?]);
    Some(Frame {
        kind: *head.get(3)?,
        flags: *head.get(4)?,
        stream: u32::from_be_bytes(head.get(5..9)?.try_into().ok()?),
        payload: conversation.bytes(length as usize),
    })
}

fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")]))
}

/// Sends what the events of a busy app are: `size` bytes in each frame, as many as its window lets through.
fn events(stream: u32, size: usize) -> Vec<u8> {
    let event = frame(DATA, 0, stream, &vec![b'e'; size]);
    [ok(stream), event.repeat((WINDOW - 1) / size)].concat()
}

fn settle(conversation: &mut Conversation) {
    conversation.send(frame(PING, 0, 0, b"settled?"));
}

/// Whoever waits while a connection is opened has opened none.
#[test]
fn requests_that_share_a_connection_are_counted_as_such() {
    const AT_ONCE: usize = 20;
    let app = answering();
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let asked: Vec<u32> = (0..AT_ONCE)
        .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    for stream in asked {
        assert_eq!(client.whole(stream).text(), "app");
    }
    assert_eq!(app.connections(), 1);
    let text = proxy.admin("GET", "/metrics").1;
    for (kind, count) in [("opened", 1), ("reused", AT_ONCE - 1)] {
        let series = format!("onedoor_upstreams_total{{kind=\"{kind}\"}} {count}\n");
        assert!(text.contains(&series), "{series} in {text}");
    }
}

/// Each at once: else they would come one after the other, at an app that takes its time to begin.
#[test]
fn requests_for_which_a_new_connection_has_no_room_open_connections_of_their_own() {
    const AT_ONCE: usize = 3;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    let first = Arc::new(Barrier::new(AT_ONCE));
    let others = Arc::clone(&first);
    let one_at_a_time = [&MAX_CONCURRENT_STREAMS[..], &[0, 0, 0, 1]].concat();
    let app = app_at(
        |talk| Backend::doing(talk),
        move |conversation| {
            if conversation.number() > 0 {
                others.wait();
            }
            frame(SETTINGS, 0, 0, &one_at_a_time)
        },
        move |conversation, stream, event, streams| {
            if matches!(event, Event::Asked(_)) && conversation.number() == 0 {
                first.wait();
            }
            answers(conversation, stream, event, streams);
        },
    );
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let asked = [0; AT_ONCE].map(|_| client.ask(&request("GET", "app.test", "/", &[])));
    for stream in asked {
        assert_eq!(client.whole(stream).text(), "app");
    }
    assert_eq!(app.connections(), AT_ONCE);
}

/// Shows its certificate to everybody but the first.
#[derive(Debug)]
struct NotAtFirst {
    is_later: AtomicBool,
    certificates: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for NotAtFirst {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_later = self.is_later.swap(true, Ordering::SeqCst);
        is_later.then(|| self.certificates.resolve(hello)).flatten()
    }
}

/// It is not known then, and requests that come at once wait for one that finds out.
#[test]
fn an_app_that_breaks_off_its_handshake_has_not_chosen_a_version() {
    let authority = Authority::new("internal");
    let mut config = (*authority.pair(&["localhost"]).server()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.cert_resolver = Arc::new(NotAtFirst {
        is_later: AtomicBool::new(false),
        certificates: config.cert_resolver,
    });
    let app = app_at(
        |talk| Backend::over_tls(&Arc::new(config), talk),
        |_| SETTLED.to_vec(),
        answers,
    );
    let plan = Proxy::plan().flag("--workers=1");
    put(plan.sites().path(), "ca.pem", &authority.pem);
    let port = app.backend.port;
    let text =
        format!("host = 'app.test'\nto = {{ at = 'https://localhost:{port}', ca = 'ca.pem' }}\n");
    let proxy = plan.site("app.toml", text).start();
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-tls");
    let mut client = Http2::to(&proxy);
    let asked = [0; 20].map(|_| client.ask(&request("GET", "app.test", "/", &[])));
    for stream in asked {
        assert_eq!(client.whole(stream).text(), "app");
    }
    assert_eq!(app.connections(), 1);
}

/// An app says it in a frame of its own: who has all of a response has not taken it back.
#[test]
fn a_response_whose_end_comes_late_is_not_taken_back() {
    let app = app(|conversation, stream, event, streams| match event {
        Event::Asked(path) if path != "/" => {
            streams.push(stream);
            let head = [(":status", "200"), ("content-length", "3")];
            conversation.send(frame(HEADERS, END_HEADERS, stream, &block(&head)));
            if path == "/get" {
                conversation.send(frame(DATA, 0, stream, b"app"));
            }
        }
        Event::Asked(_) => {
            streams.push(stream);
            settle(conversation);
        }
        Event::TakenBack => streams.push(0),
        Event::Settled => {
            let all = streams.len();
            streams.retain(|stream| *stream > 0);
            let taken_back = all > streams.len();
            let next = streams.pop().unwrap_or_default();
            for late in streams.drain(..) {
                conversation.send(frame(DATA, END_STREAM, late, b""));
            }
            conversation.send(ok(next));
            let text: &[u8] = if taken_back { b"taken back" } else { b"well" };
            conversation.send(frame(DATA, END_STREAM, next, text));
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    for _ in 0..3 {
        assert_eq!(client.get("app.test", "/get").text(), "app");
        let asked = client.ask(&request("HEAD", "app.test", "/head", &[]));
        assert_eq!(client.whole(asked).status(), 200);
    }
    assert_eq!(client.get("app.test", "/").text(), "well");
    assert_eq!(app.connections(), 1);
}

/// It is not waited for for ever: it is one of the streams that an app takes at once.
#[test]
fn a_response_whose_end_never_comes_is_taken_back() {
    let is_taken_back = Arc::new(AtomicBool::new(false));
    let taken_back = Arc::clone(&is_taken_back);
    let app = app(move |conversation, stream, event, _| match event {
        Event::Asked(_) => {
            let head = [(":status", "200"), ("content-length", "3")];
            conversation.send(frame(HEADERS, END_HEADERS, stream, &block(&head)));
            conversation.send(frame(DATA, 0, stream, b"app"));
        }
        Event::TakenBack => taken_back.store(true, Ordering::SeqCst),
        Event::Settled => {}
    });
    let proxy = in_front_of(&app).start();
    assert_eq!(proxy.get("app.test", "/").text(), "app");
    until("it is taken back", || is_taken_back.load(Ordering::SeqCst));
}

/// Nor does anybody wait for it who needs its place.
#[test]
fn who_comes_needs_not_wait_for_the_end_of_other_responses() {
    let two_at_once = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 2]);
    let app = app_at(
        |talk| Backend::doing(talk),
        move |_| two_at_once.clone(),
        |conversation, stream, event, _| {
            if let Event::Asked(_) = event {
                let head = [(":status", "200"), ("content-length", "3")];
                conversation.send(frame(HEADERS, END_HEADERS, stream, &block(&head)));
                conversation.send(frame(DATA, 0, stream, b"app"));
            }
        },
    );
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    let begun = Instant::now();
    for _ in 0..40 {
        assert_eq!(client.get("app.test", "/").text(), "app");
    }
    // Each second one would wait for five seconds or more.
    assert!(begun.elapsed() < Duration::from_secs(50));
}

/// A connection that carries nothing holds a descriptor, as any idle upstream does.
#[test]
fn connections_of_http_2_to_apps_that_carry_nothing_count_in_pool_all() {
    let (app, other) = (answering(), answering());
    let text = format!(
        "host = 'other.test'\nto = 'h2c://127.0.0.1:{}'",
        other.backend.port
    );
    let plan = in_front_of(&app).daemon_file("[limit]\npool_all = 1\n");
    let proxy = plan.site("other.toml", text).start();
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/").text(), "app");
    for closed in 1..3 {
        assert_eq!(client.get("other.test", "/").text(), "app");
        until("its connection is closed", || {
            other.backend.closed() == closed
        });
        // There is no other place, and that is taken.
        assert_eq!(client.get("app.test", "/").text(), "app");
    }
    assert_eq!((app.connections(), app.backend.closed()), (1, 0));
}

#[test]
fn visitors_that_do_not_read_small_events_do_not_end_the_connection_of_the_others() {
    const STALLED: usize = 24;
    let app = app(|conversation, stream, event, streams| match event {
        Event::Asked(_) => {
            streams.push(stream);
            // The first is the other visitor's.
            if streams.len() == STALLED + 1 {
                for stream in &streams[1..] {
                    conversation.send(events(*stream, 10));
                }
                settle(conversation);
            }
        }
        Event::Settled => {
            conversation.send(ok(streams[0]));
            conversation.send(frame(DATA, END_STREAM, streams[0], b"other"));
        }
        Event::TakenBack => {}
    });
    let proxy = in_front_of(&app).start();
    let mut other = proxy.client();
    other.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    app.until_asked();
    let mut stalled = Http2::over(proxy.client(), &[(4, 0)]);
    let asked: Vec<u32> = (0..STALLED)
        .map(|_| stalled.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    assert_eq!(other.response().text(), "other");
    assert_eq!(app.connections(), 1);
    // Nothing of it is lost.
    for stream in asked {
        stalled.window(stream, 1 << 20);
        let all = stalled.until(stream, |seen| seen.body.len() >= WINDOW - 10);
        assert!(all.body.iter().all(|byte| *byte == b'e'));
    }
}

/// It has all the time that its app has; whether it is still there, its connection asks.
#[test]
fn a_call_of_grpc_whose_client_does_not_read_is_not_slow() {
    let app = app(|conversation, stream, event, _| {
        if let Event::Asked(_) = event {
            let head = [(":status", "200"), ("content-type", "application/grpc")];
            conversation.send(frame(HEADERS, END_HEADERS, stream, &block(&head)));
            conversation.send(frame(DATA, 0, stream, &[b'x'; 5000]));
            let trailers = block(&[("grpc-status", "0")]);
            conversation.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers));
        }
    });
    let silent = Backend::silent();
    let text = format!(
        "host = 'app.test'\nto = 'h2c://127.0.0.1:{}'\n[timeout]\nidle = '200ms'\n",
        app.backend.port
    );
    let clock = format!(
        "host = 'silent.test'\nto = {}\n[timeout]\nfirst_byte = '2s'\n",
        silent.port
    );
    let plan = Proxy::plan()
        .site("app.toml", text)
        .site("silent.toml", clock);
    let proxy = plan.start();
    let mut client = Http2::over(proxy.client(), &[(4, 1000)]);
    let more = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = client.ask(&request("POST", "app.test", "/", &more));
    client.until(call, |seen| seen.body.len() == 1000);
    client.reads = false;
    assert_eq!(client.get("silent.test", "/").status(), 504);
    client.window(call, 1 << 20);
    let seen = client.whole(call);
    assert_eq!((seen.body.len(), seen.reset), (5000, None));
    assert_eq!(seen.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
}

/// An app that resets every request with `code`.
fn resetting(code: u32) -> App {
    app(move |conversation, stream, event, _| {
        if let Event::Asked(_) = event {
            conversation.send(frame(RST_STREAM, 0, stream, &code.to_be_bytes()));
        }
    })
}

/// Nobody becomes an app of HTTP/2 by being waited for.
#[test]
fn an_app_of_http_1_behind_h2c_is_said_to_be_one_at_once() {
    let app = Backend::saying("app");
    let text = format!("host = 'app.test'\nto = 'h2c://127.0.0.1:{}'\n", app.port);
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", text)
        .start();
    let answer = proxy.get("app.test", "/");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.value("onedoor-reason"), "backend-malformed");
    assert_eq!(app.accepted(), 1);
    proxy.until_logged("sent what is no HTTP/2 (FRAME_SIZE_ERROR); if it speaks HTTP/1.1, write");
}

#[test]
fn an_app_that_accepts_and_says_nothing_in_http_2_is_told_from_one_that_does_not_accept() {
    let app = Backend::doing(|conversation| drop(conversation.rest()));
    let text = format!(
        "host = 'app.test'\nto = 'h2c://127.0.0.1:{}'\n[timeout]\nconnect = '200ms'\n",
        app.port
    );
    let plan = Proxy::plan().flag("--workers=1").site("app.toml", text);
    let proxy = plan.start();
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    proxy.until_logged("accepted and said nothing in HTTP/2 within 200ms");
    // Nobody is held for it.
    assert_eq!(app.accepted(), 1);
    // Nor do those who wait for the same connection take it for another thing.
    let mut client = Http2::to(&proxy);
    let ask = |_| client.ask(&request("GET", "app.test", "/", &[]));
    let asked: Vec<u32> = (0..12).map(ask).collect();
    for stream in asked {
        assert_eq!(client.whole(stream).status(), 504);
    }
    // Held, each would ask again.
    assert!(app.accepted() <= 13, "{} connections", app.accepted());
}

/// It is as with HTTP/1.1: what an app says wrong, it would say wrong again.
#[test]
fn what_is_no_response_of_http_2_is_not_asked_for_again() {
    let app = app(|conversation, stream, event, _| {
        if let Event::Asked(_) = event {
            let head = [(":status", "200"), ("connection", "close")];
            let ends = END_HEADERS | END_STREAM;
            conversation.send(frame(HEADERS, ends, stream, &block(&head)));
        }
    });
    let proxy = in_front_of(&app).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("app.test", "/");
        assert_eq!(answer.status, 502);
        assert_eq!(answer.value("onedoor-reason"), "backend-malformed");
    }
    assert_eq!(app.requests.load(Ordering::SeqCst), 3);
    assert_eq!(app.connections(), 1);
    proxy.until_logged("sent a head of more than 64 KiB or what is no HTTP/2 (PROTOCOL_ERROR)");
}

/// One over the bound ends its stream, one that is far over it the connection.
#[test]
fn a_head_of_a_response_over_the_bound_is_said_to_be_that() {
    let app = app(|conversation, stream, event, _| {
        if let Event::Asked(path) = event {
            // Referred to, each is a byte on the wire and some 4 KB of head.
            let times = if path == "/far" { 1000 } else { 20 };
            let mut head = block(&[(":status", "200")]);
            head.extend(stored("x-long", "x".repeat(3900).as_bytes()));
            head.extend(std::iter::repeat_n(LAST_STORED, times));
            conversation.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        }
    });
    for (path, said) in [
        (
            "/over",
            "a head of more than 64 KiB or what is no HTTP/2 (PROTOCOL_ERROR)",
        ),
        ("/far", "a head many times over the bound"),
    ] {
        let proxy = in_front_of(&app).start();
        let answer = proxy.get("app.test", path);
        assert_eq!(answer.said(), "502 backend-malformed", "{path}");
        proxy.until_logged(said);
    }
}

/// That others use the connection does not mean that the app was about to close it.
#[test]
fn a_request_that_the_app_resets_is_sent_again_as_often_as_retry_says() {
    const INTERNAL_ERROR: u32 = 2;
    for times in [0, 1] {
        let app = resetting(INTERNAL_ERROR);
        let text = format!(
            "host = 'app.test'\nto = 'h2c://127.0.0.1:{}'\n[retry]\ntimes = {times}\non = ['reset-before-response']\n",
            app.backend.port
        );
        let plan = Proxy::plan().flag("--workers=1").site("app.toml", text);
        let proxy = plan.start();
        for _ in 0..5 {
            assert_eq!(proxy.get("app.test", "/").status, 502);
        }
        let asked = app.requests.load(Ordering::SeqCst);
        assert_eq!(asked, 5 * (1 + times), "{times}");
    }
}

#[test]
fn a_request_that_is_passed_over_is_sent_again_once_for_nothing_and_then_within_the_budget() {
    const REFUSED_STREAM: u32 = 7;
    const POST: &str = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab";
    let app = resetting(REFUSED_STREAM);
    let refusing = format!("'h2c://127.0.0.1:{}'", app.backend.port);
    let good = Backend::saying("good");
    let retry = "[retry]\nbudget = '1%'\n";
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "app.toml",
            format!("host = 'app.test'\nto = {refusing}\n{retry}"),
        )
        .site(
            "two.toml",
            format!(
                "host = 'two.test'\nto = [{refusing}, {}]\nbalance = 'round-robin'\n",
                good.port
            ),
        )
        .start();
    for _ in 0..50 {
        assert_eq!(proxy.ask(POST).status, 502);
    }
    // Fifty, each once more, and the ten that a quiet site may have at once.
    let asked = app.requests.load(Ordering::SeqCst);
    assert!((100..=112).contains(&asked), "{asked}");
    for _ in 0..8 {
        let post = POST.replace("app.test", "two.test");
        assert_eq!(proxy.ask(post).text(), "good");
    }
}

/// A way that is gone without a word: what is asked for later goes another one.
#[test]
fn a_connection_on_which_nothing_came_in_time_gets_no_new_requests() {
    let app = app(|conversation, stream, event, _| {
        if let Event::Asked(path) = event {
            if path == "/hole" {
                // From here on it hears nothing.
                conversation.rest();
            }
            conversation.send(ok(stream));
            conversation.send(frame(DATA, END_STREAM, stream, b"there"));
        }
    });
    let text = format!(
        "host = 'app.test'\nto = 'h2c://127.0.0.1:{}'\n[timeout]\nfirst_byte = '300ms'\n",
        app.backend.port
    );
    let plan = Proxy::plan().flag("--workers=1").site("app.toml", text);
    let proxy = plan.start();
    assert_eq!(proxy.get("app.test", "/").text(), "there");
    assert_eq!(proxy.get("app.test", "/hole").said(), "504 backend-timeout");
    assert_eq!(proxy.get("app.test", "/").text(), "there");
    assert_eq!(app.connections(), 2);
}

#[test]
fn what_an_app_says_on_requests_that_were_taken_back_does_not_end_the_connection_of_the_others() {
    const TAKEN_BACK: usize = 90;
    const ROUNDS: usize = 60;
    let app = app(|conversation, stream, event, streams| match event {
        Event::Asked(path) if path == "/other" => streams.insert(0, stream),
        Event::Asked(_) => {}
        Event::TakenBack => {
            streams.push(stream);
            if streams.len() == TAKEN_BACK + 1 {
                settle(conversation);
            }
        }
        // What it says it says little by little: of each piece onedoor says that it is too late.
        Event::Settled if streams.len() <= TAKEN_BACK + ROUNDS => {
            for stream in &streams[1..=TAKEN_BACK] {
                conversation.send(frame(DATA, 0, *stream, b"late"));
            }
            settle(conversation);
            streams.push(0);
        }
        Event::Settled => {
            conversation.send(ok(streams[0]));
            conversation.send(frame(DATA, END_STREAM, streams[0], b"other"));
        }
    });
    let proxy = in_front_of(&app).start();
    let mut other = proxy.client();
    other.send("GET /other HTTP/1.1\r\nHost: app.test\r\n\r\n");
    app.until_asked();
    let mut client = Http2::to(&proxy);
    let asked: Vec<u32> = (0..TAKEN_BACK)
        .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    client.settle();
    for stream in asked {
        client.frame(RST_STREAM, 0, stream, &CANCEL);
    }
    assert_eq!(other.response().text(), "other");
    assert_eq!(app.connections(), 1);
}

/// What is under way when a visitor leaves counts for good in the life of a connection, and the connection is everybody's.
#[test]
fn visitors_that_leave_busy_events_do_not_end_the_connection_of_the_others() {
    /// One after the other: with the last of them the connection takes nobody else.
    const BEFORE: usize = 60;
    /// At once, beside the other visitor and the last of those.
    const AT_ONCE: usize = 90;
    let app = app(|conversation, stream, event, streams| match event {
        Event::Asked(path) if path == "/other" => streams.insert(0, stream),
        Event::Asked(_) => conversation.send(ok(stream)),
        Event::TakenBack => {
            streams.push(stream);
            // As if all of it had been on its way.
            conversation.send(&events(stream, 20)[ok(stream).len()..]);
            if streams.len() == 1 + BEFORE + AT_ONCE {
                settle(conversation);
            }
        }
        Event::Settled => {
            conversation.send(ok(streams[0]));
            conversation.send(frame(DATA, END_STREAM, streams[0], b"other"));
        }
    });
    let proxy = in_front_of(&app).start();
    let mut other = proxy.client();
    other.send("GET /other HTTP/1.1\r\nHost: app.test\r\n\r\n");
    app.until_asked();
    let mut client = Http2::to(&proxy);
    let leaves = |client: &mut Http2, visitors: usize| {
        let asked: Vec<u32> = (0..visitors)
            .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
            .collect();
        for stream in &asked {
            client.until(*stream, |seen| seen.status() == 200);
        }
        for stream in asked {
            client.frame(RST_STREAM, 0, stream, &CANCEL);
        }
    };
    for _ in 1..BEFORE {
        leaves(&mut client, 1);
    }
    assert_eq!(app.connections(), 1);
    leaves(&mut client, 1 + AT_ONCE);
    assert_eq!(other.response().text(), "other");
    assert_eq!(app.connections(), 1);
    // The next one comes by a connection of its own.
    other.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    until("another is opened", || app.connections() == 2);
}

/// Were it not ended, it would make us work for ever.
#[test]
fn an_app_that_goes_on_with_small_frames_for_a_visitor_who_has_left_is_ended() {
    let is_ended = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&is_ended);
    let app = app(move |conversation, stream, event, _| match event {
        Event::Asked(_) => conversation.send(ok(stream)),
        Event::TakenBack => {
            let event = frame(DATA, 0, stream, b"e").repeat(1000);
            if (0..5000).any(|_| conversation.try_send(&event).is_err()) {
                ended.fetch_add(1, Ordering::SeqCst);
            }
        }
        Event::Settled => {}
    });
    let proxy = in_front_of(&app).start();
    let mut client = Http2::to(&proxy);
    let stream = client.ask(&request("GET", "app.test", "/", &[]));
    client.until(stream, |seen| seen.status() == 200);
    client.frame(RST_STREAM, 0, stream, &CANCEL);
    until("its connection is ended", || {
        is_ended.load(Ordering::SeqCst) == 1
    });
}
