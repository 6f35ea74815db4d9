//! Dials one backend, and shakes hands where TLS is spoken.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
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
    reach_and_say(address, &[]).await
}

/// The same, and says `first`.
///
/// # Errors
/// As [`reach`].
pub(super) async fn reach_and_say(
    address: &Address,
    first: &[u8],
) -> Result<Stream, UpstreamError> {
    let refused = |source| refused(address, source);
    match address {
        Address::Ip(at) => tcp(*at, first).await.map_err(refused),
        Address::Loopback { port } => match tcp((Ipv4Addr::LOCALHOST, *port).into(), first).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // What 127.0.0.1 said is what the operator looks for, unless [::1] is there.
                tcp((Ipv6Addr::LOCALHOST, *port).into(), first)
                    .await
                    .map_err(|_| refused(error))
            }
            answer => answer.map_err(refused),
        },
        Address::Unix(path) => unix(path, first)
            .await
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

async fn unix(path: &Path, first: &[u8]) -> io::Result<Stream> {
    let mut stream = Stream::Unix(UnixStream::connect(path).await?);
    stream.put_all(first).await?;
    Ok(stream)
}

async fn tcp(at: SocketAddr, first: &[u8]) -> io::Result<Stream> {
    if !first.is_empty() {
        return tcp_and_say(at, first).await;
    }
    let stream = TcpStream::connect(at).await?;
    refuse_ourselves(&stream, at)?;
    // A head and a body are often two writes; waiting for the first to be acknowledged costs 40 ms.
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

/// The last step of TCP's handshake is sent together with `first`, and a near backend, which has accepted by the time
/// that connect(2) is back, is not waited for: one packet less, and one waking less of each side.
async fn tcp_and_say(at: SocketAddr, first: &[u8]) -> io::Result<Stream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(at), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_quickack(false)?;
    match socket.connect(&at.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let said = match socket.send(first) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        said => Some(said?),
    };
    let stream = TcpStream::from_std(socket.into())?;
    if said.is_none() {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    refuse_ourselves(&stream, at)?;
    let mut stream = Stream::Tcp(stream);
    stream.put_all(&first[said.unwrap_or(0)..]).await?;
    Ok(stream)
}

/// Where nobody listens, the system may choose that very port for our end, and we would talk to ourselves.
fn refuse_ourselves(stream: &TcpStream, at: SocketAddr) -> io::Result<()> {
    if at.ip().is_loopback() && stream.local_addr()? == at {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}
