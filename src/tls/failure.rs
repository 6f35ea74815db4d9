//! Which of a few reasons a handshake that came to nothing is counted by: who has to do something about it.

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::client_fault::client_fault;
use crate::observe::Reason;
use crate::site::client_faults::ClientFault;

/// The reason for which a client was refused, or has refused us.
pub(super) fn reason(why: &Error) -> Reason {
    if let Some(fault) = client_fault(why) {
        return match fault {
            ClientFault::Missing => Reason::NoClientCertificate,
            _ => Reason::ClientCertificate,
        };
    }
    match why {
        Error::PeerIncompatible(what) => incompatible(what),
        Error::NoApplicationProtocol => Reason::HandshakeMismatch,
        Error::AlertReceived(alert) => told(*alert),
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidEncryptedClientHello(_)
        | Error::InvalidMessage(_)
        | Error::DecryptError
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord => Reason::HandshakeMalformed,
        _ => Reason::HandshakeFailed,
    }
}

fn incompatible(what: &PeerIncompatible) -> Reason {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => Reason::HandshakeVersion,
        _ => Reason::HandshakeMismatch,
    }
}

/// What a client means by an alert (RFC 8446 6.2).
fn told(alert: AlertDescription) -> Reason {
    use AlertDescription as Alert;
    match alert {
        Alert::CloseNotify | Alert::UserCanceled => Reason::HandshakeAbandoned,
        Alert::ProtocolVersion | Alert::InappropriateFallback => Reason::HandshakeVersion,
        Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::NoApplicationProtocol => {
            Reason::HandshakeMismatch
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::BadCertificateStatusResponse => Reason::CertificateRefused,
        _ => Reason::HandshakeFailed,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, InvalidMessage, PeerMisbehaved};

    use super::*;

    #[test]
    fn who_has_to_do_something_is_told_apart() {
        for (why, reason) in [
            (Error::NoCertificatesPresented, "no-client-certificate"),
            (CertificateError::Expired.into(), "client-certificate"),
            (
                PeerIncompatible::Tls12NotOfferedOrEnabled.into(),
                "handshake-version",
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                "handshake-mismatch",
            ),
            (Error::NoApplicationProtocol, "handshake-mismatch"),
            (
                PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into(),
                "handshake-malformed",
            ),
            (InvalidMessage::InvalidCcs.into(), "handshake-malformed"),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "certificate-refused",
            ),
            (
                Error::AlertReceived(AlertDescription::UserCanceled),
                "handshake-abandoned",
            ),
            (
                Error::AlertReceived(AlertDescription::InternalError),
                "handshake-failed",
            ),
            (Error::FailedToGetRandomBytes, "handshake-failed"),
        ] {
            assert_eq!(super::reason(&why).code(), reason, "{why}");
        }
    }
}
