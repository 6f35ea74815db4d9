//! HTTP/2 with clients: the requests of one connection, side by side.
//!
//! The crate `h2` speaks the protocol. Around it stand a frame meter and bounds of our own (`meter`, `wire`); before it a
//! head becomes the same borrowed view as one of HTTP/1 (`request`), and behind it a stream is one more client's side of
//! an exchange (`stream`).

#[cfg(feature = "serve")]
mod connection;
#[cfg(feature = "serve")]
mod exchange;
#[cfg(feature = "serve")]
mod load;
pub mod meter;
#[cfg(feature = "serve")]
mod request;
#[cfg(feature = "serve")]
mod response;
#[cfg(feature = "serve")]
mod share;
#[cfg(feature = "serve")]
mod stream;
#[cfg(feature = "serve")]
mod wire;

#[cfg(feature = "serve")]
pub(crate) use connection::serve;

/// What a connection begins with (RFC 9113 3.4).
#[cfg(feature = "serve")]
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
