//! All listening sockets, bound before any thread starts.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Type};

use super::StartError;
use crate::stream::PROBES;

/// Connections the kernel keeps for us between two accepts.
const BACKLOG: i32 = 4096;

/// A bound socket, and the worker it is for.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: socket2::Socket,
    /// With the port that was really bound.
    pub(super) address: SocketAddr,
    pub(super) worker: usize,
}

/// Binds every address once for each worker. Nobody can connect yet.
///
/// # Errors
/// `Bind` for the first address that cannot be had.
pub(super) fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Vec<Socket>, StartError> {
    let mut sockets = Vec::new();
    for &wanted in addresses {
        let failed = |source| StartError::Bind {
            address: wanted,
            flag: "--listen",
            source,
        };
        // Two processes of one user can both bind with SO_REUSEPORT and then share the connections unnoticed. So
        // the address is bound once without it, and let go of again when the others have it.
        let alone = open(wanted, false).map_err(failed)?;
        let address = alone
            .local_addr()
            .map_err(failed)?
            .as_socket()
            .unwrap_or(wanted);
        for worker in 0..workers {
            let listener = open(address, true).map_err(failed)?;
            sockets.push(Socket {
                listener,
                address,
                worker,
            });
        }
        drop(alone);
    }
    Ok(sockets)
}

/// From here on connections are taken.
///
/// # Errors
/// What listen(2) says.
pub(super) fn listen(socket: &Socket) -> io::Result<()> {
    socket.listener.listen(BACKLOG)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A port whose last connections are in TIME_WAIT is free (CASES L-30).
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` is IPv6 alone: what is bound does not depend on a setting of the machine.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit these: no system call for each.
    socket.set_tcp_nodelay(true)?;
    // Who has left without a word, by a cable pulled or a laptop closed, is found gone also where no time runs.
    socket.set_tcp_keepalive(&PROBES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
