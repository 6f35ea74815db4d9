//! A head of HTTP/2, as the view that any head is seen through: the rules of HTTP/1 hold for it.
//!
//! What the library has refused already: names that are not in lower case, fields of the connection, pseudo-fields that
//! are missing, twice, unknown or in the wrong place, and lengths that differ from what comes (RFC 9113 8.1 to 8.3).

use http::header::{COOKIE, HeaderName, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use httparse::Header;

use crate::http::answer::Answer;
use crate::http::field::{Fields, Kind, same};
use crate::http::h1::head::{
    Framing, HeadLimits, RequestHead, Target, Version, is_of_connection, length, once,
    refuse_method,
};
use crate::site::Wire;

/// What of a head must be put together before it can be seen as one.
#[derive(Debug)]
pub(super) struct Whole {
    /// All crumbs, where there are several (RFC 9113 8.2.3).
    cookie: Vec<u8>,
    crumbs: usize,
}

/// What a request asks for beyond an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Response,
    /// Extended CONNECT with this protocol (RFC 8441).
    Tunnel(Protocol),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    WebSocket,
}

impl Whole {
    pub(super) fn of(parts: &Parts) -> Whole {
        let mut whole = Whole {
            cookie: Vec::new(),
            crumbs: 0,
        };
        let mut crumbs = parts.headers.get_all(COOKIE).iter();
        let Some(first) = crumbs.next() else {
            return whole;
        };
        whole.crumbs = 1;
        for crumb in crumbs {
            if whole.crumbs == 1 {
                whole.cookie.extend_from_slice(first.as_bytes());
            }
            whole.cookie.extend_from_slice(b"; ");
            whole.cookie.extend_from_slice(crumb.as_bytes());
            whole.crumbs += 1;
        }
        whole
    }
}

/// Room for the fields of one head.
#[derive(Debug, Default)]
pub(super) struct Room<'a> {
    headers: Vec<Header<'a>>,
    kinds: Vec<Kind>,
}

/// `is_over`: nothing follows the head. `most_crumbs`: pieces that a cookie may come in.
///
/// # Errors
/// The first reason to refuse it.
pub(super) fn view<'a>(
    parts: &'a Parts,
    whole: &'a Whole,
    asks: Asks,
    is_over: bool,
    limits: &HeadLimits,
    most_crumbs: usize,
    room: &'a mut Room<'a>,
) -> Result<RequestHead<'a>, Answer> {
    let method = match asks {
        Asks::Response => parts.method.as_str(),
        // What a backend of HTTP/1 is asked with (RFC 8441 5).
        Asks::Tunnel(_) => "GET",
    };
    refuse_method(method)?;
    let target = target(method, parts, limits)?;
    let scheme = match parts.uri.scheme_str() {
        Some("http") => Some(Wire::ClearText),
        Some("https") => Some(Wire::Tls),
        Some(_) => return Err(Answer::Malformed("the scheme is neither http nor https")),
        None => None,
    };
    let fields = parts.headers.len() - whole.crumbs + usize::from(whole.crumbs > 0);
    if fields > limits.fields || whole.crumbs > most_crumbs {
        return Err(Answer::HeadTooLarge);
    }
    let Room { headers, kinds } = room;
    headers.reserve_exact(fields);
    kinds.reserve_exact(fields);
    let mut seen = Seen::default();
    for (name, value) in &parts.headers {
        let mut value = value.as_bytes();
        if *name == COOKIE && whole.crumbs > 1 {
            if seen.cookie {
                continue;
            }
            seen.cookie = true;
            value = &whole.cookie;
        }
        // Over HTTP/2 it has no meaning (RFC 8441 5), and the backend is given one of ours.
        if *name == SEC_WEBSOCKET_KEY && asks != Asks::Response {
            continue;
        }
        if name.as_str().len() + value.len() > limits.field_bytes {
            return Err(Answer::HeadTooLarge);
        }
        // RFC 9113 8.2.1: written into a head of HTTP/1 it would be another value.
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_space(value.first()) || is_space(value.last()) {
            return Err(Answer::Malformed("a value begins or ends with white space"));
        }
        let kind = Kind::of(name.as_str().as_bytes());
        seen.take(kind, name, value)?;
        headers.push(Header {
            name: name.as_str(),
            value,
        });
        kinds.push(kind);
    }
    let authority = match (parts.uri.authority(), seen.host) {
        // RFC 9113 8.3.1.
        (Some(authority), Some(host)) if !same(authority.as_str().as_bytes(), host) => {
            return Err(Answer::Malformed(":authority and Host differ"));
        }
        (Some(authority), _) => Some(authority.as_str().as_bytes()),
        (None, host) => host,
    };
    let framing = match (seen.length, is_over, asks) {
        (.., Asks::Tunnel(_)) => Framing::None,
        (Some(length), ..) => Framing::Length(length),
        (None, true, _) => Framing::None,
        (None, false, _) => Framing::Chunked,
    };
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    Ok(RequestHead {
        method,
        target,
        scheme,
        authority,
        version: Version::Http2,
        framing,
        keep_alive: true,
        upgrade: match asks {
            Asks::Response => None,
            Asks::Tunnel(Protocol::WebSocket) => Some(b"websocket"),
        },
        expects_continue: seen.expects_continue && has_body,
        authenticates_connection: seen.authenticates_connection,
        fields: Fields { headers, kinds },
        bytes: 0,
    })
}

fn target<'a>(method: &str, parts: &'a Parts, limits: &HeadLimits) -> Result<Target<'a>, Answer> {
    let Some(target) = parts.uri.path_and_query() else {
        return Err(Answer::Malformed("the target is not a path"));
    };
    let (path, query) = (target.path(), target.as_str());
    let query = query.get(path.len()..).unwrap_or_default();
    if target.as_str().len() > limits.line_bytes {
        return Err(Answer::TargetTooLong);
    }
    // As for HTTP/1; and the request line is written from it.
    if target
        .as_str()
        .bytes()
        .any(|byte| !(0x21..0x7f).contains(&byte) || byte == b'#')
    {
        return Err(Answer::Malformed(
            "the target has a character that must be encoded",
        ));
    }
    let is_server = path == "*" && query.is_empty() && method == "OPTIONS";
    if !path.starts_with('/') && !is_server {
        return Err(Answer::Malformed("the target is not a path"));
    }
    Ok(Target { path, query })
}

#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    cookie: bool,
    expects_continue: bool,
    authenticates_connection: bool,
}

impl<'a> Seen<'a> {
    fn take(&mut self, kind: Kind, name: &HeaderName, value: &'a [u8]) -> Result<(), Answer> {
        match kind {
            Kind::Host => once(&mut self.host, value, "more than one Host")?,
            Kind::ContentLength => {
                let length = length(value)?;
                once(&mut self.length, length, "more than one Content-Length")?;
            }
            Kind::Expect => {
                if !same(value, b"100-continue") {
                    return Err(Answer::Expectation);
                }
                self.expects_continue = true;
            }
            Kind::Authorization => self.authenticates_connection |= is_of_connection(value),
            // RFC 9113 8.2.2. The library has refused them; should it ever not, nothing is smuggled.
            Kind::TransferEncoding | Kind::Connection | Kind::KeepAlive | Kind::Upgrade => {
                return Err(Answer::Malformed("a field of the connection"));
            }
            Kind::Hop if name.as_str() == "proxy-connection" => {
                return Err(Answer::Malformed("a field of the connection"));
            }
            _ => {}
        }
        Ok(())
    }
}
