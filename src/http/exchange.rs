//! Which part of which site answers a request, and whether it may: decided once, before anything is sent.

use super::answer::Answer;
use super::asked_by::AskedBy;
use super::field::{Kind, list_members, same};
use super::forward::{Forwarded, Onward, hops_left};
use super::h1::head::{Framing, RequestHead};
use super::kit::{Client, Shared};
use super::known_host::{Gate, KnownHost};
use crate::site::tls::Mode;
use crate::site::{Action, Backends, PathRefusal, Redirect, Respond, SendHost, Site};

/// What happens to a request.
#[derive(Debug)]
pub(super) enum Decision<'s> {
    /// To the backends of the path rule `rule`, or of the site.
    Forward {
        strip: usize,
        rule: Option<usize>,
    },
    Redirect(&'s Redirect),
    /// A name of `redirect_from`: to the first host, with path and query.
    RedirectToFirst,
    Respond(&'s Respond),
    /// OPTIONS that may go no further (RFC 9110 7.6.2).
    LastStop,
    /// The same over TLS.
    ToTls,
    Refuse(Answer),
}

/// Decides over one request for `known`, which has a site.
pub(super) fn decide<'s>(
    head: &RequestHead<'_>,
    known: &KnownHost,
    site: &'s Site,
    client: &Client,
    asked_by: &AskedBy,
    shared: &Shared,
) -> Decision<'s> {
    if client.trusted && known.is_for_near(&shared.keyring) && !asked_by.is_near() {
        return Decision::Refuse(Answer::NoSite);
    }
    match known.gate() {
        Gate::Open => {}
        gate if is_lifted(gate, head, site, client) => {}
        // Where it came from it would only come from again.
        Gate::ToTls { .. } if is_forwarded_from_tls(head, client) => {
            return Decision::Refuse(Answer::TlsOnly);
        }
        Gate::ToTls { only_reading } => {
            return if only_reading && !matches!(head.method, "GET" | "HEAD") {
                Decision::Refuse(Answer::TlsOnly)
            } else {
                Decision::ToTls
            };
        }
        Gate::Closed(answer) => return Decision::Refuse(answer),
        // Whoever may wait for it has.
        Gate::NotYet => return Decision::Refuse(Answer::NoCertificate),
    }
    let path = head.target.path();
    let place = match site.place(path.as_bytes()) {
        Ok(place) => place,
        Err(PathRefusal::NoPath) => return Decision::Refuse(Answer::NoPath),
        Err(PathRefusal::Ambiguous) => return Decision::Refuse(Answer::AmbiguousPath),
    };
    if place
        .allow
        .is_some_and(|allow| !asked_by.is_admitted(allow))
    {
        return Decision::Refuse(Answer::NotAllowed);
    }
    if is_loop(head, shared) {
        return Decision::Refuse(Answer::Loop);
    }
    if site.has_redirects() && known.name().is_some_and(|name| site.redirects(&name)) {
        return Decision::RedirectToFirst;
    }
    if let (Framing::Length(length), Some(limit)) = (head.framing, site.limits.body_bytes)
        && length > limit
    {
        return Decision::Refuse(Answer::BodyTooLarge);
    }
    match place.action {
        Action::Proxy(_) => {
            if head.method == "OPTIONS" && hops_left(&head.fields) == Some(0) {
                return Decision::LastStop;
            }
            Decision::Forward {
                strip: place.strip,
                rule: place.rule,
            }
        }
        Action::Redirect(redirect) => Decision::Redirect(redirect),
        Action::Respond(respond) => Decision::Respond(respond),
    }
}

/// Whether a gate that is there for want of TLS is open to a request that came by TLS to a trusted proxy: as far as
/// anybody outside can tell. Never where a site asks for certificates of clients, which no such proxy shows us, nor where
/// only its app ends TLS, and never on a connection of TLS with us that is good for other sites.
pub(super) fn is_lifted(gate: Gate, head: &RequestHead<'_>, site: &Site, client: &Client) -> bool {
    let wants_tls = matches!(
        gate,
        Gate::ToTls { .. } | Gate::NotYet | Gate::Closed(Answer::TlsOnly | Answer::NoCertificate)
    );
    let may_be_ended_elsewhere = site.tls.client.is_none() && site.tls.mode != Mode::Passthrough;
    wants_tls && may_be_ended_elsewhere && is_forwarded_from_tls(head, client)
}

/// The backends that [`Decision::Forward`] means.
pub(super) fn backends(site: &Site, rule: Option<usize>) -> Option<&Backends> {
    let of_rule = rule
        .and_then(|rule| site.paths.get(rule))
        .and_then(|rule| rule.action.as_ref());
    match of_rule.or(site.action.as_ref())? {
        Action::Proxy(backends) => Some(backends),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// What is said to the backends that [`Decision::Forward`] means. The request's id and the lines about the client's
/// certificate are for the caller to put in.
pub(super) fn onward<'a>(
    known: &'a KnownHost,
    site: &'a Site,
    client: &Client,
    asked_by: &AskedBy,
    shared: &'a Shared,
    strip: usize,
    rule: Option<usize>,
) -> Onward<'a> {
    Onward {
        site,
        host: match &site.send_host {
            SendHost::Name(name) => name.as_bytes(),
            // `Backend` is filled in when the backend is known.
            SendHost::Keep | SendHost::Backend => known.host(),
        },
        strip,
        prefix: rule
            .and_then(|rule| site.paths.get(rule))
            .map_or("", |rule| rule.pattern.path()),
        forwarded: if client.trusted {
            Forwarded::Added {
                client: client.address.ip().to_canonical(),
                asker: asked_by.known(),
                ours: known.forwarded(),
            }
        } else {
            Forwarded::Set(known.forwarded())
        },
        certificate: b"",
        request_id: [b'0'; 32],
        via: site.headers.via.then_some(&*shared.via),
    }
}

/// Whether a trusted proxy has ended TLS for the client.
pub(super) fn is_forwarded_from_tls(head: &RequestHead<'_>, client: &Client) -> bool {
    let said = || head.fields.of(Kind::ForwardedProto).last();
    client.trusted && said().is_some_and(|said| same(said, b"https"))
}

/// What the backend knows the request by: `ours`, or what a trusted proxy calls it, as far as that fits.
pub(super) fn known_as(head: &RequestHead<'_>, client: &Client, ours: [u8; 32]) -> [u8; 32] {
    if !client.trusted {
        return ours;
    }
    let Some(given) = head.fields.of(Kind::RequestId).next() else {
        return ours;
    };
    let mut id = [b' '; 32];
    id.iter_mut()
        .zip(given)
        .for_each(|(byte, &given)| *byte = given);
    id
}

/// Whether our own pseudonym is in Via already: the request has come through here (RFC 9110 7.6.3).
fn is_loop(head: &RequestHead<'_>, shared: &Shared) -> bool {
    let ours = shared.via.as_bytes();
    head.fields
        .of(Kind::Via)
        .flat_map(list_members)
        .any(|member| {
            let mut words = member
                .split(|&byte| byte == b' ' || byte == b'\t')
                .filter(|word| !word.is_empty());
            words.next().is_some() && words.next() == Some(ours)
        })
}

/// Whether who asks may be told why a backend failed: it is of this machine and nobody has passed it on.
pub(super) fn may_be_told_why(head: &RequestHead<'_>, known: &KnownHost) -> bool {
    known.is_local
        && !head.fields.kinds.iter().any(|kind| {
            matches!(
                kind,
                Kind::Via
                    | Kind::ForwardedFor
                    | Kind::ForwardedHost
                    | Kind::ForwardedProto
                    | Kind::ForwardedPort
                    | Kind::RealIp
                    | Kind::RequestId
                    | Kind::Identity
            )
        })
}
