//! Text in a line: looked at before it is copied, because it is mostly plain.

use crate::document::problem::is_risky;

/// At most `cap` bytes of it, escaped, and a mark where it was longer.
#[inline]
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8], cap: usize) {
    let shown = text.get(..cap).unwrap_or(text);
    if is_plain(shown) {
        out.extend_from_slice(shown);
    } else {
        put_escaped(out, shown);
    }
    if text.len() > cap {
        out.extend_from_slice(b"...");
    }
}

/// Whether it stands in a line as it is. Quotes and backslashes do not, nor what is above 7 bits: not all of it is
/// UTF-8. Without an early end, so that it is sixteen bytes at a time.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    let is_odd = |byte: u8| {
        u8::from(byte.wrapping_sub(b' ') > b'~' - b' ')
            | u8::from(byte == b'"')
            | u8::from(byte == b'\\')
    };
    text.iter().fold(0, |odd, &byte| odd | is_odd(byte)) == 0
}

/// As JSON does, and so that no reader of either format can be led on. What is UTF-8 stays so.
#[cold]
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                ' '..='~' => out.push(c as u8),
                _ if is_risky(c) => put_unit(out, c as u32),
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|&byte| put_unit(out, u32::from(byte)));
    }
}

/// `\u001b`. All that is escaped so has four digits.
fn put_unit(out: &mut Vec<u8>, unit: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(unit >> shift) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_is_found_wherever_it_stands() {
        for length in 0..40 {
            assert!(is_plain(&vec![b'~'; length]));
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut text = vec![b' '; length];
                    text[at] = byte;
                    let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte} at {at} of {length}");
                }
            }
        }
    }
}
