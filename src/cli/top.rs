//! `onedoor top`: what moves now, drawn again every second; q ends it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use serde_json::{Value, json};

use super::args::Places;
use super::drop_in::refuse;
use super::screen::{self, Paint, Screen};
use super::{daemon, is_read, print};
use crate::admin::client::{Client, ClientError};
use crate::reload::seconds;
use crate::site::counts::BUCKETS_MS;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Ends with 0 when somebody has seen enough; 4 without a daemon. `once`: one screen, for a pipe. `json`: for programs, a
/// line for each look.
pub(super) fn top(places: &Places, once: bool, json: bool) -> ExitCode {
    let daemon = match daemon::find(places) {
        Ok(daemon) => daemon,
        Err(code) => return code,
    };
    let first = match Look::take(&daemon) {
        Ok(look) => look,
        Err(error) => return daemon::explain(&error),
    };
    if once || json {
        let draw = match json {
            true => line,
            false => whole,
        };
        return match tell(&daemon, first, once, draw) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => daemon::explain(&error),
        };
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return refuse("top needs a terminal; `onedoor top --once` and `--json` are for pipes");
    }
    match Terminal::open() {
        Ok(terminal) => {
            let ended = watch(&daemon, &terminal, first);
            // First: what is said on its screen goes with it.
            drop(terminal);
            match ended {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => daemon::explain(&error),
            }
        }
        Err(error) => refuse(format_args!("the terminal cannot be set up: {error}")),
    }
}

/// After each interval, until whoever reads it has gone, or there is no answer.
fn tell(
    daemon: &Client,
    first: Look,
    once: bool,
    draw: fn(&Look, &Look) -> String,
) -> Result<(), ClientError> {
    let mut before = first;
    loop {
        thread::sleep(EVERY);
        let look = Look::take(daemon)?;
        if !is_read(&draw(&before, &look)) || once {
            return Ok(());
        }
        before = look;
    }
}

/// Until somebody has seen enough, or there is no answer.
fn watch(daemon: &Client, terminal: &Terminal, first: Look) -> Result<(), ClientError> {
    let mut before = first;
    loop {
        match terminal.key_within(EVERY) {
            // Ctrl-C is a byte here, too.
            Some(b'q' | b'Q' | 3 | 27) => return Ok(()),
            Some(_) => continue,
            None => {}
        }
        let look = Look::take(daemon)?;
        let (width, height) = terminal.size();
        let text = drawn(&before, &look, width, height, Screen::of_output());
        terminal.show(&text);
        before = look;
    }
}

/// Everything at one moment.
struct Look {
    at: Instant,
    sites: HashMap<String, Counts>,
    open: u64,
    version: String,
}

/// Of one site, since it was there.
#[derive(Clone, Debug, Default)]
struct Counts {
    requests: u64,
    errors: u64,
    open: u64,
    durations: Vec<u64>,
}

impl Look {
    fn take(daemon: &Client) -> Result<Look, ClientError> {
        let sites = daemon.sites()?;
        let status = daemon.status()?;
        let counters = daemon.counters()?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let files = sites["sites"].as_array().into_iter().flatten();
        let counted = files.filter(|file| file["requests"].is_u64()).map(|file| {
            let durations = file["durations"].as_array().into_iter().flatten();
            let counts = Counts {
                requests: number(&file["requests"]),
                errors: number(&file["errors"]),
                open: number(&file["connections"]),
                durations: durations.map(number).collect(),
            };
            (file["name"].as_str().unwrap_or_default().to_owned(), counts)
        });
        Ok(Look {
            at: Instant::now(),
            sites: counted.collect(),
            open: number(&counters["open"]),
            version: status["version"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// What moved between two looks.
struct Moved {
    name: String,
    rate: f64,
    errors: f64,
    open: u64,
    /// Buckets of durations.
    median: Option<usize>,
    slow: Option<usize>,
}

fn moved(before: &Look, now: &Look) -> Vec<Moved> {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let none = Counts::default();
    let mut all: Vec<Moved> = now
        .sites
        .iter()
        .map(|(name, counts)| {
            let was = before.sites.get(name).unwrap_or(&none);
            // Fewer than before: the site was removed, and this is another one.
            let since = |now: u64, was: u64| now.checked_sub(was).unwrap_or(now);
            let per_second = |now, was| since(now, was) as f64 / seconds;
            let durations: Vec<u64> = counts
                .durations
                .iter()
                .zip(was.durations.iter().chain(std::iter::repeat(&0)))
                .map(|(now, was)| since(*now, *was))
                .collect();
            Moved {
                name: name.clone(),
                rate: per_second(counts.requests, was.requests),
                errors: per_second(counts.errors, was.errors),
                open: counts.open,
                median: quantile(&durations, 0.5),
                slow: quantile(&durations, 0.99),
            }
        })
        .collect();
    all.sort_by(|a, b| {
        let order = |moved: &Moved| (Reverse((moved.rate * 1000.0) as u64), Reverse(moved.open));
        order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
    });
    all
}

/// The bucket of durations that this part of all of them does not go beyond. `None`: there are none.
fn quantile(durations: &[u64], part: f64) -> Option<usize> {
    let all: u64 = durations.iter().sum();
    let wanted = (all as f64 * part).ceil() as u64;
    let mut seen = 0;
    durations.iter().position(|count| {
        seen += count;
        all > 0 && seen >= wanted
    })
}

/// The same as the screen has, for programs. A time is the two ends of its bucket.
fn line(before: &Look, now: &Look) -> String {
    let all = moved(before, now);
    let ends = |bucket: Option<usize>| {
        bucket.map(|at| {
            let begin = at.checked_sub(1).map_or(0, |before| BUCKETS_MS[before]);
            (begin, BUCKETS_MS.get(at))
        })
    };
    let sites = all.iter().map(|moved| {
        json!({
            "name": moved.name,
            "requests_per_second": rounded(moved.rate),
            "errors_per_second": rounded(moved.errors),
            "p50_ms": ends(moved.median),
            "p99_ms": ends(moved.slow),
            "connections": moved.open,
        })
    });
    let sum: f64 = all.iter().map(|moved| moved.rate).sum();
    let line = json!({
        "time": seconds(SystemTime::now()),
        "version": now.version,
        "requests_per_second": rounded(sum),
        "connections": now.open,
        "sites": sites.collect::<Vec<_>>(),
    });
    format!("{line}\n")
}

/// Beyond thousandths it is noise.
fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

fn whole(before: &Look, now: &Look) -> String {
    drawn(before, now, usize::MAX, usize::MAX, Screen::of_output())
}

fn drawn(before: &Look, now: &Look, width: usize, height: usize, screen: Screen) -> String {
    let all = moved(before, now);
    let sum: f64 = all.iter().map(|moved| moved.rate).sum();
    let mut text = format!(
        "onedoor {}, {} requests/s, {} connections, {} sites\n\n",
        now.version,
        rate(sum),
        now.open,
        all.len()
    );
    let head = ["SITE", "REQUESTS/S", "ERRORS/S", "P50", "P99", "OPEN"];
    let head = head.map(|word| (word.to_owned(), Some(Paint::Faint)));
    let room = height.saturating_sub(4);
    let rows = all.iter().take(room).map(|moved| {
        [
            (moved.name.clone(), None),
            (rate(moved.rate), None),
            (
                rate(moved.errors),
                (moved.errors > 0.0).then_some(Paint::Bad),
            ),
            (milliseconds(moved.median), None),
            (milliseconds(moved.slow), None),
            (moved.open.to_string(), None),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    text.push_str(&screen::table(&rows, screen));
    match width {
        usize::MAX => text,
        _ => text.lines().map(|line| cut(line, width) + "\n").collect(),
    }
}

/// At most so many columns, colours not counted.
fn cut(line: &str, width: usize) -> String {
    let (mut shown, mut in_escape) = (0, false);
    let mut kept = String::new();
    for c in line.chars() {
        if c == '\x1b' {
            in_escape = true;
        }
        if !in_escape {
            shown += 1;
        }
        if in_escape || shown <= width {
            kept.push(c);
        }
        if in_escape && c.is_ascii_alphabetic() {
            in_escape = false;
        }
    }
    kept
}

fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn milliseconds(bucket: Option<usize>) -> String {
    let Some(bucket) = bucket else {
        return "-".to_owned();
    };
    match BUCKETS_MS.get(bucket) {
        None => ">60s".to_owned(),
        Some(end) if *end < 1000 => format!("<{end}ms"),
        Some(end) => format!("<{}s", end / 1000),
    }
}

/// The terminal while it is ours: every key at once, a screen of its own. As it was when dropped.
struct Terminal {
    before: Termios,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Terminal {
    fn open() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        print(ENTER);
        Ok(Terminal { before })
    }

    /// A key, if one comes in time.
    fn key_within(&self, time: Duration) -> Option<u8> {
        let stdin = io::stdin();
        let mut descriptors = [PollFd::new(&stdin, PollFlags::IN)];
        let limit = Timespec::try_from(time).ok()?;
        let came = poll(&mut descriptors, Some(&limit)).is_ok_and(|count| count > 0);
        let mut byte = [0];
        let read = came && matches!(stdin.lock().read(&mut byte), Ok(1));
        // A terminal that is gone is a reason to end.
        match (came, read) {
            (true, true) => Some(byte[0]),
            (true, false) => Some(b'q'),
            (false, _) => None,
        }
    }

    fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout());
        // Some terminals do not know their own.
        match size {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }

    /// Over what is there: a screen that is cleared first flickers.
    fn show(&self, text: &str) {
        let lines = text.replace('\n', "\x1b[K\r\n");
        print(&format!("\x1b[H{lines}\x1b[J\r\nq ends"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        print(LEAVE);
        // A terminal that is gone needs nothing back.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).ok();
        drop(io::stdout().flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, sites: &[(&str, u64, u64, u64)]) -> Look {
        let counts = sites.iter().map(|(name, requests, errors, open)| {
            let mut durations = vec![0; BUCKETS_MS.len() + 1];
            durations[1] = requests / 2;
            durations[4] = requests - requests / 2;
            let counts = Counts {
                requests: *requests,
                errors: *errors,
                open: *open,
                durations,
            };
            ((*name).to_owned(), counts)
        });
        Look {
            at,
            sites: counts.collect(),
            open: 7,
            version: "1.2.3".to_owned(),
        }
    }

    #[test]
    fn what_moves_most_stands_first() {
        let start = Instant::now();
        let before = look(
            start,
            &[("calm", 10, 0, 1), ("busy", 100, 0, 2), ("anew", 500, 9, 0)],
        );
        let now = look(
            start + Duration::from_secs(2),
            &[("calm", 10, 0, 1), ("busy", 300, 4, 3), ("anew", 5, 0, 0)],
        );
        assert_eq!(
            drawn(&before, &now, 60, 24, Screen::PLAIN),
            "\
onedoor 1.2.3, 102 requests/s, 7 connections, 3 sites

SITE  REQUESTS/S  ERRORS/S  P50   P99    OPEN
busy  100         2.0       <2ms  <20ms  3
anew  2.5         0         <20ms  <20ms  0
calm  0           0         -     -      1
"
            .replace("<2ms  <20ms  3", "<2ms   <20ms  3")
            .replace("P50   P99", "P50    P99")
            .replace("-     -      1", "-      -      1")
        );
        assert_eq!(
            drawn(&before, &now, 60, 5, Screen::PLAIN).lines().count(),
            4
        );
        assert_eq!(cut("\x1b[31mabc\x1b[0m", 2), "\x1b[31mab\x1b[0m");
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        assert_eq!(quantile(&[0, 0], 0.5), None);
        assert_eq!(quantile(&[99, 1], 0.5), Some(0));
        assert_eq!(quantile(&[99, 1], 0.99), Some(0));
        assert_eq!(quantile(&[90, 10], 0.99), Some(1));
        let mut slow = vec![0; BUCKETS_MS.len() + 1];
        slow[BUCKETS_MS.len()] = 1;
        assert_eq!(milliseconds(quantile(&slow, 0.5)), ">60s");
    }

    #[test]
    fn for_programs_a_time_is_the_ends_of_its_bucket() {
        let start = Instant::now();
        let before = look(start, &[]);
        let mut now = look(
            start + Duration::from_secs(2),
            &[("busy", 300, 3, 2), ("calm", 0, 0, 1), ("slow", 0, 0, 0)],
        );
        let slow = now.sites.get_mut("slow").expect("it is there");
        slow.durations[BUCKETS_MS.len()] = 1;
        let text = line(&before, &now);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let told: Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(told["requests_per_second"], 150.0);
        assert_eq!(told["connections"], 7);
        let busy = &told["sites"][0];
        assert_eq!(busy["name"], "busy");
        assert_eq!(busy["errors_per_second"], 1.5);
        assert_eq!(busy["p50_ms"], json!([1, 2]));
        assert_eq!(busy["p99_ms"], json!([10, 20]));
        assert_eq!(busy["connections"], 2);
        assert_eq!(told["sites"][1]["p50_ms"], Value::Null);
        assert_eq!(told["sites"][2]["p50_ms"], json!([60_000, null]));
    }
}
