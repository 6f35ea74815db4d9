//! TLS that the app ends itself: its bytes are relayed unopened.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::alert::Alert;
use super::opening::Hello;
use super::serve::refuse_with;
use crate::http::{Affinity, Arrival, Client, Found, Kit, Patient, Search, put_backend};
use crate::observe::{Finished, Kind, Protocol, Reason};
use crate::proxy_header::{self, Beside, Ends};
use crate::relay::{self, Ending, Silence};
use crate::site::Site;
use crate::stream::Stream;
use crate::wheel::{Serving, Tick, Timer};

/// Gives the client that has sent `hello` (and perhaps more) to a backend of `site`, every byte unchanged.
pub(super) async fn serve(mut arrival: Box<Arrival>, site: Arc<Site>, hello: Hello) {
    let asker = arrival.client.address.ip().to_canonical();
    // Of its own, because the visit at the backend outlives what is borrowed here.
    let kit = Rc::clone(&arrival.kit);
    let slots = Arc::clone(&site.slots);
    let mut record = Record {
        kit: &kit,
        started: kit.wheel.now(),
        finished: Finished {
            log: kit.log_passed_through(&site, asker, hello.sni.as_deref()),
            ..Finished::of(Kind::Tunnel, Protocol::Other, Some(site.number))
        },
    };
    if !may_ask(&site, asker) {
        slots.refusals.add(Reason::NotAllowed as usize);
        record.refused(Reason::NotAllowed);
        return refuse_with(Alert::AccessDenied, arrival, Reason::NotAllowed).await;
    }
    // Counts it itself.
    let Some(_slot) = kit.slot(&site) else {
        record.refused(Reason::SiteFull);
        return refuse_with(Alert::InternalError, arrival, Reason::SiteFull).await;
    };
    let first = first_bytes(&site, &arrival.client, &hello);
    let hello_bytes = hello.bytes.len() as u64;
    drop(hello);
    let Arrival { stream, timer, .. } = &mut *arrival;
    timer.serving(Some(Serving {
        site: site.number,
        version: site.version,
        rule: None,
        asker: Some(asker),
        tls: None,
    }));
    let finished = &mut record.finished;
    let connected = connect(&site, stream, first, timer, &kit, asker, finished).await;
    let (mut upstream, _visit) = match connected {
        Ok(Found { upstream, visit }) => {
            if let Some(log) = &mut finished.log {
                let address = &upstream.endpoint.address;
                kit.access
                    .has_upstream(log, true, |text| put_backend(text, address));
            }
            (upstream, visit)
        }
        Err(reason) => {
            slots.refusals.add(reason as usize);
            record.refused(reason);
            return refuse_with(Alert::InternalError, arrival, reason).await;
        }
    };
    let silence = Silence {
        of_both: site.timeouts.passthrough_idle,
        of_one: site.timeouts.idle,
    };
    // Another time than for ever is enough, and costs no system call.
    if silence.of_both.is_none() {
        upstream.stream.probe();
    }
    // An edit may let go of this version: what is relayed does not need it.
    drop(site);
    let outcome = relay::both(stream, None, &mut upstream.stream, None, silence, timer).await;
    match outcome.ending {
        Ending::Finished => {}
        Ending::Broken => {
            stream.abort();
            upstream.stream.abort();
        }
        Ending::Idle => finished.reason = Some(Reason::TunnelTimeout),
        Ending::Cut(cut) => finished.reason = Some(cut.into()),
    }
    finished.from_client = hello_bytes + outcome.from_client;
    finished.to_client = outcome.from_upstream;
    finished.took = kit.since(record.started);
    kit.finished(finished, Some(&slots));
}

/// What will be said of the connection.
struct Record<'k> {
    kit: &'k Kit,
    started: Tick,
    finished: Finished,
}

impl Record<'_> {
    /// It leads nowhere. As a connection it is counted by whoever tells the client.
    fn refused(&mut self, reason: Reason) {
        let finished = &mut self.finished;
        finished.kind = Kind::Refused;
        finished.reason = Some(reason);
        finished.took = self.kit.since(self.started);
        if let Some(log) = finished.log.take() {
            self.kit.access.take(log, finished);
        }
    }
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

/// A backend that accepts and takes the first bytes.
async fn connect<'k>(
    site: &Arc<Site>,
    stream: &Stream,
    first: Vec<u8>,
    timer: &Timer,
    kit: &'k Kit,
    asker: IpAddr,
    finished: &mut Finished,
) -> Result<Found<'k>, Reason> {
    let affinity = Affinity::of_connection(site, asker);
    let mut search = Search::new(kit, timer, site, None, affinity, None);
    search.insist_on_http1();
    search.introduce(first);
    let found = search.upstream(&mut Unread(stream)).await;
    finished.retries = search.retries;
    if let (Err(_), Some(log), Some(address)) = (&found, &mut finished.log, search.gave_none()) {
        log.has_backend(|text| put_backend(text, address));
    }
    found.map_err(|not_found| not_found.reason())
}

/// A client whose bytes are for the backend to read.
struct Unread<'a>(&'a Stream);

impl Patient for Unread<'_> {
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match self.0.has_hung_up() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
