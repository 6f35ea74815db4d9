//! What a person types: each command ends in the exit code that DESIGN promises.

mod add;
mod args;
pub mod check;
mod daemon;
mod demo;
mod demo_apps;
mod drain;
mod drop_in;
mod explain;
mod history;
mod ls;
mod papers;
mod reload;
mod rm;
mod run;
mod said;
mod screen;
mod top;
mod trust;
mod wait;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use args::{Args, Command};
use said::Said;
use trust::Wish;

use crate::document::problem::printable_lines;
use crate::reload::Until;

/// The configuration or the operation failed.
const FAILED: u8 = 1;
/// What was waited for did not come in time.
const NOT_IN_TIME: u8 = 3;
/// Nobody is there to ask.
const NO_DAEMON: u8 = 4;

/// Reads the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    // Usage errors, --help and --version end here: 2, 0 and 0.
    let args = Args::parse();
    ended(act(args))
}

fn act(args: Args) -> ExitCode {
    match args.command {
        None => run::run(&args.places, args.serving),
        Some(Command::Run { serving }) => run::run(&args.places, serving.or(args.serving)),
        Some(Command::Demo { serving }) => demo::demo(&args.places, serving.or(args.serving)),
        Some(Command::Check {
            path,
            name,
            strict,
            json,
        }) => run::check(&args.places, path, name, strict, json),
        Some(Command::Ls {
            pattern,
            errors,
            json,
        }) => ls::ls(&args.places, pattern.as_deref(), errors, json),
        Some(Command::Add {
            host,
            to,
            name,
            note,
            timeout,
            json,
        }) => add::add(
            &args.places,
            &host,
            &to,
            name,
            note,
            timeout,
            Said::to(json),
        ),
        Some(Command::Rm {
            name,
            now,
            timeout,
            json,
        }) => rm::rm(&args.places, &name, now, timeout, Said::to(json)),
        Some(Command::History { name, json }) => history::history(&args.places, &name, json),
        Some(Command::Diff {
            name,
            version,
            json,
        }) => history::diff(&args.places, &name, version, Said::to(json)),
        Some(Command::Rollback {
            name,
            version,
            timeout,
            json,
        }) => history::rollback(&args.places, &name, version, timeout, Said::to(json)),
        Some(Command::Drain { wait, json }) => drain::drain(&args.places, wait, Said::to(json)),
        Some(Command::Top { once, json }) => top::top(&args.places, once, json),
        Some(Command::Schema { file }) => papers::schema(file),
        Some(Command::Completions { shell }) => papers::completions(shell),
        Some(Command::Man) => papers::man(),
        Some(Command::Wait {
            name,
            timeout,
            gone,
            drained,
            json,
        }) => {
            let until = match (gone, drained) {
                (true, _) => Until::Gone,
                (_, true) => Until::Drained,
                _ => Until::Serving,
            };
            wait::wait(
                &args.places,
                name.as_deref(),
                timeout,
                until,
                Said::to(json),
            )
        }
        Some(Command::Explain { question, json }) => explain::explain(&args.places, question, json),
        Some(Command::Reload {
            accept_removals,
            json,
        }) => reload::reload(&args.places, accept_removals, Said::to(json)),
        Some(Command::Trust {
            remove,
            print,
            json,
        }) => {
            let wish = match (remove, print) {
                (true, _) => Wish::Remove,
                (_, true) => Wish::Print,
                _ => Wish::Install,
            };
            trust::trust(&args.places, wish, Said::to(json))
        }
    }
}

/// Writes to standard output. A reader that has gone (`onedoor ls | head -1`) is no failure; anything else is one, but
/// first the command does what it is there for.
fn print(text: &str) {
    is_read(text);
}

/// The same. Whether there is somebody for more of it.
fn is_read(text: &str) -> bool {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    if let Err(error) = &written
        && error.kind() != ErrorKind::BrokenPipe
        && !IS_CUT.swap(true, Ordering::Relaxed)
    {
        complain(format_args!(
            "what there was to say could not be written: {error}"
        ));
    }
    written.is_ok()
}

/// Some of the output is not there.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// The end of a command that was about to end with `code`: whoever reads half of a list must not take it for one.
fn ended(code: ExitCode) -> ExitCode {
    match code == ExitCode::SUCCESS && IS_CUT.load(Ordering::Relaxed) {
        true => ExitCode::from(FAILED),
        false => code,
    }
}

/// Says on standard error why a command failed.
fn complain(message: impl std::fmt::Display) {
    let message = printable_lines(&message.to_string());
    writeln!(io::stderr().lock(), "onedoor: {message}").ok();
}
