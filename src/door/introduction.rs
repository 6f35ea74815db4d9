//! A PROXY header in front of everything else: who the client is, in the words of a load balancer that is believed.

use super::opening::{self, Refusal};
use crate::block::Block;
use crate::http::Arrival;
use crate::parsed::Parsed;
use crate::proxy_header::{self, Ends, NoHeader, ProxyHeader};
use crate::settings::HeaderFirst;
use crate::slots::Slot;

/// Takes the header off what has come, where the peer begins with one, and believes it. From then on its client is
/// the client: what it may do, and how many connections it may have, is asked of that address.
///
/// # Errors
/// A header that is missing or malformed, a client that has its share, and what waiting for more of it brings.
pub(super) async fn take_off(
    mut came: Block,
    arrival: &mut Arrival,
    slot: &mut Slot,
) -> Result<Block, Refusal> {
    let first = arrival
        .kit
        .shared
        .proxy_protocol
        .of(arrival.client.address.ip());
    if first == HeaderFirst::Never {
        return Ok(came);
    }
    let header = loop {
        match proxy_header::read(came.filled()) {
            Ok(Parsed::Complete(header)) => break header,
            Ok(Parsed::NeedMore) => came = opening::more(arrival, came).await?,
            Err(NoHeader::Absent) if first == HeaderFirst::Perhaps => return Ok(came),
            Err(NoHeader::Absent | NoHeader::Malformed | NoHeader::TooLong) => {
                return Err(Refusal::ProxyHeader);
            }
        }
    };
    let ProxyHeader { ends, bytes } = header;
    came.consume(bytes);
    if let Some(ends) = ends {
        introduce(ends, arrival, slot)?;
    }
    if came.is_empty() {
        came = opening::more(arrival, came).await?;
    }
    Ok(came)
}

fn introduce(ends: Ends, arrival: &mut Arrival, slot: &mut Slot) -> Result<(), Refusal> {
    let Ends { client, local } = ends;
    let ip = client.ip().to_canonical();
    let trusted = arrival.kit.shared.trusts(ip);
    if !trusted && !ip.is_loopback() {
        slot.count(ip).map_err(|_| Refusal::ClientFull)?;
    }
    arrival.client.address = client;
    arrival.client.local = local;
    arrival.client.trusted = trusted;
    Ok(())
}
