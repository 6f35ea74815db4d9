//! What a failed handshake says about the certificate of the client.

use rustls::{CertificateError, Error};

use crate::site::client_faults::ClientFault;

/// What `why` finds wrong with the certificate of a client. `None`: it is about something else.
pub fn client_fault(why: &Error) -> Option<ClientFault> {
    use CertificateError as Wrong;
    let wrong = match why {
        Error::NoCertificatesPresented => return Some(ClientFault::Missing),
        Error::InvalidCertificate(wrong) => wrong,
        _ => return None,
    };
    Some(match wrong {
        Wrong::UnknownIssuer => ClientFault::UnknownIssuer,
        Wrong::Expired
        | Wrong::ExpiredContext { .. }
        | Wrong::NotValidYet
        | Wrong::NotValidYetContext { .. } => ClientFault::OutOfTime,
        Wrong::Revoked => ClientFault::Revoked,
        Wrong::UnknownRevocationStatus
        | Wrong::ExpiredRevocationList
        | Wrong::ExpiredRevocationListContext { .. } => ClientFault::Unlisted,
        _ => ClientFault::Unfit,
    })
}
