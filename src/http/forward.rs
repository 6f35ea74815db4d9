//! A head rewritten for the next hop: what it gets is written anew from what was understood.
//!
//! Fields that stay are copied in runs: as long as one line after the other stands there as we would write it,
//! all of them are one copy.

use std::net::IpAddr;
use std::ops::Range;

use super::field::{Fields, Kind, alike, is_about_certificates, list_members, same};
use super::h1::head::{Framing, RequestHead, ResponseHead, Version};
use crate::block::Sheet;
use crate::site::{HeaderEdit, Site, Wire};

const PREFIX: &[u8] = b"x-forwarded-prefix";

/// Fields that Connection may name. More than this is work without a reason (CASES hb-commas).
const MOST_NAMED: usize = 16;

/// What is said to a backend that the client did not say.
#[derive(Debug)]
pub(super) struct Onward<'a> {
    pub(super) site: &'a Site,
    pub(super) host: &'a [u8],
    /// Bytes of the path to take away, and the prefix they were matched by.
    pub(super) strip: usize,
    pub(super) prefix: &'a str,
    pub(super) forwarded: Forwarded<'a>,
    /// Lines about the client's certificate.
    pub(super) certificate: &'a [u8],
    pub(super) request_id: [u8; 32],
    /// Our name in Via; `None`: the site does not want one.
    pub(super) via: Option<&'a str>,
}

/// What becomes of the fields that say who asked.
#[derive(Debug)]
pub(super) enum Forwarded<'a> {
    /// The client's own are gone, these are written.
    Set(&'a [u8]),
    /// A trusted proxy's stay, and its address is added.
    Added {
        client: IpAddr,
        /// `None`: nobody knows.
        asker: Option<IpAddr>,
        ours: &'a [u8],
    },
}

/// More than [`MOST_NAMED`] fields are named in Connection.
#[derive(Debug)]
pub(super) struct TooManyNamed;

/// Writes the head a backend gets. Returns where in `out` the value of Host stands.
///
/// # Errors
/// [`TooManyNamed`]; `out` is then of no use.
pub(super) fn request_head(
    out: &mut Vec<u8>,
    raw: &[u8],
    head: &RequestHead<'_>,
    onward: &Onward<'_>,
) -> Result<Range<usize>, TooManyNamed> {
    let path = &head.target.path()[onward.strip..];
    put(out, &[head.method.as_bytes(), b" "]);
    if !path.starts_with('/') && path != "*" {
        out.push(b'/');
    }
    put(
        out,
        &[
            path.as_bytes(),
            head.target.query.as_bytes(),
            b" HTTP/1.1\r\nHost: ",
        ],
    );
    let host = out.len()..out.len() + onward.host.len();
    put(out, &[onward.host, b"\r\n"]);

    let mut named = Named::default();
    named.take(&head.fields)?;
    let edits = &onward.site.headers.request;
    let trusted = matches!(onward.forwarded, Forwarded::Added { .. });
    // Two words for the same could only disagree.
    let knows_asker = matches!(onward.forwarded, Forwarded::Added { asker: Some(_), .. })
        && head.fields.of(Kind::ForwardedFor).next().is_some();
    let tells_certificates = onward.site.tls.tells_certificates();
    copy_fields(out, raw, &head.fields, |name, kind| {
        match kind {
            Kind::Other
            | Kind::Via
            | Kind::Date
            | Kind::Authorization
            | Kind::WwwAuthenticate
            | Kind::OnedoorReason => !named.contains(name) && !replaces(edits, name),
            // Connection cannot name away what is believed (CASES F-05).
            Kind::Identity if onward.strip > 0 && same(name, PREFIX) => false,
            // Whoever sent it: an app that is told by us, also that there is none, must not read somebody else's word.
            Kind::Identity if tells_certificates && is_about_certificates(name) => false,
            Kind::RealIp if knows_asker => false,
            Kind::Identity
            | Kind::ForwardedProto
            | Kind::ForwardedHost
            | Kind::ForwardedPort
            | Kind::RealIp
            | Kind::RequestId => trusted && !replaces(edits, name),
            // RFC 9110 7.6.2: only OPTIONS and TRACE count down; others ignore it.
            Kind::MaxForwards => {
                head.method != "OPTIONS" && !named.contains(name) && !replaces(edits, name)
            }
            _ => false,
        }
    });
    match head.framing {
        Framing::Length(length) => put_number(out, b"Content-Length: ", length),
        Framing::Chunked => put(out, &[b"Transfer-Encoding: chunked\r\n"]),
        Framing::None | Framing::Close => {}
    }
    if head.expects_continue && !replaces(edits, b"expect") {
        put(out, &[b"Expect: 100-continue\r\n"]);
    }
    if let Some(token) = head.upgrade {
        put(out, &[b"Connection: Upgrade\r\nUpgrade: ", token, b"\r\n"]);
    }
    if head.method == "OPTIONS"
        && !replaces(edits, b"max-forwards")
        && let Some(hops) = hops_left(&head.fields)
    {
        put_number(out, b"Max-Forwards: ", hops.saturating_sub(1));
    }
    match onward.forwarded {
        Forwarded::Set(fields) => put(out, &[fields]),
        Forwarded::Added {
            client,
            asker,
            ours,
        } => add_forwarded(out, &head.fields, client, asker, ours),
    }
    put(out, &[onward.certificate]);
    if !(trusted && head.fields.of(Kind::RequestId).next().is_some()) {
        put(out, &[b"X-Request-Id: ", &onward.request_id, b"\r\n"]);
    }
    if onward.strip > 0 {
        put(out, &[b"X-Forwarded-Prefix: "]);
        if trusted {
            put_prefixes(out, &head.fields);
        }
        put(out, &[onward.prefix.as_bytes(), b"\r\n"]);
    }
    if let Some(via) = onward.via {
        let version: &[u8] = match head.version {
            Version::Http2 => b"Via: 2 ",
            Version::Http10 | Version::Http11 => b"Via: 1.1 ",
        };
        put(out, &[version, via.as_bytes(), b"\r\n"]);
    }
    write_edits(out, edits);
    put(out, &[b"\r\n"]);
    Ok(host)
}

/// How a response is passed on.
#[derive(Debug)]
pub(super) struct Back<'a> {
    pub(super) site: &'a Site,
    pub(super) wire: Wire,
    /// How the client is told where the body ends.
    pub(super) framing: Framing,
    pub(super) close: bool,
    pub(super) date: &'a [u8],
    /// The request was HEAD.
    pub(super) to_head: bool,
    /// Brings the client back to the same backend.
    pub(super) cookie: Option<&'a str>,
}

/// What a head is written to, field by field.
pub(super) trait HeadOut {
    fn status(&mut self, status: u16, reason: &str);

    fn field(&mut self, name: &[u8], value: &[u8]);

    fn number(&mut self, name: &[u8], number: u64);

    /// Takes over the fields for which `stays`. `raw` is what they were read from.
    fn take_over(&mut self, raw: &[u8], fields: &Fields<'_>, stays: impl Fn(&[u8], Kind) -> bool);

    /// Says how the connection goes on behind this head, where a head says that.
    fn hop(&mut self, hop: Hop<'_>);

    fn end(&mut self);
}

/// What a head says about its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hop<'a> {
    Chunked,
    Close,
    Upgrade(&'a [u8]),
}

/// As lines.
impl HeadOut for Sheet {
    fn status(&mut self, status: u16, reason: &str) {
        put_status(self, status);
        put(self, &[reason.as_bytes(), b"\r\n"]);
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        put(self, &[name, b": ", value, b"\r\n"]);
    }

    fn number(&mut self, name: &[u8], number: u64) {
        put(self, &[name]);
        put_number(self, b": ", number);
    }

    fn take_over(&mut self, raw: &[u8], fields: &Fields<'_>, stays: impl Fn(&[u8], Kind) -> bool) {
        copy_fields(self, raw, fields, stays);
    }

    fn hop(&mut self, hop: Hop<'_>) {
        match hop {
            Hop::Chunked => put(self, &[b"Transfer-Encoding: chunked\r\n"]),
            Hop::Close => put(self, &[b"Connection: close\r\n"]),
            Hop::Upgrade(token) => {
                put(self, &[b"Connection: Upgrade\r\nUpgrade: ", token, b"\r\n"]);
            }
        }
    }

    fn end(&mut self) {
        put(self, &[b"\r\n"]);
    }
}

/// Writes the head a client gets.
///
/// # Errors
/// [`TooManyNamed`]; `out` is then of no use.
pub(super) fn response_head(
    out: &mut impl HeadOut,
    raw: &[u8],
    head: &ResponseHead<'_>,
    back: &Back<'_>,
) -> Result<(), TooManyNamed> {
    out.status(head.status, head.reason);
    // The fields that Connection names are those of this hop (CASES R-17).
    let mut named = Named::default();
    named.take(&head.fields)?;
    let edits = back.site.headers.of_response(back.wire);
    out.take_over(raw, &head.fields, |name, kind| {
        let stays = !matches!(
            kind,
            Kind::ContentLength
                | Kind::TransferEncoding
                | Kind::Connection
                | Kind::KeepAlive
                | Kind::Upgrade
                | Kind::Hop
                | Kind::Barred
                | Kind::OnedoorReason
        );
        stays && !named.contains(name) && !replaces(edits, name)
    });
    match back.framing {
        Framing::Length(length) => out.number(b"Content-Length", length),
        Framing::Chunked => out.hop(Hop::Chunked),
        // RFC 9110 8.6: what a GET would have got; not for 204 and 1xx.
        Framing::None
            if (back.to_head || head.status == 304) && head.status >= 200 && head.status != 204 =>
        {
            if let Some(length) = head.length {
                out.number(b"Content-Length", length);
            }
        }
        Framing::None | Framing::Close => {}
    }
    if head.status >= 200 && !head.fields.kinds.contains(&Kind::Date) && !replaces(edits, b"date") {
        out.field(b"Date", back.date);
    }
    match (head.status, head.upgrade) {
        (101, Some(token)) => out.hop(Hop::Upgrade(token)),
        // RFC 9110 15.5.22: says what to upgrade to.
        (426, Some(token)) if !back.close && !token.is_empty() => out.hop(Hop::Upgrade(token)),
        _ if back.close => out.hop(Hop::Close),
        _ => {}
    }
    if head.status >= 200 {
        for edit in edits {
            if let HeaderEdit::Set { name, value } | HeaderEdit::Add { name, value } = edit {
                out.field(name.as_bytes(), value);
            }
        }
        if let Some(cookie) = back.cookie {
            out.field(b"Set-Cookie", cookie.as_bytes());
        }
    }
    out.end();
    Ok(())
}

/// The operator's `set` and `add`, as field lines.
pub(super) fn write_edits(out: &mut Vec<u8>, edits: &[HeaderEdit]) {
    for edit in edits {
        match edit {
            HeaderEdit::Set { name, value } | HeaderEdit::Add { name, value } => {
                put(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
            }
            HeaderEdit::Remove { .. } => {}
        }
    }
}

/// Whether a field of a trailer section may be passed on: none that a backend could take for one of the head's
/// (RFC 9110 6.5.1; CASES F-08).
pub(super) fn may_trail(name: &[u8]) -> bool {
    matches!(Kind::of(name), Kind::Other)
        && ![
            &b"cookie"[..],
            b"set-cookie",
            b"content-type",
            b"content-encoding",
            b"content-range",
            b"trailer",
        ]
        .iter()
        .any(|barred| same(name, barred))
}

/// Whether the operator sets or removes fields of this name, in any spelling: behind a CGI gateway a client's
/// `X_Team` would stand beside the `X-Team` that is set here.
pub(super) fn replaces(edits: &[HeaderEdit], name: &[u8]) -> bool {
    edits
        .iter()
        .any(|edit| !matches!(edit, HeaderEdit::Add { .. }) && alike(edit.name().as_bytes(), name))
}

/// How often an OPTIONS may still be forwarded; the least of several numbers, and nothing of what is none (RFC 9110
/// 7.6.2).
pub(super) fn hops_left(fields: &Fields<'_>) -> Option<u64> {
    fields.of(Kind::MaxForwards).filter_map(number).min()
}

/// The fields that Connection names, but for the options that are no fields.
#[derive(Default)]
struct Named<'a> {
    names: [&'a [u8]; MOST_NAMED],
    count: usize,
}

impl<'a> Named<'a> {
    fn take(&mut self, fields: &Fields<'a>) -> Result<(), TooManyNamed> {
        for value in fields.of(Kind::Connection) {
            // What nearly everybody says is not taken apart.
            if same(value, b"keep-alive") || same(value, b"close") {
                continue;
            }
            for option in list_members(value) {
                if [&b"close"[..], b"keep-alive", b"upgrade"]
                    .iter()
                    .any(|plain| same(option, plain))
                {
                    continue;
                }
                *self.names.get_mut(self.count).ok_or(TooManyNamed)? = option;
                self.count += 1;
            }
        }
        Ok(())
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.names[..self.count]
            .iter()
            .any(|named| same(named, name))
    }
}

/// Copies the fields for which `stays`. `raw` is what they were read from.
fn copy_fields(
    out: &mut Vec<u8>,
    raw: &[u8],
    fields: &Fields<'_>,
    stays: impl Fn(&[u8], Kind) -> bool,
) {
    let base = raw.as_ptr() as usize;
    // What was read from elsewhere lies outside of `raw`, wherever that is.
    // Offsets of a run of lines that stand in `raw` as we would write them.
    let mut run = 0..0;
    for (header, kind) in fields.iter() {
        let name = header.name.as_bytes();
        if !stays(name, kind) {
            continue;
        }
        let name_at = (name.as_ptr() as usize).wrapping_sub(base);
        let value_at = (header.value.as_ptr() as usize).wrapping_sub(base);
        let end = value_at.wrapping_add(header.value.len());
        let is_plain = value_at == name_at.wrapping_add(name.len() + 2)
            && raw.get(value_at.wrapping_sub(2)..value_at) == Some(b": ")
            && raw.get(end..end.wrapping_add(2)) == Some(b"\r\n");
        if is_plain && run.end == name_at {
            run.end = end + 2;
            continue;
        }
        put(out, &[&raw[run.clone()]]);
        if is_plain {
            run = name_at..end + 2;
        } else {
            run = 0..0;
            put(out, &[name, b": ", header.value, b"\r\n"]);
        }
    }
    put(out, &[&raw[run]]);
}

/// What a trusted proxy said about who asked stays, with its own address added (RFC 7239 has the same order).
fn add_forwarded(
    out: &mut Vec<u8>,
    fields: &Fields<'_>,
    client: IpAddr,
    asker: Option<IpAddr>,
    ours: &[u8],
) {
    let is_said = |kind| fields.of(kind).next().is_some();
    put(out, &[b"X-Forwarded-For: "]);
    for value in fields
        .of(Kind::ForwardedFor)
        .filter(|value| !value.is_empty())
    {
        put(out, &[value, b", "]);
    }
    put(out, &[client.to_string().as_bytes(), b"\r\n"]);
    for line in ours.split_inclusive(|&byte| byte == b'\n') {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let kind = Kind::of(name);
        match kind {
            Kind::ForwardedFor => {}
            Kind::RealIp if is_said(Kind::ForwardedFor) || !is_said(Kind::RealIp) => {
                if let Some(asker) = asker {
                    put(
                        out,
                        &[b"X-Real-IP: ", asker.to_string().as_bytes(), b"\r\n"],
                    );
                }
            }
            _ if is_said(kind) => {}
            _ => put(out, &[line]),
        }
    }
}

/// What proxies before us have taken off the front of the path, the first of them first.
fn put_prefixes(out: &mut Vec<u8>, fields: &Fields<'_>) {
    let said = fields
        .iter()
        .filter(|(field, kind)| *kind == Kind::Identity && same(field.name.as_bytes(), PREFIX))
        .flat_map(|(field, _)| list_members(field.value));
    for prefix in said.filter(|prefix| prefix.starts_with(b"/")) {
        put(out, &[prefix.strip_suffix(b"/").unwrap_or(prefix)]);
    }
}

fn number(value: &[u8]) -> Option<u64> {
    // `parse` alone would take a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// `name` and the number, as a line.
fn put_number(out: &mut Vec<u8>, name: &[u8], mut number: u64) {
    let mut line = *b"....................\r\n";
    let mut at = line.len() - 2;
    loop {
        at -= 1;
        line[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    put(out, &[name, &line[at..]]);
}

/// Three digits, as a head that was read has them.
fn put_status(out: &mut Vec<u8>, status: u16) {
    let digit = |by: u16| b'0' + (status / by % 10) as u8;
    let mut line = *b"HTTP/1.1 200 ";
    line[9..12].copy_from_slice(&[digit(100), digit(10), digit(1)]);
    put(out, &[&line]);
}

#[cfg(test)]
mod tests {
    use super::super::h1::head::{self, HeadLimits, Parsed, Room};
    use super::*;
    use crate::site::file::{Rules, read};
    use crate::site::{SiteDocument, SiteName};
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        line_bytes: 8 << 10,
        field_bytes: 16 << 10,
        fields: 100,
        head_bytes: 32 << 10,
    };

    fn site() -> Site {
        let document = SiteDocument {
            name: SiteName::new("shop"),
            text: "host = 'a.test'\nto = 5000\n[headers.request]\nset = { X-Set = 's' }\nremove = ['X-Gone']\n"
                .to_owned(),
            origin: "sites.d/shop.toml".into(),
            real: "sites.d/shop.toml".into(),
        };
        read(&document, &Rules::default())
            .unwrap_or_else(|problems| panic!("{problems:?}"))
            .site
    }

    /// Writes the head for the next hop, and asks of it what any backend may rely on.
    fn next_hop_reads_one_thing(raw: &[u8], site: &Site, trusted: bool) {
        let mut room = Room::new();
        let Ok(Parsed::Complete(head)) = head::request(raw, &LIMITS, &mut room) else {
            return;
        };
        let ours = b"X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.test\r\nX-Forwarded-Port: 80\r\nX-Real-IP: 10.0.0.9\r\n";
        let client = IpAddr::from([10, 0, 0, 9]);
        let onward = Onward {
            certificate: b"",
            site,
            host: b"a.test:8080",
            strip: 0,
            prefix: "",
            forwarded: if trusted {
                Forwarded::Added {
                    client,
                    asker: Some(client),
                    ours,
                }
            } else {
                Forwarded::Set(ours)
            },
            request_id: [b'7'; 32],
            via: Some("onedoor-1"),
        };
        let mut out = Vec::new();
        let host_at = request_head(&mut out, raw, &head, &onward).expect("few are named");
        let shown = out.escape_ascii();
        assert_eq!(&out[host_at], onward.host, "{shown}");

        let mut plain = [httparse::EMPTY_HEADER; MOST_NAMED + 100];
        let mut other = httparse::Request::new(&mut plain);
        assert_eq!(
            other.parse(&out),
            Ok(httparse::Status::Complete(out.len())),
            "{shown}"
        );
        let mut room = Room::new();
        let Ok(Parsed::Complete(next)) = head::request(&out, &LIMITS, &mut room) else {
            panic!("we would refuse it ourselves: {shown}");
        };
        assert_eq!(next.bytes, out.len(), "{shown}");
        assert_eq!(next.method, head.method);
        assert_eq!(next.target.path(), head.target.path());
        assert_eq!(next.target.query, head.target.query);
        assert_eq!(next.framing, head.framing, "{shown}");
        assert_eq!(next.upgrade, head.upgrade, "{shown}");
        let count = |kind| next.fields.of(kind).count();
        for kind in [
            Kind::Host,
            Kind::ForwardedFor,
            Kind::ForwardedProto,
            Kind::ForwardedHost,
            Kind::ForwardedPort,
            Kind::RealIp,
            Kind::RequestId,
        ] {
            assert!(
                count(kind) == 1 || (trusted && count(kind) > 0),
                "{kind:?}: {shown}"
            );
        }
        assert_eq!(count(Kind::Host), 1, "{shown}");
        assert!(
            count(Kind::ContentLength) + count(Kind::TransferEncoding) <= 1,
            "{shown}"
        );
        for kind in [Kind::KeepAlive, Kind::Hop, Kind::Barred] {
            assert_eq!(count(kind), 0, "{kind:?}: {shown}");
        }
        let upgrades = usize::from(head.upgrade.is_some());
        assert_eq!(count(Kind::Connection), upgrades, "{shown}");
        assert_eq!(count(Kind::Upgrade), upgrades, "{shown}");
        assert!(trusted || count(Kind::Identity) == 0, "{shown}");

        // What means nothing to a proxy is all there, in order, but for what Connection and the operator take away.
        let named: Vec<&[u8]> = head
            .fields
            .of(Kind::Connection)
            .flat_map(list_members)
            .collect();
        let kept = |fields: &Fields<'_>, edited: bool| -> Vec<(String, Vec<u8>)> {
            fields
                .iter()
                .filter(|(field, kind)| {
                    let name = field.name.as_bytes();
                    *kind == Kind::Other
                        && !named.iter().any(|named| same(named, name))
                        && !(edited && (same(name, b"x-set") || same(name, b"x-gone")))
                })
                .map(|(field, _)| (field.name.to_owned(), field.value.to_vec()))
                .collect()
        };
        let mut expected = kept(&head.fields, true);
        expected.push(("X-Set".to_owned(), b"s".to_vec()));
        assert_eq!(kept(&next.fields, false), expected, "{shown}");
    }

    proptest! {
        #[test]
        fn what_the_next_hop_gets_has_one_meaning(
            start in prop::sample::select(vec![
                "GET / HTTP/1.1", "POST /a/b?c=d HTTP/1.1", "OPTIONS * HTTP/1.1", "HEAD /%2e/ HTTP/1.1", "GET /x HTTP/1.0",
                "PUT http://a.test:8080?q HTTP/1.1",
            ]),
            fields in prop::collection::vec((
                prop::sample::select(vec![
                    "Host", "Content-Length", "Transfer-Encoding", "X-A", "x-b", "X-Set", "x-gone", "Cookie", "Accept",
                ]),
                prop::sample::select(vec![
                    "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Connection", "X-Forwarded-For",
                    "x_forwarded_for", "Content_Length", "X-Forwarded-Proto", "X-Request-Id", "Forwarded", "Via", "Proxy",
                    "Max-Forwards", "X-A", "X-B", "Authorization", "Client-Cert", "Expect",
                ]),
                any::<bool>(),
                prop::sample::select(vec!["", " ", "  ", "\t", " \t "]),
                prop::sample::select(vec!["", " ", "\t "]),
                prop::sample::select(vec!["a.test", "x-a", "close, X-B", "upgrade", "websocket", "1", "é", "", "x-forwarded-for, x-request-id"]),
            ), 0..12),
            trusted: bool,
            host_first: bool,
        ) {
            let host = "Host:  A.test:8080\r\n";
            let mut raw = format!("{start}\r\n{}", if host_first { host } else { "" });
            for (plain, special, is_special, before, behind, value) in fields {
                let name = if is_special { special } else { plain };
                let value = match name {
                    "Host" => continue,
                    "Content-Length" => "12",
                    "Transfer-Encoding" => "chunked",
                    "Expect" => "100-continue",
                    _ => value,
                };
                raw.push_str(&format!("{name}:{before}{value}{behind}\r\n"));
            }
            raw.push_str(if host_first { "\r\n" } else { "Host:A.test:8080 \r\n\r\n" });
            raw.push_str("body and more");
            next_hop_reads_one_thing(raw.as_bytes(), &site(), trusted);
        }
    }
}
