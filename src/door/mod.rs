//! One client, from accept to close.

pub mod listener;
mod opening;
pub mod slots;
pub mod worker;

use std::rc::Rc;

use crate::http::{self, Client, Kit};
use crate::observe::{Finished, Kind};
use crate::stream::Stream;

use opening::{Opening, Protocol};
use slots::Slot;

/// A connection that has just come in.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) client: Client,
    /// Held for as long as the connection lives.
    pub(crate) slot: Slot,
}

/// The whole way of one connection.
pub(crate) async fn serve(accepted: Accepted, kit: Rc<Kit>) {
    let Accepted { mut stream, client, slot: _slot } = accepted;
    let timer = kit.wheel.timer(client.address.ip());
    let opening = opening::read(&mut stream, &timer, kit.shared.limits.opening_time).await;
    match opening {
        Ok(Opening { protocol: Protocol::Http, first }) => http::h1::serve(stream, client, timer, first, kit).await,
        // No site ends TLS here yet: nobody's certificate, and no guess (CASES T-27).
        Ok(Opening { protocol: Protocol::Tls, .. }) | Err(_) => kit.counters.finished(&REFUSED),
    }
}

/// A connection closed before a request could be read. No event: anybody can cause a million of them.
const REFUSED: Finished = Finished {
    kind: Kind::Refused,
    site: None,
    status: 0,
    reason: None,
    from_client: 0,
    to_client: 0,
    retries: 0,
    took: std::time::Duration::ZERO,
};
