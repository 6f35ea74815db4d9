//! `onedoor reload`: the daemon file and a look at everything in the sites directory, and what came of it.

use std::process::ExitCode;

use serde_json::Value;

use super::args::Places;
use super::said::Said;
use super::{FAILED, complain, daemon, screen};

/// Ends with 0 when all that could be put in force is, but for what waits for a restart: a site file that is rejected is the
/// matter of whoever wrote it, who asks `wait`, and must not fail the reload of everybody. 1 when the daemon file cannot be
/// used, sites are rejected because of it, or something that is gone is kept; 4 without a daemon.
pub(super) fn reload(places: &Places, accept_removals: bool, mut said: Said) -> ExitCode {
    let answer = daemon::find(places).and_then(|daemon| {
        daemon
            .reload(accept_removals)
            .map_err(|error| daemon::explain(&error))
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    said.line(describe(&answer).trim_end());
    said.answer(&answer);
    said.end(code(&answer))
}

/// Says what is not as it was meant to be, and with which code to end.
fn code(answer: &Value) -> ExitCode {
    let settings = &answer["settings"];
    let mut is_rejected = false;
    for problem in listed(settings, "problems") {
        complain(problem);
        is_rejected = true;
    }
    if is_rejected {
        complain(
            "the daemon file cannot be used; the settings of before stay in force, all of them",
        );
    }
    if let Some(kept) = answer["kept"].as_str() {
        complain(kept);
        return ExitCode::from(FAILED);
    }
    let not_served = listed(answer, "rejected").chain(listed(answer, "waiting"));
    if not_served.count() > 0 {
        complain("not everything on disk serves; `onedoor ls --errors` shows why");
    }
    let unfit: Vec<&str> = listed(settings, "unfit").collect();
    if !unfit.is_empty() {
        complain(format_args!(
            "rejected since the daemon file says something else: {}",
            unfit.join(", ")
        ));
    }
    match is_rejected || !unfit.is_empty() {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    }
}

fn describe(answer: &Value) -> String {
    let mut text = String::new();
    for (key, label) in [("changed", "in force"), ("needs_restart", "restart")] {
        for name in listed(&answer["settings"], key) {
            text.push_str(&format!("{label:<9} {name} of the daemon file\n"));
        }
    }
    for key in [
        "added",
        "changed",
        "removed",
        "rejected",
        "waiting",
        "unsettled",
    ] {
        for name in listed(answer, key) {
            text.push_str(&format!("{key:<9} {name}\n"));
        }
    }
    for change in answer["certificates"].as_array().into_iter().flatten() {
        text.push_str(&of_certificate(change));
    }
    if text.is_empty() && !answer["kept"].is_string() {
        text.push_str("nothing changed\n");
    }
    let live = answer["live"].as_u64().unwrap_or_default();
    text.push_str(&format!(
        "{live} {} live\n",
        if live == 1 { "site" } else { "sites" }
    ));
    text
}

/// `swapped   certificate live/shop/fullchain.pem for shop.example.com, good until 2027-02-26`
fn of_certificate(change: &Value) -> String {
    const FEW: usize = 8;
    let said = |key: &str| change[key].as_str().unwrap_or_default();
    let hosts: Vec<&str> = listed(change, "hosts").collect();
    let more = match hosts.len().saturating_sub(FEW) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let end = match (said("change"), change["ends"].as_u64()) {
        ("gone", _) | (_, None) => String::new(),
        (_, Some(ends)) => format!(", good until {}", screen::date(ends)),
    };
    format!(
        "{:<9} certificate {} for {}{more}{end}\n",
        said("change"),
        said("file"),
        hosts[..hosts.len().min(FEW)].join(", ")
    )
}

fn listed<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    answer[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
