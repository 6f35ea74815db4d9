//! Names as they are asked for and as they are claimed, normalised once: lower case, no port, no final dot.
//!
//! Two readers with one result: [`Hostname::parse`] for what an operator writes (IDN, addresses with or without
//! brackets), [`authority`] for what a client sends (strict, without allocation). Who owns a name is decided by
//! `route`.

use std::borrow::Borrow;
use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::AsciiDenyList;

/// The longest name DNS can carry, without the final dot (RFC 1035 2.3.4).
const NAME_BYTES: usize = 253;
/// The longest label (RFC 1035 2.3.4).
const LABEL_BYTES: usize = 63;

/// A normalised name: lower case, punycode, no port, no final dot, at most 253 bytes; or the canonical text of an
/// IP address (IPv6 without brackets).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// Reads what an operator wrote. Case and one final dot do not matter, IDN becomes punycode, an IP address its
    /// canonical text.
    ///
    /// # Errors
    /// Everything [`authority`] would not read as the same name, and a port.
    pub fn parse(text: &str) -> Result<Hostname, HostnameError> {
        if text.is_empty() {
            return Err(HostnameError::Empty);
        }
        if text.contains("://") || text.contains('/') {
            return Err(HostnameError::Url);
        }
        if text.contains('*') {
            return Err(HostnameError::MisplacedWildcard);
        }
        if text.contains('@') {
            return Err(HostnameError::Character('@'));
        }
        if let Some(address) = read_ipv6(text)? {
            return Ok(address.into());
        }
        if let Some((_, port)) = text.rsplit_once(':')
            && port.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(HostnameError::Port);
        }
        let ascii = to_ascii(text)?;
        let mut buffer = HostBuffer::new();
        match authority(ascii.as_bytes(), &mut buffer) {
            Ok(read) => {
                refuse_crippled_ipv4(read.host)?;
                Ok(Hostname(read.host.into()))
            }
            Err(_) => Err(reason(&ascii)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the text of an IP address.
    pub fn is_address(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok()
    }
}

impl From<IpAddr> for Hostname {
    fn from(address: IpAddr) -> Hostname {
        Hostname(address.to_string().into())
    }
}

impl From<Ipv6Addr> for Hostname {
    fn from(address: Ipv6Addr) -> Hostname {
        IpAddr::from(address).into()
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An IPv6 address with or without brackets; `None` when the text is something else.
fn read_ipv6(text: &str) -> Result<Option<Ipv6Addr>, HostnameError> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((inside, after)) = rest.split_once(']') else {
            return Err(HostnameError::Ipv6);
        };
        return match after {
            "" => inside.parse().map(Some).map_err(|_| HostnameError::Ipv6),
            _ if after.starts_with(':') => Err(HostnameError::Port),
            _ => Err(HostnameError::Ipv6),
        };
    }
    // One colon is a port; nothing else with two of them is a name.
    if text.bytes().filter(|&b| b == b':').count() > 1 {
        return text.parse().map(Some).map_err(|_| HostnameError::Ipv6);
    }
    Ok(None)
}

/// Punycode, where there is something to translate or to check.
fn to_ascii(text: &str) -> Result<String, HostnameError> {
    let lower = text.to_ascii_lowercase();
    if lower.is_ascii() && !lower.contains("xn--") {
        return Ok(lower);
    }
    match idna::domain_to_ascii_cow(lower.as_bytes(), AsciiDenyList::EMPTY) {
        Ok(ascii) => Ok(ascii.into_owned()),
        Err(_) => Err(HostnameError::Idn),
    }
}

/// `10.0.0` and `10.0.0.256` are names to us and addresses to browsers, so nobody would ever ask for them.
fn refuse_crippled_ipv4(name: &str) -> Result<(), HostnameError> {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|b| b.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(HostnameError::Ipv4);
    }
    Ok(())
}

/// Why a name is none, for a person. The hot path does not ask.
fn reason(name: &str) -> HostnameError {
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = name.chars().find(|c| !allowed(c)) {
        return HostnameError::Character(other);
    }
    if name.split('.').any(str::is_empty) {
        return HostnameError::EmptyLabel;
    }
    if name.split('.').any(|label| label.len() > LABEL_BYTES) {
        return HostnameError::LongLabel;
    }
    if name.len() > NAME_BYTES {
        return HostnameError::Long;
    }
    HostnameError::Malformed
}

/// What a site claims.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum HostPattern {
    Exact(Hostname),
    /// `*.suffix`: exactly one label in front of the suffix.
    Wildcard(Hostname),
    /// `*`: every name nobody else claims.
    Any,
}

impl HostPattern {
    /// Reads `name`, `*.name` or `*`.
    ///
    /// # Errors
    /// As [`Hostname::parse`]; `**.` is reserved, and `*` stands alone or is the whole first label.
    pub fn parse(text: &str) -> Result<HostPattern, HostnameError> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        if text.starts_with("**.") {
            return Err(HostnameError::ReservedWildcard);
        }
        let Some(suffix) = text.strip_prefix("*.") else {
            return Hostname::parse(text).map(HostPattern::Exact);
        };
        let suffix = Hostname::parse(suffix)?;
        if suffix.is_address() {
            return Err(HostnameError::WildcardAddress);
        }
        // A label and its dot must fit in front.
        if suffix.as_str().len() > NAME_BYTES - 2 {
            return Err(HostnameError::Long);
        }
        Ok(HostPattern::Wildcard(suffix))
    }

    /// The name in an address that somebody copied, with a scheme, a port or a path around it. `None`: there is none.
    pub fn meant_by(address: &str) -> Option<HostPattern> {
        let behind_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (authority, _) = behind_scheme.split_at(
            behind_scheme
                .find(['/', '?', '#'])
                .unwrap_or(behind_scheme.len()),
        );
        let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let read = |name| HostPattern::parse(name).ok();
        let pattern = read(host).or_else(|| read(name))?;
        (pattern != HostPattern::Any).then_some(pattern)
    }

    /// The wildcard that would cover an exact name.
    pub fn wildcard_above(&self) -> Option<HostPattern> {
        let HostPattern::Exact(name) = self else {
            return None;
        };
        let (_, suffix) = name.as_str().split_once('.')?;
        let suffix = (!name.is_address()).then(|| Hostname(suffix.into()))?;
        Some(HostPattern::Wildcard(suffix))
    }

    /// Whether this pattern covers `host`, which is normalised.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => name.as_str() == host,
            HostPattern::Wildcard(suffix) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == suffix.as_str()),
            HostPattern::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => write!(f, "{name}"),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// What the Host field or the target of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Normalised like a [`Hostname`].
    pub host: &'a str,
    pub port: Option<u16>,
}

/// Room for one normalised name.
#[derive(Debug)]
pub struct HostBuffer([u8; 256]);

impl HostBuffer {
    pub fn new() -> HostBuffer {
        HostBuffer([0; 256])
    }
}

impl Default for HostBuffer {
    fn default() -> HostBuffer {
        HostBuffer::new()
    }
}

/// Reads the value of a Host field, or the authority of an absolute-form target, without allocating.
///
/// Stricter than the grammar of RFC 3986 3.2.2: no userinfo, no percent-encoding, no sub-delims, nothing above
/// 7 bits, because no site can claim such a name and others would read it differently.
///
/// # Errors
/// [`HostnameError::Empty`] for no bytes at all, [`HostnameError::Malformed`] for everything else; both are a 400.
#[inline]
pub fn authority<'b>(
    raw: &[u8],
    buffer: &'b mut HostBuffer,
) -> Result<Authority<'b>, HostnameError> {
    const PORT_BYTES: usize = ":65535".len();
    match raw.first() {
        None => return Err(HostnameError::Empty),
        Some(b'[') => return bracketed(raw, buffer),
        Some(_) => {}
    }
    if raw.len() > NAME_BYTES + 1 + PORT_BYTES {
        return Err(HostnameError::Malformed);
    }
    let out = &mut buffer.0;
    let mut end = raw.len();
    let mut label_start = 0;
    for (at, &byte) in raw.iter().enumerate() {
        let folded = FOLD[usize::from(byte)];
        // `raw` may be a little longer than the buffer; a name that wraps is refused by the length check below.
        let cell = &mut out[at & 0xff];
        if folded != 0 {
            *cell = folded;
            continue;
        }
        if byte == b':' {
            end = at;
            break;
        }
        let label = at - label_start;
        if byte != b'.' || label == 0 || label > LABEL_BYTES {
            return Err(HostnameError::Malformed);
        }
        *cell = b'.';
        label_start = at + 1;
    }
    let port = read_port(&raw[end..])?;
    let label = end - label_start;
    // An empty last label is the one final dot, if there is a name in front of it.
    let name = if label == 0 && label_start > 0 {
        label_start - 1
    } else {
        end
    };
    if name == 0 || name > NAME_BYTES || label > LABEL_BYTES {
        return Err(HostnameError::Malformed);
    }
    match std::str::from_utf8(&out[..name]) {
        Ok(host) => Ok(Authority { host, port }),
        Err(_) => Err(HostnameError::Malformed),
    }
}

/// The lower-case form of each byte that a label may have; 0 for every other byte.
const FOLD: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// `:port`, `:` or nothing.
fn read_port(text: &[u8]) -> Result<Option<u16>, HostnameError> {
    // RFC 3986 3.2.3: the port may be empty.
    let [b':', digits @ ..] = text else {
        return Ok(None);
    };
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 {
        return Err(HostnameError::Malformed);
    }
    let mut port = 0u32;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(HostnameError::Malformed);
        }
        port = port * 10 + u32::from(digit - b'0');
    }
    u16::try_from(port)
        .map(Some)
        .map_err(|_| HostnameError::Malformed)
}

/// `[v6]` and perhaps a port. Zone ids do not parse: they mean nothing outside the client's own host (RFC 9844).
#[cold]
fn bracketed<'b>(raw: &[u8], buffer: &'b mut HostBuffer) -> Result<Authority<'b>, HostnameError> {
    let malformed = HostnameError::Malformed;
    let close = raw
        .iter()
        .take(48)
        .position(|&b| b == b']')
        .ok_or(malformed)?;
    let (inside, after) = (&raw[1..close], &raw[close + 1..]);
    let inside = std::str::from_utf8(inside).map_err(|_| malformed)?;
    let address: Ipv6Addr = inside.parse().map_err(|_| malformed)?;
    if !after.is_empty() && after[0] != b':' {
        return Err(malformed);
    }
    let port = read_port(after)?;
    let mut rest = &mut buffer.0[..];
    write!(rest, "{address}").map_err(|_| malformed)?;
    let unused = rest.len();
    let written = buffer.0.len() - unused;
    let host = std::str::from_utf8(&buffer.0[..written]).map_err(|_| malformed)?;
    Ok(Authority { host, port })
}

/// Why a text is no hostname or pattern. [`authority`] only says `Empty` or `Malformed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostnameError {
    Empty,
    Malformed,
    Url,
    Port,
    Character(char),
    EmptyLabel,
    LongLabel,
    Long,
    Idn,
    Ipv4,
    Ipv6,
    MisplacedWildcard,
    ReservedWildcard,
    WildcardAddress,
}

impl fmt::Display for HostnameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostnameError::Empty => f.write_str("a hostname is not empty"),
            HostnameError::Malformed => f.write_str("not a hostname"),
            HostnameError::Url => f.write_str("a hostname has no scheme and no path"),
            HostnameError::Port => {
                f.write_str("a hostname has no port here, a site answers on every listening port")
            }
            HostnameError::Character(c) => write!(f, "{c:?} is not allowed in a hostname"),
            HostnameError::EmptyLabel => {
                f.write_str("a label of the hostname is empty, two dots meet or one leads")
            }
            HostnameError::LongLabel => write!(
                f,
                "a label of the hostname is longer than {LABEL_BYTES} bytes"
            ),
            HostnameError::Long => write!(f, "the hostname is longer than {NAME_BYTES} bytes"),
            HostnameError::Idn => f.write_str("not a valid international name"),
            HostnameError::Ipv4 => f.write_str("ends in a number and is not an IPv4 address"),
            HostnameError::Ipv6 => f.write_str("not an IPv6 address"),
            HostnameError::MisplacedWildcard => f.write_str(
                "\"*\" stands alone or is the whole first label, as in \"*.example.com\"",
            ),
            HostnameError::ReservedWildcard => {
                f.write_str("\"**.\" is reserved for a later version, \"*.\" covers one label")
            }
            HostnameError::WildcardAddress => {
                f.write_str("\"*.\" cannot stand in front of an IP address")
            }
        }
    }
}

impl std::error::Error for HostnameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &[u8]) -> Result<(String, Option<u16>), HostnameError> {
        authority(raw, &mut HostBuffer::new()).map(|a| (a.host.to_owned(), a.port))
    }

    fn host(text: &str) -> String {
        Hostname::parse(text).expect(text).as_str().to_owned()
    }

    #[test]
    fn case_final_dot_and_port_do_not_matter_in_a_host_field() {
        assert_eq!(read(b"A.Test"), Ok(("a.test".into(), None)));
        assert_eq!(read(b"a.test."), Ok(("a.test".into(), None)));
        assert_eq!(read(b"a.test.:80"), Ok(("a.test".into(), Some(80))));
        assert_eq!(read(b"a.test:"), Ok(("a.test".into(), None)));
        assert_eq!(
            read(b"a-b_c.test:65535"),
            Ok(("a-b_c.test".into(), Some(65535)))
        );
        assert_eq!(read(b"10.0.0.1:80"), Ok(("10.0.0.1".into(), Some(80))));
    }

    #[test]
    fn an_ipv6_host_is_canonical_and_without_brackets() {
        assert_eq!(read(b"[::1]"), Ok(("::1".into(), None)));
        assert_eq!(
            read(b"[2001:DB8:0:0::1]:443"),
            Ok(("2001:db8::1".into(), Some(443)))
        );
        for bad in [
            "[::1",
            "[::1]evil",
            "[fe80::1%25eth0]",
            "[]",
            "[::1]:x",
            "::1",
            "[::1].",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(HostnameError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_host_that_two_parsers_could_read_differently_is_malformed() {
        for bad in [
            "a.test@b.test",
            "a.test,b.test",
            "a.test b.test",
            "a.test\tb.test",
            "a.test?x",
            "a%2etest",
            "../../etc/passwd",
            "*.w.test",
            "a.test\0.evil",
            ".a.test",
            "a..test",
            "a.test..",
            ".",
            ":80",
            "a.test:99999",
            "a.test:000080",
            "a.test:8x",
            "a.test:80:80",
            "http://a.test",
            " a.test",
            "a/b",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(HostnameError::Malformed), "{bad}");
        }
        assert_eq!(read(b"\xe0.test"), Err(HostnameError::Malformed));
        assert_eq!(read(b""), Err(HostnameError::Empty));
    }

    #[test]
    fn names_and_labels_have_dns_lengths() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(
            read(format!("{longest}.:65535").as_bytes()),
            Ok((longest.clone(), Some(65535)))
        );
        assert_eq!(
            read(format!("a{longest}").as_bytes()),
            Err(HostnameError::Malformed)
        );
        assert_eq!(
            read(format!("{label}a.test").as_bytes()),
            Err(HostnameError::Malformed)
        );
        assert_eq!(
            read(format!("test.{label}a").as_bytes()),
            Err(HostnameError::Malformed)
        );
        for length in 254..600 {
            assert_eq!(
                read("a.".repeat(length).as_bytes()),
                Err(HostnameError::Malformed)
            );
        }
    }

    #[test]
    fn an_operator_may_write_a_name_in_any_common_way() {
        assert_eq!(host("Shop.Example.COM."), "shop.example.com");
        assert_eq!(host("Bücher.Example"), "xn--bcher-kva.example");
        assert_eq!(host("XN--BCHER-KVA.example"), "xn--bcher-kva.example");
        assert_eq!(host("[2001:DB8::0:1]"), "2001:db8::1");
        assert_eq!(host("2001:DB8::0:1"), "2001:db8::1");
        assert_eq!(host("127.0.0.1"), "127.0.0.1");
        assert_eq!(host("localhost"), "localhost");
    }

    #[test]
    fn a_name_that_is_none_says_why() {
        use HostnameError::*;
        for (text, error) in [
            ("", Empty),
            ("a.test:80", Port),
            ("[::1]:80", Port),
            ("http://a.test", Url),
            ("a.test/x", Url),
            ("a b", Character(' ')),
            ("a@b", Character('@')),
            ("a..b", EmptyLabel),
            (".a", EmptyLabel),
            (".", EmptyLabel),
            ("a.*", MisplacedWildcard),
            ("127.0.0", Ipv4),
            ("1.2.3.256", Ipv4),
            ("::zz", Ipv6),
            ("xn--a", Idn),
        ] {
            assert_eq!(Hostname::parse(text), Err(error), "{text}");
        }
        assert_eq!(Hostname::parse(&"a".repeat(64)), Err(LongLabel));
        assert_eq!(Hostname::parse(&"a.".repeat(128)), Err(Long));
    }

    #[test]
    fn the_name_in_an_address_is_found() {
        for (address, name) in [
            ("http://Shop.test", "shop.test"),
            ("https://me:pw@shop.test:8443/a:1?b=http://c", "shop.test"),
            ("shop.test:80", "shop.test"),
            ("shop.test/a", "shop.test"),
            ("http://*.shop.test/", "*.shop.test"),
            ("http://[::1]:80/", "::1"),
            ("http://[::1]", "::1"),
        ] {
            let found = HostPattern::meant_by(address).map(|pattern| pattern.to_string());
            assert_eq!(found.as_deref(), Some(name), "{address}");
        }
        for address in ["http://", "/", "http://*/", "http://a b/", ":80", "://"] {
            assert_eq!(HostPattern::meant_by(address), None, "{address}");
        }
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let pattern = HostPattern::parse("*.W.test").expect("pattern");
        assert_eq!(pattern.to_string(), "*.w.test");
        assert!(pattern.matches("a.w.test"));
        assert!(!pattern.matches("w.test"));
        assert!(!pattern.matches("a.b.w.test"));
        assert!(!pattern.matches(".w.test"));
        assert_eq!(HostPattern::parse("*"), Ok(HostPattern::Any));
        assert_eq!(
            HostPattern::parse("**.a.test"),
            Err(HostnameError::ReservedWildcard)
        );
        for bad in ["a*.test", "*a.test", "a.*.test", "*.*.test", "*."] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            HostPattern::parse("*.10.0.0.1"),
            Err(HostnameError::WildcardAddress)
        );
    }

    /// The corpus of the fuzz target `hostname`, and what the target asks of it.
    #[test]
    fn the_fuzz_corpus_reads_alike_on_both_ways() {
        for bytes in crate::corpus::inputs_of("hostname") {
            both_ways_agree(&bytes);
        }
    }

    fn both_ways_agree(bytes: &[u8]) {
        let mut buffer = HostBuffer::new();
        if let Ok(read) = authority(bytes, &mut buffer) {
            let again =
                authority(read.host.as_bytes(), &mut HostBuffer::new()).map(|a| a.host.to_owned());
            assert!(read.host.contains(':') || again.as_deref() == Ok(read.host));
        }
        if let Ok(name) = std::str::from_utf8(bytes)
            .map_err(drop)
            .and_then(|t| Hostname::parse(t).map_err(drop))
        {
            assert_eq!(Hostname::parse(name.as_str()), Ok(name));
        }
    }

    proptest! {
        #[test]
        fn what_an_operator_may_claim_a_client_can_ask_for(
            text in "[a-zA-Z0-9äßÖ_-]{1,12}(\\.[a-zA-Z0-9é_-]{1,12}){0,4}\\.?", port: Option<u16>, dot: bool,
        ) {
            if let Ok(name) = Hostname::parse(&text) {
                let mut asked: String = name.as_str().chars().enumerate()
                    .map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
                if dot { asked.push('.'); }
                if let Some(port) = port { asked.push_str(&format!(":{port}")); }
                prop_assert_eq!(read(asked.as_bytes()), Ok((name.as_str().to_owned(), port)));
            }
        }

        #[test]
        fn an_address_reads_alike_on_both_ways(address: std::net::IpAddr) {
            let name = Hostname::parse(&address.to_string()).expect("an address is a name");
            let asked = match address { IpAddr::V4(v4) => v4.to_string(), IpAddr::V6(v6) => format!("[{v6}]:1") };
            prop_assert_eq!(read(asked.as_bytes()).map(|(host, _)| host), Ok(name.as_str().to_owned()));
        }

        #[test]
        fn any_bytes_are_a_name_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            both_ways_agree(&bytes);
        }

        #[test]
        fn any_text_is_a_name_or_refused(text in "\\PC{0,40}") {
            both_ways_agree(text.as_bytes());
        }
    }
}
