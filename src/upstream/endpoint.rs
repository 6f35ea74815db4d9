//! A backend's address as a key: what two sites may share.

use std::num::NonZeroU32;

use crate::site::backend_tls::BackendTls;
use crate::site::{Address, Backend, Member};

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

    /// One of the addresses that the name in `backend` leads to.
    pub fn at(address: &Address, backend: &Backend) -> Option<Endpoint> {
        Some(Endpoint {
            address: address.clone(),
            ..Endpoint::of(backend)?
        })
    }

    /// Whether an upstream of this is one to `member`.
    pub fn is_of(&self, member: &Member) -> bool {
        let backend = &member.backend;
        let speaks_alike = match &backend.tls {
            None => self.identity.is_none(),
            Some(tls) => self.identity.is_some() && self.identity == number(tls),
        };
        let leads_here = || {
            let addresses = member.state.leads_to();
            let mut list = addresses.iter().flat_map(|addresses| addresses.list.iter());
            list.any(|located| located.address == self.address)
        };
        speaks_alike
            && match backend.address {
                Address::Name { .. } => leads_here(),
                _ => self.address == backend.address,
            }
    }

    pub fn speaks_tls(&self) -> bool {
        self.identity.is_some()
    }
}

fn number(tls: &BackendTls) -> Option<NonZeroU32> {
    let identity = tls.identity.get()?.as_ref().ok()?;
    Some(identity.number())
}
