//! The handshake with a backend, and what to say when it comes to nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};
use tokio::net::TcpStream;

use super::handshake::HandshakeError;
use super::identity::Identity;
use super::shake::shake;
use super::stream::TlsStream;

/// Shakes hands with a backend that has accepted; it may choose HTTP/2 if that is offered. Has no limit of its own.
///
/// # Errors
/// What is wrong with it, for a person, as something that `backend` does or shows.
pub async fn connect(
    identity: &Identity,
    stream: TcpStream,
    backend: &dyn std::fmt::Display,
    offers_http2: bool,
) -> Result<Box<TlsStream>, String> {
    let config = if offers_http2 {
        &identity.config
    } else {
        &identity.http1
    };
    let config = Arc::clone(config);
    let shaken = match UnbufferedClientConnection::new(config, identity.name.clone()) {
        Ok(connection) => shake(connection, stream, Box::default()).await,
        Err(why) => Err(HandshakeError::Refused { why, tcp: stream }),
    };
    match shaken {
        Ok(shaken) => Ok(Box::new(shaken.stream)),
        Err(HandshakeError::Refused { why, .. }) => Err(about(&why, backend)),
        Err(HandshakeError::Broken(error)) => Err(match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                format!(
                    "{backend} closed the connection during the TLS handshake; does it speak TLS?"
                )
            }
            _ => format!("the TLS handshake with {backend} broke off: {error}"),
        }),
    }
}

/// What TLS has against what came from `backend`. `None`: `error` is none of TLS.
pub fn complaint(error: &io::Error, backend: &dyn std::fmt::Display) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(about(error, backend))
}

fn about(error: &Error, backend: &dyn std::fmt::Display) -> String {
    match error {
        Error::InvalidCertificate(wrong) => format!("the certificate of {backend} {}", of(wrong)),
        Error::InvalidMessage(_) => format!("{backend} does not speak TLS; is it http://?"),
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => format!(
            "{backend} broke off TLS ({error}); if it asks for a client certificate, \"cert\" and \"key\" name it"
        ),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            format!("{backend} knows no such name; \"server_name\" says another")
        }
        error => format!("TLS with {backend} failed: {error}"),
    }
}

fn of(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let presented: Vec<String> = presented.iter().map(|name| plain(name)).collect();
            let names = match presented.is_empty() {
                true => "no name at all".to_owned(),
                false => presented.join(", "),
            };
            format!("is for {names}, not {}", expected.to_str())
        }
        CertificateError::UnknownIssuer => {
            "is by no authority that is trusted for it; \"ca\" names one".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("ended {} ago", span(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("begins in {}", span(*time, *not_before))
        }
        // The library has no name of its own for it, and it is what `openssl req -x509` makes.
        error if error.to_string().contains("CaUsedAsEndEntity") => {
            "is an authority's own (CA:TRUE) and not a server's; sign one with it, or make it anew with -addext basicConstraints=critical,CA:FALSE".to_owned()
        }
        error => format!("is refused: {error}"),
    }
}

/// The library tells names as `DnsName("a.test")`.
fn plain(name: &str) -> String {
    let inside = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"').to_owned()
}

fn span(from: UnixTime, to: UnixTime) -> String {
    let span = Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()));
    match (span.as_secs() / 86_400, span.as_secs() / 3600) {
        (0, hours) => format!("{hours} hours"),
        (days, _) => format!("{days} days"),
    }
}
