//! Request heads.

use memchr::memchr;

use super::{
    Coding, Framing, HeadLimits, HeadRefusal, Parsed, RequestHead, Room, Target, Version,
    is_of_connection, leading_lines, length, line_ends, need_more, offset, once, refused,
};
use crate::http::field::{Fields, Kind, list_members, same};
use crate::limits::MOST_FIELDS;
use crate::site::Wire;
use crate::site::hostname::{HostBuffer, HostnameError, authority};

/// Reads a request head from the start of `bytes`. Empty lines before it are skipped (section 2.2).
///
/// # Errors
/// The first reason to refuse, in no promised order.
pub fn request<'a>(
    bytes: &'a [u8],
    limits: &HeadLimits,
    room: &'a mut Room<'a>,
) -> Result<Parsed<RequestHead<'a>>, HeadRefusal> {
    let (method, target, minor, headers, end) = {
        let mut parsed = httparse::Request::new(&mut []);
        let most = limits.fields.min(MOST_FIELDS);
        match parsed.parse_with_uninit_headers(bytes, &mut room.headers[..most]) {
            Ok(httparse::Status::Complete(end)) => {
                match (parsed.method, parsed.path, parsed.version) {
                    (Some(method), Some(target), Some(minor)) => {
                        (method, target, minor, &*parsed.headers, end)
                    }
                    _ => return Err(HeadRefusal::Malformed("the request line is not complete")),
                }
            }
            Ok(httparse::Status::Partial) => return need_more(bytes, limits),
            Err(error) => return Err(refused(error, bytes)),
        }
    };
    let start = leading_lines(bytes);
    let line_end = offset(bytes, target) + target.len() + " HTTP/1.x".len();
    if line_end - start > limits.line_bytes {
        return Err(HeadRefusal::TargetTooLong);
    }
    // With the empty lines before it, as while it is unfinished: how the bytes are cut must not matter.
    if end > limits.head_bytes {
        return Err(HeadRefusal::TooLarge);
    }
    line_ends(&bytes[..end])?;
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    refuse_method(method)?;

    let mut seen = RequestFields::default();
    for (header, kind) in headers.iter().zip(&mut room.kinds) {
        if header.name.len() + header.value.len() > limits.field_bytes {
            return Err(HeadRefusal::TooLarge);
        }
        *kind = Kind::of(header.name.as_bytes());
        match *kind {
            Kind::Other => {}
            kind => seen.take(kind, header.value)?,
        }
    }
    let fields = Fields {
        headers,
        kinds: &room.kinds[..headers.len()],
    };

    let (absolute, target) = split_target(method, target)?;
    let (scheme, authority_in_target) = absolute.unzip();
    let authority = match (authority_in_target, seen.host) {
        // Section 3.2.2: the target's authority replaces Host, which must be there, and be one, all the same.
        (Some(authority), Some(host)) => {
            refuse_host(host)?;
            Some(authority)
        }
        (Some(authority), None) if version == Version::Http10 => Some(authority),
        (None, Some(host)) => Some(host),
        (None, None) if version == Version::Http10 => None,
        (_, None) => return Err(HeadRefusal::NoHost),
    };

    let framing = match (seen.coding, seen.length) {
        // Section 6.1: a sender that knows chunked speaks 1.1; one that does not frames something else.
        (Some(_), _) if version == Version::Http10 => {
            return Err(HeadRefusal::Malformed(
                "Transfer-Encoding in an HTTP/1.0 request",
            ));
        }
        // Section 6.3: length and chunked together are how requests are smuggled. Refuse, never repair.
        (Some(_), Some(_)) => {
            return Err(HeadRefusal::Malformed(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        (Some(coding), None) => coding.of_request()?,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::None,
    };
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    let keep_alive = version == Version::Http11 && !seen.close;
    // RFC 9110 7.8: from 1.0 it must be ignored; with a body the switch would come in its middle.
    let upgrade = match seen.upgrade {
        Some(token)
            if seen.connection_upgrade
                && version == Version::Http11
                && framing == Framing::None =>
        {
            allowed_upgrade(token)
        }
        _ => None,
    };
    Ok(Parsed::Complete(RequestHead {
        method,
        target,
        scheme,
        authority,
        version,
        framing,
        keep_alive,
        upgrade,
        expects_continue: seen.expects_continue && has_body && version == Version::Http11,
        authenticates_connection: seen.authenticates_connection,
        fields,
        bytes: end,
    }))
}

#[derive(Default)]
struct RequestFields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    connection_upgrade: bool,
    upgrade: Option<&'a [u8]>,
    expects_continue: bool,
    authenticates_connection: bool,
}

impl<'a> RequestFields<'a> {
    fn take(&mut self, kind: Kind, value: &'a [u8]) -> Result<(), HeadRefusal> {
        match kind {
            Kind::Host => once(&mut self.host, value, "more than one Host")?,
            Kind::ContentLength => {
                once(
                    &mut self.length,
                    length(value)?,
                    "more than one Content-Length",
                )?;
            }
            Kind::TransferEncoding => {
                let coding = Coding::parse(value);
                self.coding = Some(match self.coding {
                    None => coding,
                    // Two lines are one list; with `chunked` not alone in it there is no request we take.
                    Some(_) => Coding::Unknown,
                });
            }
            // What nearly everybody says, and what holds anyhow.
            Kind::Connection if same(value, b"keep-alive") => {}
            Kind::Connection => {
                for option in list_members(value) {
                    self.close |= same(option, b"close");
                    self.connection_upgrade |= same(option, b"upgrade");
                }
            }
            Kind::Upgrade => {
                // More than one line or member: which of them would be forwarded is a guess.
                self.upgrade = Some(if self.upgrade.is_some() { b"" } else { value });
            }
            Kind::Expect => {
                if !same(value, b"100-continue") {
                    return Err(HeadRefusal::Expectation);
                }
                self.expects_continue = true;
            }
            Kind::Authorization => self.authenticates_connection |= is_of_connection(value),
            _ => {}
        }
        Ok(())
    }
}

/// RFC 9110 9.1: `head` is not HEAD. Some frameworks think it is, and then the response has no body there that is
/// waited for here; so three methods are meant in all letters.
pub(in crate::http) fn refuse_method(method: &str) -> Result<(), HeadRefusal> {
    let is = |other: &str| method.eq_ignore_ascii_case(other);
    if is("CONNECT") || is("TRACE") {
        return Err(HeadRefusal::MethodNotAllowed);
    }
    if is("HEAD") && method != "HEAD" {
        return Err(HeadRefusal::Malformed("HEAD is written in capitals"));
    }
    Ok(())
}

/// Section 3.2: a Host that is none is refused, whether or not it decides.
fn refuse_host(host: &[u8]) -> Result<(), HeadRefusal> {
    match authority(host, &mut HostBuffer::new()) {
        Ok(_) => Ok(()),
        Err(HostnameError::Empty) => Err(HeadRefusal::NoHost),
        Err(_) => Err(HeadRefusal::BadHost),
    }
}
/// Scheme and authority of a target in absolute form.
type Origin<'a> = (Wire, &'a [u8]);

/// Splits the target into the authority it may carry, and path and query (section 3.2).
fn split_target<'a>(
    method: &str,
    target: &'a str,
) -> Result<(Option<Origin<'a>>, Target<'a>), HeadRefusal> {
    // RFC 3986 has no place for a fragment here, and backends disagree about where the path then ends; RFC 3986
    // has no 8-bit characters at all.
    if target.bytes().any(|byte| byte == b'#' || byte >= 0x80) {
        return Err(HeadRefusal::Malformed(
            "the target has a character that must be encoded",
        ));
    }
    if target.starts_with('/') {
        let (path, query) = split_query(target);
        return Ok((None, Target { path, query }));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok((
            None,
            Target {
                path: target,
                query: "",
            },
        ));
    }
    for (scheme, wire) in [("http://", Wire::ClearText), ("https://", Wire::Tls)] {
        let Some((start, rest)) = target.split_at_checked(scheme.len()) else {
            continue;
        };
        if !start.eq_ignore_ascii_case(scheme) {
            continue;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        // Section 3.2.4: so a client of a proxy asks for the server as a whole.
        let rest = if rest.is_empty() && method == "OPTIONS" {
            "*"
        } else {
            rest
        };
        let (path, query) = split_query(rest);
        return Ok((Some((wire, authority.as_bytes())), Target { path, query }));
    }
    Err(HeadRefusal::Malformed("the target is not a path"))
}

fn split_query(target: &str) -> (&str, &str) {
    match memchr(b'?', target.as_bytes()) {
        Some(at) => target.split_at(at),
        None => (target, ""),
    }
}

/// CASES W-02, W-03, W-05: any single token but those that would change what is spoken below HTTP.
fn allowed_upgrade(token: &[u8]) -> Option<&[u8]> {
    let name = token.split(|&byte| byte == b'/').next().unwrap_or_default();
    let barred =
        same(name, b"h2c") || same(name, b"h2") || same(name, b"HTTP") || same(name, b"TLS");
    let single = !token.is_empty()
        && token.iter().all(|&byte| {
            byte == b'/' || byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
        });
    (single && !barred).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_harmless_token_may_be_upgraded_to() {
        for (value, allowed) in [
            ("websocket", true),
            ("foo/1", true),
            ("h2c", false),
            ("TLS/1.0", false),
            ("HTTP/2.0", false),
            ("h2c, websocket", false),
            ("", false),
        ] {
            assert_eq!(
                allowed_upgrade(value.as_bytes()).is_some(),
                allowed,
                "{value}"
            );
        }
    }
}
