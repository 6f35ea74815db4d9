//! The records that a client hello came in -> the message, whole (RFC 8446 5.1).

use super::HelloRefusal;
use crate::limits::HELLO_RECORDS;
use crate::parsed::Parsed;

const RECORD_HEADER: usize = 5;
const RECORD_BYTES: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// The body of the message, and how many of `bytes` it came in. A message in one record is borrowed; one in several is
/// put together in `message`, once all of it is there.
pub(super) fn reassemble<'a>(
    bytes: &'a [u8],
    most: usize,
    message: &'a mut Vec<u8>,
) -> Result<Parsed<(&'a [u8], usize)>, HelloRefusal> {
    let mut header = Header::default();
    let mut rest = bytes;
    let mut before = 0;
    for _ in 0..HELLO_RECORDS {
        let Some((length, behind)) = record(rest)? else {
            return Ok(Parsed::NeedMore);
        };
        let there = &behind[..length.min(behind.len())];
        header.learn(there, most)?;
        if let Some(whole) = header.message_bytes()
            && before + length > whole
        {
            // A key changes behind the hello, so nothing else may share its record.
            return Err(HelloRefusal::Unexpected);
        }
        if there.len() < length {
            return Ok(Parsed::NeedMore);
        }
        before += length;
        rest = &behind[length..];
        if header.message_bytes() == Some(before) {
            let came_in = bytes.len() - rest.len();
            let one_record = &bytes[RECORD_HEADER..came_in];
            if one_record.len() == before {
                return Ok(Parsed::Complete((&one_record[MESSAGE_HEADER..], came_in)));
            }
            join(&bytes[..came_in], message);
            return Ok(Parsed::Complete((&message[MESSAGE_HEADER..], came_in)));
        }
    }
    Err(HelloRefusal::TooManyRecords)
}

/// The length of the record that `rest` begins with, and what of it, and of what follows it, is there.
fn record(rest: &[u8]) -> Result<Option<(usize, &[u8])>, HelloRefusal> {
    if rest.first().is_some_and(|&kind| kind != HANDSHAKE) {
        return Err(HelloRefusal::Unexpected);
    }
    // The minor number has meant nothing for long (5.1).
    if rest.get(1).is_some_and(|&major| major != 3) {
        return Err(HelloRefusal::Version);
    }
    let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([header[3], header[4]])) {
        0 => Err(HelloRefusal::EmptyRecord),
        length if length > RECORD_BYTES => Err(HelloRefusal::RecordTooLong),
        length => Ok(Some((length, behind))),
    }
}

/// The header of the message, which may be cut, too.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; MESSAGE_HEADER],
    known: usize,
}

impl Header {
    fn learn(&mut self, fragment: &[u8], most: usize) -> Result<(), HelloRefusal> {
        let missing = &mut self.bytes[self.known..];
        let count = missing.len().min(fragment.len());
        missing[..count].copy_from_slice(&fragment[..count]);
        self.known += count;
        if self.known > 0 && self.bytes[0] != CLIENT_HELLO {
            return Err(HelloRefusal::Unexpected);
        }
        match self.message_bytes() {
            Some(whole) if whole - MESSAGE_HEADER > most => Err(HelloRefusal::TooLong),
            _ => Ok(()),
        }
    }

    /// How long the message is, this header included, once that is known.
    fn message_bytes(&self) -> Option<usize> {
        let [_, a, b, c] = self.bytes;
        (self.known == MESSAGE_HEADER)
            .then(|| MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize)
    }
}

/// Puts the fragments of whole records one behind the other.
fn join(mut records: &[u8], message: &mut Vec<u8>) {
    message.clear();
    while let Ok(Some((length, behind))) = record(records) {
        message.extend_from_slice(&behind[..length]);
        records = &behind[length..];
    }
}
