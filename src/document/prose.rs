//! What a comment says behind a word that people log in with, and which of it may be a secret: a value that was commented
//! out is one, and what is written for people is none, but for what looks like no word of theirs.

use super::Span;
use super::comment::comments;
use super::depth::string_length;
use super::mask::{ends_of_logins, unescaped};

/// In the place of what a comment says behind such a word.
const MASK_OF_REST: &str = " (not shown)";
/// In the place of one thing among words.
const MASK_OF_WORD: &str = "(not shown)";
/// Behind these stands what somebody logs in with (RFC 9110 11.1).
const SCHEMES: [&str; 5] = ["basic", "bearer", "digest", "negotiate", "ntlm"];
/// What alone behind such a word is not what somebody logs in with.
const FOLLOWERS: [&str; 8] = [
    "header", "headers", "field", "name", "value", "here", "only", "too",
];
/// A longer one is no word that people write to each other.
const WORD_LETTERS: usize = 20;
/// All of it in capitals, as HTTP is.
const ACRONYM_LETTERS: usize = 5;

/// What is behind a line of a comment, as far as the next lines belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// No such word.
    Nothing,
    /// A value that is not over: so far as the next lines are nothing but comments, they are one with it.
    Value,
    /// Such a word, and a value of its own or none.
    Words,
    /// Such a word, and then the line ended.
    TheWord,
}

/// What is to be hidden in the comments of `text`, in order, and what stands there instead.
pub(super) fn secrets_in_comments(text: &str) -> Vec<(Span, &'static str)> {
    let mut secrets: Vec<(Span, &str)> = Vec::new();
    let (mut behind, mut last_end) = (Behind::Nothing, 0);
    for (comment, is_alone) in comments(text) {
        let between = &text[last_end..comment.start];
        let is_next = is_alone && between.trim().is_empty() && between.matches('\n').count() <= 1;
        if !is_next {
            behind = Behind::Nothing;
        }
        last_end = comment.end;
        let (start, line) = (comment.start, &text[comment.clone()]);
        if behind == Behind::Value {
            match secrets.last_mut() {
                Some((last, _)) => last.end = comment.end,
                None => secrets.push((comment, MASK_OF_REST)),
            }
            continue;
        }
        let (first, value) = logins(line);
        let words = match (first, behind) {
            (Some(first), _) => Some(first),
            (None, Behind::Words | Behind::TheWord) => Some(0),
            (None, _) => None,
        };
        let Some(words) = words else {
            continue;
        };
        let is_lone = behind == Behind::TheWord && is_lone(line.trim_start_matches('#'));
        let value = is_lone.then_some(1).or(value);
        let (odd, assigned) = odd_words(line, words, value.unwrap_or(line.len()));
        for span in odd {
            secrets.push((start + span.start..start + span.end, MASK_OF_WORD));
        }
        behind = match value.or(assigned) {
            Some(value) => {
                secrets.push((start + value..comment.end, MASK_OF_REST));
                match is_over(&line[value..]) {
                    true => Behind::Words,
                    false => Behind::Value,
                }
            }
            None if ends_with_login(line) => Behind::TheWord,
            None => Behind::Words,
        };
    }
    secrets.retain(|(span, _)| !span.is_empty());
    secrets
}

/// Where the first such word of a line ends, and the first behind which a value stands: the start of the line where it is
/// written in escapes.
fn logins(line: &str) -> (Option<usize>, Option<usize>) {
    let ends = ends_of_logins(line);
    let value = ends.iter().copied().find(|&end| has_value(line, end));
    let is_in_escapes = || unescaped(line).is_some_and(|read| !ends_of_logins(&read).is_empty());
    match ends.first() {
        None if is_in_escapes() => (Some(0), Some(0)),
        first => (first.copied(), value),
    }
}

/// Whether something is assigned to the word that ends at `end`, or stands alone behind it.
fn has_value(line: &str, end: usize) -> bool {
    let rest = behind_name(line, end);
    if rest.starts_with(['=', ':']) {
        return true;
    }
    // `--cookie sid`.
    let before = line[..end].trim_end_matches(is_of_name);
    let is_flag = line[before.len()..end].starts_with('-') && !rest.is_empty();
    is_flag || is_lone(rest)
}

/// What stands behind the name that the word which ends at `end` is of, and its quotes: `X-Authorization-Token`,
/// `"Cookie"`, `[headers.Cookie]`.
fn behind_name(line: &str, end: usize) -> &str {
    let rest = line[end..].trim_start_matches(is_of_name);
    rest.trim_start_matches(|c: char| c.is_whitespace() || "\"'`])}".contains(c))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn ends_with_login(line: &str) -> bool {
    let last = ends_of_logins(line).last().copied();
    last.is_some_and(|end| behind_name(line, end).is_empty())
}

/// Whether there is one word that may be a value: `Cookie sid`, `Cookie -> sid`.
fn is_lone(rest: &str) -> bool {
    let words = rest.split_whitespace();
    let mut words = words.filter(|word| word.contains(char::is_alphanumeric));
    let (Some(word), None) = (words.next(), words.next()) else {
        return false;
    };
    !FOLLOWERS.contains(&word.trim_end_matches(['.', ',', ';', '!', '?', ')']))
}

/// What of `line`, from `start` to `end`, is no word of people's; and where something is assigned there.
fn odd_words(line: &str, start: usize, end: usize) -> (Vec<Span>, Option<usize>) {
    let mut odd: Vec<Span> = Vec::new();
    let mut is_behind_scheme = false;
    let mut at = start;
    while at < end {
        let rest = &line[at..end];
        let skipped = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_whitespace() || c == '#')
                .len();
        if skipped > 0 {
            at += skipped;
            continue;
        }
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, begin) = (&rest[..length], rest.trim_start_matches('('));
        // What is in quotes is one, however many words it has.
        let quoted = begin.bytes().next().filter(|quote| b"\"'`".contains(quote));
        let length = match quoted {
            Some(quote) => {
                let before = rest.len() - begin.len();
                let quoted = string_length(begin.as_bytes(), quote);
                if !is_closed(&begin.as_bytes()[..quoted], quote) {
                    return (odd, Some(at));
                }
                length.max(before + quoted)
            }
            None if word.starts_with('=') => return (odd, Some(at)),
            None => length,
        };
        let is_odd = quoted.is_some() || is_behind_scheme || !is_of_people(word);
        if is_odd {
            match odd.last_mut() {
                Some(last) if line[last.end..at].trim().is_empty() => last.end = at + length,
                _ => odd.push(at..at + length),
            }
        }
        at += length;
        if word.ends_with([':', '=']) {
            return (odd, Some(at));
        }
        let letters = word.trim_matches(|c: char| !c.is_alphabetic());
        let mut schemes = SCHEMES.iter();
        is_behind_scheme = schemes.any(|scheme| letters.eq_ignore_ascii_case(scheme));
    }
    (odd, None)
}

/// Whether that is a word, or what stands between words: `cookie's,` and `(cookie-based)`, and no `aGVsbG8` or `sid=x1`.
fn is_of_people(word: &str) -> bool {
    let word = word.trim_start_matches('(');
    let word = word.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']);
    word.split(['-', '/', '\'', '’', '–', '—']).all(is_plain)
}

fn is_plain(part: &str) -> bool {
    let letters = part.chars().count();
    let mut behind_first = part.chars();
    let first = behind_first.next();
    let is_acronym = letters <= ACRONYM_LETTERS && part.chars().all(char::is_uppercase);
    let is_word = letters <= WORD_LETTERS
        && first.is_none_or(char::is_alphabetic)
        && behind_first.all(|c| c.is_alphabetic() && !c.is_uppercase());
    is_acronym || is_word
}

/// Whether what is assigned ends on its line: only of what stands in quotes or brackets can that be known.
fn is_over(assigned: &str) -> bool {
    let Some(value) = behind_name(assigned, 0).strip_prefix('=') else {
        return false;
    };
    let value = value.trim_start();
    if !value.starts_with(['"', '\'', '[', '{']) {
        return false;
    }
    let bytes = value.as_bytes();
    let (mut depth, mut at) = (0i32, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            quote @ (b'"' | b'\'') => {
                let length = string_length(&bytes[at..], quote);
                if !is_closed(&bytes[at..at + length], quote) {
                    return false;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    depth <= 0
}

/// Whether a string that begins with `quote` ends with it.
fn is_closed(string: &[u8], quote: u8) -> bool {
    let marks: &[u8] = match string.starts_with(&[quote; 3]) {
        true => &[quote; 3],
        false => &[quote],
    };
    string.len() >= 2 * marks.len() && string.ends_with(marks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mask;

    #[test]
    fn what_is_written_for_people_is_shown() {
        for text in [
            "# The app sets a cookie for each login,\n# so nothing of it is cached.\nto = 1\n",
            "to = 1 # cookies, and the Authorization header, reach the app\n",
            "# cookie-based affinity (see sticky) for the shop's basket\n\n# HTTP only.\n",
            "# no cookie here\n# Authorization\n#\n# of clients is the app's own.\n",
            "to = 1 # needs the Authorization header.\n",
            "#sticky = { cookie = \"shop_sid\" }\n# sticky.cookie = 'a.b-c'\n",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn what_looks_like_no_word_of_people_is_not() {
        for (text, masked) in [
            (
                "# the cookie is sid42, the Authorization aGVsbG8 or hunter2.\n# See https://wiki/1 and 'a b c' too.\n",
                "# the cookie is (not shown) the Authorization (not shown) or (not shown)\n# See (not shown) and (not shown) too.\n",
            ),
            (
                "# Cookie swordfish\n# curl --cookie swordfish\n",
                "# Cookie (not shown)\n",
            ),
            (
                "# an Authorization by Bearer swordfish is sent\n",
                "# an Authorization by Bearer (not shown) is sent\n",
            ),
            (
                "# the cookie for login: swordfish\n# swordfish\n",
                "# the cookie for login: (not shown)\n",
            ),
            // A value that is over hides nothing behind its line, and one that is not does.
            (
                "# Authorization = 'swordfish' # now\n# [limit]\n# words of people\n",
                "# Authorization (not shown)\n# (not shown)\n# words of people\n",
            ),
            (
                "# Cookie = [ 'swordfish',\n# swordfish\n# ]\n\n# words\n",
                "# Cookie (not shown)\n\n# words\n",
            ),
        ] {
            assert_eq!(mask(text), masked, "{text}");
        }
    }

    /// Every way to write a secret of letters alone, of which nobody could say by its looks that it is one.
    fn ways(secret: &str) -> Vec<String> {
        let mut ways = Vec::new();
        for name in [
            "Authorization",
            "cookie",
            "Set-Cookie",
            "X-Authorization-Token",
        ] {
            for way in [
                format!("# {name} = '{secret}'\n"),
                format!("#{name}=\"{secret}\"\n"),
                format!("# \"{name}\" = \"{secret}\"\n"),
                format!("# set = {{ X = 'b', {name} = 'Bearer {secret}' }}\n"),
                format!("# {name} = [\n#   '{secret}',\n#   'b {secret}'\n# ]\n"),
                format!("# {name} = '''\n# {secret}\n# b {secret}'''\n"),
                format!("# {name} = {{\n# {secret}\n"),
                format!("# {name}: {secret}\n"),
                format!("# {name}: Bearer\n#  {secret}\n"),
                format!("# curl -H '{name}: {secret}' and more {secret}\n"),
                format!("# curl -H \"{name}: sid={secret}\" https://a.test\n"),
                format!("# {name} {secret}\n"),
                format!("# use {name} {secret}\n"),
                format!("# use {name} -> {secret}\n"),
                format!("# the {name} is sid2= {secret}\n"),
                format!("# the {name} (Bearer {secret}) is new\n"),
                format!("# use {name}\n# {secret}\n"),
                format!("# {name} Bearer {secret}\n"),
                format!("# the {name} is 'one {secret} two'\n"),
                format!("# the {name} is '''one\n# {secret} two'''\n"),
                format!("# the {name} is sid={secret} today\n"),
                format!("to = 1 # {name} = {secret}\n"),
                format!("# words about {name}\n# are: {secret}\n"),
                format!("# words about {name}\n# {name} = '{secret}'\n"),
                format!("# a {name} has words, {name} = '{secret}', and more\n"),
            ] {
                ways.push(way);
            }
        }
        ways
    }

    const WORDS: &str =
        "(the|app|sets|its|own|for|login|so|nothing|is|cached|HTTP|Über|client's|per-user),?";

    proptest! {
        #[test]
        fn a_secret_is_never_shown(secret in "[a-z]{6,12}zq[A-Za-z0-9+/]{0,12}", before in "[a-z ]{0,12}") {
            for way in ways(&secret) {
                for text in [way.clone(), format!("# {before}\n{way}"), format!("{way}# {before}\n")] {
                    let shown = mask(&text);
                    prop_assert!(!shown.contains(&secret), "{text:?} is {shown:?}");
                }
            }
        }

        #[test]
        fn whatever_it_is_there_is_an_end(text in "(\\PC|cookie|Authorization|# ?|'|\"|'''|`|\\\\|=|:|\\[|\n| ){0,60}") {
            mask(&text);
        }

        #[test]
        fn words_are_shown(
            before in prop::collection::vec(WORDS, 1..5),
            login in "(cookie|Cookies|authorization|Set-Cookie)",
            behind in prop::collection::vec(WORDS, 2..9),
            next in prop::collection::vec(WORDS, 1..9),
        ) {
            let [before, behind, next] = [before, behind, next].map(|words| words.join(" "));
            let text = format!("to = 1\n# {before} {login} {behind}.\n# {next}\n");
            prop_assert_eq!(mask(&text), text);
        }
    }
}
