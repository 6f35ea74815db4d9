//! The bytes of a request that have come -> what is to be done about them: wait, answer, or send on.

use super::body::Body;
use super::departure::{After, Asked, Departure};
use super::flight;
use super::head::{self, Framing, Method, Parsed, Room};
use crate::block::{Block, Sheet};
use crate::http::answer::{self, Answer};
use crate::http::exchange::{self, Decision};
use crate::http::forward::{self, Onward};
use crate::http::kit::{Arrival, Kit};
use crate::http::known_host::KnownHost;
use crate::site::{HeaderEdit, Site};
use crate::tls::Secure;
use crate::wheel::Serving;

/// A body up to this size leaves in one write with its head.
const SMALL_BODY_BYTES: usize = 2 << 10;

/// What is to be done about the bytes that came.
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one, and a box would be an allocation for each request"
)]
pub(super) enum Begun {
    NeedMore(Block),
    Said(Said),
    Onward(Departure),
}

/// A response of our own, ready to be sent.
pub(super) struct Said {
    pub(super) out: Sheet,
    pub(super) status: u16,
    pub(super) answer: Option<Answer>,
    pub(super) site: Option<u32>,
    pub(super) after: After,
}

/// Reads the head, decides, and writes what is to be sent, to a backend or back.
pub(super) fn begin(
    arrival: &mut Arrival,
    known: &mut Option<Box<KnownHost>>,
    mut inbound: Block,
) -> Begun {
    let kit = &*arrival.kit;
    let mut room = Room::new();
    let head = match head::request(inbound.filled(), &kit.shared.head_limits, &mut room) {
        Ok(Parsed::Complete(head)) => head,
        Ok(Parsed::NeedMore) => return Begun::NeedMore(inbound),
        Err(refusal) => return Begun::refused(refusal.into(), kit),
    };
    let wire = arrival.stream.wire();
    // RFC 9110 7.4: a target for the other kind of connection was sent to the wrong place.
    if head.scheme.is_some_and(|scheme| scheme != wire) {
        let what = "the target's scheme is not that of the connection";
        return Begun::refused(Answer::Malformed(what), kit);
    }
    let Some(asked_for) = head.authority else {
        return Begun::refused(Answer::NoHost, kit);
    };
    let known = match KnownHost::recall(known, asked_for, arrival) {
        Ok(known) => known,
        Err(answer) => return Begun::refused(answer, kit),
    };
    arrival.requests_left -= 1;
    let keep_alive = head.keep_alive && arrival.requests_left > 0;
    let ends = !keep_alive || head.framing != Framing::None || kit.wheel.is_draining();
    let mut said = Said {
        out: Sheet::lend(),
        status: 0,
        answer: None,
        site: known.site().map(|site| site.number),
        after: if !ends {
            After::Next(None)
        } else if head.framing == Framing::None {
            After::Close
        } else {
            After::Linger
        },
    };
    let with_body = head.method != "HEAD";
    let Some(site) = known.site() else {
        return said.answer(Answer::NoSite, kit, ends, with_body, head.bytes, inbound);
    };
    let edits = site.headers.of_response(known.wire());
    match exchange::decide(&head, known, site, &arrival.client, &kit.shared) {
        Decision::Forward { strip, rule } => {
            let (client, shared) = (&arrival.client, &*kit.shared);
            let asker = exchange::asker(&head, client, shared);
            let request_id = kit.request_id();
            let onward = Onward {
                certificate: certificate_lines(site, arrival.secure.as_deref()),
                request_id,
                ..exchange::onward(&head, known, site, client, shared, strip, rule)
            };
            let out = &mut said.out;
            let Ok(host_at) = forward::request_head(out, inbound.filled(), &head, &onward) else {
                return Begun::refused(Answer::TooManyConnectionOptions, kit);
            };
            let asked = Asked {
                method: Method::of(head.method),
                version: head.version,
                keep_alive,
                expects_continue: head.expects_continue,
                authenticates_connection: head.authenticates_connection,
                upgrade: head.upgrade.map(Box::from),
                may_be_told_why: exchange::may_be_told_why(&head, known),
                request_id: exchange::known_as(&head, client, request_id),
            };
            let mut upload = Body::new(
                head.framing,
                head.framing == Framing::Chunked,
                site.limits.body_bytes,
                kit.shared.head_limits,
                kit.shared.limits.framing_bytes,
            )
            .without_trailers_of(&site.headers.request);
            arrival.timer.serving(Some(Serving {
                site: site.number,
                version: site.version,
                rule: rule.and_then(|rule| u32::try_from(rule).ok()),
                asker,
            }));
            let bytes = head.bytes;
            inbound.consume(bytes);
            match upload.take(inbound) {
                Ok(()) => {}
                Err(error) => return Begun::refused(flight::answer_to(&error), kit),
            }
            upload.join(&mut said.out, SMALL_BODY_BYTES);
            Begun::Onward(Departure {
                out: said.out,
                host_at,
                asked,
                upload,
                rule,
            })
        }
        Decision::Refuse(answer) => said.answer(answer, kit, ends, with_body, head.bytes, inbound),
        Decision::Redirect(redirect) => {
            let location =
                answer::location(redirect, head.target.path_of_link(), head.target.query);
            said.redirect(
                redirect.status,
                &location,
                edits,
                kit,
                ends,
                with_body,
                head.bytes,
                inbound,
            )
        }
        Decision::ToTls => {
            said.status = 308;
            let location = answer::over_tls(site, known.host(), &head);
            answer::write_to_https(&mut said.out, &location, &kit.date(), ends, with_body);
            said.leave(head.bytes, inbound)
        }
        Decision::RedirectToFirst => {
            let location = answer::first_host(site, asked_for, known.wire(), &head);
            said.redirect(
                308, &location, edits, kit, ends, with_body, head.bytes, inbound,
            )
        }
        Decision::Respond(respond) => {
            said.status = respond.status;
            answer::write_respond(&mut said.out, respond, edits, &kit.date(), ends, with_body);
            said.leave(head.bytes, inbound)
        }
        Decision::LastStop => {
            said.status = 204;
            let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            answer::write_options(&mut said.out, allow, &kit.date(), ends);
            said.leave(head.bytes, inbound)
        }
    }
}

impl Begun {
    /// An answer to something that is not a request, or that cannot be read to its end: the connection ends.
    pub(super) fn refused(answer: Answer, kit: &Kit) -> Begun {
        let mut out = Sheet::lend();
        answer.write(&mut out, &kit.date(), true, true, None);
        let status = answer.parts().0;
        Begun::Said(Said {
            out,
            status,
            answer: Some(answer),
            site: None,
            after: After::Linger,
        })
    }
}

impl Said {
    fn answer(
        mut self,
        answer: Answer,
        kit: &Kit,
        close: bool,
        with_body: bool,
        head_bytes: usize,
        inbound: Block,
    ) -> Begun {
        answer.write(&mut self.out, &kit.date(), close, with_body, None);
        self.status = answer.parts().0;
        self.answer = Some(answer);
        self.leave(head_bytes, inbound)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one response; each argument is one part of it"
    )]
    fn redirect(
        mut self,
        status: u16,
        location: &str,
        edits: &[HeaderEdit],
        kit: &Kit,
        close: bool,
        with_body: bool,
        head_bytes: usize,
        inbound: Block,
    ) -> Begun {
        self.status = status;
        answer::write_redirect(
            &mut self.out,
            status,
            location,
            edits,
            &kit.date(),
            close,
            with_body,
        );
        self.leave(head_bytes, inbound)
    }

    /// The response is written. What came behind the head is the next request, unless the connection ends.
    fn leave(mut self, head_bytes: usize, mut inbound: Block) -> Begun {
        if let After::Next(rest) = &mut self.after {
            inbound.consume(head_bytes);
            *rest = (!inbound.is_empty()).then_some(inbound);
        }
        Begun::Said(self)
    }
}

/// What an app that asked for it is told about the certificate that its client showed.
fn certificate_lines<'s>(site: &Site, secure: Option<&'s Secure>) -> &'s [u8] {
    let wanted = site
        .tls
        .client
        .as_ref()
        .is_some_and(|client| client.forward);
    match secure {
        Some(secure) if wanted => &secure.client,
        _ => b"",
    }
}
