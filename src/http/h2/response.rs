//! A response head as the library sends it.

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use http::{HeaderMap, Response, StatusCode};

use super::load::Load;
use crate::http::field::{Fields, Kind};
use crate::http::forward::{HeadOut, Hop};

/// Fields that a usual response has.
const USUAL_FIELDS: usize = 12;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ResponseOut {
    status: u16,
    fields: HeaderMap,
    /// Something was in it that HTTP/2 has no place for.
    is_bad: bool,
}

impl ResponseOut {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// RFC 8441 5: the switch is agreed on with 200, and without the proof that the key was read.
    pub(super) fn agree(mut self) -> ResponseOut {
        self.status = 200;
        self.fields.remove(SEC_WEBSOCKET_ACCEPT);
        self
    }

    /// `None`: it cannot be said.
    pub(super) fn into_response(self) -> Option<Response<()>> {
        if self.is_bad {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        *response.headers_mut() = self.fields;
        Some(response)
    }

    fn put(&mut self, name: &[u8], value: Result<HeaderValue, http::header::InvalidHeaderValue>) {
        match (HeaderName::from_bytes(name), value) {
            (Ok(name), Ok(value)) => {
                // More names than a map holds are more than a head may have.
                self.is_bad |= self.fields.try_append(name, value).is_err();
            }
            _ => self.is_bad = true,
        }
    }
}

impl HeadOut for ResponseOut {
    fn status(&mut self, status: u16, _: &str) {
        self.status = status;
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.put(name, HeaderValue::from_bytes(value));
    }

    fn number(&mut self, name: &[u8], number: u64) {
        self.put(name, Ok(number.into()));
    }

    fn take_over(&mut self, raw: &[u8], fields: &Fields<'_>, stays: impl Fn(&[u8], Kind) -> bool) {
        self.fields.reserve(fields.headers.len().max(USUAL_FIELDS));
        // All values are parts of one copy.
        let end = fields.headers.last().map_or(0, |last| {
            let end = last.value.as_ptr() as usize + last.value.len();
            end.wrapping_sub(raw.as_ptr() as usize)
        });
        let copy = raw.get(..end).map(Bytes::copy_from_slice);
        for (header, kind) in fields.iter() {
            let name = header.name.as_bytes();
            if !stays(name, kind) {
                continue;
            }
            let start = (header.value.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
            let part = copy
                .as_ref()
                .filter(|copy| start <= copy.len() && header.value.len() <= copy.len() - start)
                .map(|copy| copy.slice(start..start + header.value.len()));
            match part {
                Some(part) => self.put(name, HeaderValue::from_maybe_shared(part)),
                None => self.put(name, HeaderValue::from_bytes(header.value)),
            }
        }
    }

    /// Frames tell all of it.
    fn hop(&mut self, _: Hop<'_>) {}

    fn end(&mut self) {}
}

/// One of our own responses, which are written as for HTTP/1: its head, and its body.
pub(super) fn read_answer(answer: &[u8]) -> Option<(Response<()>, &[u8])> {
    let mut room = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut room);
    let httparse::Status::Complete(end) = parsed.parse(answer).ok()? else {
        return None;
    };
    let mut out = ResponseOut {
        status: parsed.code?,
        ..ResponseOut::default()
    };
    for header in parsed.headers.iter() {
        let kind = Kind::of(header.name.as_bytes());
        if kind != Kind::Connection {
            out.field(header.name.as_bytes(), header.value);
        }
    }
    Some((out.into_response()?, &answer[end..]))
}

/// Field lines, as trailers.
pub(super) fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        fields.try_append(name, value).ok()?;
    }
    Some(fields)
}

/// Sends a response before the final one.
pub(super) fn put_interim(respond: &mut SendResponse<Load>, head: ResponseOut) -> Option<()> {
    respond.send_informational(head.into_response()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_responses_are_read_as_they_are_written() {
        let text = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 3\r\nOnedoor-Reason: x\r\nConnection: close\r\n\r\nabc";
        let (head, body) = read_answer(text).expect("a response");
        assert_eq!((head.status().as_u16(), body), (421, &b"abc"[..]));
        assert_eq!(head.headers().len(), 2);
        assert_eq!(head.headers()["onedoor-reason"], "x");
    }

    #[test]
    fn lines_become_trailers() {
        let fields = trailers(b"Grpc-Status: 0\r\nX: a: b \r\n").expect("fields");
        assert_eq!(fields["grpc-status"], "0");
        assert_eq!(fields["x"], "a: b");
        assert!(trailers(b"no colon\r\n").is_none());
    }
}
