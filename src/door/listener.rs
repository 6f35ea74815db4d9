//! Accepts connections; never gives up on a passing error.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::slots::NoSlot;
use super::worker::Worker;
use crate::http::Client;
use crate::observe::Reason;
use crate::stream::Stream;

/// Connections accepted before the others get their turn.
const AT_ONCE: u32 = 8;
/// How long accepting rests when there are no descriptors, memory or slots left.
const REST: Duration = Duration::from_millis(20);
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Accepts from `listener` until the worker drains, then what has queued up, and closes it.
pub(super) async fn run(listener: TcpListener, worker: Rc<Worker>) {
    let mut said: Option<Instant> = None;
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
            Ok((stream, address)) => take_in(stream, address, bound, &worker, &mut said).await,
            Err(error) => recover(&error, &mut said).await,
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
            take_in(stream, address, bound, &worker, &mut said).await;
        }
    }
}

/// Finds a slot for the connection and hands it to a task of its own.
async fn take_in(
    stream: TcpStream,
    address: SocketAddr,
    bound: Option<SocketAddr>,
    worker: &Rc<Worker>,
    said: &mut Option<Instant>,
) {
    let ip = address.ip().to_canonical();
    let trusted = worker
        .kit
        .shared
        .trusted_proxies
        .iter()
        .any(|net| net.contains(&ip));
    let counted = (!trusted && !ip.is_loopback()).then_some(ip);
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
                if is_time_to_say(said) {
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
async fn recover(error: &io::Error, said: &mut Option<Instant>) {
    let passing = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::Interrupted,
        io::ErrorKind::NetworkDown,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::HostUnreachable,
    ];
    if passing.contains(&error.kind()) {
        return;
    }
    if is_time_to_say(said) {
        warn!(cause = %error, "cannot accept connections; trying again");
    }
    tokio::time::sleep(REST).await;
}

fn is_time_to_say(said: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_time = said.is_none_or(|last| now.duration_since(last) >= SAY_EVERY);
    if is_time {
        *said = Some(now);
    }
    is_time
}
