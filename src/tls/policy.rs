//! How TLS is spoken: versions, protocols inside of it, and client certificates. One configuration for all sites that agree on these.
//!
//! A policy never changes; an edit makes a site choose another. Each has a ticketer of its own, so that a session of
//! one policy cannot be resumed under another (CVE-2025-23419; CASES T-40 to T-42).

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, version};

use super::chosen::Chosen;
use super::client_names::PlainNames;
use super::load::Authorities;
use super::revoked;
use crate::site::tls::{Http2, MinVersion, Need};

/// See the module.
pub struct Policy {
    /// No other ever has it.
    pub number: u32,
    pub min: MinVersion,
    /// Whether client certificates are asked for.
    pub client: Option<Need>,
    pub(super) config: Arc<ServerConfig>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("min", &self.min)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// What makes two policies the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Terms {
    min: MinVersion,
    http2: Http2,
    client: Option<(Need, Box<[u8]>)>,
}

/// All policies that some site has.
pub(super) struct Policies {
    provider: Arc<CryptoProvider>,
    made: DashMap<Terms, Weak<Policy>>,
    numbers: AtomicU32,
}

impl Policies {
    pub(super) fn new() -> Policies {
        Policies {
            provider: Arc::new(aws_lc_rs::default_provider()),
            made: DashMap::new(),
            numbers: AtomicU32::new(0),
        }
    }

    /// The policy of these terms, the same one as long as any site has it.
    ///
    /// # Errors
    /// When the authorities are of no use, or the system has no randomness.
    pub(super) fn of(
        &self,
        min: MinVersion,
        http2: Http2,
        client: Option<(Need, &Authorities)>,
    ) -> Result<Arc<Policy>, rustls::Error> {
        let terms = Terms {
            min,
            http2,
            client: client.map(|(need, authorities)| (need, authorities.digest.clone())),
        };
        if let Some(policy) = self.made.get(&terms).and_then(|made| made.upgrade()) {
            return Ok(policy);
        }
        self.made.retain(|_, made| made.strong_count() > 0);
        let policy = Arc::new(Policy {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            min,
            client: client.map(|(need, _)| need),
            config: Arc::new(self.config(min, http2, client)?),
        });
        self.made.insert(terms, Arc::downgrade(&policy));
        Ok(policy)
    }

    fn config(
        &self,
        min: MinVersion,
        http2: Http2,
        client: Option<(Need, &Authorities)>,
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match min {
            MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            MinVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)?;
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some((need, authorities)) => {
                let verifier =
                    revoked::verifier(&authorities.roots, &self.provider, &authorities.lists.der);
                let verifier = match need {
                    Need::Require => verifier,
                    Need::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(Arc::new(PlainNames(verifier)))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Chosen));
        config.alpn_protocols = match http2 {
            Http2::Offered => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Http2::Off => vec![b"http/1.1".to_vec()],
        };
        // Sessions live in tickets alone: nothing to keep, nothing to fill.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // A request that may be replayed is no request (CASES T-48).
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policies({})", self.made.len())
    }
}
