//! Finds the running daemon: by its socket, else by its state directory.

use std::process::ExitCode;

use super::args::Places;
use super::{FAILED, NO_DAEMON, complain};
use crate::admin::client::{Client, ClientError};
use crate::settings::ADMIN_SOCKET;

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
    let settings = super::run::settings(places, super::args::Serving::default())?;
    Ok(Client::new(&settings.admin_socket()))
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
