//! A request that arrived, in whatever version -> what is to be done about it: answer it, or send it on.

use std::sync::Arc;

use super::answer::{self, Answer};
use super::asked_by::AskedBy;
use super::body::{Body, Written};
use super::departure::{Asked, Order};
use super::exchange::{self, Decision};
use super::field::same;
use super::forward::{self, Onward};
use super::h1::head::{Framing, Method, RequestHead, Version};
use super::kit::{Asker, Kit};
use super::known_host::KnownHost;
use super::logged;
use super::obtain::Affinity;
use crate::block::Sheet;
use crate::observe::access;
use crate::site::{HeaderEdit, Site, Wire};
use crate::tls::Secure;
use crate::wheel::{Serving, Timer};

/// A body up to this size leaves in one write with its head.
pub(super) const SMALL_BODY_BYTES: usize = 2 << 10;

/// What is to be done about a request.
pub(super) enum Step {
    Say(Said),
    /// Its body is [`upload`].
    Send(Order),
}

/// A response of our own, ready to be sent.
pub(super) struct Said {
    pub(super) out: Sheet,
    /// Follows `out`: a body that is too large to be copied for everybody who asks.
    pub(super) body: Option<Arc<[u8]>>,
    pub(super) status: u16,
    pub(super) answer: Option<Answer>,
    pub(super) site: Option<u32>,
    /// Its line of the access log, where there is one.
    pub(super) log: Option<Box<access::Begun>>,
}

/// Decides about a request, and writes what is to be sent, to a backend or back. `raw` is what the head was read from;
/// after a response of ours the connection `ends`, or not.
///
/// # Errors
/// What the request is refused for, together with its connection.
pub(super) fn begin(
    head: &RequestHead<'_>,
    raw: &[u8],
    known: &KnownHost,
    asker: &Asker<'_>,
    timer: &Timer,
    keep_alive: bool,
    ends: bool,
) -> Result<Step, Answer> {
    let asked_by = AskedBy::of(head, asker.client, &asker.kit.shared);
    let mut step = decide(head, raw, known, asker, &asked_by, timer, keep_alive, ends)?;
    if let Step::Say(said) = &mut step {
        said.log = logged::begin(head, known, asker, asked_by.nearest, None);
    }
    Ok(step)
}

#[expect(
    clippy::too_many_arguments,
    reason = "all that a decision is made of, from the two functions around it"
)]
fn decide(
    head: &RequestHead<'_>,
    raw: &[u8],
    known: &KnownHost,
    asker: &Asker<'_>,
    asked_by: &AskedBy,
    timer: &Timer,
    keep_alive: bool,
    ends: bool,
) -> Result<Step, Answer> {
    let kit = asker.kit;
    let said = Said {
        out: Sheet::lend(),
        body: None,
        status: 0,
        answer: None,
        site: known.site().map(|site| site.number),
        log: None,
    };
    let with_body = head.method != "HEAD";
    let Some(site) = known.site() else {
        return Ok(said.answer(Answer::NoSite, kit, ends, with_body));
    };
    let edits = site.headers.of_response(known.wire());
    Ok(
        match exchange::decide(head, known, site, asker.client, asked_by, &kit.shared) {
            Decision::Forward { strip, rule } => {
                let send = Send {
                    strip,
                    rule,
                    keep_alive,
                };
                return send.write(said.out, head, raw, known, site, asker, asked_by, timer);
            }
            Decision::Refuse(answer) => said.answer(answer, kit, ends, with_body),
            Decision::Redirect(redirect) => {
                let location =
                    answer::location(redirect, head.target.path_of_link(), head.target.query);
                said.redirect(redirect.status, &location, edits, kit, ends, with_body)
            }
            Decision::ToTls => {
                let location = answer::over_tls(site, known.host(), head);
                said.write(308, |out| {
                    answer::write_to_https(out, &location, &kit.date(), ends, with_body);
                })
            }
            Decision::RedirectToFirst => {
                let location = answer::first_host(site, known.raw(), known.wire(), head);
                said.redirect(308, &location, edits, kit, ends, with_body)
            }
            Decision::Respond(respond) => {
                let body = answer::large_body(respond).filter(|_| with_body);
                let said = Said {
                    body: body.map(Arc::clone),
                    ..said
                };
                let with_body = with_body && said.body.is_none();
                said.write(respond.status, |out| {
                    answer::write_respond(out, respond, edits, &kit.date(), ends, with_body);
                })
            }
            Decision::LastStop => {
                let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
                said.write(204, |out| {
                    answer::write_options(out, allow, &kit.date(), ends)
                })
            }
        },
    )
}

/// A request that goes to a backend.
struct Send {
    strip: usize,
    rule: Option<usize>,
    keep_alive: bool,
}

impl Send {
    #[expect(
        clippy::too_many_arguments,
        reason = "all that the head for the next hop is made of"
    )]
    fn write(
        self,
        mut out: Sheet,
        head: &RequestHead<'_>,
        raw: &[u8],
        known: &KnownHost,
        site: &Site,
        asker: &Asker<'_>,
        asked_by: &AskedBy,
        timer: &Timer,
    ) -> Result<Step, Answer> {
        let Asker {
            client,
            secure,
            kit,
            ..
        } = *asker;
        let request_id = kit.request_id();
        let Send { strip, rule, .. } = self;
        let onward = Onward {
            certificate: certificate_lines(site, secure),
            request_id,
            ..exchange::onward(known, site, client, asked_by, &kit.shared, strip, rule)
        };
        let Ok(host_at) = forward::request_head(&mut out, raw, head, &onward) else {
            return Err(Answer::TooManyConnectionOptions);
        };
        let affinity = Affinity::of(
            head,
            site,
            client,
            asked_by.nearest,
            asker.wire == Wire::Tls,
        );
        let known_as = exchange::known_as(head, client, request_id);
        let asked = Asked {
            method: Method::of(head.method),
            version: head.version,
            keep_alive: self.keep_alive,
            expects_continue: head.expects_continue,
            authenticates_connection: head.authenticates_connection,
            upgrade: head.upgrade.map(Box::from),
            is_grpc: head.version == Version::Http2 && is_grpc(head),
            may_be_told_why: exchange::may_be_told_why(head, known),
            request_id: known_as,
        };
        timer.serving(Some(Serving {
            site: site.number,
            version: site.version,
            rule: self.rule.and_then(|rule| u32::try_from(rule).ok()),
            asker: asked_by.known(),
            tls: secure.map(Secure::came),
        }));
        Ok(Step::Send(Order {
            out,
            host_at,
            asked,
            rule: self.rule,
            affinity,
            log: logged::begin(head, known, asker, asked_by.nearest, Some(&known_as)),
        }))
    }
}

fn is_grpc(head: &RequestHead<'_>) -> bool {
    let mut fields = head.fields.headers.iter();
    fields.any(|field| {
        same(field.name.as_bytes(), b"content-type") && field.value.starts_with(b"application/grpc")
    })
}

/// The body of a request that is sent on. Nothing of it has come.
#[inline]
pub(super) fn upload(head: &RequestHead<'_>, site: &Site, kit: &Kit) -> Body {
    let written = match head.framing {
        Framing::Chunked => Written::InChunks,
        _ => Written::Plainly,
    };
    let framing = match (head.framing, head.version) {
        // It comes without chunks, and its end is told apart from it.
        (Framing::Chunked, Version::Http2) => Framing::Close,
        (framing, _) => framing,
    };
    let mut upload = Body::new(
        framing,
        written,
        site.limits.body_bytes,
        kit.shared.head_limits,
        kit.shared.limits.framing_bytes,
    );
    upload.bar_trailers_of(&site.headers.request);
    upload
}

impl Said {
    /// Of its body alone.
    pub(super) fn body_bytes(&self) -> u64 {
        match &self.body {
            Some(body) => body.len() as u64,
            None => answer::body_bytes(&self.out),
        }
    }

    /// An answer to something that is not a request, or that cannot be read to its end. `with_body`: not to HEAD.
    pub(super) fn refused(answer: Answer, kit: &Kit, with_body: bool) -> Said {
        let mut out = Sheet::lend();
        answer.write(&mut out, &kit.date(), true, with_body, None);
        Said {
            out,
            body: None,
            status: answer.parts().0,
            answer: Some(answer),
            site: None,
            log: None,
        }
    }

    fn answer(mut self, answer: Answer, kit: &Kit, close: bool, with_body: bool) -> Step {
        answer.write(&mut self.out, &kit.date(), close, with_body, None);
        self.status = answer.parts().0;
        self.answer = Some(answer);
        Step::Say(self)
    }

    fn redirect(
        self,
        status: u16,
        location: &str,
        edits: &[HeaderEdit],
        kit: &Kit,
        close: bool,
        with_body: bool,
    ) -> Step {
        self.write(status, |out| {
            answer::write_redirect(out, status, location, edits, &kit.date(), close, with_body);
        })
    }

    fn write(mut self, status: u16, write: impl FnOnce(&mut Sheet)) -> Step {
        write(&mut self.out);
        self.status = status;
        Step::Say(self)
    }
}

/// What an app that asked for it is told about the certificate that its client showed.
pub(super) fn certificate_lines<'s>(site: &Site, secure: Option<&'s Secure>) -> &'s [u8] {
    match secure {
        Some(secure) if site.tls.tells_certificates() => &secure.client,
        _ => b"",
    }
}
