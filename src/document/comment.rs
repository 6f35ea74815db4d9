//! What stands behind `#`.

use super::Span;
use super::depth::string_length;

/// Each comment of a text, without the end of its line, and whether nothing else stands on that line.
pub(super) fn comments(text: &str) -> Vec<(Span, bool)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    let mut is_alone = true;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
                found.push((at..end, is_alone));
                at = end;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                is_alone = false;
                at += string_length(&bytes[at..], quote) - 1;
            }
            b'\n' => is_alone = true,
            byte => is_alone &= byte.is_ascii_whitespace(),
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_string_is_no_comment() {
        let text = "a = '#x' # one\n  # two\nb = \"\"\"\n# x\n\"\"\" # three";
        let comments = comments(text)
            .into_iter()
            .map(|(span, is_alone)| (&text[span], is_alone));
        assert_eq!(
            comments.collect::<Vec<_>>(),
            [("# one", false), ("# two", true), ("# three", false)]
        );
    }
}
