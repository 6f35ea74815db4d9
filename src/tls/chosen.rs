//! Which certificate a handshake shows. The site was chosen before the library saw a byte; this hands its choice over.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

tokio::task_local! {
    /// The certificates of the site that this handshake is for. One configuration serves all sites of a policy, so
    /// the choice cannot stand in it.
    static CHOSEN: Arc<[Arc<Certificate>]>;
}

/// Runs a handshake that may show one of `certificates`.
pub(super) async fn with<F: Future>(
    certificates: Arc<[Arc<Certificate>]>,
    handshake: F,
) -> F::Output {
    CHOSEN.scope(certificates, handshake).await
}

#[derive(Debug)]
pub(super) struct Chosen;

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        CHOSEN
            .try_with(|certificates| {
                let fit =
                    |certificate: &&Arc<Certificate>| certificate.is_for(hello.signature_schemes());
                certificates
                    .iter()
                    .find(fit)
                    .map(|certificate| Arc::clone(&certificate.certified))
            })
            .ok()
            .flatten()
    }
}
