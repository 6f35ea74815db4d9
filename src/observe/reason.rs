//! Why onedoor answered by itself, or closed a connection before its work was done: one code each, counted.

/// What stands in `Onedoor-Reason`, and what a connection that ends without an answer is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    // Answers, in the order of their status.
    MalformedRequest,
    NoHost,
    BadHost,
    AmbiguousPath,
    MalformedBody,
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
    HeadTooLarge,
    Internal,
    CodingNotSupported,
    BackendRefused,
    BackendUnresolved,
    BackendFailed,
    BackendMalformed,
    BackendTls,
    BackendNoWebSocket,
    SiteGone,
    NoCertificate,
    SiteFull,
    SiteBusy,
    NoBackendFit,
    QueueFull,
    QueueTimeout,
    Exhausted,
    BackendTimeout,
    VersionNotSupported,
    Loop,
    // Connections closed without a word: none has been read yet, or one is half sent.
    ClientFull,
    OpeningTimeout,
    ProxyHeader,
    UnknownProtocol,
    MalformedHello,
    UnrecognizedName,
    TlsOff,
    HandshakeFailed,
    ClientCertificate,
    HandshakeTimeout,
    IdleTimeout,
    MadeRoom,
    ResponseTimeout,
    SlowReader,
    TotalTimeout,
    TunnelTimeout,
    Http1Required,
    ResetFlood,
    FrameFlood,
    Panic,
}

impl Reason {
    /// All of them, each at its own number.
    pub const ALL: [Reason; 56] = [
        Reason::MalformedRequest,
        Reason::NoHost,
        Reason::BadHost,
        Reason::AmbiguousPath,
        Reason::MalformedBody,
        Reason::NotAllowed,
        Reason::NoPath,
        Reason::MethodNotAllowed,
        Reason::HeadTimeout,
        Reason::BodyTimeout,
        Reason::BodyTooLarge,
        Reason::TargetTooLong,
        Reason::Expectation,
        Reason::NoSite,
        Reason::TlsOnly,
        Reason::WrongTlsConnection,
        Reason::HeadTooLarge,
        Reason::Internal,
        Reason::CodingNotSupported,
        Reason::BackendRefused,
        Reason::BackendUnresolved,
        Reason::BackendFailed,
        Reason::BackendMalformed,
        Reason::BackendTls,
        Reason::BackendNoWebSocket,
        Reason::SiteGone,
        Reason::NoCertificate,
        Reason::SiteFull,
        Reason::SiteBusy,
        Reason::NoBackendFit,
        Reason::QueueFull,
        Reason::QueueTimeout,
        Reason::Exhausted,
        Reason::BackendTimeout,
        Reason::VersionNotSupported,
        Reason::Loop,
        Reason::ClientFull,
        Reason::OpeningTimeout,
        Reason::ProxyHeader,
        Reason::UnknownProtocol,
        Reason::MalformedHello,
        Reason::UnrecognizedName,
        Reason::TlsOff,
        Reason::HandshakeFailed,
        Reason::ClientCertificate,
        Reason::HandshakeTimeout,
        Reason::IdleTimeout,
        Reason::MadeRoom,
        Reason::ResponseTimeout,
        Reason::SlowReader,
        Reason::TotalTimeout,
        Reason::TunnelTimeout,
        Reason::Http1Required,
        Reason::ResetFlood,
        Reason::FrameFlood,
        Reason::Panic,
    ];

    /// Those that `count` knows of, by their code.
    pub fn counted(count: impl Fn(usize) -> u64) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Reason::ALL.into_iter();
        let counts = all.map(move |reason| (reason.code(), count(reason as usize)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// As it is written everywhere.
    pub fn code(self) -> &'static str {
        match self {
            Reason::MalformedRequest => "malformed-request",
            Reason::NoHost => "no-host",
            Reason::BadHost => "bad-host",
            Reason::AmbiguousPath => "ambiguous-path",
            Reason::MalformedBody => "malformed-body",
            Reason::NotAllowed => "not-allowed",
            Reason::NoPath => "no-path",
            Reason::MethodNotAllowed => "method-not-allowed",
            Reason::HeadTimeout => "head-timeout",
            Reason::BodyTimeout => "body-timeout",
            Reason::BodyTooLarge => "body-too-large",
            Reason::TargetTooLong => "target-too-long",
            Reason::Expectation => "expectation",
            Reason::NoSite => "no-site-for-host",
            Reason::TlsOnly => "tls-only",
            Reason::WrongTlsConnection => "wrong-tls-connection",
            Reason::HeadTooLarge => "head-too-large",
            Reason::Internal => "internal-error",
            Reason::CodingNotSupported => "coding-not-supported",
            Reason::BackendRefused => "backend-refused",
            Reason::BackendUnresolved => "backend-unresolved",
            Reason::BackendFailed => "backend-failed",
            Reason::BackendMalformed => "backend-malformed",
            Reason::BackendTls => "backend-tls",
            Reason::BackendNoWebSocket => "backend-no-websocket",
            Reason::SiteGone => "site-gone",
            Reason::NoCertificate => "no-certificate",
            Reason::SiteFull => "site-full",
            Reason::SiteBusy => "site-busy",
            Reason::NoBackendFit => "no-backend-fit",
            Reason::QueueFull => "queue-full",
            Reason::QueueTimeout => "queue-timeout",
            Reason::Exhausted => "proxy-exhausted",
            Reason::BackendTimeout => "backend-timeout",
            Reason::VersionNotSupported => "version-not-supported",
            Reason::Loop => "loop-detected",
            Reason::ClientFull => "client-full",
            Reason::OpeningTimeout => "opening-timeout",
            Reason::UnknownProtocol => "unknown-protocol",
            Reason::ProxyHeader => "proxy-header",
            Reason::MalformedHello => "malformed-hello",
            Reason::UnrecognizedName => "unrecognized-name",
            Reason::TlsOff => "tls-off",
            Reason::HandshakeFailed => "handshake-failed",
            Reason::ClientCertificate => "client-certificate",
            Reason::HandshakeTimeout => "handshake-timeout",
            Reason::IdleTimeout => "idle-timeout",
            Reason::MadeRoom => "made-room",
            Reason::ResponseTimeout => "response-timeout",
            Reason::SlowReader => "slow-reader",
            Reason::TotalTimeout => "total-timeout",
            Reason::TunnelTimeout => "tunnel-timeout",
            Reason::Http1Required => "http1-required",
            Reason::ResetFlood => "reset-flood",
            Reason::FrameFlood => "frame-flood",
            Reason::Panic => "panic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number_and_has_its_own_code() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            let same = |other: &&Reason| other.code() == reason.code();
            assert_eq!(Reason::ALL.iter().filter(same).count(), 1, "{reason:?}");
        }
    }
}
