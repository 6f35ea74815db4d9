//! The requests of one client connection, one after the other.
//!
//! The outer loop is small: it is what an idle connection costs. All that a request needs lives in a future of
//! its own, from its first byte to its end.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use super::body::Body;
use super::flight::{self, Flight, Landed};
use super::head::{self, Framing, Method, Parsed, RequestHead, Room, Version};
use crate::block::{Block, Sheet};
use crate::http::answer::{self, Answer};
use crate::http::exchange::{self, Decision};
use crate::http::forward::{self, Forwarded, Onward};
use crate::http::kit::{Arrival, Kit};
use crate::http::known_host::KnownHost;
use crate::limits::{LINGER_BYTES, LINGER_TIME};
use crate::observe::{Finished, Kind};
use crate::site::hostname::{HostBuffer, authority};
use crate::site::{HostPattern, SendHost, Site};
use crate::stream::Stream;
use crate::upstream::Upstream;
use crate::wheel::{Expired, Serving, Tick};

/// A body up to this size leaves in one write with its head.
const SMALL_BODY_BYTES: usize = 2 << 10;

/// One client connection.
#[derive(Debug)]
struct Connection {
    arrival: Box<Arrival>,
    known: Option<Box<KnownHost>>,
    /// An upstream that authenticated this connection's client, and so belongs to it for good.
    pinned: Option<Box<Upstream>>,
}

/// What comes after a request.
#[derive(Debug)]
pub(super) enum After {
    /// The next one, of which these bytes have come already.
    Next(Option<Block>),
    /// Nothing: the client has had everything.
    Close,
    /// Nothing, but the client may still be sending, and must be able to read our answer (RFC 9112 9.6).
    Linger,
    /// Nothing: what the client got is not whole, and it must notice.
    Abort,
}

/// Serves the requests of a connection whose first bytes are `early`.
pub(crate) async fn serve(arrival: Box<Arrival>, early: Block) {
    let mut connection = Connection {
        arrival,
        known: None,
        pinned: None,
    };
    let mut early = Some(early);
    loop {
        let inbound = match early.take() {
            Some(block) => {
                // A cut was about the exchange before.
                connection.arrival.timer.serving(None);
                block
            }
            None => match connection.next_bytes().await {
                Some(block) => block,
                None => return,
            },
        };
        // Boxed, so that a connection that waits is not as large as one that works.
        match Box::pin(connection.one_request(inbound)).await {
            After::Next(rest) => early = rest,
            // Closed with bytes unread, the kernel resets, and the client may lose what it has not read yet.
            After::Close if !connection.arrival.stream.is_quiet() => {
                return Box::pin(connection.linger()).await;
            }
            After::Close => return,
            After::Linger => return Box::pin(connection.linger()).await,
            After::Abort => return connection.arrival.stream.abort(),
        }
    }
}

impl Connection {
    /// Waits for the next request without holding a buffer. `None`: the client left, time is up, or we drain.
    async fn next_bytes(&mut self) -> Option<Block> {
        self.arrival.timer.serving(None);
        self.arrival
            .timer
            .set(self.arrival.kit.shared.limits.idle_time);
        poll_fn(|cx| {
            let mut block = Block::lend();
            match block.poll_fill(cx, &mut self.arrival.stream) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(_)) => Poll::Ready(Some(block)),
                Poll::Pending if self.arrival.kit.wheel.is_draining() => Poll::Ready(None),
                Poll::Pending => self.arrival.timer.poll_fired(cx).map(|()| None),
            }
        })
        .await
    }

    /// One request, from its first bytes to its end.
    async fn one_request(&mut self, mut inbound: Block) -> After {
        let started = self.arrival.kit.wheel.now();
        let mut seen = 0;
        loop {
            let is_worth_a_look = seen == 0
                || head::may_be_whole(inbound.filled(), seen, &self.arrival.kit.shared.head_limits);
            let begun = if is_worth_a_look {
                self.begin(inbound)
            } else {
                Begun::NeedMore(inbound)
            };
            match begun {
                Begun::NeedMore(block) => {
                    if seen == 0 {
                        // One deadline for the whole head, however slowly it drips.
                        self.arrival
                            .timer
                            .set(self.arrival.kit.shared.limits.head_time);
                    }
                    seen = block.len();
                    match self.more_of_the_head(block).await {
                        More::Bytes(block) => inbound = block,
                        More::Gone => return After::Close,
                        More::TooSlow => return self.refuse(Answer::HeadTimeout, started).await,
                    }
                }
                Begun::Said(said) => return self.say(said, started).await,
                Begun::Onward(onward) => return self.forward(onward, started).await,
            }
        }
    }

    /// Waits for more of a head that has begun. What has come is kept in no more room than it needs.
    async fn more_of_the_head(&mut self, block: Block) -> More {
        let partial = block.filled().to_vec();
        drop(block);
        poll_fn(|cx| {
            let mut block = Block::lend();
            let fits = block.append(&partial);
            debug_assert!(fits, "a head fits into a block");
            match block.poll_fill(cx, &mut self.arrival.stream) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(More::Gone),
                Poll::Ready(Ok(_)) => Poll::Ready(More::Bytes(block)),
                Poll::Pending => self.arrival.timer.poll_fired(cx).map(|()| More::TooSlow),
            }
        })
        .await
    }

    /// Reads the head, decides, and writes what is to be sent, to a backend or back.
    fn begin(&mut self, mut inbound: Block) -> Begun {
        let kit = &*self.arrival.kit;
        let mut room = Room::new();
        let head = match head::request(inbound.filled(), &kit.shared.head_limits, &mut room) {
            Ok(Parsed::Complete(head)) => head,
            Ok(Parsed::NeedMore) => return Begun::NeedMore(inbound),
            Err(refusal) => return Begun::refused(refusal.into(), kit),
        };
        let Some(asked_for) = head.authority else {
            return Begun::refused(Answer::NoHost, kit);
        };
        let known = match KnownHost::recall(&mut self.known, asked_for, &self.arrival.client, kit) {
            Ok(known) => known,
            Err(answer) => return Begun::refused(answer, kit),
        };
        let ends = !head.keep_alive || head.framing != Framing::None || kit.wheel.is_draining();
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
        match exchange::decide(&head, known, site, &self.arrival.client, kit) {
            Decision::Forward { strip, rule } => {
                let asker = exchange::asker(&head, &self.arrival.client, kit);
                let onward = Onward {
                    site,
                    host: match &site.send_host {
                        SendHost::Name(name) => name.as_bytes(),
                        // `Backend` is filled in when the backend is known.
                        SendHost::Keep | SendHost::Backend => known.host(),
                    },
                    strip,
                    prefix: rule
                        .and_then(|rule| site.paths.get(rule))
                        .map_or("", |rule| rule.pattern.path()),
                    forwarded: if self.arrival.client.trusted {
                        Forwarded::Added {
                            client: self.arrival.client.address.ip().to_canonical(),
                            asker,
                            ours: known.forwarded(),
                        }
                    } else {
                        Forwarded::Set(known.forwarded())
                    },
                    request_id: kit.request_id(),
                    via: site.headers.via.then_some(&*kit.shared.via),
                };
                let out = &mut said.out;
                let Ok(host_at) = forward::request_head(out, inbound.filled(), &head, &onward)
                else {
                    return Begun::refused(Answer::TooManyConnectionOptions, kit);
                };
                let asked = Asked {
                    method: Method::of(head.method),
                    version: head.version,
                    keep_alive: head.keep_alive,
                    expects_continue: head.expects_continue,
                    authenticates_connection: head.authenticates_connection,
                    upgrade: head.upgrade.map(Box::from),
                    may_be_told_why: exchange::may_be_told_why(&head, known),
                };
                let limits = kit.shared.head_limits;
                let chunked = head.framing == Framing::Chunked;
                let mut upload = Body::new(head.framing, chunked, site.limits.body_bytes, limits);
                self.arrival.timer.serving(Some(Serving {
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
            Decision::Refuse(answer) => {
                said.answer(answer, kit, ends, with_body, head.bytes, inbound)
            }
            Decision::Redirect(redirect) => {
                let location = answer::location(redirect, head.target.path(), head.target.query);
                said.redirect(
                    redirect.status,
                    &location,
                    site,
                    kit,
                    ends,
                    with_body,
                    head.bytes,
                    inbound,
                )
            }
            Decision::RedirectToFirst => {
                let location = first_host(site, asked_for, &head);
                said.redirect(
                    308, &location, site, kit, ends, with_body, head.bytes, inbound,
                )
            }
            Decision::Respond(respond) => {
                said.status = respond.status;
                let edits = &site.headers.response;
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

    async fn forward(&mut self, departure: Departure, started: Tick) -> After {
        let Connection {
            arrival,
            known,
            pinned,
        } = self;
        let Arrival {
            stream, timer, kit, ..
        } = &mut **arrival;
        let Some(site) = known.as_ref().and_then(|known| known.site()) else {
            return After::Abort;
        };
        let flight = Flight {
            client: stream,
            timer,
            kit,
            site,
            pinned,
        };
        let Landed { after, finished } = flight.fly(departure, started).await;
        kit.counters.finished(&finished);
        after
    }

    /// Answers what cannot be gone on with.
    async fn refuse(&mut self, answer: Answer, started: Tick) -> After {
        match Begun::refused(answer, &self.arrival.kit) {
            Begun::Said(said) => self.say(said, started).await,
            _ => After::Close,
        }
    }

    /// Sends a response of our own.
    async fn say(&mut self, said: Said, started: Tick) -> After {
        let Said {
            out,
            status,
            answer,
            site,
            after,
        } = said;
        let sent = self
            .arrival
            .timer
            .within(
                self.arrival.kit.shared.limits.head_time,
                send(&mut self.arrival.stream, &out),
            )
            .await;
        self.arrival.kit.counters.finished(&Finished {
            kind: Kind::Exchange,
            site,
            status,
            reason: answer.map(|answer| answer.parts().1),
            from_client: 0,
            to_client: out.len() as u64,
            retries: 0,
            took: self.arrival.kit.since(started),
        });
        match sent {
            Ok(Ok(())) => after,
            Ok(Err(_)) | Err(_) => After::Close,
        }
    }

    /// Says that we are done, and reads on for a moment, so that the client finds our answer and not a reset.
    async fn linger(&mut self) {
        let mut left = LINGER_BYTES;
        let done = self.arrival.timer.within(
            LINGER_TIME,
            poll_fn(|cx| {
                if self.arrival.stream.poll_end(cx).is_pending() {
                    return Poll::Pending;
                }
                loop {
                    let mut block = Block::lend();
                    match std::task::ready!(block.poll_fill(cx, &mut self.arrival.stream)) {
                        Ok(count) if count > 0 && count < left => left -= count,
                        _ => return Poll::Ready(()),
                    }
                }
            }),
        );
        match done.await {
            Ok(()) | Err(Expired) => {}
        }
    }
}

/// Sends all of `bytes`.
pub(super) async fn send(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            sent += std::task::ready!(stream.poll_put(cx, &bytes[sent..]))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// What became of waiting for the rest of a head.
enum More {
    Bytes(Block),
    Gone,
    TooSlow,
}

/// What is to be done about the bytes that came.
enum Begun {
    NeedMore(Block),
    Said(Said),
    Onward(Departure),
}

/// A response of our own, ready to be sent.
struct Said {
    out: Sheet,
    status: u16,
    answer: Option<Answer>,
    site: Option<u32>,
    after: After,
}

/// A request ready to be sent to a backend.
#[derive(Debug)]
pub(super) struct Departure {
    /// The head as the backend gets it, and a small body.
    pub(super) out: Sheet,
    /// Where in `out` the value of Host stands.
    pub(super) host_at: Range<usize>,
    pub(super) asked: Asked,
    pub(super) upload: Body,
    pub(super) rule: Option<usize>,
}

/// What of a request is needed when its head is gone.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// The request may authenticate the upstream instead of itself (NTLM, Negotiate).
    pub(super) authenticates_connection: bool,
    pub(super) upgrade: Option<Box<[u8]>>,
    pub(super) may_be_told_why: bool,
}

impl Begun {
    /// An answer to something that is not a request, or that cannot be read to its end: the connection ends.
    fn refused(answer: Answer, kit: &Kit) -> Begun {
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
        site: &Site,
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
            &site.headers.response,
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

/// Where a name of `redirect_from` is sent: the site's first host, on the port the client named, with path and query.
fn first_host(site: &Site, asked: &[u8], head: &RequestHead<'_>) -> String {
    let first = site.claims.first().map(|claim| &claim.pattern);
    let name = match first {
        Some(HostPattern::Exact(name)) if name.as_str().contains(':') => format!("[{name}]"),
        Some(pattern) => pattern.to_string(),
        None => String::new(),
    };
    let mut buffer = HostBuffer::new();
    let port = authority(asked, &mut buffer)
        .ok()
        .and_then(|asked| asked.port);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "http://{name}{port}{}{}",
        head.target.path(),
        head.target.query
    )
}
