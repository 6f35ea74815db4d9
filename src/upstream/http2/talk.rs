//! From what an exchange says in HTTP/1.1 to what HTTP/2 wants, and back. No I/O.
//!
//! What is read here was written by us, so it is canonical; what is written here is read by the strict reader.

use std::io;

use ::h2::ext::Protocol;
use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, response};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

use crate::limits::MOST_FIELDS;

/// What follows the head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    None,
    Length(u64),
    Chunked,
    /// A WebSocket is asked for. Its handshake of HTTP/1.1 must be answered with this, if its client has begun one.
    WebSocket(Option<HeaderValue>),
}

fn not_ours() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

pub(super) fn read_head(text: &[u8], scheme: &str) -> io::Result<(Request<()>, Upload)> {
    // Ours beside those of the client.
    let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS + 64];
    let mut parsed = httparse::Request::new(&mut room);
    let complete = parsed.parse(text).map_err(io::Error::other)?;
    let (Some(method), Some(target), true) = (parsed.method, parsed.path, complete.is_complete())
    else {
        return Err(not_ours());
    };
    let mut host = None;
    let mut upload = Upload::None;
    let mut is_websocket = false;
    let mut accept = None;
    let mut fields = HeaderMap::with_capacity(parsed.headers.len());
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(io::Error::other)?;
        let mut value = HeaderValue::from_bytes(header.value).map_err(io::Error::other)?;
        // RFC 7541 7.1.3: many clients share the connection and its table of fields, and none shall find out by the size
        // of its requests what another has shown.
        value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
        if name == HOST {
            host = Some(header.value);
            continue;
        }
        // About a connection of HTTP/1.1 (RFC 9113 8.2.2). Another protocol than this there is no way to ask for, and to
        // ask for one is not to insist on it (RFC 9110 7.8).
        if name == UPGRADE {
            is_websocket = header.value.eq_ignore_ascii_case(b"websocket");
            continue;
        }
        if name == CONNECTION {
            continue;
        }
        if name == SEC_WEBSOCKET_KEY {
            accept = Some(accepted(header.value)?);
            continue;
        }
        if name == TRANSFER_ENCODING {
            upload = Upload::Chunked;
            continue;
        }
        if name == CONTENT_LENGTH {
            let length = value.to_str().ok().and_then(|text| text.parse().ok());
            upload = Upload::Length(length.ok_or_else(not_ours)?);
        }
        fields.append(name, value);
    }
    // Nobody who speaks HTTP/2 has trouble with them, and gRPC asks for it (CASES G-02).
    fields.insert(::http::header::TE, HeaderValue::from_static("trailers"));
    let host = host.ok_or_else(not_ours)?;
    let target = PathAndQuery::try_from(target).or_else(|_| encoded(target).try_into());
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(target.map_err(io::Error::other)?)
        .build()
        .map_err(io::Error::other)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(io::Error::other)?;
    if is_websocket && request.method() == Method::GET {
        // RFC 8441 5.
        *request.method_mut() = Method::CONNECT;
        let protocol = Protocol::from_static("websocket");
        request.extensions_mut().insert(protocol);
        upload = Upload::WebSocket(accept);
    }
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Ok((request, upload))
}

/// A target with what RFC 3986 has no place for, and the library therefore refuses, written as browsers write it. Over
/// HTTP/1.1 it passes as it is.
fn encoded(target: &str) -> String {
    let mut out = String::with_capacity(target.len() + 16);
    for char in target.chars() {
        match char {
            '"' => out.push_str("%22"),
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            '`' => out.push_str("%60"),
            other => out.push(other),
        }
    }
    out
}

/// What proves to a client of HTTP/1.1 that its key was read (RFC 6455 4.2.2): over HTTP/2 nobody says so, and none is
/// needed.
fn accepted(key: &[u8]) -> io::Result<HeaderValue> {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::from_maybe_shared(::bytes::Bytes::from(BASE64.encode(proof.as_ref())))
        .map_err(io::Error::other)
}

/// What follows the head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

pub(super) fn write_interim(text: &mut Vec<u8>, response: &Response<()>) {
    write_start(text, response.status());
    write_fields(text, response.headers());
    text.extend_from_slice(b"\r\n");
}

/// Writes the head. `is_over`: nothing follows; `to_head`: the request was HEAD.
pub(super) fn write_head(
    text: &mut Vec<u8>,
    head: &response::Parts,
    is_over: bool,
    to_head: bool,
) -> Body {
    write_start(text, head.status);
    write_fields(text, &head.headers);
    // The line is this exchange's alone.
    text.extend_from_slice(b"connection: close\r\n");
    let is_bodiless = to_head || matches!(head.status.as_u16(), 204 | 304);
    let body = if is_bodiless {
        Body::None
    } else if let Some(length) = head.headers.get(CONTENT_LENGTH) {
        let length = length.to_str().ok().and_then(|text| text.parse().ok());
        // One that is none is found by whoever reads it.
        Body::Length(length.unwrap_or(u64::MAX))
    } else {
        text.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Body::Chunked
    };
    text.extend_from_slice(b"\r\n");
    if is_over && body == Body::Chunked {
        write_end(text, None);
        return Body::None;
    }
    body
}

/// Writes that the switch is agreed on, which over HTTP/2 any success says (RFC 8441 5).
pub(super) fn write_switch(
    text: &mut Vec<u8>,
    head: &response::Parts,
    accept: Option<&HeaderValue>,
) {
    write_start(text, StatusCode::SWITCHING_PROTOCOLS);
    let mut fields = head.headers.clone();
    // RFC 9110 9.3.6: a client ignores it, and behind a switch there is no body.
    fields.remove(CONTENT_LENGTH);
    fields.remove(SEC_WEBSOCKET_ACCEPT);
    if let Some(accept) = accept {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
    }
    write_fields(text, &fields);
    text.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n");
}

fn write_start(text: &mut Vec<u8>, status: StatusCode) {
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" ");
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
}

fn write_fields(text: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        // The library has refused it from a backend; were it there, the framing would be somebody else's.
        if *name == TRANSFER_ENCODING || *name == CONNECTION {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
}

pub(super) fn write_chunk(text: &mut Vec<u8>, bytes: &[u8]) {
    // A chunk of nothing would be the last.
    if bytes.is_empty() {
        return;
    }
    text.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    text.extend_from_slice(bytes);
    text.extend_from_slice(b"\r\n");
}

pub(super) fn write_end(text: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    text.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(text, trailers);
    }
    text.extend_from_slice(b"\r\n");
}

/// Finds the payload in chunks.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    place: Place,
    line: Vec<u8>,
    trailers: HeaderMap,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Payload(usize),
    /// The line end behind a chunk.
    Behind,
    Trailers,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes, as far as they have come.
    Payload(usize),
    End(Option<HeaderMap>),
}

impl Pieces {
    /// The next piece in `bytes`, and how many bytes of framing stand before it (or, of the end, are it). `None`: all of
    /// it is framing.
    ///
    /// # Errors
    /// When it is not written as we write.
    pub(super) fn next(&mut self, bytes: &[u8]) -> io::Result<Option<(Piece, usize)>> {
        let mut at = 0;
        while at < bytes.len() {
            if let Place::Payload(left) = self.place {
                return Ok(Some((Piece::Payload(left.min(bytes.len() - at)), at)));
            }
            let rest = &bytes[at..];
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            self.line.extend_from_slice(&rest[..end]);
            at += end;
            if !self.line.ends_with(b"\r\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = &line[..line.len() - 2];
            match self.place {
                Place::Size => {
                    let digits = std::str::from_utf8(line).map_err(io::Error::other)?;
                    let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
                    self.place = if size == 0 {
                        Place::Trailers
                    } else {
                        Place::Payload(size)
                    };
                }
                Place::Behind => self.place = Place::Size,
                Place::Trailers if line.is_empty() => {
                    let trailers = std::mem::take(&mut self.trailers);
                    let trailers = (!trailers.is_empty()).then_some(trailers);
                    return Ok(Some((Piece::End(trailers), at)));
                }
                Place::Trailers => {
                    let colon = memchr::memchr(b':', line).ok_or_else(not_ours)?;
                    let name = HeaderName::from_bytes(&line[..colon]).map_err(io::Error::other)?;
                    let value = line[colon + 1..].trim_ascii();
                    let value = HeaderValue::from_bytes(value).map_err(io::Error::other)?;
                    self.trailers.append(name, value);
                }
                Place::Payload(_) => return Err(not_ours()),
            }
        }
        Ok(None)
    }

    /// So much of the payload has been sent.
    pub(super) fn took(&mut self, count: usize) {
        if let Place::Payload(left) = &mut self.place {
            *left -= count.min(*left);
            if *left == 0 {
                self.place = Place::Behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_loses_what_is_of_its_connection() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: a.test:81\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        let (request, upload) = read_head(text, "http").expect("a head");
        assert_eq!(upload, Upload::Chunked);
        assert_eq!(request.uri(), "http://a.test:81/a?b");
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-a", "te"]);
    }

    #[test]
    fn what_a_client_shows_of_itself_stands_in_no_table() {
        let text =
            b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: a=1\r\nAuthorization: x\r\nX-A: 1\r\n\r\n";
        let (request, _) = read_head(text, "http").expect("a head");
        let fields = request.headers();
        assert!(fields["cookie"].is_sensitive() && fields["authorization"].is_sensitive());
        assert!(!fields["x-a"].is_sensitive());
    }

    /// The key and its proof are those of RFC 6455 1.3.
    #[test]
    fn a_websocket_is_connected_to() {
        let text = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let (request, upload) = read_head(text, "http").expect("a head");
        assert_eq!(request.method(), Method::CONNECT);
        let protocol = request.extensions().get::<Protocol>();
        assert_eq!(protocol.map(Protocol::as_str), Some("websocket"));
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["sec-websocket-version", "te"]);
        let proof = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upload, Upload::WebSocket(Some(proof)));
    }

    #[test]
    fn an_answer_without_a_body_is_whole_at_once() {
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers
            .insert("grpc-status", HeaderValue::from_static("5"));
        let mut text = Vec::new();
        assert_eq!(write_head(&mut text, &head, true, false), Body::None);
        assert_eq!(
            text,
            b"HTTP/1.1 200 OK\r\ngrpc-status: 5\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        );
    }

    proptest! {
        /// Our reader lets all of these through.
        #[test]
        fn any_target_can_be_asked_for(rest in "[!-\"$-~]{0,40}") {
            let text = format!("GET /{rest} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let (request, _) = read_head(text.as_bytes(), "http").expect("a head");
            let said = request.uri().path_and_query().expect("a target").as_str();
            let mut meant = format!("/{rest}");
            if meant != said {
                for (raw, code) in [("\"", "%22"), ("<", "%3C"), (">", "%3E"), ("`", "%60")] {
                    meant = meant.replace(raw, code);
                }
            }
            prop_assert_eq!(said, meant);
        }

        #[test]
        fn payload_is_found_however_the_chunks_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            size in 1usize..20, with_trailer: bool,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                write_chunk(&mut bytes, chunk);
            }
            let mut fields = HeaderMap::new();
            fields.insert("x-sum", HeaderValue::from_static("1"));
            write_end(&mut bytes, with_trailer.then_some(&fields));
            let mut pieces = Pieces::default();
            let (mut payload, mut end) = (Vec::new(), None);
            for cut in bytes.chunks(size) {
                let mut at = 0;
                while let Some((piece, skip)) = pieces.next(&cut[at..]).expect("ours") {
                    at += skip;
                    match piece {
                        Piece::Payload(count) => {
                            payload.extend_from_slice(&cut[at..at + count]);
                            pieces.took(count);
                            at += count;
                        }
                        Piece::End(trailers) => {
                            end = Some(trailers.is_some());
                            break;
                        }
                    }
                }
            }
            prop_assert_eq!(payload, chunks.concat());
            prop_assert_eq!(end, Some(with_trailer));
        }
    }
}
