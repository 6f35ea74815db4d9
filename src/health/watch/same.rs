//! What a check asks, and so which two are one.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Watch;
use crate::health::probe::Probe;
use crate::http::Visit;
use crate::proxy_header;
use crate::site::health::{Ask, Check};
use crate::site::{Address, HostPattern, Member, SendHost, SendProxy, Site, Wire};
use crate::tls::InClear;

/// What makes two checks the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    pub(super) asked: Asked,
    pub(super) check: Arc<Check>,
}

/// Who is asked for what, however often.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    address: Address,
    identity: Option<NonZeroU32>,
    h2c: bool,
    introduction: Option<SendProxy>,
    ask: Ask,
    head: Box<[u8]>,
}

impl Watch {
    /// `None`: how TLS is spoken there is not known yet, or cannot be; told again when it is.
    pub(super) fn probe(
        &self,
        site: &Site,
        member: &Member,
        address: Address,
        check: &Arc<Check>,
    ) -> Option<(Same, Probe)> {
        let identity = match &member.backend.tls {
            None => None,
            Some(tls) => Some(tls.identity.get()?.as_ref().ok()?),
        };
        let head = match &check.ask {
            Ask::Connect => Box::default(),
            Ask::Get(get) => {
                let host = get.send_host.as_deref().map(str::to_owned);
                let host = host.unwrap_or_else(|| self.host(site, member));
                let visit = Visit {
                    site,
                    path: &get.path,
                    wire: self.wire(site, &host),
                    host: &host,
                    port: self.tools.port,
                    request_id: self.request_id(),
                    via: &self.tools.via,
                };
                visit.head()?.into_boxed_slice()
            }
        };
        let mut introduction = Vec::new();
        if let Some(version) = site.send_proxy {
            proxy_header::write_own(&mut introduction, version);
        }
        let same = Same {
            asked: Asked {
                address: address.clone(),
                identity: identity.map(|identity| identity.number()),
                h2c: member.backend.h2c,
                introduction: site.send_proxy,
                ask: check.ask.clone(),
                head: head.clone(),
            },
            check: Arc::clone(check),
        };
        let identity = match identity {
            None => None,
            Some(identity) => Some(self.tools.keyring.identity(identity)?),
        };
        let probe = Probe {
            address,
            identity,
            h2c: member.backend.h2c,
            check: Arc::clone(check),
            introduction: introduction.into(),
            head,
        };
        Some((same, probe))
    }

    /// The Host that a visitor's request has when it gets there.
    fn host(&self, site: &Site, member: &Member) -> String {
        let exact = site.claims.iter().find_map(|claim| match &claim.pattern {
            HostPattern::Exact(name) if name.as_str().contains(':') => Some(format!("[{name}]")),
            HostPattern::Exact(name) => Some(name.to_string()),
            _ => None,
        });
        match &site.send_host {
            SendHost::Name(name) => name.to_string(),
            SendHost::Keep if let Some(exact) = exact => exact,
            SendHost::Keep | SendHost::Backend => member.backend.host(),
        }
    }

    /// What visitors of `host` end up with.
    fn wire(&self, site: &Site, host: &str) -> Wire {
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        match self.tools.keyring.in_clear(site, host, here) {
            InClear::Serve => Wire::ClearText,
            _ => Wire::Tls,
        }
    }

    /// The same for all checks of this run, so that equal ones are equal.
    fn request_id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        let text = format!("{:016x}{:016x}", self.tools.seed[0], self.tools.seed[1]);
        id.copy_from_slice(&text.as_bytes()[..32]);
        id
    }
}
