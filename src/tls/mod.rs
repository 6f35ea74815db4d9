//! TLS: which certificate for which name, and the handshake.
//!
//! The site is chosen by the client hello before the library sees a byte. [`Keyring`] says what is shown for it,
//! `handshake` hands that to the library, and what is known of the connection afterwards is [`Secure`].

mod authority;
mod certificate;
mod chosen;
mod found;
mod handshake;
mod keyring;
mod load;
mod policy;
mod remembered;
mod stream;
mod turnstile;

pub use authority::{Authority, root_path};
pub use certificate::Certificate;
pub use handshake::{HandshakeError, Secure, shake_hands};
pub use keyring::{InClear, Keyring, Offer, admits, needs_files, passed_and_shown};
pub use load::{LoadError, Loaded, load};
pub use policy::Policy;
pub use stream::TlsStream;
pub use turnstile::Turnstile;
