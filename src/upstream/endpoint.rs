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
    /// HTTP/2 by prior knowledge.
    h2c: bool,
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
            h2c: backend.h2c,
        })
    }

    /// One of the addresses that the name in `backend` leads to.
    pub fn at(address: &Address, backend: &Backend) -> Option<Endpoint> {
        Some(Endpoint {
            address: address.clone(),
            ..Endpoint::of(backend)?
        })
    }

    /// Where HTTP/2 is spoken in clear text.
    pub(super) fn in_http2(address: &Address) -> Endpoint {
        Endpoint {
            address: address.clone(),
            identity: None,
            h2c: true,
        }
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
            && self.h2c == backend.h2c
            && match backend.address {
                Address::Name { .. } => leads_here(),
                _ => self.address == backend.address,
            }
    }

    /// Whether it speaks HTTP/2 and nothing else.
    pub fn is_h2c(&self) -> bool {
        self.h2c
    }

    /// Whether it does, or may.
    pub fn may_speak_http2(&self) -> bool {
        self.h2c || self.speaks_tls()
    }

    pub fn speaks_tls(&self) -> bool {
        self.identity.is_some()
    }
}

fn number(tls: &BackendTls) -> Option<NonZeroU32> {
    let identity = tls.identity.get()?.as_ref().ok()?;
    Some(identity.number())
}
