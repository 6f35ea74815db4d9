//! How TLS is spoken to backends. One configuration for all that agree in name, authorities, client certificate and
//! verification, and so one set of sessions, and idle upstreams that may be shared (CASES T-33).
//!
//! An identity never changes; a file that changes makes its sites choose another.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use super::certificate::Certificate;
use super::load::Authorities;
use super::unverified::Unverified;
use crate::site::backend_tls::TlsIdentity;

/// Sessions kept for the next handshakes, which then need no certificate: as many as the library keeps of one server.
const SESSIONS: usize = 8;
/// Between two looks for identities that nobody has any more.
const MADE_BETWEEN: usize = 64;

/// What one `https://` backend of a site file comes to, its files read.
#[derive(Clone, Debug)]
pub struct Terms {
    pub(super) name: ServerName<'static>,
    /// `None`: whoever answers is believed.
    pub(super) authorities: Option<Authorities>,
    pub(super) own: Option<Arc<Certificate>>,
}

/// See the module.
pub struct Identity {
    pub(super) name: ServerName<'static>,
    /// What is shown to a backend that asks for it.
    pub(super) own: Option<Arc<Certificate>>,
    pub(super) config: Arc<ClientConfig>,
    /// The same, for connections that may not be of HTTP/2.
    pub(super) http1: Arc<ClientConfig>,
}

/// What makes two identities the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    name: ServerName<'static>,
    authorities: Option<Box<[u8]>>,
    own: Option<Box<[u8]>>,
}

/// All identities that some site has.
pub(super) struct Identities {
    provider: Arc<CryptoProvider>,
    made: DashMap<Same, Weak<NonZeroU32>>,
    by_number: DashMap<NonZeroU32, (Weak<NonZeroU32>, Arc<Identity>)>,
    last: AtomicU32,
    look_again_at: AtomicUsize,
}

impl Identities {
    pub(super) fn new() -> Identities {
        Identities {
            provider: Arc::new(aws_lc_rs::default_provider()),
            made: DashMap::new(),
            by_number: DashMap::new(),
            last: AtomicU32::new(0),
            look_again_at: AtomicUsize::new(MADE_BETWEEN),
        }
    }

    /// What `identity` stands for.
    pub(super) fn find(&self, identity: &TlsIdentity) -> Option<Arc<Identity>> {
        let found = self.by_number.get(&identity.number())?;
        Some(Arc::clone(&found.1))
    }

    /// The identity of these terms, the same one as long as any site has it. Called by one thread.
    ///
    /// # Errors
    /// When the library has no use for the terms.
    pub(super) fn of(&self, terms: &Terms) -> Result<TlsIdentity, rustls::Error> {
        let same = Same {
            name: terms.name.clone(),
            authorities: terms.authorities.as_ref().map(|who| who.digest.clone()),
            own: terms.own.as_ref().map(|own| own.digest()),
        };
        if let Some(number) = self.made.get(&same).and_then(|made| made.upgrade()) {
            return Ok(TlsIdentity(number));
        }
        self.forget_unused();
        let config = self.config(terms)?;
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let identity = Identity {
            name: terms.name.clone(),
            own: terms.own.clone(),
            config: Arc::new(config),
            http1: Arc::new(http1),
        };
        // Never given again: an upstream of an old one may still be idle somewhere.
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let Some(number) = NonZeroU32::new(number) else {
            return Err(rustls::Error::General("too many identities".into()));
        };
        let held = Arc::new(number);
        let weak = Arc::downgrade(&held);
        self.by_number
            .insert(number, (weak.clone(), Arc::new(identity)));
        self.made.insert(same, weak);
        Ok(TlsIdentity(held))
    }

    /// What some site shows to backends; the same for several of these as often.
    pub(super) fn own(&self) -> Vec<Arc<Certificate>> {
        let in_use = self.by_number.iter().filter(|entry| {
            let (held, _) = entry.value();
            held.strong_count() > 0
        });
        in_use
            .filter_map(|entry| entry.value().1.own.clone())
            .collect()
    }

    fn forget_unused(&self) {
        if self.made.len() < self.look_again_at.load(Ordering::Relaxed) {
            return;
        }
        self.made.retain(|_, held| held.strong_count() > 0);
        self.by_number
            .retain(|_, (held, _)| held.strong_count() > 0);
        // Twice as many, so that a start with ten thousand does not look through all of them for each.
        let next = self.made.len() * 2 + MADE_BETWEEN;
        self.look_again_at.store(next, Ordering::Relaxed);
    }

    fn config(&self, terms: &Terms) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &terms.authorities {
            Some(authorities) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(
                    Arc::clone(&authorities.roots),
                    Arc::clone(&self.provider),
                );
                let verifier = verifier
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_webpki_verifier(verifier)
            }
            None => {
                let verifier = Unverified::new(Arc::clone(&self.provider));
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut config = match &terms.own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                Arc::clone(&own.certified),
            ))),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.made.len())
    }
}
