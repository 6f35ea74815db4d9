//! The bytes that a backend answers to a check -> whether it passes. Bytes in, value out.

use memchr::memmem;

use super::Failure;
use crate::http::h1::chunk::ChunkDecoder;
use crate::http::h1::head::{self, Framing, HeadLimits, HeadRefusal, Method, Room};
use crate::limits::{CHECK_BODY_BYTES, Limits};
use crate::parsed::Parsed;
use crate::site::health::Get;

/// 1xx answers before the final one, as for an exchange.
const MOST_INTERIM: u32 = 10;

/// One answer while it comes.
pub(super) struct Judge<'a> {
    get: &'a Get,
    limits: HeadLimits,
    /// Of the head, as far as it has come.
    head: Vec<u8>,
    interim: u32,
    body: Option<Body<'a>>,
}

struct Body<'a> {
    wanted: &'a [u8],
    framing: Framing,
    decoder: ChunkDecoder,
    /// What has come of it, without chunk framing; never more than [`CHECK_BODY_BYTES`].
    text: Vec<u8>,
}

impl<'a> Judge<'a> {
    pub(super) fn of(get: &'a Get) -> Judge<'a> {
        let limits = Limits::default();
        Judge {
            get,
            limits: HeadLimits {
                line_bytes: limits.line_bytes,
                field_bytes: limits.field_bytes,
                fields: limits.fields,
                head_bytes: limits.head_bytes,
            },
            head: Vec::new(),
            interim: 0,
            body: None,
        }
    }

    /// Takes what has come. Complete: it has passed, whatever follows.
    ///
    /// # Errors
    /// Why it does not pass.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<Parsed<()>, Failure> {
        if let Some(body) = &mut self.body {
            return body.take(bytes);
        }
        self.head.extend_from_slice(bytes);
        loop {
            let read = self.read_head()?;
            let (status, framing, bytes) = match read {
                Parsed::NeedMore => return Ok(Parsed::NeedMore),
                Parsed::Complete(read) => read,
            };
            let mut rest = self.head.split_off(bytes);
            if status == 101 {
                return Err(Failure::Malformed(
                    "a switch to a protocol nobody asked for",
                ));
            }
            if status < 200 {
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Err(Failure::Malformed("one interim response after the other"));
                }
                self.head = rest;
                continue;
            }
            if !self.get.expect.contain(status) {
                return Err(Failure::Status(status));
            }
            let Some(wanted) = &self.get.contains else {
                return Ok(Parsed::Complete(()));
            };
            let body = self.body.insert(Body {
                wanted: wanted.as_bytes(),
                framing,
                decoder: ChunkDecoder::new(Limits::default().framing_bytes),
                text: Vec::new(),
            });
            return body.take(&mut rest);
        }
    }

    /// Nothing more comes.
    pub(super) fn ended(self) -> Failure {
        match &self.body {
            Some(body) if body.framing == Framing::Close => Failure::Lacks,
            Some(_) => Failure::Closed("in the middle of its answer"),
            None if self.head.is_empty() => Failure::Closed("without an answer"),
            None => Failure::Closed("in the middle of its answer"),
        }
    }

    fn read_head(&self) -> Result<Parsed<(u16, Framing, usize)>, Failure> {
        let mut room = Room::new();
        match head::response(&self.head, Method::Idempotent, &self.limits, &mut room) {
            Ok(Parsed::NeedMore) => Ok(Parsed::NeedMore),
            Ok(Parsed::Complete(head)) => {
                Ok(Parsed::Complete((head.status, head.framing, head.bytes)))
            }
            // The first bytes of a TLS alert or record.
            Err(_) if matches!(self.head.first(), Some(0x15 | 0x16)) => Err(Failure::SpeaksTls),
            Err(HeadRefusal::Malformed(what)) => Err(Failure::Malformed(what)),
            Err(HeadRefusal::TooLarge) => Err(Failure::Malformed(
                "its head is larger than [limit] of onedoor.toml allows",
            )),
            Err(_) => Err(Failure::Malformed("a head that is not one")),
        }
    }
}

impl Body<'_> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<Parsed<()>, Failure> {
        let (payload, is_over) = match &mut self.framing {
            Framing::None => (&bytes[..0], true),
            Framing::Close => (&bytes[..], false),
            Framing::Length(left) => {
                let count = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= count as u64;
                (&bytes[..count], *left == 0)
            }
            Framing::Chunked => {
                let decoded = self.decoder.decode(bytes);
                let decoded = decoded.map_err(|bad| Failure::Malformed(bad.0))?;
                (&bytes[decoded.payload], decoded.last)
            }
        };
        // What is looked for may begin in what was looked through before.
        let from = (self.text.len() + 1).saturating_sub(self.wanted.len());
        let room = CHECK_BODY_BYTES - self.text.len();
        self.text
            .extend_from_slice(&payload[..payload.len().min(room)]);
        if memmem::find(&self.text[from.min(self.text.len())..], self.wanted).is_some() {
            return Ok(Parsed::Complete(()));
        }
        if is_over || self.text.len() == CHECK_BODY_BYTES {
            return Err(Failure::Lacks);
        }
        Ok(Parsed::NeedMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(contains: Option<&str>) -> Get {
        Get {
            path: "/".into(),
            send_host: None,
            expect: Default::default(),
            contains: contains.map(Box::from),
        }
    }

    /// What `answer`, cut into pieces of `size`, is judged to be.
    fn judged(contains: Option<&str>, answer: &[u8], size: usize) -> String {
        let get = get(contains);
        let mut judge = Judge::of(&get);
        for piece in answer.chunks(size) {
            match judge.take(&mut piece.to_vec()) {
                Ok(Parsed::NeedMore) => {}
                Ok(Parsed::Complete(())) => return "passes".into(),
                Err(failure) => return failure.to_string(),
            }
        }
        judge.ended().to_string()
    }

    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n ready\r\n0\r\n\r\n";

    #[test]
    fn an_answer_is_judged_alike_however_it_is_cut() {
        for (contains, answer, wanted) in [
            (None, "HTTP/1.1 200 OK\r\n\r\n", "passes"),
            (
                None,
                "HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n",
                "passes",
            ),
            (
                None,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                "answers 404",
            ),
            (
                None,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                "passes",
            ),
            (
                Some("ready"),
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall ready",
                "passes",
            ),
            (
                Some("ready"),
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nall ready",
                "answers without what its body must contain",
            ),
            (Some("all ready"), CHUNKED, "passes"),
            (
                Some("not ready"),
                CHUNKED,
                "answers without what its body must contain",
            ),
            (Some("ready"), "HTTP/1.1 200 OK\r\n\r\nall ready", "passes"),
            (
                Some("ready"),
                "HTTP/1.1 200 OK\r\n\r\nnothing",
                "answers without what its body must contain",
            ),
            (
                Some("ready"),
                "HTTP/1.1 204 No Content\r\n\r\n",
                "answers without what its body must contain",
            ),
            (
                Some("x"),
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall",
                "closes the connection in the middle of its answer",
            ),
            (None, "", "closes the connection without an answer"),
            (
                None,
                "HTTP/1.1 200",
                "closes the connection in the middle of its answer",
            ),
            (
                None,
                "SSH-2.0-OpenSSH_9.2\r\n",
                "answers something else than HTTP",
            ),
            (None, "\x15\x03\x01\x00\x02\x02\x32", "speaks TLS"),
            (
                None,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
                "answers something else than HTTP",
            ),
        ] {
            for size in [1, 2, 7, 1000] {
                let found = judged(contains, answer.as_bytes(), size);
                assert!(found.starts_with(wanted), "{answer:?} by {size}: {found}");
            }
        }
    }

    #[test]
    fn an_endless_answer_is_refused_at_its_limits() {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70 << 10));
        assert!(judged(None, head.as_bytes(), 999).contains("larger than [limit]"));
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(11);
        assert!(judged(None, interim.as_bytes(), 10).contains("interim"));
        let body = format!(
            "HTTP/1.1 200 OK\r\n\r\n{}needle",
            "x".repeat(CHECK_BODY_BYTES)
        );
        assert!(judged(Some("needle"), body.as_bytes(), 999).contains("without what"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
            judged(Some("x"), &answer, size);
            let mut whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            whole.extend_from_slice(&answer);
            judged(Some("x"), &whole, size);
        }
    }
}
