//! The first message of TLS -> the name asked for and the protocols offered; no I/O.
//!
//! Only what says where a connection goes is read, and that strictly: a hello that cannot be read is an error and
//! never one without a name. What else is in it belongs to whoever ends TLS. RFC 8446 unless another is named.

mod fields;
mod records;

#[cfg(test)]
mod tests;

use crate::door::alert::Alert;
use crate::limits::HELLO_EXTENSIONS;
use crate::parsed::Parsed;
use crate::site::hostname::{HostBuffer, authority};

use fields::Fields;

/// What a client hello says about where its connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The name asked for, normalised. `None`: none was.
    pub sni: Option<&'a str>,
    pub alpn: Alpn<'a>,
    /// Whether it offers no version of TLS that may still be spoken, nothing above 1.1 (RFC 8996).
    pub is_outdated: bool,
    /// How many bytes it came in, with the headers of its records.
    pub bytes: usize,
}

/// The protocols a client offers, in its order; perhaps none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alpn<'a>(&'a [u8]);

/// Room for what cannot be borrowed from the bytes that came.
#[derive(Debug, Default)]
pub struct Room {
    /// The message, when it came in several records.
    message: Vec<u8>,
    name: HostBuffer,
}

/// Why bytes are no client hello. Each is told to the client by an [`Alert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRefusal {
    /// Something else than a client hello, or something behind it that may only come after our answer (5.1).
    Unexpected,
    /// A record of no version of TLS.
    Version,
    /// A record that is longer than records are (5.1).
    RecordTooLong,
    /// A record without a byte in it (5.1).
    EmptyRecord,
    TooManyRecords,
    TooLong,
    /// Lengths that do not fit into each other.
    Malformed,
    TooManyExtensions,
    /// What may stand there once stands there twice (4.2; RFC 6066 3).
    Twice,
    /// A name of another type than a host's, which nobody knows how to read (RFC 6066 3).
    NameType,
    /// No name that DNS could carry, or one with a port or a final dot, or an address (RFC 6066 3).
    Name,
    /// Compression that cannot be left off (4.1.2).
    Compression,
    /// An offered key that is not the last extension, so that it would not cover the whole hello (4.2.11).
    KeyNotLast,
}

impl HelloRefusal {
    /// What the client is told.
    pub fn alert(self) -> Alert {
        match self {
            HelloRefusal::Unexpected => Alert::UnexpectedMessage,
            HelloRefusal::Version => Alert::ProtocolVersion,
            HelloRefusal::RecordTooLong => Alert::RecordOverflow,
            HelloRefusal::EmptyRecord
            | HelloRefusal::TooManyRecords
            | HelloRefusal::TooLong
            | HelloRefusal::Malformed
            | HelloRefusal::TooManyExtensions => Alert::DecodeError,
            HelloRefusal::Twice
            | HelloRefusal::NameType
            | HelloRefusal::Name
            | HelloRefusal::Compression
            | HelloRefusal::KeyNotLast => Alert::IllegalParameter,
        }
    }
}

/// Reads the client hello that `bytes` begin with. At most `most` bytes of message are waited for.
///
/// # Errors
/// As soon as the bytes that are there tell that no more will make them one.
pub fn read<'a>(
    bytes: &'a [u8],
    most: usize,
    room: &'a mut Room,
) -> Result<Parsed<ClientHello<'a>>, HelloRefusal> {
    let Room { message, name } = room;
    let (body, bytes) = match records::reassemble(bytes, most, message)? {
        Parsed::Complete(whole) => whole,
        Parsed::NeedMore => return Ok(Parsed::NeedMore),
    };
    let mut hello = ClientHello {
        sni: None,
        alpn: Alpn::default(),
        is_outdated: false,
        bytes,
    };
    let (version, extensions) = parts(body)?;
    hello.is_outdated = version < TLS12;
    if let Some(mut extensions) = extensions {
        read_extensions(&mut hello, &mut extensions, name)?;
    }
    Ok(Parsed::Complete(hello))
}

const TLS12: usize = 0x0303;
const TLS13: usize = 0x0304;

/// The version that it says itself, and what stands at the end of the message: `None` in one as old as TLS 1.1, which
/// need not have any.
fn parts(body: &[u8]) -> Result<(usize, Option<Fields<'_>>), HelloRefusal> {
    const SESSION_ID_BYTES: usize = 32;
    const NO_COMPRESSION: u8 = 0;
    let mut body = Fields(body);
    let version = body.number::<2>()?; // legacy_version: since 1.3 the true ones are offered in an extension
    body.take(32)?; // random
    let session = body.list::<1>()?;
    let suites = body.list::<2>()?;
    if session.0.len() > SESSION_ID_BYTES || suites.0.is_empty() || suites.0.len() % 2 == 1 {
        return Err(HelloRefusal::Malformed);
    }
    let compressions = body.list::<1>()?;
    if compressions.0.is_empty() {
        return Err(HelloRefusal::Malformed);
    }
    if !compressions.0.contains(&NO_COMPRESSION) {
        return Err(HelloRefusal::Compression);
    }
    if body.0.is_empty() {
        return Ok((version, None));
    }
    let extensions = body.list::<2>()?;
    body.end()?;
    Ok((version, Some(extensions)))
}

fn read_extensions<'a>(
    hello: &mut ClientHello<'a>,
    extensions: &mut Fields<'a>,
    name: &'a mut HostBuffer,
) -> Result<(), HelloRefusal> {
    const SERVER_NAME: usize = 0;
    const ALPN: usize = 16;
    const PRE_SHARED_KEY: usize = 41;
    const SUPPORTED_VERSIONS: usize = 43;
    let mut seen = [0; HELLO_EXTENSIONS];
    let mut count = 0;
    let mut server_name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()?;
        let body = extensions.list::<2>()?;
        if seen[..count].contains(&kind) {
            return Err(HelloRefusal::Twice);
        }
        *seen.get_mut(count).ok_or(HelloRefusal::TooManyExtensions)? = kind;
        count += 1;
        match kind {
            SERVER_NAME => server_name = Some(host_name(body)?),
            ALPN => hello.alpn = alpn(body)?,
            SUPPORTED_VERSIONS => hello.is_outdated = is_outdated(body),
            PRE_SHARED_KEY if !extensions.0.is_empty() => return Err(HelloRefusal::KeyNotLast),
            _ => {}
        }
    }
    if let Some(raw) = server_name {
        hello.sni = Some(normalised(raw, name)?);
    }
    Ok(())
}

/// Whether a list of versions (4.2.1) has none that may still be spoken. One that cannot be read is for whoever ends TLS.
fn is_outdated(mut body: Fields<'_>) -> bool {
    let Ok(mut versions) = body.list::<1>() else {
        return false;
    };
    while let Ok(version) = versions.number::<2>() {
        if version == TLS12 || version == TLS13 {
            return false;
        }
    }
    true
}

/// The one name of a server_name extension (RFC 6066 3).
fn host_name(mut body: Fields<'_>) -> Result<&[u8], HelloRefusal> {
    const HOST_NAME: usize = 0;
    let mut names = body.list::<2>()?;
    body.end()?;
    if names.number::<1>()? != HOST_NAME {
        return Err(HelloRefusal::NameType);
    }
    let name = names.list::<2>()?;
    match names.0.first() {
        None => Ok(name.0),
        Some(0) => Err(HelloRefusal::Twice),
        Some(_) => Err(HelloRefusal::NameType),
    }
}

/// The name as sites claim it.
fn normalised<'b>(raw: &[u8], buffer: &'b mut HostBuffer) -> Result<&'b str, HelloRefusal> {
    // What `authority` allows in a Host and RFC 6066 3 does not in a name: a final dot, a port, an address.
    if raw.ends_with(b".") || raw.contains(&b':') {
        return Err(HelloRefusal::Name);
    }
    let name = authority(raw, buffer).map_err(|_| HelloRefusal::Name)?.host;
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HelloRefusal::Name);
    }
    Ok(name)
}

/// The list in an ALPN extension (RFC 7301 3.1).
fn alpn(mut body: Fields<'_>) -> Result<Alpn<'_>, HelloRefusal> {
    let list = body.list::<2>()?;
    body.end()?;
    let mut names = list;
    while {
        if names.list::<1>()?.0.is_empty() {
            return Err(HelloRefusal::Malformed);
        }
        !names.0.is_empty()
    } {}
    Ok(Alpn(list.0))
}

impl<'a> Alpn<'a> {
    /// One after the other.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Fields(self.0);
        std::iter::from_fn(move || rest.list::<1>().ok().map(|name| name.0))
    }

    /// As the client wrote them: each behind the byte of its length.
    pub fn list(self) -> &'a [u8] {
        self.0
    }
}
