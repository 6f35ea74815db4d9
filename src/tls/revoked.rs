//! Certificates that an authority has taken back: its list (CRL, RFC 5280 5), read and asked.
//!
//! A list must be there for every authority in a client's chain, and a list that has ended says nothing any more: in
//! both cases the client is refused, because nobody knows whether it was taken back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientCertVerifierBuilder, VerifierBuilderError, WebPkiClientVerifier};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::load::{Authorities, LoadError, broken};

/// The lists of one `[tls.client]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    pub(super) der: Arc<[CertificateRevocationListDer<'static>]>,
    /// When the first of them ends.
    ends: Option<SystemTime>,
}

impl Lists {
    pub(super) fn new(lists: Vec<CertificateRevocationListDer<'static>>) -> Lists {
        Lists {
            ends: lists.iter().filter_map(|list| end_of(list)).min(),
            der: lists.into(),
        }
    }

    /// What an operator should know of them now.
    pub(super) fn advice(&self) -> Option<String> {
        let ago = SystemTime::now().duration_since(self.ends?).ok()?;
        let hours = ago.as_secs() / 3600;
        Some(format!(
            "a list of revoked certificates (crl) ended {hours} hours ago; clients are refused until there is a newer one"
        ))
    }
}

/// The lists in `bytes`, which `path` had: one or more in PEM, or one in DER, which is how authorities publish them.
///
/// # Errors
/// `Broken` when there is none, or one that cannot be used.
pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    authorities: &Authorities,
) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    const SEQUENCE: u8 = 0x30;
    let lists = if bytes.first() == Some(&SEQUENCE) {
        vec![CertificateRevocationListDer::from(bytes.to_vec())]
    } else {
        CertificateRevocationListDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| broken(path, "the PEM in it is damaged"))?
    };
    if lists.is_empty() {
        return Err(broken(
            path,
            "there is no list of revoked certificates in it",
        ));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tried = verifier(&authorities.roots, &provider, &lists).build();
    match tried {
        Ok(_) => Ok(lists),
        Err(VerifierBuilderError::InvalidCrl(_)) => Err(broken(
            path,
            "a list in it cannot be used (a delta, or not one of RFC 5280)",
        )),
        Err(error) => Err(broken(path, error.to_string())),
    }
}

/// Who asks clients for certificates of `roots`, and whether `lists` have taken them back.
pub(super) fn verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    lists: &[CertificateRevocationListDer<'static>],
) -> ClientCertVerifierBuilder {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .with_crls(lists.iter().cloned())
        .enforce_revocation_expiration()
}

/// When the next list should be there.
fn end_of(list: &[u8]) -> Option<SystemTime> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    let seconds = u64::try_from(list.next_update()?.timestamp()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
