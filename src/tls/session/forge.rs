//! Records that nobody says who behaves: any type, any content, sealed with the keys that a handshake of the library
//! came to (RFC 8446 5.2, RFC 5288 3, RFC 7905 2).
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::cipher::{make_tls12_aad, make_tls13_aad};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};

/// The client's side of a connection, of which only what it sends is left.
pub(super) struct Forge {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
    version: ProtocolVersion,
    /// The part of a nonce that goes with each record.
    explicit: usize,
}

impl Forge {
    pub(super) fn of(client: UnbufferedClientConnection) -> Forge {
        let version = client.protocol_version().unwrap();
        let (number, secrets) = client.dangerous_into_kernel_connection().unwrap().0.tx;
        let is_12 = version == ProtocolVersion::TLSv1_2;
        let (algorithm, key, iv, explicit) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, 8),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, 8),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, 0)
            }
            _ => panic!("a cipher that is not known here"),
        };
        Forge {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            number,
            version,
            explicit: if is_12 { explicit } else { 0 },
        }
    }

    pub(super) fn record(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        let mut sealed = payload.to_vec();
        let explicit = &nonce[NONCE_LEN - self.explicit..];
        let key = &self.key;
        let seal = |sealed: &mut Vec<u8>, aad: &[u8]| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(aad), sealed)
                .unwrap();
        };
        let outer = if self.version == ProtocolVersion::TLSv1_3 {
            sealed.push(kind.into());
            let aad = make_tls13_aad(sealed.len() + 16);
            seal(&mut sealed, &aad);
            ContentType::ApplicationData
        } else {
            seal(
                &mut sealed,
                &make_tls12_aad(self.number, kind, self.version, payload.len()),
            );
            kind
        };
        self.number += 1;
        let [high, low] = u16::try_from(explicit.len() + sealed.len())
            .unwrap()
            .to_be_bytes();
        [&[outer.into(), 3, 3, high, low], explicit, &sealed].concat()
    }
}
