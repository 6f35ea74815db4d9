//! Accepts connections; never gives up on a passing error.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tracing::{info, warn};

use super::worker::Worker;
use crate::http::Client;
use crate::observe::{Reason, Trouble};
use crate::settings::HeaderFirst;
use crate::slots::NoSlot;
use crate::stream::Stream;

/// Connections accepted before the others get their turn.
const AT_ONCE: u32 = 8;
/// How long accepting rests when there are no descriptors, memory or slots left.
const REST: Duration = Duration::from_millis(20);
/// Accepts from `listener` until the worker drains, then what has queued up, and closes it.
pub(super) async fn run(listener: TcpListener, worker: Rc<Worker>) {
    let (full, failing) = (Trouble::default(), Trouble::default());
    let bound = listener
        .local_addr()
        .ok()
        .filter(|at| !at.ip().is_unspecified());
    let mut count = 0;
    let mut drain = pin!(worker.until_drain());
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut drain => break,
        };
        match accepted {
            Ok((stream, address)) => {
                if failing.is_over() {
                    info!("connections are accepted again");
                }
                take_in(stream, address, bound, &worker, &full).await;
            }
            Err(error) => recover(&error, &worker, &failing).await,
        }
        count += 1;
        if count % AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Whoever is in the queue has been promised a connection.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, address)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            take_in(stream, address, bound, &worker, &full).await;
        }
    }
}

/// Finds a slot for the connection and hands it to a task of its own.
async fn take_in(
    stream: TcpStream,
    address: SocketAddr,
    bound: Option<SocketAddr>,
    worker: &Rc<Worker>,
    full: &Trouble,
) {
    let ip = address.ip().to_canonical();
    let shared = worker.kit.shared.latest();
    let trusted = shared.trusts(ip);
    // Whose connections a load balancer brings is counted when it has said so.
    let speaks_for_others = shared.proxy_protocol.of(ip) != HeaderFirst::Never;
    let counted = (!trusted && !speaks_for_others && !ip.is_loopback()).then_some(ip);
    let mut waiting = None;
    let slot = loop {
        match worker.slots.take(counted) {
            Ok(slot) => break slot,
            // Not answered: what is spoken on it is not known, and a flood must stay cheap.
            Err(NoSlot::ClientFull) => {
                worker.kit.counters.because(Reason::ClientFull);
                return;
            }
            // Who only waits for a request makes room, here at once and on other workers at their next tick.
            Err(NoSlot::Full) if waiting.is_none() && worker.make_room() > 0 => {
                waiting = Some(worker.slots.wait());
                tokio::task::yield_now().await;
            }
            Err(NoSlot::Full) => {
                waiting.get_or_insert_with(|| worker.slots.wait());
                if full.is_to_be_said() {
                    warn!(
                        "all connections that [limit] connections allows are open; new ones wait"
                    );
                }
                tokio::time::sleep(REST).await;
            }
        }
    };
    drop(waiting);
    let local = match bound {
        // Bound to one address, that is the one: no system call for each connection.
        Some(bound) => bound,
        None => match stream.local_addr() {
            Ok(local) => local,
            // Gone already.
            Err(_) => return,
        },
    };
    let client = Client {
        address,
        local,
        trusted,
    };
    worker.serve(Stream::Tcp(stream), client, slot);
}

/// accept(2): some errors are about the one connection, some about the machine, none about us.
async fn recover(error: &io::Error, worker: &Worker, failing: &Trouble) {
    if is_of_one_connection(error) {
        return;
    }
    if failing.is_to_be_said() {
        warn!(cause = %error, "cannot accept connections, those in the queue wait; trying again");
    }
    // What idle upstreams hold is worth more to a client who waits. Not a turn of the loop without a rest, or it
    // would take the whole processor while there is nothing to be had.
    worker.kit.upstreams.close_idle();
    tokio::time::sleep(REST).await;
}

/// Errors that were waiting on the connection itself, which is gone: the next one may be taken at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
        )
    )
}
