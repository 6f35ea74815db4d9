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
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&'a Header<'a>, Kind)> + use<'a> {
        self.headers.iter().zip(self.kinds.iter().copied())
    }

    /// The values of all fields of this kind, in order.
    pub fn of(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
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

/// A [`Known`] that stands in the program as it is.
macro_rules! known {
    ($name:literal, $kind:expr) => {
        const { &Known::new($name, $kind) }
    };
}

impl Kind {
    /// What the field of this name is. Names are compared without case.
    pub fn of(name: &[u8]) -> Kind {
        let Some(first) = name.first() else {
            return Kind::Other;
        };
        // Length and first letter tell nearly every name that means nothing here from those that do.
        let known = match (name.len(), first | 0x20) {
            (2, b't') => known!("te", Kind::Hop),
            (3, b'v') => known!("via", Kind::Via),
            (4, b'h') => known!("host", Kind::Host),
            (4, b'd') => known!("date", Kind::Date),
            (5, b'p') => known!("proxy", Kind::Barred),
            (6, b'e') => known!("expect", Kind::Expect),
            (7, b'u') => known!("upgrade", Kind::Upgrade),
            (9, b'f') => known!("forwarded", Kind::Identity),
            (9, b'x') => known!("x-real-ip", Kind::RealIp),
            (9, b'c') => known!("client-ip", Kind::Identity),
            (10, b'c') => known!("connection", Kind::Connection),
            (10, b'k') => known!("keep-alive", Kind::KeepAlive),
            (10, b'e') => known!("early-data", Kind::Identity),
            (11, b'x') if name[2] | 0x20 == b'c' => known!("x-client-ip", Kind::Identity),
            (11, b'x') => known!("x-forwarded", Kind::Identity),
            (12, b'x') => known!("x-request-id", Kind::RequestId),
            (12, b'm') => known!("max-forwards", Kind::MaxForwards),
            (13, b'a') => known!("authorization", Kind::Authorization),
            (14, b'c') => known!("content-length", Kind::ContentLength),
            (14, b'h') => known!("http2-settings", Kind::Hop),
            (14, b't') => known!("true-client-ip", Kind::Identity),
            (14, b'o') => known!("onedoor-reason", Kind::OnedoorReason),
            (15, b'x') => known!("x-forwarded-for", Kind::ForwardedFor),
            (16, b'x') if name[12] | 0x20 == b'h' => {
                known!("x-forwarded-host", Kind::ForwardedHost)
            }
            (16, b'x') => known!("x-forwarded-port", Kind::ForwardedPort),
            (16, b'w') => known!("www-authenticate", Kind::WwwAuthenticate),
            (16, b'p') => known!("proxy-connection", Kind::Hop),
            (16, b'c') => known!("cf-connecting-ip", Kind::Identity),
            (16, b'f') => known!("fastly-client-ip", Kind::Identity),
            (17, b'x') => known!("x-forwarded-proto", Kind::ForwardedProto),
            (17, b't') => known!("transfer-encoding", Kind::TransferEncoding),
            (19, b'p') => known!("proxy-authorization", Kind::Hop),
            (19, b'x') => known!("x-cluster-client-ip", Kind::Identity),
            _ => return Kind::of_less_common(name, *first),
        };
        if known.is_exactly(name) {
            return known.kind;
        }
        if alike(known.name, name) {
            return known.kind.of_alias();
        }
        Kind::of_less_common(name, *first)
    }

    /// The less common names by which a proxy tells a backend who is asking, by how they begin.
    fn of_less_common(name: &[u8], first: u8) -> Kind {
        let beginnings: &[&str] = match first | 0x20 {
            b'x' => &[
                "x-forwarded-",
                "x-original-",
                "x-rewrite-url",
                "x-client-cert",
                "x-ssl-",
                "x-arr-clientcert",
            ],
            b's' => &["ssl-client-"],
            b'c' => &["client-cert"],
            _ => return Kind::Other,
        };
        let is_identity = beginnings.iter().any(|beginning| {
            let start = name.get(..beginning.len());
            start.is_some_and(|start| alike(beginning.as_bytes(), start))
        });
        match is_identity && name.len() <= LONGEST {
            false => Kind::Other,
            true if name.iter().any(|&byte| is_odd(byte)) => Kind::Barred,
            true => Kind::Identity,
        }
    }

    /// What a name is that only looks like one of this kind to a gateway: not passed on, where the real one decides
    /// something.
    fn of_alias(self) -> Kind {
        match self {
            Kind::Expect
            | Kind::Date
            | Kind::Authorization
            | Kind::WwwAuthenticate
            | Kind::MaxForwards => Kind::Other,
            _ => Kind::Barred,
        }
    }
}

/// The beginnings of names by which proxies tell a backend of a client's certificate.
const ABOUT_CERTIFICATES: [&[u8]; 6] = [
    b"x-client-cert",
    b"x-forwarded-client-cert",
    b"x-ssl-",
    b"x-arr-clientcert",
    b"ssl-client-",
    b"client-cert",
];

/// Whether a field of the kind `Identity` says whose certificate a client showed.
pub fn is_about_certificates(name: &[u8]) -> bool {
    let begins = |beginning: &&[u8]| {
        let start = name.get(..beginning.len());
        start.is_some_and(|start| same(start, beginning))
    };
    ABOUT_CERTIFICATES.iter().any(begins)
}

/// A name that means something, as words, so that comparing it is a few instructions.
struct Known {
    name: &'static [u8],
    kind: Kind,
    first: Word,
    /// Of more than sixteen bytes the ninth to the sixteenth, else the first again.
    middle: Word,
    last: Word,
}

/// Up to eight bytes of a name in lower case, and where they are letters.
struct Word {
    bytes: u64,
    letters: u64,
}

impl Word {
    const fn of(name: &[u8], at: usize) -> Word {
        let (mut bytes, mut letters, mut n) = ([0; 8], [0; 8], 0);
        while n < 8 && at + n < name.len() {
            bytes[n] = name[at + n];
            letters[n] = if bytes[n].is_ascii_lowercase() {
                0x20
            } else {
                0
            };
            n += 1;
        }
        Word {
            bytes: u64::from_le_bytes(bytes),
            letters: u64::from_le_bytes(letters),
        }
    }

    fn is(&self, bytes: &[u8; 8]) -> bool {
        u64::from_le_bytes(*bytes) | self.letters == self.bytes
    }
}

impl Known {
    const fn new(name: &'static str, kind: Kind) -> Known {
        let name = name.as_bytes();
        let length = name.len();
        Known {
            name,
            kind,
            first: Word::of(name, 0),
            middle: Word::of(name, if length > 16 { 8 } else { 0 }),
            last: Word::of(name, length.saturating_sub(8)),
        }
    }

    /// Whether `name`, which is as long, is this one in any case.
    fn is_exactly(&self, name: &[u8]) -> bool {
        let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) else {
            return same(self.name, name);
        };
        let middle = name.get(8..16).and_then(|middle| middle.first_chunk());
        self.first.is(first)
            && self.last.is(last)
            && (name.len() <= 16 || middle.is_some_and(|middle| self.middle.is(middle)))
    }
}

/// A name beyond this length is nobody's identity.
const LONGEST: usize = 40;

/// The members of a comma-separated list, without their white space and without the empty ones (RFC 9110 5.6.1).
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// A character of a name that some gateways turn into `_`, as they do with `-` (lighttpd and old Apaches for CGI: all
/// that is neither letter nor digit).
const fn is_odd(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Every byte of a name as such a gateway understands it, in lower case.
const FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        folded[byte] = if is_odd(byte as u8) {
            b'-'
        } else {
            (byte as u8).to_ascii_lowercase()
        };
        byte += 1;
    }
    folded
};

/// Whether such a gateway may take two names for the same.
pub fn alike(a: &[u8], b: &[u8]) -> bool {
    let folded = |byte: u8| FOLDED[usize::from(byte)];
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| folded(a) == folded(b))
}

/// Whether two names are the same without case.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every name that means something, the beginnings with an end, and what is made of their other spellings.
    const KNOWN: [(&str, Kind, Kind); 46] = {
        use Kind::*;
        [
            ("te", Hop, Barred),
            ("via", Via, Barred),
            ("host", Host, Barred),
            ("date", Date, Other),
            ("proxy", Barred, Barred),
            ("expect", Expect, Other),
            ("upgrade", Upgrade, Barred),
            ("forwarded", Identity, Barred),
            ("x-real-ip", RealIp, Barred),
            ("client-ip", Identity, Barred),
            ("connection", Connection, Barred),
            ("keep-alive", KeepAlive, Barred),
            ("early-data", Identity, Barred),
            ("x-client-ip", Identity, Barred),
            ("x-forwarded", Identity, Barred),
            ("x-request-id", RequestId, Barred),
            ("max-forwards", MaxForwards, Other),
            ("authorization", Authorization, Other),
            ("content-length", ContentLength, Barred),
            ("http2-settings", Hop, Barred),
            ("true-client-ip", Identity, Barred),
            ("onedoor-reason", OnedoorReason, Barred),
            ("x-forwarded-for", ForwardedFor, Barred),
            ("x-forwarded-host", ForwardedHost, Barred),
            ("x-forwarded-port", ForwardedPort, Barred),
            ("www-authenticate", WwwAuthenticate, Other),
            ("proxy-connection", Hop, Barred),
            ("cf-connecting-ip", Identity, Barred),
            ("fastly-client-ip", Identity, Barred),
            ("x-forwarded-proto", ForwardedProto, Barred),
            ("transfer-encoding", TransferEncoding, Barred),
            ("proxy-authorization", Hop, Barred),
            ("x-cluster-client-ip", Identity, Barred),
            ("x-forwarded-", Identity, Barred),
            ("x-forwarded-client-cert", Identity, Barred),
            ("x-original-url", Identity, Barred),
            ("x-original-a", Identity, Barred),
            ("x-rewrite-url", Identity, Barred),
            ("x-client-cert", Identity, Barred),
            ("x-client-certificate-chain", Identity, Barred),
            ("x-ssl-a", Identity, Barred),
            ("x-arr-clientcert", Identity, Barred),
            ("ssl-client-verify", Identity, Barred),
            ("client-cert", Identity, Barred),
            ("client-cert-chain", Identity, Barred),
            ("cookie", Other, Other),
        ]
    };

    #[test]
    fn names_that_mean_nothing_here_are_others() {
        for name in [
            "",
            "a",
            "x",
            "accept",
            "user-agent",
            "content-type",
            "cache-control",
            "referer",
            "server",
            "sec-fetch-site",
            "x-forwardedish",
            "x-client-id",
            "x-api-key",
            "client-cer",
            "x-ssl",
            "my_own_field",
            "my.own+field",
            "transfer-encodinG1",
            "hos\u{7}",
            "x-forwarded-with-a-name-that-is-too-long!",
        ] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::Other, "{name}");
        }
        assert!(alike(b"X-Team", b"x_TEAM") && !alike(b"X-Team", b"X-Teams"));
    }

    #[test]
    fn whatever_is_said_of_a_clients_certificate_is_told_from_the_rest() {
        let about: Vec<&str> = KNOWN
            .iter()
            .filter(|(name, kind, _)| {
                *kind == Kind::Identity && is_about_certificates(name.as_bytes())
            })
            .map(|(name, ..)| *name)
            .collect();
        assert_eq!(
            about,
            [
                "x-forwarded-client-cert",
                "x-client-cert",
                "x-client-certificate-chain",
                "x-ssl-a",
                "x-arr-clientcert",
                "ssl-client-verify",
                "client-cert",
                "client-cert-chain",
            ]
        );
        assert!(is_about_certificates(b"X-Client-Cert-Subject"));
    }

    proptest! {
        #[test]
        fn a_known_name_is_known_in_any_case_and_in_any_other_spelling_is_not_passed_on(
            which in 0..KNOWN.len(), upper in any::<u64>(), odd in any::<u64>(),
            with in prop::sample::select(b"_.+!~*'|".as_slice()),
        ) {
            let (name, kind, alias) = KNOWN[which];
            let mut spelled = name.to_ascii_lowercase().into_bytes();
            let mut is_odd = false;
            for (at, byte) in spelled.iter_mut().enumerate() {
                if upper >> at & 1 == 1 {
                    byte.make_ascii_uppercase();
                }
                if *byte == b'-' && odd >> at & 1 == 1 {
                    (*byte, is_odd) = (with, true);
                }
            }
            let expected = if is_odd { alias } else { kind };
            prop_assert_eq!(Kind::of(&spelled), expected, "{}", spelled.escape_ascii());
        }

        #[test]
        fn no_name_is_too_odd_to_be_told(name in prop::collection::vec(any::<u8>(), 0..50)) {
            let _kind = Kind::of(&name);
        }
    }
}
