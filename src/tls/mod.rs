//! TLS: which certificate for which name, and the handshakes with clients and with backends.
//!
//! The site is chosen by the client hello before the library sees a byte. [`Keyring`] says what is shown for it,
//! `handshake` hands that to the library, and what is known of the connection afterwards is [`Secure`].
//!
//! The library shakes hands and makes keys of keys; `session` and `record` do the rest, without its buffers and copies.
//! With the feature `records` alone there are only those two.

#[cfg(feature = "serve")]
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

#[cfg(feature = "serve")]
mod authority;
#[cfg(feature = "serve")]
mod certificate;
#[cfg(feature = "serve")]
mod chosen;
#[cfg(feature = "serve")]
mod client_names;
#[cfg(feature = "serve")]
mod connect;
#[cfg(feature = "serve")]
mod found;
#[cfg(feature = "serve")]
mod handshake;
#[cfg(feature = "serve")]
mod identity;
#[cfg(feature = "serve")]
mod keyring;
#[cfg(feature = "serve")]
mod load;
#[cfg(feature = "serve")]
mod policy;
mod record;
#[cfg(feature = "serve")]
mod remembered;
#[cfg(feature = "serve")]
mod revoked;
mod session;
#[cfg(feature = "serve")]
mod shake;
#[cfg(feature = "serve")]
mod stream;
#[cfg(feature = "serve")]
mod system;
#[cfg(feature = "serve")]
mod turnstile;
#[cfg(feature = "serve")]
mod unverified;

#[cfg(feature = "serve")]
pub use authority::{Authority, root_path};
#[cfg(feature = "serve")]
pub use certificate::Certificate;
#[cfg(feature = "serve")]
pub use connect::{complaint, connect};
#[cfg(feature = "serve")]
pub use handshake::{HandshakeError, Secure, shake_hands};
#[cfg(feature = "serve")]
pub use identity::{Identity, Terms};
#[cfg(feature = "serve")]
pub use keyring::{
    Choice, InClear, Keyring, Offer, admits, has_tls_backends, needs_files, passed_and_shown,
};
#[cfg(feature = "serve")]
pub use load::{LoadError, Loaded, load, load_backends, load_shown};
#[cfg(feature = "serve")]
pub use policy::Policy;
pub use record::Keys;
pub use session::{ALERT_BYTES, Opened, Schedule, Session, alert_for};
#[cfg(feature = "serve")]
pub use stream::TlsStream;
#[cfg(feature = "serve")]
pub use turnstile::Turnstile;

/// By the library's own, so that no other is needed.
#[cfg(feature = "serve")]
fn sha256(bytes: &[u8]) -> Box<[u8]> {
    match TLS13_AES_128_GCM_SHA256.tls13() {
        Some(suite) => suite.common.hash_provider.hash(bytes).as_ref().into(),
        // It is one of TLS 1.3.
        None => bytes.into(),
    }
}
