//! Apps that speak HTTP/2: one connection for many requests, theirs to end.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PREFACE, SETTINGS, block as fields, frame,
    request,
};
use crate::harness::{Authority, Backend, Plan, Proxy, Server, found, free_port, suspend, until};

/// Node's server. `/count` says how many sessions there were; `/large` is 1 MiB; `/bye` ends the session once it is answered; `/slow`
/// answers when the next request has come; `/t/` says what was asked for; others are sent back what they sent, and their trailers.
const APP: &str = r#"
const http2 = require("http2")
const fs = require("fs")
let sessions = 0, waiting = []
const [port, settings, pem, key] = process.argv.slice(2)
const options = { settings: JSON.parse(settings), maxSessionMemory: 1000 }
const server = pem
  ? http2.createSecureServer({ ...options, cert: fs.readFileSync(pem), key: fs.readFileSync(key), allowHTTP1: true })
  : http2.createServer(options)
server.on("session", () => { sessions++ })
server.on("request", (request, response) => {
  const pieces = []
  for (const slow of waiting.splice(0)) slow.end("slow")
  request.on("data", piece => pieces.push(piece))
  request.on("end", () => {
    if (request.url === "/slow") return waiting.push(response)
    response.setHeader("x-version", request.httpVersion)
    response.setHeader("x-scheme", request.headers[":scheme"] || "")
    response.setHeader("x-authority", request.headers[":authority"] || request.headers.host)
    if (request.url.startsWith("/t/")) return response.end(request.url)
    if (request.url === "/large") return response.end(Buffer.alloc(1 << 20))
    if (request.url === "/count") return response.end(String(sessions))
    if (request.url === "/old" && request.stream) return request.stream.close(http2.constants.NGHTTP2_HTTP_1_1_REQUIRED)
    if (request.url === "/refuse") return request.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)
    if (request.trailers["x-sum"]) response.addTrailers({ "x-sum": request.trailers["x-sum"] })
    response.end(Buffer.concat(pieces))
    if (request.url === "/bye") request.stream.session.close()
  })
})
server.listen(Number(port), "127.0.0.1")
"#;

fn start(proxy_folder: &std::path::Path, settings: &str, files: &[&str]) -> Server {
    fs::write(proxy_folder.join("app.js"), APP).unwrap();
    let port = free_port();
    let mut command = Command::new("node");
    command
        .args(["app.js", &port.to_string(), settings])
        .args(files);
    command.current_dir(proxy_folder).stdin(Stdio::null());
    Server::start(&mut command, port)
}

fn in_front_of(settings: &str) -> (Server, Proxy) {
    let plan = Proxy::plan();
    let app = start(plan.folder().path(), settings, &[]);
    let text = format!("host = 'app.test'\nto = 'h2c://127.0.0.1:{}'", app.port);
    (app, plan.site("app.toml", text).start())
}

/// The app speaks both versions.
fn behind_tls(plan: Plan) -> (Server, Proxy) {
    let authority = Authority::new("test");
    authority
        .pair(&["localhost"])
        .write(plan.sites().path(), "app");
    crate::harness::put(plan.sites().path(), "ca.pem", &authority.pem);
    let app = start(
        plan.folder().path(),
        "{}",
        &["sites.d/app.pem", "sites.d/app.key"],
    );
    let port = app.port;
    let text =
        format!("host = 'app.test'\nto = {{ at = 'https://localhost:{port}', ca = 'ca.pem' }}");
    (app, plan.site("app.toml", text).start())
}

#[test]
fn clients_of_both_versions_share_one_connection_to_the_app() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of("{}");
    let mut new = Http2::to(&proxy);
    let asked: Vec<u32> = (0..50)
        .map(|_| new.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    for stream in asked {
        assert_eq!(new.whole(stream).status(), 200);
    }
    let mut old = proxy.client();
    for _ in 0..5 {
        let answer = old.get("app.test", "/");
        assert_eq!(
            (answer.status, answer.value("x-version")),
            (200, "2.0".to_owned())
        );
        assert_eq!(answer.value("x-authority"), "app.test");
    }
    let workers = std::thread::available_parallelism().unwrap().get();
    let sessions: usize = proxy.get("app.test", "/count").text().parse().unwrap();
    // One more was opened to see whether it listens.
    assert!(sessions <= workers + 1, "{sessions}");
}

#[test]
fn bodies_and_trailers_pass_from_version_to_version() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of("{}");
    let body = vec![b'x'; 1 << 20];
    let mut old = proxy.client();
    old.send(format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    old.send(&body);
    assert!(old.response().body == body);
    old.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n");
    let answer = old.response();
    assert_eq!(
        (answer.text(), answer.trailers),
        ("hello".to_owned(), "x-sum: 5\r\n".to_owned())
    );
    old.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(old.response_to_head().status, 200);
    assert_eq!(old.get("app.test", "/").status, 200);
}

#[test]
fn more_requests_than_the_app_takes_at_once_are_all_answered() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of(r#"{ "maxConcurrentStreams": 2 }"#);
    let mut client = Http2::to(&proxy);
    for _ in 0..3 {
        let asked: Vec<u32> = (0..40)
            .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
            .collect();
        for stream in asked {
            assert_eq!(client.whole(stream).status(), 200);
        }
    }
}

/// They share its window with everybody else.
#[test]
fn clients_that_do_not_read_do_not_stop_the_others_on_a_connection_to_the_app() {
    if !found("node") {
        return;
    }
    let plan = Proxy::plan().flag("--workers=1");
    let app = start(plan.folder().path(), "{}", &[]);
    let text = format!("host = 'app.test'\nto = 'h2c://127.0.0.1:{}'", app.port);
    let proxy = plan.site("app.toml", text).start();
    let mut stalled = Http2::over(proxy.client(), &[(4, 1000)]);
    stalled.reads = false;
    let asked: Vec<u32> = (0..60)
        .map(|_| stalled.ask(&request("GET", "app.test", "/large", &[])))
        .collect();
    for stream in asked {
        stalled.until(stream, |seen| seen.body.len() == 1000);
    }
    let mut other = proxy.client();
    for _ in 0..3 {
        assert_eq!(other.get("app.test", "/large").body.len(), 1 << 20);
    }
    let sessions: usize = other.get("app.test", "/count").text().parse().unwrap();
    // One more was opened to see whether it listens.
    assert!(sessions <= 2, "{sessions}");
}

/// Over HTTP/1.1 they pass as they are, and browsers send them in queries.
#[test]
fn a_target_that_the_library_would_not_say_reaches_the_app() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of("{}");
    for (target, said) in [
        ("/t/?q={\"a\":[1]}", "/t/?q={%22a%22:[1]}"),
        ("/t/a<b>`c", "/t/a%3Cb%3E%60c"),
        ("/t/a{b}|\\^\"", "/t/a{b}|\\^\""),
    ] {
        let answer = proxy.get("app.test", target);
        assert_eq!((answer.status, answer.text()), (200, said.to_owned()));
    }
}

/// CASES G-08.
#[test]
fn no_request_is_lost_when_the_app_ends_its_connections() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of("{}");
    let mut client = Http2::to(&proxy);
    for round in 0..20 {
        let slow = client.ask(&request("GET", "app.test", "/slow", &[]));
        let asked: Vec<u32> = ["/", "/bye", "/", "/", "/"]
            .iter()
            .map(|path| client.ask(&request("GET", "app.test", path, &[])))
            .collect();
        for stream in asked {
            assert_eq!(client.whole(stream).status(), 200, "{round}");
        }
        // What was open when the app said goodbye still ends.
        assert_eq!(client.whole(slow).text(), "slow", "{round}");
    }
    let sessions: usize = proxy.get("app.test", "/count").text().parse().unwrap();
    assert!(sessions > 10, "{sessions}");
}

#[test]
fn a_request_that_is_always_refused_is_502_and_not_asked_for_ever() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = in_front_of("{}");
    assert_eq!(proxy.get("app.test", "/").status, 200);
    assert_eq!(proxy.get("app.test", "/refuse").status, 502);
    assert_eq!(proxy.get("app.test", "/").status, 200);
}

/// Whoever comes while the first finds out what is spoken waits for that.
#[test]
fn requests_that_come_at_once_open_one_connection_over_tls_too() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = behind_tls(Proxy::plan().flag("--workers=1"));
    let mut client = Http2::to(&proxy);
    let asked: Vec<u32> = (0..60)
        .map(|_| client.ask(&request("GET", "app.test", "/", &[])))
        .collect();
    for stream in asked {
        assert_eq!(client.whole(stream).value("x-version"), "2.0");
    }
    assert_eq!(client.get("app.test", "/count").text(), "1");
}

#[test]
fn over_tls_the_app_chooses_the_version() {
    if !found("node") {
        return;
    }
    let (_app, proxy) = behind_tls(Proxy::plan());
    let answer = proxy.get("app.test", "/");
    assert_eq!(
        (answer.status, answer.value("x-version")),
        (200, "2.0".to_owned())
    );
    assert_eq!(answer.value("x-scheme"), "https");
    // What may become a tunnel is asked for in HTTP/1.1.
    let answer = proxy.ask(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(answer.value("x-version"), "1.1");
    // And so is what the app does not speak of in HTTP/2 (RFC 9113 7).
    for method in ["GET", "POST"] {
        let ask =
            format!("{method} /old HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab");
        let answer = proxy.ask(ask);
        assert_eq!(
            (answer.status, answer.value("x-version")),
            (200, "1.1".to_owned()),
            "{method}"
        );
    }
}

/// It is asked whether it is there.
#[test]
fn an_app_that_is_silent_for_good_is_noticed() {
    if !found("node") {
        return;
    }
    let (app, proxy) = in_front_of("{}");
    // On one connection, so that it is one worker's, with its connection to the app.
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/").status, 200);
    let id = Pid::from_raw(i32::try_from(app.id()).unwrap()).unwrap();
    suspend(id);
    let answer = client.get("app.test", "/");
    kill_process(id, Signal::CONT).unwrap();
    assert_eq!(
        (answer.status, answer.value("onedoor-reason")),
        // It is asked once more, on a connection that it does not greet either.
        (504, "backend-timeout".to_owned())
    );
    until("it is asked again", || {
        proxy.get("app.test", "/").status == 200
    });
}

/// What an app says frame by frame that is no response, or none that is whole (RFC 9113 8.1, 8.2): nobody gets it as one.
#[test]
fn what_is_no_response_of_http_2_is_never_a_whole_one() {
    const OK: (&str, &str) = (":status", "200");
    let said = Arc::new(Mutex::new(Vec::<(u8, u8, Vec<u8>)>::new()));
    let saying = Arc::clone(&said);
    let app = Backend::doing(move |conversation| {
        conversation.bytes(PREFACE.len());
        conversation.send(frame(SETTINGS, 0, 0, &[]));
        loop {
            let head = conversation.bytes(9);
            if head.len() < 9 {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            conversation.bytes(length as usize);
            if head[3] == HEADERS {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                for (kind, flags, payload) in saying.lock().unwrap().iter() {
                    drop(conversation.try_send(frame(*kind, *flags, stream, payload)));
                }
            }
        }
    });
    let text = format!("host = 'app.test'\nto = 'h2c://127.0.0.1:{}'", app.port);
    let proxy = Proxy::plan().site("app.toml", text).start();
    let whole = |list: &[(&str, &str)]| vec![(HEADERS, END_HEADERS | END_STREAM, fields(list))];
    let with = |length, body: &[u8], flags| {
        let head = fields(&[OK, ("content-length", length)]);
        vec![(HEADERS, END_HEADERS, head), (DATA, flags, body.to_vec())]
    };
    let trailed = |list: &[(&str, &str)]| {
        vec![
            (HEADERS, END_HEADERS, fields(&[OK])),
            (DATA, 0, b"hello".to_vec()),
            (HEADERS, END_HEADERS | END_STREAM, fields(list)),
        ]
    };
    for (what, frames) in [
        (
            "an interim response that ends",
            whole(&[(":status", "103")]),
        ),
        ("a switch", whole(&[(":status", "101")])),
        ("no status", whole(&[("x-a", "1")])),
        ("no number", whole(&[(":status", "2x0")])),
        ("a coding", whole(&[OK, ("transfer-encoding", "chunked")])),
        ("a connection", whole(&[OK, ("connection", "close")])),
        ("capitals", whole(&[OK, ("X-A", "1")])),
        ("a line end", whole(&[OK, ("x-a", "1\r\nx-b: 2")])),
        (
            "a name with a line end",
            whole(&[OK, ("x-a: 1\r\nx-b", "2")]),
        ),
        ("a NUL", whole(&[OK, ("x-a", "1\0")])),
        (
            "two lengths",
            whole(&[OK, ("content-length", "0"), ("content-length", "5")]),
        ),
        (
            "a length and no body",
            whole(&[OK, ("content-length", "5")]),
        ),
        ("a body that is short", with("10", b"hello", END_STREAM)),
        ("a body that is long", with("2", b"hello", END_STREAM)),
        (
            "a body before its head",
            vec![(DATA, END_STREAM, b"hello".to_vec())],
        ),
        (
            "trailers that do not end it",
            vec![
                (HEADERS, END_HEADERS, fields(&[OK])),
                (HEADERS, END_HEADERS, fields(&[("x-a", "1")])),
            ],
        ),
    ] {
        *said.lock().unwrap() = frames;
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        match client.try_response("GET") {
            Ok(answer) => assert_eq!(answer.status, 502, "{what}"),
            Err(cut) => assert_ne!(cut.error.kind(), ErrorKind::WouldBlock, "{what}"),
        }
    }
    // What is a request's is dropped, and goes no further.
    *said.lock().unwrap() = whole(&[OK, (":path", "/x"), ("content-length", "0")]);
    let answer = proxy.get("app.test", "/");
    assert!(answer.status == 200 && !answer.has("path") && !answer.has(":path"));
    // Of trailers those of a head go no further.
    *said.lock().unwrap() = trailed(&[(":status", "500"), ("content-length", "1"), ("x-a", "1")]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    if let Ok(answer) = client.try_response("GET")
        && answer.status == 200
    {
        assert_eq!(
            (answer.text(), &answer.trailers[..]),
            ("hello".to_owned(), "x-a: 1\r\n")
        );
    }
    *said.lock().unwrap() = trailed(&[("x-a", "1")]);
    let answer = proxy.get("app.test", "/");
    assert_eq!(
        (answer.status, answer.trailers),
        (200, "x-a: 1\r\n".to_owned())
    );
}
