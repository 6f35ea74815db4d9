//! A head that comes in pieces: whether one more of them makes it worth another reading.
//!
//! Reading starts at the front, so a head that drips byte by byte would be read a thousand times. Here only what is
//! new is looked at, and worth reading is what may be whole, and what can no longer become a head: that is answered
//! when it comes and not at its deadline. Nothing is refused here; the parser has the last word.

use memchr::{memchr, memchr_iter};

use super::{HeadLimits, leading_lines};

/// How far an unfinished head has been looked at.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Bytes looked at.
    seen: usize,
    /// Where the line begins whose end has not come.
    line: usize,
    /// How many lines have ended.
    lines: usize,
}

impl Unfinished {
    /// Whether nothing of it has come yet.
    pub fn is_new(&self) -> bool {
        self.seen == 0
    }

    /// `bytes` are all that has come, and they have been read.
    pub fn was_read(&mut self, bytes: &[u8], limits: &HeadLimits) {
        let _they_were: bool = self.is_worth_reading(bytes, limits);
    }

    /// Whether `bytes`, which are those looked at before and more, are worth reading.
    pub fn is_worth_reading(&mut self, bytes: &[u8], limits: &HeadLimits) -> bool {
        let seen = std::mem::replace(&mut self.seen, bytes.len());
        let mut is_worth_it = seen == 0
            || bytes.len() >= limits.head_bytes
            || has_wrong_byte(&bytes[seen.saturating_sub(1)..]);
        self.line = self.line.max(leading_lines(bytes));
        loop {
            let line = &bytes[self.line..];
            let old = seen.saturating_sub(self.line).min(line.len());
            let end = memchr(b'\n', &line[old..]).map(|at| old + at);
            let line = &line[..end.unwrap_or(line.len())];
            is_worth_it |= if self.lines == 0 {
                // Once the version has begun there is little left of the line.
                end.is_some()
                    || line.ends_with(b"\r")
                    || line.len() > limits.line_bytes
                    || memchr_iter(b' ', line).nth(1).is_some()
                    || memchr(b'\t', &line[old..]).is_some()
                    || !is_beginning(line, old, b' ')
            } else if end.is_some() {
                self.lines > limits.fields || line == b"\r" || !is_field(line, old)
            } else {
                line != b"\r" && !is_beginning(line, old, b':')
            };
            let Some(end) = end else {
                return is_worth_it;
            };
            self.line += end + 1;
            self.lines += 1;
        }
    }
}

fn is_field(line: &[u8], old: usize) -> bool {
    memchr(b':', line).is_some() && is_beginning(line, old, b':')
}

/// Whether `line` begins with a token that goes on, or has ended at `end`. Its first `old` bytes have been looked at.
fn is_beginning(line: &[u8], old: usize, end: u8) -> bool {
    match memchr(end, line) {
        Some(0) => false,
        Some(at) => line[old.min(at)..at].iter().all(|&byte| is_token(byte)),
        None => line[old..].iter().all(|&byte| is_token(byte)),
    }
}

/// RFC 9110 5.6.2.
pub(in crate::http) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte that is nowhere in a head, or half a line end. The first of `bytes` has been looked at, by itself.
fn has_wrong_byte(bytes: &[u8]) -> bool {
    let is_half = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
    bytes.windows(2).any(is_half)
        || bytes
            .iter()
            .any(|&byte| (byte < b' ' && !b"\t\r\n".contains(&byte)) || byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::super::{HeadRefusal, Parsed, Room, request};
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        line_bytes: 200,
        field_bytes: 1000,
        fields: 10,
        head_bytes: 2000,
    };

    /// What becomes of a head in these pieces, after which of them, and how often it was read.
    fn read(
        pieces: &[&[u8]],
        every_piece: bool,
    ) -> (Option<Result<(), HeadRefusal>>, usize, usize) {
        let (mut unfinished, mut bytes, mut readings) = (Unfinished::default(), Vec::new(), 0);
        for (number, piece) in pieces.iter().enumerate() {
            bytes.extend_from_slice(piece);
            if !unfinished.is_worth_reading(&bytes, &LIMITS) && !every_piece {
                continue;
            }
            readings += 1;
            match request(&bytes, &LIMITS, &mut Room::new()) {
                Ok(Parsed::NeedMore) => {}
                Ok(Parsed::Complete(_)) => return (Some(Ok(())), number, readings),
                Err(refusal) => return (Some(Err(refusal)), number, readings),
            }
        }
        (None, pieces.len(), readings)
    }

    fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                return pieces;
            }
            let (piece, others) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = others;
        }
        pieces
    }

    #[test]
    fn a_good_head_that_drips_is_read_a_few_times() {
        let head = b"\r\nGET /a?b HTTP/1.1\r\nHost: a.test\r\nX-A:\r\nX-B: caf\xc3\xa9\t!\r\nCookie: a=b\r\n\r\n";
        let pieces: Vec<&[u8]> = head.chunks(1).collect();
        let (outcome, number, readings) = read(&pieces, false);
        assert_eq!((outcome, number), (Some(Ok(())), pieces.len() - 1));
        assert!(readings < 16, "{readings}");
    }

    #[test]
    fn what_cannot_become_a_head_is_known_when_it_comes() {
        for (good, bad) in [
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX-A", " : b"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n", " folded"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b", "\0"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b", "\n"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: b\r", "c"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX-A", "\r\n"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n", ":"),
            ("GET / HTTP/", "x"),
            ("GE", "(T"),
            ("GET ", "\t"),
        ] {
            let (outcome, number, _) = read(&[good.as_bytes(), bad.as_bytes(), b"more"], false);
            assert!(matches!(outcome, Some(Err(_))), "{good:?} {bad:?}");
            assert_eq!(number, 1, "{good:?} {bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_piece_is_left_unread_that_would_have_decided(
            parts in prop::collection::vec(prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "POST /a HTTP/1.0\r\n", "Host: a.test\r\n", "X-A: b\r\n", "X-A:\r\n", "\r\n", "\r", "\n", " ",
                ":", "\t", "a", "é", "\0", "\u{7f}", "/", "HTTP/1.1", "GET ", "Cookie: a=b; c=d", "(",
            ]), 0..30),
            starts_well: bool,
            sizes in prop::collection::vec(1usize..20, 1..5),
        ) {
            let start = if starts_well { "GET / HTTP/1.1\r\nHost: a.test\r\n" } else { "" };
            let bytes = [start, &parts.concat()].concat();
            let pieces = cut(bytes.as_bytes(), &sizes);
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (outcome, number, _) = read(&pieces, false);
            let (expected, at, _) = read(&pieces, true);
            prop_assert_eq!((outcome, number), (expected, at), "{:?} in {:?}", bytes, sizes);
        }
    }
}
