//! One client, from accept to close.

pub mod listener;
mod opening;
pub mod slots;
mod terminate;
pub mod worker;

use std::rc::Rc;
use std::time::Duration;

use crate::http::{self, Arrival, Kit};
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
        }) => http::h1::serve(arrival, Some(first)).await,
        Ok(Opening {
            protocol: Protocol::Tls,
            first,
        }) => serve_tls(arrival, first.filled().to_vec()).await,
        Err(Refusal::Unknown) => refused(&arrival.kit, Some(Reason::UnknownProtocol)),
        Err(Refusal::Slow) => refused(&arrival.kit, Some(Reason::OpeningTimeout)),
        Err(Refusal::MadeRoom) => refused(&arrival.kit, Some(Reason::MadeRoom)),
        Err(Refusal::Gone) => refused(&arrival.kit, None),
    }
    drop(slot);
}

async fn serve_tls(arrival: Box<Arrival>, hello: Vec<u8>) {
    let mut acceptor = rustls::server::Acceptor::default();
    drop(acceptor.read_tls(&mut &hello[..]));
    let Ok(Some(accepted)) = acceptor.accept() else {
        return refused(&arrival.kit, Some(Reason::UnknownProtocol));
    };
    // Without a name the site is the one of the address (CASES T-17).
    let host = match accepted.client_hello().server_name() {
        Some(name) => name.to_owned(),
        None => arrival.client.local.ip().to_canonical().to_string(),
    };
    let kit = Rc::clone(&arrival.kit);
    let Some(site) = kit.find(&host) else {
        return refused(&kit, Some(Reason::UnrecognizedName));
    };
    let shown = match terminate::choose(&arrival, &host, &site).await {
        Ok(shown) => shown,
        Err(nothing) => return refused(&kit, Some(nothing.reason())),
    };
    match terminate::terminate(arrival, &hello, &host, shown).await {
        Ok(arrival) => http::h1::serve(arrival, None).await,
        Err(reason) => refused(&kit, Some(reason)),
    }
}

/// A connection closed before a request could be read. No event: anybody can cause a million of them.
fn refused(kit: &Kit, reason: Option<Reason>) {
    kit.counters.finished(&Finished {
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
