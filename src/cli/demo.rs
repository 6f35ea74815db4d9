//! `onedoor demo`: the server on example sites, with small built-in apps behind them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::args::{Places, Serving};
use super::demo_apps::{self, App};
use super::{FAILED, complain, print, run};
use crate::settings::Overrides;

const BLUE: &str = include_str!("../../sites.d/blue.localhost.toml");
const GREEN: &str = include_str!("../../sites.d/green.localhost.toml");
/// Not an app but what onedoor tells of itself.
const PAGE: &str = include_str!("../../sites.d/localhost.toml");

/// How long Ctrl-C waits for open pages.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves like `run`. 1 when a port of an app is taken, too.
pub(super) fn demo(places: &Places, serving: Serving) -> ExitCode {
    let sites = folder(places);
    let (apps, page_port) = match prepare(&sites) {
        Ok(prepared) => prepared,
        Err(error) => return failed(format_args!("{}: {error}", sites.display())),
    };
    if let Err((app, error)) = demo_apps::start(&apps) {
        let taken = taken(&error);
        return failed(format_args!(
            "the {} app cannot have port {}: {taken}; free it, or write another one into {}",
            app.name,
            app.port,
            file(&sites, app.name).display()
        ));
    }
    let places = Places {
        sites: Some(sites.clone()),
        ..places.clone()
    };
    let overrides = Overrides {
        // The demo's own pages hold streams open that never end; nobody wants to wait for them.
        drain_at_most: Some(DRAIN),
        ..run::overrides(&places, serving)
    };
    match run::load(&places, overrides) {
        Ok(mut settings) => {
            if settings.admin_listen.is_none() {
                settings.admin_listen = match page_address(&sites, page_port) {
                    Ok(address) => address,
                    Err(code) => return code,
                };
                // As a flag does: a reload does not take it for what the daemon file said before.
                settings.overrides.admin_listen =
                    settings.admin_listen.map(|address| address.to_string());
            }
            settings.page_is_an_app = true;
            print(&welcome(
                &sites,
                &settings.state,
                settings
                    .listen
                    .first()
                    .map_or(8080, |address| address.port()),
                settings
                    .admin_listen
                    .is_some_and(|at| Some(at.port()) == page_port),
            ));
            crate::server::run(settings)
        }
        Err(code) => code,
    }
}

/// The folder that was named; in a checkout its own; elsewhere a new one.
fn folder(places: &Places) -> PathBuf {
    let shipped = Path::new("sites.d");
    match &places.sites {
        Some(sites) => sites.clone(),
        None if file(shipped, "blue").is_file() => shipped.to_path_buf(),
        None => PathBuf::from("onedoor-demo/sites.d"),
    }
}

/// Writes the site files that are missing, and reads from all which port their app has; the page's last.
fn prepare(sites: &Path) -> io::Result<(Vec<App>, Option<u16>)> {
    fs::create_dir_all(sites)?;
    let page = page_file(sites);
    let mut apps = Vec::new();
    for (path, text) in [
        (file(sites, "blue"), BLUE),
        (file(sites, "green"), GREEN),
        (page.clone(), PAGE),
    ] {
        if !path.exists() {
            fs::write(&path, without_schema(text))?;
        }
    }
    for (name, color) in [("blue", "#2563eb"), ("green", "#15803d")] {
        let path = file(sites, name);
        // A file that somebody made wrong, or points elsewhere, has no demo app; the server says what it makes of it.
        if let Some(port) = port(&fs::read_to_string(&path)?) {
            apps.push(App { name, color, port });
        }
    }
    Ok((apps, port(&fs::read_to_string(&page)?)))
}

/// Only the checkout has the schema where the shipped files look for it.
fn without_schema(text: &str) -> &str {
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("#:schema") => rest,
        _ => text,
    }
}

fn file(sites: &Path, name: &str) -> PathBuf {
    sites.join(format!("{name}.localhost.toml"))
}

fn page_file(sites: &Path) -> PathBuf {
    sites.join("localhost.toml")
}

fn port(text: &str) -> Option<u16> {
    let table: toml::Table = toml::from_str(text).ok()?;
    u16::try_from(table.get("to")?.as_integer()?).ok()
}

fn welcome(sites: &Path, state: &Path, port: u16, has_page: bool) -> String {
    // With sudo it would look for the state of another user, and perhaps for another program.
    let program = std::env::current_exe().unwrap_or_else(|_| "onedoor".into());
    let (program, state) = (program.display(), state.display());
    let look = if sites == Path::new("sites.d") {
        "onedoor ls".to_string()
    } else {
        format!("onedoor ls --sites {}", sites.display())
    };
    let sites = sites.display();
    let port = match port {
        0 => ":PORT (the one below)".to_string(),
        80 => String::new(),
        other => format!(":{other}"),
    };
    let page = match has_page {
        true => format!("What onedoor makes of all this: http://localhost{port}/\n\n"),
        false => String::new(),
    };
    format!(
        "Two apps behind one port. Open them side by side:\n\n    \
         http://blue.localhost{port}/\n    http://green.localhost{port}/\n\n\
         Then, while this runs, add a third site from another terminal:\n\n    \
         echo 'respond = \"hello from a file\"' > {sites}/red.localhost.toml\n\n\
         It is live at http://red.localhost{port}/ a moment later. Break the file, mend it,\n\
         remove it; `{look}` shows what becomes of it. Ctrl-C ends.\n\n\
         {page}\
         The same port speaks TLS. https://blue.localhost{port}/ opens without a warning after\n\n    \
         sudo {program} trust --state {state}\n\n"
    )
}

/// Where the page is, which the site of that file leads to. `None`: the file leads elsewhere.
fn page_address(sites: &Path, port: Option<u16>) -> Result<Option<SocketAddr>, ExitCode> {
    let Some(port) = port else {
        return Ok(None);
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(address) {
        Ok(_) => Ok(Some(address)),
        Err(error) => Err(failed(format_args!(
            "the page cannot have port {port}: {}; free it, or write another one into {}",
            taken(&error),
            page_file(sites).display()
        ))),
    }
}

fn taken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "in use, perhaps by another demo".to_string(),
        _ => error.to_string(),
    }
}

fn failed(message: std::fmt::Arguments<'_>) -> ExitCode {
    complain(message);
    ExitCode::from(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_files_name_the_ports_of_the_apps() {
        let ports = [BLUE, GREEN, PAGE].map(port);
        assert_eq!(ports, [Some(7071), Some(7072), Some(7070)]);
    }

    #[test]
    fn a_file_that_points_elsewhere_has_no_app() {
        assert_eq!(port("to = 'unix:/run/x.sock'"), None);
        assert_eq!(port("to = "), None);
    }
}
