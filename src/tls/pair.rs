//! A chain and a key in PEM -> one certificate, in whatever order the chain is and whatever stands between.
//!
//! What does not fit is told by the public keys alone, and nothing is copied for it: one file costs its neighbours nothing.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::certificate::Certificate;

/// In one file. A chain is four or five, and cross-signed ones a few more; clients refuse longer ones.
const MOST_CERTIFICATES: usize = 16;
/// In one file. Who keeps an old key beside the new one has two.
const MOST_KEYS: usize = 4;
/// What the library signs with.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Why a chain and a key are no pair.
pub(super) struct Mismatch {
    pub(super) of_key: bool,
    pub(super) why: Cow<'static, str>,
}

/// A certificate from the text of its chain and its key.
pub(super) fn match_up(chain: &[u8], key: &[u8]) -> Result<Certificate, Mismatch> {
    let of_chain = |why| Mismatch { of_key: false, why };
    let of_key = |why| Mismatch { of_key: true, why };
    let text = chain;
    let chain = Chain::read(text).map_err(of_chain)?;
    if chain.certificates.is_empty() {
        return Err(of_chain(no_certificate(text).into()));
    }
    let keys = Key::read_all(key).map_err(of_key)?;
    for key in &keys.good {
        if let Some(at) = chain.of(&key.public) {
            return chain.certify(at, key).map_err(|why| of_chain(why.into()));
        }
    }
    if chain.public_keys.iter().any(Option::is_none) {
        return Err(of_chain("a certificate in it is not one".into()));
    }
    Err(of_key(match keys.of_no_use(key) {
        Some(OF_NO_KIND) => chain.why_no_kind(),
        Some(why) => why.into(),
        None if keys.good.is_empty() => no_key(key).into(),
        None => "the key does not fit the certificate".into(),
    }))
}

/// What a file is that has no certificate.
pub(super) fn no_certificate(text: &[u8]) -> &'static str {
    if has(text, b"PRIVATE KEY-----") {
        "there is no certificate in it, but a private key; are the certificate and the key swapped?"
    } else if has(text, b"CERTIFICATE REQUEST-----") {
        "there is no certificate in it, but a request for one; an authority makes a certificate of it"
    } else if X509Certificate::from_der(text).is_ok() {
        "there is no certificate in PEM in it, but one in DER; `openssl x509 -inform der -in FILE -out FILE.pem` makes PEM \
         of it"
    } else if is_pfx(text) {
        "there is no certificate in PEM in it: it is PKCS#12 (PFX); `openssl pkcs12 -nokeys -in FILE -out FILE.pem` takes \
         the certificates out of it"
    } else {
        "there is no certificate in it"
    }
}

/// Why a file is of no use in which there is neither a certificate nor a key. `None`: it has something else in PEM, which may
/// belong there.
pub(super) fn lack(text: &[u8]) -> Option<&'static str> {
    (!has(text, b"-----BEGIN ")).then(|| no_certificate(text))
}

/// Why a key that is not in PEM is of no use.
pub(super) fn key_in_der(text: &[u8]) -> Option<&'static str> {
    PrivateKeyDer::try_from(text).ok().map(|_| no_key(text))
}

/// The same of a key.
fn no_key(text: &[u8]) -> &'static str {
    if has(text, b"CERTIFICATE-----") {
        "there is no private key in it, but a certificate; are the certificate and the key swapped?"
    } else if is_pfx(text) {
        "there is no private key in PEM in it: it is PKCS#12 (PFX); `openssl pkcs12 -nocerts -noenc -in FILE -out FILE.pem` \
         takes the key out of it"
    } else if PrivateKeyDer::try_from(text).is_ok() {
        "there is no private key in PEM in it, but one in DER; `openssl pkey -inform der -in FILE -out FILE.pem` makes PEM of \
         it"
    } else {
        "there is no private key in it"
    }
}

/// RFC 7292 4: a sequence that begins with the version 3.
fn is_pfx(text: &[u8]) -> bool {
    let header = text.get(..10).unwrap_or_default();
    header.starts_with(&[0x30]) && has(header, &[0x02, 0x01, 0x03])
}

fn has(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

/// The certificates of one file.
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Of each. `None`: it is no certificate.
    pub(super) public_keys: Vec<Option<Box<[u8]>>>,
}

impl Chain {
    /// Empty where `text` has none.
    ///
    /// # Errors
    /// When the PEM is torn, or has more than anybody shows.
    pub(super) fn read(text: &[u8]) -> Result<Chain, Cow<'static, str>> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
            .take(MOST_CERTIFICATES + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| of_damaged(text))?;
        if certificates.len() > MOST_CERTIFICATES {
            return Err(format!(
                "there are more than {MOST_CERTIFICATES} certificates in it; a chain is a certificate and those that \
                 vouch for it"
            )
            .into());
        }
        let public_key = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            Some(parsed.public_key().raw.into())
        };
        Ok(Chain {
            public_keys: certificates.iter().map(public_key).collect(),
            certificates,
        })
    }

    /// Which of them has this public key. Usually the first; some authorities hand them out the other way round.
    fn of(&self, public: &[u8]) -> Option<usize> {
        let mut keys = self.public_keys.iter();
        keys.position(|key| key.as_deref() == Some(public))
    }

    /// What keeps the library from using the key of the first one.
    fn why_no_kind(&self) -> Cow<'static, str> {
        let first = self.certificates.first();
        let parsed = first.and_then(|first| X509Certificate::from_der(first).ok());
        match parsed.as_ref().map(|(_, parsed)| parsed.public_key().parsed()) {
            Some(Ok(PublicKey::RSA(rsa))) if !RSA_BITS.contains(&rsa.key_size()) => format!(
                "the key is RSA of {} bits, and TLS takes {} to {}; a new key of 2048 bits, or of P-256, needs a new \
                 certificate too",
                rsa.key_size(),
                RSA_BITS.start(),
                RSA_BITS.end(),
            )
            .into(),
            _ => OF_NO_KIND.into(),
        }
    }

    /// The certificate at `at`, whose key is `key`, and those that vouch for it.
    ///
    /// # Errors
    /// When the library or we cannot read it.
    pub(super) fn certify(mut self, at: usize, key: &Key) -> Result<Certificate, &'static str> {
        const NOT_ONE: &str = "a certificate in it is not one";
        if at >= self.certificates.len() {
            return Err(NOT_ONE);
        }
        self.certificates.swap(0, at);
        let certified = CertifiedKey::new(self.certificates, Arc::clone(&key.signing));
        certified.keys_match().map_err(|_| NOT_ONE)?;
        Certificate::new(certified)
    }
}

/// A private key that TLS can use, and the public one that tells where it fits.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) public: Box<[u8]>,
    signing: Arc<dyn SigningKey>,
}

/// The private keys of one file.
pub(super) struct Keys {
    pub(super) good: Vec<Key>,
    /// How many there are of which the library has no use.
    of_no_kind: usize,
}

impl Keys {
    pub(super) fn are_none(&self) -> bool {
        self.good.is_empty() && self.of_no_kind == 0
    }

    /// Why those of `text`, which were read from it, are of no use, if none is.
    pub(super) fn of_no_use(&self, text: &[u8]) -> Option<&'static str> {
        let is_encrypted = || has(text, b"BEGIN ENCRYPTED");
        match (self.good.len(), self.of_no_kind) {
            (1.., _) => None,
            (0, _) if is_encrypted() => Some(ENCRYPTED),
            (0, 0) => None,
            (0, _) => Some(OF_NO_KIND),
        }
    }
}

impl Key {
    /// # Errors
    /// When the PEM is torn, or has more than anybody keeps in one file.
    pub(super) fn read_all(text: &[u8]) -> Result<Keys, Cow<'static, str>> {
        let keys: Vec<PrivateKeyDer<'static>> = PrivateKeyDer::pem_slice_iter(text)
            .take(MOST_KEYS + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| of_damaged(text))?;
        if keys.len() > MOST_KEYS {
            return Err(format!("there are more than {MOST_KEYS} private keys in it").into());
        }
        let usable = |key: &PrivateKeyDer<'static>| {
            let signing = any_supported_type(key).ok()?;
            let public = signing.public_key()?.as_ref().into();
            Some(Key { public, signing })
        };
        let good: Vec<Key> = keys.iter().filter_map(usable).collect();
        Ok(Keys {
            of_no_kind: keys.len() - good.len(),
            good,
        })
    }
}

/// What `openssl rsa -aes256` wrote for twenty years has lines of its own in it, which no reader of PEM takes.
fn of_damaged(text: &[u8]) -> &'static str {
    match has(text, b"Proc-Type: 4,ENCRYPTED") {
        true => ENCRYPTED,
        false => "the PEM in it is damaged",
    }
}

const OF_NO_KIND: &str = "the key is of no kind that TLS uses";
const ENCRYPTED: &str =
    "the key is encrypted, and nobody is there to type its passphrase; `openssl pkey` decrypts it";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Some certificates and their keys, in PEM.
    fn made(count: usize) -> Vec<(String, String)> {
        let one = |number: usize| {
            let names = vec![format!("{number}.test")];
            let params = CertificateParams::new(names).expect("names");
            let key = KeyPair::generate().expect("key");
            let certificate = params.self_signed(&key).expect("signed");
            (certificate.pem(), key.serialize_pem())
        };
        (0..count).map(one).collect()
    }

    fn shuffled(count: usize) -> impl Strategy<Value = Vec<usize>> {
        Just((0..count).collect::<Vec<_>>()).prop_shuffle()
    }

    #[test]
    fn the_key_finds_its_certificate_in_every_order_and_loses_no_other() {
        let made = made(4);
        let stranger = self::made(1);
        let run = |order: Vec<usize>, own: Index, junk: String, is_second: bool| {
            let own = own.index(made.len());
            let chain: Vec<&str> = order.iter().map(|at| made[*at].0.as_str()).collect();
            let mut keys = [made[own].1.as_str(), stranger[0].1.as_str()];
            if is_second {
                keys.reverse();
            }
            let chain = chain.join(&format!("\n{}\n", junk.replace('-', "_")));
            let pair = match_up(chain.as_bytes(), keys.concat().as_bytes());
            let pair = pair.unwrap_or_else(|mismatch| panic!("{}", mismatch.why));
            assert!(pair.covers(&format!("{own}.test")));
            assert_eq!(pair.certified.cert.len(), made.len());
        };
        proptest!(ProptestConfig::with_cases(200), |(
            order in shuffled(4),
            own: Index,
            junk in "[ -~]{0,40}",
            is_second: bool,
        )| run(order, own, junk, is_second));
    }

    #[test]
    fn what_is_cut_anywhere_is_a_pair_or_said() {
        let made = made(1);
        let (cert, key) = (made[0].0.as_bytes(), made[0].1.as_bytes());
        for end in 0..cert.len() {
            let is_whole = cert[end..].iter().all(u8::is_ascii_whitespace);
            assert_eq!(match_up(&cert[..end], key).is_ok(), is_whole, "{end}");
        }
        for end in 0..key.len() {
            let is_whole = key[end..].iter().all(u8::is_ascii_whitespace);
            assert_eq!(match_up(cert, &key[..end]).is_ok(), is_whole, "{end}");
        }
    }
}
