//! TLS that the app ends itself: its bytes are relayed unopened.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::alert::Alert;
use super::opening::Hello;
use super::serve::refuse_with;
use crate::http::{Arrival, Client, Kit};
use crate::observe::{Finished, Kind, Reason};
use crate::proxy_header::{self, Beside, Ends};
use crate::relay::{self, Ending};
use crate::site::{Action, Site};
use crate::upstream::{Among, InFlight, Tried, Upstream, UpstreamError, Way};
use crate::wheel::{Serving, Timer};

/// Gives the client that has sent `hello` (and perhaps more) to a backend of `site`, every byte unchanged.
pub(super) async fn serve(mut arrival: Box<Arrival>, site: Arc<Site>, hello: Hello) {
    let started = arrival.kit.wheel.now();
    let asker = arrival.client.address.ip().to_canonical();
    if !may_ask(&site, asker) {
        return refuse_with(Alert::AccessDenied, arrival, Reason::NotAllowed).await;
    }
    let Some(_slot) = arrival.kit.slot(&site) else {
        return refuse_with(Alert::InternalError, arrival, Reason::SiteFull).await;
    };
    let first = first_bytes(&site, &arrival.client, &hello);
    let hello_bytes = hello.bytes.len() as u64;
    drop(hello);
    // Of its own, because the visit at the backend outlives what is borrowed here.
    let kit = Rc::clone(&arrival.kit);
    let Arrival { stream, timer, .. } = &mut *arrival;
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
    let (mut upstream, _visit) = match connect(&site, &first, timer, &kit, &mut finished).await {
        Ok(found) => found,
        Err(reason) => return refuse_with(Alert::InternalError, arrival, reason).await,
    };
    let idle = site.timeouts.passthrough_idle;
    // An edit may let go of this version: what is relayed does not need it.
    drop((site, first));
    let outcome = relay::both(stream, None, &mut upstream.stream, None, idle, timer).await;
    match outcome.ending {
        Ending::Finished => {}
        Ending::Broken => {
            stream.abort();
            upstream.stream.abort();
        }
        Ending::Idle => finished.reason = Some(Reason::TunnelTimeout),
        Ending::Cut => finished.reason = Some(Reason::SiteGone),
    }
    finished.from_client = hello_bytes + outcome.from_client;
    finished.to_client = outcome.from_upstream;
    finished.took = kit.since(started);
    kit.counters.finished(&finished);
}

fn may_ask(site: &Site, asker: IpAddr) -> bool {
    site.allow.as_ref().is_none_or(|allow| allow.admits(asker))
}

/// What a backend is told first: whose connection it is, where the site says so, and the hello as it came.
fn first_bytes(site: &Site, client: &Client, hello: &Hello) -> Vec<u8> {
    let mut first = Vec::new();
    if let Some(version) = site.send_proxy {
        let ends = Ends {
            client: client.address,
            local: client.local,
        };
        let beside = Beside {
            sni: hello.sni.as_deref(),
            alpn: &hello.alpn,
        };
        proxy_header::write(&mut first, version, ends, beside);
    }
    first.extend_from_slice(&hello.bytes);
    first
}

/// The first backend that accepts and takes the first bytes.
async fn connect<'k>(
    site: &Site,
    first: &[u8],
    timer: &Timer,
    kit: &'k Kit,
    finished: &mut Finished,
) -> Result<(Upstream, InFlight<'k>), Reason> {
    let Some(Action::Proxy(backends)) = &site.action else {
        return Err(Reason::Internal);
    };
    let limit = site.timeouts.connect;
    let way = Way {
        balance: &site.balancing.by,
        slow_start: site.balancing.slow_start,
        hash: None,
    };
    let choose = |tried| {
        let fit = kit.balancer.choose(backends, way, tried, Among::Fit);
        fit.or_else(|| kit.balancer.choose(backends, way, tried, Among::All))
    };
    let mut tried = Tried::default();
    let mut last = Reason::Internal;
    while let Some(at) = choose(tried) {
        let member = &backends.list[at];
        let Some(_connecting) = site.slots.connecting(site.limits.connecting) else {
            return Err(Reason::SiteBusy);
        };
        let visit = kit.balancer.enter(member);
        last = match kit
            .upstreams
            .open(&member.backend, first, limit, timer)
            .await
        {
            Ok(upstream) => return Ok((upstream, visit)),
            Err(UpstreamError::Refused { .. }) => Reason::BackendRefused,
            Err(UpstreamError::TimedOut { .. }) => Reason::BackendTimeout,
            Err(UpstreamError::Unresolved { .. }) => Reason::BackendUnresolved,
            // A file with https:// backends is no passthrough site.
            Err(UpstreamError::Tls { .. }) => Reason::BackendTls,
            // No other backend would find more.
            Err(UpstreamError::Exhausted { .. }) => return Err(Reason::Exhausted),
        };
        if timer.was_cut() {
            return Err(Reason::SiteGone);
        }
        finished.retries += 1;
        tried.add(at);
        // A list of more has places that nobody remembers.
        if at >= 64 {
            break;
        }
    }
    Err(last)
}
