//! `to`: one backend or several, as numbers, texts or tables.

use std::net::SocketAddr;

use super::SiteFile;
use crate::document::{Span, Value, integer, one_or_more};
use crate::site::Backends;
use crate::site::backend::{Address, LinkLocal};

impl<'t> SiteFile<'_, 't> {
    pub(super) fn backends(&mut self, value: &Value<'t>) -> Option<Backends> {
        let mut list: Vec<Address> = Vec::new();
        for entry in one_or_more(value) {
            let Some(address) = self.backend(entry) else {
                continue;
            };
            if list.contains(&address) {
                self.reader
                    .warning(entry.span(), format!("{address} is listed twice"));
            }
            list.push(address);
        }
        if value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
        {
            self.reader.error(value.span(), "\"to\" is an empty list");
        }
        (!list.is_empty()).then(|| Backends { list: list.into() })
    }

    fn backend(&mut self, entry: &Value<'t>) -> Option<Address> {
        if let Some(number) = integer(entry.get_ref()) {
            return match u16::try_from(number) {
                Ok(port) if port > 0 => self.admit(Address::loopback(port), entry.span()),
                _ => {
                    self.reader
                        .error(entry.span(), "a port is a number from 1 to 65535");
                    None
                }
            };
        }
        if let Some(table) = entry.get_ref().as_table() {
            let Some(at) = table.get("at") else {
                self.reader.missing(
                    entry.span(),
                    "the entry has no \"at\"",
                    "write { at = \"10.0.0.7:5000\" }",
                );
                return None;
            };
            return self.backend(at);
        }
        let text = entry.get_ref().as_str()?;
        let link_local = if self.rules.allow_link_local {
            LinkLocal::Allowed
        } else {
            LinkLocal::Refused
        };
        match Address::parse(text, self.fence.folder, link_local) {
            Ok(address) => self.admit(address, entry.span()),
            Err(error) => {
                self.reader.error_with_help(
                    entry.span(),
                    format!("{text:?}: {error}"),
                    error.help(),
                );
                None
            }
        }
    }

    /// Refuses our own addresses and sockets outside the fence.
    fn admit(&mut self, address: Address, span: Span) -> Option<Address> {
        if let Some(own) = self
            .rules
            .listen
            .iter()
            .find(|listen| is_own(&address, listen))
        {
            self.reader.error(span, format!("{address} is where onedoor itself listens ({own}), requests would go round in circles"));
            return None;
        }
        if let Address::Unix(path) = &address
            && !self.fence.admits_socket(path)
        {
            let message = format!(
                "the socket {} lies outside of sockets_under in onedoor.toml",
                path.display()
            );
            self.reader.error(span, message);
            return None;
        }
        Some(address)
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
