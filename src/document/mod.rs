//! A TOML document read by a table of keys: syntax by `toml`, shape by [`keys`], every problem with its place.
//!
//! [`Reader`] collects problems instead of stopping at the first. What a value means is decided by who asks for it
//! (`site::file`, `settings`); a value of the wrong shape is reported here and then looks absent.

mod comment;
mod depth;
pub mod keys;
mod mask;
pub mod problem;
mod shape;
#[cfg(test)]
mod tests;
pub mod units;
mod userinfo;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use depth::{DEPTH, too_deep};
use keys::{Kind, Place, Status};
use mask::without_quotes;
pub use mask::{is_login, mask};
pub use problem::{Excerpt, Problem, Severity};
use shape::{fits, kind_help, kind_of, tables_in};
pub use shape::{integer, one_or_more};
use userinfo::without_userinfo;

pub type Table<'t> = DeTable<'t>;
pub type Value<'t> = Spanned<DeValue<'t>>;
/// Bytes of the text.
pub type Span = Range<usize>;

/// Reported at most, per file: nobody reads more, and a megabyte of rubbish has a million errors.
const PROBLEMS: usize = 50;
/// Collected at most, of which the first are reported: guessing what 80,000 unknown keys meant takes seconds.
const COLLECTED: usize = 500;

/// Bytes between two marks of a text.
const MARK: usize = 256;

/// The text of one file and what is wrong with it.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t str,
    origin: PathBuf,
    excerpt: Excerpt,
    line_starts: Vec<usize>,
    /// How many characters stand in front of every [`MARK`] bytes: a place costs the same at the end of a long line.
    marks: Vec<u32>,
    /// Lines on which the syntax is broken: what the shape says about them is only an echo.
    broken: BTreeSet<u32>,
    /// What nobody is shown, in the order of the text.
    secrets: Vec<Span>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// Parses `text` and compares its shape with the keys of `place`. The table holds what could be read.
    pub fn open(
        text: &'t str,
        origin: &Path,
        excerpt: Excerpt,
        place: Place,
    ) -> (Reader<'t>, Table<'t>) {
        let line_starts =
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        let mut reader = Reader {
            text,
            origin: origin.to_owned(),
            excerpt,
            line_starts: line_starts.collect(),
            marks: marks(text),
            broken: BTreeSet::new(),
            // Until it is known to be TOML.
            secrets: mask::secrets_in_torn(text),
            problems: Vec::new(),
        };
        let table = reader.parse();
        reader.check(&table, place, None);
        (reader, table)
    }

    fn parse(&mut self) -> Table<'t> {
        if let Some(at) = memchr::memchr(0, self.text.as_bytes()) {
            self.break_line(
                at..at + 1,
                "a NUL byte, this is not plain UTF-8 text (UTF-16?)",
            );
            return Table::default();
        }
        if let Some(at) = too_deep(self.text) {
            self.break_line(
                at..at + 1,
                &format!("tables and lists are nested more than {DEPTH} deep"),
            );
            return Table::default();
        }
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            self.secrets = mask::secrets_in(table.get_ref());
        }
        for error in errors.iter().take(PROBLEMS) {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            if let Some(open) = self.open_list(error.message(), &span) {
                let (line, _) = self.place_of(span.start);
                self.break_line(span, &open);
                // To the parser all that follows is in the list.
                self.broken.extend(line..=self.line_starts.len() as u32);
                break;
            }
            let message = self.syntax_message(error.message(), &span);
            self.break_line(span, &message);
        }
        table.into_inner()
    }

    /// What to say where a list has no end, which the parser finds at its end or at the next key.
    fn open_list(&self, message: &str, span: &Span) -> Option<String> {
        let line = self
            .text
            .get(span.start..)
            .unwrap_or_default()
            .lines()
            .next();
        let line = line.unwrap_or_default();
        let is_next_key = || {
            let (key, _) = line.split_once('=')?;
            let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
            Some(self.place_of(span.start).1 == 1 && key.chars().all(is_bare))
        };
        let is_open = message.starts_with("unclosed array")
            || message.starts_with("missing comma between array")
                && (is_next_key() == Some(true) || line.starts_with('['));
        is_open.then(|| "the list in front of this is not closed, \"]\" is missing".to_owned())
    }

    /// What the parser says, in words that help where the slip is a common one.
    fn syntax_message(&self, message: &str, span: &Span) -> String {
        let rest = self.text.get(span.start..).unwrap_or_default();
        let word = rest
            .split(|c: char| c.is_whitespace() || ",]}#".contains(c))
            .next()
            .unwrap_or_default();
        let line_start = self
            .text
            .get(..span.start)
            .unwrap_or_default()
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let before = self.text.get(line_start..span.start).unwrap_or_default();
        let starts_like_text =
            word.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '*');
        if message.starts_with("key with no value") {
            let colon = if before.contains(':') {
                ", not \":\""
            } else {
                ""
            };
            return format!("between a key and its value stands \"=\"{colon}");
        }
        if message == "duplicate key" {
            let name = self.text.get(span.clone()).unwrap_or_default();
            return format!("the key {name:?} is here twice");
        }
        if before.contains('=') && starts_like_text && !message.contains("newline") {
            return format!("a text stands in quotes, write {word:?}");
        }
        let rest_of_line = rest.lines().next().unwrap_or_default().trim_start();
        let is_bare = rest_of_line.is_empty() || rest_of_line.starts_with('#');
        if is_bare && before.trim_end().ends_with('=') {
            return "behind \"=\" the value is missing".to_owned();
        }
        if before.contains('=') && rest_of_line.starts_with(',') {
            return "one value stands behind \"=\"; several stand in a list, [ , ]".to_owned();
        }
        if before.contains('=') && message.starts_with("string values must be quoted") {
            return "this is no value; a text stands in quotes".to_owned();
        }
        if message.starts_with("invalid basic string, expected `\"`")
            || message.starts_with("invalid literal string, expected `'`")
        {
            return "the text has no closing quote on this line".to_owned();
        }
        message.replace('\n', ", ")
    }

    /// A syntax error; one per line, the first.
    fn break_line(&mut self, span: Span, message: &str) {
        let (line, _) = self.place_of(span.start);
        if !self.broken.contains(&line) {
            self.error(span, message);
            self.broken.insert(line);
        }
    }

    /// Whether the text as such is broken, so that what is missing may only have been swallowed.
    pub fn is_torn(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Reports unknown keys, keys not built yet and values of the wrong kind.
    fn check(&mut self, table: &Table<'t>, place: Place, header: Option<(&str, u32)>) {
        for (name, value) in table {
            if self.problems.len() >= COLLECTED {
                return;
            }
            let Some(key) = keys::find(place, name.get_ref()) else {
                self.error(name.span(), keys::unknown(place, name.get_ref(), header));
                continue;
            };
            if key.status == Status::Planned {
                self.error(
                    name.span(),
                    format!(
                        "{:?} is planned and not built yet, so it cannot be in force",
                        key.name
                    ),
                );
                continue;
            }
            if !fits(key.kind, value.get_ref()) && !self.is_torn_list(value) {
                let found = kind_of(value.get_ref());
                let problem = format!("{:?} is {}, found {found}", key.name, key.kind.words());
                self.error_with_help(value.span(), problem, kind_help(key, value.get_ref()));
                continue;
            }
            let title = if matches!(key.kind, Kind::Tables(_)) {
                format!("[[{}]]", key.name)
            } else {
                format!("[{}]", key.name)
            };
            let (line, _) = self.place_of(name.span().start);
            for (table, place) in tables_in(key.kind, value.get_ref()) {
                self.check(table, place, Some((&title, line)));
            }
        }
    }

    /// Whether a list goes on to a line whose syntax is broken, so that nobody knows what is in it.
    fn is_torn_list(&self, value: &Value<'_>) -> bool {
        let (first, _) = self.place_of(value.span().start);
        let (last, _) = self.place_of(value.span().end);
        value.get_ref().is_array() && self.broken.range(first..=last + 1).next().is_some()
    }

    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(span, Severity::Error, message.into(), None, None);
    }

    pub fn error_with_help(
        &mut self,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.report(span, Severity::Error, message.into(), help, None);
    }

    /// Whether a path begins in somebody's home as a shell has it, which is an error: nothing here is expanded, and a folder
    /// that is called `~` is nobody's. `whole` shows what to write instead.
    pub fn refuse_home(&mut self, text: &str, span: &Span, whole: &str) -> bool {
        let is_of_home = text == "~" || text.starts_with("~/");
        if is_of_home {
            let message = format!("{text:?}: \"~\" is not expanded here, as a shell would");
            let help = format!("write the whole path, as in \"{whole}\"");
            self.error_with_help(span.clone(), message, Some(help));
        }
        is_of_home
    }

    /// An error that may be over when `file` changes.
    pub fn error_about(&mut self, span: Span, message: impl Into<String>, file: PathBuf) {
        self.report(
            span,
            Severity::Error,
            message.into(),
            None,
            Some(file.into()),
        );
    }

    pub fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.report(span, Severity::Warning, message.into(), None, None);
    }

    /// Something the file does not say. Not reported when a broken line may have said it.
    pub fn missing(&mut self, span: Span, message: impl Into<String>, help: &str) {
        if !self.is_torn() {
            self.report(
                span,
                Severity::Error,
                message.into(),
                Some(help.into()),
                None,
            );
        }
    }

    fn report(
        &mut self,
        span: Span,
        severity: Severity,
        message: String,
        help: Option<String>,
        about: Option<Box<Path>>,
    ) {
        let (line, column) = self.place_of(span.start);
        // An error among the first ones keeps the file from being accepted; a warning must not crowd it out.
        let full = self.problems.len() >= COLLECTED
            && (severity == Severity::Warning || self.has_errors());
        if full || self.broken.contains(&line) {
            return;
        }
        let (excerpt, secrets) = match self.excerpt {
            Excerpt::Hidden => (Excerpt::Hidden, self.text),
            Excerpt::Shown => self.excerpt_of(line, &span),
        };
        let shown = |words: String| without_userinfo(&without_quotes(&words, secrets));
        let (message, help) = (shown(message), help.map(shown));
        let origin = self.origin.clone();
        self.problems.push(Problem {
            origin,
            line,
            column,
            span,
            severity,
            message,
            help,
            about,
            excerpt,
        });
    }

    /// Whether the line of a problem may be drawn, and the piece of the text whose words its message may not quote.
    fn excerpt_of(&self, line: u32, span: &Span) -> (Excerpt, &'t str) {
        let line = (line as usize).saturating_sub(1);
        let start_of = |line: usize| self.line_starts.get(line).copied();
        let from = start_of(line).unwrap_or(0).min(span.start);
        let to = start_of(line + 1).unwrap_or(self.text.len()).max(span.end);
        let first = self.secrets.partition_point(|secret| secret.end <= from);
        let rest = self.secrets.get(first..).unwrap_or_default();
        let count = rest.partition_point(|secret| secret.start < to);
        match (rest.first(), rest[..count].last()) {
            (Some(first), Some(last)) => {
                let text = self.text.get(first.start..last.end);
                (Excerpt::Hidden, text.unwrap_or_default())
            }
            _ => (Excerpt::Shown, ""),
        }
    }

    /// 1-based line and column (in characters) of a byte of the text.
    pub fn place_of(&self, at: usize) -> (u32, u32) {
        let line = self
            .line_starts
            .partition_point(|&start| start <= at)
            .max(1);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        let behind_mark = before.trim_start_matches('\u{feff}');
        let start = start + (before.len() - behind_mark.len());
        let end = start + behind_mark.trim_end_matches('\r').len();
        let column = self.characters_before(end) - self.characters_before(start) + 1;
        (
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }

    fn characters_before(&self, at: usize) -> usize {
        let mark = at / MARK;
        let marked = self.marks.get(mark).copied().unwrap_or_default();
        let rest = self.text.as_bytes().get(mark * MARK..at);
        marked as usize + characters_in(rest.unwrap_or_default())
    }

    /// The line of a place, for messages that name a second one.
    pub fn line_of(&self, span: &Span) -> u32 {
        self.place_of(span.start).0
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }

    /// All problems in the order of the file.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        self.problems
            .dedup_by(|a, b| (a.line, a.column, &a.message) == (b.line, b.column, &b.message));
        if self.problems.len() > PROBLEMS {
            let rest = self.problems.len() - PROBLEMS;
            // Errors must stay errors even when the first fifty are warnings.
            self.problems.sort_by_key(|problem| !problem.is_error());
            self.problems.truncate(PROBLEMS);
            self.problems
                .sort_by_key(|problem| (problem.line, problem.column));
            self.problems.push(Problem::of_file(
                &self.origin,
                format!("{rest} or more other problems"),
            ));
        }
        self.problems
    }

    // Values. Absent and of the wrong shape (reported by `check`) are both `None`.

    /// A text and its place.
    pub fn text<'a>(&self, table: &'a Table<'_>, name: &str) -> Option<(&'a str, Span)> {
        let value = table.get(name)?;
        Some((value.get_ref().as_str()?, value.span()))
    }

    /// One text or a list of them, each with its place.
    pub fn texts<'a>(&self, table: &'a Table<'_>, name: &str) -> Option<Vec<(&'a str, Span)>> {
        let value = table.get(name)?;
        let texts = one_or_more(value).map(|value| Some((value.get_ref().as_str()?, value.span())));
        texts.collect()
    }

    pub fn flag(&self, table: &Table<'_>, name: &str) -> Option<bool> {
        table.get(name)?.get_ref().as_bool()
    }

    /// A whole number in `range`.
    pub fn count(
        &mut self,
        table: &Table<'_>,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = table.get(name)?;
        let number = integer(value.get_ref())?;
        match u64::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
        {
            Some(number) => Some(number),
            None => {
                let allowed = if *range.end() == u64::MAX {
                    format!("at least {}", range.start())
                } else {
                    format!("{} to {}", range.start(), range.end())
                };
                self.error(value.span(), format!("{name:?} is {allowed}"));
                None
            }
        }
    }

    /// A duration longer than nothing.
    pub fn duration(&mut self, table: &Table<'_>, name: &str) -> Option<Duration> {
        let (text, span) = self.text(table, name)?;
        let read = self.unit(text, &span, units::duration)?;
        if read.is_zero() {
            self.error(span, format!("{name:?} must be longer than 0"));
            return None;
        }
        Some(read)
    }

    /// A duration, or `Some(None)` for "off".
    pub fn duration_or_off(&mut self, table: &Table<'_>, name: &str) -> Option<Option<Duration>> {
        match self.text(table, name)? {
            ("off", _) => Some(None),
            _ => self.duration(table, name).map(Some),
        }
    }

    pub fn size(&mut self, table: &Table<'_>, name: &str) -> Option<(u64, Span)> {
        let (text, span) = self.text(table, name)?;
        Some((self.unit(text, &span, units::size)?, span))
    }

    /// A size, or `Some(None)` for "off".
    pub fn size_or_off(&mut self, table: &Table<'_>, name: &str) -> Option<Option<u64>> {
        match self.text(table, name)? {
            ("off", _) => Some(None),
            _ => self.size(table, name).map(|(bytes, _)| Some(bytes)),
        }
    }

    /// A rate, or `Some(None)` for "off".
    pub fn rate_or_off(&mut self, table: &Table<'_>, name: &str) -> Option<Option<NonZero<u64>>> {
        match self.text(table, name)? {
            ("off", _) => Some(None),
            (text, span) => self.unit(text, &span, units::rate).map(Some),
        }
    }

    /// Those of `values` that make `most` with the `before` that there are already, and an error at the one behind them: to
    /// work through them, at an edit or for a request, is everybody's time.
    pub fn at_most<T>(
        &mut self,
        mut values: Vec<T>,
        before: usize,
        (most, what): (usize, &str),
        place: impl Fn(&T) -> Span,
    ) -> Vec<T> {
        let room = most.saturating_sub(before);
        if let Some(surplus) = values.get(room) {
            let message = format!("a site has at most {most} {what}, and this is one more");
            self.error(place(surplus), message);
            values.truncate(room);
        }
        values
    }

    /// A value with a unit, or its error at `span`.
    pub fn unit<T>(
        &mut self,
        text: &str,
        span: &Span,
        read: fn(&str) -> Result<T, units::UnitError>,
    ) -> Option<T> {
        read(text)
            .map_err(|error| self.error(span.clone(), format!("{text:?}: {error}")))
            .ok()
    }
}

fn marks(text: &str) -> Vec<u32> {
    let pieces = text.as_bytes().chunks(MARK);
    let counted = pieces.scan(0, |before, piece| {
        *before += characters_in(piece) as u32;
        Some(*before)
    });
    std::iter::once(0).chain(counted).collect()
}

/// Each has one byte that does not go on with another.
fn characters_in(piece: &[u8]) -> usize {
    piece.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}
