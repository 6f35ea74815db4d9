//! One record: what TLS puts around clear text and takes off again, with the keys of one direction (RFC 8446 5.2,
//! RFC 5246 6.2.3.3). No I/O, and no copy: clear text goes from one slice into the other as it is sealed or opened.
//!
//! The library agrees on the keys and hands them over (`rustls::kernel`). Its own records would be a vector each, and
//! a copy more; the cipher itself is the same.

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

/// The keys of one direction, and the number of the next record.
pub(super) struct Keys {
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
    pub(super) fn new(
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
    pub(super) fn sealed_bytes(&self, clear: usize) -> usize {
        HEADER_BYTES + clear + self.form.overhead()
    }

    /// Seals one record into the front of `out`. Returns how long it is.
    ///
    /// # Errors
    /// When `out` is too small, which the caller has seen to, or `clear` too long for one record.
    pub(super) fn seal(
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
        let Some((&mut [kind, _, minor, ..], body)) =
            record.split_first_chunk_mut::<HEADER_BYTES>()
        else {
            return Err(Error::DecryptError);
        };
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
                // The type, the tag, and padding: up to 256 bytes beyond the clear text.
                if body.len() > CLEAR_BYTES + 256 {
                    return Err(Error::PeerSentOversizedRecord);
                }
                let aad = make_tls13_aad(body.len());
                let length = self.uncover(nonce, &aad, body, to)?;
                let inner = match length {
                    Clear::There(length) => &to[..length],
                    Clear::Here(ref range) => &body[range.clone()],
                };
                // What follows the type is padding.
                let end = inner.iter().rposition(|&byte| byte != 0);
                let end = end.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
                if end > CLEAR_BYTES {
                    return Err(Error::PeerSentOversizedRecord);
                }
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
