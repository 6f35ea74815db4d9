//! TLS: which certificate for which name, and the handshakes with clients and with backends.
//!
//! The site is chosen by the client hello before the library sees a byte. [`Keyring`] says what is shown for it,
//! `handshake` hands that to the library, and what is known of the connection afterwards is [`Secure`].
//!
//! All of TLS is the library's. `shake` and `session` drive its unbuffered connections, so that a connection that waits
//! holds no buffer, and one that works reads as much at once as everybody else here.

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

mod advice;
mod adviser;
mod at_hand;
mod authority;
mod certificate;
mod chosen;
mod client_fault;
mod client_names;
mod connect;
mod failure;
mod found;
mod handshake;
mod identity;
mod keyring;
mod load;
mod pair;
mod policy;
mod record;
mod remembered;
mod revoked;
mod session;
mod shake;
mod stream;
mod system;
mod turnstile;
mod unverified;

pub use advice::of_shown;
pub use adviser::{Adviser, AllClosed};
pub use authority::{Authority, fingerprint, is_near, root_path};
pub use certificate::Certificate;
pub use client_fault::client_fault;
pub use connect::{complaint, connect};
pub use found::{Difference, Fate, Removals, Told};
pub use handshake::{CLIENT_FIELDS, HandshakeError, Secure, shake_hands};
pub use identity::{Identity, Terms};
pub use keyring::{Choice, InClear, Keyring, Offer, admits, has_tls_backends, needs_files};
pub use load::{LoadError, Loaded, load, load_backends, load_shown};
pub use policy::Policy;
pub use stream::TlsStream;
pub use turnstile::{InTheWay, Turnstile};

/// By the library's own, so that no other is needed.
fn sha256(bytes: &[u8]) -> Box<[u8]> {
    match TLS13_AES_128_GCM_SHA256.tls13() {
        Some(suite) => suite.common.hash_provider.hash(bytes).as_ref().into(),
        // It is one of TLS 1.3.
        None => bytes.into(),
    }
}
