//! The whole way of one connection.

use std::rc::Rc;
use std::sync::Arc;

use tracing::info;

use super::alert::Alert;
use super::introduction;
use super::opening::{self, Hello, Opening, Refusal};
use super::passthrough;
use super::terminate::{self, NothingToShow};
use crate::block::Block;
use crate::http::{self, Arrival, Kit};
use crate::observe::{Finished, Kind, Protocol, Reason, Stage};
use crate::site::Site;
use crate::site::tls::Mode;
use crate::slots::Slot;
use crate::upstream::moment;

/// The whole way of one connection. `slot` is held for as long as it lives.
pub(crate) async fn serve(mut arrival: Box<Arrival>, mut slot: Slot) {
    match open(&mut arrival, &mut slot).await {
        Ok(Opening::Http(first)) => serve_http1(arrival, Some(first)).await,
        Ok(Opening::Http2(first)) => serve_http2(arrival, Some(first), slot).await,
        Ok(Opening::Tls(hello)) => {
            if let Some(arrival) = serve_tls(arrival, hello).await {
                match arrival.stream.alpn() {
                    Some(b"h2") => serve_http2(arrival, None, slot).await,
                    _ => serve_http1(arrival, None).await,
                }
            }
        }
        Err(Refusal::Hello(alert)) => {
            Box::pin(refuse_with(alert, arrival, Reason::MalformedHello)).await;
        }
        Err(Refusal::ProxyHeader) => refused(&arrival.kit, Some(Reason::ProxyHeader)),
        Err(Refusal::ClientFull) => refused(&arrival.kit, Some(Reason::ClientFull)),
        Err(Refusal::Unknown) => refused(&arrival.kit, Some(Reason::UnknownProtocol)),
        Err(Refusal::Slow) => refused(&arrival.kit, Some(Reason::OpeningTimeout)),
        Err(Refusal::MadeRoom) => refused(&arrival.kit, Some(Reason::MadeRoom)),
        Err(Refusal::Gone) => refused(&arrival.kit, None),
    }
}

async fn serve_http1(arrival: Box<Arrival>, first: Option<Block>) {
    let _stage = arrival.kit.counters.enter(Stage::Http1);
    http::h1::serve(arrival, first).await;
}

async fn serve_http2(arrival: Box<Arrival>, first: Option<Block>, slot: Slot) {
    let _stage = arrival.kit.counters.enter(Stage::Http2);
    http::h2::serve(arrival, first, slot).await;
}

/// All that comes before the site is known, within one deadline.
async fn open(arrival: &mut Arrival, slot: &mut Slot) -> Result<Opening, Refusal> {
    let came = opening::first_bytes(arrival).await?;
    let came = introduction::take_off(came, arrival, slot).await?;
    opening::read(came, arrival).await
}

/// Serves a connection that begins with a client hello, up to its end, or up to the requests inside of TLS.
///
/// What takes long is boxed, each for itself: a connection that waits for a request must not be as large as a handshake,
/// nor one that is passed through.
async fn serve_tls(arrival: Box<Arrival>, hello: Hello) -> Option<Box<Arrival>> {
    // CASES T-17: without a name, whoever claims the address that was asked for, or every name; never just anybody.
    let host = match &hello.sni {
        Some(name) => name.to_string(),
        None => arrival.client.local.ip().to_canonical().to_string(),
    };
    let Some(site) = arrival.kit.find(&host) else {
        Box::pin(refuse_with(
            Alert::UnrecognizedName,
            arrival,
            Reason::UnrecognizedName,
        ))
        .await;
        return None;
    };
    match site.tls.mode {
        Mode::Passthrough => {
            let _stage = arrival.kit.counters.enter(Stage::Passthrough);
            Box::pin(passthrough::serve(arrival, site, hello)).await;
        }
        // CASES T-27: it speaks no TLS, and nobody else's certificate will do.
        Mode::Off => refused(&arrival.kit, Some(Reason::TlsOff)),
        // CASES T-49: the library would find fault with something else of such a hello first.
        Mode::Auto | Mode::Local | Mode::Files(_) if hello.is_outdated => {
            let reason = Reason::HandshakeVersion;
            site.slots.refusals.add(reason as usize);
            Box::pin(refuse_with(Alert::ProtocolVersion, arrival, reason)).await;
        }
        Mode::Auto | Mode::Local | Mode::Files(_) => {
            return Box::pin(end_tls(arrival, site, &host, hello.bytes)).await;
        }
    }
    None
}

async fn end_tls(
    arrival: Box<Arrival>,
    site: Arc<Site>,
    host: &str,
    hello: Box<[u8]>,
) -> Option<Box<Arrival>> {
    let shown = match terminate::choose(&arrival, host, &site).await {
        Ok(shown) => shown,
        Err(nothing) => {
            let reason = nothing.reason();
            match nothing {
                NothingToShow::NoCertificate => {
                    refuse_with(Alert::UnrecognizedName, arrival, reason).await;
                }
                NothingToShow::Broken => refuse_with(Alert::InternalError, arrival, reason).await,
                NothingToShow::Slow => refused(&arrival.kit, Some(reason)),
            }
            return None;
        }
    };
    let (name, slots) = (site.name.clone(), Arc::clone(&site.slots));
    drop(site); // an edit may let go of this version meanwhile
    let _stage = arrival.kit.counters.enter(Stage::Handshake);
    let (kit, client) = (Rc::clone(&arrival.kit), arrival.client.address.ip());
    let failed = match terminate::terminate(arrival, hello, host, shown).await {
        Ok(arrival) => return Some(arrival),
        Err(failed) => failed,
    };
    refused(&kit, Some(failed.reason));
    slots.refusals.add(failed.reason as usize);
    if let Some(fault) = failed.client_fault
        && let Some(more) = slots.client_faults.is_to_be_said(fault, moment())
    {
        match more {
            0 => info!(site = %name, %client, "a client's certificate is refused: {fault}"),
            more => {
                info!(site = %name, %client, more, "a client's certificate is refused: {fault}")
            }
        }
    }
    if let Some(mut arrival) = failed.arrival {
        let Arrival { stream, timer, .. } = &mut *arrival;
        kit.linger(stream, timer).await;
    }
    None
}

/// Closes a connection that leads nowhere, and tells the client why in its own language.
pub(super) async fn refuse_with(alert: Alert, mut arrival: Box<Arrival>, reason: Reason) {
    let Arrival {
        stream, timer, kit, ..
    } = &mut *arrival;
    refused(kit, Some(reason));
    let limits = &kit.shared.limits;
    let record = alert.record();
    let sent = timer
        .within(limits.linger_time, stream.put_all(&record))
        .await;
    if matches!(sent, Ok(Ok(()))) {
        kit.linger(stream, timer).await;
    }
}

/// A connection closed before a request could be read. No event: anybody can cause a million of them.
fn refused(kit: &Kit, reason: Option<Reason>) {
    kit.counters.finished(&Finished {
        reason,
        ..Finished::of(Kind::Refused, Protocol::Other, None)
    });
}
