//! Why a run could not begin, for whoever started it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// See the module.
#[derive(Debug)]
pub(super) enum StartError {
    /// Another onedoor has the state directory.
    Running { state: String, by: Option<u32> },
    Bind {
        address: SocketAddr,
        /// Which flag asked for the address.
        flag: &'static str,
        source: io::Error,
    },
    /// Threads, runtimes, signals: the system has no more of something.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Running { state, by } => {
                f.write_str("it is running already")?;
                if let Some(pid) = by {
                    write!(f, " as process {pid}")?;
                }
                write!(
                    f,
                    " with the state directory {state}; `onedoor ls` shows what it serves; a second one needs \
                     --sites and --listen of its own"
                )
            }
            StartError::Bind {
                address,
                flag,
                source,
            } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use by another process; choose another with {flag}"
                )
            }
            StartError::Bind {
                address, source, ..
            } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{address} needs CAP_NET_BIND_SERVICE, which this user does not have: {source}; \
                     `sudo setcap cap_net_bind_service=+ep` on the executable gives it, or choose a port above 1023"
                )
            }
            StartError::Bind {
                address,
                flag,
                source,
            } => {
                write!(
                    f,
                    "cannot listen on {address}: {source}; choose another with {flag}"
                )
            }
            StartError::System(source) => write!(f, "cannot start: {source}"),
        }
    }
}

impl From<io::Error> for StartError {
    fn from(source: io::Error) -> StartError {
        StartError::System(source)
    }
}
