//! What both sides of a connection have agreed on, once they have shaken hands: clear text to records and back, new
//! keys, alerts, the end. No I/O.
//!
//! Everything a peer may send that is not clear text costs work and brings nothing, and so there is little of it
//! (CASES T-51).

use std::fmt;
use std::time::Instant;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

use self::allowance::Allowance;
use super::record::{self, CLEAR_BYTES, Clear, Keys};

mod allowance;
#[cfg(test)]
pub(super) mod tests;
mod told;

/// What an alert takes, sealed, and more than new keys do.
pub const ALERT_BYTES: usize = 64;

/// See the module.
pub struct Session {
    schedule: Schedule,
    version: ProtocolVersion,
    sealing: Keys,
    opening: Keys,
    /// Records that may be sealed with the same keys (RFC 8446 5.5).
    most_records: u64,
    /// A handshake message that goes on in the next record.
    message: Vec<u8>,
    /// What must be said before the next clear text.
    due: Due,
    idle_talk: Allowance,
    has_renegotiated: bool,
    peer_has_ended: bool,
    is_over: bool,
    /// What came was not as it should. Nothing is opened any more.
    failed: Option<Error>,
}

/// The part that stays with the library: keys that follow from keys, and tickets of servers.
pub enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

#[derive(Debug, Default)]
struct Due {
    new_keys: bool,
    no_renegotiation: bool,
}

/// What came of [`Session::open`].
#[derive(Debug, Default)]
pub struct Opened {
    /// Sealed bytes that have been used.
    pub sealed: usize,
    /// Clear bytes that have come of it.
    pub clear: usize,
    /// What comes behind those is not as it should.
    pub error: Option<Error>,
}

impl Session {
    /// # Errors
    /// For a cipher that is not known here.
    pub fn new(schedule: Schedule, secrets: ExtractedSecrets) -> Result<Session, Error> {
        let (version, suite) = match &schedule {
            Schedule::Client(kernel) => {
                (kernel.protocol_version(), kernel.negotiated_cipher_suite())
            }
            Schedule::Server(kernel) => {
                (kernel.protocol_version(), kernel.negotiated_cipher_suite())
            }
        };
        let most_records = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Ok(Session {
            schedule,
            version,
            sealing: Keys::new(version, secrets.tx)?,
            opening: Keys::new(version, secrets.rx)?,
            most_records,
            message: Vec::new(),
            due: Due::default(),
            idle_talk: Allowance::default(),
            has_renegotiated: false,
            peer_has_ended: false,
            is_over: false,
            failed: None,
        })
    }

    /// Whether this side began the handshake.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.schedule, Schedule::Client(_))
    }

    /// Whether the other side has said that nothing more comes.
    pub fn peer_has_ended(&self) -> bool {
        self.peer_has_ended
    }

    /// Whether this side has said so.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What was not as it should, of all that came.
    pub fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Whether `sealed` begins with a whole record, or with what will never be one.
    pub fn can_open(sealed: &[u8]) -> bool {
        !matches!(record::whole(sealed), Ok(None))
    }

    /// Seals as much of `clear` as finds room in `out`. Returns how many bytes that is of each.
    ///
    /// # Errors
    /// When the keys are used up, or this side has ended.
    pub fn seal(&mut self, clear: &[u8], out: &mut [u8]) -> Result<(usize, usize), Error> {
        if self.is_over || self.failed.is_some() {
            return Err(Error::EncryptError);
        }
        let (mut taken, mut at) = (0, 0);
        while taken < clear.len() {
            let apart = self.sealing.sealed_bytes(0) + 2 * ALERT_BYTES;
            let room = out.len().saturating_sub(at + apart);
            let count = (clear.len() - taken).min(CLEAR_BYTES).min(room);
            if count == 0 {
                break;
            }
            self.say_what_is_due(out, &mut at)?;
            let part = &clear[taken..taken + count];
            at += self
                .sealing
                .seal(ContentType::ApplicationData, part, &mut out[at..])?;
            taken += count;
        }
        Ok((taken, at))
    }

    /// The last thing that is said. Returns how many bytes of `out` it takes.
    pub fn end(&mut self, alert: AlertDescription, out: &mut [u8; ALERT_BYTES]) -> usize {
        if std::mem::replace(&mut self.is_over, true) {
            return 0;
        }
        let level = match alert {
            AlertDescription::CloseNotify => 1,
            _ => 2,
        };
        let alert = [level, alert.into()];
        // Nobody can be told that there is nothing left to tell it with.
        self.sealing
            .seal(ContentType::Alert, &alert, out)
            .unwrap_or(0)
    }

    fn say_what_is_due(&mut self, out: &mut [u8], at: &mut usize) -> Result<(), Error> {
        if std::mem::take(&mut self.due.no_renegotiation) {
            let alert = [1, AlertDescription::NoRenegotiation.into()];
            *at += self
                .sealing
                .seal(ContentType::Alert, &alert, &mut out[*at..])?;
        }
        let are_used_up = self.sealing.used().saturating_add(1) >= self.most_records;
        if self.due.new_keys || are_used_up {
            self.due.new_keys = false;
            // RFC 8446 4.6.3: update_not_requested. With TLS 1.2 there are no new keys, and this is an error.
            let update = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
            let next = match &mut self.schedule {
                Schedule::Client(kernel) => kernel.update_tx_secret(),
                Schedule::Server(kernel) => kernel.update_tx_secret(),
            }?;
            *at += self
                .sealing
                .seal(ContentType::Handshake, &update, &mut out[*at..])?;
            self.sealing = Keys::new(self.version, next)?;
        }
        Ok(())
    }

    /// Opens the records that `sealed` begins with, into `to`. What `to` has no room for goes behind `rest`, of one
    /// record at most. Stops where more must come, where there is no more room, and at the end. Behind an error nothing
    /// is opened.
    pub fn open(&mut self, sealed: &mut [u8], to: &mut [u8], rest: &mut Vec<u8>) -> Opened {
        let mut opened = Opened {
            error: self.failed.clone(),
            ..Opened::default()
        };
        if opened.error.is_some() {
            return opened;
        }
        while !self.peer_has_ended && opened.clear < to.len() {
            match self.open_one(&mut sealed[opened.sealed..], &mut to[opened.clear..], rest) {
                Ok(None) => return opened,
                Ok(Some((count, clear))) => {
                    opened.sealed += count;
                    opened.clear += clear;
                }
                Err(error) => {
                    // RFC 8446 6.2: whoever gets a fatal alert says nothing any more either.
                    self.is_over |= matches!(error, Error::AlertReceived(_));
                    self.failed = Some(error.clone());
                    opened.error = Some(error);
                    return opened;
                }
            }
        }
        if self.peer_has_ended {
            // RFC 8446 6.1: what comes behind is ignored.
            opened.sealed = sealed.len();
        }
        opened
    }

    fn open_one(
        &mut self,
        sealed: &mut [u8],
        to: &mut [u8],
        rest: &mut Vec<u8>,
    ) -> Result<Option<(usize, usize)>, Error> {
        let Some(count) = record::whole(sealed)? else {
            return Ok(None);
        };
        let record = &mut sealed[..count];
        let (kind, clear) = self.opening.open(record, to)?;
        // RFC 8446 5.1
        if kind != ContentType::Handshake && !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if kind != ContentType::ApplicationData {
            let bytes = match clear {
                Clear::There(length) => &to[..length],
                Clear::Here(range) => &record[range],
            };
            self.told(kind, bytes)?;
            return Ok(Some((count, 0)));
        }
        let length = match clear {
            Clear::There(length) => length,
            Clear::Here(range) => {
                let clear = &record[range];
                let length = clear.len().min(to.len());
                to[..length].copy_from_slice(&clear[..length]);
                rest.extend_from_slice(&clear[length..]);
                length
            }
        };
        if length == 0 && !self.idle_talk.take(Instant::now()) {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(Some((count, length)))
    }
}

/// What to tell a peer that has made `error` necessary. `None`: it knows.
pub fn alert_for(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::AlertReceived(_) => return None,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
            AlertDescription::IllegalParameter
        }
        // RFC 8446 5 and 5.4
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::InvalidEmptyPayload,
        ) => AlertDescription::UnexpectedMessage,
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => {
            AlertDescription::ProtocolVersion
        }
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::EncryptError | Error::General(_) => AlertDescription::InternalError,
        _ => AlertDescription::UnexpectedMessage,
    })
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schedule::Client(_) => "Client",
            Schedule::Server(_) => "Server",
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.version)
            .field("is_client", &self.is_client())
            .field("peer_has_ended", &self.peer_has_ended)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
