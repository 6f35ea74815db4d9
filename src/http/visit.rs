//! The request of a visitor who is onedoor itself: a check asks a backend as a client would, by the same rewriting.

use std::net::{IpAddr, Ipv4Addr};

use super::forward::{self, Forwarded, Onward};
use super::h1::head::{self, HeadLimits, Parsed, Room};
use crate::limits::{MOST_FIELDS, MOST_HEAD_BYTES};
use crate::site::{Site, Wire};

/// What a visitor from this machine would ask.
#[derive(Debug)]
pub struct Visit<'a> {
    pub site: &'a Site,
    /// Begins with a slash.
    pub path: &'a str,
    /// As it stands in Host.
    pub host: &'a str,
    /// What it would come by.
    pub wire: Wire,
    /// The port it would come to.
    pub port: u16,
    pub request_id: [u8; 32],
    /// Our name in Via.
    pub via: &'a str,
}

impl Visit<'_> {
    /// The head that a backend gets for a GET of it; the connection ends with the answer. `None`: host or path are not
    /// what a request may have.
    pub fn head(&self) -> Option<Vec<u8>> {
        const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let Visit {
            site,
            path,
            host,
            port,
            ..
        } = self;
        let version = env!("CARGO_PKG_VERSION");
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: onedoor/{version} (health check)\r\nAccept: */*\r\n\r\n"
        );
        let limits = HeadLimits {
            line_bytes: MOST_HEAD_BYTES,
            field_bytes: MOST_HEAD_BYTES,
            fields: MOST_FIELDS,
            head_bytes: MOST_HEAD_BYTES,
        };
        let mut room = Room::new();
        let read = head::request(asked.as_bytes(), &limits, &mut room);
        let Ok(Parsed::Complete(head)) = read else {
            return None;
        };
        let scheme = match self.wire {
            Wire::ClearText => "http",
            Wire::Tls => "https",
        };
        let forwarded = format!(
            "X-Forwarded-For: {FROM}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Port: {port}\r\nX-Real-IP: {FROM}\r\n"
        );
        let onward = Onward {
            site,
            host: host.as_bytes(),
            strip: 0,
            prefix: "",
            forwarded: Forwarded::Set(forwarded.as_bytes()),
            certificate: b"",
            request_id: self.request_id,
            via: site.headers.via.then_some(self.via),
        };
        let mut out = Vec::new();
        forward::request_head(&mut out, asked.as_bytes(), &head, &onward).ok()?;
        // In front of the empty line.
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"Connection: close\r\n\r\n");
        Some(out)
    }
}
