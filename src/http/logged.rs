//! What is logged of a request: begun while its head is there, finished with it.

use std::net::{IpAddr, SocketAddr};

use super::h1::head::{RequestHead, Version};
use super::kit::{Asker, Kit};
use super::known_host::KnownHost;
use crate::observe::access::{
    Begun, Destination, Facts, Format, Lasting, Spoken, Text, Wanted, Who,
};
use crate::site::Address;
use crate::site::tls::MinVersion;
use crate::tls::Secure;

/// A line for this request, if somebody wants one.
#[inline]
pub(super) fn begin(
    head: &RequestHead<'_>,
    known: &KnownHost,
    asker: &Asker<'_>,
    by: IpAddr,
    id: Option<&[u8; 32]>,
) -> Option<Box<Begun>> {
    let wanted = &asker.kit.shared.latest().access;
    let of_site = known.site().map(|site| &site.access_log);
    let to = wanted.destination(of_site)?;
    Some(write(head, known, asker, by, id, to, wanted))
}

#[inline(never)]
fn write(
    head: &RequestHead<'_>,
    known: &KnownHost,
    asker: &Asker<'_>,
    by: IpAddr,
    id: Option<&[u8; 32]>,
    to: &Destination,
    wanted: &Wanted,
) -> Box<Begun> {
    let (mut referer, mut agent) = (&b""[..], &b""[..]);
    if wanted.format == Format::Combined {
        for field in head.fields.headers.iter() {
            match field.name.len() {
                7 if field.name.eq_ignore_ascii_case("referer") => referer = field.value,
                10 if field.name.eq_ignore_ascii_case("user-agent") => agent = field.value,
                _ => {}
            }
        }
    }
    let Asker { client, kit, .. } = *asker;
    let trusted = client.trusted;
    known.logged(asker, wanted.format, |who| {
        let facts = Facts {
            id,
            who,
            asker: trusted.then_some(by),
            method: Some(head.method),
            path: head.target.path().as_bytes(),
            query: head.target.query.as_bytes(),
            spoken: match head.version {
                Version::Http10 => Spoken::Http10,
                Version::Http11 => Spoken::Http11,
                Version::Http2 => Spoken::Http2,
            },
            referer,
            agent,
        };
        kit.access.begin(to, &facts, wanted.query)
    })
}

/// Who asks on this connection, for the host and the site that are known.
pub(super) fn who<'a>(known: &'a KnownHost, asker: &Asker<'a>) -> Who<'a> {
    Who {
        site: known.site().map(|site| site.name.as_str()),
        host: known.host(),
        ..nobody(asker)
    }
}

fn nobody<'a>(asker: &Asker<'a>) -> Who<'a> {
    Who {
        client: asker.client.address.ip(),
        site: None,
        host: b"",
        tls: asker.secure.map(tls_version),
        sni: asker.secure.map(|secure| &*secure.name),
    }
}

/// A line for what could not be read as a request.
pub(super) fn unread(asker: &Asker<'_>) -> Option<Box<Begun>> {
    let wanted = &asker.kit.shared.latest().access;
    let to = wanted.destination(None)?;
    let who = nobody(asker);
    Some(unrequested(asker.kit, to, wanted, &who, Spoken::Http))
}

/// A line for what is not a request: it was not read as one, or is passed through.
pub(super) fn unrequested(
    kit: &Kit,
    to: &Destination,
    wanted: &Wanted,
    who: &Who<'_>,
    spoken: Spoken,
) -> Box<Begun> {
    let facts = Facts {
        id: None,
        who: &Lasting::of(who, wanted.format),
        asker: None,
        method: None,
        path: b"",
        query: b"",
        spoken,
        referer: b"",
        agent: b"",
    };
    kit.access.begin(to, &facts, wanted.query)
}

/// Without the machinery of `Display` for the usual ones: it is written for every request.
pub fn put_backend(text: &mut Text<'_>, address: &Address) {
    match address {
        Address::Loopback { port } => {
            text.put_plain(b"localhost:");
            text.put_number(u64::from(*port));
        }
        Address::Ip(SocketAddr::V4(at)) => text.put_address(*at.ip(), at.port()),
        other => text.put(other.to_string().as_bytes()),
    }
}

fn tls_version(secure: &Secure) -> &'static str {
    match secure.version {
        MinVersion::Tls12 => "1.2",
        MinVersion::Tls13 => "1.3",
    }
}
