//! The PROXY protocol, versions 1 and 2, both directions: who the client of a connection is in truth; no I/O.
//!
//! Whether a header is expected, and believed, is the door's affair. The specification is HAProxy's
//! `doc/proxy-protocol.txt`; the sections named here are its.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::PROXY_HEADER_BYTES;
use crate::parsed::Parsed;
use crate::site::SendProxy;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// `None`: the proxy speaks for itself (a health check), or does not know. Then its own address is the client's.
    pub ends: Option<Ends>,
    /// How many bytes it is long.
    pub bytes: usize,
}

/// The two ends of the connection that a proxy has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    /// What the client connected to.
    pub local: SocketAddr,
}

/// Why bytes are no header that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// They begin as something else.
    Absent,
    /// They begin as one, and go on as none.
    Malformed,
    /// Longer than [`PROXY_HEADER_BYTES`].
    TooLong,
}

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// As soon as the bytes that are there tell that no more will make them one.
pub fn read(bytes: &[u8]) -> Result<Parsed<ProxyHeader>, NoHeader> {
    if begins(bytes, V1) {
        return read_v1(bytes);
    }
    if begins(bytes, V2) {
        return read_v2(bytes);
    }
    Err(NoHeader::Absent)
}

/// Whether `bytes` are the beginning of something that begins with `mark`.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    let count = bytes.len().min(mark.len());
    bytes[..count] == mark[..count]
}

/// Section 2.1: a line of at most 107 bytes, of which exactly one spelling is taken.
fn read_v1(bytes: &[u8]) -> Result<Parsed<ProxyHeader>, NoHeader> {
    const LINE_BYTES: usize = 107;
    let line = &bytes[..bytes.len().min(LINE_BYTES)];
    let is_text = |byte: &u8| (b' '..=b'~').contains(byte);
    let Some(end) = line.iter().position(|byte| !is_text(byte)) else {
        return match line.len() {
            LINE_BYTES => Err(NoHeader::Malformed),
            _ => Ok(Parsed::NeedMore),
        };
    };
    match &line[end..] {
        [b'\r'] if line.len() < LINE_BYTES => return Ok(Parsed::NeedMore),
        [b'\r', b'\n', ..] => {}
        _ => return Err(NoHeader::Malformed),
    }
    let text = line.get(V1.len()..end).ok_or(NoHeader::Malformed)?;
    let text = std::str::from_utf8(text).map_err(|_| NoHeader::Malformed)?;
    Ok(Parsed::Complete(ProxyHeader {
        ends: ends_v1(text)?,
        bytes: end + 2,
    }))
}

fn ends_v1(text: &str) -> Result<Option<Ends>, NoHeader> {
    let mut words = text.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(NoHeader::Malformed);
    };
    let ip = |text: &str| -> Option<IpAddr> {
        match family? {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let end = |address: &str, digits: &str| Some(SocketAddr::new(ip(address)?, port(digits)?));
    let client = end(from, from_port).ok_or(NoHeader::Malformed)?;
    let local = end(to, to_port).ok_or(NoHeader::Malformed)?;
    Ok(Some(Ends { client, local }))
}

/// No sign, no zero in front.
fn port(digits: &str) -> Option<u16> {
    let number: u16 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Section 2.2.
fn read_v2(bytes: &[u8]) -> Result<Parsed<ProxyHeader>, NoHeader> {
    const FIXED: usize = 16;
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    const UNIX: u8 = 0x31;
    let after_mark = bytes.get(V2.len()..).unwrap_or_default();
    match after_mark {
        [] | [LOCAL | PROXY] => {}
        [LOCAL, ..] | [PROXY, UNSPECIFIED | TCP4 | TCP6 | UNIX, ..] => {}
        // Another version, or what no TCP connection is.
        _ => return Err(NoHeader::Malformed),
    }
    let Some((&[command, family, high, low], behind)) = after_mark.split_first_chunk() else {
        return Ok(Parsed::NeedMore);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > PROXY_HEADER_BYTES {
        return Err(NoHeader::TooLong);
    }
    let address_bytes = match (command, family) {
        (LOCAL, _) | (_, UNSPECIFIED) => 0,
        (_, TCP4) => 12,
        (_, TCP6) => 36,
        _ => 216,
    };
    if length < address_bytes {
        return Err(NoHeader::Malformed);
    }
    let Some(block) = behind.get(..length) else {
        return Ok(Parsed::NeedMore);
    };
    let (addresses, extensions) = block.split_at(address_bytes);
    let ends = match (command, family) {
        (PROXY, TCP4) => Some(ends_v2(addresses, |ip: [u8; 4]| IpAddr::from(ip))?),
        (PROXY, TCP6) => Some(ends_v2(addresses, |ip: [u8; 16]| IpAddr::from(ip))?),
        _ => None,
    };
    if ends.is_some() {
        check_extensions(&bytes[..FIXED + length], extensions)?;
    }
    Ok(Parsed::Complete(ProxyHeader {
        ends,
        bytes: FIXED + length,
    }))
}

fn ends_v2<const N: usize>(
    addresses: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Result<Ends, NoHeader> {
    let mut rest = addresses;
    let (client, local) = (take(&mut rest)?, take(&mut rest)?);
    let (client_port, local_port) = (take(&mut rest)?, take(&mut rest)?);
    Ok(Ends {
        client: SocketAddr::new(ip(client), u16::from_be_bytes(client_port)),
        local: SocketAddr::new(ip(local), u16::from_be_bytes(local_port)),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NoHeader> {
    let (taken, behind) = rest.split_first_chunk().ok_or(NoHeader::Malformed)?;
    *rest = behind;
    Ok(*taken)
}

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CHECKSUM: u8 = 0x03;

/// They must fill the header to its end, and a checksum among them must be right (section 2.2.3). What else they say is
/// not used.
fn check_extensions(header: &[u8], extensions: &[u8]) -> Result<(), NoHeader> {
    let mut rest = extensions;
    let mut is_checked = false;
    while !rest.is_empty() {
        let [kind, high, low] = take(&mut rest)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, behind) = rest.split_at_checked(length).ok_or(NoHeader::Malformed)?;
        if kind == CHECKSUM {
            let sum: [u8; 4] = value.try_into().map_err(|_| NoHeader::Malformed)?;
            let at = header.len() - rest.len();
            let bytes = [&header[..at], &[0; 4], &header[at + 4..]];
            if is_checked || crc32c(bytes.into_iter().flatten()) != u32::from_be_bytes(sum) {
                return Err(NoHeader::Malformed);
            }
            is_checked = true;
        }
        rest = behind;
    }
    Ok(())
}

/// RFC 3720 appendix B.4. Bit by bit: a header is short, and few carry it.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg())
        })
    })
}

/// What a backend is told beside the addresses, in version 2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// The name in the client hello.
    pub sni: Option<&'a str>,
    /// What was agreed on, or as the client offered it where nothing was.
    pub alpn: &'a [u8],
}

/// Writes the header that tells a backend whose connection it gets. At most [`PROXY_HEADER_BYTES`]: what a client has
/// chosen, and does not fit, is left out.
pub fn write(out: &mut Vec<u8>, version: SendProxy, ends: Ends, beside: Beside<'_>) {
    let ends = of_one_family(ends);
    match version {
        SendProxy::V1 => write_v1(out, ends),
        SendProxy::V2 => write_v2(out, ends, beside),
    }
}

/// Writes the header of a connection that is nobody's but ours, such as a check's (sections 2.1 and 2.2).
pub fn write_own(out: &mut Vec<u8>, version: SendProxy) {
    match version {
        SendProxy::V1 => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        SendProxy::V2 => {
            out.extend_from_slice(V2);
            // LOCAL, of no family, and nothing behind it.
            out.extend_from_slice(&[0x20, 0x00, 0, 0]);
        }
    }
}

fn write_v1(out: &mut Vec<u8>, Ends { client, local }: Ends) {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        client.ip(),
        local.ip(),
        client.port(),
        local.port()
    );
    out.extend_from_slice(line.as_bytes());
}

fn write_v2(out: &mut Vec<u8>, Ends { client, local }: Ends, beside: Beside<'_>) {
    let start = out.len();
    out.extend_from_slice(V2);
    out.extend_from_slice(&[0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, 0, 0]);
    let addresses = out.len();
    for ip in [client.ip(), local.ip()] {
        match ip {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for port in [client.port(), local.port()] {
        out.extend_from_slice(&port.to_be_bytes());
    }
    for (kind, value) in [
        (AUTHORITY, beside.sni.unwrap_or_default().as_bytes()),
        (ALPN, beside.alpn),
    ] {
        if value.is_empty() || out.len() - start + 3 + value.len() > PROXY_HEADER_BYTES {
            continue;
        }
        out.push(kind);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
    // Counted when all of it is there (CASES T-31).
    let length = (out.len() - addresses) as u16;
    out[addresses - 2..addresses].copy_from_slice(&length.to_be_bytes());
}

/// A header has one family for both: IPv4 as IPv4, and as IPv6 where the other end is.
fn of_one_family(Ends { client, local }: Ends) -> Ends {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    let (client, local) = (plain(client), plain(local));
    if client.is_ipv4() == local.is_ipv4() {
        return Ends { client, local };
    }
    Ends {
        client: mapped(client),
        local: mapped(local),
    }
}

#[cfg(test)]
mod tests;
