//! The bytes of a request that have come -> what is to be done about them: wait, answer, or send on.

use std::sync::Arc;

use super::head::{self, Framing, Parsed, Room};
use crate::block::Block;
use crate::http::answer::Answer;
use crate::http::begin::{self, SMALL_BODY_BYTES, Said, Step};
use crate::http::departure::{After, Departure};
use crate::http::exchange;
use crate::http::flight;
use crate::http::kit::{Arrival, Kit};
use crate::http::known_host::{Gate, KnownHost, Patience};
use crate::site::Site;

/// What is to be done about the bytes that came.
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one, and a box would be an allocation for each request"
)]
pub(super) enum Begun {
    NeedMore(Block),
    /// Files that this site names have to be read first.
    NotYet(Arc<Site>, Block),
    /// A response of our own, and what comes after it.
    Said(Said, After),
    Onward(Departure),
}

/// Reads the head, decides, and writes what is to be sent, to a backend or back.
pub(super) fn begin(
    arrival: &mut Arrival,
    known: &mut Option<Box<KnownHost>>,
    patience: Patience,
    mut inbound: Block,
) -> Begun {
    arrival.renew_trust();
    let kit = &*arrival.kit;
    let mut room = Room::new();
    let head = match head::request(inbound.filled(), &kit.shared.head_limits, &mut room) {
        Ok(Parsed::Complete(head)) => head,
        Ok(Parsed::NeedMore) => return Begun::NeedMore(inbound),
        Err(refusal) => return Begun::refused(refusal.into(), kit, true),
    };
    let with_body = head.method != "HEAD";
    let asker = arrival.asker();
    // RFC 9110 7.4: a target for the other kind of connection was sent to the wrong place.
    if head.scheme.is_some_and(|scheme| scheme != asker.wire) {
        let what = "the target's scheme is not that of the connection";
        return Begun::refused(Answer::Malformed(what), kit, with_body);
    }
    let Some(asked_for) = head.authority else {
        return Begun::refused(Answer::NoHost, kit, with_body);
    };
    let timer = &arrival.timer;
    let known = match KnownHost::recall(known, asked_for, &asker, Some(timer)) {
        Ok(known) => known,
        Err(answer) => return Begun::refused(answer, kit, with_body),
    };
    if let Some(site) = known.unread(patience)
        && !exchange::is_lifted(Gate::NotYet, &head, &site, asker.client)
    {
        return Begun::NotYet(site, inbound);
    }
    let requests_left = arrival.requests_left - 1;
    let keep_alive = head.keep_alive && requests_left > 0;
    let ends = !keep_alive || head.framing != Framing::None || kit.wheel.is_draining();
    let (framing, bytes) = (head.framing, head.bytes);
    let raw = inbound.filled();
    let begun = match begin::begin(&head, raw, known, &asker, timer, keep_alive, ends) {
        Ok(Step::Send(mut order)) => {
            let Some(site) = known.site() else {
                return Begun::refused(Answer::Internal, kit, with_body);
            };
            let mut upload = begin::upload(&head, site, kit);
            inbound.consume(bytes);
            match upload.take(inbound) {
                Ok(()) => {}
                Err(error) => {
                    let site = known.site().map(|site| site.number);
                    return Begun::refused(flight::answer_to(&error), kit, with_body).at(site);
                }
            }
            upload.join(&mut order.out, SMALL_BODY_BYTES);
            Begun::Onward(Departure { order, upload })
        }
        Ok(Step::Say(said)) if !ends => {
            // What came behind the head is the next request.
            inbound.consume(bytes);
            let rest = (!inbound.is_empty()).then_some(inbound);
            Begun::Said(said, After::Next(rest))
        }
        Ok(Step::Say(said)) if framing == Framing::None => Begun::Said(said, After::Close),
        Ok(Step::Say(said)) => Begun::Said(said, After::Linger),
        Err(answer) => Begun::refused(answer, kit, with_body),
    };
    arrival.requests_left = requests_left;
    begun
}

impl Begun {
    /// An answer to something that is not a request, or that cannot be read to its end: the connection ends.
    /// `with_body`: not to HEAD, whatever it says (RFC 9110 9.3.2).
    pub(super) fn refused(answer: Answer, kit: &Kit, with_body: bool) -> Begun {
        Begun::Said(Said::refused(answer, kit, with_body), After::Linger)
    }

    /// It was a request for the site of this number.
    fn at(mut self, site: Option<u32>) -> Begun {
        if let Begun::Said(said, _) = &mut self {
            said.site = site;
        }
        self
    }
}
