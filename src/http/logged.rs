//! What is logged of a request: begun while its head is there, finished with it.

use std::net::IpAddr;

use super::h1::head::{RequestHead, Version};
use super::kit::Asker;
use super::known_host::KnownHost;
use crate::observe::access::{Begun, Facts, Text};
use crate::site::Address;
use crate::site::tls::MinVersion;
use crate::tls::Secure;

/// A line for this request, if somebody wants one.
#[inline]
pub(super) fn begin(
    head: &RequestHead<'_>,
    known: &KnownHost,
    asker: &Asker<'_>,
    client: IpAddr,
    id: Option<&[u8; 32]>,
) -> Option<Box<Begun>> {
    let of_site = known.site().map(|site| &site.access_log);
    let to = asker.kit.access.destination(of_site)?;
    let is_shown = asker.kit.access.names_agents();
    let field = |name: &str| {
        let mut fields = head.fields.headers.iter().filter(|_| is_shown);
        let field = fields.find(|field| field.name.eq_ignore_ascii_case(name));
        field.map_or(&b""[..], |field| field.value)
    };
    let facts = Facts {
        id,
        client,
        site: known.site().map(|site| site.name.as_str()),
        host: known.host(),
        method: Some(head.method),
        path: head.target.path().as_bytes(),
        query: head.target.query.as_bytes(),
        protocol: match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        },
        tls: asker.secure.map(tls_version),
        sni: asker.secure.map(|secure| &*secure.name),
        referer: field("referer"),
        agent: field("user-agent"),
    };
    Some(asker.kit.access.begin(to, &facts))
}

/// A line for what could not be read as a request.
pub(super) fn unread(asker: &Asker<'_>) -> Option<Box<Begun>> {
    let to = asker.kit.access.destination(None)?;
    let facts = Facts {
        id: None,
        client: asker.client.address.ip(),
        site: None,
        host: b"",
        method: None,
        path: b"",
        query: b"",
        protocol: "HTTP",
        tls: asker.secure.map(tls_version),
        sni: asker.secure.map(|secure| &*secure.name),
        referer: b"",
        agent: b"",
    };
    Some(asker.kit.access.begin(to, &facts))
}

/// Without the machinery of `Display` for the usual ones: it is written for every request.
pub fn put_backend(text: &mut Text<'_>, address: &Address) {
    match address {
        Address::Loopback { port } => {
            text.put(b"localhost:");
            text.put_number(u64::from(*port));
        }
        Address::Ip(at) if at.is_ipv4() => {
            text.put_ip(at.ip());
            text.put(b":");
            text.put_number(u64::from(at.port()));
        }
        other => text.put(other.to_string().as_bytes()),
    }
}

fn tls_version(secure: &Secure) -> &'static str {
    match secure.version {
        MinVersion::Tls12 => "1.2",
        MinVersion::Tls13 => "1.3",
    }
}
