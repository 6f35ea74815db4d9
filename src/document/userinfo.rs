//! The name and the password in `https://name:password@host`, which nobody asks to have there and somebody will write.

use super::Span;

/// In their place, in a text that may become longer or shorter.
const INSTEAD: &str = "***";

/// Where they stand in a text. Rather too much than too little: where a quote is forgotten, nobody knows what ends where.
pub(super) fn userinfo(text: &str) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for (at, _) in line.match_indices('@') {
            let Some(from) = start_in(&line[..at]) else {
                continue;
            };
            let span = start + from..start + at;
            match found.last_mut() {
                // A password with an @ in it.
                Some(last) if last.end > span.start => last.end = span.end,
                _ => found.push(span),
            }
        }
        start += line.len();
    }
    found
}

/// Where it begins that ends with `before`, if it is one: behind a scheme, or with a colon in it.
fn start_in(before: &str) -> Option<usize> {
    let behind_scheme = before.rfind("://").map(|at| at + "://".len());
    let start = match behind_scheme.filter(|&start| !has_ended(&before[start..])) {
        Some(start) => start,
        None => {
            let is_edge = |c: char| c.is_whitespace() || "\"'[{(,=#".contains(c);
            let start = before
                .rfind(is_edge)
                .map_or(0, |at| at + edge_length(before, at));
            let (name, password) = before[start..].split_once(':')?;
            // A socket may have an @ in its path.
            (name != "unix" && !password.is_empty()).then_some(start)?
        }
    };
    (start < before.len()).then_some(start)
}

/// Whether the string has ended that this is the beginning of: a quote, and behind it something else of the file.
fn has_ended(piece: &str) -> bool {
    let behind = piece
        .find(['"', '\''])
        .map(|at| piece[at + 1..].trim_start());
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with([',', ']', '}', '#']))
}

fn edge_length(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// `text` without them, for a message.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    for span in userinfo(text) {
        shown.push_str(&text[rest..span.start]);
        shown.push_str(INSTEAD);
        rest = span.end;
    }
    shown.push_str(&text[rest..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_found_wherever_they_stand() {
        for (text, shown) in [
            ("to = 'https://me:pw@a:1'", "to = 'https://***@a:1'"),
            ("to = \"me:pw@a:1\"", "to = \"***@a:1\""),
            (
                "to = ['https://a:1', 'b:c@d:1']",
                "to = ['https://a:1', '***@d:1']",
            ),
            ("x = 'https://me:p@w@a' # y", "x = 'https://***@a' # y"),
            ("x = \"https://me:p'w@a\"", "x = \"https://***@a\""),
            ("x = 'https://me:p w@a'", "x = 'https://***@a'"),
            (
                "https://me:pw@a\nhttps://ü@b",
                "https://***@a\nhttps://***@b",
            ),
            (
                "to = 'https://a:1' # ann@x.test",
                "to = 'https://a:1' # ann@x.test",
            ),
            ("note = 'ask ann@x.test'", "note = 'ask ann@x.test'"),
            ("to = 'unix:/x@y'", "to = 'unix:/x@y'"),
            ("'https://@a' @", "'https://@a' @"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}
