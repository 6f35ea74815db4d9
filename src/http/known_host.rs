//! The name a connection asked for last, and the site that answers for it.
//!
//! A keep-alive connection asks for the same host again and again: then the route is a comparison of bytes and
//! of a generation, and what the next hop is told about the client is one copy.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use super::answer::Answer;
use super::kit::{Asker, Client, Kit};
use super::logged;
use crate::block::Sheet;
use crate::digits::{put_ip, put_number};
use crate::observe::access::{Format, Lasting};
use crate::site::hostname::{Authority, HostBuffer, authority};
use crate::site::{Site, SiteSlot, Wire};
use crate::tls::{self, InClear, Keyring, Secure, is_near};
use crate::wheel::{GONE, Timer};

/// See the module.
#[derive(Debug)]
pub(super) struct KnownHost {
    site: Option<Arc<Site>>,
    /// Of `site`, for as long as this is the one asked for.
    slot: Option<SiteSlot>,
    generation: u64,
    gate: Gate,
    wire: Wire,
    /// One after the other: the Host as it was written, the Host as it is sent on, the forwarded fields.
    text: Box<[u8]>,
    raw_bytes: u16,
    host_bytes: u16,
    /// Whether client and host are both of this machine, so that a failure may be explained.
    pub(super) is_local: bool,
    /// See [`KnownHost::is_for_near`].
    is_for_near: OnceCell<bool>,
    /// All this as a line of the access log has it, once there was one.
    logged: RefCell<Option<Box<Lasting>>>,
}

/// What looking a host up has brought.
pub(super) struct FoundSite {
    pub(super) site: Option<Arc<Site>>,
    pub(super) slot: Option<SiteSlot>,
    pub(super) generation: u64,
    pub(super) gate: Gate,
}

/// Whether a connection of this kind may ask for this host at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// From clear text to https.
    ToTls {
        only_reading: bool,
    },
    Closed(Answer),
    /// It is not known yet: files that its site names are being read.
    NotYet,
}

/// Whether a request may wait until it is known what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Left,
    Over,
}

impl KnownHost {
    /// What is known about the host that `raw` asks for; looked up when it is not what was asked for last, when a table
    /// was published since, or when not all was known. With a timer it is the connection that takes a slot of the site.
    ///
    /// # Errors
    /// `NoHost`, `BadHost` and `SiteFull`.
    pub(super) fn recall<'k>(
        known: &'k mut Option<Box<KnownHost>>,
        raw: &[u8],
        asker: &Asker<'_>,
        timer: Option<&Timer>,
    ) -> Result<&'k KnownHost, Answer> {
        let kit = asker.kit;
        let is_same = known.as_ref().is_some_and(|known| known.raw() == raw);
        if !is_same {
            let slot = known.take().and_then(|known| known.slot);
            *known = Some(Box::new(KnownHost::learn(raw, slot, asker, timer)?));
        } else if let Some(mut old) = known.take_if(|known| known.is_outdated(kit)) {
            old.generation = kit.generation();
            old.site = None; // the old version may be the last one that anybody holds
            let name = old.name().unwrap_or_default();
            old.site = kit.find(&name);
            old.gate = gate_of(old.site.as_deref(), &name, asker);
            old.slot = slot(old.site.as_deref(), old.slot, kit, timer)?;
            old.is_for_near = OnceCell::new();
            old.logged = RefCell::default();
            *known = Some(old);
        }
        known.as_deref().ok_or(Answer::NoHost)
    }

    fn is_outdated(&self, kit: &Kit) -> bool {
        self.generation != kit.generation() || self.gate == Gate::NotYet
    }

    /// `held` is what the connection holds so far.
    fn learn(
        raw: &[u8],
        held: Option<SiteSlot>,
        asker: &Asker<'_>,
        timer: Option<&Timer>,
    ) -> Result<KnownHost, Answer> {
        let Asker {
            client, wire, kit, ..
        } = *asker;
        let mut buffer = HostBuffer::new();
        if raw.is_empty() {
            return Err(Answer::NoHost);
        }
        let asked = authority(raw, &mut buffer).map_err(|_| Answer::BadHost)?;
        let generation = kit.generation();
        let site = kit.find(asked.host);
        let gate = gate_of(site.as_deref(), asked.host, asker);
        let slot = slot(site.as_deref(), held, kit, timer)?;
        let found = FoundSite {
            site,
            slot,
            generation,
            gate,
        };
        Ok(KnownHost::of(raw, asked, found, client, wire))
    }

    /// What is known of the host that `raw` asks for, which was read as `asked` and looked up.
    pub(super) fn of(
        raw: &[u8],
        asked: Authority<'_>,
        found: FoundSite,
        client: &Client,
        wire: Wire,
    ) -> KnownHost {
        let FoundSite {
            site,
            slot,
            generation,
            gate,
        } = found;
        let ip = client.address.ip().to_canonical();
        // Written into one lent sheet and kept in one piece of just the size: a connection per request pays for it.
        let mut text = Sheet::lend();
        text.extend_from_slice(raw);
        if asked.host.contains(':') {
            text.push(b'[');
            text.extend_from_slice(asked.host.as_bytes());
            text.push(b']');
        } else {
            text.extend_from_slice(asked.host.as_bytes());
        }
        if let Some(port) = asked.port {
            text.push(b':');
            put_number(&mut text, u64::from(port));
        }
        let host = raw.len()..text.len();
        text.extend_from_slice(b"X-Forwarded-For: ");
        put_ip(&mut text, ip);
        text.extend_from_slice(match wire {
            Wire::ClearText => b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: ",
            Wire::Tls => b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: ",
        });
        text.extend_from_within(host.clone());
        text.extend_from_slice(b"\r\nX-Forwarded-Port: ");
        put_number(&mut text, u64::from(client.local.port()));
        text.extend_from_slice(b"\r\nX-Real-IP: ");
        put_ip(&mut text, ip);
        text.extend_from_slice(b"\r\n");
        KnownHost {
            site,
            slot,
            generation,
            gate,
            wire,
            // Both are bounded: a Host is at most some 260 bytes.
            raw_bytes: raw.len() as u16,
            host_bytes: host.len() as u16,
            text: text.as_slice().into(),
            is_local: ip.is_loopback() && is_local_name(asked.host),
            is_for_near: OnceCell::new(),
            logged: RefCell::default(),
        }
    }

    /// Host as it was written.
    pub(super) fn raw(&self) -> &[u8] {
        &self.text[..usize::from(self.raw_bytes)]
    }

    /// Host as it is sent on: what was routed by, and the port the client named.
    pub(super) fn host(&self) -> &[u8] {
        &self.text[usize::from(self.raw_bytes)..][..usize::from(self.host_bytes)]
    }

    /// The fields that tell a backend who asked, for a client that is not trusted to tell itself.
    pub(super) fn forwarded(&self) -> &[u8] {
        &self.text[usize::from(self.raw_bytes) + usize::from(self.host_bytes)..]
    }

    /// The name alone, normalised.
    pub(super) fn name(&self) -> Option<String> {
        let mut buffer = HostBuffer::new();
        authority(self.raw(), &mut buffer)
            .ok()
            .map(|asked| asked.host.to_owned())
    }

    /// All this as a line of the access log has it.
    pub(super) fn logged<T>(
        &self,
        asker: &Asker<'_>,
        format: Format,
        begin: impl FnOnce(&Lasting) -> T,
    ) -> T {
        let mut logged = self.logged.borrow_mut();
        let lasting = match &mut *logged {
            Some(lasting) if lasting.format() == format => lasting,
            other => other.insert(Box::new(Lasting::of(&logged::who(self, asker), format))),
        };
        begin(lasting)
    }

    pub(super) fn site(&self) -> Option<&Arc<Site>> {
        self.site.as_ref()
    }

    pub(super) fn gate(&self) -> Gate {
        self.gate
    }

    /// The site, if a request for it is better begun when its files have been read.
    pub(super) fn unread(&self, patience: Patience) -> Option<Arc<Site>> {
        match (self.gate, patience) {
            (Gate::NotYet, Patience::Left) => self.site.clone(),
            _ => None,
        }
    }

    /// Whether only clients nearby may ask for it. `gate` knows that of the client; this is for one that asks for others.
    pub(super) fn is_for_near(&self, keyring: &Keyring) -> bool {
        let look = || {
            let site = self.site.as_deref();
            let is_for_near = |site| keyring.is_for_near(site, &self.name().unwrap_or_default());
            site.is_some_and(is_for_near)
        };
        *self.is_for_near.get_or_init(look)
    }

    pub(super) fn wire(&self) -> Wire {
        self.wire
    }
}

/// Also asked again with every new table: what an edit tightens binds connections that are open (CASES T-43).
fn gate_of(site: Option<&Site>, host: &str, asker: &Asker<'_>) -> Gate {
    let keyring = &asker.kit.shared.keyring;
    gate(site, host, asker.client.address.ip(), asker.secure, keyring)
}

/// Whether a connection of `client`, inside of TLS if it is `secure`, may ask for `host` of `site`.
pub(super) fn gate(
    site: Option<&Site>,
    host: &str,
    client: IpAddr,
    secure: Option<&Secure>,
    keyring: &Keyring,
) -> Gate {
    let Some(site) = site else {
        return Gate::Open;
    };
    let Some(secure) = secure else {
        return match keyring.in_clear(site, host, client) {
            InClear::Serve => Gate::Open,
            InClear::Redirect { only_reading } => Gate::ToTls { only_reading },
            InClear::Refuse => Gate::Closed(Answer::TlsOnly),
            InClear::NotYet => Gate::NotYet,
            InClear::NoCertificate => Gate::Closed(Answer::NoCertificate),
            InClear::TooFar => Gate::Closed(Answer::NoSite),
        };
    };
    if keyring.is_for_near(site, host) && !is_near(client) {
        return Gate::Closed(Answer::NoSite);
    }
    let is_admitted = keyring
        .policy(site)
        .is_some_and(|policy| secure.version >= policy.min && tls::admits(&secure.policy, &policy));
    if is_admitted && secure.covers(host) {
        Gate::Open
    } else {
        Gate::Closed(Answer::WrongTlsConnection)
    }
}

/// A slot of `site` for the connection of `timer`: the one that is held, if it is that site's.
fn slot(
    site: Option<&Site>,
    held: Option<SiteSlot>,
    kit: &Kit,
    timer: Option<&Timer>,
) -> Result<Option<SiteSlot>, Answer> {
    let Some(timer) = timer else {
        return Ok(None);
    };
    if let (Some(site), Some(slot)) = (site, &held)
        && slot.is_of(&site.slots)
    {
        return Ok(held);
    }
    drop(held);
    // Only once it has one: as long as it asks, it is no connection of that site that could make room.
    timer.at_site(GONE);
    let Some(site) = site else {
        return Ok(None);
    };
    let slot = kit.slot(site).ok_or(Answer::SiteFull)?;
    timer.at_site(site.number);
    Ok(Some(slot))
}

fn is_local_name(host: &str) -> bool {
    let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    host == "localhost" || host.ends_with(".localhost") || is_loopback(host)
}
