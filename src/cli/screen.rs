//! How commands look: aligned columns, colour on a terminal only, times for people.

use std::io;

use crate::document::problem::printable;
use crate::settings::Color;

/// Whether colours are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    colored: bool,
}

/// What a word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Good,
    Warning,
    Bad,
    /// There to be found, not to be read first.
    Faint,
}

impl Paint {
    pub(super) fn start(self) -> &'static str {
        match self {
            Paint::Good => "\x1b[32m",
            Paint::Warning => "\x1b[33m",
            Paint::Bad => "\x1b[1;31m",
            Paint::Faint => "\x1b[2m",
        }
    }
}

const END: &str = "\x1b[0m";

impl Screen {
    #[cfg(test)]
    pub(super) const PLAIN: Screen = Screen { colored: false };

    /// Standard output as it is: colours on a terminal, unless NO_COLOR (no-color.org) is set.
    pub(super) fn of_output() -> Screen {
        Screen {
            colored: Color::Auto.is_shown(&io::stdout()),
        }
    }

    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        match self.colored {
            true => format!("{}{text}{END}", paint.start()),
            false => text.to_owned(),
        }
    }

    pub(super) fn is_colored(self) -> bool {
        self.colored
    }
}

/// Rows in columns, two spaces apart, without spaces at the ends of lines. Each cell with its colour; what stands in it
/// cannot end it, whoever wrote it.
pub(super) fn table<const N: usize>(
    rows: &[[(String, Option<Paint>); N]],
    screen: Screen,
) -> String {
    let cell = |(text, paint): &(String, Option<Paint>)| (printable(text), *paint);
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(cell)).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].0.chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let last = row
            .iter()
            .rposition(|(cell, _)| !cell.is_empty())
            .unwrap_or(0);
        for (at, ((cell, paint), width)) in row.iter().zip(widths).enumerate().take(last + 1) {
            let painted = match paint {
                Some(paint) => screen.paint(*paint, cell),
                None => cell.clone(),
            };
            text.push_str(&painted);
            if at < last {
                let room = width - cell.chars().count() + 2;
                text.push_str(&" ".repeat(room));
            }
        }
        text.push('\n');
    }
    text
}

/// `2026-08-02`, of a Unix time.
pub(super) fn date(seconds: u64) -> String {
    stamp(seconds)[..10].to_owned()
}

/// `2026-08-02 09:12`, in UTC.
pub(super) fn minute(seconds: u64) -> String {
    stamp(seconds)[..16].to_owned()
}

/// `2026-08-02 09:12:07`, in UTC.
pub(super) fn stamp(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let colored = Screen { colored: true };
        let cell = |text: &str, paint| (text.to_owned(), paint);
        let rows = [
            [cell("SITE", None), cell("STATE", None), cell("", None)],
            [
                cell("bücher", None),
                cell("live", Some(Paint::Good)),
                cell("x", None),
            ],
            [cell("b", None), cell("", None), cell("", None)],
        ];
        assert_eq!(
            table(&rows, Screen::PLAIN),
            "SITE    STATE\nbücher  live   x\nb\n"
        );
        assert_eq!(
            table(&rows, colored),
            "SITE    STATE\nbücher  \x1b[32mlive\x1b[0m   x\nb\n"
        );
    }

    #[test]
    fn a_cell_cannot_forge_a_row_or_speak_to_the_terminal() {
        let cell = |text: &str| (text.to_owned(), None);
        let rows = [[cell("a\nevil  live\u{1b}[2J"), cell("\u{202e}b")]];
        assert_eq!(
            table(&rows, Screen::PLAIN),
            "a\\nevil  live\\u{1b}[2J  \\u{202e}b\n"
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(stamp(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(minute(1_785_661_927), "2026-08-02 09:12");
        assert_eq!(date(0), "1970-01-01");
    }
}
