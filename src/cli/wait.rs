//! `onedoor wait`: for deploy scripts, so that they never guess.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::args::Places;
use super::{FAILED, NOT_IN_TIME, complain, daemon, print};
use crate::reload::Until;

/// Ends with 0 when what was on disk serves (or is gone, or has drained), 1 when it is rejected, 3 after `time`, 4 without a daemon.
pub(super) fn wait(places: &Places, name: Option<&str>, time: Duration, until: Until) -> ExitCode {
    // People type what they see in the folder.
    let name = name.map(|name| name.strip_suffix(".toml").unwrap_or(name));
    let daemon = match daemon::find(places) {
        Ok(daemon) => daemon,
        Err(code) => return code,
    };
    let answer = match daemon.wait(name, until, time) {
        Ok(answer) => answer,
        Err(error) => return daemon::explain(&error),
    };
    let what = name.unwrap_or("what is on disk");
    tell(&answer, what, name, until, time)
}

/// Says how a waiting ended, and with which code to end.
fn tell(answer: &Value, what: &str, name: Option<&str>, until: Until, time: Duration) -> ExitCode {
    match answer["outcome"].as_str() {
        Some("serving") => ExitCode::SUCCESS,
        Some("gone" | "drained") => ExitCode::SUCCESS,
        Some("rejected") => {
            for problem in answer["problems"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                print(&format!("{problem}\n"));
            }
            complain(format_args!("{what} is rejected"));
            ExitCode::from(FAILED)
        }
        Some("draining") => {
            complain(format_args!(
                "{what} serves, but the daemon is draining and takes no new connections"
            ));
            ExitCode::from(FAILED)
        }
        Some("blind") => {
            let notice = answer["notice"].as_str().unwrap_or_default();
            complain(format_args!("nothing is known of {what}: {notice}"));
            ExitCode::from(FAILED)
        }
        Some("unknown") => {
            let meant = meant(answer);
            complain(format_args!("there is no site file for \"{what}\"{meant}"));
            ExitCode::from(FAILED)
        }
        _ => {
            let goal = match until {
                Until::Serving => "not serving yet",
                Until::Gone => "still served",
                Until::Drained => "still busy on backends of a former version",
            };
            let reason = |pending: &str| match answer["reasons"][pending].as_str() {
                Some(reason) => format!(": {reason}"),
                None => String::new(),
            };
            let why = name.map(reason).unwrap_or_default();
            complain(format_args!("{what} is {goal} after {time:?}{why}"));
            for pending in answer["pending"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|pending| Some(*pending) != name)
            {
                complain(format_args!("waiting for {pending}{}", reason(pending)));
            }
            if let Some(notice) = answer["notice"].as_str() {
                complain(notice);
            }
            ExitCode::from(NOT_IN_TIME)
        }
    }
}

/// What somebody may have meant by a name that is no site's, to stand behind it.
pub(super) fn meant(answer: &Value) -> String {
    match (answer["reason"].as_str(), answer["did_you_mean"].as_str()) {
        (Some(reason), _) => format!(": {reason}"),
        (None, Some(near)) => format!(", did you mean \"{near}\"?"),
        (None, None) => String::new(),
    }
}
