//! `onedoor run`: settings from flags, environment and the daemon file, and then the server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::{Places, Serving};
use super::check::{self, Owners, Question};
use super::{FAILED, print};
use crate::admin::client::Client;
use crate::document::Problem;
use crate::server;
use crate::settings::{self, Color, Overrides, Settings};

/// Serves until told to stop. 1 when the settings are wrong or the port is taken.
pub(super) fn run(places: &Places, serving: Serving) -> ExitCode {
    match settings(places, serving) {
        Ok(settings) => server::run(settings),
        Err(code) => code,
    }
}

/// Shows every error of the site files. 1 when there is one.
pub(super) fn check(
    places: &Places,
    path: Option<PathBuf>,
    name: Option<String>,
    strict: bool,
    json: bool,
) -> ExitCode {
    let settings = match settings(places, Serving::default()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    // A folder that is named may be anywhere, and about another machine.
    let live = match path.as_deref().is_some_and(Path::is_dir) {
        true => None,
        false => owners(places, &settings),
    };
    let question = Question {
        path: path.as_deref(),
        as_name: name.as_deref(),
        strict,
        color: settings.log.color.is_shown(&io::stdout()),
        live: live.as_ref(),
    };
    let verdict = check::check(&settings, &question);
    match json {
        true => print(&format!("{:#}\n", verdict.for_programs())),
        false => print(&verdict.output),
    }
    if verdict.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

/// Who owns the names, by the daemon that serves these files. `None`: nobody does, or nobody we may ask.
fn owners(places: &Places, settings: &Settings) -> Option<Owners> {
    let daemon = match &places.admin {
        Some(socket) => Client::new(socket),
        None => Client::new(&settings.admin_socket()),
    };
    let status = daemon.status().ok()?;
    let theirs = Path::new(status["sites"].as_str()?).canonicalize().ok()?;
    let is_same = settings
        .sites
        .canonicalize()
        .is_ok_and(|ours| ours == theirs);
    let sites = is_same.then(|| daemon.sites())?;
    Some(Owners::of(&sites.ok()?))
}

/// What is in force for these flags.
///
/// # Errors
/// The exit code, after every problem was printed.
pub(super) fn settings(places: &Places, serving: Serving) -> Result<Settings, ExitCode> {
    load(places, overrides(places, serving))
}

/// What these flags say.
pub(super) fn overrides(places: &Places, serving: Serving) -> Overrides {
    Overrides {
        listen: serving.listen,
        sites: places.sites.clone(),
        state: places.state.clone(),
        admin: places.admin.clone(),
        admin_listen: serving.admin_listen,
        workers: serving.workers,
        watch: serving.watch,
        catch_all: serving.catch_all,
        allow_link_local: serving.allow_link_local,
        log_level: serving.log_level,
        log_format: serving.log_format,
        log_color: serving.log_color,
        drain_at_most: None,
    }
}

/// What is in force with `overrides`.
///
/// # Errors
/// As [`settings`].
pub(super) fn load(places: &Places, overrides: Overrides) -> Result<Settings, ExitCode> {
    settings::load(places.config.as_deref(), overrides).map_err(|problems| {
        for problem in &problems {
            show(problem);
        }
        ExitCode::from(FAILED)
    })
}

/// A problem with its line, where it has one: of the daemon file, or of a flag that stands for a key of it.
fn show(problem: &Problem) {
    let source = fs::read_to_string(&problem.origin).unwrap_or_default();
    let color = Color::Auto.is_shown(&io::stderr());
    eprintln!("{}", problem.render(&source, color));
}
