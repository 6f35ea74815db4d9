//! What one PEM file holds: which certificates and which keys, told by their public keys.
//!
//! A file is read again when it is another one. The bytes of a chain are let go of: most are in a pair already.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::site::directory::{self, Stamp};
use crate::site::fence::{FileError, read_regular};
use crate::tls::advice;
use crate::tls::certificate;
use crate::tls::pair::{Chain, Key, key_in_der, lack};
use crate::tls::sha256;

/// As for the files of a site.
pub(super) const PEM_BYTES: u64 = 1 << 20;
/// A file that was written so shortly before may be written again without another stamp, and be half of itself.
const YOUNG: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) stamp: Option<Stamp>,
    pub(super) is_young: bool,
    /// In their order.
    pub(super) certificates: Vec<Kind>,
    pub(super) keys: Vec<Key>,
    /// What there is to say of its permissions, if it has keys.
    pub(super) of_key: Option<String>,
    /// Why it is of no use, or its keys are.
    pub(super) problem: Option<String>,
    /// Why neither a certificate nor a key is in it, where it may have been meant to have one.
    pub(super) lack: Option<&'static str>,
    /// What is in it is not known.
    pub(super) is_closed: bool,
}

/// Tells one certificate from another.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Of its public key.
    pub(super) public: Digest,
    pub(super) digest: Digest,
    /// It is for no hostname, and its key lies elsewhere, as it should be.
    pub(super) is_authority: bool,
}

impl File {
    /// The second is its chain, for whoever needs it at once.
    pub(super) fn read(
        path: &Path,
        stamp: Option<Stamp>,
        now: SystemTime,
    ) -> (File, Option<Chain>) {
        let nothing = File {
            stamp,
            is_young: stamp.is_some_and(|stamp| is_young(stamp, now)),
            certificates: Vec::new(),
            keys: Vec::new(),
            of_key: None,
            problem: None,
            lack: None,
            is_closed: false,
        };
        let shown = path.display();
        let of_no_use = |problem: String| {
            let problem = Some(problem);
            let nothing = nothing.clone();
            (File { problem, ..nothing }, None)
        };
        let text = match read_regular(path, PEM_BYTES) {
            Ok(text) => text,
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                let advice = directory::how_to_let_in(path);
                let (mut file, chain) = of_no_use(format!("{shown} cannot be read: {advice}"));
                file.is_closed = true;
                return (file, chain);
            }
            Err(error) => return of_no_use(format!("{shown} {error}")),
        };
        let chain = match Chain::read(&text) {
            Ok(chain) => chain,
            Err(why) => return of_no_use(format!("{shown}: {why}")),
        };
        let keys = match Key::read_all(&text) {
            Ok(keys) => keys,
            Err(why) => return of_no_use(format!("{shown}: {why}")),
        };
        let is_nothing = chain.certificates.is_empty() && keys.are_none();
        let problem = keys.of_no_use(&text);
        let problem = problem.or_else(|| key_in_der(&text).filter(|_| is_nothing));
        let lacks = is_nothing && problem.is_none();
        let problem = problem.map(|why| format!("{shown}: {why}"));
        let keys = keys.good;
        let file = File {
            certificates: kinds(&chain),
            problem,
            lack: lacks.then(|| lack(&text)).flatten(),
            of_key: (!keys.is_empty()).then(|| advice::of_key(path)).flatten(),
            keys,
            ..nothing
        };
        (file, Some(chain))
    }
}

pub(super) type Digest = [u8; 32];

pub(super) fn sha256_of(bytes: &[u8]) -> Digest {
    Digest::try_from(&*sha256(bytes)).unwrap_or_default()
}

/// What is no certificate has no key, and nobody looks for one.
fn kinds(chain: &Chain) -> Vec<Kind> {
    let pairs = chain.certificates.iter().zip(&chain.public_keys);
    let kind = |(certificate, public): (&CertificateDer<'_>, &Option<Box<[u8]>>)| Kind {
        public: sha256_of(public.as_deref().unwrap_or_default()),
        digest: sha256_of(certificate),
        is_authority: public.is_none() || is_authority(certificate),
    };
    pairs.map(kind).collect()
}

fn is_authority(der: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(der);
    // `openssl req -x509` makes servers' certificates that are authorities, too.
    let is_one = |certificate: &X509Certificate<'_>| {
        certificate.is_ca() && certificate::names(certificate).is_empty()
    };
    parsed.is_ok_and(|(_, certificate)| is_one(&certificate))
}

/// Not one from the future, as after a clock was set back: that one would never grow old.
fn is_young(stamp: Stamp, now: SystemTime) -> bool {
    let changed = stamp.ctime_ns.max(stamp.mtime_ns);
    let changed = UNIX_EPOCH + Duration::from_nanos(u64::try_from(changed).unwrap_or(0));
    let age = now.duration_since(changed);
    age.map_or_else(|ahead| ahead.duration() < YOUNG, |age| age < YOUNG)
}
