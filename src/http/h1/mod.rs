//! HTTP/1.0 and HTTP/1.1: heads, framing, bodies, and the connection they come on.

pub mod chunk;
pub mod head;

#[cfg(test)]
mod cases;

#[cfg(feature = "serve")]
mod begin;
#[cfg(feature = "serve")]
mod client;
#[cfg(feature = "serve")]
mod connection;

#[cfg(feature = "serve")]
pub(crate) use connection::serve;
