//! `onedoor run`: settings from flags, environment and the daemon file, and then the server.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;

use super::args::{Args, Places, Serving};
use super::check::{self, Owners, Question};
use super::{FAILED, USAGE, complain, print};
use crate::admin::client::Client;
use crate::document::Problem;
use crate::document::keys::distance;
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
    paths: &[PathBuf],
    name: Option<String>,
    strict: bool,
    json: bool,
) -> ExitCode {
    if paths.len() > 1 && name.is_some() {
        complain("--as NAME is for one PATH");
        return ExitCode::from(USAGE);
    }
    let settings = match settings(places, Serving::default()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    settings.warnings.iter().for_each(show);
    // A folder that is named may be anywhere, and about another machine.
    let live = match paths.iter().any(|path| path.is_dir()) {
        true => None,
        false => owners(places, &settings),
    };
    let question = Question {
        path: None,
        as_name: name.as_deref(),
        strict,
        color: settings.log.color.is_shown(&io::stdout()),
        live: live.as_ref(),
    };
    let verdict = match paths {
        [] => check::check(&settings, &question),
        paths => check::each(&settings, &question, paths),
    };
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
    let mut settings = settings::load(places.config.as_deref(), overrides).map_err(|problems| {
        for problem in &problems {
            show(problem);
        }
        ExitCode::from(FAILED)
    })?;
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    settings
        .warnings
        .extend(names.filter_map(|name| foreign_variable(&name)));
    Ok(settings)
}

/// A variable that looks like one of ours and is none.
fn foreign_variable(name: &str) -> Option<Problem> {
    const PREFIX: &str = "ONEDOOR_";
    let written = name.strip_prefix(PREFIX)?;
    let command = Args::command();
    let known: Vec<&str> = (command.get_arguments())
        .filter_map(|argument| argument.get_env()?.to_str()?.strip_prefix(PREFIX))
        .collect();
    if known.contains(&written) {
        return None;
    }
    let nearest = known.iter().min_by_key(|known| distance(known, written));
    let nearest = nearest.filter(|known| distance(known, written) <= 1 + written.len() / 4);
    let meant = nearest.map_or(String::new(), |known| {
        format!("; did you mean {PREFIX}{known}?")
    });
    let message = format!("there is no such variable, and it has no effect{meant}");
    Some(Problem::warning_of_file(
        Path::new(&format!("${name}")),
        message,
    ))
}

/// A problem with its line, where it has one: of the daemon file, or of a flag that stands for a key of it.
fn show(problem: &Problem) {
    let source = fs::read_to_string(&problem.origin).unwrap_or_default();
    let color = Color::Auto.is_shown(&io::stderr());
    eprintln!("{}", problem.render(&source, color));
}
