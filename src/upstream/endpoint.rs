//! A backend's address as a key: what two sites may share.

use std::num::NonZeroU32;

use crate::site::backend_tls::BackendTls;
use crate::site::{Address, Backend};

/// See the module. Two with the same address and another TLS identity are two (CASES T-33).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: Address,
    /// The number of a `TlsIdentity`. `None`: clear text.
    identity: Option<NonZeroU32>,
}

impl Endpoint {
    /// Allocates nothing. `None`: how TLS is spoken to it is not known yet, or cannot be.
    pub fn of(backend: &Backend) -> Option<Endpoint> {
        let identity = match &backend.tls {
            None => None,
            Some(tls) => Some(number(tls)?),
        };
        Some(Endpoint {
            address: backend.address.clone(),
            identity,
        })
    }

    /// Whether an upstream of this is one to `backend`.
    pub fn is_of(&self, backend: &Backend) -> bool {
        let speaks_alike = match &backend.tls {
            None => self.identity.is_none(),
            Some(tls) => self.identity.is_some() && self.identity == number(tls),
        };
        speaks_alike && self.address == backend.address
    }

    pub fn speaks_tls(&self) -> bool {
        self.identity.is_some()
    }
}

fn number(tls: &BackendTls) -> Option<NonZeroU32> {
    let identity = tls.identity.get()?.as_ref().ok()?;
    Some(identity.number())
}
