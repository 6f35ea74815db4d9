//! One process owns one port; many apps live behind it, told apart by name.
//!
//! The crate is the program `onedoor`; what is public here is so for its tests, its benches and its fuzzing, and
//! promises nothing. How to use it stands in the README.
//!
//! In reading order, which is the order a site file and a connection walk through the code:
//!
//! - a site file: [`document`] (TOML, read by a table of keys) -> [`site`] -> [`reload`] -> [`route`]
//! - a connection: [`door`] -> [`route`] -> [`tls`] -> [`http`] -> [`upstream`], and [`relay`] once it is only bytes
//! - beside it: [`health`] watches the backends that [`upstream`] chooses from
//! - around both: [`cli`] (what a person types), [`settings`], [`server`] (one run), [`admin`] (the socket that
//!   answers), [`observe`], [`limits`]
//! - below both: [`stream`], [`sending`] and [`receiving`] (the halves of a stream of HTTP/2), [`block`] and [`pipe`]
//!   (lent buffers), [`slots`] (how many may be open), [`wheel`] (timers), [`linger`] (the last words), [`digits`] (numbers
//!   as text), [`proxy_header`] (both ways), [`parsed`] (what a parser says)
//!
//! Without the feature `serve` only the parsers are built: [`document`], [`site`], of [`http`] the head and the chunk,
//! of [`door`] the client hello, and [`proxy_header`].

pub mod document;
pub mod limits;
#[cfg(feature = "serve")]
pub mod linger;
pub mod site;

#[cfg(test)]
mod corpus;

#[cfg(feature = "serve")]
pub mod admin;
#[cfg(feature = "serve")]
pub mod block;
#[cfg(feature = "serve")]
pub mod cli;
#[cfg(feature = "serve")]
pub mod digits;
pub mod door;
#[cfg(feature = "serve")]
pub mod health;
pub mod http;
#[cfg(feature = "serve")]
pub mod observe;
pub mod parsed;
#[cfg(feature = "serve")]
pub mod pipe;
pub mod proxy_header;
#[cfg(feature = "serve")]
pub mod receiving;
#[cfg(feature = "serve")]
pub mod relay;
#[cfg(feature = "serve")]
pub mod reload;
#[cfg(feature = "serve")]
pub mod route;
#[cfg(feature = "serve")]
pub mod sending;
#[cfg(feature = "serve")]
pub mod server;
#[cfg(feature = "serve")]
pub mod settings;
#[cfg(feature = "serve")]
pub mod slots;
#[cfg(feature = "serve")]
pub mod stream;
#[cfg(feature = "serve")]
pub mod tls;
#[cfg(feature = "serve")]
pub mod upstream;
#[cfg(feature = "serve")]
pub mod wheel;
