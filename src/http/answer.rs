//! Our own responses: which failure gets which status, and in which words.

use std::sync::Arc;

use crate::http::forward::{replaces, write_edits};
use crate::http::h1::head::{HeadRefusal, RequestHead};
use crate::observe::Reason;
use crate::site::hostname::{HostBuffer, authority};
use crate::site::{HeaderEdit, HostPattern, Redirect, Respond, Site, Wire};
use crate::upstream::UpstreamError;
use crate::wheel::Cut;

/// The whole list of what onedoor answers by itself when it cannot do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Malformed(&'static str),
    NoHost,
    BadHost,
    AmbiguousPath,
    TooManyConnectionOptions,
    BadBody(&'static str),
    NotAllowed,
    NoPath,
    MethodNotAllowed,
    HeadTimeout,
    BodyTimeout,
    BodyTooLarge,
    TargetTooLong,
    Expectation,
    NoSite,
    TlsOnly,
    WrongTlsConnection,
    NoCertificate,
    HeadTooLarge,
    CodingNotSupported,
    BackendRefused,
    BackendUnresolved,
    BackendFailed,
    BackendMalformed,
    BackendHeadTooLarge,
    BackendTls,
    BackendNoWebSocket,
    SiteGone,
    SiteEdited,
    ClientFull,
    SiteFull,
    SiteBusy,
    NoBackendFit,
    QueueFull,
    QueueTimeout,
    Exhausted,
    BackendTimeout,
    VersionNotSupported,
    Loop,
    Internal,
}

impl Answer {
    /// Status, reason, and a sentence for a person.
    pub(super) fn parts(self) -> (u16, Reason, &'static str) {
        match self {
            Answer::Malformed(what) => (400, Reason::MalformedRequest, what),
            Answer::NoHost => (
                400,
                Reason::NoHost,
                "the request does not say which host it is for",
            ),
            Answer::BadHost => (
                400,
                Reason::BadHost,
                "the Host of the request is not a hostname",
            ),
            Answer::AmbiguousPath => (
                400,
                Reason::AmbiguousPath,
                "the path has dot segments or a backslash",
            ),
            Answer::TooManyConnectionOptions => (
                400,
                Reason::MalformedRequest,
                "Connection names too many fields",
            ),
            Answer::BadBody(what) => (400, Reason::MalformedBody, what),
            Answer::NotAllowed => (
                403,
                Reason::NotAllowed,
                "this site does not serve your address",
            ),
            Answer::NoPath => (
                404,
                Reason::NoPath,
                "no part of this site answers for that path",
            ),
            Answer::MethodNotAllowed => (
                405,
                Reason::MethodNotAllowed,
                "CONNECT and TRACE are not served",
            ),
            Answer::HeadTimeout => (
                408,
                Reason::HeadTimeout,
                "the head of the request took too long",
            ),
            Answer::BodyTimeout => (
                408,
                Reason::BodyTimeout,
                "the body of the request stopped coming",
            ),
            Answer::BodyTooLarge => (
                413,
                Reason::BodyTooLarge,
                "the body is larger than this site takes",
            ),
            Answer::TargetTooLong => (414, Reason::TargetTooLong, "the request line is too long"),
            Answer::Expectation => (
                417,
                Reason::Expectation,
                "only 100-continue can be expected",
            ),
            Answer::NoSite => (421, Reason::NoSite, "no site here answers for that host"),
            Answer::TlsOnly => (421, Reason::TlsOnly, "this site is served over TLS only"),
            Answer::WrongTlsConnection => (
                421,
                Reason::WrongTlsConnection,
                "this TLS connection was opened for another site, and may not be used for this one",
            ),
            Answer::NoCertificate => (
                503,
                Reason::NoCertificate,
                "this site is served over TLS only, and its certificate is missing",
            ),
            Answer::HeadTooLarge => (
                431,
                Reason::HeadTooLarge,
                "the head of the request is too large",
            ),
            Answer::CodingNotSupported => (
                501,
                Reason::CodingNotSupported,
                "only the transfer coding chunked is taken",
            ),
            Answer::BackendRefused => (
                502,
                Reason::BackendRefused,
                "the app behind this site does not accept connections",
            ),
            Answer::BackendUnresolved => (
                502,
                Reason::BackendUnresolved,
                "the app behind this site has a name without an address",
            ),
            Answer::BackendFailed => (
                502,
                Reason::BackendFailed,
                "the app behind this site closed the connection without an answer",
            ),
            Answer::BackendMalformed => (
                502,
                Reason::BackendMalformed,
                "the app behind this site answered something that is not HTTP",
            ),
            Answer::BackendHeadTooLarge => (
                502,
                Reason::BackendMalformed,
                "the app behind this site sent a head that is larger than it may be here",
            ),
            Answer::BackendTls => (
                502,
                Reason::BackendTls,
                "TLS with the app behind this site failed",
            ),
            Answer::BackendNoWebSocket => (
                502,
                Reason::BackendNoWebSocket,
                "the app behind this site is spoken to in HTTP/2, and takes no WebSockets that way",
            ),
            Answer::SiteGone => (
                503,
                Reason::SiteGone,
                "this site was removed while the request was open",
            ),
            Answer::SiteEdited => (
                503,
                Reason::SiteEdited,
                "this site was changed while the request was open",
            ),
            Answer::ClientFull => (
                503,
                Reason::ClientFull,
                "as many requests as one client, or all together, may have are open",
            ),
            Answer::SiteFull => (
                503,
                Reason::SiteFull,
                "as many connections as this site may have are open",
            ),
            Answer::SiteBusy => (
                503,
                Reason::SiteBusy,
                "too many requests wait for the app behind this site to accept a connection",
            ),
            Answer::NoBackendFit => (
                503,
                Reason::NoBackendFit,
                "no app behind this site is fit to answer just now",
            ),
            Answer::QueueFull => (
                503,
                Reason::QueueFull,
                "too many requests wait for the app behind this site",
            ),
            Answer::QueueTimeout => (
                503,
                Reason::QueueTimeout,
                "the app behind this site has been busy with others for too long",
            ),
            Answer::Exhausted => (
                503,
                Reason::Exhausted,
                "the proxy has no descriptors, memory or ports left for another connection",
            ),
            Answer::BackendTimeout => (
                504,
                Reason::BackendTimeout,
                "the app behind this site took too long",
            ),
            Answer::VersionNotSupported => (
                505,
                Reason::VersionNotSupported,
                "HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here, and no other version",
            ),
            Answer::Loop => (
                508,
                Reason::Loop,
                "the request has come through here before",
            ),
            Answer::Internal => (500, Reason::Internal, "something went wrong here"),
        }
    }

    /// Writes the response. `detail` is for who may read why; `with_body` is false for HEAD.
    pub(super) fn write(
        self,
        out: &mut Vec<u8>,
        date: &[u8],
        close: bool,
        with_body: bool,
        detail: Option<&str>,
    ) {
        let (status, reason, sentence) = self.parts();
        let reason = reason.code();
        let mut body = format!("{status} {}: {sentence}.\n", phrase(status));
        if let Some(detail) = detail {
            body.push_str(&format!("\n{detail}\n"));
        }
        body.push_str(&format!("\nonedoor: {reason}\n"));
        let mut extra = format!("Onedoor-Reason: {reason}\r\n");
        match self {
            Answer::MethodNotAllowed => {
                extra.push_str("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
            }
            // A client that would ask again at once would find the same.
            Answer::SiteGone
            | Answer::SiteEdited
            | Answer::ClientFull
            | Answer::SiteFull
            | Answer::SiteBusy
            | Answer::NoBackendFit
            | Answer::QueueFull
            | Answer::QueueTimeout
            | Answer::Exhausted => extra.push_str("Retry-After: 1\r\n"),
            _ => {}
        }
        write(
            out,
            status,
            "text/plain; charset=utf-8",
            body.as_bytes(),
            &extra,
            &[],
            date,
            close,
            with_body,
        );
    }
}

impl From<HeadRefusal> for Answer {
    fn from(refusal: HeadRefusal) -> Answer {
        match refusal {
            HeadRefusal::Malformed(what) => Answer::Malformed(what),
            HeadRefusal::Version => Answer::VersionNotSupported,
            HeadRefusal::TargetTooLong => Answer::TargetTooLong,
            HeadRefusal::TooLarge => Answer::HeadTooLarge,
            HeadRefusal::CodingNotSupported => Answer::CodingNotSupported,
            HeadRefusal::MethodNotAllowed => Answer::MethodNotAllowed,
            HeadRefusal::NoHost => Answer::NoHost,
            HeadRefusal::BadHost => Answer::BadHost,
            HeadRefusal::Expectation => Answer::Expectation,
        }
    }
}

impl From<Cut> for Answer {
    fn from(cut: Cut) -> Answer {
        match cut {
            Cut::Gone => Answer::SiteGone,
            Cut::Edited => Answer::SiteEdited,
        }
    }
}

impl From<&UpstreamError> for Answer {
    fn from(error: &UpstreamError) -> Answer {
        match error {
            UpstreamError::Refused { .. } => Answer::BackendRefused,
            UpstreamError::TimedOut { .. } => Answer::BackendTimeout,
            UpstreamError::Unresolved { .. } => Answer::BackendUnresolved,
            UpstreamError::Tls { .. } => Answer::BackendTls,
            UpstreamError::NoHttp2 { .. } => Answer::BackendMalformed,
            UpstreamError::Exhausted { .. } => Answer::Exhausted,
        }
    }
}

/// A body that is not copied into what is written, because many may be asked for at once: larger than 16 KiB.
pub(super) fn large_body(respond: &Respond) -> Option<&Arc<[u8]>> {
    const LARGE_BYTES: usize = 16 << 10;
    let is_large = respond.body.len() > LARGE_BYTES && !is_bodiless(respond.status);
    is_large.then_some(&respond.body)
}

/// What stands behind the head of a response that was written here.
pub(super) fn body_bytes(out: &[u8]) -> u64 {
    let end = memchr::memmem::find(out, b"\r\n\r\n").map_or(out.len(), |end| end + 4);
    (out.len() - end) as u64
}

/// RFC 9110 8.6: neither may say a length.
fn is_bodiless(status: u16) -> bool {
    status == 204 || status == 304
}

/// Writes what a site file's `respond` says.
pub(super) fn write_respond(
    out: &mut Vec<u8>,
    respond: &Respond,
    edits: &[HeaderEdit],
    date: &[u8],
    close: bool,
    with_body: bool,
) {
    write(
        out,
        respond.status,
        &respond.content_type,
        &respond.body,
        "",
        edits,
        date,
        close,
        with_body,
    );
}

/// Writes a redirect to `location`.
pub(super) fn write_redirect(
    out: &mut Vec<u8>,
    status: u16,
    location: &str,
    edits: &[HeaderEdit],
    date: &[u8],
    close: bool,
    with_body: bool,
) {
    let extra = if replaces(edits, b"location") {
        String::new()
    } else {
        format!("Location: {location}\r\n")
    };
    let body = format!("{status} {}: {location}\n", phrase(status));
    write(
        out,
        status,
        "text/plain; charset=utf-8",
        body.as_bytes(),
        &extra,
        edits,
        date,
        close,
        with_body,
    );
}

/// Writes a redirect from clear text to TLS. Kept for an hour by whoever caches: a site may change its mind.
pub(super) fn write_to_https(
    out: &mut Vec<u8>,
    location: &str,
    date: &[u8],
    close: bool,
    with_body: bool,
) {
    let body = format!("308 {}: {location}\n", phrase(308));
    write(
        out,
        308,
        "text/plain; charset=utf-8",
        body.as_bytes(),
        &format!("Location: {location}\r\nCache-Control: max-age=3600\r\n"),
        &[],
        date,
        close,
        with_body,
    );
}

/// Writes the answer to OPTIONS that goes no further.
pub(super) fn write_options(out: &mut Vec<u8>, allow: &str, date: &[u8], close: bool) {
    write(
        out,
        204,
        "",
        b"",
        &format!("Allow: {allow}\r\n"),
        &[],
        date,
        close,
        false,
    );
}

/// Where a redirect sends a request for this path and query.
pub(super) fn location(redirect: &Redirect, path: &str, query: &str) -> String {
    if redirect.keep_path {
        format!("{}{path}{query}", redirect.location)
    } else {
        redirect.location.to_string()
    }
}

/// Where a name of `redirect_from` is sent: the site's first host, on the port the client named, with path and query.
pub(super) fn first_host(site: &Site, asked: &[u8], wire: Wire, head: &RequestHead<'_>) -> String {
    let scheme = match wire {
        Wire::ClearText => "http",
        Wire::Tls => "https",
    };
    let first = site.claims.first().map(|claim| &claim.pattern);
    let name = match first {
        Some(HostPattern::Exact(name)) if name.as_str().contains(':') => format!("[{name}]"),
        Some(pattern) => pattern.to_string(),
        None => String::new(),
    };
    let mut buffer = HostBuffer::new();
    let port = authority(asked, &mut buffer)
        .ok()
        .and_then(|asked| asked.port);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{scheme}://{name}{port}{}{}",
        head.target.path_of_link(),
        head.target.query
    )
}

/// Where clear text is sent on to. `host` is Host as it was understood: a port that is not 80 is kept, because the
/// same port speaks TLS.
pub(super) fn over_tls(site: &Site, host: &[u8], head: &RequestHead<'_>) -> String {
    let host = String::from_utf8_lossy(host);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (&*host, None),
    };
    let port = match site.tls.https_port.or(port) {
        None | Some(443) => String::new(),
        Some(80) if site.tls.https_port.is_none() => String::new(),
        Some(port) => format!(":{port}"),
    };
    format!(
        "https://{name}{port}{}{}",
        head.target.path_of_link(),
        head.target.query
    )
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place that writes a response; each argument is one part of it"
)]
fn write(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    body: &[u8],
    extra: &str,
    edits: &[HeaderEdit],
    date: &[u8],
    close: bool,
    with_body: bool,
) {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
    let bodiless = is_bodiless(status);
    if !bodiless {
        if !replaces(edits, b"content-type") {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str(extra);
    out.extend_from_slice(head.as_bytes());
    if !replaces(edits, b"date") {
        for part in [b"Date: ", date, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    write_edits(out, edits);
    out.extend_from_slice(if close {
        b"Connection: close\r\n\r\n"
    } else {
        b"\r\n"
    });
    if with_body && !bodiless {
        out.extend_from_slice(body);
    }
}

/// The reason phrase of RFC 9110 15, or a neutral one.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        // RFC 9112 4: may be anything, for nobody reads it.
        _ => "Status",
    }
}
