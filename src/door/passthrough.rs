//! TLS that the app ends itself: its bytes are relayed unopened.

use std::net::IpAddr;
use std::sync::Arc;

use super::alert::Alert;
use super::serve::refuse;
use crate::http::{Arrival, Kit};
use crate::observe::{Finished, Kind, Reason};
use crate::relay::{self, Ending};
use crate::site::{Action, Backends, Site};
use crate::upstream::Upstream;
use crate::wheel::{Serving, Timer};

/// Gives the client that has sent `hello` (and perhaps more) to a backend of `site`, every byte unchanged.
pub(super) async fn serve(mut arrival: Box<Arrival>, site: Arc<Site>, hello: Box<[u8]>) {
    let started = arrival.kit.wheel.now();
    let asker = arrival.client.address.ip().to_canonical();
    if !may_ask(&site, asker) {
        return refuse(arrival, Reason::NotAllowed, Alert::AccessDenied).await;
    }
    // Held until the end.
    let Some(_slot) = arrival.kit.slot(&site) else {
        return refuse(arrival, Reason::SiteFull, Alert::InternalError).await;
    };
    let Arrival {
        stream, timer, kit, ..
    } = &mut *arrival;
    timer.serving(Some(Serving {
        site: site.number,
        version: site.version,
        rule: None,
        asker,
    }));
    let mut finished = Finished {
        kind: Kind::Tunnel,
        site: Some(site.number),
        status: 0,
        reason: None,
        from_client: 0,
        to_client: 0,
        retries: 0,
        took: std::time::Duration::ZERO,
    };
    let Some(mut upstream) = connect(&site, &hello, timer, kit, &mut finished).await else {
        return refuse(arrival, Reason::BackendRefused, Alert::InternalError).await;
    };
    let first = hello.len() as u64;
    let idle = site.timeouts.passthrough_idle;
    // An edit may let go of this version: what is relayed does not need it.
    drop((site, hello));
    let outcome = relay::both(stream, None, &mut upstream.stream, None, idle, timer).await;
    if outcome.ending == Ending::Broken {
        stream.abort();
        upstream.stream.abort();
    }
    finished.from_client = first + outcome.from_client;
    finished.to_client = outcome.from_upstream;
    finished.took = kit.since(started);
    kit.counters.finished(&finished);
}

fn may_ask(site: &Site, asker: IpAddr) -> bool {
    site.allow.as_ref().is_none_or(|allow| allow.admits(asker))
}

/// The first backend, in turn, that accepts and takes the first bytes. `None`: none does, or the site was cut.
async fn connect(
    site: &Site,
    first: &[u8],
    timer: &Timer,
    kit: &Kit,
    finished: &mut Finished,
) -> Option<Upstream> {
    let Some(Action::Proxy(Backends { list })) = &site.action else {
        return None;
    };
    let limit = site.timeouts.connect;
    let turn = kit.turn(site.number, list.len());
    for n in 0..list.len() {
        // Held until the backend has accepted, or has not.
        let _connecting = site.slots.connecting(site.limits.connecting)?;
        let address = &list[(turn + n) % list.len()];
        if let Ok(mut upstream) = kit.upstreams.open(address, limit, timer).await {
            let taken = timer.within(limit, upstream.stream.put_all(first)).await;
            if matches!(taken, Ok(Ok(()))) {
                return Some(upstream);
            }
        }
        if timer.was_cut() {
            return None;
        }
        finished.retries += 1;
    }
    None
}
