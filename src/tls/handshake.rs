//! The handshake, from a client hello that has been read to a stream that speaks clear text.

use std::fmt;
use std::io;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Certificate;
use super::chosen::Showing;
use super::failure;
use super::policy::Policy;
use super::sha256;
use super::shake::{Shaken, shake};
use super::stream::TlsStream;
use crate::observe::Reason;
use crate::site::tls::MinVersion;
use crate::wheel::Came;

/// Longer names of subjects are cut: they go into one header field.
const SUBJECT_BYTES: usize = 1024;

/// What is known of a connection whose TLS ends here.
#[derive(Debug)]
pub struct Secure {
    /// The name it was opened for, normalised.
    pub name: Box<str>,
    pub version: MinVersion,
    pub policy: Arc<Policy>,
    /// What it may have been shown: for whose names it may ask.
    pub certificates: Arc<[Arc<Certificate>]>,
    /// Header lines that tell an app whose certificate the client showed. Empty: none.
    pub client: Box<[u8]>,
}

impl Secure {
    pub fn came(&self) -> Came {
        Came {
            version: self.version,
            policy: self.policy.number,
        }
    }

    /// Whether the client has been shown a certificate that is good for `host` (normalised).
    pub fn covers(&self, host: &str) -> bool {
        *self.name == *host
            || self
                .certificates
                .iter()
                .all(|certificate| certificate.covers(host))
    }
}

/// Why there is no TLS on a connection. Whoever was at the other end has been sent the alert.
#[derive(Debug)]
pub enum HandshakeError {
    /// The two do not agree, or one of them does not speak TLS. What is left of the connection is there for the alert: closed
    /// with bytes unread, it would be lost.
    Refused { why: rustls::Error, tcp: TcpStream },
    /// The connection broke.
    Broken(io::Error),
}

impl HandshakeError {
    /// What it is counted by.
    pub fn reason(&self) -> Reason {
        match self {
            HandshakeError::Refused { why, .. } => failure::reason(why),
            HandshakeError::Broken(_) => Reason::HandshakeAbandoned,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Refused { why, .. } => why.fmt(f),
            HandshakeError::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// Goes through with the handshake that `hello` began, whatever came behind it included.
///
/// # Errors
/// See [`HandshakeError`].
pub async fn shake_hands(
    hello: Box<[u8]>,
    stream: TcpStream,
    name: &str,
    policy: Arc<Policy>,
    certificates: Arc<[Arc<Certificate>]>,
) -> Result<(Box<TlsStream>, Secure), HandshakeError> {
    let config = Arc::clone(&policy.config);
    let connection = match UnbufferedServerConnection::new(config) {
        Ok(connection) => connection,
        Err(why) => return Err(HandshakeError::Refused { why, tcp: stream }),
    };
    let showing = Showing {
        certificates: Arc::clone(&certificates),
        connection,
    };
    let Shaken {
        stream,
        version,
        peer,
    } = shake(showing, stream, hello).await?;
    let secure = Secure {
        name: name.into(),
        version: match version {
            ProtocolVersion::TLSv1_3 => MinVersion::Tls13,
            _ => MinVersion::Tls12,
        },
        policy,
        certificates,
        client: peer.as_ref().map(client_fields).unwrap_or_default(),
    };
    Ok((Box::new(stream), secure))
}

/// X-Client-Cert is what ASP.NET Core's certificate forwarding reads; the others spare an app from parsing it.
pub const CLIENT_FIELDS: [&str; 4] = [
    "X-Client-Cert",
    "X-Client-Cert-Fingerprint",
    "X-Client-Cert-Subject",
    "X-Client-Cert-Serial",
];

fn client_fields(certificate: &CertificateDer<'_>) -> Box<[u8]> {
    let [whole, digest, owner, number] = CLIENT_FIELDS;
    let fingerprint = HEXLOWER.encode(&sha256(certificate));
    let mut text = format!(
        "{whole}: {}\r\n{digest}: {fingerprint}\r\n",
        BASE64.encode(certificate)
    );
    if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
        let subject: String = parsed
            .subject()
            .to_string()
            .chars()
            .map(|c| {
                if c == ' ' || c.is_ascii_graphic() {
                    c
                } else {
                    '?'
                }
            })
            .take(SUBJECT_BYTES)
            .collect();
        let serial = HEXLOWER.encode(parsed.raw_serial());
        text.push_str(&format!(
            "{owner}: {}\r\n{number}: {serial}\r\n",
            subject.trim()
        ));
    }
    text.into_bytes().into()
}
