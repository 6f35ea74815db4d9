//! `onedoor history`, `diff` and `rollback`: the versions of a site that went live, and back to one of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use similar::TextDiff;

use super::add::await_it;
use super::args::Places;
use super::drop_in::{Before, Folder, refuse};
use super::said::Said;
use super::screen::{self, Paint, Screen};
use super::{daemon, print, wait};
use crate::document::mask;
use crate::document::problem::printable_lines;
use crate::reload::Until;

/// Ends with 0, or with 1 when nothing of the site is known.
pub(super) fn history(places: &Places, name: &str, json: bool) -> ExitCode {
    match known(places, name) {
        Ok(known) if json => print(&format!("{:#}\n", known.answer)),
        Ok(known) => print(&listed(&known, Screen::of_output())),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// What is kept of one site.
struct Known {
    name: String,
    answer: Value,
    versions: Vec<Version>,
}

/// As the daemon tells it, masked.
struct Version {
    since: u64,
    is_present: bool,
    file: PathBuf,
    text: String,
    /// As that of the version before, which was taken away and put back.
    is_same: bool,
}

fn known(places: &Places, name: &str) -> Result<Known, ExitCode> {
    read(places, name, false)
}

fn read(places: &Places, name: &str, whole: bool) -> Result<Known, ExitCode> {
    let name = name.strip_suffix(".toml").unwrap_or(name);
    let daemon = daemon::find(places)?;
    let answer = daemon.history(name, whole);
    let answer = answer.map_err(|error| daemon::explain(&error))?;
    let versions = answer["versions"].as_array().into_iter().flatten();
    let versions: Vec<Version> = versions
        .map(|version| Version {
            since: version["since"].as_u64().unwrap_or_default(),
            is_present: version["present"] == true,
            file: PathBuf::from(version["file"].as_str().unwrap_or_default()),
            text: version["text"].as_str().unwrap_or_default().to_owned(),
            is_same: version["same_as_before"] == true,
        })
        .collect();
    if versions.is_empty() {
        let asked = daemon.wait(Some(name), Until::Serving, Duration::ZERO);
        let meant = asked.map(|answer| wait::meant(&answer));
        return Err(refuse(format_args!(
            "no version of \"{name}\" has ever been live here{}",
            meant.unwrap_or_default()
        )));
    }
    Ok(Known {
        name: name.to_owned(),
        answer,
        versions,
    })
}

fn listed(known: &Known, screen: Screen) -> String {
    let head = ["VERSION", "LIVE SINCE", "LINES", "CHANGED"];
    let head = head.map(|word| (word.to_owned(), Some(Paint::Faint)));
    let rows = known.versions.iter().enumerate().map(|(at, version)| {
        let changed = match known.versions.get(at + 1) {
            Some(_) if version.is_same => format!("the same as version {}", at + 2),
            Some(before) => count_changes(&before.text, &version.text),
            None => String::new(),
        };
        let number = match version.is_present {
            true => (format!("{} (serves)", at + 1), Some(Paint::Good)),
            false => ((at + 1).to_string(), None),
        };
        [
            number,
            (format!("{} UTC", screen::stamp(version.since)), None),
            (version.text.lines().count().to_string(), None),
            (changed, None),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    screen::table(&rows, screen)
}

/// `+2 -1`
fn count_changes(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let count = |tag| {
        let changes = diff.iter_all_changes();
        changes.filter(|change| change.tag() == tag).count()
    };
    let (added, removed) = (
        count(similar::ChangeTag::Insert),
        count(similar::ChangeTag::Delete),
    );
    match (added, removed) {
        (0, 0) => "what is not shown".to_owned(),
        _ => format!("+{added} -{removed}"),
    }
}

/// What is on disk against what serves; where that is the same, what serves against the version before it.
pub(super) fn diff(
    places: &Places,
    name: &str,
    version: Option<usize>,
    mut said: Said,
) -> ExitCode {
    let known = match known(places, name) {
        Ok(known) => known,
        Err(code) => return code,
    };
    let newest = &known.versions[0];
    let title = |at: usize| {
        format!(
            "version {}, {} UTC",
            at + 1,
            screen::stamp(known.versions[at].since)
        )
    };
    let folder = match Folder::find(places) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let on_disk = match folder.read(&newest.file) {
        Ok(text) => text.map(|text| mask(&text)),
        Err(error) => {
            return refuse(format_args!(
                "cannot read {}: {error}",
                newest.file.display()
            ));
        }
    };
    let file = newest.file.display().to_string();
    let (before, after) = match (version, on_disk) {
        (Some(number), _) => {
            let Some(chosen) = number
                .checked_sub(1)
                .filter(|at| *at < known.versions.len())
            else {
                return no_such(&known, number, places);
            };
            (
                (title(chosen), known.versions[chosen].text.clone()),
                (title(0), newest.text.clone()),
            )
        }
        (None, Some(text)) if text != newest.text => {
            ((title(0), newest.text.clone()), (file, text))
        }
        (None, None) => ((title(0), newest.text.clone()), (file, String::new())),
        (None, Some(_)) => match known.versions.get(1) {
            Some(former) => (
                (title(1), former.text.clone()),
                (title(0), newest.text.clone()),
            ),
            None => {
                said.line("there is one version, and it is what is on disk");
                said.fact("diff", "");
                return said.end(ExitCode::SUCCESS);
            }
        },
    };
    said.fact("before", before.0.clone());
    said.fact("after", after.0.clone());
    match said.is_for_programs() {
        true => said.fact("diff", unified(&before, &after)),
        false => print(&drawn(before, after, Screen::of_output())),
    }
    said.end(ExitCode::SUCCESS)
}

fn no_such(known: &Known, number: usize, places: &Places) -> ExitCode {
    refuse(format_args!(
        "there is no version {number} of {}; `onedoor history {}{}` lists them",
        known.name,
        known.name,
        places.flags()
    ))
}

/// As patch(1) reads it.
fn unified(before: &(String, String), after: &(String, String)) -> String {
    let diff = TextDiff::from_lines(&before.1, &after.1);
    diff.unified_diff().header(&before.0, &after.0).to_string()
}

/// The same for a person.
fn drawn(before: (String, String), after: (String, String), screen: Screen) -> String {
    let text = printable_lines(&unified(&before, &after));
    if text.is_empty() {
        return "no difference that can be shown\n".to_owned();
    }
    let paint = |line: &str| match line.as_bytes().first() {
        Some(b'+') => screen.paint(Paint::Good, line),
        Some(b'-') => screen.paint(Paint::Bad, line),
        Some(b'@') => screen.paint(Paint::Faint, line),
        _ => line.to_owned(),
    };
    text.lines().map(|line| paint(line) + "\n").collect()
}

/// Writes a version into the file, as an operator would.
pub(super) fn rollback(
    places: &Places,
    name: &str,
    version: Option<usize>,
    timeout: Duration,
    mut said: Said,
) -> ExitCode {
    // With its secrets: it is to serve.
    let known = match read(places, name, true) {
        Ok(known) => known,
        Err(code) => return code,
    };
    let folder = match Folder::find(places) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let meant = version
        .map(|number| (number, ""))
        .or_else(|| usual(&known, &folder));
    let Some((number, which)) = meant else {
        return refuse(format_args!("there is nothing older of {}", known.name));
    };
    let Some(chosen) = number.checked_sub(1).and_then(|at| known.versions.get(at)) else {
        return no_such(&known, number, places);
    };
    if let Err(code) = folder.write(&chosen.file, &chosen.text, Before::Anything) {
        return code;
    }
    said.line(format_args!(
        "wrote {} as it was on {} UTC, version {number}{which}; your git or Ansible will undo this",
        chosen.file.display(),
        screen::stamp(chosen.since)
    ));
    said.fact("wrote", chosen.file.to_string_lossy());
    said.fact("version", number);
    said.fact("live_since", chosen.since);
    let code = await_it(&folder, &known.name, timeout, &mut said);
    said.end(code)
}

/// The number of the version that somebody means who names none, and what is to be said of it: what serves, where the
/// file says something else, because that is the mistake; else the one before.
fn usual(known: &Known, folder: &Folder) -> Option<(usize, &'static str)> {
    let newest = known.versions.first()?;
    if !newest.is_present {
        return Some((1, ", the last that was live"));
    }
    match folder.read(&newest.file) {
        Ok(Some(text)) if text == newest.text => {
            let before = known.versions.get(1)?;
            (!before.is_present).then_some((2, ", the one before what serves"))
        }
        _ => Some((1, ", which serves; what the file said does not")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_drawn_as_diff_does() {
        let text = |text: &str| text.to_owned();
        let drawn = drawn(
            (text("old"), text("host = 'a'\nto = 1\n")),
            (text("new"), text("host = 'a'\nto = 2\n")),
            Screen::PLAIN,
        );
        assert_eq!(
            drawn,
            "--- old\n+++ new\n@@ -1,2 +1,2 @@\n host = 'a'\n-to = 1\n+to = 2\n"
        );
        let bad = (text("new"), text("# \x1b]0;x\x07\u{9b}31m\t\u{202e}\n"));
        let drawn = self::drawn((text("old"), String::new()), bad, Screen::PLAIN);
        assert!(
            drawn.ends_with("+# \\u{1b}]0;x\\u{7}\\u{9b}31m\t\\u{202e}\n"),
            "{drawn}"
        );
        assert_eq!(count_changes("a\nb\n", "a\nc\nd\n"), "+2 -1");
    }
}
