//! Chunked framing taken off, in place (RFC 9112 7.1). Bytes in, payload out; no I/O.
//!
//! Strict where parsers are known to differ: no white space behind a size, no bare LF, no CR within an
//! extension, quotes closed on the same line, sizes of 63 bits. Extensions are checked and dropped.

use std::ops::Range;

/// Digits of a size: 16 hold every 64-bit number, more are only zeros in front of one (CASES ch-zeros).
const MOST_SIZE_DIGITS: u8 = 16;
/// Framing a chunk may cost for free: a size, and a short extension. A stream of one-byte events is no offence.
const FREE_FRAMING: u64 = 16;
/// And so much for each byte of payload, up to this many.
const FREE_PER_BYTE: u64 = 2;
const PAYLOAD_BYTES: u64 = 16 << 10;

/// Where in the framing the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first digit of a size must come.
    SizeStart,
    Size,
    /// White space between a size and `;`: nothing but `;` may follow.
    BeforeExtension,
    Extension,
    Quoted,
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The last chunk has been read; the trailer section follows.
    Last,
}

/// Takes the framing off one body, however its bytes are cut.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    digits: u8,
    /// Of the size being read, then of the chunk's data.
    remaining: u64,
    /// Bytes of the current size line.
    line: u64,
    excess: u64,
    /// See `Limits::framing_bytes`.
    most_excess: u64,
}

/// What one call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where in the bytes given the payload now stands, in one piece.
    pub payload: Range<usize>,
    /// How many of the bytes given have been used. All of them, unless `last`.
    pub consumed: usize,
    /// Whether the last chunk has been read: what follows is the trailer section.
    pub last: bool,
}

/// A chunk that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk(pub &'static str);

impl ChunkDecoder {
    /// Framing beyond what chunks need may be `most_excess` bytes over the whole body.
    pub fn new(most_excess: u64) -> ChunkDecoder {
        ChunkDecoder {
            state: State::SizeStart,
            digits: 0,
            remaining: 0,
            line: 0,
            excess: 0,
            most_excess,
        }
    }

    /// Decodes all of `bytes`, or up to the end of the last chunk. The payload is moved together within `bytes`.
    ///
    /// # Errors
    /// [`BadChunk`]; the decoder is of no use afterwards.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadChunk> {
        let mut payload = 0..0;
        let mut at = 0;
        while at < bytes.len() && self.state != State::Last {
            if self.state == State::Data {
                let available = (bytes.len() - at) as u64;
                let count = self.remaining.min(available) as usize;
                if payload.is_empty() {
                    payload = at..at + count;
                } else {
                    bytes.copy_within(at..at + count, payload.end);
                    payload.end += count;
                }
                at += count;
                self.remaining -= count as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.framing_byte(bytes[at])?;
                at += 1;
            }
        }
        Ok(Decoded {
            payload,
            consumed: at,
            last: self.state == State::Last,
        })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.line += 1;
        if self.line > self.most_excess + FREE_FRAMING {
            return Err(BadChunk("more chunk framing than a body needs"));
        }
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.size_digit(byte)?;
                State::Size
            }
            (State::Size, b' ' | b'\t') => State::BeforeExtension,
            (State::BeforeExtension, b' ' | b'\t') => State::BeforeExtension,
            (State::Size | State::BeforeExtension, b';') => State::Extension,
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::SizeStart | State::Size | State::BeforeExtension, _) => {
                return Err(BadChunk("a chunk size is not a number"));
            }
            (State::Extension, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Extension,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Extension, b'\t' | b' '..=b'~') => State::Extension,
            (State::Quoted | State::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::Extension | State::Quoted | State::QuotedPair, _) => {
                return Err(BadChunk(
                    "a chunk extension has a character it must not have",
                ));
            }
            (State::SizeLf, b'\n') => return self.size_line_ended(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::SizeLf | State::DataCr | State::DataLf, _) => {
                return Err(BadChunk("a chunk does not end where it should"));
            }
            (State::Data | State::Last, _) => unreachable!("payload is not framing"),
        };
        Ok(())
    }

    fn size_digit(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.digits += 1;
        // 63 bits: one more digit would have to shift a bit out, or into the sign of somebody behind us.
        if self.digits > MOST_SIZE_DIGITS || self.remaining > (i64::MAX as u64) >> 4 {
            return Err(BadChunk("a chunk size is too large"));
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(())
    }

    fn size_line_ended(&mut self) -> Result<(), BadChunk> {
        let free = FREE_FRAMING + FREE_PER_BYTE * self.remaining.min(PAYLOAD_BYTES);
        self.excess = (self.excess + self.line).saturating_sub(free);
        if self.excess > self.most_excess {
            return Err(BadChunk("more chunk framing than a body needs"));
        }
        self.state = if self.remaining == 0 {
            State::Last
        } else {
            State::Data
        };
        self.digits = 0;
        self.line = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `bytes` cut at `cuts`; the payload, and whether the end came.
    fn decode(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, bool, usize), BadChunk> {
        let mut decoder = ChunkDecoder::new(16 << 10);
        let (mut payload, mut used, mut start) = (Vec::new(), 0, 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            let mut piece = bytes[start..end].to_vec();
            let decoded = decoder.decode(&mut piece)?;
            payload.extend_from_slice(&piece[decoded.payload]);
            used += decoded.consumed;
            if decoded.last {
                return Ok((payload, true, used));
            }
            start = end;
        }
        Ok((payload, false, used))
    }

    #[test]
    fn payload_comes_out_and_the_trailer_section_is_left() {
        let bytes = b"5\r\nhello\r\n1;a=\"x;\\\"y\"\r\n!\r\n0\r\nX: y\r\n\r\n";
        assert_eq!(
            decode(bytes, &[]),
            Ok((b"hello!".to_vec(), true, bytes.len() - 8))
        );
    }

    #[test]
    fn what_parsers_differ_about_is_refused() {
        for bad in [
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-5\r\n",
            "g\r\n",
            "\r\n",
            "5 \r\nhello\r\n",
            "5\0\r\n",
            "5;a\nb\r\n",
            "5;\nhello",
            "5;a\rb\r\n",
            "5;a=\"x\r\ny\"\r\n",
            "5\nhello\r\n",
            "5\r\r;a\r\n",
            "5\r\nhello\n0\r\n",
            "5\r\nhello0\r\n",
            "5\r\nhelloXX0\r\n",
            "5\r\nhello\rX",
            "10000000000000000\r\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "8000000000000000\r\n",
            "00000000000000005\r\n",
            "0 \r\n",
            "0\n",
            "5\r\nhello\r\n\r\n0\r\n",
        ] {
            assert!(decode(bad.as_bytes(), &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_size_is_63_bits() {
        assert!(decode(b"7FFFFFFFFFFFFFFF\r\n", &[]).is_ok());
    }

    #[test]
    fn framing_without_payload_is_bounded() {
        let mut flood = Vec::new();
        for _ in 0..2000 {
            flood.extend_from_slice(b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n");
        }
        assert!(decode(&flood, &[]).is_err());
        let endless = [&b"1;"[..], &b"a".repeat(20 << 10)].concat();
        assert!(
            decode(&endless, &[]).is_err(),
            "one extension without an end"
        );
        assert!(
            decode(&b"1\r\nx\r\n".repeat(20_000), &[]).is_ok(),
            "small chunks alone are no offence"
        );
    }

    /// The corpus of the fuzz target `chunk`, and what the target asks of it.
    #[test]
    fn the_fuzz_corpus_decodes_alike_however_it_is_cut() {
        for bytes in crate::corpus::inputs_of("chunk") {
            any_cut_decodes_alike(&bytes);
        }
    }

    fn any_cut_decodes_alike(bytes: &[u8]) {
        let whole = decode_pieces(bytes, bytes.len().max(1));
        for size in [1, 2, 3, 7, 16] {
            assert_eq!(
                decode_pieces(bytes, size),
                whole,
                "in pieces of {size}: {}",
                bytes.escape_ascii()
            );
        }
        if let Ok((payload, consumed, true)) = whole {
            let mut anew = Vec::new();
            if !payload.is_empty() {
                anew.extend_from_slice(format!("{:x}\r\n", payload.len()).as_bytes());
                anew.extend_from_slice(&payload);
                anew.extend_from_slice(b"\r\n");
            }
            anew.extend_from_slice(b"0\r\n");
            let length = anew.len();
            assert_eq!(decode_pieces(&anew, length), Ok((payload, length, true)));
            assert_eq!(
                decode_pieces(&bytes[..consumed], consumed).map(|decoded| decoded.1),
                Ok(consumed)
            );
        }
    }

    /// Payload, bytes used, and whether the last chunk came, when the bytes arrive in pieces of `size`.
    fn decode_pieces(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let mut decoder = ChunkDecoder::new(16 << 10);
        let (mut payload, mut used) = (Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece)?;
            payload.extend_from_slice(&piece[decoded.payload]);
            used += decoded.consumed;
            if decoded.last {
                return Ok((payload, used, true));
            }
            assert_eq!(decoded.consumed, piece.len());
        }
        Ok((payload, used, false))
    }

    proptest! {
        #[test]
        fn odd_bodies_decode_alike_however_they_are_cut(
            parts in prop::collection::vec(prop::sample::select(vec![
                "5\r\nhello\r\n", "1", "0", "\r\n", ";a", "=\"b\\\"\"", " ", "\r", "\n", "0\r\n", "f", "x", "\0",
            ]), 0..20),
        ) {
            any_cut_decodes_alike(parts.concat().as_bytes());
        }

        #[test]
        fn any_cut_gives_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cut in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let mut cuts = [cut.index(bytes.len()), other.index(bytes.len())];
            cuts.sort_unstable();
            let whole = decode(&bytes, &[]);
            prop_assert_eq!(&whole, &Ok((chunks.concat(), true, bytes.len() - 2)));
            prop_assert_eq!(decode(&bytes, &cuts), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _unused = decode(&bytes, &[]);
        }
    }
}
