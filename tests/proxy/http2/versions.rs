//! The same request in both versions: the backend gets the same, and the client gets the same back.

use super::in_front_of;
use crate::harness::http2::{Http2, request};
use crate::harness::{Backend, Random};

const REQUESTS: usize = 500;

/// What the versions demand to differ, taken out.
fn comparable(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = head
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        })
        .filter(|line| !line.starts_with("x-request-id: "))
        .map(|line| match line.strip_prefix("via: 2 ") {
            Some(who) => format!("via: 1.1 {who}"),
            None => line,
        })
        .collect();
    lines[1..].sort();
    lines
}

#[test]
fn random_requests_mean_the_same_in_both_versions() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            let length = request.body.len();
            let body = format!("{} {} {length}", request.method(), request.target());
            let (status, extra) = match length % 5 {
                0 => ("200 OK", "X-A: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"),
                1 => ("404 Not Found", "Connection: X-Hop\r\nX-Hop: 1\r\n"),
                2 => (
                    "302 Found",
                    "Location: /elsewhere\r\nOnedoor-Reason: fake\r\n",
                ),
                3 => ("204 No Content", ""),
                _ => ("500 Oops", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            };
            let has_body = request.method() != "HEAD" && !status.starts_with("204");
            conversation.send(format!("HTTP/1.1 {status}\r\n{extra}"));
            if status.starts_with("204") {
                conversation.send("\r\n");
            } else if length % 2 == 0 || !has_body {
                let text = if has_body { &body[..] } else { "" };
                conversation.send(format!("Content-Length: {}\r\n\r\n{text}", body.len()));
            } else {
                conversation.send(format!(
                    "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Trail: 1\r\n\r\n",
                    body.len()
                ));
            }
        }
    });
    let proxy = in_front_of(&app).start();
    let mut random = Random::new(9113);
    let mut new = Http2::to(&proxy);
    let mut old = proxy.client();
    for number in 0..REQUESTS {
        let method = random.one_of(&[
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY",
        ]);
        let path = random.one_of(&[
            "/",
            "/a",
            "/a/../b",
            "/a%2fb?c=d",
            "/?",
            "//x",
            "/%7e;p=1?q",
            "/a?b?c",
        ]);
        let host = random.one_of(&["app.test", "APP.test", "app.test:8080", "app.test."]);
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for _ in 0..random.below(6) {
            fields.push(random.one_of(&[
                ("accept", "text/html, */*;q=0.1"),
                ("x-forwarded-for", "9.9.9.9"),
                ("forwarded", "for=9.9.9.9"),
                ("x_real_ip", "9.9.9.9"),
                ("x-own", "a \u{e9} b"),
                ("x-own", ""),
                ("authorization", "Bearer x"),
                ("max-forwards", "5"),
                ("via", "1.0 somebody"),
                ("proxy", "http://evil"),
                ("user-agent", "test"),
            ]));
        }
        fields.sort();
        fields.dedup_by_key(|(name, _)| *name);
        let body = vec![
            b'x';
            if matches!(method, "GET" | "HEAD" | "OPTIONS") {
                0
            } else {
                random.below(3000)
            }
        ];
        let length = body.len().to_string();
        let has_length = !body.is_empty() && random.below(2) == 0;
        let mut with_length = fields.clone();
        if has_length {
            with_length.push(("content-length", &length));
        }

        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        for (name, value) in &with_length {
            text.extend_from_slice(format!("{name}: ").as_bytes());
            // As the other side writes it: each character one byte.
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        if !has_length && !body.is_empty() {
            text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            text.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            text.extend_from_slice(&body);
            text.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(&body);
        }
        app.forget();
        old.send(&text);
        let before = old
            .try_response(method)
            .unwrap_or_else(|cut| panic!("{number}: {cut:?}"));

        let head = request(method, host, path, &with_length);
        let stream = if body.is_empty() {
            new.ask(&head)
        } else {
            let stream = new.begin(&head);
            new.last_data(stream, &body);
            stream
        };
        let after = new.whole(stream);

        let seen = app.requests();
        let shown = format!("{number}: {}", String::from_utf8_lossy(&text));
        assert_eq!(seen.len(), 2, "{shown}");
        assert_eq!(
            comparable(&seen[0].head),
            comparable(&seen[1].head),
            "{shown}"
        );
        assert!(seen[0].body == seen[1].body, "{shown}");
        assert_eq!(after.status(), before.status, "{shown}");
        assert!(after.body == before.body, "{shown}");
        for name in [
            "content-length",
            "x-a",
            "set-cookie",
            "location",
            "x-hop",
            "onedoor-reason",
            "server",
        ] {
            let mut values = before.values(name);
            let mut others: Vec<String> = after
                .fields
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
                .collect();
            values.sort();
            others.sort();
            assert_eq!(others, values, "{name} of {shown}");
        }
        let trailed = after
            .trailers
            .iter()
            .any(|(name, value)| name == "x-trail" && value == "1");
        assert_eq!(trailed, before.trailers.contains("X-Trail: 1"), "{shown}");
    }
}
