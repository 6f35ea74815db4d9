//! onedoor: one process owns one port, many apps live behind it, told apart by name.
//!
//! In reading order, which is the order a connection and a site file walk through the code:
//!
//! - a site file: `document` (TOML read by a table of keys) -> [`site`] -> `route` -> `reload`
//! - a connection: `door` -> `route` -> `http` -> `upstream`, and `relay` once it is only bytes
//! - around both: `server` (one run), `settings`, `admin`, `observe`, `limits`, `cli`
//!
//! Without the feature `serve` only the parsers are built: `document`, `site`, `http::h1`'s head and chunk.

pub mod document;
pub mod limits;
pub mod site;

#[cfg(feature = "serve")]
pub mod admin;
#[cfg(feature = "serve")]
pub mod block;
#[cfg(feature = "serve")]
pub mod cli;
#[cfg(feature = "serve")]
pub mod door;
pub mod http;
#[cfg(feature = "serve")]
pub mod observe;
#[cfg(feature = "serve")]
pub mod pipe;
#[cfg(feature = "serve")]
pub mod relay;
#[cfg(feature = "serve")]
pub mod reload;
#[cfg(feature = "serve")]
pub mod route;
#[cfg(feature = "serve")]
pub mod server;
#[cfg(feature = "serve")]
pub mod settings;
#[cfg(feature = "serve")]
pub mod stream;
#[cfg(feature = "serve")]
pub mod upstream;
#[cfg(feature = "serve")]
pub mod wheel;
