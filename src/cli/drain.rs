//! `onedoor drain`: the polite end.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::args::Places;
use super::said::Said;
use super::{NOT_IN_TIME, complain, daemon};

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Beyond its own limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends with 0 when the daemon drains, or with `wait` when it has ended and what was open had ended before; 3 when that was
/// cut, or when it does not end; 4 without one.
pub(super) fn drain(places: &Places, wait: bool, mut said: Said) -> ExitCode {
    let daemon = match daemon::find(places) {
        Ok(daemon) => daemon,
        Err(code) => return code,
    };
    let answer = match daemon.drain() {
        Ok(answer) => answer,
        Err(error) => return daemon::explain(&error),
    };
    let limit = Duration::from_secs(answer["limit"].as_u64().unwrap_or_default());
    let open = answer["open"].as_u64().unwrap_or_default();
    let connections = match open {
        0 => "none is open".to_owned(),
        1 => format!("the one that is open may finish within {limit:?}"),
        open => format!("{open} open ones may finish within {limit:?}"),
    };
    said.line(format_args!("draining: no new connections; {connections}"));
    said.answer(&answer);
    let deadline = Instant::now() + limit + PATIENCE;
    // It may have ended before it could be asked: then nothing was open.
    let drained = wait.then(|| daemon.drain_to_the_end(limit + PATIENCE).ok());
    let cut = drained
        .flatten()
        .and_then(|drained| drained["cut"].as_u64())
        .unwrap_or_default();
    while wait && daemon.status().is_ok() {
        if Instant::now() >= deadline {
            complain("it has not ended yet");
            said.fact("ended", false);
            return said.end(ExitCode::from(NOT_IN_TIME));
        }
        thread::sleep(LOOK_EVERY);
    }
    if wait {
        said.fact("ended", true);
        said.fact("cut", cut);
    }
    if cut > 0 {
        let what = match cut {
            1 => "1 connection had not finished and was cut".to_owned(),
            more => format!("{more} connections had not finished and were cut"),
        };
        complain(format_args!("{what}; [timeout] drain is {limit:?}"));
        return said.end(ExitCode::from(NOT_IN_TIME));
    }
    said.end(ExitCode::SUCCESS)
}
