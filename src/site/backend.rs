//! An address written in a site file, in all its spellings.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Where a backend listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// 127.0.0.1, and [::1] when that refuses.
    Loopback {
        port: u16,
    },
    Ip(SocketAddr),
    /// Resolved off the data path.
    Name {
        name: Arc<str>,
        port: u16,
    },
    Unix(Arc<Path>),
}
