//! A certificate chain with its key, and what of it matters to us: which names it is good for, and how long.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashmap::DashSet;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::sha256;
use crate::site::{HostPattern, Hostname};

/// See the module. The key fits the chain's first certificate.
pub struct Certificate {
    pub certified: Arc<CertifiedKey>,
    /// See [`Certificate::file`].
    pub(super) file: Box<Path>,
    names: Box<[HostPattern]>,
    pub not_before: SystemTime,
    /// From then on clients refuse it: its own end, or that of the one of its issuer, where that is in the chain and sooner.
    pub not_after: SystemTime,
    pub(super) issuer: Issuer,
    is_ecdsa: bool,
}

/// What there is to say of who vouches for a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    /// Nothing, or nobody can tell: clients may have it.
    Fine,
    /// Its certificate in the chain ends before the other.
    EndsFirst,
    /// No client has it, and it is not in the chain. Its name.
    Lacking(Box<str>),
}

impl Certificate {
    /// Takes over a chain whose key has been checked against it.
    ///
    /// # Errors
    /// When the first certificate is not one.
    pub(super) fn new(mut certified: CertifiedKey) -> Result<Certificate, &'static str> {
        for intermediate in certified.cert.iter_mut().skip(1) {
            share(intermediate);
        }
        let leaf = certified.end_entity_cert().map_err(|_| "it is empty")?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| "its first certificate is not one")?;
        let names = names(&parsed);
        let validity = parsed.validity();
        let end = time(validity.not_after.timestamp());
        let (issuer, not_after) = match end_of_issuer(&parsed, &certified.cert) {
            Some(issuers) if issuers < end => (Issuer::EndsFirst, issuers),
            None if needs_intermediate(&parsed) => (Issuer::Lacking(issuer_of(&parsed)), end),
            _ => (Issuer::Fine, end),
        };
        Ok(Certificate {
            names,
            file: Path::new("").into(),
            not_before: time(validity.not_before.timestamp()),
            not_after,
            issuer,
            is_ecdsa: parsed.public_key().algorithm.algorithm.to_id_string()
                == ELLIPTIC_CURVE_PUBLIC_KEY,
            certified: Arc::new(certified),
        })
    }

    /// The same, with its place.
    pub(super) fn of_file(self, path: &Path) -> Certificate {
        let file = path.into();
        Certificate { file, ..self }
    }

    /// Whether `now` is between its dates.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether a client that asked for `host` (normalised) accepts this certificate (RFC 9525 6.3: a wildcard is one
    /// label; the common name counts for nothing).
    pub fn covers(&self, host: &str) -> bool {
        self.name_for(host).is_some()
    }

    /// The name in it by which it is good for `host`.
    pub(super) fn name_for(&self, host: &str) -> Option<&HostPattern> {
        let rest = host.split_once('.').map(|(_, rest)| rest);
        self.names.iter().find(|name| match name {
            HostPattern::Exact(name) => name.as_str() == host,
            HostPattern::Wildcard(suffix) => rest == Some(suffix.as_str()),
            HostPattern::Any => false,
        })
    }

    /// Whether it is good for all that `pattern` may stand for.
    pub fn covers_pattern(&self, pattern: &HostPattern) -> bool {
        match pattern {
            HostPattern::Exact(name) => self.covers(name.as_str()),
            HostPattern::Wildcard(_) => self.names.contains(pattern),
            HostPattern::Any => true,
        }
    }

    pub fn names(&self) -> &[HostPattern] {
        &self.names
    }

    /// Where it was read. Empty: it was made here.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The certificate itself, without those that vouch for it.
    pub(super) fn leaf(&self) -> Option<&[u8]> {
        self.certified.cert.first().map(AsRef::as_ref)
    }

    /// What tells one chain from another.
    pub(super) fn digest(&self) -> Box<[u8]> {
        let mut der = Vec::new();
        for certificate in &self.certified.cert {
            der.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
            der.extend_from_slice(certificate);
        }
        sha256(&der)
    }

    /// Whether a client that knows these schemes can check our signature.
    pub(super) fn is_for(&self, schemes: &[SignatureScheme]) -> bool {
        self.certified.key.choose_scheme(schemes).is_some()
    }

    /// Smaller and quicker to sign with than RSA.
    pub(super) fn is_ecdsa(&self) -> bool {
        self.is_ecdsa
    }
}

/// Never the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// RFC 5480 2.1.1.
const ELLIPTIC_CURVE_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// The alternative names of a certificate. What is no name of ours (a mail address, `*a.test`, one with a NUL) is
/// good for nothing here.
/// The hostnames that it is for.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Box<[HostPattern]> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Box::default();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => HostPattern::parse(name).ok(),
            GeneralName::IPAddress(bytes) => {
                let ip = match *bytes {
                    [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
                    bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
                };
                Hostname::parse(&ip.to_string())
                    .ok()
                    .map(HostPattern::Exact)
            }
            _ => None,
        })
        .collect()
}

/// When the one in `chain` ends that vouches for `leaf`; of several, as where others have signed it too, the last.
fn end_of_issuer(leaf: &X509Certificate<'_>, chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let ends = chain.iter().skip(1).filter_map(|der| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let is_it = parsed.subject().as_raw() == leaf.issuer().as_raw();
        is_it.then(|| time(parsed.validity().not_after.timestamp()))
    });
    ends.max()
}

/// Whether clients cannot have the certificate of its issuer. A company's root that signs by itself is known to whoever is to
/// know it; the authorities of the web never do that (CA/Browser Forum, Baseline Requirements 6.1.7), and put a policy of
/// their forum into all they sign (7.1.2.7.9), which nobody else does.
fn needs_intermediate(leaf: &X509Certificate<'_>) -> bool {
    /// 2.23.140.1 and what is below.
    const OF_THE_WEB: [u8; 4] = [0x67, 0x81, 0x0C, 0x01];
    let of_the_web = |extension: &X509Extension<'_>| match extension.parsed_extension() {
        ParsedExtension::CertificatePolicies(policies) => {
            let mut policies = policies.iter();
            policies.any(|policy| policy.policy_id.as_bytes().starts_with(&OF_THE_WEB))
        }
        _ => false,
    };
    leaf.issuer().as_raw() != leaf.subject().as_raw() && leaf.extensions().iter().any(of_the_web)
}

fn issuer_of(leaf: &X509Certificate<'_>) -> Box<str> {
    // RFC 5280, ub-common-name.
    const LONGEST: usize = 64;
    let mut names = leaf.issuer().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok());
    let name = name.map_or_else(|| leaf.issuer().to_string(), str::to_owned);
    name.chars().take(LONGEST).collect::<String>().into()
}

/// A hundred thousand certificates are signed by a few dozen others: each of these is kept once, for good.
fn share(intermediate: &mut CertificateDer<'static>) {
    // More than there are in the world's public hierarchies; what goes beyond is kept with its chain.
    const MOST: usize = 4096;
    static SHARED: LazyLock<DashSet<&'static [u8]>> = LazyLock::new(DashSet::new);
    let known = SHARED.get(intermediate.as_ref()).map(|known| *known);
    let kept = match known {
        Some(known) => known,
        None if SHARED.len() >= MOST || !is_worth_keeping(intermediate) => return,
        None => {
            let kept: &'static [u8] = Box::leak(intermediate.as_ref().into());
            SHARED.insert(kept);
            kept
        }
    };
    *intermediate = CertificateDer::from_slice(kept);
}

/// Only what can vouch for others, and is of the size of such. Anything else in a chain is its own site's, and gone with
/// it: what stays for good must not grow by what somebody writes into a file.
fn is_worth_keeping(intermediate: &CertificateDer<'_>) -> bool {
    const LARGEST: usize = 8 << 10;
    let is_authority = || {
        let (rest, parsed) = X509Certificate::from_der(intermediate).ok()?;
        let constraints = parsed.basic_constraints().ok()??;
        Some(rest.is_empty() && constraints.value.ca)
    };
    intermediate.len() <= LARGEST && is_authority() == Some(true)
}

fn time(seconds: i64) -> SystemTime {
    let after = u64::try_from(seconds).unwrap_or(0);
    // A year nobody lives in is as good as the last one that the clock knows.
    UNIX_EPOCH
        .checked_add(Duration::from_secs(after))
        .unwrap_or(UNIX_EPOCH + Duration::from_secs(1 << 40))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair};
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    #[test]
    fn whoever_signs_itself_lacks_nobody_and_of_several_issuers_the_last_end_counts() {
        let key = KeyPair::generate().expect("key");
        let of_the_web = vec![48, 10, 48, 8, 6, 6, 0x67, 0x81, 0x0C, 1, 2, 1];
        let policies = CustomExtension::from_oid_content(&[2, 5, 29, 32], of_the_web);
        let ending = |year: i32| {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("names");
            params.custom_extensions.push(policies.clone());
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).expect("signed");
            certificate.der().clone()
        };
        let issuer = |years: &[i32]| {
            let signing = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            let signing = any_supported_type(&signing).expect("a key");
            let chain = years.iter().map(|year| ending(*year)).collect();
            let certificate = Certificate::new(CertifiedKey::new(chain, signing));
            certificate.expect("a certificate").issuer
        };
        assert_eq!(issuer(&[2040]), Issuer::Fine);
        assert_eq!(issuer(&[2040, 2030]), Issuer::EndsFirst);
        assert_eq!(issuer(&[2040, 2030, 2050]), Issuer::Fine);
    }

    #[test]
    fn only_authorities_of_their_usual_size_are_kept_for_good() {
        let signed = |is_ca: IsCa, names: usize| {
            let names: Vec<String> = (0..names).map(|n| format!("name-{n}.test")).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.is_ca = is_ca;
            let key = KeyPair::generate().expect("key");
            params.self_signed(&key).expect("signed").der().clone()
        };
        let authority = || IsCa::Ca(BasicConstraints::Unconstrained);
        let intermediate = signed(authority(), 1);
        let (mut one, mut other) = (intermediate.clone(), intermediate);
        share(&mut one);
        share(&mut other);
        assert_eq!(one.as_ptr(), other.as_ptr(), "held once");
        let mut with_more = signed(authority(), 1).to_vec();
        with_more.push(0);
        for not_one in [
            signed(IsCa::NoCa, 1),
            signed(authority(), 1000),
            CertificateDer::from(vec![7; 100]),
            CertificateDer::from(with_more),
        ] {
            assert!(!is_worth_keeping(&not_one));
        }
    }
}
