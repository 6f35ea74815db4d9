//! The way back: the response goes to the client while the rest of the request still goes out; or both become a
//! tunnel.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Flight;
use super::attempt::{Attempt, Returning};
use crate::block::Block;
use crate::http::answer::Answer;
use crate::http::body::{BadBody, Body, BodyError, Written};
use crate::http::departure::{After, Asked};
use crate::http::h1::head::Framing;
use crate::http::obtain::Search;
use crate::http::reader::{Pace, Reader};
use crate::http::side::{ClientSide, Sink, Source};
use crate::observe::{Finished, Kind, Protocol, Reason, Stage};
use crate::relay;
use crate::site::faults::Fault;
use crate::wheel::Tick;

/// How a response was passed back.
pub(super) struct Passed {
    pub(super) after: After,
    /// The upstream is fit for another exchange.
    pub(super) keep: Option<Keep>,
}

/// How an upstream is kept.
pub(super) struct Keep {
    pub(super) kept_for: Duration,
    pub(super) authenticates_connection: bool,
}

impl From<After> for Passed {
    fn from(after: After) -> Passed {
        Passed { after, keep: None }
    }
}

impl<C: ClientSide> Flight<'_, C> {
    /// Passes the response back while the rest of the request goes out.
    #[expect(
        clippy::too_many_arguments,
        reason = "the second half of `fly`: all of it is handed over once"
    )]
    pub(super) async fn pass_back(
        &mut self,
        returning: Returning,
        head: C::Head,
        block: Block,
        attempt: &mut Attempt<'_>,
        upload: &mut Body,
        asked: &Asked,
        search: &Search<'_, '_>,
        finished: &mut Finished,
    ) -> Passed {
        // NTLM and Negotiate authenticate a connection, and one of HTTP/2 is many requests at once: RFC 9113 7 has a word
        // for it, upon which clients come again in HTTP/1.1. What a backend of HTTP/2 means by them is its own affair.
        if returning.authenticates_connection
            && !attempt.upstream.is_shared()
            && self.client.insist_on_http1()
        {
            finished.status = returning.status;
            finished.kind = Kind::Aborted;
            finished.reason = Some(Reason::Http1Required);
            return After::Close.into();
        }
        let written = match returning.framing_back {
            _ if C::Sink::FRAMES => Written::InFrames,
            Framing::Chunked => Written::InChunks,
            _ => Written::Plainly,
        };
        let mut download = Body::new(
            returning.framing,
            written,
            None,
            self.kit.shared.head_limits,
            self.kit.shared.limits.framing_bytes,
        );
        download.bar_trailers_of(&self.site.headers.response);
        if download.take(block).is_err() {
            // Nothing of it has been passed on, so it can still be said.
            let why = format!(
                "{} sent a body that is not one",
                attempt.upstream.endpoint.address
            );
            search.fails(&attempt.visit, Fault::Malformed, &why);
            let why = Some(self.of_site(&why));
            let answer = Answer::BackendMalformed;
            let answered = self.answer(answer, why, asked, After::Linger, finished);
            return answered.await.into();
        }
        finished.status = returning.status;
        finished.kind = Kind::Aborted;
        let pace = Pace::of(&self.site.limits, &self.site.timeouts);
        let begun = {
            let client = &mut *self.client;
            let mut begun = pin!(client.begin_response(head, &mut download, pace, self.timer));
            let begun = poll_fn(|cx| {
                let polled = begun.as_mut().poll(cx);
                if polled.is_pending() {
                    attempt.upstream.stream.take_ahead(cx);
                }
                polled
            });
            begun.await
        };
        if begun.is_err() {
            return After::Abort.into();
        }
        self.set(attempt.end, self.site.timeouts.idle);
        let mut reader = Reader::new(pace);
        let client_stopped = returning.close && !upload.is_done();
        let passed =
            poll_fn(|cx| self.poll_both_ways(cx, upload, &mut download, attempt, &mut reader))
                .await;
        finished.from_client = upload.read;
        // What leaves together with a head is no body, and what was read and not taken was not sent.
        finished.to_client = download.read.min(download.moved);
        if let Err(broken) = passed {
            if let Some((fault, what)) = broken.fault() {
                let why = format!("{} {what}", attempt.upstream.endpoint.address);
                search.fails(&attempt.visit, fault, &why);
            }
            finished.reason = broken.reason();
            return After::Abort.into();
        }
        finished.kind = Kind::Exchange;
        // CASES R-07: whatever came behind the response was not asked for.
        let is_clean = download.take_surplus().is_none() && !attempt.upstream_deaf;
        let is_fit = attempt.reusable && attempt.is_in_step(asked, &returning) && is_clean;
        let keep = is_fit.then(|| Keep {
            kept_for: returning.keep_alive.unwrap_or(self.site.timeouts.pool_idle),
            authenticates_connection: returning.authenticates_connection
                || asked.authenticates_connection,
        });
        let after = if client_stopped || !upload.is_done() {
            After::Linger
        } else if returning.close || !asked.keep_alive {
            After::Close
        } else {
            After::Next(self.client.behind())
        };
        Passed { after, keep }
    }

    fn poll_both_ways(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Body,
        download: &mut Body,
        attempt: &mut Attempt<'_>,
        reader: &mut Reader,
    ) -> Poll<Result<(), Broken>> {
        let before = upload.moved + download.moved;
        if !upload.is_done() && !attempt.upstream_deaf {
            match upload.poll(cx, self.client.source(), &mut attempt.upstream.stream) {
                Poll::Ready(Ok(())) => self.client.request_is_over(upload),
                Poll::Ready(Err(BodyError::TargetGone)) => attempt.upstream_deaf = true,
                // The answer has begun: nothing can be said any more (CASES reject-body-error).
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Client)),
                Poll::Pending => {}
            }
        } else if !upload.is_done() {
            self.client.source().take_ahead(cx);
        }
        if let Poll::Ready(done) =
            download.poll(cx, &mut attempt.upstream.stream, self.client.sink())
        {
            return Poll::Ready(done.map_err(|error| match error {
                BodyError::SourceGone => Broken::Backend(Fault::Failed),
                BodyError::Bad(BadBody::Malformed(_)) => Broken::Backend(Fault::Malformed),
                BodyError::Bad(BadBody::TooLarge) | BodyError::TargetGone => Broken::Client,
            }));
        }
        let is_gone = match upload.is_done() {
            true => self.client.poll_gone(cx),
            false => self.client.poll_taken_back(cx),
        };
        if is_gone.is_ready() {
            return Poll::Ready(Err(Broken::Client));
        }
        let end = attempt.end.unwrap_or(Tick::MAX);
        if download.is_drained() {
            // Waited for it was also where the body only gave way to others: then the timer is set for the client, and
            // nothing may have moved since.
            let was_awaited = reader.is_awaited();
            reader.is_served();
            if was_awaited || upload.moved + download.moved != before {
                self.set(attempt.end, self.site.timeouts.idle);
            }
        } else if !self.is_patient && !reader.is_awaited() {
            // Of a call that both sides may be silent on, the connection looks whether its client is there.
            self.timer.set_at(reader.await_it(self.timer).min(end));
        }
        while self.timer.poll_fired(cx).is_ready() {
            if let Some(reason) = self.is_over(end) {
                return Poll::Ready(Err(Broken::Limit(reason)));
            }
            if !reader.is_awaited() {
                return Poll::Ready(Err(Broken::Limit(Reason::ResponseTimeout)));
            }
            match reader.look(self.client.untaken(), download.moved, self.timer) {
                Some(look) => self.timer.set_at(look.min(end)),
                None => return Poll::Ready(Err(Broken::Limit(Reason::SlowReader))),
            }
        }
        Poll::Pending
    }

    /// Whether the timer has fired for the whole exchange, whatever moves.
    fn is_over(&self, end: Tick) -> Option<Reason> {
        let is_late = || (end <= self.kit.wheel.now()).then_some(Reason::TotalTimeout);
        self.timer.cut().map(Reason::from).or_else(is_late)
    }

    /// Hands both sides to the relay: the backend has agreed to speak something else from here on.
    pub(super) async fn tunnel(
        &mut self,
        head: C::Head,
        block: Block,
        attempt: &mut Attempt<'_>,
        finished: &mut Finished,
    ) -> After {
        finished.status = 101;
        finished.kind = Kind::Tunnel;
        let stage = match finished.protocol {
            Protocol::Http2 => Stage::UpgradedStream,
            Protocol::Http1 | Protocol::Other => Stage::Upgraded,
        };
        let _stage = self.kit.counters.enter(stage);
        let early = (!block.is_empty()).then_some(block);
        let silence = relay::Silence {
            of_both: self.site.timeouts.websocket_idle,
            of_one: self.site.timeouts.idle,
        };
        // Of nothing else would anybody notice that the machine of the app is gone.
        attempt.upstream.stream.probe();
        let upstream = &mut attempt.upstream.stream;
        let relayed = self
            .client
            .tunnel(head, upstream, early, silence, self.timer);
        let Ok(outcome) = relayed.await else {
            return After::Abort;
        };
        finished.from_client = outcome.from_client;
        finished.to_client = outcome.from_upstream;
        match outcome.ending {
            relay::Ending::Broken => {
                attempt.upstream.stream.abort();
                After::Abort
            }
            relay::Ending::Idle => {
                finished.reason = Some(Reason::TunnelTimeout);
                After::Close
            }
            relay::Ending::Cut(cut) => {
                finished.reason = Some(cut.into());
                After::Close
            }
            relay::Ending::Finished => After::Close,
        }
    }
}

/// Why a response does not reach its end.
enum Broken {
    /// The client left, or sent what is no body.
    Client,
    Backend(Fault),
    Limit(Reason),
}

impl Broken {
    fn reason(self) -> Option<Reason> {
        match self {
            Broken::Client | Broken::Backend(_) => None,
            Broken::Limit(reason) => Some(reason),
        }
    }

    /// What the backend has done, if it was that.
    fn fault(&self) -> Option<(Fault, &'static str)> {
        match self {
            Broken::Backend(Fault::Malformed) => {
                Some((Fault::Malformed, "sent a body that is not one"))
            }
            Broken::Backend(fault) => Some((*fault, "broke off in the middle of its response")),
            Broken::Limit(Reason::ResponseTimeout) => {
                Some((Fault::Timeout, "was silent in the middle of its response"))
            }
            Broken::Client | Broken::Limit(_) => None,
        }
    }
}
