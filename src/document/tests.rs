//! What is wrong with a document, and where.

use super::depth::too_deep;
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
        ("respond = \n", "1:11: behind \"=\" the value is missing"),
        (
            "respond = # none\n",
            "1:11: behind \"=\" the value is missing",
        ),
        ("to =", "1:5: behind \"=\" the value is missing"),
        (
            "to = 1, 2",
            "1:7: one value stands behind \"=\"; several stand in a list, [ , ]",
        ),
        ("to = @", "1:6: this is no value; a text stands in quotes"),
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
fn a_key_that_is_a_value_and_a_table_is_said_to_be_there_twice_and_where_the_value_belongs() {
    for (text, place, help) in [
        (
            "tls = \"local\" # for now\n[tls]\nhttp = 'redirect'",
            "2:2: the key \"tls\" is here twice",
            Some("write mode = \"local\" in [tls], instead of tls = \"local\" in line 1"),
        ),
        (
            "tls = 'local'\nto = 1\ntls.http = 'redirect'",
            "3:1: the key \"tls\" is here twice",
            Some("write tls.mode = 'local', instead of tls = 'local' in line 1"),
        ),
        (
            "tls.http = 'redirect'\ntls = 'local'",
            "2:1: the key \"tls\" is here twice",
            Some("write tls.mode = 'local', instead of tls = 'local' in line 2"),
        ),
        (
            "tls = 'auto'\n[tls.client]\nca = 'x'",
            "2:2: the key \"tls\" is here twice",
            Some("write mode = 'auto' in [tls], instead of tls = 'auto' in line 1"),
        ),
        (
            "respond = 404\n[respond]\nbody = 'x'",
            "2:2: the key \"respond\" is here twice",
            Some("write status = 404 in [respond], instead of respond = 404 in line 1"),
        ),
        (
            "redirect = '/a'\n[[path]]\nmatch = '/b'\nredirect = '/c'\nredirect.status = 301",
            "5:1: the key \"redirect\" is here twice",
            Some("write redirect.to = '/c', instead of redirect = '/c' in line 4"),
        ),
        (
            "[[path]]\nredirect = '/c'\n[path.redirect]\nstatus = 301",
            "3:7: the key \"redirect\" is here twice",
            Some("write to = '/c' in [path.redirect], instead of redirect = '/c' in line 2"),
        ),
        // Nobody knows which of these is meant.
        (
            "tls = 'a'\ntls = 'b'",
            "2:1: the key \"tls\" is here twice",
            None,
        ),
        (
            "note = 'a'\nnote.b = 1",
            "2:1: the key \"note\" is here twice",
            None,
        ),
    ] {
        let (reader, _) = Reader::open(text, Path::new("a"), Excerpt::Shown, Place::Site);
        let found = reader.finish();
        assert_eq!(found[0].to_string(), format!("a:{place}"), "{text}");
        assert_eq!(found[0].help.as_deref(), help, "{text}");
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
