//! Something wrong in a file, with the place: one line for a log, or a drawing for a person at a terminal.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::mask::veil;

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator knows it.
    pub origin: PathBuf,
    /// 1-based; 0 when it is about the file as a whole.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// The same place in bytes of the text.
    pub span: Range<usize>,
    pub severity: Severity,
    pub message: String,
    pub help: Option<String>,
    /// Another file this is about: when that one changes, this may be over.
    pub about: Option<Box<Path>>,
    pub excerpt: Excerpt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// Whether the text around the place may be shown. A link out of the sites directory must not turn an error into a
/// way to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excerpt {
    Shown,
    Hidden,
}

impl Problem {
    /// An error about a file as a whole.
    pub fn of_file(origin: &Path, message: impl Into<String>) -> Problem {
        Problem {
            origin: origin.to_owned(),
            line: 0,
            column: 0,
            span: 0..0,
            severity: Severity::Error,
            message: message.into(),
            help: None,
            about: None,
            excerpt: Excerpt::Hidden,
        }
    }

    /// A warning about a file as a whole.
    pub fn warning_of_file(origin: &Path, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Warning,
            ..Problem::of_file(origin, message)
        }
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// The same about the value at a line and column of `text`, up to the end of its string.
    pub fn at(mut self, text: &str, line: u32, column: u32) -> Problem {
        self.line = line;
        self.column = column;
        self.span = span_at(text, line, column);
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Several lines for a terminal: place, source line, caret, help. `source` is the text of the file.
    pub fn render(&self, source: &str, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let origin = printable(&self.origin.to_string_lossy());
        let message = printable(&self.message);
        let mut report = vec![];
        let mut drawn = String::new();
        if self.line > 0
            && self.excerpt == Excerpt::Shown
            && let Some((line, span)) = self.first_line(source)
        {
            let at = AnnotationKind::Primary.span(span);
            let snippet = Snippet::source(veil(line))
                .line_start(self.line as usize)
                .path(origin);
            report.push(level.primary_title(message).element(snippet.annotation(at)));
        } else {
            // Drawn alone: to what stands under a line without an excerpt a rule would lead from nowhere.
            let title = level.primary_title(format!("{}{message}", self.place()));
            drawn = renderer.render(&[Group::with_title(title)]);
            drawn.push('\n');
        }
        if let Some(help) = &self.help {
            report.push(Group::with_title(
                Level::HELP.secondary_title(printable(help)),
            ));
        }
        if !report.is_empty() {
            drawn.push_str(&renderer.render(&report));
            drawn.push('\n');
        }
        drawn
    }

    /// The line of the place, and the part of the place that is on it: drawing costs what is drawn.
    fn first_line<'s>(&self, source: &'s str) -> Option<(&'s str, Range<usize>)> {
        let start = source
            .get(..self.span.start)?
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let line = source
            .get(start..)?
            .split('\n')
            .next()?
            .trim_end_matches('\r');
        let (line, start) = match line.strip_prefix('\u{feff}') {
            Some(rest) => (rest, start + '\u{feff}'.len_utf8()),
            None => (line, start),
        };
        let on_line = |at: usize| at.saturating_sub(start).min(line.len());
        let span = on_line(self.span.start)..on_line(self.span.end);
        line.get(span.clone()).map(|_| (line, span))
    }

    /// `sites.d/blog.toml:3:1: `
    fn place(&self) -> String {
        let origin = printable(&self.origin.to_string_lossy());
        match self.line {
            0 => format!("{origin}: "),
            line => format!("{origin}:{line}:{}: ", self.column),
        }
    }
}

fn span_at(text: &str, line: u32, column: u32) -> Range<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n').map_or(0, |at| at + 1);
    }
    let rest = text[start..]
        .char_indices()
        .nth((column as usize).saturating_sub(1))
        .map_or(text.len(), |(at, _)| start + at);
    let quote = text[rest..]
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''));
    let end = quote
        .and_then(|quote| text[rest + 1..].find(quote))
        .map_or(rest, |at| rest + 1 + at + 1);
    rest..end
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place(), printable(&self.message))
    }
}

impl std::error::Error for Problem {}

/// Whether it would do something to a terminal, or turn the direction of what stands behind it.
pub fn is_risky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Without control characters: a file name or a value must not be able to write to a terminal or forge a log line.
pub fn printable(text: &str) -> String {
    printable_but(text, |_| false)
}

/// The same of a text that may have lines and tabs.
pub fn printable_lines(text: &str) -> String {
    printable_but(text, |c| matches!(c, '\n' | '\t'))
}

fn printable_but(text: &str, is_fine: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_risky(c) && !is_fine(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            line: 2,
            column: 1,
            span: 13..21,
            excerpt: Excerpt::Shown,
            ..Problem::of_file(
                Path::new("sites.d/blog.toml"),
                "unknown key \"upstream\", did you mean \"to\"?",
            )
        }
    }

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        assert_eq!(
            problem().to_string(),
            "sites.d/blog.toml:2:1: unknown key \"upstream\", did you mean \"to\"?"
        );
        assert_eq!(
            Problem::of_file(Path::new("a"), "gone").to_string(),
            "a: gone"
        );
        assert_eq!(
            Problem::of_file(Path::new("a\n\x1b[2Jb"), "gone").to_string(),
            "a\\n\\u{1b}[2Jb: gone"
        );
    }

    #[test]
    fn a_drawing_shows_the_line_and_a_caret_and_the_help() {
        let source = "host = 'b.c'\nupstream = 80\n";
        let drawn = problem().with_help("write to = 80").render(source, false);
        assert!(drawn.contains("--> sites.d/blog.toml:2:1"), "{drawn}");
        assert!(drawn.contains("2 | upstream = 80"), "{drawn}");
        assert!(drawn.contains("| ^^^^^^^^"), "{drawn}");
        assert!(drawn.contains("help: write to = 80"), "{drawn}");
    }

    #[test]
    fn nothing_in_a_line_is_obeyed_by_a_terminal_and_the_caret_stays_where_it_was() {
        let source = "\nx = 'a\u{9b}31m\u{202e}b\x1b[2J'\t# y\n";
        let at = source.find('#').expect("there");
        let found = Problem {
            span: at..at + 1,
            ..problem()
        };
        let drawn = found.render(source, false);
        assert!(!drawn.contains(|c| c != '\n' && is_risky(c)), "{drawn:?}");
        assert!(drawn.contains("'a??31m???b?[2J'"), "{drawn}");
        assert_eq!(
            printable_lines("a\n\tb\x1b\u{2028}"),
            "a\n\tb\\u{1b}\\u{2028}"
        );
    }

    #[test]
    fn a_hidden_source_line_is_not_drawn() {
        let hidden = Problem {
            excerpt: Excerpt::Hidden,
            ..problem()
        };
        let drawn = hidden.render("host = 'b.c'\nupstream = 80\n", false);
        assert!(!drawn.contains("= 80"), "{drawn}");
        assert!(drawn.contains("sites.d/blog.toml:2:1"), "{drawn}");
    }
}
