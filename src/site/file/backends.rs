//! `to`: one backend or several, as numbers, texts or tables.

use std::net::SocketAddr;
use std::num::NonZero;

use super::SiteFile;
use crate::document::{Span, Table, Value, integer, one_or_more};
use crate::limits::SITE_BACKENDS;
use crate::site::backend::{Address, Backend, LinkLocal};
use crate::site::backend_tls::{BackendTls, Verify};
use crate::site::fence::is_same_socket;
use crate::site::member::{MOST_WEIGHT, Member};
use crate::site::tls::PairFiles;
use crate::site::{Backends, Hostname};

/// Keys of an entry that say how TLS is spoken to it.
const OF_TLS: [&str; 5] = ["server_name", "ca", "verify", "cert", "key"];

impl<'t> SiteFile<'_, 't> {
    pub(super) fn backends(&mut self, value: &Value<'t>) -> Option<Backends> {
        let mut list: Vec<Member> = Vec::new();
        let entries: Vec<&Value<'t>> = one_or_more(value).collect();
        let most = (SITE_BACKENDS, "backends");
        let entries = (self.reader).at_most(entries, self.backends, most, |entry| entry.span());
        self.backends += entries.len();
        for entry in entries {
            let Some(member) = self.member(entry) else {
                continue;
            };
            if list.iter().any(|other| other.backend == member.backend) {
                self.reader.error_with_help(
                    entry.span(),
                    format!("{member} is listed twice"),
                    Some(
                        "its share of the requests is its weight: { at = \"...\", weight = 2 }"
                            .into(),
                    ),
                );
            }
            list.push(member);
        }
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            self.reader.error(value.span(), "\"to\" is an empty list");
        }
        (!list.is_empty()).then(|| Backends::new(list))
    }

    fn member(&mut self, entry: &Value<'t>) -> Option<Member> {
        let Some(table) = entry.get_ref().as_table() else {
            return self.address(entry).map(Member::from);
        };
        let share = self.share(table);
        let backend = self.backend(entry, table)?;
        let (weight, backup, max) = share;
        Some(Member {
            weight,
            backup,
            max,
            ..Member::from(backend)
        })
    }

    /// `weight`, `backup` and `max` of an entry.
    fn share(&mut self, table: &Table<'t>) -> (u32, bool, Option<NonZero<u32>>) {
        let most = u64::from(u32::MAX);
        let weight = self.reader.count(table, "weight", 0..=MOST_WEIGHT.into());
        let weight = weight.and_then(|weight| u32::try_from(weight).ok());
        let max = self.reader.count(table, "max", 1..=most);
        let max = max.and_then(|max| u32::try_from(max).ok());
        (
            weight.unwrap_or(1),
            self.reader.flag(table, "backup").unwrap_or(false),
            max.and_then(NonZero::new),
        )
    }

    fn backend(&mut self, entry: &Value<'t>, table: &Table<'t>) -> Option<Backend> {
        let Some(at) = table.get("at") else {
            self.reader.missing(
                entry.span(),
                "the entry has no \"at\"",
                "write { at = \"10.0.0.7:5000\" }",
            );
            return None;
        };
        let Backend { address, tls, h2c } = self.address(at)?;
        let tls = match tls {
            Some(tls) => Some(Box::new(self.backend_tls(table, &address, *tls))),
            None => {
                self.has_no_tls(table, &address);
                None
            }
        };
        Some(Backend { address, tls, h2c })
    }

    fn address(&mut self, value: &Value<'t>) -> Option<Backend> {
        if let Some(number) = integer(value.get_ref()) {
            return match u16::try_from(number) {
                Ok(port) if port > 0 => self.admit(Address::loopback(port).into(), value.span()),
                _ => {
                    self.reader
                        .error(value.span(), "a port is a number from 1 to 65535");
                    None
                }
            };
        }
        let text = value.get_ref().as_str()?;
        let link_local = if self.rules.allow_link_local {
            LinkLocal::Allowed
        } else {
            LinkLocal::Refused
        };
        match Backend::parse(text, self.fence.folder, link_local) {
            Ok(backend) => self.admit(backend, value.span()),
            Err(error) => {
                self.reader.error_with_help(
                    value.span(),
                    format!("{text:?}: {error}"),
                    error.help(),
                );
                None
            }
        }
    }

    /// `usual` is what holds without any of the keys.
    fn backend_tls(
        &mut self,
        table: &Table<'t>,
        address: &Address,
        usual: BackendTls,
    ) -> BackendTls {
        let server_name = self.server_name(table);
        BackendTls {
            server_name: server_name.unwrap_or(usual.server_name),
            verify: self.verify(table, address),
            own: self.own_pair(table),
            identity: usual.identity,
        }
    }

    fn server_name(&mut self, table: &Table<'t>) -> Option<Hostname> {
        let (text, span) = self.reader.text(table, "server_name")?;
        Hostname::parse(text)
            .map_err(|error| self.reader.error(span, format!("{text:?}: {error}")))
            .ok()
    }

    fn verify(&mut self, table: &Table<'t>, address: &Address) -> Verify {
        let ca = self.reader.text(table, "ca");
        match (self.reader.text(table, "verify"), ca) {
            (None, None) => Verify::System,
            (None, Some(ca)) => Verify::Authorities(self.tls_file(ca)),
            (Some(("off", _)), Some((_, span))) => {
                self.reader.error(
                    span,
                    "\"ca\" beside verify = \"off\": whose certificates are good, if none is looked at?",
                );
                Verify::Off
            }
            (Some(("off", span)), None) => {
                let message = format!(
                    "the certificate of {address} is not verified: whoever answers there is believed"
                );
                self.reader.warning(span, message);
                Verify::Off
            }
            (Some((text, span)), _) => {
                self.reader.error_with_help(
                    span,
                    format!("verify = {text:?} says nothing: certificates are verified"),
                    Some(
                        "leave it out; not to verify is written verify = \"off\", and nothing else"
                            .into(),
                    ),
                );
                Verify::System
            }
        }
    }

    fn own_pair(&mut self, table: &Table<'t>) -> Option<PairFiles> {
        let cert = self.reader.text(table, "cert");
        let key = self.reader.text(table, "key");
        match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(PairFiles {
                cert: self.tls_file(cert),
                key: self.tls_file(key),
            }),
            (Some((_, span)), None) => {
                self.reader.error(
                    span,
                    "\"cert\" without \"key\": a certificate needs its key",
                );
                None
            }
            (None, Some((_, span))) => {
                self.reader.error(
                    span,
                    "\"key\" without \"cert\": a key needs its certificate",
                );
                None
            }
        }
    }

    /// Refuses keys that nothing would come of.
    fn has_no_tls(&mut self, table: &Table<'t>, address: &Address) {
        for name in OF_TLS {
            let Some(value) = table.get(name) else {
                continue;
            };
            let message =
                format!("{name:?} is about TLS, and {address} is spoken to in clear text");
            let help = match address {
                Address::Unix(_) => None,
                address => Some(format!("write at = \"https://{address}\"")),
            };
            self.reader.error_with_help(value.span(), message, help);
        }
    }

    /// Refuses our own addresses and sockets outside the fence.
    fn admit(&mut self, backend: Backend, span: Span) -> Option<Backend> {
        let address = &backend.address;
        if let Some(own) = self
            .rules
            .listen
            .iter()
            .find(|listen| is_own(address, listen))
        {
            self.reader.error(span, format!("{address} is where onedoor itself listens ({own}), requests would go round in circles"));
            return None;
        }
        if self
            .rules
            .admin_listen
            .is_some_and(|own| is_own(address, &own))
        {
            let message = format!(
                "{address} is where onedoor tells this machine about itself (admin_listen), and no app"
            );
            self.reader.error(span, message);
            return None;
        }
        if let (Address::Unix(path), Some(admin)) = (address, &self.rules.admin)
            && is_same_socket(path, admin)
        {
            let message = format!("{address} is onedoor's own admin socket, and no app");
            self.reader.error(span, message);
            return None;
        }
        if let Address::Unix(path) = address
            && !self.fence.admits_socket(path)
        {
            let message = format!(
                "the socket {} lies outside of sockets_under in onedoor.toml",
                path.display()
            );
            // What is there by then may lead elsewhere.
            let folder = path.parent().unwrap_or(path).to_owned();
            self.reader.error_about(span, message, folder);
            return None;
        }
        Some(backend)
    }
}

/// Whether a backend is one of our own listening addresses. Names are not resolved here; a loop through one is found
/// by its Via.
fn is_own(address: &Address, listen: &SocketAddr) -> bool {
    let own = listen.ip().to_canonical();
    match address {
        Address::Loopback { port } => {
            *port == listen.port() && (own.is_loopback() || own.is_unspecified())
        }
        Address::Ip(backend) => {
            let ip = backend.ip().to_canonical();
            backend.port() == listen.port()
                && (ip == own || own.is_unspecified() && ip.is_loopback())
        }
        Address::Name { .. } | Address::Unix(_) => false,
    }
}
