//! Where a record ends. What is in it is for the library to say.

use std::ops::RangeInclusive;

/// Type, version, length.
const HEADER_BYTES: usize = 5;
/// Clear text of one record (RFC 8446 5.1).
pub(super) const CLEAR_BYTES: usize = 16 << 10;
/// The same when it is sealed, its header aside: what TLS 1.2 allows (RFC 5246 6.2.3).
const SEALED_BYTES: usize = CLEAR_BYTES + 2048;
/// What there is of content types, with clear text or sealed.
const TYPES: RangeInclusive<u8> = 20..=23;

/// How many bytes of `sealed` the library should see next: its first record, if that is whole. What is none is refused
/// by its header, and so all of it is shown.
pub(super) fn whole(sealed: &[u8]) -> Option<usize> {
    let (&[kind, major, _, high, low], rest) = sealed.split_first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !TYPES.contains(&kind) || major != 3 || length > SEALED_BYTES {
        return Some(sealed.len());
    }
    (rest.len() >= length).then_some(HEADER_BYTES + length)
}
