//! The TLS alerts that we write ourselves: to clients that no TLS library has seen yet.

/// Why a client hello leads nowhere, as the client is told (RFC 8446 6.2). All of them are fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    UnexpectedMessage,
    RecordOverflow,
    IllegalParameter,
    AccessDenied,
    DecodeError,
    ProtocolVersion,
    InternalError,
    UnrecognizedName,
}

impl Alert {
    /// The whole record. Its version is what every TLS since 1.2 writes, and none looks at (RFC 8446 5.1).
    pub fn record(self) -> [u8; 7] {
        const FATAL: u8 = 2;
        let description = match self {
            Alert::UnexpectedMessage => 10,
            Alert::RecordOverflow => 22,
            Alert::IllegalParameter => 47,
            Alert::AccessDenied => 49,
            Alert::DecodeError => 50,
            Alert::ProtocolVersion => 70,
            Alert::InternalError => 80,
            Alert::UnrecognizedName => 112,
        };
        [21, 3, 3, 0, 2, FATAL, description]
    }
}
