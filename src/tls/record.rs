//! One record: what TLS puts around clear text and takes off again, with the keys of one direction (RFC 8446 5.2,
//! RFC 5246 6.2.3.3). No I/O, and no copy: clear text goes from one slice into the other as it is sealed or opened.
//!
//! The library agrees on the keys and hands them over (`rustls::kernel`). Its own records would be a vector each, and
//! a copy more; the cipher itself is the same.

use std::fmt;
use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::crypto::cipher::{AeadKey, Iv, make_tls12_aad, make_tls13_aad};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, PeerMisbehaved, ProtocolVersion,
};

/// Type, version, length.
pub(super) const HEADER_BYTES: usize = 5;
/// Clear text of one record (RFC 8446 5.1).
pub(super) const CLEAR_BYTES: usize = 16 << 10;
/// The same when it is sealed, its header aside: what TLS 1.2 allows (RFC 5246 6.2.3).
const SEALED_BYTES: usize = CLEAR_BYTES + 2048;
const TAG_BYTES: usize = 16;
/// The part of a nonce that goes with each record of TLS 1.2 with AES-GCM (RFC 5288 3).
const EXPLICIT_BYTES: usize = 8;

/// What goes around a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The type is inside, sealed (RFC 8446 5.2).
    Tls13,
    /// Half of the nonce is in front (RFC 5288).
    Tls12Explicit,
    /// (RFC 7905)
    Tls12,
}

impl Form {
    fn explicit_bytes(self) -> usize {
        match self {
            Form::Tls12Explicit => EXPLICIT_BYTES,
            Form::Tls13 | Form::Tls12 => 0,
        }
    }

    /// What a sealed record has more than its clear text, its header aside.
    fn overhead(self) -> usize {
        match self {
            Form::Tls13 => 1 + TAG_BYTES,
            Form::Tls12Explicit | Form::Tls12 => self.explicit_bytes() + TAG_BYTES,
        }
    }
}

/// The keys of one direction, and the number of the next record. The library and the cipher wipe the keys themselves when
/// they let go of them; the nonce is worth nothing without.
pub struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
    form: Form,
}

/// How long the record is that `sealed` begins with. `None`: it is not whole yet.
///
/// # Errors
/// When that is no record, or a longer one than there may be.
pub(super) fn whole(sealed: &[u8]) -> Result<Option<usize>, Error> {
    let Some((&[kind, major, _, high, low], rest)) = sealed.split_first_chunk::<HEADER_BYTES>()
    else {
        return Ok(None);
    };
    if !(20..=23).contains(&kind) {
        return Err(InvalidMessage::InvalidContentType.into());
    }
    if major != 3 {
        return Err(InvalidMessage::UnknownProtocolVersion.into());
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > SEALED_BYTES {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok((rest.len() >= length).then_some(HEADER_BYTES + length))
}

/// Where the clear text of a record is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clear {
    /// The first bytes of where it should go.
    There(usize),
    /// Where the record was: it might not have fitted.
    Here(Range<usize>),
}

impl Keys {
    /// # Errors
    /// For a cipher that is not known here.
    pub fn new(
        version: ProtocolVersion,
        (number, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Keys, Error> {
        let is_13 = version == ProtocolVersion::TLSv1_3;
        let (algorithm, key, iv, form) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (&AES_128_GCM, key, iv, Form::Tls12Explicit)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (&AES_256_GCM, key, iv, Form::Tls12Explicit)
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, Form::Tls12)
            }
            _ => return Err(Error::General("a cipher without an implementation".into())),
        };
        let form = if is_13 { Form::Tls13 } else { form };
        Keys::with(algorithm, key, iv, number, form)
            .ok_or_else(|| Error::General("keys of the wrong length".into()))
    }

    fn with(
        algorithm: &'static Algorithm,
        key: &AeadKey,
        iv: &Iv,
        number: u64,
        form: Form,
    ) -> Option<Keys> {
        Some(Keys {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            number,
            form,
        })
    }

    /// How many records these keys have been used for.
    pub(super) fn used(&self) -> u64 {
        self.number
    }

    /// What a record of `clear` bytes takes.
    pub fn sealed_bytes(&self, clear: usize) -> usize {
        HEADER_BYTES + clear + self.form.overhead()
    }

    /// Seals one record into the front of `out`. Returns how long it is.
    ///
    /// # Errors
    /// When `out` is too small, which the caller has seen to, or `clear` too long for one record.
    pub fn seal(
        &mut self,
        kind: ContentType,
        clear: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let length = clear.len() + self.form.overhead();
        if clear.len() > CLEAR_BYTES {
            return Err(Error::EncryptError);
        }
        let out = out
            .get_mut(..HEADER_BYTES + length)
            .ok_or(Error::EncryptError)?;
        let number = self.next_number()?;
        let nonce = self.nonce(number);
        let (header, body) = out.split_at_mut(HEADER_BYTES);
        let sealed = match self.form {
            Form::Tls13 => {
                let aad = make_tls13_aad(length);
                header.copy_from_slice(&aad);
                let (body, tail) = body.split_at_mut(clear.len());
                self.key.seal_out_of_place_scatter(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(aad),
                    clear,
                    body,
                    &[kind.into()],
                    tail,
                )
            }
            Form::Tls12Explicit | Form::Tls12 => {
                let [high, low] = (length as u16).to_be_bytes();
                header.copy_from_slice(&[kind.into(), 3, 3, high, low]);
                let (explicit, body) = body.split_at_mut(self.form.explicit_bytes());
                explicit.copy_from_slice(&nonce[NONCE_LEN - explicit.len()..]);
                let (body, tail) = body.split_at_mut(clear.len());
                let aad = make_tls12_aad(number, kind, ProtocolVersion::TLSv1_2, clear.len());
                self.key.seal_out_of_place_scatter(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(aad),
                    clear,
                    body,
                    &[],
                    tail,
                )
            }
        };
        sealed.map_err(|_| Error::EncryptError)?;
        Ok(HEADER_BYTES + length)
    }

    /// Opens one whole record: into the front of `to` if it is sure to fit there, else where it is. `to` may be
    /// written to beyond the clear text.
    ///
    /// # Errors
    /// When it was not sealed with these keys as the next one, or is not made as it should.
    pub(super) fn open(
        &mut self,
        record: &mut [u8],
        to: &mut [u8],
    ) -> Result<(ContentType, Clear), Error> {
        let Some((&mut header, body)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Error::DecryptError);
        };
        let [kind, _, minor, ..] = header;
        let kind = ContentType::from(kind);
        let number = self.next_number()?;
        let mut nonce = self.nonce(number);
        match self.form {
            Form::Tls13 => {
                // Whatever is inside says so there (RFC 8446 5.2).
                if kind != ContentType::ApplicationData {
                    return Err(Error::InappropriateMessage {
                        expect_types: vec![ContentType::ApplicationData],
                        got_type: kind,
                    });
                }
                // RFC 8446 5.2: up to 256 bytes beyond the clear text.
                if body.len() > CLEAR_BYTES + 256 {
                    return Err(Error::PeerSentOversizedRecord);
                }
                // The header as it came: what was changed on the way in any of its bytes is noticed.
                let length = self.uncover(nonce, &header, body, to)?;
                let inner = match length {
                    Clear::There(length) => &to[..length],
                    Clear::Here(ref range) => &body[range.clone()],
                };
                // RFC 8446 5.4: padding makes no room for more.
                if inner.len() > CLEAR_BYTES + 1 {
                    return Err(Error::PeerSentOversizedRecord);
                }
                // What follows the type is padding.
                let end = inner.iter().rposition(|&byte| byte != 0);
                let end = end.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
                let kind = ContentType::from(inner[end]);
                Ok((kind, length.cut(end).moved(HEADER_BYTES)))
            }
            Form::Tls12Explicit | Form::Tls12 => {
                let explicit = self.form.explicit_bytes();
                let Some((front, body)) = body.split_at_mut_checked(explicit) else {
                    return Err(Error::DecryptError);
                };
                nonce[NONCE_LEN - explicit..].copy_from_slice(front);
                let length = body.len().checked_sub(TAG_BYTES);
                let length = length.ok_or(Error::DecryptError)?;
                if length > CLEAR_BYTES {
                    return Err(Error::PeerSentOversizedRecord);
                }
                let version = ProtocolVersion::from(0x0300 | u16::from(minor));
                let aad = make_tls12_aad(number, kind, version, length);
                let clear = self.uncover(nonce, &aad, body, to)?;
                Ok((kind, clear.moved(HEADER_BYTES + explicit)))
            }
        }
    }

    fn uncover(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        body: &mut [u8],
        to: &mut [u8],
    ) -> Result<Clear, Error> {
        let length = body.len().checked_sub(TAG_BYTES);
        let length = length.ok_or(Error::DecryptError)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(aad);
        let opened = match to.get_mut(..length) {
            Some(to) => {
                let (body, tag) = body.split_at(length);
                let opened = self.key.open_separate_gather(nonce, aad, body, tag, to);
                opened.map(|()| Clear::There(length))
            }
            None => {
                let opened = self.key.open_in_place(nonce, aad, body);
                opened.map(|_| Clear::Here(0..length))
            }
        };
        opened.map_err(|_| Error::DecryptError)
    }

    /// Each number is used once: with two records under one nonce all would be lost (RFC 8446 5.3).
    fn next_number(&mut self) -> Result<u64, Error> {
        let number = self.number;
        self.number = number.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(number)
    }

    fn nonce(&self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        nonce
    }
}

/// Keys are nobody's to read.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("number", &self.number)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Clear {
    fn cut(self, length: usize) -> Clear {
        match self {
            Clear::There(_) => Clear::There(length),
            Clear::Here(range) => Clear::Here(range.start..range.start + length),
        }
    }

    /// Seen from the beginning of the record.
    fn moved(self, by: usize) -> Clear {
        match self {
            Clear::Here(range) => Clear::Here(range.start + by..range.end + by),
            there @ Clear::There(_) => there,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: ContentType = ContentType::ApplicationData;

    /// Keys that both sides have.
    fn keys(algorithm: &'static Algorithm, form: Form) -> Keys {
        let key = AeadKey::from([7; 32]);
        Keys::with(algorithm, &key, &Iv::from([9; NONCE_LEN]), 0, form).expect("keys")
    }

    fn all() -> [(&'static Algorithm, Form); 4] {
        [
            (&AES_256_GCM, Form::Tls13),
            (&CHACHA20_POLY1305, Form::Tls13),
            (&AES_256_GCM, Form::Tls12Explicit),
            (&CHACHA20_POLY1305, Form::Tls12),
        ]
    }

    fn sealed(keys: &mut Keys, kind: ContentType, clear: &[u8]) -> Vec<u8> {
        let mut out = vec![0; keys.sealed_bytes(clear.len())];
        let length = keys.seal(kind, clear, &mut out).expect("sealed");
        assert_eq!(length, out.len());
        out
    }

    /// Opens a record in both of the ways, which have to agree.
    fn opened(keys: impl Fn() -> Keys, record: &[u8]) -> Result<(ContentType, Vec<u8>), Error> {
        let mut room = vec![0; record.len()];
        let there = keys().open(&mut record.to_vec(), &mut room);
        let there = there.map(|(kind, clear)| match clear {
            Clear::There(length) => (kind, room[..length].to_vec()),
            Clear::Here(range) => panic!("there was room, and it is at {range:?}"),
        });
        let mut record = record.to_vec();
        let here = keys().open(&mut record, &mut []);
        let here = here.map(|(kind, clear)| match clear {
            Clear::There(length) => (kind, vec![0; length]),
            Clear::Here(range) => (kind, record[range].to_vec()),
        });
        assert_eq!(there, here);
        there
    }

    /// A record of TLS 1.3 with any text inside: clear text, type, and padding.
    fn with_inner(keys: &mut Keys, inner: &[u8]) -> Vec<u8> {
        let length = (inner.len() + TAG_BYTES) as u16;
        let [high, low] = length.to_be_bytes();
        let header = [23, 3, 3, high, low];
        let nonce = Nonce::assume_unique_for_key(keys.nonce(keys.number));
        let mut body = inner.to_vec();
        keys.key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut body)
            .expect("sealed");
        [&header[..], &body].concat()
    }

    #[test]
    fn every_bit_of_a_record_is_sealed_its_header_too() {
        for (algorithm, form) in all() {
            let good = sealed(&mut keys(algorithm, form), TEXT, b"clear");
            let open = |record: &[u8]| opened(|| keys(algorithm, form), record);
            assert_eq!(open(&good), Ok((TEXT, b"clear".to_vec())));
            for at in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[at / 8] ^= 1 << (at % 8);
                // The length says how much is looked at, and that is what is sealed.
                let is_of_length = (3..HEADER_BYTES).contains(&(at / 8));
                let is_major = at / 8 == 1;
                match open(&bad) {
                    Ok(_) if is_of_length => {}
                    // Looked at by `whole`; in TLS 1.2 what is sealed has a three of its own.
                    Ok(_) if is_major && form != Form::Tls13 => {
                        assert!(whole(&bad).is_err());
                    }
                    Ok(opened) => panic!("{form:?}, bit {at}: {opened:?}"),
                    Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn padding_is_taken_off_and_makes_no_room() {
        let new = || keys(&AES_256_GCM, Form::Tls13);
        let open = |inner: &[u8]| opened(new, &with_inner(&mut new(), inner));
        assert_eq!(open(b"a\0b\0\x17\0\0\0"), Ok((TEXT, b"a\0b\0".to_vec())));
        assert_eq!(open(b"\x17\0\0"), Ok((TEXT, Vec::new())));
        for nothing in [0, 1, CLEAR_BYTES + 1] {
            assert_eq!(
                open(&vec![0; nothing]),
                Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into())
            );
        }
        // The longest clear text, and the most padding.
        let mut longest = vec![b'x'; CLEAR_BYTES];
        longest.push(23);
        assert_eq!(
            open(&longest).map(|(_, clear)| clear.len()),
            Ok(CLEAR_BYTES)
        );
        let mut padded = b"x\x17".to_vec();
        padded.resize(CLEAR_BYTES + 1, 0);
        assert_eq!(open(&padded), Ok((TEXT, b"x".to_vec())));
        // One byte more of either (RFC 8446 5.4).
        for mut inner in [longest, padded] {
            inner.push(0);
            assert_eq!(open(&inner), Err(Error::PeerSentOversizedRecord));
            // 5.2
            inner.resize(CLEAR_BYTES + 256 - TAG_BYTES + 1, 0);
            assert_eq!(open(&inner), Err(Error::PeerSentOversizedRecord));
        }
    }

    #[test]
    fn no_clear_text_is_longer_than_a_record() {
        for (algorithm, form) in all() {
            let text = vec![b'x'; CLEAR_BYTES + 1];
            let mut out = vec![0; 2 * CLEAR_BYTES];
            let mut from = keys(algorithm, form);
            assert!(from.seal(TEXT, &text, &mut out).is_err());
            let longest = sealed(&mut from, TEXT, &text[1..]);
            let (_, clear) = opened(|| keys(algorithm, form), &longest).expect("opened");
            assert_eq!(clear.len(), CLEAR_BYTES);
        }
        assert_eq!(whole(&[23, 3, 3, 0x48, 0]), Ok(None));
        assert_eq!(
            whole(&[23, 3, 3, 0x48, 1]),
            Err(Error::PeerSentOversizedRecord)
        );
    }

    #[test]
    fn a_number_is_used_once_and_never_begins_anew() {
        for (algorithm, form) in all() {
            let mut from = keys(algorithm, form);
            let (one, two) = (
                sealed(&mut from, TEXT, b"same"),
                sealed(&mut from, TEXT, b"same"),
            );
            assert_ne!(one, two);
            from.number = u64::MAX - 1;
            sealed(&mut from, TEXT, b"the last");
            let mut out = vec![0; 100];
            for _ in 0..2 {
                assert_eq!(from.seal(TEXT, b"x", &mut out), Err(Error::EncryptError));
                assert!(from.open(&mut out.clone(), &mut out).is_err());
            }
        }
    }

    #[test]
    fn what_is_too_short_to_be_sealed_is_refused() {
        for (algorithm, form) in all() {
            for length in 0..TAG_BYTES + EXPLICIT_BYTES {
                let mut record = vec![0; HEADER_BYTES + length];
                record[..HEADER_BYTES].copy_from_slice(&[23, 3, 3, 0, length as u8]);
                let open = opened(|| keys(algorithm, form), &record);
                assert_eq!(open, Err(Error::DecryptError), "{form:?}, {length} bytes");
            }
        }
    }
}
