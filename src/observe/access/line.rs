//! One line, as bytes: written by hand, because it is written for every request.
//!
//! What the request says is escaped where it is written, once; nothing is built in between. Control bytes never get
//! through, and no part is longer than its cap.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::clock::{Clock, Micros};
use super::text::{is_plain, put_text};
use super::{Format, Sink};
use crate::digits::{part_of_second, put_address, put_ip, put_number, put_seconds, three_digits};
use crate::observe::Finished;

/// The path and query of a request: longer than any that a person writes.
const TARGET_BYTES: usize = 1024;
/// Names, user agents, referers.
const TEXT_BYTES: usize = 256;
/// What a line needs.
pub(super) const LINE_BYTES: usize = 1 << 10;

/// Who asks for whom: the same for all requests for one host on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub client: IpAddr,
    pub site: Option<&'a str>,
    pub host: &'a [u8],
    /// `1.3`; `None`: clear text.
    pub tls: Option<&'static str>,
    pub sni: Option<&'a str>,
}

/// The same as it stands in a line, so that it is only copied.
#[derive(Debug)]
pub struct Lasting {
    format: Format,
    /// The client first: a trusted proxy names another one each time.
    text: Box<[u8]>,
    client_bytes: usize,
}

/// What is known when a request is there.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the backend knows it by.
    pub id: Option<&'a [u8; 32]>,
    pub who: &'a Lasting,
    /// Who asked in truth, where that is not the client of the connection.
    pub asker: Option<IpAddr>,
    /// `None`: there was no request that could be read.
    pub method: Option<&'a str>,
    pub path: &'a [u8],
    /// With its `?`, or empty.
    pub query: &'a [u8],
    pub spoken: Spoken,
    pub referer: &'a [u8],
    pub agent: &'a [u8],
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http10,
    Http11,
    Http2,
    /// Nothing that could be read.
    Http,
    /// Passed through.
    Tls,
}

/// A line whose end is not known.
#[derive(Debug)]
pub struct Begun {
    /// `None`: it is lent to nobody.
    pub(super) to: Option<Rc<Sink>>,
    format: Format,
    /// What stands in front of the end, and, from `split` on, behind it.
    text: Vec<u8>,
    split: usize,
    started: Micros,
    /// When the last attempt began, when an upstream was there for it, and how long opening that took.
    attempt: Micros,
    upstream: Option<Micros>,
    connect: Micros,
    first_byte: Option<Micros>,
}

/// Where a part of a line is written to.
#[derive(Debug)]
pub struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    pub fn put(&mut self, text: &[u8]) {
        put_text(self.0, text, TEXT_BYTES);
    }

    /// Text of ours, that needs no look.
    #[inline]
    pub fn put_plain<const N: usize>(&mut self, text: &[u8; N]) {
        self.0.extend_from_slice(text);
    }

    pub fn put_number(&mut self, number: u64) {
        put_number(self.0, number);
    }

    pub fn put_address(&mut self, ip: Ipv4Addr, port: u16) {
        put_address(self.0, ip, port);
    }
}

impl Lasting {
    pub fn of(who: &Who<'_>, format: Format) -> Lasting {
        let mut out = Vec::new();
        put_ip(&mut out, who.client);
        let client_bytes = out.len();
        match format {
            Format::Json => {
                for (key, value) in [
                    (
                        &b"\",\"site\":\""[..],
                        who.site.unwrap_or_default().as_bytes(),
                    ),
                    (b"\",\"host\":\"", who.host),
                    (b"\",\"tls\":\"", who.tls.unwrap_or_default().as_bytes()),
                    (b"\",\"sni\":\"", who.sni.unwrap_or_default().as_bytes()),
                ] {
                    if !value.is_empty() {
                        out.extend_from_slice(key);
                        put_text(&mut out, value, TEXT_BYTES);
                    }
                }
            }
            Format::Combined => {
                out.extend_from_slice(b"\" \"");
                put_or_dash(&mut out, who.host);
                out.extend_from_slice(b"\" ");
            }
        }
        Lasting {
            format,
            text: out.into(),
            client_bytes,
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    fn client(&self) -> &[u8] {
        &self.text[..self.client_bytes]
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.client_bytes..]
    }
}

impl Begun {
    pub(super) fn new() -> Box<Begun> {
        Box::new(Begun {
            to: None,
            format: Format::Json,
            text: Vec::with_capacity(LINE_BYTES),
            split: 0,
            started: 0,
            attempt: 0,
            upstream: None,
            connect: 0,
            first_byte: None,
        })
    }

    /// Begins it, whatever it was before.
    #[inline]
    pub(super) fn begin(&mut self, to: Rc<Sink>, facts: &Facts<'_>, query: bool, clock: &Clock) {
        let now = clock.now();
        self.to = Some(to);
        self.format = facts.who.format;
        self.text.clear();
        (self.started, self.attempt) = (now, now);
        (self.upstream, self.connect, self.first_byte) = (None, 0, None);
        match self.format {
            Format::Json => self.begin_json(facts, query, clock),
            Format::Combined => self.begin_combined(facts, query, clock),
        }
    }

    /// An upstream is there; unless it was idle, it was opened for this request. The last one counts.
    pub(super) fn has_upstream(
        &mut self,
        now: Micros,
        is_new: bool,
        backend: impl FnOnce(&mut Text<'_>),
    ) {
        self.upstream = Some(now);
        self.connect = if is_new { now - self.attempt } else { 0 };
        self.has_backend(backend);
    }

    /// This backend was asked for an upstream. The last one counts.
    pub fn has_backend(&mut self, backend: impl FnOnce(&mut Text<'_>)) {
        if self.format == Format::Json {
            self.text.truncate(self.split);
            self.text.extend_from_slice(b"\",\"backend\":\"");
            backend(&mut Text(&mut self.text));
        }
    }

    /// The attempt with that upstream was in vain, and another one begins.
    pub(super) fn tries_again(&mut self, now: Micros) {
        self.attempt = now;
    }

    /// The head of the response is there.
    pub(super) fn has_response(&mut self, now: Micros) {
        self.first_byte = Some(now);
    }

    fn begin_json(&mut self, facts: &Facts<'_>, query: bool, clock: &Clock) {
        let out = &mut self.text;
        let mut front = *b"{\"time\":\"0000-00-00T00:00:00.000000Z\",\"id\":\"00000000000000000000000000000000\",\"client\":\"";
        front[9..35].copy_from_slice(&clock.rfc3339(self.started));
        match facts.id {
            Some(id) if is_plain(id) => {
                front[44..76].copy_from_slice(id);
                out.extend_from_slice(&front);
            }
            // A trusted proxy's may be anything that a field may be.
            Some(id) => {
                out.extend_from_slice(&front[..44]);
                put_text(out, id, 32);
                out.extend_from_slice(&front[76..]);
            }
            None => {
                out.extend_from_slice(&front[..36]);
                out.extend_from_slice(&front[76..]);
            }
        }
        match facts.asker {
            None => out.extend_from_slice(&facts.who.text),
            Some(asker) => {
                put_ip(out, asker);
                out.extend_from_slice(facts.who.rest());
            }
        }
        if let Some(method) = facts.method {
            if method == "GET" {
                out.extend_from_slice(b"\",\"method\":\"GET\",\"path\":\"");
            } else {
                out.extend_from_slice(b"\",\"method\":\"");
                put_text(out, method.as_bytes(), 32);
                out.extend_from_slice(b"\",\"path\":\"");
            }
            put_text(out, facts.path, TARGET_BYTES);
            if query && !facts.query.is_empty() {
                put_text(out, facts.query, TARGET_BYTES);
            }
        }
        match facts.spoken {
            Spoken::Http10 => out.extend_from_slice(b"\",\"protocol\":\"HTTP/1.0"),
            Spoken::Http11 => out.extend_from_slice(b"\",\"protocol\":\"HTTP/1.1"),
            Spoken::Http2 => out.extend_from_slice(b"\",\"protocol\":\"HTTP/2.0"),
            Spoken::Http => out.extend_from_slice(b"\",\"protocol\":\"HTTP"),
            Spoken::Tls => out.extend_from_slice(b"\",\"protocol\":\"TLS"),
        }
        self.split = out.len();
    }

    fn begin_combined(&mut self, facts: &Facts<'_>, query: bool, clock: &Clock) {
        let out = &mut self.text;
        match facts.asker {
            None => out.extend_from_slice(facts.who.client()),
            Some(asker) => put_ip(out, asker),
        }
        out.extend_from_slice(b" - - [");
        clock.put_clf(out, self.started);
        out.extend_from_slice(b"] \"");
        match facts.method {
            Some(method) => {
                put_text(out, method.as_bytes(), 32);
                out.push(b' ');
                put_text(out, facts.path, TARGET_BYTES);
                if query && !facts.query.is_empty() {
                    put_text(out, facts.query, TARGET_BYTES);
                }
                match facts.spoken {
                    Spoken::Http10 => out.extend_from_slice(b" HTTP/1.0\" "),
                    Spoken::Http11 => out.extend_from_slice(b" HTTP/1.1\" "),
                    Spoken::Http2 => out.extend_from_slice(b" HTTP/2.0\" "),
                    Spoken::Http | Spoken::Tls => out.extend_from_slice(b"\" "),
                }
            }
            None => out.extend_from_slice(b"-\" "),
        }
        self.split = out.len();
        out.extend_from_slice(b" \"");
        put_or_dash(out, facts.referer);
        out.extend_from_slice(b"\" \"");
        put_or_dash(out, facts.agent);
        out.extend_from_slice(facts.who.rest());
    }

    /// Writes the whole line, whose request ended `now`.
    #[inline]
    pub(super) fn finish(&self, out: &mut Vec<u8>, finished: &Finished, now: Micros) {
        match self.format {
            Format::Json => self.finish_json(out, finished, now),
            Format::Combined => self.finish_combined(out, finished, now),
        }
    }

    fn finish_json(&self, out: &mut Vec<u8>, finished: &Finished, now: Micros) {
        out.extend_from_slice(&self.text);
        self.put_status_and_times(out, finished.status, now);
        if let Some(reason) = finished.reason {
            out.extend_from_slice(b",\"reason\":\"");
            out.extend_from_slice(reason.code().as_bytes());
            out.push(b'"');
        }
        if finished.retries > 0 {
            out.extend_from_slice(b",\"retries\":");
            put_number(out, u64::from(finished.retries));
        }
        if finished.from_client == 0 {
            out.extend_from_slice(b",\"received\":0,\"sent\":");
        } else {
            out.extend_from_slice(b",\"received\":");
            put_number(out, finished.from_client);
            out.extend_from_slice(b",\"sent\":");
        }
        put_number(out, finished.to_client);
        out.extend_from_slice(b"}\n");
    }

    fn put_status_and_times(&self, out: &mut Vec<u8>, status: u16, now: Micros) {
        let total = now - self.started;
        if let (Some(upstream), Some(first)) = (self.upstream, self.first_byte)
            && let 100..1_000 = status
            && total < 1_000_000
        {
            // So are all of them, and stand where they stand.
            let mut text = *b"\",\"status\":000,\"time_total\":0.000000,\"time_wait\":0.000000,\"time_connect\":0.000000,\"time_first_byte\":0.000000";
            text[11..14].copy_from_slice(&three_digits(status));
            text[28..36].copy_from_slice(&part_of_second(total));
            // An idle upstream is there at once.
            if upstream > self.started {
                text[49..57].copy_from_slice(&part_of_second(upstream - self.started));
            }
            if self.connect > 0 {
                text[73..81].copy_from_slice(&part_of_second(self.connect));
            }
            text[100..108].copy_from_slice(&part_of_second(first - upstream));
            return out.extend_from_slice(&text);
        }
        out.extend_from_slice(b"\",\"status\":");
        put_number(out, u64::from(status));
        out.extend_from_slice(b",\"time_total\":");
        put_seconds(out, total);
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b",\"time_wait\":");
            put_seconds(out, upstream - self.started);
            out.extend_from_slice(b",\"time_connect\":");
            put_seconds(out, self.connect);
            if let Some(first) = self.first_byte {
                out.extend_from_slice(b",\"time_first_byte\":");
                put_seconds(out, first - upstream);
            }
        }
    }

    fn finish_combined(&self, out: &mut Vec<u8>, finished: &Finished, now: Micros) {
        let (front, behind) = self.text.split_at(self.split);
        out.extend_from_slice(front);
        put_number(out, u64::from(finished.status));
        out.push(b' ');
        put_number(out, finished.to_client);
        out.extend_from_slice(behind);
        match self.upstream {
            Some(upstream) => put_seconds(out, now - upstream),
            None => out.push(b'-'),
        }
        out.push(b'\n');
    }

    /// Lets go of what it was about, so that it can be lent again. `false`: it had to grow, and is not worth keeping.
    pub(super) fn is_worth_keeping(&mut self) -> bool {
        self.to = None;
        self.text.capacity() <= 2 * LINE_BYTES
    }
}

fn put_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    match text {
        b"" => out.push(b'-'),
        text => put_text(out, text, TEXT_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Destination, write};
    use super::*;
    use crate::observe::{Kind, Protocol, Reason};

    const WHO: Who<'static> = Who {
        client: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        site: Some("shop"),
        host: b"shop.test",
        tls: Some("1.3"),
        sni: Some("shop.test"),
    };

    fn facts(who: &Lasting) -> Facts<'_> {
        Facts {
            id: Some(b"0123456789abcdef0123456789abcdef"),
            who,
            asker: None,
            method: Some("GET"),
            path: b"/a",
            query: b"?b=c",
            spoken: Spoken::Http11,
            referer: b"",
            agent: b"curl \"8\"",
        }
    }

    fn finished() -> Finished {
        Finished {
            status: 502,
            reason: Some(Reason::BackendRefused),
            to_client: 18_446_744_073_709_551_615,
            retries: 2,
            ..Finished::of(Kind::Exchange, Protocol::Http1, Some(1))
        }
    }

    #[test]
    fn short_times_are_written_as_long_ones_are() {
        let who = Lasting::of(&WHO, Format::Json);
        let clock = Clock::new();
        let mut begun = Begun::new();
        let sink = Sink::new(&Destination::Stdout, &write::start().expect("a thread"));
        begun.begin(sink, &facts(&who), true, &clock);
        let began = begun.started;
        for (is_new, connect) in [(false, "0.000000"), (true, "0.000002")] {
            begun.has_upstream(began + 2, is_new, |text| text.put_plain(b"x"));
            begun.has_response(began + 30_004);
            let mut out = Vec::new();
            begun.finish(&mut out, &finished(), began + 999_999);
            let line = String::from_utf8(out).expect("UTF-8");
            let times = format!(
                "\"status\":502,\"time_total\":0.999999,\"time_wait\":0.000002,\"time_connect\":{connect},\"time_first_byte\":0.030002,"
            );
            assert!(line.contains(&times), "{line}");
        }
    }

    fn written(facts: &Facts<'_>, query: bool) -> String {
        let clock = Clock::new();
        let mut begun = Begun::new();
        let sink = Sink::new(&Destination::Stdout, &write::start().expect("a thread"));
        begun.begin(sink, facts, query, &clock);
        let began = begun.started;
        begun.has_upstream(began + 1_000, true, |text| {
            text.put_plain(b"localhost:4999")
        });
        begun.tries_again(began + 2_000);
        begun.has_upstream(began + 7_000, true, |text| {
            text.put_plain(b"localhost:5000")
        });
        begun.has_response(began + 1_009_001);
        let mut out = Vec::new();
        begun.finish(&mut out, &finished(), began + 12_345_678);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_of_json_has_every_field() {
        let who = Lasting::of(&WHO, Format::Json);
        let line = written(&facts(&who), true);
        let value: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert_eq!(value["id"], "0123456789abcdef0123456789abcdef");
        assert_eq!(value["client"], "192.0.2.7");
        assert_eq!(
            (&value["site"], &value["host"]),
            (&"shop".into(), &"shop.test".into())
        );
        assert_eq!(
            (&value["method"], &value["path"]),
            (&"GET".into(), &"/a?b=c".into())
        );
        assert_eq!(
            (&value["status"], &value["sent"]),
            (&502.into(), &u64::MAX.into())
        );
        assert_eq!(value["reason"], "backend-refused");
        assert_eq!(value["backend"], "localhost:5000");
        assert_eq!(
            (&value["tls"], &value["sni"]),
            (&"1.3".into(), &"shop.test".into())
        );
        assert_eq!(value["retries"], 2);
        let times = "\"status\":502,\"time_total\":12.345678,\"time_wait\":0.007000,\"time_connect\":0.005000,\"time_first_byte\":1.002001,";
        assert!(line.contains(times), "{line}");
        let time = value["time"].as_str().expect("text");
        assert_eq!((time.len(), &time[10..11], &time[26..]), (27, "T", "Z"));
        assert!(!written(&facts(&who), false).contains("b=c"));
        let forwarded = Facts {
            asker: Some(IpAddr::from([198, 51, 100, 9])),
            ..facts(&who)
        };
        let line = written(&forwarded, true);
        assert!(
            line.contains("\"client\":\"198.51.100.9\",\"site\":\"shop\""),
            "{line}"
        );
    }

    #[test]
    fn a_combined_line_is_what_log_readers_know() {
        let who = Lasting::of(&WHO, Format::Combined);
        let line = written(&facts(&who), true);
        let (front, behind) = line.split_once(" - - [").expect(&line);
        assert_eq!(front, "192.0.2.7");
        let behind = &behind["10/Oct/2000:13:55:36 +0000".len()..];
        assert_eq!(
            behind,
            "] \"GET /a?b=c HTTP/1.1\" 502 18446744073709551615 \"-\" \"curl \\\"8\\\"\" \"shop.test\" 12.338678\n"
        );
    }

    #[test]
    fn what_could_not_be_read_is_a_line_too() {
        let who = Who {
            site: None,
            host: b"",
            tls: None,
            sni: None,
            ..WHO
        };
        for format in [Format::Json, Format::Combined] {
            let who = Lasting::of(&who, format);
            let nothing = Facts {
                id: None,
                method: None,
                spoken: Spoken::Http,
                ..facts(&who)
            };
            let line = written(&nothing, true);
            match format {
                Format::Json => {
                    let value: serde_json::Value = serde_json::from_str(&line).expect(&line);
                    assert_eq!(value["protocol"], "HTTP");
                }
                Format::Combined => assert!(
                    line.contains("] \"-\" 502 18446744073709551615 \"-\""),
                    "{line}"
                ),
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_its_line_or_its_quotes(
            path in prop::collection::vec(any::<u8>(), 0..1100),
            agent in prop::collection::vec(any::<u8>(), 0..300),
            combined: bool,
        ) {
            let format = if combined { Format::Combined } else { Format::Json };
            let who = Lasting::of(&Who { host: &agent, ..WHO }, format);
            let line = written(&Facts { path: &path, agent: &agent, ..facts(&who) }, true);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{:?}", line);
            // Every quote that is none of ours is escaped.
            let escaped = line.replace("\\\\", "").replace("\\\"", "");
            if combined {
                prop_assert_eq!(escaped.matches('"').count(), 8, "{}", line);
            } else {
                let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                if let Ok(text) = std::str::from_utf8(&path) && path.len() <= TARGET_BYTES {
                    let wanted = format!("{text}?b=c");
                    prop_assert_eq!(value["path"].as_str(), Some(wanted.as_str()));
                }
            }
        }
    }
}
