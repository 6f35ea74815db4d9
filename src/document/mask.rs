//! Secrets in the text of a site file, taken out before it is shown to anybody.

use toml::de::DeTable;

use super::comment::comments;
use super::depth::string_length;
use super::problem::is_risky;
use super::userinfo::{userinfo, without_userinfo};
use super::{Span, Table, Value, keys};

/// Header names whose values are what people log in with. What `{ file = "..." }` points at is not in the text anyway.
const LOGINS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];
/// In their place.
const MASK: &str = "\"(not shown)\"";
/// In the place of what a comment says behind such a word.
const MASK_OF_COMMENT: &str = " (not shown)";
/// In the place of a name and a password in an address.
const MASK_OF_USERINFO: &str = "***";

/// Whether the values of a header are what people log in with.
pub fn is_login(name: &str) -> bool {
    LOGINS.iter().any(|login| name.eq_ignore_ascii_case(login))
}

/// The text with the values of Authorization, Cookie and their like replaced, also those that are commented out, and with
/// names and passwords of addresses. One that is no TOML ends in front of the first such word.
pub fn mask(text: &str) -> String {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return match first_login(text) {
            Some(shown) => {
                let shown = without_userinfo(&text[..shown]);
                format!("{shown}(the rest is not shown)\n")
            }
            None => without_userinfo(text),
        };
    }
    let values = secrets_in(table.get_ref()).into_iter();
    let in_comments = in_comments(text).into_iter();
    let mut secrets: Vec<(Span, &str)> = values
        .map(|span| (span, MASK))
        .chain(in_comments.map(|span| (span, MASK_OF_COMMENT)))
        .chain(
            userinfo(text)
                .into_iter()
                .map(|span| (span, MASK_OF_USERINFO)),
        )
        .collect();
    secrets.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0;
    for (span, instead) in secrets {
        // One within another has gone with it.
        if span.start >= rest {
            masked.push_str(text.get(rest..span.start).unwrap_or_default());
            masked.push_str(instead);
        }
        rest = rest.max(span.end);
    }
    masked.push_str(text.get(rest..).unwrap_or_default());
    masked
}

/// What comments say behind such a word. A value that was commented out may go on in the next lines: so far as they are
/// nothing but comments, they are one, also behind empty lines where what the value began with is still open. Words of
/// people go with it: which of them are none, nobody can tell for sure.
fn in_comments(text: &str) -> Vec<Span> {
    let mut secrets: Vec<Span> = Vec::new();
    let mut open = Open::default();
    for (comment, is_alone) in comments(text) {
        let is_next = |last: &Span| {
            let between = &text[last.end..comment.start];
            let is_below = between.matches('\n').count() <= 1;
            is_alone && between.trim().is_empty() && (is_below || open.is_any())
        };
        if let Some(last) = secrets.last_mut().filter(|last| is_next(last)) {
            open.take(text[comment.clone()].trim_start_matches('#'));
            last.end = comment.end;
        } else if let Some(end) = end_of_login(&text[comment.clone()]) {
            open = Open::default();
            open.take(&text[comment.start + end..comment.end]);
            secrets.push(comment.start + end..comment.end);
        }
    }
    secrets.retain(|span| !span.is_empty());
    secrets
}

/// What a value has opened and not closed in the lines of it so far. Where a line cannot be read it counts as open: too much
/// is masked rather than too little.
#[derive(Debug, Default)]
struct Open {
    brackets: usize,
    /// Those of a string of several lines.
    quotes: Option<&'static str>,
}

impl Open {
    fn is_any(&self) -> bool {
        self.brackets > 0 || self.quotes.is_some()
    }

    fn take(&mut self, line: &str) {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let mut read = first.len_utf8();
            if let Some(quotes) = self.quotes {
                if rest.starts_with(quotes) {
                    self.quotes = None;
                    read = quotes.len();
                } else if first == '\\' && quotes.starts_with('"') {
                    read += rest[1..].chars().next().map_or(0, char::len_utf8);
                }
            } else if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|q| rest.starts_with(q))
            {
                self.quotes = Some(quotes);
                read = quotes.len();
            } else {
                match first {
                    '"' | '\'' => read = string_length(rest.as_bytes(), first as u8),
                    '#' => return,
                    '[' | '{' => self.brackets += 1,
                    ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
            }
            rest = rest.get(read..).unwrap_or_default();
        }
    }
}

/// Where the first such word of a line ends; the start of the line where it is written in escapes.
fn end_of_login(line: &str) -> Option<usize> {
    let end_in = |line: &str| {
        let lower = line.to_ascii_lowercase();
        let found = LOGINS.iter().flat_map(|login| {
            let found = lower.match_indices(login);
            found.map(|(start, login)| (start, start + login.len()))
        });
        found
            .filter(|(start, end)| !is_name_of_sticky(&line[..*start], &line[*end..]))
            .map(|(_, end)| end)
            .min()
    };
    let in_escapes = || end_in(&unescaped(line)?).map(|_| 0);
    end_in(line).or_else(in_escapes)
}

/// Whether a line has `sticky = { cookie = "name" }` or `sticky.cookie = "name"` around a `cookie`.
fn is_name_of_sticky(before: &str, behind: &str) -> bool {
    let in_table = || {
        let before = before.trim_end().strip_suffix('{')?;
        before
            .trim_end()
            .strip_suffix('=')?
            .trim_end()
            .strip_suffix("sticky")
    };
    let name = || {
        let behind = behind.trim_start().strip_prefix('=')?.trim_start();
        let quote = behind.chars().next().filter(|c| "\"'".contains(*c))?;
        behind[1..].split_once(quote).map(|(name, _)| name)
    };
    let before = in_table().or_else(|| before.strip_suffix("sticky."));
    let is_key =
        before.is_some_and(|before| before.trim_start_matches(['#', ' ', '\t']).is_empty());
    is_key && name().is_some_and(is_name_of_cookie)
}

/// What somebody calls a cookie, and never what is in one.
fn is_name_of_cookie(text: &str) -> bool {
    const BYTES: usize = 64;
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.len() <= BYTES && text.bytes().all(is_of_name)
}

/// A line with its escapes read (`\u0041` is an A), wherever they stand: in a text that is no TOML nobody knows what is a
/// string. `None`: there are none.
fn unescaped(line: &str) -> Option<String> {
    let mut read = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        read.push_str(before);
        let digits = match escape.as_bytes().get(1) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(b'x') => 2,
            _ => 0,
        };
        let number = escape.get(2..2 + digits).filter(|_| digits > 0);
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match number.and_then(char::from_u32) {
            Some(c) => {
                read.push(c);
                rest = &escape[2 + digits..];
            }
            None => {
                read.push('\\');
                rest = &escape[1..];
            }
        }
    }
    read.push_str(rest);
    (read != line).then_some(read)
}

/// Where the secrets of a text are that is TOML, in its order.
pub(super) fn secrets_in(table: &Table<'_>) -> Vec<Span> {
    let mut secrets = Vec::new();
    find(table, Place::Site, &mut secrets);
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

/// One line of it as it may be drawn: stars for what stands between quotes or in a comment behind such a word and for names
/// and passwords in addresses, question marks for what would write to a terminal. Every column is where it was.
pub(super) fn veil(line: &str) -> String {
    let end_of_word = end_of_login(line).unwrap_or(line.len());
    let mut in_addresses = userinfo(line).into_iter().peekable();
    let mut veiled = String::with_capacity(line.len());
    let mut within = None;
    let mut is_comment = false;
    for (at, c) in line.char_indices() {
        let mut instead = (is_risky(c) && c != '\t').then_some('?');
        while in_addresses.next_if(|span| span.end <= at).is_some() {}
        if in_addresses.peek().is_some_and(|span| span.contains(&at)) {
            instead = Some('*');
        }
        is_comment |= within.is_none() && c == '#';
        match (within, c) {
            _ if is_comment && at >= end_of_word && c != '#' => instead = Some('*'),
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

/// Where a table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where the keys of a site are.
    Site,
    /// `cookie` there is how the cookie of a site is called.
    Sticky,
    Elsewhere,
}

impl Place {
    /// Of the table that is called `name` here.
    fn of(self, name: &str) -> Place {
        match (self, name) {
            (Place::Site, "sticky") => Place::Sticky,
            (Place::Site, "path" | "defaults") => Place::Site,
            _ => Place::Elsewhere,
        }
    }
}

fn find(table: &Table<'_>, place: Place, secrets: &mut Vec<Span>) {
    for (name, value) in table {
        let is_name = place == Place::Sticky
            && name.get_ref() == "cookie"
            && value.get_ref().as_str().is_some_and(is_name_of_cookie);
        if is_login(name.get_ref()) && !is_name {
            leaves(value, secrets);
            continue;
        }
        let place = place.of(name.get_ref());
        match (value.get_ref().as_table(), value.get_ref().as_array()) {
            (Some(table), _) => find(table, place, secrets),
            (_, Some(array)) => {
                let tables = array.iter().filter_map(|entry| entry.get_ref().as_table());
                tables.for_each(|table| find(table, place, secrets));
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
        if end_of_login(line).is_some() {
            return Some(start);
        }
        start += line.len();
    }
    None
}

/// `message` without what it quotes of `secrets`: neither a password nor, behind a link out of the sites directory, a file
/// is read aloud by an error. Our own words stay.
pub(super) fn without_quotes(message: &str, secrets: &str) -> String {
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
        for torn in [
            "nonsense\nAuthorization = 'x'\nto",
            "nonsense\nset = { \"\\u0041uthor\\U00000069zation\" = 'x'\nto",
            "nonsense\n\"\\x43ookie\" = 'x'",
        ] {
            assert_eq!(mask(torn), "nonsense\n(the rest is not shown)\n");
        }
        assert_eq!(
            mask("to = 'https://me:pw@a:1'\nnonsense"),
            "to = 'https://***@a:1'\nnonsense"
        );
    }

    #[test]
    fn what_is_commented_out_and_what_stands_in_an_address_is_not_shown_either() {
        assert_eq!(
            mask(
                "to = 1 # no cookie: y\n# Authorization = [\n#   'x',\n# ]\n\n# shown\nhost = '#Cookie' # shown\n\
                 redirect = \"https://me:p@a\"\n[headers.request.set]\nCookie = 'https://me:p@a' # https://b:c@d cookie e"
            ),
            "to = 1 # no cookie (not shown)\n\n# shown\nhost = '#Cookie' # shown\n\
             redirect = \"https://***@a\"\n[headers.request.set]\nCookie = \"(not shown)\" # https://***@d cookie (not shown)"
        );
    }

    #[test]
    fn what_is_commented_out_goes_on_behind_empty_lines_until_it_is_closed() {
        for value in [
            "[\n#   'a]',\n\n\n#   'swordfish',\n\n# 'swordfish'\n# ]",
            "[ # one ]\n\n#   'swordfish' ]",
            "{ value = [\n\n# 'x' ],\n\n# also = 'swordfish' }",
            "\"\"\"\n# a\n\n# \\\"\"\" [\n \n##swordfish\n# \"\"\"",
            "'''\n\n#swordfish'''",
            // Broken, so that nobody knows where it ends.
            "[ \"a ]\n\n# swordfish",
        ] {
            let text = format!("# Authorization = {value}\n\nto = 1\n\n# shown\n");
            let shown = mask(&text);
            assert_eq!(
                shown, "# Authorization (not shown)\n\nto = 1\n\n# shown\n",
                "{text}"
            );
        }
        for value in [
            "'a'",
            "[ 'a', [ 'b' ] ]",
            "\"\"\"\n# a\n# \"\"\"",
            "is it's",
        ] {
            let text = format!("# Cookie = {value}\n\n# shown\n");
            assert_eq!(mask(&text), "# Cookie (not shown)\n\n# shown\n", "{text}");
        }
    }

    #[test]
    fn how_a_cookie_is_called_is_no_secret_where_it_is_that() {
        for text in [
            "sticky = { cookie = \"shop_sid\" }\n",
            "[sticky]\ncookie = 'sid'\n",
            "[[path]]\nprefix = '/a'\nsticky.cookie = 'sid'\n",
            "[defaults.sticky]\ncookie = 'sid'\n",
            // Also where it is no TOML.
            "sticky = { cookie = 'sid' }\nnonsense",
        ] {
            assert_eq!(mask(text), text);
        }
        for text in [
            "sticky = { cookie = 'sid=swordfish' }\n",
            "sticky = { cookie = ['swordfish'] }\n",
            "sticky = { Cookie = 'swordfish' }\n",
            "[headers.request.set.sticky]\ncookie = 'swordfish'\n",
            "[headers.request.set]\nsticky = { cookie = 'swordfish' }\n",
            "sticky = { cookie = 'sid=swordfish' }\nnonsense",
            "x = { sticky = { cookie = 'swordfish' } }\nnonsense",
            "# x = { sticky = { cookie = 'swordfish' } }\n",
        ] {
            let shown = mask(text);
            assert!(!shown.contains("swordfish"), "{shown}");
        }
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
            ("to = 1 # Cookie: a, b", "to = 1 # Cookie******"),
            ("# Cookie", "# Cookie"),
            (
                "to = 'https://me:pü@a:1' # ü@b",
                "to = 'https://******@a:1' # ü@b",
            ),
            ("\"\\u0043ookie\" = 'a'", "\"***********\" = '*'"),
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
        fn nothing_else_is_changed(text in "[^@\\\\\\pC]{0,80}") {
            prop_assume!(!LOGINS.iter().any(|login| text.to_ascii_lowercase().contains(login)));
            prop_assert_eq!(mask(&text), text);
        }
    }
}
