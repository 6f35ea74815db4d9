//! Why the head of a response is none, in words for whoever runs the app.

use std::fmt;

use crate::document::problem::printable;
use crate::document::units::SizeText;
use crate::http::h1::head::{HeadLimits, HeadRefusal, is_token};
use crate::limits::{MOST_FIELDS, MOST_HEAD_BYTES};

/// Of the name in a line that is shown.
const SHOWN_BYTES: usize = 32;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It is no HTTP, in a whole sentence.
    NoHttp(&'static str),
    TooLarge,
    /// It is HTTP, and this in it is not for us.
    Sent(&'static str),
}

impl From<HeadRefusal> for BadHead {
    fn from(refusal: HeadRefusal) -> BadHead {
        match refusal {
            HeadRefusal::Malformed(what) => BadHead::NoHttp(what),
            HeadRefusal::TooLarge => BadHead::TooLarge,
            HeadRefusal::CodingNotSupported => BadHead::Sent("a transfer coding nobody asked for"),
            _ => BadHead::Sent("a head that is not one"),
        }
    }
}

impl BadHead {
    /// What the backend did, behind its address. `raw` is what has come of the head.
    pub(super) fn words(&self, raw: &[u8], limits: &HeadLimits) -> String {
        match self {
            BadHead::NoHttp(what) => match odd_line(raw) {
                Some(line) => format!("sent a head that is not HTTP: {what}, in {line}"),
                None => format!("sent a head that is not HTTP: {what}"),
            },
            BadHead::TooLarge if ends_within(raw, limits.head_bytes) => {
                format!("sent more than {MOST_FIELDS} header fields")
            }
            BadHead::TooLarge => format!(
                "sent a head of more than {}; [limit] head of onedoor.toml allows more, up to {}",
                SizeText(limits.head_bytes),
                SizeText(MOST_HEAD_BYTES)
            ),
            BadHead::Sent(what) => format!("sent {what}"),
        }
    }
}

fn ends_within(raw: &[u8], bytes: usize) -> bool {
    let end = memchr::memmem::find(raw, b"\r\n\r\n");
    end.is_some_and(|end| end + 4 <= bytes)
}

/// The first line of fields with a byte that it must not have.
fn odd_line(raw: &[u8]) -> Option<OddLine<'_>> {
    let lines = raw.split(|&byte| byte == b'\n');
    let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let at = 1 + lines.by_ref().take(1).count();
    lines
        .take_while(|line| !line.is_empty())
        .zip(at..)
        .find_map(|(line, at)| {
            let colon = memchr::memchr(b':', line);
            let (name, value) = line.split_at(colon.unwrap_or(line.len()));
            let is_odd = colon.is_none()
                || name.is_empty()
                || !name.iter().all(|&byte| is_token(byte))
                || value
                    .iter()
                    .any(|&byte| byte < b' ' && byte != b'\t' || byte == 0x7f);
            is_odd.then_some(OddLine { at, name })
        })
}

/// A line without its value, which may be a secret.
struct OddLine<'a> {
    at: usize,
    name: &'a [u8],
}

impl fmt::Display for OddLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.name.get(..SHOWN_BYTES).unwrap_or(self.name);
        let dots = if cut.len() < self.name.len() {
            "..."
        } else {
            ""
        };
        let name = printable(&String::from_utf8_lossy(cut));
        write!(f, "line {}: \"{name}{dots}\"", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_named_without_its_value() {
        for (head, line) in [
            (
                "HTTP/1.1 200 OK\r\nA: 1\r\nB C: x\r\n\r\n",
                Some("line 3: \"B C\""),
            ),
            (
                "HTTP/1.1 200 OK\r\nSet-Cookie: a\u{1}b\r\n\r\n",
                Some("line 2: \"Set-Cookie\""),
            ),
            ("HTTP/1.1 200 OK\r\nA: 1\r\n\r\nB C: x\r\n", None),
            (
                "HTTP/1.1 200 OK\r\nno colon \u{1b}[2J\r\n\r\n",
                Some("line 2: \"no colon \\u{1b}[2J\""),
            ),
            ("SSH-2.0-OpenSSH_9.6\r\n", None),
            ("", None),
        ] {
            let found = odd_line(head.as_bytes()).map(|line| line.to_string());
            assert_eq!(found.as_deref(), line, "{head:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\n{} x: y\r\n\r\n", "n".repeat(99));
        let found = odd_line(long.as_bytes()).map(|line| line.to_string());
        assert_eq!(
            found,
            Some(format!("line 2: \"{}...\"", "n".repeat(SHOWN_BYTES)))
        );
    }
}
