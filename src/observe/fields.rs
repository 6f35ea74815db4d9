//! How an event looks as text: its message, then `name=value`, quoted where a reader of logfmt would lose its end.

use std::fmt::{self, Debug};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

use crate::document::problem::{is_risky, printable_lines};

/// For a layer that writes text.
pub fn as_text() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    format::debug_fn(put).delimited(" ")
}

fn put(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let text = format!("{value:?}");
    if field.name() == "message" {
        return out.write_str(&printable_lines(&text));
    }
    match out.has_ansi_escapes() {
        // Slanted, and pale.
        true => write!(out, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", field.name())?,
        false => write!(out, "{}=", field.name())?,
    }
    match is_one_word(&text) || is_quoted(&text) {
        true => out.write_str(&text),
        false => write!(out, "{text:?}"),
    }
}

fn is_one_word(text: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || is_risky(c) || matches!(c, '"' | '=');
    !text.is_empty() && !text.contains(ends)
}

/// As texts come, which have their quotes already.
fn is_quoted(text: &str) -> bool {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let mut is_escaped = false;
    inner.is_some_and(|inner| {
        inner.chars().all(|c| {
            let fits = is_escaped || c != '"' && !is_risky(c);
            is_escaped = c == '\\' && !is_escaped;
            fits
        }) && !is_escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_blank_is_quoted_once() {
        for (text, is_whole) in [
            ("shop", true),
            ("sites.d/a.toml", true),
            ("[::1]:80", true),
            ("\"a text\"", true),
            ("\"a \\\"b\\\" c\"", true),
            ("", false),
            ("copy of one", false),
            ("a=b", false),
            ("\"a\" and \"b\"", false),
            ("\"", false),
            ("\"a\\\"", false),
        ] {
            assert_eq!(is_one_word(text) || is_quoted(text), is_whole, "{text}");
        }
    }
}
