//! The whole way of one connection.

use crate::http::{self, Arrival};
use crate::observe::{Finished, Kind};

use super::opening::{self, Opening, Protocol};
use super::slots::Slot;

/// The whole way of one connection. `slot` is held for as long as it lives.
pub(crate) async fn serve(mut arrival: Box<Arrival>, slot: Slot) {
    let limit = arrival.kit.shared.limits.opening_time;
    let opening = opening::read(&mut arrival.stream, &arrival.timer, limit).await;
    match opening {
        Ok(Opening {
            protocol: Protocol::Http,
            first,
        }) => http::h1::serve(arrival, first).await,
        // No site ends TLS here yet: nobody's certificate, and no guess (CASES T-27).
        Ok(Opening {
            protocol: Protocol::Tls,
            ..
        })
        | Err(_) => arrival.kit.counters.finished(&REFUSED),
    }
    drop(slot);
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
