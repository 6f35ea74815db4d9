//! A TOML document read by a table of keys: syntax by `toml`, shape by [`keys`], every problem with its place.
//!
//! [`Reader`] collects problems instead of stopping at the first. What a value means is decided by who asks for it
//! (`site::file`, `settings`); a value of the wrong shape is reported here and then looks absent.

pub mod keys;
mod mask;
pub mod problem;
pub mod units;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use keys::{Kind, Place, Status};
pub use mask::{is_login, mask};
pub use problem::{Excerpt, Problem, Severity};

pub type Table<'t> = DeTable<'t>;
pub type Value<'t> = Spanned<DeValue<'t>>;
/// Bytes of the text.
pub type Span = Range<usize>;

/// Tables and lists deeper than this are refused before parsing: ours need five, and the stack has an end.
const DEPTH: usize = 32;
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
            let message = self.syntax_message(error.message(), &span);
            self.break_line(span, &message);
        }
        table.into_inner()
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
        if before.contains('=') && message.starts_with("string values must be quoted") {
            return "one value stands behind \"=\"; several stand in a list, [ , ]".to_owned();
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
            if !fits(key.kind, value.get_ref()) {
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
        let shown = |words: String| without_quotes(&words, secrets);
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

/// `message` without what it quotes of `secrets`: neither a password nor, behind a link out of the sites directory, a file
/// is read aloud by an error. Our own words stay.
fn without_quotes(message: &str, secrets: &str) -> String {
    if secrets.is_empty() {
        return message.to_owned();
    }
    let secrets = secrets.to_lowercase();
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find('"') {
        let (before, quoted) = rest.split_at(start + 1);
        shown.push_str(before);
        let end = closing_quote(quoted);
        let (piece, behind) = quoted.split_at(end);
        let ours = keys::KEYS.iter().any(|key| key.name == piece);
        // A piece that was escaped for the message is not in the text as it stands here.
        let is_secret = piece.contains('\\') || secrets.contains(&piece.to_lowercase());
        shown.push_str(if is_secret && !ours { "..." } else { piece });
        rest = behind;
        if let Some(behind) = rest.strip_prefix('"') {
            shown.push('"');
            rest = behind;
        }
    }
    shown.push_str(rest);
    shown
}

/// Where a quoted piece ends that `{:?}` or we have written.
fn closing_quote(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return at,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// The value itself, or what is in the list.
pub fn one_or_more<'a, 't>(value: &'a Value<'t>) -> impl Iterator<Item = &'a Value<'t>> {
    let list = value.get_ref().as_array().map(|list| list.iter());
    let alone = list.is_none().then_some(value);
    list.into_iter().flatten().chain(alone)
}

/// An integer of any radix.
pub fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    // What does not fit is out of every range we have.
    Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX))
}

fn fits(kind: Kind, value: &DeValue<'_>) -> bool {
    let all = |fits: fn(&DeValue<'_>) -> bool| match value.as_array() {
        Some(list) => list.iter().all(|value| fits(value.get_ref())),
        None => fits(value),
    };
    match kind {
        Kind::Text
        | Kind::Duration
        | Kind::DurationOrOff
        | Kind::Size
        | Kind::SizeOrOff
        | Kind::RateOrOff => value.is_str(),
        Kind::Texts => all(|value| value.is_str()),
        Kind::Flag => value.is_bool(),
        Kind::Count => value.is_integer(),
        Kind::Table(_) | Kind::Fields => value.is_table(),
        Kind::Tables(_) => value
            .as_array()
            .is_some_and(|list| list.iter().all(|value| value.get_ref().is_table())),
        Kind::TextOrTable(_) => value.is_str() || value.is_table(),
        Kind::FlagOrTable(_) => value.is_bool() || value.is_str() || value.is_table(),
        Kind::TextsOrTable(_) => value.is_table() || all(|value| value.is_str()),
        Kind::TextNumberOrTable(_) => value.is_str() || value.is_integer() || value.is_table(),
        Kind::Address => value.is_integer() || value.is_str(),
        Kind::Backends => all(|value| value.is_integer() || value.is_str() || value.is_table()),
        Kind::Listeners | Kind::Statuses => all(|value| value.is_integer() || value.is_str()),
        Kind::Anything => true,
    }
}

/// The tables inside a value, each with the place whose keys it has.
fn tables_in<'a, 't>(kind: Kind, value: &'a DeValue<'t>) -> Vec<(&'a Table<'t>, Place)> {
    let place = match kind {
        Kind::Table(place)
        | Kind::Tables(place)
        | Kind::TextOrTable(place)
        | Kind::FlagOrTable(place)
        | Kind::TextsOrTable(place)
        | Kind::TextNumberOrTable(place) => place,
        Kind::Backends => Place::Backend,
        _ => return Vec::new(),
    };
    match value {
        DeValue::Table(table) => vec![(table, place)],
        DeValue::Array(list) => list
            .iter()
            .filter_map(|value| Some((value.get_ref().as_table()?, place)))
            .collect(),
        _ => Vec::new(),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(list) if list.iter().any(|value| value.get_ref().is_array()) => {
            "a list of lists"
        }
        DeValue::Array(_) => "a list of something else",
        DeValue::Table(_) => "a table",
    }
}

/// What the operator probably meant by a value of the wrong kind.
fn kind_help(key: &keys::Key, value: &DeValue<'_>) -> Option<String> {
    let number = integer(value);
    match (key.kind, number) {
        (Kind::Duration | Kind::DurationOrOff, Some(number)) => {
            Some(format!("write {} = \"{number}s\"", key.name))
        }
        (Kind::Size | Kind::SizeOrOff, Some(number)) => {
            Some(format!("write {} = \"{number}b\"", key.name))
        }
        (Kind::RateOrOff, Some(number)) => Some(format!("write {} = \"{number}b/s\"", key.name)),
        // Whoever writes a flag there knows another program.
        (Kind::Text, _) if key.name == "verify" => {
            Some("write verify = \"off\", or leave it out".to_owned())
        }
        (Kind::Text | Kind::Texts, Some(number)) => {
            Some(format!("write {} = \"{number}\"", key.name))
        }
        (Kind::Tables(_), _) => Some(format!("write [[{}]]", key.name)),
        _ => None,
    }
}

/// Where brackets and braces outside strings and comments are nested too deep.
fn too_deep(text: &str) -> Option<usize> {
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
fn string_length(text: &[u8], quote: u8) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let (reader, _table) = Reader::open(text, Path::new("a.toml"), Excerpt::Shown, Place::Site);
        reader.finish().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn all_errors_of_a_file_come_at_once_and_in_order() {
        let text =
            "upstream = 1\nhost = 5\nto = nowhere\nbuffer = true\n[limit]\nbody = 5\nnote = 'x'\n";
        let found = problems(text);
        assert_eq!(
            found[0],
            "a.toml:1:1: unknown key \"upstream\", did you mean \"to\"?"
        );
        assert_eq!(
            found[1],
            "a.toml:2:8: \"host\" is a text or a list of texts, found a number"
        );
        assert_eq!(
            found[2],
            "a.toml:3:6: a text stands in quotes, write \"nowhere\""
        );
        assert_eq!(
            found[3],
            "a.toml:4:1: \"buffer\" is planned and not built yet, so it cannot be in force"
        );
        assert_eq!(
            found[4],
            "a.toml:6:8: \"body\" is a size such as \"10mb\", or \"off\", found a number"
        );
        assert_eq!(
            found[5],
            "a.toml:7:1: \"note\" belongs above [limit], line 5"
        );
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn common_slips_of_syntax_are_said_in_plain_words() {
        for (text, message) in [
            (
                "host = shop.test",
                "1:8: a text stands in quotes, write \"shop.test\"",
            ),
            ("to = [a, 'b']", "1:7: a text stands in quotes, write \"a\""),
            ("to 5", "between a key and its value stands \"=\""),
            (
                "host: a.test",
                "between a key and its value stands \"=\", not \":\"",
            ),
            (
                "note = 'a'\nnote = 'b'",
                "2:1: the key \"note\" is here twice",
            ),
        ] {
            let found = problems(text);
            assert!(found[0].ends_with(message), "{text}: {found:?}");
        }
    }

    #[test]
    fn inner_tables_are_checked_too() {
        let found = problems(
            "to = [{ at = 'x:1', weihgt = 2 }]\n[[path]]\nmatch = '/'\n[[path]]\nstirp = true\n[headers.request]\nsett = 1\n",
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("did you mean \"weight\""), "{found:?}");
        assert!(
            found[1].starts_with("a.toml:5:1: unknown key \"stirp\", did you mean \"strip\""),
            "{found:?}"
        );
        assert!(found[2].contains("did you mean \"set\""), "{found:?}");
    }

    #[test]
    fn byte_order_mark_crlf_and_tabs_are_fine_and_places_stay_right() {
        assert_eq!(
            problems("\u{feff}host = \"a.b\"\r\nto\t=\t5000\r\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            problems("\u{feff}hots = 'a'\r\n\tx = 1\r\n")[1],
            "a.toml:2:2: unknown key \"x\""
        );
        assert_eq!(
            problems("\u{feff}hots = 'a'")[0],
            "a.toml:1:1: unknown key \"hots\", did you mean \"host\"?"
        );
        assert!(problems("h\0o\0s\0t\0")[0].starts_with("a.toml:1:2: a NUL byte"));
    }

    #[test]
    fn the_column_is_counted_in_characters_however_long_the_line() {
        let text = format!(
            "note = '{}'\nnote = '{}', x",
            "ü".repeat(1000),
            "€a".repeat(999)
        );
        let (reader, _) = Reader::open(&text, Path::new("a"), Excerpt::Shown, Place::Site);
        for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            let (found_line, found_column) = reader.place_of(at);
            assert_eq!((found_line as usize, found_column as usize), (line, column));
        }
    }

    #[test]
    fn depth_cannot_overflow_the_stack() {
        for opening in ["[", "{a=", "[[", "a.", "{", "[{x=["] {
            let found = problems(&format!("a = {}", opening.repeat(10_000)));
            assert!(!found.is_empty(), "{opening}");
        }
        assert!(!problems(&format!("{}a = 1", "a.".repeat(10_000))).is_empty());
        assert!(!problems(&format!("[{}a]", "a.".repeat(10_000))).is_empty());
        assert!(too_deep("note = \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\" # [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[").is_none());
        assert!(too_deep(&"a = ''']'''\n[[path]]\n".repeat(100)).is_none());
    }

    #[test]
    fn much_rubbish_is_some_problems() {
        for rubbish in ["=\n", "a=\n", "[", "\"", "é", "a=1\n"] {
            let found = problems(&rubbish.repeat((1 << 17) / rubbish.len()));
            assert!(
                !found.is_empty() && found.len() <= PROBLEMS + 1,
                "{rubbish:?}"
            );
        }
    }

    #[test]
    fn no_error_shows_what_people_log_in_with() {
        let torn = "host = 'a.test'\n[headers.request.set]\nauthorization = S3CRET\n";
        for (text, message) in [
            (torn, "3:17: a text stands in quotes, write \"...\""),
            (
                "[headers.request]\nset = { Cookie = 'S3CRET' X-A = 'b' }\n",
                "2:",
            ),
            (
                "[headers.request]\nset = { Authorization = \"Bearer S3CRET\n",
                "2:",
            ),
            (
                "[headers.request.set]\nCookie = S3\"CRET\n",
                "2:10: a text stands in quotes, write \"...\"",
            ),
            ("[headers.request.set]\nCookie = \"\"\"\nS3CRET\n", ""),
            (
                "[headers.request.set]\nCookie = 'a\0S3CRET'\n",
                "2:12: a NUL byte",
            ),
            (
                "[headers.request]\nsett = { Authorization = 'Bearer S3CRET', X = 'y' }\n",
                "2:1: unknown key \"sett\", did you mean \"set\"?",
            ),
            (
                "[headers]\nrequest = { set = { Set-Cookie = [\n'S3CRET',\n'S3CRET'] }, sett = 1 }\n",
                "4:14: unknown key \"sett\", did you mean \"set\"?",
            ),
        ] {
            let (reader, _) = Reader::open(text, Path::new("a"), Excerpt::Shown, Place::Site);
            let found = reader.finish();
            assert!(!found.is_empty(), "{text}");
            for problem in &found {
                let drawn = problem.render(text, false);
                assert!(!drawn.contains("S3") && !drawn.contains("CRET"), "{drawn}");
                assert!(drawn.contains(&format!("a:{}:", problem.line)), "{drawn}");
            }
            let lines: Vec<String> = found.iter().map(Problem::to_string).collect();
            let starts = |line: &String| line.starts_with(&format!("a:{message}"));
            assert!(lines.iter().any(starts), "{message}: {lines:?}");
        }
    }

    #[test]
    fn a_line_without_a_secret_is_drawn_as_ever() {
        let text = "upstream = 1\n[headers.request.set]\nCookie = 'S3CRET'\n[limit]\nbody = 5\n";
        let (reader, _) = Reader::open(text, Path::new("a"), Excerpt::Shown, Place::Site);
        let drawn: String = (reader.finish().iter())
            .map(|problem| problem.render(text, false))
            .collect();
        assert!(drawn.contains("1 | upstream = 1"), "{drawn}");
        assert!(drawn.contains("5 | body = 5"), "{drawn}");
    }

    #[test]
    fn a_hidden_text_is_not_quoted() {
        let (reader, _) = Reader::open(
            "secret = 'x'\nhots = 1\n",
            Path::new("a"),
            Excerpt::Hidden,
            Place::Site,
        );
        let found: Vec<String> = reader.finish().iter().map(Problem::to_string).collect();
        assert_eq!(found[0], "a:1:1: unknown key \"...\"");
        assert_eq!(
            found[1],
            "a:2:1: unknown key \"...\", did you mean \"host\"?"
        );
    }
}
