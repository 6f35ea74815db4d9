//! `onedoor wait`: for deploy scripts, so that they never guess.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::args::Places;
use super::said::Said;
use super::{FAILED, NOT_IN_TIME, complain, daemon, print};
use crate::admin::client::Client;
use crate::reload::Until;

/// Ends with 0 when what was on disk serves (or is gone, or has drained), 1 when it is rejected, 3 after `time`, 4 without a daemon.
pub(super) fn wait(
    places: &Places,
    name: Option<&str>,
    time: Duration,
    until: Until,
    mut said: Said,
) -> ExitCode {
    // People type what they see in the folder.
    let name = name.map(|name| name.strip_suffix(".toml").unwrap_or(name));
    let code = match daemon::find(places) {
        Ok(daemon) => ask(&daemon, name, until, time, &mut said),
        Err(code) => code,
    };
    said.end(code)
}

/// The same of one site, for those who have done something to it.
pub(super) fn until(
    daemon: &Client,
    name: &str,
    until: Until,
    time: Duration,
    said: &mut Said,
) -> ExitCode {
    ask(daemon, Some(name), until, time, said)
}

fn ask(
    daemon: &Client,
    name: Option<&str>,
    until: Until,
    time: Duration,
    said: &mut Said,
) -> ExitCode {
    let answer = match daemon.wait(name, until, time) {
        Ok(answer) => answer,
        Err(error) => return daemon::explain(&error),
    };
    said.answer(&answer);
    if !said.is_for_programs() {
        tell(&answer, name, until, time);
    }
    match answer["outcome"].as_str() {
        Some("serving" | "gone" | "drained") => ExitCode::SUCCESS,
        Some("rejected" | "draining" | "blind" | "unknown") => ExitCode::from(FAILED),
        _ => ExitCode::from(NOT_IN_TIME),
    }
}

/// Says how a waiting ended, where that is not what was hoped for.
fn tell(answer: &Value, name: Option<&str>, until: Until, time: Duration) {
    let what = name.unwrap_or("what is on disk");
    let listed = |key: &str| {
        let list = answer[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str)
    };
    match answer["outcome"].as_str() {
        Some("serving" | "gone" | "drained") => {}
        Some("rejected") => {
            for problem in listed("problems") {
                print(&format!("{problem}\n"));
            }
            complain(format_args!("{what} is rejected"));
        }
        Some("draining") => complain(format_args!(
            "{what} serves, but the daemon is draining and takes no new connections"
        )),
        Some("blind") => {
            let notice = answer["notice"].as_str().unwrap_or_default();
            complain(format_args!("nothing is known of {what}: {notice}"));
        }
        Some("unknown") => {
            let meant = meant(answer);
            complain(format_args!("there is no site file for \"{what}\"{meant}"));
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
            for pending in listed("pending").filter(|pending| Some(*pending) != name) {
                complain(format_args!("waiting for {pending}{}", reason(pending)));
            }
            if let Some(notice) = answer["notice"].as_str() {
                complain(notice);
            }
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
