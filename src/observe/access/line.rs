//! One line, as bytes: written by hand, because it is written for every request.
//!
//! What the request says is escaped where it is written, once; nothing is built in between. Control bytes never get
//! through, and no part is longer than its cap.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Destination, Format, Wanted};
use crate::observe::Finished;

/// The path and query of a request: longer than any that a person writes.
const TARGET_BYTES: usize = 1024;
/// Names, user agents, referers.
const TEXT_BYTES: usize = 256;
/// What a line needs.
const LINE_BYTES: usize = 1 << 10;
/// Lines a worker keeps for the next requests.
const KEPT: usize = 256;

/// What is known when a request is there.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the backend knows it by.
    pub id: Option<&'a [u8; 32]>,
    pub client: IpAddr,
    pub site: Option<&'a str>,
    pub host: &'a [u8],
    /// `None`: there was no request that could be read.
    pub method: Option<&'a str>,
    pub path: &'a [u8],
    /// With its `?`, or empty.
    pub query: &'a [u8],
    /// `HTTP/1.1`.
    pub protocol: &'static str,
    /// `1.3`; `None`: clear text.
    pub tls: Option<&'static str>,
    pub sni: Option<&'a str>,
    pub referer: &'a [u8],
    pub agent: &'a [u8],
}

/// A line whose end is not known.
#[derive(Debug)]
pub struct Begun {
    pub(super) to: Destination,
    format: Format,
    /// What stands in front of the end, and, from `split` on, behind it.
    text: Vec<u8>,
    split: usize,
    started: Instant,
    /// When an upstream was there, and how long opening it took.
    upstream: Option<Instant>,
    connect: Duration,
    first_byte: Option<Instant>,
}

/// Where a part of a line is written to.
#[derive(Debug)]
pub struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    pub fn put(&mut self, text: &[u8]) {
        put_text(self.0, text, TEXT_BYTES);
    }

    pub fn put_number(&mut self, number: u64) {
        put_number(self.0, number);
    }

    pub fn put_ip(&mut self, ip: IpAddr) {
        put_ip(self.0, ip);
    }
}

thread_local! {
    /// Their texts keep their room.
    static LENT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Begun {
    pub(super) fn lend(to: &Destination, facts: &Facts<'_>, wanted: &Wanted) -> Box<Begun> {
        let text = LENT.with_borrow_mut(Vec::pop);
        let mut begun = Box::new(Begun {
            to: to.clone(),
            format: wanted.format,
            text: text.unwrap_or_else(|| Vec::with_capacity(LINE_BYTES)),
            split: 0,
            started: Instant::now(),
            upstream: None,
            connect: Duration::ZERO,
            first_byte: None,
        });
        match wanted.format {
            Format::Json => begun.begin_json(facts, wanted.query),
            Format::Combined => begun.begin_combined(facts, wanted.query),
        }
        begun
    }

    /// An upstream to `backend` is there; opening it took `connect`, nothing for an idle one. The last one counts.
    pub fn has_upstream(&mut self, backend: impl FnOnce(&mut Text<'_>), connect: Duration) {
        self.upstream = Some(Instant::now());
        self.connect = connect;
        if self.format == Format::Json {
            self.text.truncate(self.split);
            self.text.extend_from_slice(b"\",\"backend\":\"");
            backend(&mut Text(&mut self.text));
        }
    }

    /// The head of the response is there.
    pub fn has_response(&mut self) {
        self.first_byte = Some(Instant::now());
    }

    fn begin_json(&mut self, facts: &Facts<'_>, query: bool) {
        let out = &mut self.text;
        out.extend_from_slice(b"{\"time\":\"");
        put_time(out, SystemTime::now());
        if let Some(id) = facts.id {
            out.extend_from_slice(b"\",\"id\":\"");
            put_text(out, id, 32);
        }
        out.extend_from_slice(b"\",\"client\":\"");
        put_ip(out, facts.client);
        if let Some(site) = facts.site {
            out.extend_from_slice(b"\",\"site\":\"");
            put_text(out, site.as_bytes(), TEXT_BYTES);
        }
        if !facts.host.is_empty() {
            out.extend_from_slice(b"\",\"host\":\"");
            put_text(out, facts.host, TEXT_BYTES);
        }
        if let Some(method) = facts.method {
            out.extend_from_slice(b"\",\"method\":\"");
            put_text(out, method.as_bytes(), 32);
            out.extend_from_slice(b"\",\"path\":\"");
            put_text(out, facts.path, TARGET_BYTES);
            if query && !facts.query.is_empty() {
                put_text(out, facts.query, TARGET_BYTES);
            }
        }
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(facts.protocol.as_bytes());
        if let Some(version) = facts.tls {
            out.extend_from_slice(b"\",\"tls\":\"");
            out.extend_from_slice(version.as_bytes());
        }
        if let Some(sni) = facts.sni {
            out.extend_from_slice(b"\",\"sni\":\"");
            put_text(out, sni.as_bytes(), TEXT_BYTES);
        }
        self.split = out.len();
    }

    fn begin_combined(&mut self, facts: &Facts<'_>, query: bool) {
        let out = &mut self.text;
        put_ip(out, facts.client);
        out.extend_from_slice(b" - - [");
        put_clf_time(out, SystemTime::now());
        out.extend_from_slice(b"] \"");
        match facts.method {
            Some(method) => {
                put_text(out, method.as_bytes(), 32);
                out.push(b' ');
                put_text(out, facts.path, TARGET_BYTES);
                if query {
                    put_text(out, facts.query, TARGET_BYTES);
                }
                out.push(b' ');
                out.extend_from_slice(facts.protocol.as_bytes());
            }
            None => out.push(b'-'),
        }
        self.split = out.len();
        out.extend_from_slice(b" \"");
        put_or_dash(out, facts.referer);
        out.extend_from_slice(b"\" \"");
        put_or_dash(out, facts.agent);
        out.extend_from_slice(b"\" \"");
        put_or_dash(out, facts.host);
        out.extend_from_slice(b"\" ");
    }

    /// Writes the whole line.
    pub(super) fn finish(&self, out: &mut Vec<u8>, finished: &Finished) {
        let ended = Instant::now();
        match self.format {
            Format::Json => self.finish_json(out, finished, ended),
            Format::Combined => self.finish_combined(out, finished, ended),
        }
    }

    fn finish_json(&self, out: &mut Vec<u8>, finished: &Finished, ended: Instant) {
        out.extend_from_slice(&self.text);
        out.extend_from_slice(b"\",\"status\":");
        put_number(out, u64::from(finished.status));
        if let Some(reason) = finished.reason {
            out.extend_from_slice(b",\"reason\":\"");
            out.extend_from_slice(reason.code().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"received\":");
        put_number(out, finished.from_client);
        out.extend_from_slice(b",\"sent\":");
        put_number(out, finished.to_client);
        out.extend_from_slice(b",\"time_total\":");
        put_seconds(out, ended.duration_since(self.started));
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b",\"time_wait\":");
            put_seconds(out, upstream.duration_since(self.started));
            out.extend_from_slice(b",\"time_connect\":");
            put_seconds(out, self.connect);
            if let Some(first) = self.first_byte {
                out.extend_from_slice(b",\"time_first_byte\":");
                put_seconds(out, first.duration_since(upstream));
            }
        }
        if finished.retries > 0 {
            out.extend_from_slice(b",\"retries\":");
            put_number(out, u64::from(finished.retries));
        }
        out.extend_from_slice(b"}\n");
    }

    fn finish_combined(&self, out: &mut Vec<u8>, finished: &Finished, ended: Instant) {
        let (front, behind) = self.text.split_at(self.split);
        out.extend_from_slice(front);
        out.extend_from_slice(b"\" ");
        put_number(out, u64::from(finished.status));
        out.push(b' ');
        put_number(out, finished.to_client);
        out.extend_from_slice(behind);
        match self.upstream {
            Some(upstream) => put_seconds(out, ended.duration_since(upstream)),
            None => out.push(b'-'),
        }
        out.push(b'\n');
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        // One that had to grow is not kept.
        if text.capacity() <= 2 * LINE_BYTES {
            text.clear();
            LENT.with_borrow_mut(|free| {
                if free.len() < KEPT {
                    free.push(text);
                }
            });
        }
    }
}

fn put_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    match text {
        b"" => out.push(b'-'),
        text => put_text(out, text, TEXT_BYTES),
    }
}

/// What stands in a text as it is. Quotes and backslashes do not, nor what is above 7 bits: not all of it is UTF-8.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

/// At most `cap` bytes of it, and a mark where it was longer.
fn put_text(out: &mut Vec<u8>, text: &[u8], cap: usize) {
    let shown = text.get(..cap).unwrap_or(text);
    if shown
        .iter()
        .fold(true, |plain, &byte| plain & PLAIN[usize::from(byte)])
    {
        out.extend_from_slice(shown);
    } else {
        put_escaped(out, shown);
    }
    if text.len() > cap {
        out.extend_from_slice(b"...");
    }
}

/// As JSON does, and so that no reader of either format can be led on. What is UTF-8 stays so.
#[cold]
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                ' '..='~' => out.push(c as u8),
                // Control characters, and those that turn the direction of what is shown.
                _ if c.is_control()
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    put_unit(out, c as u32);
                }
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|&byte| put_unit(out, u32::from(byte)));
    }
}

/// `\u001b`. All that is escaped so has four digits.
fn put_unit(out: &mut Vec<u8>, unit: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(unit >> shift) as usize & 15]);
    }
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                put_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `0.001234`: seconds with microseconds.
fn put_seconds(out: &mut Vec<u8>, time: Duration) {
    put_number(out, time.as_secs());
    let mut text = *b".000000";
    put_digits(&mut text[1..], time.subsec_micros());
    out.extend_from_slice(&text);
}

/// The last digits of a number, as many as there is room for.
fn put_digits(to: &mut [u8], mut number: u32) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A second as it is written, and which one it is: hundreds of lines have the same.
#[derive(Clone, Copy)]
struct Second {
    seconds: u64,
    rfc3339: [u8; 19],
    clf: [u8; 26],
}

thread_local! {
    static SECOND: RefCell<Second> = RefCell::new(Second::of(0));
}

impl Second {
    fn of(seconds: u64) -> Second {
        let time = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let year = u32::try_from(time.year()).unwrap_or_default();
        let clock = [time.hour(), time.minute(), time.second()].map(u32::from);
        let mut rfc3339 = *b"0000-00-00T00:00:00";
        put_digits(&mut rfc3339[..4], year);
        put_digits(&mut rfc3339[5..7], u32::from(u8::from(time.month())));
        put_digits(&mut rfc3339[8..10], u32::from(time.day()));
        let mut clf = *b"00/Jan/0000:00:00:00 +0000";
        put_digits(&mut clf[..2], u32::from(time.day()));
        clf[3..6].copy_from_slice(&time.month().to_string().as_bytes()[..3]);
        put_digits(&mut clf[7..11], year);
        for (at, number) in clock.into_iter().enumerate() {
            put_digits(&mut rfc3339[11 + 3 * at..][..2], number);
            put_digits(&mut clf[12 + 3 * at..][..2], number);
        }
        Second {
            seconds,
            rfc3339,
            clf,
        }
    }

    fn with<T>(time: SystemTime, use_it: impl FnOnce(&Second, u32) -> T) -> T {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        SECOND.with_borrow_mut(|second| {
            if second.seconds != since.as_secs() {
                *second = Second::of(since.as_secs());
            }
            use_it(second, since.subsec_micros())
        })
    }
}

/// RFC 3339 with microseconds.
fn put_time(out: &mut Vec<u8>, time: SystemTime) {
    Second::with(time, |second, micros| {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        text[..19].copy_from_slice(&second.rfc3339);
        put_digits(&mut text[20..26], micros);
        out.extend_from_slice(&text);
    });
}

/// `10/Oct/2000:13:55:36 +0000`.
fn put_clf_time(out: &mut Vec<u8>, time: SystemTime) {
    Second::with(time, |second, _| out.extend_from_slice(&second.clf));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::{Kind, Protocol, Reason};

    fn facts() -> Facts<'static> {
        Facts {
            id: Some(b"0123456789abcdef0123456789abcdef"),
            client: IpAddr::from([192, 0, 2, 7]),
            site: Some("shop"),
            host: b"shop.test",
            method: Some("GET"),
            path: b"/a",
            query: b"?b=c",
            protocol: "HTTP/1.1",
            tls: Some("1.3"),
            sni: Some("shop.test"),
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

    fn written(facts: &Facts<'_>, wanted: &Wanted) -> String {
        let mut begun = Begun::lend(&Destination::Stdout, facts, wanted);
        begun.has_upstream(|text| text.put(b"localhost:4999"), Duration::ZERO);
        begun.has_upstream(|text| text.put(b"localhost:5000"), Duration::from_millis(5));
        let mut out = Vec::new();
        begun.finish(&mut out, &finished());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_of_json_has_every_field() {
        let line = written(&facts(), &Wanted::default());
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
        assert!(value["time_total"].is_f64());
        let time = value["time"].as_str().expect("text");
        assert_eq!((time.len(), &time[10..11], &time[26..]), (27, "T", "Z"));
        assert!(
            !written(
                &facts(),
                &Wanted {
                    query: false,
                    ..Wanted::default()
                }
            )
            .contains("b=c")
        );
    }

    #[test]
    fn a_combined_line_is_what_log_readers_know() {
        let wanted = Wanted {
            format: Format::Combined,
            ..Wanted::default()
        };
        let line = written(&facts(), &wanted);
        let (front, behind) = line.split_once(" - - [").expect(&line);
        assert_eq!(front, "192.0.2.7");
        let behind = &behind["10/Oct/2000:13:55:36 +0000".len()..];
        let (behind, _) = behind.split_at(behind.len() - "00000\n".len());
        assert_eq!(
            behind,
            "] \"GET /a?b=c HTTP/1.1\" 502 18446744073709551615 \"-\" \"curl \\\"8\\\"\" \"shop.test\" 0.0"
        );
    }

    #[test]
    fn what_could_not_be_read_is_a_line_too() {
        let nothing = Facts {
            id: None,
            site: None,
            host: b"",
            method: None,
            tls: None,
            sni: None,
            ..facts()
        };
        let line = written(&nothing, &Wanted::default());
        assert!(
            serde_json::from_str::<serde_json::Value>(&line).is_ok(),
            "{line}"
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let mut out = Vec::new();
        let time = UNIX_EPOCH + Duration::new(784_111_777, 1_234_999);
        put_time(&mut out, time);
        out.push(b' ');
        put_clf_time(&mut out, time);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "1994-11-06T08:49:37.001234Z 06/Nov/1994:08:49:37 +0000"
        );
        let mut out = Vec::new();
        put_seconds(&mut out, Duration::new(3, 40_000));
        assert_eq!(out, b"3.000040");
    }

    proptest! {
        #[test]
        fn no_text_ends_its_line_or_its_quotes(
            path in prop::collection::vec(any::<u8>(), 0..1100),
            agent in prop::collection::vec(any::<u8>(), 0..300),
            combined: bool,
        ) {
            let facts = Facts { path: &path, agent: &agent, host: &agent, ..facts() };
            let format = if combined { Format::Combined } else { Format::Json };
            let line = written(&facts, &Wanted { format, ..Wanted::default() });
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
