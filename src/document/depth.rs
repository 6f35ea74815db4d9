//! How deep a text nests, before anybody parses it.

/// Tables and lists deeper than this are refused before parsing: ours need five, and the stack has an end.
pub(super) const DEPTH: usize = 32;

/// Where brackets and braces outside strings and comments are nested too deep.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH {
                    return Some(at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => at += memchr::memchr(b'\n', &bytes[at..]).unwrap_or(bytes.len()),
            quote @ (b'"' | b'\'') => at += string_length(&bytes[at..], quote) - 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The length of the string that starts with `quote`; of a broken one, up to the end of its line.
pub(super) fn string_length(text: &[u8], quote: u8) -> usize {
    let multi_line = text.starts_with(&[quote; 3]);
    let mut at = if multi_line { 3 } else { 1 };
    while at < text.len() {
        match text[at] {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !multi_line => return at,
            byte if byte == quote && !multi_line => return at + 1,
            byte if byte == quote && text[at..].starts_with(&[quote; 3]) => return at + 3,
            _ => {}
        }
        at += 1;
    }
    text.len()
}
