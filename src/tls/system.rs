//! The authorities that the system trusts.
//!
//! Read when a site needs them, blocking, and kept for the sites after it. The same as OpenSSL's: what the
//! distribution keeps in /etc/ssl, or what SSL_CERT_FILE and SSL_CERT_DIR say.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;

use super::load::{Authorities, LoadError};

/// A thousand sites that are read at once read it once; who has changed it, and touches a site file, need not wait.
const FRESH: Duration = Duration::from_secs(10);

static LAST: Mutex<Option<(Instant, Authorities)>> = Mutex::new(None);

/// All that can be read of them.
///
/// # Errors
/// When there is none.
pub(super) fn authorities() -> Result<Authorities, LoadError> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, authorities)) = &*last
        && at.elapsed() < FRESH
    {
        return Ok(authorities.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // There are always a few that no library takes.
    roots.add_parsable_certificates(found.certs.iter().cloned());
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(LoadError::NoSystemStore(why.unwrap_or_default()));
    }
    let authorities = Authorities::new(roots, &found.certs);
    *last = Some((Instant::now(), authorities.clone()));
    Ok(authorities)
}
