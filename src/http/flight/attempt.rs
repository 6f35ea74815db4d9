//! One attempt: the request goes out to an upstream until the head of the final response is there.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::bad_head::BadHead;
use super::{Failed, Flight, answer_to};
use crate::block::{Block, READ_BYTES};
use crate::http::answer::Answer;
use crate::http::body::{BadBody, Body, BodyError};
use crate::http::departure::Asked;
use crate::http::field::same;
use crate::http::forward::{self, Back};
use crate::http::h1::head::{self, Framing, Method, Parsed, Room, Version};
use crate::http::obtain::{Failure, Search, Visit};
use crate::http::side::{ClientSide, Source};
use crate::limits::LONGEST_KEPT;
use crate::site::faults::Fault;
use crate::stream::Stream;
use crate::tls;
use crate::upstream::{self, Upstream};
use crate::wheel::Tick;

/// What is known of a response once its head has been written anew.
pub(super) struct Returning {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// How the client is told where the body ends.
    pub(super) framing_back: Framing,
    pub(super) close: bool,
    /// The request was with the backend, to its end, before this came.
    pub(super) is_to_all: bool,
    pub(super) reusable: bool,
    pub(super) keep_alive: Option<Duration>,
    pub(super) authenticates_connection: bool,
    pub(super) becomes_tunnel: bool,
    pub(super) head_bytes: usize,
}

/// What waiting for a response brought.
enum Waited {
    Bytes(Block),
    UpstreamGone(Gone),
    ClientGone,
    BodyFailed(BadBody),
    TimedOut,
}

/// How an upstream ended without a response.
struct Gone {
    said_anything: bool,
    /// What went wrong, where it did not simply close.
    error: Option<io::Error>,
}

/// The state of one attempt.
pub(super) struct Attempt<'a> {
    pub(super) upstream: Upstream,
    /// Counts the request at its backend.
    pub(super) visit: Visit<'a>,
    /// How much of the head (and a small body) has been sent.
    pub(super) sent: usize,
    /// TLS counts what it has sent whole; when it has to wait, a part of more may be with the backend.
    pub(super) sent_in_part: bool,
    /// The backend takes no more; it may still answer.
    pub(super) upstream_deaf: bool,
    /// Part of a response head.
    pub(super) partial: Option<Block>,
    /// When the whole exchange must have ended.
    pub(super) end: Option<Tick>,
    /// Since when the client owes the body: the time of its head, of our connect, and of the app's 100 is not its own.
    pub(super) began: Tick,
    /// Responses before the final one.
    pub(super) interim: u32,
    /// The backend has asked for the body that the client announced (100).
    pub(super) wants_body: bool,
    /// Whether every head so far leaves the upstream fit for another exchange.
    pub(super) reusable: bool,
}

/// Whether another attempt may be made.
pub(super) enum Retry {
    /// On an upstream that has not been used before.
    Fresh,
    /// As the search has been told.
    Again,
    Never(Failed),
}

impl Retry {
    fn answer(answer: Answer) -> Retry {
        Retry::Never(Failed::Answer(answer, None))
    }
}

impl<C: ClientSide> Flight<'_, C> {
    /// Sends the request and waits for the head of the final response, or of a tunnel; passes on those before it.
    pub(super) async fn response(
        &mut self,
        out: &[u8],
        asked: &Asked,
        upload: &mut Body,
        attempt: &mut Attempt<'_>,
        search: &mut Search<'_, '_>,
    ) -> Result<(Returning, C::Head, Block), Retry> {
        self.set_for_body(asked, attempt, upload);
        let mut is_sent = false;
        loop {
            let waited =
                poll_fn(|cx| self.poll_response(cx, out, asked, upload, attempt, &mut is_sent))
                    .await;
            let mut block = match waited {
                Waited::Bytes(block) => block,
                Waited::UpstreamGone(gone) => {
                    return Err(self.upstream_gone(gone, asked, upload, attempt, search));
                }
                Waited::ClientGone => return Err(Retry::Never(Failed::Silent)),
                Waited::BodyFailed(bad) => return Err(Retry::answer(answer_to(&bad))),
                Waited::TimedOut => {
                    return Err(self.timed_out(out, asked, upload, attempt, search));
                }
            };
            // Several heads may have come at once.
            loop {
                let mut head_out = C::Head::default();
                let request_is_over = attempt.sent == out.len() && upload.is_done();
                let cookie = search.cookie(&attempt.visit);
                let read = self.read_head(
                    &block,
                    asked,
                    request_is_over,
                    cookie.as_deref(),
                    &mut head_out,
                );
                let returning = match read {
                    Ok(Some(returning)) => returning,
                    Ok(None) if block.len() < READ_BYTES => {
                        // Behind interim responses it may stand at the end of the block.
                        let block = if block.has_room() {
                            block
                        } else {
                            block.split_off(0).unwrap_or(block)
                        };
                        attempt.partial = Some(block);
                        break;
                    }
                    Ok(None) => {
                        search.broke_off(&attempt.visit);
                        return Err(self.malformed(attempt, search, "a head that does not end"));
                    }
                    Err(_) if attempt.is_behind_tls(&block) => {
                        return Err(self.behind_tls(attempt, search));
                    }
                    Err(bad) => {
                        search.broke_off(&attempt.visit);
                        return Err(self.bad_head(attempt, search, &bad, &block));
                    }
                };
                block.consume(returning.head_bytes);
                attempt.reusable &= returning.reusable;
                if returning.status >= 200 || returning.becomes_tunnel {
                    search.answered(&attempt.visit, returning.status);
                    let failure = Failure::Status(returning.status);
                    if returning.status >= 500
                        && attempt.is_repeatable(asked, upload)
                        && search.goes_again(&attempt.visit, failure)
                    {
                        return Err(Retry::Again);
                    }
                    // Answered before it has the whole head: it gets no more, and nobody else gets it.
                    attempt.upstream_deaf |= attempt.sent < out.len();
                    return Ok((returning, head_out, block));
                }
                attempt.interim += 1;
                attempt.wants_body |= returning.status == 100;
                attempt.began = self.timer.wheel().now();
                if attempt.interim > self.kit.shared.limits.interim {
                    let what = "one interim response after the other";
                    return Err(self.malformed(attempt, search, what));
                }
                // RFC 9110 15.2: a 1.0 client knows none of them.
                if asked.version != Version::Http10 {
                    let sent = self
                        .timer
                        .within(self.site.timeouts.idle, self.client.put_interim(head_out))
                        .await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return Err(Retry::Never(Failed::Silent));
                    }
                }
                if is_sent {
                    self.set(attempt.end, self.site.timeouts.first_byte);
                } else {
                    self.set_for_body(asked, attempt, upload);
                }
                if block.is_empty() {
                    break;
                }
            }
        }
    }

    /// Drives the request out and looks for the response.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        out: &[u8],
        asked: &Asked,
        upload: &mut Body,
        attempt: &mut Attempt<'_>,
        is_sent: &mut bool,
    ) -> Poll<Waited> {
        let moved_before = upload.moved;
        let Attempt {
            upstream,
            sent,
            sent_in_part,
            upstream_deaf,
            end,
            ..
        } = attempt;
        while *sent < out.len() && !*upstream_deaf {
            match upstream.stream.poll_put(cx, &out[*sent..]) {
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(_)) => *upstream_deaf = true,
                Poll::Pending => {
                    *sent_in_part |= upstream.endpoint.speaks_tls();
                    break;
                }
            }
        }
        if *sent < out.len() || *upstream_deaf {
            self.client.source().take_ahead(cx);
        } else if !*is_sent {
            match upload.poll(cx, self.client.source(), &mut upstream.stream) {
                Poll::Ready(Ok(())) => {
                    *is_sent = true;
                    self.client.request_is_over(upload);
                    self.set(*end, self.site.timeouts.first_byte);
                }
                Poll::Ready(Err(BodyError::TargetGone)) => *upstream_deaf = true,
                Poll::Ready(Err(BodyError::SourceGone)) => return Poll::Ready(Waited::ClientGone),
                Poll::Ready(Err(BodyError::Bad(bad))) => {
                    return Poll::Ready(Waited::BodyFailed(bad));
                }
                Poll::Pending if upload.moved != moved_before => {
                    self.set_for_body(asked, attempt, upload);
                }
                Poll::Pending => {}
            }
        }
        let Attempt {
            upstream, partial, ..
        } = attempt;
        let mut block = partial.take().unwrap_or_else(Block::lend);
        let had = block.len();
        match block.poll_fill(cx, &mut upstream.stream) {
            Poll::Ready(gone @ (Ok(0) | Err(_))) => {
                return Poll::Ready(Waited::UpstreamGone(Gone {
                    said_anything: had > 0,
                    error: gone.err(),
                }));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Waited::Bytes(block)),
            Poll::Pending if had > 0 => *partial = Some(block),
            Poll::Pending => drop(block),
        }
        // While its body waits for the backend, nothing is read from it that would tell.
        let is_gone = match *is_sent {
            true => self.client.poll_gone(cx),
            false => self.client.poll_taken_back(cx),
        };
        if is_gone.is_ready() {
            return Poll::Ready(Waited::ClientGone);
        }
        self.timer.poll_fired(cx).map(|()| Waited::TimedOut)
    }

    /// Reads a response head and writes it anew into `head_out`. `None`: more must come.
    fn read_head(
        &self,
        block: &Block,
        asked: &Asked,
        request_is_over: bool,
        cookie: Option<&str>,
        head_out: &mut C::Head,
    ) -> Result<Option<Returning>, BadHead> {
        let mut room = Room::new();
        let raw = block.filled();
        let head = match head::response(raw, asked.method, &self.kit.shared.head_limits, &mut room)
        {
            Ok(Parsed::Complete(head)) => head,
            Ok(Parsed::NeedMore) => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        };
        let becomes_tunnel = match (head.status, &asked.upgrade, head.upgrade) {
            // CASES R-11, W-05: only to what was asked for.
            (101, Some(wanted), Some(given)) if same(wanted, given) && request_is_over => true,
            (101, ..) => return Err(BadHead::Sent("a switch to a protocol nobody asked for")),
            _ => false,
        };
        let framing_back = match (head.framing, asked.version) {
            (Framing::Chunked | Framing::Close, Version::Http11) => Framing::Chunked,
            // Of HTTP/2 the head says nothing: frames do.
            (Framing::Chunked | Framing::Close, Version::Http10 | Version::Http2) => Framing::Close,
            (framing, _) => framing,
        };
        let close = head.status >= 200
            && (!asked.keep_alive
                || !request_is_over
                || framing_back == Framing::Close
                || self.kit.wheel.is_draining());
        let back = Back {
            site: self.site,
            wire: self.client.wire(),
            framing: framing_back,
            close,
            date: &self.kit.date(),
            to_head: asked.method == Method::Head,
            cookie,
        };
        forward::response_head(head_out, raw, &head, &back)
            .map_err(|_| BadHead::Sent("more connection options than a response has"))?;
        Ok(Some(Returning {
            status: head.status,
            framing: head.framing,
            framing_back,
            close,
            is_to_all: request_is_over,
            reusable: head.reusable,
            // A second less than it says: the race about who closes first is ours to avoid.
            keep_alive: head
                .keep_alive_seconds
                .map(|s| Duration::from_secs(u64::from(s.saturating_sub(1))).min(LONGEST_KEPT)),
            authenticates_connection: head.authenticates_connection,
            becomes_tunnel,
            head_bytes: head.bytes,
        }))
    }

    /// The backend left without a response.
    fn upstream_gone(
        &self,
        gone: Gone,
        asked: &Asked,
        upload: &Body,
        attempt: &Attempt<'_>,
        search: &mut Search<'_, '_>,
    ) -> Retry {
        let Gone {
            said_anything,
            error,
        } = gone;
        // It is as well as ever.
        if error.as_ref().is_some_and(upstream::takes_no_websockets) {
            let address = &attempt.upstream.endpoint.address;
            let why = format!(
                "h2c://{address} takes no WebSockets (RFC 8441); if it speaks HTTP/1.1 too, write \"{address}\""
            );
            let why = Some(self.of_site(&why));
            return Retry::Never(Failed::Answer(Answer::BackendNoWebSocket, why));
        }
        let breach = error.as_ref().and_then(upstream::breach);
        // What breaks a connection may have been said to somebody else.
        if let Some(breach) = breach.filter(|breach| breach.is_of_stream) {
            return self.malformed(attempt, search, &breach.to_string());
        }
        let said_anything = said_anything || attempt.interim > 0;
        // Of a body that has gone out nothing is left.
        let is_whole = !said_anything && upload.moved == 0;
        if is_whole
            && attempt.upstream.endpoint.speaks_tls()
            && error.as_ref().is_some_and(upstream::wants_http1)
        {
            search.insist_on_http1();
            search.retries += 1;
            return Retry::Again;
        }
        // CASES G-08.
        let is_passed_over = error.as_ref().is_some_and(upstream::is_untouched);
        // A stream that the backend resets has met nobody who was just closing the connection.
        let is_reset = is_passed_over || error.as_ref().is_some_and(upstream::is_stream_reset);
        let was_idle = attempt.upstream.reused && !attempt.upstream.is_pinned && !is_reset;
        let is_repeatable = !said_anything && attempt.is_repeatable(asked, upload);
        if was_idle && is_repeatable {
            return Retry::Fresh;
        }
        if is_whole && is_passed_over && search.goes_past(&attempt.visit) {
            return Retry::Again;
        }
        let address = &attempt.upstream.endpoint.address;
        // With TLS 1.3 a client certificate is refused after the handshake.
        let complaint = error.and_then(|error| tls::complaint(&error, address));
        let (answer, fault, why) = match (complaint, breach) {
            (Some(why), _) => (Answer::BackendTls, Fault::Tls, why),
            (None, Some(breach)) => {
                let why = format!("{address} sent {breach}");
                (Answer::BackendMalformed, Fault::Malformed, why)
            }
            (None, None) => {
                let what = if said_anything {
                    "before its response was there"
                } else {
                    "before it answered"
                };
                let why = format!("{address} closed the connection {what}");
                (Answer::BackendFailed, Fault::Failed, why)
            }
        };
        search.fails(&attempt.visit, fault, &why);
        if !is_passed_over {
            search.broke_off(&attempt.visit);
            if is_repeatable
                && !attempt.upstream.is_pinned
                && search.goes_again(&attempt.visit, Failure::Reset)
            {
                return Retry::Again;
            }
        }
        Retry::Never(Failed::Answer(answer, Some(self.of_site(&why))))
    }

    fn timed_out(
        &self,
        out: &[u8],
        asked: &Asked,
        upload: &Body,
        attempt: &Attempt<'_>,
        search: &Search<'_, '_>,
    ) -> Retry {
        if let Some(cut) = self.timer.cut() {
            return Retry::answer(cut.into());
        }
        let address = &attempt.upstream.endpoint.address;
        let waits_for_body = attempt.sent == out.len() && upload.waits_for_source();
        if waits_for_body && waits_for_100(asked, attempt, upload) {
            // Either may wait for the other (RFC 9110 10.1.1), and a client that never sends is no fault of the backend.
            let why = format!("{address} sent no 100 Continue, and the client no body without one");
            let why = Some(self.of_site(&why));
            return Retry::Never(Failed::Answer(Answer::BackendTimeout, why));
        }
        if waits_for_body {
            return Retry::answer(Answer::BodyTimeout);
        }
        let why = format!("{address} took the request and did not answer in time");
        if let Stream::Line(line) = &attempt.upstream.stream {
            line.give_up();
        }
        search.fails(&attempt.visit, Fault::Timeout, &why);
        search.broke_off(&attempt.visit);
        Retry::Never(Failed::Answer(
            Answer::BackendTimeout,
            Some(self.of_site(&why)),
        ))
    }

    fn malformed(&self, attempt: &Attempt<'_>, search: &Search<'_, '_>, what: &str) -> Retry {
        let why = format!("{} sent {what}", attempt.upstream.endpoint.address);
        search.fails(&attempt.visit, Fault::Malformed, &why);
        Retry::Never(Failed::Answer(
            Answer::BackendMalformed,
            Some(self.of_site(&why)),
        ))
    }

    fn bad_head(
        &self,
        attempt: &Attempt<'_>,
        search: &Search<'_, '_>,
        bad: &BadHead,
        block: &Block,
    ) -> Retry {
        let words = bad.words(block.filled(), &self.kit.shared.head_limits);
        let why = format!("{} {words}", attempt.upstream.endpoint.address);
        search.fails(&attempt.visit, Fault::Malformed, &why);
        let answer = match bad {
            BadHead::TooLarge => Answer::BackendHeadTooLarge,
            BadHead::NoHttp(_) | BadHead::Sent(_) => Answer::BackendMalformed,
        };
        Retry::Never(Failed::Answer(answer, Some(self.of_site(&why))))
    }

    /// A request in clear text is no client hello, and it has said so.
    fn behind_tls(&self, attempt: &Attempt<'_>, search: &Search<'_, '_>) -> Retry {
        let address = &attempt.upstream.endpoint.address;
        let why = format!("{address} speaks TLS; write \"https://{address}\"");
        search.fails(&attempt.visit, Fault::Tls, &why);
        Retry::Never(Failed::Answer(Answer::BackendTls, Some(self.of_site(&why))))
    }

    /// Sets the timer for a request body: the idle time, and no later than a client at the least rate would be here.
    fn set_for_body(&self, asked: &Asked, attempt: &Attempt<'_>, upload: &Body) {
        if self.is_patient || waits_for_100(asked, attempt, upload) {
            return self.set(attempt.end, self.site.timeouts.first_byte);
        }
        let wheel = self.timer.wheel();
        let mut at = wheel.at(self.site.timeouts.idle);
        if upload.waits_for_source()
            && let Some(rate) = self.site.limits.min_rate
        {
            let slowest = self.site.timeouts.grace + Duration::from_secs(upload.read / rate);
            at = at.min(wheel.after(attempt.began, slowest));
        }
        self.timer.set_at(attempt.end.map_or(at, |end| at.min(end)));
    }
}

impl Attempt<'_> {
    /// Whether the backend and we can only mean the same by what comes next on the upstream. CASES: one that
    /// has answered before the body was there, or without having asked for it, may take the body for a request.
    pub(super) fn is_in_step(&self, asked: &Asked, returning: &Returning) -> bool {
        returning.is_to_all && (self.wants_body || !asked.expects_continue)
    }

    /// Whether it may be sent once more: nothing has been sent, or it may be done twice and all that was sent is still here.
    fn is_repeatable(&self, asked: &Asked, upload: &Body) -> bool {
        let is_untouched = self.sent == 0 && !self.sent_in_part;
        is_untouched || asked.method.is_idempotent() && upload.moved == 0
    }

    /// Whether a request in clear text was answered with an alert (RFC 8446 5.1: its type, and a version that begins
    /// with 3).
    fn is_behind_tls(&self, block: &Block) -> bool {
        !self.upstream.endpoint.speaks_tls() && block.filled().starts_with(&[21, 3])
    }
}

/// Whether it is the app that is waited for: the client sends no body before it is told to go on.
fn waits_for_100(asked: &Asked, attempt: &Attempt<'_>, upload: &Body) -> bool {
    asked.expects_continue && !attempt.wants_body && upload.read == 0
}
