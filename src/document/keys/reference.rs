//! The reference of both files, in Markdown.

use std::fmt::Write;

use super::{KEYS, Place, Status};

/// The reference of both files, in Markdown, for the README.
pub fn reference() -> String {
    let mut text = String::new();
    let files = [
        ("A site file", &Place::SITE[..]),
        ("onedoor.toml", &Place::DAEMON[..]),
    ];
    for (title, places) in files {
        text.push_str(&format!("### {title}\n\n"));
        for &place in places {
            write_place(&mut text, place);
        }
    }
    text
}

fn write_place(text: &mut String, place: Place) {
    let code = if place.is_top() {
        place.title().to_owned()
    } else {
        format!("`{}`", place.title())
    };
    text.push_str(&format!(
        "| {code} | default | what it does |\n|---|---|---|\n"
    ));
    for key in KEYS
        .iter()
        .filter(|key| key.place == place && key.status == Status::Built)
    {
        let default = match key.default {
            "" => String::new(),
            code if code.starts_with('"')
                && code.matches('"').count() == 2
                && code.ends_with('"') =>
            {
                format!("`{code}`")
            }
            "true" | "false" => format!("`{}`", key.default),
            words => words.to_owned(),
        };
        let reason = if key.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", key.reason)
        };
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "| `{}` | {default} | {}{reason} |",
            key.name, key.about
        );
        debug_assert!(written.is_ok());
    }
    text.push('\n');
}
