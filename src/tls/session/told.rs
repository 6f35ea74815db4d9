//! What a peer says beside clear text: alerts, new keys, tickets, and what it must not say.

use std::time::Instant;

use rustls::{
    AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved,
    ProtocolVersion,
};

use super::{Schedule, Session};
use crate::tls::record::Keys;

/// A session ticket with what comes with it. As the library has it.
const TICKET_BYTES: usize = 64 << 10;
/// A client hello that begins anew, to be told that it does not: as much as one that begins may have (`[limit] hello`).
const HELLO_BYTES: usize = 16 << 10;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;

impl Session {
    /// Something has come that is not for the reader.
    pub(super) fn told(&mut self, kind: ContentType, bytes: &[u8]) -> Result<(), Error> {
        match kind {
            // RFC 8446 5.4, RFC 5246 6.2.1: there are no empty pieces of these.
            ContentType::Alert | ContentType::Handshake if bytes.is_empty() => {
                Err(Error::InvalidMessage(InvalidMessage::InvalidEmptyPayload))
            }
            ContentType::Alert => self.alert(bytes),
            ContentType::Handshake => {
                self.message.extend_from_slice(bytes);
                self.messages()
            }
            other => Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData, ContentType::Handshake],
                got_type: other,
            }),
        }
    }

    fn alert(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let &[level, alert] = bytes else {
            return Err(Error::InvalidMessage(InvalidMessage::MissingData("alert")));
        };
        let alert = AlertDescription::from(alert);
        match (level, alert) {
            (0 | 3.., _) => {
                let why = InvalidMessage::UnexpectedMessage("an alert of no level");
                return Err(Error::InvalidMessage(why));
            }
            (_, AlertDescription::CloseNotify) => self.peer_has_ended = true,
            // The one warning of TLS 1.3 that means nothing; in TLS 1.2 they all do.
            (1, AlertDescription::UserCanceled) => self.bear_with_warning()?,
            (1, _) if self.version != ProtocolVersion::TLSv1_3 => self.bear_with_warning()?,
            _ => return Err(Error::AlertReceived(alert)),
        }
        Ok(())
    }

    fn bear_with_warning(&mut self) -> Result<(), Error> {
        match self.idle_talk.take(Instant::now()) {
            true => Ok(()),
            false => Err(PeerMisbehaved::TooManyWarningAlertsReceived.into()),
        }
    }

    /// Does what the handshake messages say that have come whole.
    fn messages(&mut self) -> Result<(), Error> {
        while let Some(&[kind, high, middle, low]) = self.message.first_chunk::<MESSAGE_HEADER>() {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let kind = HandshakeType::from(kind);
            // Known by its header, and so refused before anything is kept of it.
            let (least, most) = self.expected(kind)?;
            if length < least {
                return Err(Error::InvalidMessage(InvalidMessage::MessageTooShort));
            }
            if length > most {
                return Err(Error::InvalidMessage(InvalidMessage::MessageTooLarge));
            }
            let end = MESSAGE_HEADER + length;
            if self.message.len() < end {
                return Ok(());
            }
            if !self.idle_talk.take(Instant::now()) {
                return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
            }
            let rest = self.message.split_off(end);
            let message = std::mem::replace(&mut self.message, rest);
            self.message(kind, &message[MESSAGE_HEADER..])?;
        }
        Ok(())
    }

    /// How long such a message may be, at least and at most.
    fn expected(&self, kind: HandshakeType) -> Result<(usize, usize), Error> {
        let is_13 = self.version == ProtocolVersion::TLSv1_3;
        match (&self.schedule, kind) {
            (_, HandshakeType::KeyUpdate) if is_13 => Ok((1, 1)),
            (Schedule::Client(_), HandshakeType::NewSessionTicket) if is_13 => {
                Ok((0, TICKET_BYTES))
            }
            // Once more from the beginning: no (CASES T-50).
            (Schedule::Client(_), HandshakeType::HelloRequest) if !is_13 => Ok((0, 0)),
            (Schedule::Server(_), HandshakeType::ClientHello) if !is_13 => Ok((0, HELLO_BYTES)),
            _ => Err(Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::KeyUpdate],
                got_type: kind,
            }),
        }
    }

    fn message(&mut self, kind: HandshakeType, payload: &[u8]) -> Result<(), Error> {
        match kind {
            HandshakeType::KeyUpdate => self.new_keys(payload),
            HandshakeType::NewSessionTicket => match &mut self.schedule {
                Schedule::Client(kernel) => kernel.handle_new_session_ticket(payload),
                Schedule::Server(_) => Ok(()),
            },
            _ if std::mem::replace(&mut self.has_renegotiated, true) => {
                Err(PeerMisbehaved::TooManyRenegotiationRequests.into())
            }
            _ => {
                self.due.no_renegotiation = true;
                Ok(())
            }
        }
    }

    /// RFC 8446 4.6.3
    fn new_keys(&mut self, payload: &[u8]) -> Result<(), Error> {
        // 5.1: no message goes across the change.
        if !self.message.is_empty() {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        self.due.new_keys |= match payload {
            [0] => false,
            [1] => true,
            _ => return Err(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate)),
        };
        let next = match &mut self.schedule {
            Schedule::Client(kernel) => kernel.update_rx_secret(),
            Schedule::Server(kernel) => kernel.update_rx_secret(),
        }?;
        self.opening = Keys::new(self.version, next)?;
        Ok(())
    }
}
