//! Secrets in the text of a site file, taken out before it is shown to anybody.

use toml::de::DeTable;

use super::problem::is_risky;
use super::{Span, Table, Value};

/// Header names whose values are what people log in with. What `{ file = "..." }` points at is not in the text anyway.
const LOGINS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];
/// In their place.
const MASK: &str = "\"(not shown)\"";

/// Whether the values of a header are what people log in with.
pub fn is_login(name: &str) -> bool {
    LOGINS.iter().any(|login| name.eq_ignore_ascii_case(login))
}

/// The text with the values of Authorization, Cookie and their like replaced. One that is no TOML ends in front
/// of the first such word.
pub fn mask(text: &str) -> String {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return match first_login(text) {
            Some(shown) => format!("{}(the rest is not shown)\n", &text[..shown]),
            None => text.to_owned(),
        };
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0;
    for span in secrets_in(table.get_ref()) {
        masked.push_str(text.get(rest..span.start).unwrap_or_default());
        masked.push_str(MASK);
        rest = span.end;
    }
    masked.push_str(text.get(rest..).unwrap_or_default());
    masked
}

/// Where the secrets of a text are that is TOML, in its order.
pub(super) fn secrets_in(table: &Table<'_>) -> Vec<Span> {
    let mut secrets = Vec::new();
    find(table, &mut secrets);
    secrets.retain(|span| !span.is_empty());
    secrets.sort_by_key(|span| span.start);
    secrets
}

/// The same of a text that is none. Where a value ends is not known there, so all of the rest is one.
pub(super) fn secrets_in_torn(text: &str) -> Vec<Span> {
    first_login(text)
        .map(|start| start..text.len())
        .into_iter()
        .collect()
}

/// One line of it as it may be drawn: stars for what stands between quotes behind such a word, question marks for what
/// would write to a terminal. Every column is where it was.
pub(super) fn veil(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let ends = LOGINS
        .iter()
        .filter_map(|login| Some(lower.find(login)? + login.len()));
    let end_of_word = ends.min().unwrap_or(line.len());
    let mut veiled = String::with_capacity(line.len());
    let mut within = None;
    for (at, c) in line.char_indices() {
        let mut instead = (is_risky(c) && c != '\t').then_some('?');
        match (within, c) {
            (None, '"' | '\'') => within = Some(c),
            (Some(quote), c) if c == quote => within = None,
            (Some(_), _) if at >= end_of_word => instead = Some('*'),
            _ => {}
        }
        match instead {
            // As many bytes: places are counted in them.
            Some(mark) => veiled.extend(std::iter::repeat_n(mark, c.len_utf8())),
            None => veiled.push(c),
        }
    }
    veiled
}

fn find(table: &Table<'_>, secrets: &mut Vec<Span>) {
    for (name, value) in table {
        if is_login(name.get_ref()) {
            leaves(value, secrets);
            continue;
        }
        match (value.get_ref().as_table(), value.get_ref().as_array()) {
            (Some(table), _) => find(table, secrets),
            (_, Some(array)) => {
                let tables = array.iter().filter_map(|entry| entry.get_ref().as_table());
                tables.for_each(|table| find(table, secrets));
            }
            _ => {}
        }
    }
}

/// Every text in a value; a path to a file is no secret.
fn leaves(value: &Value<'_>, secrets: &mut Vec<Span>) {
    if value.get_ref().as_str().is_some() {
        secrets.push(value.span());
    } else if let Some(array) = value.get_ref().as_array() {
        array.iter().for_each(|value| leaves(value, secrets));
    }
}

/// Where the first line begins that names such a header.
fn first_login(text: &str) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let words = line.to_ascii_lowercase();
        if LOGINS.iter().any(|login| words.contains(login)) {
            return Some(start);
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_log_in_with_is_not_shown() {
        let text = "to = 1 # ü\n[headers.request]\nset = { authorization = 'Bearer x', X-A = 'b', Cookie = [\"c=1\", 'd'], \
                    Set-Cookie = { file = 'f' } }\n";
        assert_eq!(
            mask(text),
            "to = 1 # ü\n[headers.request]\nset = { authorization = \"(not shown)\", X-A = 'b', Cookie = [\"(not shown)\", \
             \"(not shown)\"], Set-Cookie = { file = 'f' } }\n"
        );
        assert_eq!(
            mask("[headers.response.add]\nSet-Cookie = \"\"\"x\ny\"\"\"\n"),
            "[headers.response.add]\nSet-Cookie = \"(not shown)\"\n"
        );
        assert_eq!(
            mask("nonsense\nAuthorization = 'x'\nto"),
            "nonsense\n(the rest is not shown)\n"
        );
    }

    #[test]
    fn a_line_that_is_drawn_has_stars_for_them() {
        for (line, veiled) in [
            ("to = 'a'", "to = 'a'"),
            (
                "set = { X = 'b', authorization = 'Bearer x', 'X Y' = \"1\" }",
                "set = { X = 'b', authorization = '********', '***' = \"*\" }",
            ),
            ("Cookie = \"ü", "Cookie = \"**"),
            ("a = 'ü\u{9b}31m\u{202e}\t'", "a = 'ü??31m???\t'"),
            (
                "'a' = 1, \"Cookie\" = \"ü'\"",
                "'a' = 1, \"Cookie\" = \"***\"",
            ),
        ] {
            assert_eq!(veil(line), veiled);
            assert_eq!(veil(line).len(), line.len());
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_changed(text in "\\PC{0,80}") {
            prop_assume!(!LOGINS.iter().any(|login| text.to_ascii_lowercase().contains(login)));
            prop_assert_eq!(mask(&text), text);
        }
    }
}
