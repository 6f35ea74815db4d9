//! One client, from accept to close.

pub mod listener;
mod opening;
pub mod slots;
pub mod worker;

use std::time::Duration;

use crate::http::{self, Arrival};
use crate::observe::{Finished, Kind, Reason};

use opening::{Opening, Protocol, Refusal};
use slots::Slot;

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
        | Err(Refusal::Unknown) => refused(&arrival, Some(Reason::UnknownProtocol)),
        Err(Refusal::Slow) => refused(&arrival, Some(Reason::OpeningTimeout)),
        Err(Refusal::MadeRoom) => refused(&arrival, Some(Reason::MadeRoom)),
        Err(Refusal::Gone) => refused(&arrival, None),
    }
    drop(slot);
}

/// A connection closed before a request could be read. No event: anybody can cause a million of them.
fn refused(arrival: &Arrival, reason: Option<Reason>) {
    arrival.kit.counters.finished(&Finished {
        kind: Kind::Refused,
        site: None,
        status: 0,
        reason,
        from_client: 0,
        to_client: 0,
        retries: 0,
        took: Duration::ZERO,
    });
}
