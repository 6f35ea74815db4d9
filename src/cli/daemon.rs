//! Finds the running daemon: by its socket, else by its state directory.

use std::path::Path;
use std::process::ExitCode;

use super::args::Places;
use super::{FAILED, NO_DAEMON, complain};
use crate::admin::client::{Client, ClientError};
use crate::settings::{self, ADMIN_SOCKET, Overrides, Settings};

/// The daemon that these places belong to; it need not be running.
///
/// # Errors
/// The exit code, after the reason was printed.
pub(super) fn find(places: &Places) -> Result<Client, ExitCode> {
    // A socket that is named needs no daemon file, which may be broken just now.
    if let Some(socket) = &places.admin {
        return Ok(Client::new(socket));
    }
    // Nor does a state directory that is named, unless the file puts the socket elsewhere.
    if let Some(state) = &places.state
        && let socket = state.join(ADMIN_SOCKET)
        && socket.exists()
    {
        return Ok(Client::new(&socket));
    }
    let nothing_else = super::args::Serving::default;
    match super::run::settings(places, nothing_else()) {
        Ok(settings) => Ok(of_the_system(places, &settings)
            .unwrap_or_else(|| Client::new(&settings.admin_socket()))),
        Err(code) => {
            let overrides = super::run::overrides(places, nothing_else());
            of_broken_file(places, overrides).ok_or(code)
        }
    }
}

/// The daemon whose state directory systemd named (`StateDirectory=onedoor`), which commands in a shell are not told. It is
/// the one that is meant where it has the daemon file that is, or where there is nothing else here that could be meant.
fn of_the_system(places: &Places, settings: &Settings) -> Option<Client> {
    if settings.admin_socket().exists() || places.sites.is_some() || places.state.is_some() {
        return None;
    }
    let socket = Path::new(STATE_OF_THE_SYSTEM).join(ADMIN_SOCKET);
    let daemon = socket.exists().then(|| Client::new(&socket))?;
    match &settings.config {
        None => (places.is_silent() && !settings.sites.exists()).then_some(daemon),
        Some(config) => {
            let status = daemon.status().ok()?;
            let theirs = Path::new(status["config"].as_str()?).canonicalize().ok()?;
            (config.canonicalize().ok()? == theirs).then_some(daemon)
        }
    }
}

/// What `StateDirectory=onedoor` of a unit makes.
const STATE_OF_THE_SYSTEM: &str = "/var/lib/onedoor";

/// A running daemon has the settings of before, and answers all the same.
fn of_broken_file(places: &Places, overrides: Overrides) -> Option<Client> {
    match settings::socket_all_the_same(places.config.as_deref(), overrides) {
        Some(socket) => {
            complain(format_args!(
                "the daemon file cannot be used; the daemon at {} answers, with the settings of before",
                socket.display()
            ));
            Some(Client::new(&socket))
        }
        None => {
            complain(
                "the daemon file cannot be used, and does not say for sure where its daemon is: name its socket with \
                 --admin or its state directory with --state",
            );
            None
        }
    }
}

/// Says why there was no answer, and with which code to end.
pub(super) fn explain(error: &ClientError) -> ExitCode {
    complain(error);
    ExitCode::from(match error {
        ClientError::NotRunning { .. }
        | ClientError::NotAllowed { .. }
        | ClientError::TooSlow { .. }
        | ClientError::Broken { .. } => NO_DAEMON,
        ClientError::Refused { .. } => FAILED,
    })
}
