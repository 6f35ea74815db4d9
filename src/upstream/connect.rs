//! Dials one backend, and shakes hands where TLS is spoken.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};

use super::{Speaks, UpstreamError, socket};
use crate::site::Address;
use crate::stream::Stream;
use crate::tls::{self, Identity};

/// Connects to `address`, which is no name: 127.0.0.1 and then `[::1]` for loopback. Has no limit of its own.
///
/// # Errors
/// `Refused`, `Exhausted` when it is not the backend's doing, and `Unresolved` for a name.
pub async fn reach(address: &Address) -> Result<Stream, UpstreamError> {
    let refused = |source| refused(address, source);
    match address {
        Address::Ip(at) => tcp(*at).await.map_err(refused),
        Address::Loopback { port } => match tcp((Ipv4Addr::LOCALHOST, *port).into()).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // What 127.0.0.1 said is what the operator looks for, unless [::1] is there.
                tcp((Ipv6Addr::LOCALHOST, *port).into())
                    .await
                    .map_err(|_| refused(error))
            }
            answer => answer.map_err(refused),
        },
        Address::Unix(path) => UnixStream::connect(path)
            .await
            .map(Stream::Unix)
            .map_err(|error| refused(socket::explained(path, error))),
        Address::Name { .. } => Err(UpstreamError::Unresolved {
            backend: address.clone(),
            source: io::Error::other("it is a name"),
        }),
    }
}

fn refused(address: &Address, source: io::Error) -> UpstreamError {
    if is_ours(&source) {
        return UpstreamError::Exhausted { source };
    }
    UpstreamError::Refused {
        backend: address.clone(),
        source,
    }
}

/// Speaks TLS from here on. Has no limit of its own.
///
/// # Errors
/// `Tls`, with what is wrong.
pub async fn secure(
    stream: Stream,
    identity: &Identity,
    address: &Address,
    speaks: Speaks,
) -> Result<Stream, UpstreamError> {
    let failed = |why| UpstreamError::Tls {
        backend: address.clone(),
        why,
    };
    let Stream::Tcp(stream) = stream else {
        return Err(failed(format!("{address} is no place for TLS")));
    };
    let secured = tls::connect(identity, stream, address, speaks == Speaks::Any).await;
    secured.map(Stream::Tls).map_err(failed)
}

/// Whether it is this process or machine that has nothing left, and not the backend that says no.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL)
    )
}

async fn tcp(at: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(at).await?;
    // Where nobody listens, the system may choose that very port for our end, and we would talk to ourselves.
    if at.ip().is_loopback() && stream.local_addr()? == at {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // A head and a body are often two writes; waiting for the first to be acknowledged costs 40 ms.
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}
