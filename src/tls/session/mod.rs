//! What both sides of a connection have agreed on, once they have shaken hands: clear text to records and back, alerts,
//! the end. No I/O, and hardly a buffer: the library works on the bytes that it is shown.
//!
//! It is shown one record at a time, so that there is never more clear text than somebody has asked for, and a record.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, InvalidMessage};

use super::record::{self, CLEAR_BYTES};

#[cfg(test)]
mod forge;
#[cfg(test)]
pub(super) mod tests;

/// What is said beside clear text, at most: new keys, an alert, each in a record of its own.
pub(super) const BESIDE_BYTES: usize = 256;
/// What a record has more than its clear text: its header, half of a nonce (TLS 1.2) or the type, and the tag.
const AROUND_BYTES: usize = 5 + 8 + 16;

/// What a client may have us hold of a message in pieces. Behind the handshake it has nothing to say that takes more than
/// five bytes; a backend has tickets.
const PIECES_BYTES: usize = 4 << 10;

/// See the module.
pub(super) struct Session {
    side: Side,
    /// Bytes at the front of what has come that the library has seen and still needs: pieces of a message.
    seen: usize,
    /// Records that must go out before the next clear text.
    due: Vec<u8>,
    /// What came was not as it should: the library has an alert to say, perhaps, and must be shown nothing more.
    has_failed: bool,
    peer_has_ended: bool,
    is_over: bool,
}

/// Boxed, because a connection is moved more often than it is made.
pub(super) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What came of [`Session::open`].
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Sealed bytes that have been used.
    pub(super) sealed: usize,
    /// Clear bytes that have come of it.
    pub(super) clear: usize,
    /// What comes behind those is not as it should.
    pub(super) error: Option<Error>,
}

/// Where the clear text of a record goes.
struct Clear<'a> {
    to: &'a mut [u8],
    rest: &'a mut Vec<u8>,
    count: usize,
}

/// What is to be said.
enum Say<'a> {
    /// No more than a record of it.
    Text(&'a [u8]),
    /// That there is no more, or what is wrong.
    End,
}

/// What came of showing a record to the library.
enum Shown {
    /// It was clear text.
    Text,
    /// It was, or led to, something beside: show what is left of it again.
    Beside,
    /// More must come.
    Nothing,
    End,
}

impl Session {
    pub(super) fn new(side: Side) -> Session {
        Session {
            side,
            seen: 0,
            due: Vec::new(),
            has_failed: false,
            peer_has_ended: false,
            is_over: false,
        }
    }

    /// Whether this side began the handshake.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    /// Whether the other side has said that nothing more comes.
    pub(super) fn peer_has_ended(&self) -> bool {
        self.peer_has_ended
    }

    /// Whether this side has said so.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether there is a whole record in `sealed` that the library has not seen, or what will never be one.
    pub(super) fn can_open(&self, sealed: &[u8]) -> bool {
        sealed
            .get(self.seen..)
            .is_some_and(|fresh| record::whole(fresh).is_some())
    }

    /// Opens the records that `sealed` begins with, into `to`. What `to` has no room for goes behind `rest`, of one
    /// record at most. Stops where more must come, where there is no more room, and at the end; behind an error nothing is
    /// opened any more.
    pub(super) fn open(&mut self, sealed: &mut [u8], to: &mut [u8], rest: &mut Vec<u8>) -> Opened {
        let mut opened = Opened::default();
        while !self.has_failed && !self.peer_has_ended && opened.clear < to.len() {
            let came = &mut sealed[opened.sealed..];
            let Some(count) = came.get(self.seen..).and_then(record::whole) else {
                return opened;
            };
            self.seen += count;
            let mut clear = Clear {
                to: &mut to[opened.clear..],
                rest,
                count: 0,
            };
            let shown = self.show(came, &mut clear, &mut opened.sealed);
            opened.clear += clear.count;
            let shown = shown.and_then(|()| match self.seen > PIECES_BYTES && !self.is_client() {
                true => Err(InvalidMessage::HandshakePayloadTooLarge.into()),
                false => Ok(()),
            });
            if let Err(error) = shown {
                self.has_failed = true;
                opened.error = Some(error);
                return opened;
            }
        }
        if self.peer_has_ended {
            // RFC 8446 6.1: what comes behind is ignored.
            opened.sealed = sealed.len();
            self.seen = 0;
        }
        opened
    }

    /// Shows the library what it has to see of `came` until it has done everything about it.
    fn show(
        &mut self,
        came: &mut [u8],
        clear: &mut Clear<'_>,
        used: &mut usize,
    ) -> Result<(), Error> {
        let mut done = 0;
        loop {
            let came = &mut came[done..done + self.seen];
            let (count, shown) = match &mut self.side {
                Side::Client(side) => shown(side.process_tls_records(came), clear, &mut self.due),
                Side::Server(side) => shown(side.process_tls_records(came), clear, &mut self.due),
            };
            done += count;
            *used += count;
            self.seen = self.seen.saturating_sub(count);
            match shown? {
                // Usually it was all there was.
                Shown::Text if self.seen == 0 => return Ok(()),
                Shown::Text | Shown::Beside => {}
                Shown::Nothing => return Ok(()),
                Shown::End => {
                    self.peer_has_ended = true;
                    return Ok(());
                }
            }
        }
    }

    /// Seals as much of `clear` as finds room in `out`. Returns how many bytes that is of each. `sealed`: what has
    /// come and is not opened.
    ///
    /// # Errors
    /// When the keys are used up, or this side has ended.
    pub(super) fn seal(
        &mut self,
        clear: &[u8],
        out: &mut [u8],
        sealed: &mut [u8],
    ) -> Result<(usize, usize), Error> {
        if self.is_over || self.has_failed {
            return Err(Error::EncryptError);
        }
        let (mut taken, mut at) = (0, self.put_due(out)?);
        while taken < clear.len() {
            let room = out.len().saturating_sub(at + AROUND_BYTES + BESIDE_BYTES);
            let count = (clear.len() - taken).min(CLEAR_BYTES).min(room);
            if count == 0 {
                break;
            }
            let (part, out) = (&clear[taken..taken + count], &mut out[at..]);
            at += self.say(Say::Text(part), out, sealed)?;
            taken += count;
        }
        Ok((taken, at))
    }

    /// The last thing that is said: that this is the end, or what is wrong. Returns how many bytes of `out` it takes.
    pub(super) fn end(&mut self, out: &mut [u8; BESIDE_BYTES], sealed: &mut [u8]) -> usize {
        if std::mem::replace(&mut self.is_over, true) {
            return 0;
        }
        // Nobody can be told that there is nothing left to tell it with.
        let at = self.put_due(out).unwrap_or(0);
        at + self.say(Say::End, &mut out[at..], sealed).unwrap_or(0)
    }

    /// What the library has to say comes first, and then `what`.
    fn say(&mut self, what: Say<'_>, out: &mut [u8], sealed: &mut [u8]) -> Result<usize, Error> {
        let seen = sealed.get_mut(..self.seen).unwrap_or_default();
        let mut at = 0;
        while !self.has_failed || self.wants_to_say_something() {
            let (seen, out) = (&mut *seen, &mut out[at..]);
            let (count, is_said) = match &mut self.side {
                Side::Client(side) => said(side.process_tls_records(seen), &what, out),
                Side::Server(side) => said(side.process_tls_records(seen), &what, out),
            }?;
            at += count;
            if is_said {
                break;
            }
        }
        Ok(at)
    }

    fn wants_to_say_something(&self) -> bool {
        match &self.side {
            Side::Client(side) => side.wants_write(),
            Side::Server(side) => side.wants_write(),
        }
    }

    fn put_due(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if self.due.is_empty() {
            return Ok(0);
        }
        let due = std::mem::take(&mut self.due);
        let front = out.get_mut(..due.len()).ok_or(Error::EncryptError)?;
        front.copy_from_slice(&due);
        Ok(due.len())
    }
}

/// One step of reading. Returns how many bytes are done with, and what came of it.
fn shown<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    clear: &mut Clear<'_>,
    due: &mut Vec<u8>,
) -> (usize, Result<Shown, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let shown = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut text) => {
            while let Some(record) = text.next_record() {
                let record = record?;
                discard += record.discard;
                clear.put(record.payload);
            }
            Ok(Shown::Text)
        }
        ConnectionState::EncodeTlsData(message) => {
            encode_behind(message, due)?;
            Ok(Shown::Beside)
        }
        // It goes out before anything else does.
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            Ok(Shown::Beside)
        }
        ConnectionState::PeerClosed => Ok(Shown::End),
        _ => Ok(Shown::Nothing),
    });
    (discard, shown)
}

/// One step of writing. Returns how many bytes that is, and whether `what` is said.
fn said<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    what: &Say<'_>,
    out: &mut [u8],
) -> Result<(usize, bool), Error> {
    match (status.state, what) {
        (Ok(ConnectionState::EncodeTlsData(mut message)), _) => {
            let count = message.encode(out).map_err(|_| Error::EncryptError)?;
            Ok((count, false))
        }
        (Ok(ConnectionState::TransmitTlsData(message)), _) => {
            message.done();
            Ok((0, false))
        }
        (Ok(ConnectionState::WriteTraffic(mut open)), Say::Text(text)) => {
            let count = open.encrypt(text, out).map_err(|_| Error::EncryptError)?;
            Ok((count, true))
        }
        (Ok(ConnectionState::WriteTraffic(mut open)), Say::End) => {
            let count = open.queue_close_notify(out);
            Ok((count.map_err(|_| Error::EncryptError)?, true))
        }
        // The peer has been told what is wrong, and that is the end.
        (_, Say::End) => Ok((0, true)),
        (Err(error), Say::Text(_)) => Err(error),
        (Ok(_), Say::Text(_)) => Err(Error::EncryptError),
    }
}

/// Puts what the library has to say behind `out`.
pub(super) fn encode_behind<Data>(
    mut message: EncodeTlsData<'_, Data>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(needed)) = message.encode(&mut []) {
        out.resize(at + needed.required_size, 0);
    }
    let encoded = message.encode(&mut out[at..]);
    encoded
        .map(drop)
        .map_err(|error| Error::General(error.to_string()))
}

impl Clear<'_> {
    fn put(&mut self, text: &[u8]) {
        let (front, behind) = text.split_at(text.len().min(self.to.len() - self.count));
        self.to[self.count..][..front.len()].copy_from_slice(front);
        self.count += front.len();
        self.rest.extend_from_slice(behind);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_client", &self.is_client())
            .field("peer_has_ended", &self.peer_has_ended)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
