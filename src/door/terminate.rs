//! Ends TLS for a site, with its certificate.

use std::pin::pin;
use std::sync::Arc;

use tracing::debug;

use crate::http::Arrival;
use crate::observe::Reason;
use crate::site::Site;
use crate::site::client_faults::ClientFault;
use crate::stream::Stream;
use crate::tls::{Certificate, HandshakeError, InTheWay, Offer, Policy, client_fault, shake_hands};

/// What a client will be shown.
#[derive(Debug)]
pub(super) struct Shown {
    policy: Arc<Policy>,
    certificates: Arc<[Arc<Certificate>]>,
}

/// Why a client that asked for TLS cannot be shown anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NothingToShow {
    /// Nobody here has a certificate for that name: unrecognized_name.
    NoCertificate,
    /// There should be one, and there is none: internal_error.
    Broken,
    /// It was still being read at the end of the opening's time.
    Slow,
}

impl NothingToShow {
    pub(super) fn reason(self) -> Reason {
        match self {
            NothingToShow::NoCertificate => Reason::UnrecognizedName,
            NothingToShow::Broken => Reason::NoCertificate,
            NothingToShow::Slow => Reason::HandshakeTimeout,
        }
    }
}

/// Chooses what is shown for `host` of `site`. Early in a start it may have to be read first; the deadline of the
/// opening goes on meanwhile.
///
/// # Errors
/// See [`NothingToShow`].
pub(super) async fn choose(
    arrival: &Arrival,
    host: &str,
    site: &Site,
) -> Result<Shown, NothingToShow> {
    let keyring = &arrival.kit.shared.keyring;
    loop {
        let read = keyring.something_was_read();
        match keyring.offer(site, host, arrival.client.address.ip()) {
            Offer::Show {
                policy,
                certificates,
            } => {
                return Ok(Shown {
                    policy,
                    certificates,
                });
            }
            Offer::Nothing => return Err(NothingToShow::NoCertificate),
            Offer::Broken => return Err(NothingToShow::Broken),
            Offer::NotYet => {
                let read = arrival.timer.until_fired(read).await;
                read.map_err(|_| NothingToShow::Slow)?;
            }
        }
    }
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: Reason,
    /// What was wrong with the client's certificate, where it was that.
    pub(super) client_fault: Option<ClientFault>,
    /// The connection, where the client has been told why and is to hear it.
    pub(super) arrival: Option<Box<Arrival>>,
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Failed {
        Failed {
            reason,
            client_fault: None,
            arrival: None,
        }
    }
}

/// Shakes hands for `host` with a client that has sent `hello`, within what is left of the opening's time.
///
/// # Errors
/// See [`Failed`].
pub(super) async fn terminate(
    arrival: Box<Arrival>,
    hello: Box<[u8]>,
    host: &str,
    shown: Shown,
) -> Result<Box<Arrival>, Failed> {
    let Arrival {
        stream,
        client,
        timer,
        trusted_by,
        requests_left,
        kit,
        ..
    } = *arrival;
    let Stream::Tcp(stream) = stream else {
        return Err(Reason::Internal.into());
    };
    let too_slow = |_| Reason::HandshakeTimeout;
    let patience = kit.shared.limits.idle_when_full;
    let place = timer.until_fired(kit.turnstile.pass(patience)).await;
    let place = place.map_err(too_slow)?.ok_or(Reason::Internal)?;
    let Shown {
        policy,
        certificates,
    } = shown;
    let shaken = pin!(shake_hands(hello, stream, host, policy, certificates));
    let shaken = timer.until_fired(place.shake(shaken)).await;
    let shaken = shaken
        .map_err(too_slow)?
        .map_err(|InTheWay| Reason::MadeRoom)?;
    drop(place);
    let again = |stream, secure| {
        Box::new(Arrival {
            stream,
            client,
            secure,
            timer,
            trusted_by,
            requests_left,
            kit,
        })
    };
    let failed = match shaken {
        Ok((stream, secure)) => {
            let arrival = again(Stream::Tls(stream), Some(Box::new(secure)));
            arrival.kit.counters.handshakes.add(1);
            return Ok(arrival);
        }
        Err(failed) => failed,
    };
    debug!(client = %client.address, host, "the TLS handshake failed: {failed}");
    let reason = failed.reason();
    match failed {
        HandshakeError::Refused { why, tcp } => Err(Failed {
            reason,
            client_fault: client_fault(&why),
            arrival: Some(again(Stream::Tcp(tcp), None)),
        }),
        HandshakeError::Broken(_) => Err(reason.into()),
    }
}
