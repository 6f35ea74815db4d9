//! One client, from accept to close.

pub mod alert;
pub mod client_hello;

#[cfg(feature = "serve")]
mod changes;
#[cfg(feature = "serve")]
mod introduction;
#[cfg(feature = "serve")]
pub mod listener;
#[cfg(feature = "serve")]
mod opening;
#[cfg(feature = "serve")]
mod passthrough;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod terminate;
#[cfg(feature = "serve")]
pub mod worker;

#[cfg(feature = "serve")]
pub(crate) use serve::serve;
