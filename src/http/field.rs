//! Header fields: which of them mean something to a proxy, and what becomes of those.

use httparse::Header;

/// The fields of one head, in order, and what each is.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    pub headers: &'a [Header<'a>],
    /// As long as `headers`.
    pub kinds: &'a [Kind],
}

impl<'a> Fields<'a> {
    pub fn iter(&self) -> impl Iterator<Item = (&'a Header<'a>, Kind)> + use<'a> {
        self.headers.iter().zip(self.kinds.iter().copied())
    }

    /// The values of all fields of this kind, in order.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter()
            .filter(move |(_, other)| *other == kind)
            .map(|(header, _)| header.value)
    }
}

/// What a field is to a proxy. `Other` is passed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    Upgrade,
    /// TE, Proxy-Connection, HTTP2-Settings, Proxy-Authorization: about this hop (RFC 9110 7.6.1, 11.7.2).
    Hop,
    Expect,
    Via,
    MaxForwards,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    ForwardedPort,
    RealIp,
    RequestId,
    /// Says where a request came from or how, and is believed from trusted proxies only.
    Identity,
    /// Never passed on, whoever sends it: `Proxy` (CVE-2016-5385), and a protected name spelled with `_` or another
    /// odd character for `-`, which gateways to CGI, WSGI and the like cannot tell from the real one.
    Barred,
    Authorization,
    WwwAuthenticate,
    Date,
    /// Our own answers' mark: removed from what backends send.
    OnedoorReason,
}

impl Kind {
    /// What the field of this name is. Names are compared without case.
    pub fn of(name: &[u8]) -> Kind {
        // Every byte is looked at: without a branch for each, a short name costs less than one that stops early.
        if name.iter().fold(false, |odd, &byte| odd | is_odd(byte)) {
            return Kind::of_alias(name);
        }
        Kind::of_hyphened(name)
    }

    fn of_alias(name: &[u8]) -> Kind {
        let mut hyphened = [0; 40];
        let Some(hyphened) = hyphened.get_mut(..name.len()) else {
            return Kind::Other;
        };
        for (to, &from) in hyphened.iter_mut().zip(name) {
            *to = if is_odd(from) { b'-' } else { from };
        }
        match Kind::of_hyphened(hyphened) {
            Kind::Other
            | Kind::Expect
            | Kind::Date
            | Kind::Authorization
            | Kind::WwwAuthenticate
            | Kind::MaxForwards => Kind::Other,
            _ => Kind::Barred,
        }
    }

    fn of_hyphened(name: &[u8]) -> Kind {
        // The length tells most names apart before a byte is compared.
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            2 if is("te") => Kind::Hop,
            3 if is("via") => Kind::Via,
            4 if is("host") => Kind::Host,
            4 if is("date") => Kind::Date,
            5 if is("proxy") => Kind::Barred,
            6 if is("expect") => Kind::Expect,
            7 if is("upgrade") => Kind::Upgrade,
            9 if is("forwarded") => Kind::Identity,
            9 if is("x-real-ip") => Kind::RealIp,
            9 if is("client-ip") => Kind::Identity,
            10 if is("connection") => Kind::Connection,
            10 if is("keep-alive") => Kind::KeepAlive,
            10 if is("early-data") => Kind::Identity,
            11 if is("x-client-ip") || is("x-forwarded") => Kind::Identity,
            12 if is("x-request-id") => Kind::RequestId,
            12 if is("max-forwards") => Kind::MaxForwards,
            13 if is("authorization") => Kind::Authorization,
            14 if is("content-length") => Kind::ContentLength,
            14 if is("http2-settings") => Kind::Hop,
            14 if is("true-client-ip") => Kind::Identity,
            14 if is("onedoor-reason") => Kind::OnedoorReason,
            15 if is("x-forwarded-for") => Kind::ForwardedFor,
            16 if is("x-forwarded-host") => Kind::ForwardedHost,
            16 if is("x-forwarded-port") => Kind::ForwardedPort,
            16 if is("www-authenticate") => Kind::WwwAuthenticate,
            16 if is("proxy-connection") => Kind::Hop,
            16 if is("cf-connecting-ip") || is("fastly-client-ip") => Kind::Identity,
            17 if is("x-forwarded-proto") => Kind::ForwardedProto,
            17 if is("transfer-encoding") => Kind::TransferEncoding,
            19 if is("proxy-authorization") => Kind::Hop,
            19 if is("x-cluster-client-ip") => Kind::Identity,
            5..=40 if is_identity(name) => Kind::Identity,
            _ => Kind::Other,
        }
    }
}

/// The less common names by which a proxy tells a backend who is asking.
fn is_identity(name: &[u8]) -> bool {
    let starts = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    match name[0] | 0x20 {
        b'x' => [
            "x-forwarded-",
            "x-original-",
            "x-rewrite-url",
            "x-client-cert",
            "x-ssl-",
            "x-arr-clientcert",
        ]
        .iter()
        .any(|prefix| starts(prefix)),
        b's' => starts("ssl-client-"),
        b'c' => starts("client-cert"),
        _ => false,
    }
}

/// The members of a comma-separated list, without their white space and without the empty ones (RFC 9110 5.6.1).
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// A character of a name that some gateways turn into `_`, as they do with `-` (lighttpd and old Apaches for CGI: all
/// that is neither letter nor digit).
fn is_odd(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether such a gateway may take two names for the same.
pub fn alike(a: &[u8], b: &[u8]) -> bool {
    let folded = |byte: u8| {
        if is_odd(byte) {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| folded(a) == folded(b))
}

/// Whether two names are the same without case.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn names_are_known_in_any_case_and_with_odd_characters() {
        assert_eq!(Kind::of(b"HOST"), Kind::Host);
        assert_eq!(Kind::of(b"X-Forwarded-For"), Kind::ForwardedFor);
        assert_eq!(Kind::of(b"X_Forwarded-For"), Kind::Barred);
        assert_eq!(Kind::of(b"Content_Length"), Kind::Barred);
        assert_eq!(Kind::of(b"Content.Length"), Kind::Barred);
        assert_eq!(Kind::of(b"my.own+field"), Kind::Other);
        assert!(super::alike(b"X-Team", b"x_TEAM") && !super::alike(b"X-Team", b"X-Teams"));
        assert_eq!(Kind::of(b"my_own_field"), Kind::Other);
        assert_eq!(Kind::of(b"X-Forwarded-Client-Cert"), Kind::Identity);
        assert_eq!(Kind::of(b"X-Forwardedish"), Kind::Other);
        assert_eq!(Kind::of(b"Client-Cert-Chain"), Kind::Identity);
    }
}
