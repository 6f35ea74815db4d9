//! The whole way of one connection.

use crate::http::{self, Arrival};
use crate::observe::{Finished, Kind};

use super::opening::{self, Opening, Protocol};
use super::slots::Slot;
use super::terminate;

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
        Err(_) => arrival.kit.counters.finished(&REFUSED),
    }
    drop(slot);
}

async fn serve_tls(arrival: Box<Arrival>, hello: Vec<u8>) {
    let mut acceptor = rustls::server::Acceptor::default();
    drop(acceptor.read_tls(&mut &hello[..]));
    let Ok(Some(accepted)) = acceptor.accept() else {
        return;
    };
    // Without a name the site is the one of the address (CASES T-17).
    let host = match accepted.client_hello().server_name() {
        Some(name) => name.to_owned(),
        None => arrival.client.local.ip().to_canonical().to_string(),
    };
    let Some(site) = arrival.kit.find(&host) else {
        return;
    };
    let Ok(shown) = terminate::choose(&arrival, &host, &site).await else {
        return;
    };
    let Some(arrival) = terminate::terminate(arrival, &hello, &host, shown).await else {
        return;
    };
    http::h1::serve(arrival, None).await;
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
