//! Dials one backend, and shakes hands where TLS is spoken.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};

use super::{Resolver, Speaks, UpstreamError};
use crate::site::Address;
use crate::stream::Stream;
use crate::tls::{self, Identity};

/// Dials `address`: each address of a name in turn, 127.0.0.1 and then [::1] for loopback. Has no limit of its own.
///
/// # Errors
/// `Refused` with the last address's reason, `Unresolved` when there is no address, `Exhausted` when it is not the
/// backend's doing.
pub(super) async fn dial(
    address: &Address,
    resolver: &Arc<Resolver>,
) -> Result<Stream, UpstreamError> {
    let refused = |source| {
        if is_ours(&source) {
            return UpstreamError::Exhausted { source };
        }
        UpstreamError::Refused {
            backend: address.clone(),
            source,
        }
    };
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
            .map_err(refused),
        Address::Name { name, port } => {
            let unresolved = |source| {
                if is_ours(&source) {
                    return UpstreamError::Exhausted { source };
                }
                UpstreamError::Unresolved {
                    backend: address.clone(),
                    source,
                }
            };
            let addresses = resolver.addresses(name).await.map_err(unresolved)?;
            let mut last = io::Error::other("the name has no address");
            for ip in addresses.iter() {
                match tcp((*ip, *port).into()).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            resolver.doubt(name);
            Err(refused(last))
        }
    }
}

/// Speaks TLS from here on. Has no limit of its own.
///
/// # Errors
/// `Tls`, with what is wrong.
pub(super) async fn secure(
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
    // A head and a body are often two writes; waiting for the first to be acknowledged costs 40 ms.
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}
