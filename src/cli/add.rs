//! `onedoor add`: a site file written for somebody, and waited for.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::args::{Places, Serving};
use super::check::{self, Owners, Question};
use super::drop_in::{Before, Folder, refuse};
use super::said::Said;
use super::screen::Screen;
use super::{complain, print, run, wait};
use crate::reload::Until;

/// Ends as `wait` does when the file is written; 1 when it is not.
pub(super) fn add(
    places: &Places,
    host: &str,
    to: &[String],
    name: Option<String>,
    note: Option<String>,
    timeout: Duration,
    mut said: Said,
) -> ExitCode {
    let written = Folder::find(places).and_then(|folder| {
        let (site, file) = folder.file_of(name.as_deref().unwrap_or(&file_name(host)))?;
        if file.symlink_metadata().is_ok() {
            return Err(refuse(format_args!(
                "{} is there already; edit it, or `onedoor rm {site}{}` first",
                file.display(),
                places.flags()
            )));
        }
        let text = text(host, to, note.as_deref());
        check(places, &folder, site.as_str(), &file, &text, &mut said)?;
        // Somebody else may be adding it, too.
        folder.write(&file, &text, Before::Nothing)?;
        said.line(format_args!("wrote {}", file.display()));
        said.fact("wrote", file.to_string_lossy());
        Ok((folder, site))
    });
    let code = match written {
        Ok((folder, site)) => await_it(&folder, site.as_str(), timeout, &mut said),
        Err(code) => code,
    };
    said.end(code)
}

/// `*.shop.test` is no good name for a file.
fn file_name(host: &str) -> String {
    host.replacen("*.", "any.", 1)
}

fn text(host: &str, to: &[String], note: Option<&str>) -> String {
    // Every escape of JSON is one of TOML, too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let backend = |to: &String| match to.parse::<u16>() {
        Ok(port) => port.to_string(),
        Err(_) => quoted(to),
    };
    let backends: Vec<String> = to.iter().map(backend).collect();
    let backends = match backends.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let mut text = format!("host = {}\nto   = {backends}\n", quoted(host));
    if let Some(note) = note {
        text.push_str(&format!("note = {}\n", quoted(note)));
    }
    text
}

/// Before it is in the way of anything: what would be rejected is not written.
fn check(
    places: &Places,
    folder: &Folder,
    name: &str,
    file: &Path,
    text: &str,
    said: &mut Said,
) -> Result<(), ExitCode> {
    // By what holds for the daemon, if whoever asks may read it.
    let config = folder.config.clone();
    let config = config.filter(|config| fs::File::open(config).is_ok());
    let places = Places {
        config: config.or_else(|| places.config.clone()),
        ..places.clone()
    };
    let mut settings = run::settings(&places, Serving::default())?;
    settings.sites.clone_from(&folder.sites);
    let live = folder
        .daemon
        .as_ref()
        .and_then(|daemon| daemon.sites().ok());
    let live = live.map(|answer| Owners::of(&answer));
    let question = Question {
        path: Some(file),
        as_name: Some(name),
        strict: false,
        color: Screen::of_output().is_colored(),
        live: live.as_ref(),
    };
    let problems = check::text(&settings, &question, text);
    if problems.ok {
        return Ok(());
    }
    match said.is_for_programs() {
        true => said.answer(&problems.for_programs()),
        false => print(&problems.output),
    }
    Err(refuse("nothing is written"))
}

pub(super) fn await_it(
    folder: &Folder,
    name: &str,
    timeout: Duration,
    said: &mut Said,
) -> ExitCode {
    match &folder.daemon {
        Some(daemon) => wait::until(daemon, name, Until::Serving, timeout, said),
        None => {
            complain(folder.nobody_answers("serve it"));
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_somebody_would_write() {
        assert_eq!(
            text("shop.test", &["5000".into()], None),
            "host = \"shop.test\"\nto   = 5000\n"
        );
        assert_eq!(
            text("a\"b", &["5000".into(), "unix:/x".into()], Some("ask\nAnn")),
            "host = \"a\\\"b\"\nto   = [5000, \"unix:/x\"]\nnote = \"ask\\nAnn\"\n"
        );
        assert_eq!(file_name("*.shop.test"), "any.shop.test");
    }
}
