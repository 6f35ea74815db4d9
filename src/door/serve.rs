//! The whole way of one connection.

use std::sync::Arc;
use std::time::Duration;

use crate::http::{self, Arrival};
use crate::limits::LINGER_TIME;
use crate::linger::linger;
use crate::observe::{Finished, Kind};
use crate::site::Site;
use crate::site::tls::Mode;

use super::alert::Alert;
use super::opening::{self, Hello, Opening, Refusal};
use super::passthrough;
use super::slots::Slot;
use super::terminate::{self, NothingToShow};

/// The whole way of one connection. `slot` is held for as long as it lives.
pub(crate) async fn serve(mut arrival: Box<Arrival>, slot: Slot) {
    let limits = &arrival.kit.shared.limits;
    match opening::read(&mut arrival.stream, &arrival.timer, limits).await {
        Ok(Opening::Http(first)) => http::h1::serve(arrival, Some(first)).await,
        Ok(Opening::Tls(hello)) => Box::pin(serve_tls(arrival, hello)).await,
        Err(Refusal::Hello(alert)) => Box::pin(refuse(arrival, Some(alert))).await,
        Err(Refusal::Slow | Refusal::Unknown) => arrival.kit.counters.finished(&REFUSED),
    }
    drop(slot);
}

async fn serve_tls(arrival: Box<Arrival>, hello: Hello) {
    let Hello { sni, bytes } = hello;
    // CASES T-17: without a name, whoever claims the address that was asked for, or every name; never just anybody.
    let host = sni.unwrap_or_else(|| {
        let local = arrival.client.local.ip().to_canonical();
        local.to_string().into()
    });
    let Some(site) = arrival.kit.find(&host) else {
        return refuse(arrival, Some(Alert::UnrecognizedName)).await;
    };
    match site.tls.mode {
        Mode::Auto | Mode::Local | Mode::Files(_) => {
            serve_terminated(arrival, site, &host, bytes).await
        }
        Mode::Passthrough => passthrough::serve(arrival, site, bytes).await,
        // CASES T-27: it speaks no TLS, and nobody else's certificate will do.
        Mode::Off => refuse(arrival, None).await,
    }
}

async fn serve_terminated(arrival: Box<Arrival>, site: Arc<Site>, host: &str, hello: Box<[u8]>) {
    let shown = match terminate::choose(&arrival, host, &site).await {
        Ok(shown) => shown,
        Err(why) => {
            let alert = match why {
                NothingToShow::NoCertificate => Some(Alert::UnrecognizedName),
                NothingToShow::Broken => Some(Alert::InternalError),
                NothingToShow::Slow => None,
            };
            return refuse(arrival, alert).await;
        }
    };
    drop(site);
    let kit = std::rc::Rc::clone(&arrival.kit);
    let Some(arrival) = terminate::terminate(arrival, &hello, host, shown).await else {
        return kit.counters.finished(&REFUSED);
    };
    drop((hello, kit));
    http::h1::serve(arrival, None).await;
}

/// Closes a connection that leads nowhere, and says why where there is a word for it.
pub(super) async fn refuse(mut arrival: Box<Arrival>, alert: Option<Alert>) {
    let Arrival {
        stream, timer, kit, ..
    } = &mut *arrival;
    kit.counters.finished(&REFUSED);
    let Some(alert) = alert else { return };
    let record = alert.record();
    let sent = timer.within(LINGER_TIME, stream.put_all(&record)).await;
    if matches!(sent, Ok(Ok(()))) {
        linger(stream, timer).await;
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
    took: Duration::ZERO,
};
