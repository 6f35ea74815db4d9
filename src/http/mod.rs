//! One exchange, whatever version it arrived in.
//!
//! The seam: a head is a borrowed view ([`h1::head::RequestHead`], [`field::Fields`]) that any version can fill;
//! what happens between the request that arrived and the response that leaves is written once, over that view:
//! `exchange` decides, `forward` rewrites heads, `answer` is what we say ourselves, `explain` walks the same steps in words. Only the pumping of
//! bytes belongs to a version ([`h1`]).

pub mod field;
pub mod h1;
pub mod h2;

#[cfg(feature = "serve")]
mod answer;
#[cfg(feature = "serve")]
mod asked_by;
#[cfg(feature = "serve")]
mod begin;
#[cfg(feature = "serve")]
mod body;
#[cfg(feature = "serve")]
mod departure;
#[cfg(feature = "serve")]
mod exchange;
#[cfg(feature = "serve")]
pub mod explain;
#[cfg(feature = "serve")]
mod flight;
#[cfg(feature = "serve")]
mod forward;
#[cfg(feature = "serve")]
mod kit;
#[cfg(feature = "serve")]
mod known_host;
#[cfg(feature = "serve")]
mod logged;
#[cfg(feature = "serve")]
mod obtain;
#[cfg(feature = "serve")]
mod reader;
#[cfg(feature = "serve")]
mod side;

#[cfg(feature = "serve")]
pub(crate) use obtain::{Affinity, Found, Patient, Search};

#[cfg(feature = "serve")]
mod visit;

#[cfg(feature = "serve")]
pub use kit::{Arrival, Client, FullSites, Kit, Latest, Seat, Shared};
#[cfg(feature = "serve")]
pub use logged::put_backend;
#[cfg(feature = "serve")]
pub use visit::Visit;
