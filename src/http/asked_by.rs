//! Who asked in truth: the client, or whom a trusted proxy names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::field::Kind;
use super::h1::head::RequestHead;
use super::kit::{Client, Shared};
use crate::site::Allow;
use crate::tls::is_near;

/// Who asked, as far as those say who are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskedBy {
    /// Its address, or, where nobody knows it, that of the trusted proxy that had it from somebody.
    pub(super) nearest: IpAddr,
    is_known: bool,
}

impl AskedBy {
    /// The client, or, when that is a trusted proxy, the last address in X-Forwarded-For that is none of the trusted
    /// ones. Walked from the right, because only that end was written by somebody we know.
    #[inline]
    pub(super) fn of(head: &RequestHead<'_>, client: &Client, shared: &Shared) -> AskedBy {
        let direct = AskedBy {
            nearest: client.address.ip().to_canonical(),
            is_known: true,
        };
        if !client.trusted {
            return direct;
        }
        direct.behind(head, shared)
    }

    fn behind(mut self, head: &RequestHead<'_>, shared: &Shared) -> AskedBy {
        let lines = head.fields.of(Kind::ForwardedFor).rev();
        for member in lines.flat_map(|line| line.rsplit(|&byte| byte == b',')) {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let Some(ip) = address(member) else {
                // Somebody is behind that proxy, and it is not the proxy itself.
                self.is_known = false;
                return self;
            };
            self.nearest = ip;
            if !shared.trusts(ip) {
                return self;
            }
        }
        self
    }

    /// Its address, if that is known.
    pub(super) fn known(&self) -> Option<IpAddr> {
        self.is_known.then_some(self.nearest)
    }

    /// Whether it may ask for what is for clients nearby. One that nobody knows may be anywhere.
    pub(super) fn is_near(&self) -> bool {
        self.known().is_some_and(is_near)
    }

    /// Nobody knows an unknown one, so nobody lets it in.
    pub(super) fn is_admitted(&self, allow: &Allow) -> bool {
        self.known().is_some_and(|ip| allow.admits(ip))
    }
}

/// One member of X-Forwarded-For: an address, as some write it with the port it came from.
fn address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?;
    let alone = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse().ok().map(|at: SocketAddr| at.ip());
    let in_brackets = || {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        inside.parse().ok().map(|ip: Ipv6Addr| ip.into())
    };
    let ip = alone().or_else(with_port).or_else(in_brackets)?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_proxies_write_them_and_nothing_else_is() {
        let read = |text: &str| address(text.as_bytes()).map(|ip| ip.to_string());
        for (text, ip) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:51234", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ] {
            assert_eq!(read(text).as_deref(), Some(ip), "{text}");
        }
        for text in [
            "unknown",
            "_hidden",
            "\"203.0.113.7\"",
            "for=203.0.113.7",
            "203.0.113.7:",
            "203.0.113.7:99999",
            "[203.0.113.7]",
            "[2001:db8::1",
            "203.0.113.7 203.0.113.8",
            "127.1",
            "0177.0.0.1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
