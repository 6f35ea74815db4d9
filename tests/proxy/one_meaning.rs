//! What onedoor writes, to a backend and to a client, means one thing: the strictest and the most lenient of readers
//! find the same in it, and it is what was sent.
//!
//! Messages are generated, `ONEDOOR_MEANING_SEED` has others generated. Real servers read them in `differential`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::harness::{
    Backend, Proxy, Random, Reading, ReadingKind, from_latin1, latin1, read_alike,
};

const SEED: u64 = 0x5eed_0f01;
const ROUNDS: usize = 1000;

#[test]
fn a_backend_reads_what_the_client_meant() {
    let seed = Random::seeded_by("ONEDOOR_MEANING_SEED", SEED);
    let mut random = Random::new(seed);
    let app = Backend::recording();
    let text = |more: &str| format!("to = {}\n{more}", app.port);
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("plain.test.toml", text(""))
        .site(
            "edited.test.toml",
            text("send_host = 'app.internal'\n[headers]\nvia = false\n[headers.request]\nset = { X-Set = 'ours' }\nremove = 'X-Gone'\n"),
        )
        .site(
            "stripped.test.toml",
            text("[[path]]\nmatch = '/api'\nstrip = true\n"),
        )
        .start();
    for round in 0..ROUNDS {
        app.forget();
        let asked: Vec<Message> = (0..1 + random.below(3))
            .map(|_| Message::request(&mut random))
            .collect();
        let mut client = proxy.client();
        let bytes: String = asked.iter().map(|message| message.sent.as_str()).collect();
        client.send(from_latin1(&bytes));
        for message in &asked {
            let answer = client.try_response(&message.first[0]).unwrap();
            assert_eq!(answer.status, 200, "seed {seed}, round {round}: {bytes:?}");
        }
        let read = read_alike(&from_latin1(&app.raw_bytes()), ReadingKind::Request);
        assert_eq!(
            read.len(),
            asked.len(),
            "seed {seed}, round {round}: {bytes:?}"
        );
        for (message, read) in asked.iter().zip(&read) {
            let shown = format!(
                "seed {seed}, round {round}: {:?} became {read:?}",
                message.sent
            );
            message.is_kept_in(read, &shown);
            assert_eq!(read.first[0], message.first[0], "{shown}");
            assert_eq!(read.first[1], message.first[1], "{shown}");
            assert_eq!(read.values("host"), [message.host.as_str()], "{shown}");
            for name in [
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-forwarded-port",
                "x-real-ip",
                "x-request-id",
            ] {
                assert_eq!(read.values(name).len(), 1, "{name}: {shown}");
            }
            assert!(!format!("{read:?}").contains("6.6.6.6"), "{shown}");
            let set = if message.host == "app.internal" {
                &["ours"][..]
            } else {
                &[]
            };
            assert_eq!(read.values("x-set"), set, "{shown}");
        }
    }
}

#[test]
fn a_client_reads_what_the_backend_meant() {
    let seed = Random::seeded_by("ONEDOOR_MEANING_SEED", SEED);
    let mut random = Random::new(seed);
    let next: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
    let queue = next.clone();
    let app = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            let Some(bytes) = queue.lock().unwrap().pop_front() else {
                return;
            };
            conversation.send(&bytes);
            if latin1(&bytes).contains("X-Ends: close") {
                return;
            }
        }
    });
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.test.toml", format!("to = {}\n", app.port))
        .start();
    for round in 0..ROUNDS {
        let method = random.one_of(&["GET", "GET", "HEAD", "POST"]);
        let version = random.one_of(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
        let answers = Message::responses(&mut random, method);
        let bytes: String = answers
            .iter()
            .map(|message| message.sent.as_str())
            .collect();
        next.lock().unwrap().push_back(from_latin1(&bytes));
        let mut client = proxy.client();
        client.send(format!(
            "{method} / {version}\r\nHost: app.test\r\nConnection: close\r\n\r\n"
        ));
        let read = read_alike(&client.rest(), ReadingKind::ResponseTo(method));
        // RFC 9110 15.2: a client of 1.0 knows no interim responses.
        let known = if version == "HTTP/1.0" {
            &answers[answers.len() - 1..]
        } else {
            &answers[..]
        };
        assert_eq!(
            read.len(),
            known.len(),
            "seed {seed}, round {round}: {bytes:?} became {read:?}"
        );
        for (message, read) in known.iter().zip(&read) {
            let shown = format!(
                "seed {seed}, round {round}: {:?} became {read:?}",
                message.sent
            );
            message.is_kept_in(read, &shown);
            assert_eq!(read.first[1], message.first[1], "{shown}");
            assert_eq!(read.first[2], message.first[2], "{shown}");
            if version == "HTTP/1.0" {
                assert!(read.values("transfer-encoding").is_empty(), "{shown}");
            }
        }
        let last = &read[read.len() - 1];
        assert_eq!(last.values("connection"), ["close"], "{last:?}");
        assert_eq!(last.values("date").len(), 1, "{last:?}");
    }
}

/// A message as it is sent, and what of it must arrive.
struct Message {
    sent: String,
    first: [String; 3],
    /// What the next hop is told.
    host: String,
    /// Fields that mean nothing to a proxy, in order.
    kept: Vec<(String, String)>,
    body: String,
    trailers: Vec<(String, String)>,
}

impl Message {
    fn is_kept_in(&self, read: &Reading, shown: &str) {
        let ours = |(name, _): &&(String, String)| name.starts_with("x-odd");
        let kept: Vec<_> = read.fields.iter().filter(ours).cloned().collect();
        assert_eq!(kept, self.kept, "{shown}");
        assert_eq!(read.body, self.body, "{shown}");
        // A message that is not sent on in chunks has no place for them.
        if !read.values("transfer-encoding").is_empty() {
            assert_eq!(read.trailers, self.trailers, "{shown}");
        }
        for name in [
            "keep-alive",
            "proxy-connection",
            "te",
            "x-hop",
            "x-gone",
            "proxy",
            "onedoor-reason",
            "upgrade",
        ] {
            assert!(read.values(name).is_empty(), "{name}: {shown}");
        }
    }

    fn request(random: &mut Random) -> Message {
        let method = random.one_of(&[
            "GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "M-SEARCH", "get",
        ]);
        let (name, host) = random.one_of(&[
            ("plain.test", "plain.test"),
            ("PLAIN.test.:8080", "plain.test:8080"),
            ("edited.test", "app.internal"),
            ("stripped.test", "stripped.test"),
        ]);
        let (target, sent_on) = random.one_of(&[
            ("/", "/"),
            ("/a/b?c=d&e=/?f", "/a/b?c=d&e=/?f"),
            ("/%2e%2F;p=1", "/%2e%2F;p=1"),
            ("//other.test/x", "//other.test/x"),
            ("/a\\\"<>^`{|}", "/a\\\"<>^`{|}"),
            ("http://{name}/abs?q", "/abs?q"),
            ("HTTP://{name}?q", "/?q"),
            ("/api/x?y", "/api/x?y"),
            ("/api", "/api"),
        ]);
        // Of the stripped site the dots and the backslash would be refused.
        let (target, sent_on) = match (name, target) {
            ("stripped.test", "/api/x?y") => (target, "/x?y"),
            ("stripped.test", "/api") => (target, "/"),
            ("stripped.test", _) => ("/other", "/other"),
            _ => (target, sent_on),
        };
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        odd_fields(random, &mut lines, &mut kept);
        for _ in 0..random.below(4) {
            lines.push(
                random
                    .one_of(&[
                        "Connection: X-Hop",
                        "connection: keep-alive, x-HOP",
                        "Connection: Host, X-Forwarded-For, X-Request-Id",
                        "Keep-Alive: timeout=5",
                        "Proxy-Connection: keep-alive",
                        "TE: trailers, gzip",
                        "Upgrade: h2c",
                        "X-Forwarded-For: 6.6.6.6",
                        "X_Forwarded_For: 6.6.6.6",
                        "X.Real.IP: 6.6.6.6",
                        "x-real-ip: 6.6.6.6",
                        "Forwarded: for=\"6.6.6.6",
                        "X-Request-Id: 6.6.6.6",
                        "Proxy: 6.6.6.6",
                        "Client-IP: 6.6.6.6",
                        "X-Forwarded-Host: 6.6.6.6",
                        "Content_Length: 7",
                        "Transfer.Encoding: chunked",
                        "Expect: 100-continue",
                    ])
                    .to_owned(),
            );
        }
        if lines
            .iter()
            .any(|line| line.to_ascii_lowercase().contains("x-hop"))
        {
            lines.push("X-Hop: 1".to_owned());
        }
        if host == "app.internal" {
            lines.push(
                random
                    .one_of(&["X-Set: theirs", "x_set: theirs", "X-Gone: 1", "x.gone: 1"])
                    .to_owned(),
            );
        }
        let mut body = String::new();
        let mut trailers = Vec::new();
        let mut tail = String::new();
        match random.below(3) {
            0 => {}
            1 => {
                body = content(random);
                let zeros = random.one_of(&["", "", "00"]);
                lines.push(format!("Content-Length: {zeros}{}", body.chars().count()));
                tail = body.clone();
            }
            _ => {
                body = content(random);
                lines.push(
                    random
                        .one_of(&["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED "])
                        .to_owned(),
                );
                tail = chunks(random, &body, &mut trailers);
            }
        }
        let host_line = format!("{}{name}", random.one_of(&["Host: ", "host:", "HOST: \t"]));
        let at = random.below(lines.len() + 1);
        lines.insert(at, host_line);
        let target = target.replace("{name}", name);
        let before = random.one_of(&["", "", "", "\r\n"]);
        Message {
            sent: format!(
                "{before}{method} {target} HTTP/1.1\r\n{}\r\n\r\n{tail}",
                lines.join("\r\n")
            ),
            first: [method.to_owned(), sent_on.to_owned(), "HTTP/1.1".to_owned()],
            host: host.to_owned(),
            kept,
            body,
            trailers,
        }
    }

    /// Perhaps some interim responses, and the final one.
    fn responses(random: &mut Random, method: &str) -> Vec<Message> {
        let mut all: Vec<Message> = (0..random.one_of(&[0, 0, 1, 3]))
            .map(|_| Message::response(random, method, &[("103", "Early Hints"), ("102", "")]))
            .collect();
        all.push(Message::response(
            random,
            method,
            &[
                ("200", "OK"),
                ("200", ""),
                ("206", "Part  of it"),
                ("204", "No Content"),
                ("304", "Not Modified"),
                ("404", "Nothing here: sorry"),
                ("500", "\"it\" broke"),
                ("299", "x\ty"),
                ("599", "-"),
            ],
        ));
        all
    }

    fn response(random: &mut Random, method: &str, statuses: &[(&str, &str)]) -> Message {
        let (status, reason) = random.one_of(statuses);
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        odd_fields(random, &mut lines, &mut kept);
        for _ in 0..random.below(3) {
            lines.push(
                random
                    .one_of(&[
                        "Connection: X-Hop",
                        "Connection: keep-alive",
                        "Keep-Alive: timeout=5",
                        "Proxy-Connection: close",
                        "Upgrade: websocket",
                        "Onedoor-Reason: lie",
                        "TE: gzip",
                        "X_Forwarded_For: 6.6.6.6",
                    ])
                    .to_owned(),
            );
        }
        if lines.iter().any(|line| line.contains("X-Hop")) {
            lines.push("x-hop: 1".to_owned());
        }
        let is_final = !status.starts_with('1');
        let has_body = is_final && method != "HEAD" && status != "204" && status != "304";
        let mut body = String::new();
        let mut trailers = Vec::new();
        let mut tail = String::new();
        let mut version = "HTTP/1.1";
        if has_body {
            body = content(random);
            let length = body.chars().count();
            tail = body.clone();
            match random.below(5) {
                0 => lines.push(format!("Content-Length: {length}")),
                1 => lines.push(format!(
                    "content-length:{length}, {length}\r\nContent-Length:  0{length}"
                )),
                2 => {
                    version = random.one_of(&["HTTP/1.0", "HTTP/1.1"]);
                    lines.push("X-Ends: close".to_owned());
                }
                // CASES R-01: the coding decides.
                3 => {
                    lines.push("Content-Length: 3\r\nTransfer-Encoding: chunked".to_owned());
                    tail = chunks(random, &body, &mut trailers);
                }
                _ => {
                    lines.push("Transfer-Encoding: Chunked".to_owned());
                    tail = chunks(random, &body, &mut trailers);
                }
            }
        } else if is_final && random.in_percent(50) {
            // What a GET would have got, and nothing behind it.
            lines.push(
                random
                    .one_of(&["Content-Length: 7", "Transfer-Encoding: chunked"])
                    .to_owned(),
            );
        }
        let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let space = if reason.is_empty() {
            random.one_of(&["", " "])
        } else {
            " "
        };
        Message {
            sent: format!("{version} {status}{space}{reason}\r\n{fields}\r\n{tail}"),
            first: ["HTTP/1.1".to_owned(), status.to_owned(), reason.to_owned()],
            host: String::new(),
            kept,
            body,
            trailers,
        }
    }
}

/// Fields nobody on the way has a use for, in every form a field may have.
fn odd_fields(random: &mut Random, lines: &mut Vec<String>, kept: &mut Vec<(String, String)>) {
    for _ in 0..random.below(5) {
        let name = random.one_of(&["X-Odd", "x-odd", "X-Odd-Too", "X-ODD!#$%&'*+.^`|~_9"]);
        let (before, behind) = (
            random.one_of(&["", " ", "\t", "  \t "]),
            random.one_of(&["", "", " ", "\t"]),
        );
        let value = random.one_of(&[
            "",
            "1",
            "a: b",
            "a, \"b\\\"c\"",
            "caf\u{e9} \u{ff}",
            "a\tb",
            "chunked",
            "close",
            "\u{a0}x\u{85}",
        ]);
        lines.push(format!("{name}:{before}{value}{behind}"));
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        kept.push((name.chars().map(plain).collect(), value.to_owned()));
    }
}

fn content(random: &mut Random) -> String {
    let piece = random.one_of(&[
        "",
        "x",
        "hello",
        "0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\0\u{ff}\r\n",
    ]);
    piece.repeat(random.one_of(&[1, 1, 2, 40, 700]))
}

/// `body` in chunks of many sizes and forms, with trailers of which some may not be passed on.
fn chunks(random: &mut Random, body: &str, trailers: &mut Vec<(String, String)>) -> String {
    let characters: Vec<char> = body.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < characters.len() {
        let end = (at + 1 + random.below(900)).min(characters.len());
        let piece: String = characters[at..end].iter().collect();
        let size = end - at;
        at = end;
        out.push_str(&match random.below(5) {
            0 => format!("{size:X}"),
            1 => format!("000{size:x}"),
            2 => format!("{size:x};a=\"\\\";b\";c"),
            3 => format!("{size:x} \t; a"),
            _ => format!("{size:x}"),
        });
        out.push_str(&format!("\r\n{piece}\r\n"));
    }
    out.push_str(random.one_of(&["0\r\n", "000;x=y\r\n"]));
    for _ in 0..random.below(3) {
        let (line, name, value) = random.one_of(&[
            ("X-Odd: t", "x-odd", "t"),
            ("x-odd-too:\tu ", "x-odd-too", "u"),
            ("Content-Length: 3", "", ""),
            ("Transfer-Encoding: chunked", "", ""),
            ("X_Forwarded_For: 6.6.6.6", "", ""),
            ("Onedoor-Reason: lie", "", ""),
        ]);
        out.push_str(&format!("{line}\r\n"));
        if !name.is_empty() {
            trailers.push((name.to_owned(), value.to_owned()));
        }
    }
    out + "\r\n"
}
