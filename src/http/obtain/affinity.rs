//! What of a request says which backend it belongs to.

use std::net::IpAddr;

use crate::http::exchange::is_forwarded_from_tls;
use crate::http::field::Fields;
use crate::http::h1::head::RequestHead;
use crate::http::kit::Client;
use crate::site::balance::{Balance, HashBy};
use crate::site::member::Token;
use crate::site::{Member, Site};
use crate::upstream::Way;

/// See the module. Nothing of it is looked for unless the site asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Affinity {
    pub(super) hash: Option<u64>,
    /// Where the cookie of `sticky` says it was before.
    pub(super) token: Option<Token>,
    /// It came by TLS, here or at a proxy that is trusted.
    is_secure: bool,
}

impl Affinity {
    /// Of a request to `site` that `asker` made in truth.
    pub(in crate::http) fn of(
        head: &RequestHead<'_>,
        site: &Site,
        client: &Client,
        asker: IpAddr,
        is_secure: bool,
    ) -> Affinity {
        let hash = match &site.balancing.by {
            Balance::Hash(by) => hash_of(by, head, asker),
            Balance::LeastRequests | Balance::RoundRobin | Balance::Random => None,
        };
        let Some(sticky) = &site.balancing.sticky else {
            return Affinity {
                hash,
                ..Affinity::default()
            };
        };
        let token = cookie(&head.fields, sticky.cookie.as_bytes());
        Affinity {
            hash,
            token: token.and_then(|value| value.try_into().ok()),
            is_secure: is_secure || is_forwarded_from_tls(head, client),
        }
    }

    /// Of a connection whose requests are not read.
    pub(crate) fn of_connection(site: &Site, asker: IpAddr) -> Affinity {
        Affinity {
            hash: match &site.balancing.by {
                Balance::Hash(HashBy::Ip) => Some(hash_ip(asker)),
                _ => None,
            },
            ..Affinity::default()
        }
    }

    /// How a backend of `site` is chosen for it.
    pub(in crate::http) fn way<'s>(&self, site: &'s Site) -> Way<'s> {
        Way {
            balance: &site.balancing.by,
            slow_start: site.balancing.slow_start,
            hash: self.hash,
            token: self.token,
        }
    }

    /// The cookie that brings the client back to `member`. `None`: it has it, or the site is not sticky.
    pub(super) fn cookie(&self, site: &Site, member: &Member) -> Option<String> {
        let sticky = site.balancing.sticky.as_ref()?;
        if self.token == Some(member.token) {
            return None;
        }
        let token = String::from_utf8_lossy(&member.token);
        let secure = if self.is_secure { "; Secure" } else { "" };
        Some(format!(
            "{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}",
            sticky.cookie
        ))
    }
}

fn hash_of(by: &HashBy, head: &RequestHead<'_>, asker: IpAddr) -> Option<u64> {
    match by {
        HashBy::Ip => Some(hash_ip(asker)),
        HashBy::Path => Some(hash(head.target.path().as_bytes())),
        HashBy::Cookie(name) => cookie(&head.fields, name.as_bytes()).map(hash),
        HashBy::Header(name) => {
            let mut fields = head.fields.headers.iter();
            let field = fields.find(|field| field.name.eq_ignore_ascii_case(name));
            field.map(|field| hash(field.value))
        }
    }
}

/// An IPv6 client has a whole /64, and uses all of it.
fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()[..8]),
    }
}

/// FNV-1a: the same in every process; who chooses among backends mixes it once more.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The value of a cookie (RFC 6265 5.4; RFC 9113 8.2.3: there may be several fields).
fn cookie<'h>(fields: &Fields<'h>, name: &[u8]) -> Option<&'h [u8]> {
    let fields = fields.headers.iter();
    let fields = fields.filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    fields
        .flat_map(|field| field.value.split(|&byte| byte == b';'))
        .find_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            (pair[..at].trim_ascii() == name).then(|| pair[at + 1..].trim_ascii())
        })
}
