//! `onedoor ls`: what is live, and what is not and why.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::args::Places;
use super::{daemon, print};

/// Ends with 0, or 4 without a daemon.
pub(super) fn ls(places: &Places, json: bool) -> ExitCode {
    let answer = daemon::find(places)
        .and_then(|daemon| daemon.sites().map_err(|error| daemon::explain(&error)));
    match answer {
        Ok(answer) if json => print(&format!("{answer:#}\n")),
        Ok(answer) => print(&table(&answer, now())),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn table(answer: &Value, now: u64) -> String {
    let files: Vec<&Value> = answer["sites"].as_array().into_iter().flatten().collect();
    let notice = answer["notice"].as_str();
    let notice = notice.map(|notice| format!("{notice}\n"));
    // A folder full of something else must not hide the sites.
    let is_ignored = |file: &Value| file["state"] == "ignored";
    let (ignored, mut files): (Vec<&Value>, Vec<&Value>) =
        files.into_iter().partition(|file| is_ignored(file));
    files.extend(ignored.iter().take(MOST_IGNORED));
    if files.is_empty() {
        return notice.unwrap_or_else(|| "no site files yet\n".into());
    }
    let rows: Vec<[String; 5]> =
        std::iter::once(["SITE", "STATE", "HOSTS", "TO", "SINCE"].map(String::from))
            .chain(files.iter().map(|file| row(file, now)))
            .collect();
    let widths: Vec<usize> = (0..5)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    // What is below may not be what is on disk.
    let mut text = notice.map_or(String::new(), |notice| format!("{notice}\n"));
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    // The reasons do not fit into a table, and are what somebody came for.
    for file in files {
        // Said above, once for all.
        for reason in reasons(file)
            .into_iter()
            .filter(|reason| answer["notice"] != **reason)
        {
            text.push_str(&format!(
                "\n{}: {}\n",
                word(&file["name"]),
                reason.trim_end()
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

fn row(file: &Value, now: u64) -> [String; 5] {
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
    [
        word(&file["name"]),
        state(file),
        list(&["hosts"], " "),
        list(&["to", "answers"], ", "),
        since(&file["since"], now),
    ]
}

/// The state, and how many backends are fit where that is worth a word: `live 1/2`.
fn state(file: &Value) -> String {
    let word = word(&file["state"]);
    let backends = file["backends"].as_array().map(Vec::as_slice);
    let backends = backends.unwrap_or_default();
    let fit = backends.iter().filter(|backend| backend["fit"] == true);
    match (fit.count(), backends.len()) {
        (0, 0) | (1, 1) => word,
        (fit, all) => format!("{word} {fit}/{all}"),
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

/// Its problems, drawn; in their absence what else there is to say; and its operator's own words.
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
    let backends = file["backends"].as_array().into_iter().flatten();
    reasons.extend(backends.filter_map(|backend| backend["reason"].as_str()));
    reasons.extend(file["note"].as_str());
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
            { "name": "blue", "state": "live", "hosts": ["blue.localhost"], "to": ["127.0.0.1:7071"], "answers": ["respond 200"], "since": 940 },
            { "name": "shop", "state": "down", "hosts": [], "to": [], "problems": ["shop.toml:2:6: no backend"] },
        ]});
        assert_eq!(
            table(&answer, 1000),
            "SITE  STATE  HOSTS           TO                           SINCE\n\
             blue  live   blue.localhost  127.0.0.1:7071, respond 200  60s ago\n\
             shop  down                                                -\n\
             \n\
             shop: shop.toml:2:6: no backend\n"
        );
    }

    #[test]
    fn many_ignored_files_are_counted_and_not_all_shown() {
        let ignored =
            |number| json!({ "name": format!("x{number}"), "state": "ignored", "since": 0 });
        let all: Vec<Value> = (0..25).map(ignored).collect();
        let text = table(&json!({ "sites": all }), 1000);
        assert!(text.ends_with("\nand 5 more ignored files; --json shows all\n"));
        assert!(text.contains("x19") && !text.contains("x20"), "{text}");
        assert!(!text.contains("ago"), "{text}");
    }

    #[test]
    fn an_empty_folder_says_so() {
        assert_eq!(table(&json!({ "sites": [] }), 0), "no site files yet\n");
        let missing = json!({ "sites": [], "notice": "sites.d is missing" });
        assert_eq!(table(&missing, 0), "sites.d is missing\n");
    }
}
