//! Ports that are one test's alone.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

thread_local! {
    /// What is bound and does not listen: who connects is refused, and the system gives the port to nobody who asks for
    /// any, nor to a connection as its own end. Who asks for this one may listen there meanwhile (`SO_REUSEADDR`).
    static KEPT: RefCell<Vec<Socket>> = const { RefCell::new(Vec::new()) };
}

/// A port of the loopback address at which nobody listens, until this test ends or somebody is told to.
pub(crate) fn free_port() -> u16 {
    free_port_at(Ipv4Addr::LOCALHOST.into())
}

fn free_port_at(ip: IpAddr) -> u16 {
    let any = SocketAddr::from((ip, 0));
    let socket = Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&any.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    KEPT.with_borrow_mut(|kept| kept.push(socket));
    port
}

/// Listens at `address`. When that is over, nobody else of these tests does there until this one ends.
#[track_caller]
pub(crate) fn listen(mut address: SocketAddr) -> TcpListener {
    if address.port() == 0 {
        address.set_port(free_port_at(address.ip()));
    }
    TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}
