//! Response heads.

use super::{
    Coding, Framing, HeadLimits, HeadRefusal, Method, Parsed, ResponseHead, Room, is_of_connection,
    leading_lines, length, line_ends, refused,
};
use crate::http::field::{Fields, Kind, list_members, same};

/// Reads a response head from the start of `bytes`; `request_method` decides whether a body can follow.
///
/// # Errors
/// The first reason to refuse; the exchange then ends with 502.
pub fn response<'a>(
    bytes: &'a [u8],
    request_method: Method,
    limits: &HeadLimits,
    room: &'a mut Room<'a>,
) -> Result<Parsed<ResponseHead<'a>>, HeadRefusal> {
    let (status, reason, minor, headers, end) = {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut room.headers) {
            Ok(httparse::Status::Complete(end)) => match (parsed.code, parsed.version) {
                (Some(status), Some(minor)) => (
                    status,
                    parsed.reason.unwrap_or(""),
                    minor,
                    &*parsed.headers,
                    end,
                ),
                _ => return Err(HeadRefusal::Malformed("the status line is not complete")),
            },
            Ok(httparse::Status::Partial) if bytes.len() >= limits.head_bytes => {
                return Err(HeadRefusal::TooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(Parsed::NeedMore),
            Err(error) => return Err(refused(error, bytes)),
        }
    };
    if end > limits.head_bytes {
        return Err(HeadRefusal::TooLarge);
    }
    // httparse skips empty lines; a backend has no reason to send one.
    if leading_lines(bytes) > 0 || status < 100 {
        return Err(HeadRefusal::Malformed("the status line is not one"));
    }
    line_ends(&bytes[..end])?;

    let mut seen = ResponseFields::default();
    for (header, kind) in headers.iter().zip(&mut room.kinds) {
        *kind = Kind::of(header.name.as_bytes());
        match *kind {
            Kind::Other => {}
            kind => seen.take(kind, header.value)?,
        }
    }
    let fields = Fields {
        headers,
        kinds: &room.kinds[..headers.len()],
    };

    let is_http11 = minor == 1;
    let bodiless = request_method == Method::Head || status < 200 || status == 204 || status == 304;
    let mut reusable = is_http11 && !seen.close;
    let framing = match (seen.coding, seen.length) {
        _ if bodiless => Framing::None,
        (Some(_), _) if !is_http11 => {
            return Err(HeadRefusal::Malformed(
                "Transfer-Encoding in an HTTP/1.0 response",
            ));
        }
        // CASES R-01: the coding decides, and the upstream is not trusted with another exchange.
        (Some(Coding::Chunked), _) => Framing::Chunked,
        // Taking `chunked` off would leave a coding the client was not told of.
        (Some(Coding::ChunkedLast), _) => return Err(HeadRefusal::CodingNotSupported),
        // CASES R-03 would read to the end; what is then passed on would still be coded. Refuse.
        (Some(Coding::Unknown), _) => return Err(HeadRefusal::CodingNotSupported),
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::Close,
    };
    reusable &= framing != Framing::Close;
    // Section 6.3: neither has a body; who says one follows may well send it.
    let promises_body = seen.coding.is_some() || seen.length.is_some_and(|length| length > 0);
    reusable &= !(promises_body && (status < 200 || status == 204));
    // CASES R-01, also where no body follows.
    reusable &= !(seen.coding.is_some() && seen.length.is_some());
    Ok(Parsed::Complete(ResponseHead {
        status,
        reason,
        framing,
        length: seen.length.filter(|_| seen.coding.is_none()),
        reusable,
        upgrade: seen.upgrade,
        keep_alive_seconds: seen.keep_alive_seconds,
        authenticates_connection: status == 401 && seen.authenticates_connection,
        fields,
        bytes: end,
    }))
}

#[derive(Default)]
struct ResponseFields<'a> {
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    upgrade: Option<&'a [u8]>,
    keep_alive_seconds: Option<u32>,
    authenticates_connection: bool,
}

impl<'a> ResponseFields<'a> {
    fn take(&mut self, kind: Kind, value: &'a [u8]) -> Result<(), HeadRefusal> {
        match kind {
            Kind::ContentLength => {
                // Section 6.3: a list of one and the same number may be taken as that number.
                for member in value.split(|&byte| byte == b',') {
                    let length = length(member.trim_ascii())?;
                    if self
                        .length
                        .replace(length)
                        .is_some_and(|before| before != length)
                    {
                        return Err(HeadRefusal::Malformed(
                            "Content-Length given twice, and differently",
                        ));
                    }
                }
            }
            Kind::TransferEncoding => {
                let coding = Coding::parse(value);
                self.coding = Some(if self.coding.is_some() {
                    Coding::Unknown
                } else {
                    coding
                });
            }
            // What nearly everybody says, and what holds anyhow.
            Kind::Connection if same(value, b"keep-alive") => {}
            Kind::Connection => {
                self.close |= list_members(value).any(|option| same(option, b"close"))
            }
            Kind::Upgrade => self.upgrade = Some(if self.upgrade.is_some() { b"" } else { value }),
            Kind::KeepAlive => {
                self.keep_alive_seconds = list_members(value).find_map(|member| {
                    let (name, seconds) = member.split_at_checked("timeout=".len())?;
                    if !same(name, b"timeout=") {
                        return None;
                    }
                    std::str::from_utf8(seconds).ok()?.parse().ok()
                });
            }
            Kind::WwwAuthenticate => {
                self.authenticates_connection |= is_of_connection(value);
            }
            _ => {}
        }
        Ok(())
    }
}
