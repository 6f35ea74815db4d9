//! `onedoor ls`: what is live, and what is not and why.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::args::Places;
use super::screen::{self, Paint, Screen};
use super::{FAILED, complain, daemon, print};
use crate::document::problem::{printable, printable_lines};

/// Ends with 0, or 4 without a daemon; 1 when no site matches, and with `errors` when there are some, or the folder cannot
/// be seen.
pub(super) fn ls(places: &Places, pattern: Option<&str>, errors: bool, json: bool) -> ExitCode {
    let answer = daemon::find(places)
        .and_then(|daemon| daemon.sites().map_err(|error| daemon::explain(&error)));
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let mut is_found = true;
    if let Some(files) = answer["sites"].as_array_mut() {
        files.retain(|file| pattern.is_none_or(|pattern| is_meant(file, pattern)));
        is_found = pattern.is_none() || !files.is_empty();
        files.retain(|file| !errors || is_wrong(file));
    }
    let is_clean = answer["sites"].as_array().is_none_or(Vec::is_empty);
    match (json, errors) {
        (true, _) => print(&format!("{answer:#}\n")),
        (false, _) if !is_found => {}
        (false, true) => print(&drawn(&answer)),
        (false, false) => print(&table(&answer, now(), Screen::of_output())),
    }
    if let (Some(pattern), false) = (pattern, is_found) {
        complain(format_args!("no site matches {pattern}"));
        return ExitCode::from(FAILED);
    }
    // What is known of the files is old then.
    let is_blind = answer["notice"].is_string();
    match errors && (!is_clean || is_blind) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// By the name of the site or one of its hosts: `shop` is in `shop.test`, `team/*` is all of a team.
fn is_meant(file: &Value, pattern: &str) -> bool {
    let hosts = file["hosts"].as_array().into_iter().flatten();
    let mut names = std::iter::once(&file["name"])
        .chain(hosts)
        .filter_map(Value::as_str);
    match pattern.contains('*') {
        true => names.any(|name| fits(name, pattern)),
        false => names.any(|name| name.contains(pattern)),
    }
}

/// `*` stands for anything, also for nothing.
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return name == pattern;
    };
    let Some(name) = name.strip_prefix(first) else {
        return false;
    };
    let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    ends.any(|at| fits(&name[at..], rest))
}

/// Whether what is on disk is not what serves, there is a warning about it, or something is wrong with one of its backends.
fn is_wrong(file: &Value) -> bool {
    if backends(file).any(is_in_trouble) {
        return true;
    }
    let has_problems = file["problems"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    has_problems || !matches!(file["state"].as_str(), Some("live" | "ignored"))
}

fn backends(file: &Value) -> impl Iterator<Item = &Value> {
    file["backends"].as_array().into_iter().flatten()
}

fn is_in_trouble(backend: &Value) -> bool {
    backend["fit"] == false || backend["reason"].is_string()
}

/// What is wrong with each backend, by its name.
fn trouble(file: &Value) -> impl Iterator<Item = String> {
    let all = backends(file).filter(|backend| is_in_trouble(backend));
    all.map(|backend| {
        let at = backend["at"].as_str().unwrap_or_default();
        match backend["reason"].as_str() {
            Some(reason) if reason.contains(at) => reason.to_owned(),
            Some(reason) => format!("{at}: {reason}"),
            None => format!("{at} is sent no requests yet"),
        }
    })
}

/// Every problem as `check` draws it, with what happens meanwhile.
fn drawn(answer: &Value) -> String {
    let mut text = String::new();
    if let Some(notice) = answer["notice"].as_str() {
        text.push_str(&format!("{}\n\n", printable_lines(notice)));
    }
    for file in answer["sites"].as_array().into_iter().flatten() {
        for reason in reasons(file)
            .into_iter()
            .filter(|reason| !is_said_for_all(answer, reason))
        {
            text.push_str(&printable_lines(reason.trim_end()));
            text.push('\n');
        }
        let name = printable(&word(&file["name"]));
        for trouble in trouble(file) {
            text.push_str(&format!("{name}: {}\n", printable_lines(&trouble)));
        }
        let meanwhile = match file["state"].as_str().unwrap_or_default() {
            "live" => continue,
            state => format!("{name}: {}\n\n", meanwhile(file, state)),
        };
        text.push_str(&meanwhile);
    }
    if text.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    text
}

/// Whether it stands above all, perhaps beside something else.
fn is_said_for_all(answer: &Value, reason: &str) -> bool {
    let notice = answer["notice"].as_str().unwrap_or_default();
    notice.lines().any(|line| line == reason)
}

fn meanwhile(file: &Value, state: &str) -> String {
    match file["serving_since"].as_u64() {
        Some(since) => format!(
            "{state}, serving the version of {} UTC",
            screen::minute(since)
        ),
        None => format!("{state}, nothing of it serves"),
    }
}

fn table(answer: &Value, now: u64, screen: Screen) -> String {
    let files: Vec<&Value> = answer["sites"].as_array().into_iter().flatten().collect();
    let notice = answer["notice"].as_str();
    let notice = notice.map(printable_lines);
    let notice = notice.map(|notice| format!("{}\n", screen.paint(Paint::Bad, &notice)));
    // A folder full of something else must not hide the sites.
    let is_ignored = |file: &Value| file["state"] == "ignored";
    let (ignored, mut files): (Vec<&Value>, Vec<&Value>) =
        files.into_iter().partition(|file| is_ignored(file));
    files.extend(ignored.iter().take(MOST_IGNORED));
    if files.is_empty() {
        return notice.unwrap_or_else(|| "no site files yet\n".into());
    }
    let head = ["SITE", "STATE", "HOSTS", "TO", "OPEN", "REQUESTS", "SINCE"];
    let head = head.map(|word| (word.to_owned(), Some(Paint::Faint)));
    let rows: Vec<_> = std::iter::once(head)
        .chain(files.iter().map(|file| row(file, now)))
        .collect();
    // What is below may not be what is on disk.
    let mut text = notice.unwrap_or_default();
    text.push_str(&screen::table(&rows, screen));
    // The reasons do not fit into a table, and are what somebody came for.
    for file in files {
        let reasons = reasons(file)
            .into_iter()
            .filter(|reason| !is_said_for_all(answer, reason))
            .map(str::to_owned);
        let note = file["note"].as_str().map(str::to_owned);
        for said in reasons.chain(trouble(file)).chain(note) {
            text.push_str(&format!(
                "\n{}: {}\n",
                printable(&word(&file["name"])),
                printable_lines(said.trim_end())
            ));
        }
    }
    let more = ignored.len().saturating_sub(MOST_IGNORED);
    if more > 0 {
        text.push_str(&format!(
            "\nand {more} more ignored files; --json shows all\n"
        ));
    }
    text
}

const MOST_IGNORED: usize = 20;

type Cell = (String, Option<Paint>);

fn row(file: &Value, now: u64) -> [Cell; 7] {
    const MOST_SHOWN: usize = 3;
    let list = |keys: &[&str], between: &str| {
        let words: Vec<&str> = keys
            .iter()
            .filter_map(|key| file[*key].as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let shown = words
            .iter()
            .take(MOST_SHOWN)
            .copied()
            .collect::<Vec<_>>()
            .join(between);
        if words.len() > MOST_SHOWN {
            format!("{shown} +{}", words.len() - MOST_SHOWN)
        } else {
            shown
        }
    };
    let plain = |text: String| (text, None);
    let number = |value: &Value| {
        value
            .as_u64()
            .map_or("-".to_owned(), |count| count.to_string())
    };
    [
        plain(word(&file["name"])),
        state(file, now),
        plain(list(&["hosts"], " ")),
        plain(list(&["to", "answers"], ", ")),
        plain(number(&file["connections"])),
        plain(number(&file["requests"])),
        plain(since(&file["since"], now)),
    ]
}

/// One word; loud where an old version serves: it may be very old.
fn state(file: &Value, now: u64) -> Cell {
    let state = word(&file["state"]);
    let paint = match state.as_str() {
        "live" if backends(file).any(is_in_trouble) => Paint::Warning,
        "live" => Paint::Good,
        "ignored" => Paint::Faint,
        "waiting" => Paint::Warning,
        _ => Paint::Bad,
    };
    let since = file["since"].as_u64().filter(|_| state == "stale");
    let text = match since {
        Some(since) => {
            let days = now.saturating_sub(since) / 86_400;
            let age = match days {
                0 => String::new(),
                1 => " (1 day)".to_owned(),
                days => format!(" ({days} days)"),
            };
            format!("stale since {} UTC{age}", screen::minute(since))
        }
        None => state,
    };
    (text + &fit(file), Some(paint))
}

/// How many backends are fit, where that is worth a word: ` 1/2`.
fn fit(file: &Value) -> String {
    let fit = backends(file).filter(|backend| backend["fit"] == true);
    match (fit.count(), backends(file).count()) {
        (0, 0) | (1, 1) => String::new(),
        (fit, all) => format!(" {fit}/{all}"),
    }
}

/// How long ago, in its largest unit: what somebody wants to know is whether it was just now.
fn since(value: &Value, now: u64) -> String {
    // Nothing is from 1970: what is gone cannot be asked for its age.
    let Some(then) = value.as_u64().filter(|&then| then > 0) else {
        return "-".into();
    };
    let seconds = now.saturating_sub(then);
    match seconds {
        0..120 => format!("{seconds}s ago"),
        120..7200 => format!("{}m ago", seconds / 60),
        7200..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Its problems, drawn; in their absence what else there is to say.
fn reasons(file: &Value) -> Vec<&str> {
    let mut reasons: Vec<&str> = file["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if reasons.is_empty() {
        reasons.extend(file["reason"].as_str());
    }
    reasons
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_reasons_below_the_table() {
        let answer = json!({ "sites": [
            { "name": "blue", "state": "live", "hosts": ["blue.localhost"], "to": ["127.0.0.1:7071"], "answers": ["respond 200"],
              "connections": 3, "requests": 1200, "since": 940 },
            { "name": "shop", "state": "down", "hosts": [], "to": [], "problems": ["shop.toml:2:6: no backend"] },
            { "name": "old", "state": "stale", "hosts": ["old.test"], "to": [], "since": 1000, "note": "ask Ann" },
        ]});
        assert_eq!(
            table(&answer, 1000, Screen::PLAIN),
            "\
SITE  STATE                             HOSTS           TO                           OPEN  REQUESTS  SINCE
blue  live                              blue.localhost  127.0.0.1:7071, respond 200  3     1200      60s ago
shop  down                                                                           -     -         -
old   stale since 1970-01-01 00:16 UTC  old.test                                     -     -         0s ago

shop: shop.toml:2:6: no backend

old: ask Ann
"
        );
        let (state, paint) = state(&answer["sites"][2], 1000 + 113 * 86_400);
        assert_eq!(state, "stale since 1970-01-01 00:16 UTC (113 days)");
        assert_eq!(paint, Some(Paint::Bad));
    }

    #[test]
    fn a_pattern_is_a_part_of_a_name_or_has_stars() {
        let file = json!({ "name": "team/shop", "hosts": ["shop.test", "*.x.test"] });
        for (pattern, meant) in [
            ("shop", true),
            ("x.test", true),
            ("blog", false),
            ("team/*", true),
            ("*shop", true),
            ("*.test", true),
            ("t*m/sh*p", true),
            ("shop*x", false),
        ] {
            assert_eq!(is_meant(&file, pattern), meant, "{pattern}");
        }
    }

    #[test]
    fn a_note_keeps_its_lines_and_nothing_else_that_is_risky() {
        let site = json!({ "name": "a\u{1b}[2J", "state": "down", "note": "one\ntwo \u{202e} x\u{9b}31m" });
        let answer = json!({ "sites": [site] });
        for text in [table(&answer, 0, Screen::PLAIN), drawn(&answer)] {
            let bad = |c: char| c != '\n' && crate::document::problem::is_risky(c);
            assert!(!text.contains(bad), "{text:?}");
        }
        assert!(table(&answer, 0, Screen::PLAIN).contains("one\ntwo \\u{202e} x"));
    }

    #[test]
    fn many_ignored_files_are_counted_and_not_all_shown() {
        let ignored =
            |number| json!({ "name": format!("x{number}"), "state": "ignored", "since": 0 });
        let all: Vec<Value> = (0..25).map(ignored).collect();
        let text = table(&json!({ "sites": all }), 1000, Screen::PLAIN);
        assert!(text.ends_with("\nand 5 more ignored files; --json shows all\n"));
        assert!(text.contains("x19") && !text.contains("x20"), "{text}");
        assert!(!text.contains("ago"), "{text}");
    }

    #[test]
    fn what_is_said_above_all_is_said_of_no_file() {
        let gone = "sites.d is missing; still serving its 2 sites";
        let file = |name: &str| json!({ "name": name, "state": "stale", "reason": gone });
        let notice = format!("{gone}\nin the folders of certificates: a\u{1b}[2J");
        let answer = json!({ "sites": [file("a"), file("b")], "notice": notice });
        for text in [table(&answer, 0, Screen::PLAIN), drawn(&answer)] {
            assert_eq!(text.matches(gone).count(), 1, "{text}");
            let certificates = "\nin the folders of certificates: a\\u{1b}[2J\n";
            assert_eq!(text.matches(certificates).count(), 1, "{text}");
        }
    }

    #[test]
    fn an_empty_folder_says_so() {
        let plain = |answer: &Value| table(answer, 0, Screen::PLAIN);
        assert_eq!(plain(&json!({ "sites": [] })), "no site files yet\n");
        let missing = json!({ "sites": [], "notice": "sites.d is missing" });
        assert_eq!(plain(&missing), "sites.d is missing\n");
        assert_eq!(drawn(&missing), "sites.d is missing\n\n");
        assert_eq!(drawn(&json!({ "sites": [] })), "nothing is wrong\n");
    }
}
