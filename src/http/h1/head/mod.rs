//! The head of a request or response, read so strictly that every question about it has one answer.
//!
//! httparse finds the lines; what it lets through and two parsers could read differently is refused here: a
//! bare LF, a second Host, a length that is not plain digits, a coding that is not exactly `chunked`. Bytes in,
//! value out; knows nothing of sites and sockets. RFC 9112 unless another is named.

use std::mem::MaybeUninit;

use memchr::{memchr, memchr_iter};

use crate::http::field::{Fields, Kind, same};
use crate::limits::MOST_FIELDS;
use crate::site::Wire;

mod request;
mod response;
mod unfinished;

pub use crate::parsed::Parsed;
#[cfg(feature = "serve")]
pub(in crate::http) use request::refuse_method;
pub use request::request;
pub use response::response;
pub use unfinished::Unfinished;
#[cfg(feature = "serve")]
pub(in crate::http) use unfinished::is_token;

/// Bounds for one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The request line, without its line end.
    pub line_bytes: usize,
    /// A name and its value.
    pub field_bytes: usize,
    pub fields: usize,
    /// All of it, with the empty line.
    pub head_bytes: usize,
}

/// Room for the fields of one head while it is looked at.
#[derive(Debug)]
pub struct Room<'a> {
    headers: [MaybeUninit<httparse::Header<'a>>; MOST_FIELDS],
    kinds: [Kind; MOST_FIELDS],
}

impl Room<'_> {
    pub fn new() -> Self {
        Room {
            headers: [const { MaybeUninit::uninit() }; MOST_FIELDS],
            kinds: [Kind::Other; MOST_FIELDS],
        }
    }
}

impl Default for Room<'_> {
    fn default() -> Self {
        Room::new()
    }
}

/// What a message came in. HTTP/2 has heads of its own, that are seen as one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

/// How a body's end is known (section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Until the connection ends; responses only.
    Close,
}

/// A request head with one answer to every question.
#[derive(Debug)]
pub struct RequestHead<'a> {
    pub method: &'a str,
    /// What the next hop is asked for: path and query, or `*`. Empty path already `/`.
    pub target: Target<'a>,
    /// Of a target in absolute form: which kind of connection it is for.
    pub scheme: Option<Wire>,
    /// The one name this request is for: the authority of an absolute target, else the Host field; not yet
    /// looked at. `None`: HTTP/1.0 without Host.
    pub authority: Option<&'a [u8]>,
    pub version: Version,
    pub framing: Framing,
    /// Whether the connection may carry another request after this one.
    pub keep_alive: bool,
    /// The one token this request asks to upgrade to, where asking for it is allowed (RFC 9110 7.8, CASES W-02 to W-05).
    pub upgrade: Option<&'a [u8]>,
    /// Whether the client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether its credentials are for the connection (NTLM, Negotiate): Kerberos needs no 401 before them.
    pub authenticates_connection: bool,
    pub fields: Fields<'a>,
    /// Length of the head in the bytes it was read from.
    pub bytes: usize,
}

/// The target of a request (section 3.2), CONNECT's excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Begins with `/`, or is `*`, or is empty: an absolute target without a path, which means `/`.
    pub path: &'a str,
    /// With the `?`, or empty.
    pub query: &'a str,
}

impl<'a> Target<'a> {
    pub fn path(&self) -> &'a str {
        if self.path.is_empty() { "/" } else { self.path }
    }

    /// The path of a link to it: what is asked of a server as a whole is asked at its root.
    pub fn path_of_link(&self) -> &'a str {
        match self.path() {
            "*" => "/",
            path => path,
        }
    }
}

/// A response head with one answer to every question.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 999.
    pub status: u16,
    pub reason: &'a str,
    pub framing: Framing,
    /// What Content-Length says, also where no body follows.
    pub length: Option<u64>,
    /// Whether the upstream may carry another exchange after this one, as far as the head tells.
    pub reusable: bool,
    /// What a 101 or 426 says in Upgrade.
    pub upgrade: Option<&'a [u8]>,
    /// `timeout` of a Keep-Alive field, in seconds.
    pub keep_alive_seconds: Option<u32>,
    /// Whether a 401 begins an authentication of the connection (NTLM, Negotiate) instead of the request.
    pub authenticates_connection: bool,
    pub fields: Fields<'a>,
    pub bytes: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRefusal {
    /// Not HTTP, or a character where it must not be.
    Malformed(&'static str),
    /// A well-formed version that is not spoken here: 505.
    Version,
    /// 414.
    TargetTooLong,
    /// 431.
    TooLarge,
    /// `chunked` together with another coding: 501.
    CodingNotSupported,
    /// CONNECT or TRACE: 405.
    MethodNotAllowed,
    /// HTTP/1.1 without Host: 400 (section 3.2).
    NoHost,
    /// A Host that is no hostname beside an absolute target: 400 (section 3.2).
    BadHost,
    /// An expectation other than 100-continue: 417 (RFC 9110 10.1.1).
    Expectation,
}

/// Reads a trailer section, field lines up to and with the empty line that ends it (section 7.1.2), and says how
/// long it is.
///
/// # Errors
/// As for the fields of a head.
pub fn trailers<'a>(
    bytes: &'a [u8],
    limits: &HeadLimits,
    room: &'a mut [httparse::Header<'a>],
) -> Result<Parsed<(&'a [httparse::Header<'a>], usize)>, HeadRefusal> {
    let most = limits.fields.min(room.len());
    match httparse::parse_headers(bytes, &mut room[..most]) {
        Ok(httparse::Status::Complete((end, headers))) => {
            line_ends(&bytes[..end])?;
            if end > limits.head_bytes {
                return Err(HeadRefusal::TooLarge);
            }
            if headers
                .iter()
                .any(|header| header.name.len() + header.value.len() > limits.field_bytes)
            {
                return Err(HeadRefusal::TooLarge);
            }
            Ok(Parsed::Complete((headers, end)))
        }
        Ok(httparse::Status::Partial) if bytes.len() >= limits.head_bytes => {
            Err(HeadRefusal::TooLarge)
        }
        Ok(httparse::Status::Partial) => Ok(Parsed::NeedMore),
        Err(error) => Err(refused(error, bytes)),
    }
}

/// What of a method the framing and the retry depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Head,
    /// GET, OPTIONS, PUT, DELETE (RFC 9110 9.2.2): may be sent a second time.
    Idempotent,
    Other,
}

impl Method {
    pub fn of(method: &str) -> Method {
        match method {
            "HEAD" => Method::Head,
            "GET" | "OPTIONS" | "PUT" | "DELETE" => Method::Idempotent,
            _ => Method::Other,
        }
    }

    pub fn is_idempotent(self) -> bool {
        self != Method::Other
    }
}

/// What Transfer-Encoding says, over all its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Exactly one `chunked`.
    Chunked,
    /// Other codings, then `chunked` at the end.
    ChunkedLast,
    Unknown,
}

impl Coding {
    fn of_request(self) -> Result<Framing, HeadRefusal> {
        match self {
            Coding::Chunked => Ok(Framing::Chunked),
            Coding::ChunkedLast => Err(HeadRefusal::CodingNotSupported),
            Coding::Unknown => Err(HeadRefusal::Malformed("Transfer-Encoding is not chunked")),
        }
    }

    fn parse(value: &[u8]) -> Coding {
        if same(value, b"chunked") {
            return Coding::Chunked;
        }
        // Only plain known names count as codings; whatever is decorated is unknown.
        let mut last = Coding::Unknown;
        for member in value.split(|&byte| byte == b',') {
            let member = member.trim_ascii();
            last = if same(member, b"chunked") && last != Coding::ChunkedLast {
                Coding::ChunkedLast
            } else if [&b"gzip"[..], b"x-gzip", b"deflate", b"compress"]
                .iter()
                .any(|name| same(member, name))
            {
                Coding::Chunked // a known coding so far; only counts when `chunked` follows
            } else {
                return Coding::Unknown;
            };
        }
        if last == Coding::ChunkedLast {
            last
        } else {
            Coding::Unknown
        }
    }
}

/// Whether these credentials, or this challenge, are of a scheme that authenticates connections and not requests.
pub(in crate::http) fn is_of_connection(value: &[u8]) -> bool {
    [&b"NTLM"[..], b"Negotiate"].iter().any(|scheme| {
        value
            .split_at_checked(scheme.len())
            .is_some_and(|(name, rest)| {
                same(name, scheme)
                    && rest
                        .first()
                        .is_none_or(|&byte| byte == b' ' || byte == b',')
            })
    })
}

/// Takes what may be said once.
pub(in crate::http) fn once<T>(
    seen: &mut Option<T>,
    value: T,
    twice: &'static str,
) -> Result<(), HeadRefusal> {
    match seen.replace(value) {
        None => Ok(()),
        Some(_) => Err(HeadRefusal::Malformed(twice)),
    }
}

/// Section 6.2: 1*DIGIT and nothing else. 63 bits, so that nobody behind us can read it as negative.
pub(in crate::http) fn length(value: &[u8]) -> Result<u64, HeadRefusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadRefusal::Malformed("Content-Length is not a number"));
    }
    value
        .iter()
        .try_fold(0i64, |sum, &digit| {
            sum.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
        })
        .map(i64::unsigned_abs)
        .ok_or(HeadRefusal::Malformed("Content-Length is too large"))
}

/// Every LF has its CR. httparse refuses a CR without LF, but takes an LF without CR for a line end (2.2: MAY).
fn line_ends(head: &[u8]) -> Result<(), HeadRefusal> {
    let mut last = None;
    for at in memchr_iter(b'\n', head) {
        if at == 0 || head[at - 1] != b'\r' {
            return Err(HeadRefusal::Malformed("a line ends without CR"));
        }
        last = Some(at);
    }
    match last {
        Some(_) => Ok(()),
        None => Err(HeadRefusal::Malformed("no line end")),
    }
}

/// How many bytes of empty lines stand before the head.
fn leading_lines(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|&&byte| byte == b'\r' || byte == b'\n')
        .count()
}

/// Whether an unfinished head may still become one within its limits.
fn need_more<T>(bytes: &[u8], limits: &HeadLimits) -> Result<Parsed<T>, HeadRefusal> {
    let start = leading_lines(bytes);
    let head = &bytes[start..];
    // The line ends are looked at now already: a line that ends wrongly never becomes right.
    if memchr(b'\n', bytes).is_some() {
        line_ends(bytes)?;
    }
    match memchr(b'\n', head) {
        None if head.len() > limits.line_bytes + 1 => Err(HeadRefusal::TargetTooLong),
        Some(end) if end > limits.line_bytes + 1 => Err(HeadRefusal::TargetTooLong),
        _ if bytes.len() >= limits.head_bytes => Err(HeadRefusal::TooLarge),
        _ => Ok(Parsed::NeedMore),
    }
}

fn refused(error: httparse::Error, bytes: &[u8]) -> HeadRefusal {
    match error {
        httparse::Error::TooManyHeaders => HeadRefusal::TooLarge,
        httparse::Error::Version if names_other_version(bytes) => HeadRefusal::Version,
        httparse::Error::HeaderName => {
            HeadRefusal::Malformed("a header name has a character it must not have")
        }
        httparse::Error::HeaderValue => {
            HeadRefusal::Malformed("a header value has a character it must not have")
        }
        httparse::Error::NewLine => HeadRefusal::Malformed("a line does not end where it should"),
        httparse::Error::Status => HeadRefusal::Malformed("the status line is not one"),
        httparse::Error::Token => {
            HeadRefusal::Malformed("the first line has a character it must not have")
        }
        httparse::Error::Version => {
            HeadRefusal::Malformed("the version is neither HTTP/1.0 nor HTTP/1.1")
        }
    }
}

/// Whether the first line ends in a well-formed version that is just not ours: `HTTP/` DIGIT `.` DIGIT.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = &bytes[leading_lines(bytes)..];
    let line = &line[..memchr(b'\r', line).unwrap_or(line.len())];
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(_), Some(_), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn offset(bytes: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - bytes.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        line_bytes: 8 << 10,
        field_bytes: 16 << 10,
        fields: 100,
        head_bytes: 32 << 10,
    };

    fn read(bytes: &[u8]) -> Result<Option<String>, HeadRefusal> {
        let mut room = Room::new();
        Ok(match request(bytes, &LIMITS, &mut room)? {
            Parsed::Complete(head) => Some(format!(
                "{} {}{} {:?} {:?}",
                head.method,
                head.target.path(),
                head.target.query,
                head.authority.map(String::from_utf8_lossy),
                head.framing
            )),
            Parsed::NeedMore => None,
        })
    }

    fn framing_of_response(bytes: &str, method: Method) -> Result<(Framing, bool), HeadRefusal> {
        let mut room = Room::new();
        match response(bytes.as_bytes(), method, &LIMITS, &mut room)? {
            Parsed::Complete(head) => Ok((head.framing, head.reusable)),
            Parsed::NeedMore => panic!("{bytes:?} is complete"),
        }
    }

    #[test]
    fn every_prefix_needs_more_and_then_the_answer_stays() {
        let whole = b"POST /a?b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(None), "{end}");
        }
        let answer = Ok(Some("POST /a?b Some(\"a.test\") Length(2)".to_owned()));
        assert_eq!(read(whole), answer);
        assert_eq!(read(&[&whole[..], b"xy more"].concat()), answer);
    }

    #[test]
    fn an_endless_head_is_refused_at_its_limit() {
        assert_eq!(read(&b"A".repeat(9 << 10)), Err(HeadRefusal::TargetTooLong));
        let many = [&b"GET / HTTP/1.1\r\n"[..], &b"A: b\r\n".repeat(200)].concat();
        assert_eq!(read(&many), Err(HeadRefusal::TooLarge));
        let long = [&b"GET / HTTP/1.1\r\nA: "[..], &b"b".repeat(40 << 10)].concat();
        assert_eq!(read(&long), Err(HeadRefusal::TooLarge));
    }

    #[test]
    fn the_authority_of_an_absolute_target_takes_the_place_of_host() {
        let head = read(b"GET HTTP://b.test?q HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(head, Ok(Some("GET /?q Some(\"b.test\") None".to_owned())));
    }

    #[test]
    fn other_versions_are_told_from_nonsense() {
        assert_eq!(
            read(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            Err(HeadRefusal::Version)
        );
        assert!(matches!(
            read(b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n"),
            Err(HeadRefusal::Malformed(_))
        ));
    }

    #[test]
    fn the_framing_of_a_response_follows_the_request_and_the_status() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(
            framing_of_response(length, Method::Idempotent),
            Ok((Framing::Length(5), true))
        );
        assert_eq!(
            framing_of_response(length, Method::Head),
            Ok((Framing::None, true))
        );
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            framing_of_response(both, Method::Other),
            Ok((Framing::Chunked, false))
        );
        let neither = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(
            framing_of_response(neither, Method::Other),
            Ok((Framing::Close, false))
        );
        assert_eq!(
            framing_of_response("HTTP/1.1 304 Not Modified\r\n\r\n", Method::Other),
            Ok((Framing::None, true))
        );
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n";
        assert!(framing_of_response(twice, Method::Other).is_err());
        assert!(framing_of_response("HTTP/1.1 200 OK\nA: b\n\n", Method::Other).is_err());
    }

    /// The corpus of the fuzz target `head`, and what the target asks of it.
    #[test]
    fn the_fuzz_corpus_is_read_alike_however_it_arrives() {
        for bytes in crate::corpus::inputs_of("head") {
            all_heads_are_steady(&bytes);
        }
    }

    /// What is asked of every parser of a head: the answer does not depend on what follows, every prefix needs more, and
    /// a refusal is never taken back.
    fn steady(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Option<(String, usize)>, HeadRefusal>) {
        let whole = read(bytes);
        if let Ok(Some((head, end))) = &whole {
            assert_eq!(read(&bytes[..*end]), Ok(Some((head.clone(), *end))));
            for cut in 0..*end {
                assert_eq!(
                    read(&bytes[..cut]),
                    Ok(None),
                    "the first {cut} bytes of {}",
                    bytes.escape_ascii()
                );
            }
            return;
        }
        let mut refused = false;
        for cut in 0..=bytes.len() {
            match read(&bytes[..cut]) {
                Ok(None) => assert!(!refused, "{cut} bytes of {}", bytes.escape_ascii()),
                Err(_) => refused = true,
                Ok(Some(_)) => panic!(
                    "complete only in the first {cut} bytes of {}",
                    bytes.escape_ascii()
                ),
            }
        }
    }

    /// Small ones, so that they are crossed.
    const SMALL: HeadLimits = HeadLimits {
        line_bytes: 80,
        field_bytes: 100,
        fields: 8,
        head_bytes: 400,
    };

    fn all_heads_are_steady(bytes: &[u8]) {
        steady(bytes, |bytes| {
            let mut room = Room::new();
            Ok(match request(bytes, &SMALL, &mut room)? {
                Parsed::Complete(head) => Some((format!("{head:?}"), head.bytes)),
                Parsed::NeedMore => None,
            })
        });
        for method in [Method::Head, Method::Other] {
            steady(bytes, |bytes| {
                let mut room = Room::new();
                Ok(match response(bytes, method, &SMALL, &mut room)? {
                    Parsed::Complete(head) => Some((format!("{head:?}"), head.bytes)),
                    Parsed::NeedMore => None,
                })
            });
        }
        steady(bytes, |bytes| {
            let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
            Ok(match trailers(bytes, &SMALL, &mut room)? {
                Parsed::Complete((fields, end)) => Some((format!("{fields:?}"), end)),
                Parsed::NeedMore => None,
            })
        });
    }

    proptest! {
        #[test]
        fn however_a_head_arrives_it_is_read_alike(
            parts in prop::collection::vec(prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.0\r\n", "HTTP/1.1 204 No\r\n", "Host: a.test\r\n", "A:  b\t\r\n",
                "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "\r\n", "\n", "\r", " ", ":", "x", "é", "\0",
                "Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
            ]), 0..14),
        ) {
            all_heads_are_steady(parts.concat().as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut room = Room::new();
            let _unused = request(&bytes, &LIMITS, &mut room);
            let mut room = Room::new();
            let _unused = response(&bytes, Method::Other, &LIMITS, &mut room);
        }
    }
}
