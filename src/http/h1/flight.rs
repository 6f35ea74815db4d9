//! One exchange with a backend: the request goes out, the response comes back, both at once where they overlap.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::body::{Body, BodyError};
use super::connection::{After, Asked, Departure, send};
use super::head::{self, Framing, Method, Parsed, Room, Version};
use crate::block::{Block, READ_BYTES, Sheet};
use crate::http::answer::Answer;
use crate::http::exchange;
use crate::http::field::same;
use crate::http::forward::{self, Back};
use crate::http::kit::Kit;
use crate::limits::{BODY_GRACE, BODY_RATE, INTERIM_RESPONSES};
use crate::observe::{Finished, Kind};
use crate::relay;
use crate::site::{Address, Backends, SendHost, Site};
use crate::stream::Stream;
use crate::upstream::{Upstream, UpstreamError};
use crate::wheel::{Tick, Timer};

/// What an exchange works with.
pub(super) struct Flight<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) timer: &'a Timer,
    pub(super) kit: &'a Rc<Kit>,
    pub(super) site: &'a Arc<Site>,
    pub(super) pinned: &'a mut Option<Box<Upstream>>,
}

/// How it ended.
pub(super) struct Landed {
    pub(super) after: After,
    pub(super) finished: Finished,
}

/// Our answer to a request body that does not reach its end.
pub(super) fn answer_to(error: &BodyError) -> Answer {
    match error {
        BodyError::Malformed(what) => Answer::BadBody(what),
        BodyError::TooLarge => Answer::BodyTooLarge,
        BodyError::SourceGone | BodyError::TargetGone => Answer::BackendFailed,
    }
}

/// Why there is no response to pass on.
enum Failed {
    /// We say so, and why to whom it concerns.
    Answer(Answer, Option<String>),
    /// The client is gone, or can no longer be told.
    Silent,
}

/// What is known of a response once its head has been written anew.
struct Returning {
    status: u16,
    framing: Framing,
    /// How the client is told where the body ends.
    framing_back: Framing,
    close: bool,
    reusable: bool,
    keep_alive: Option<Duration>,
    authenticates_connection: bool,
    becomes_tunnel: bool,
    head_bytes: usize,
}

/// What waiting for a response brought.
enum Waited {
    Bytes(Block),
    UpstreamGone { said_anything: bool },
    ClientGone,
    BodyFailed(BodyError),
    TimedOut,
}

/// The state of one attempt.
struct Attempt {
    upstream: Upstream,
    /// How much of the head (and a small body) has been sent.
    sent: usize,
    /// The backend takes no more; it may still answer.
    upstream_deaf: bool,
    /// Part of a response head.
    partial: Option<Block>,
    /// What the client sent behind this request.
    behind: Option<Block>,
    /// When the whole exchange must have ended.
    end: Option<Tick>,
    /// Since when the client owes the body: the time of its head, of our connect, and of the app's 100 is not its own.
    began: Tick,
    /// Responses before the final one.
    interim: u32,
}

impl Flight<'_> {
    /// Sends the request to a backend and the response back.
    pub(super) async fn fly(mut self, departure: Departure, started: Tick) -> Landed {
        let Departure {
            mut out,
            host_at,
            asked,
            mut upload,
            rule,
        } = departure;
        let mut finished = Finished {
            kind: Kind::Exchange,
            site: Some(self.site.number),
            status: 0,
            reason: None,
            from_client: 0,
            to_client: 0,
            retries: 0,
            took: Duration::ZERO,
        };
        let mut behind = upload.take_surplus();
        let end = self
            .site
            .timeouts
            .total
            .map(|total| self.timer.wheel().at(total));
        let mut fresh_only = false;
        let answered = loop {
            let upstream = match self.obtain(rule, fresh_only, &mut finished).await {
                Ok(upstream) => upstream,
                Err(failed) => break Err(failed),
            };
            if self.site.send_host == SendHost::Backend {
                // Each backend has its own.
                let host = backend_host(&upstream.address);
                let rest = out.split_off(host_at.start);
                let line_end = memchr::memchr(b'\r', &rest).unwrap_or(rest.len());
                out.extend_from_slice(host.as_bytes());
                out.extend_from_slice(&rest[line_end..]);
            }
            let mut attempt = Attempt {
                upstream,
                sent: 0,
                upstream_deaf: false,
                partial: None,
                behind: behind.take(),
                end,
                began: self.timer.wheel().now(),
                interim: 0,
            };
            match self.response(&out, &asked, &mut upload, &mut attempt).await {
                Ok((returning, head, block)) => break Ok((returning, head, block, attempt)),
                Err(retry) => {
                    behind = attempt.behind.take();
                    match retry {
                        Retry::Fresh => {
                            finished.retries += 1;
                            fresh_only = true;
                        }
                        Retry::Never(failed) => break Err(failed),
                    }
                }
            }
        };
        drop(out);
        let after = match answered {
            Ok((returning, head, block, attempt)) if returning.becomes_tunnel => {
                self.tunnel(head, block, attempt, &mut finished).await
            }
            Ok((returning, head, block, attempt)) => {
                self.pass_back(
                    returning,
                    head,
                    block,
                    attempt,
                    upload,
                    &asked,
                    &mut finished,
                )
                .await
            }
            Err(Failed::Answer(answer, why)) => {
                let next = upload.is_done() && asked.keep_alive && !self.kit.wheel.is_draining();
                let after = if next {
                    After::Next(behind)
                } else {
                    After::Linger
                };
                self.answer(answer, why, &asked, after, &mut finished).await
            }
            Err(Failed::Silent) => {
                finished.kind = Kind::Aborted;
                After::Abort
            }
        };
        finished.took = self.kit.since(started);
        Landed { after, finished }
    }

    /// An upstream: the one this client owns, an idle one, or a new one to the first backend that accepts.
    async fn obtain(
        &mut self,
        rule: Option<usize>,
        fresh_only: bool,
        finished: &mut Finished,
    ) -> Result<Upstream, Failed> {
        let Some(Backends { list }) = exchange::backends(self.site, rule) else {
            return Err(Failed::Answer(Answer::Internal, None));
        };
        if let Some(pinned) = self.pinned.take()
            && list.contains(&pinned.address)
            && pinned.is_quiet()
        {
            return Ok(*pinned);
        }
        let first = self.kit.turn(self.site.number, list.len());
        let mut last = None;
        for n in 0..list.len() {
            let address = &list[(first + n) % list.len()];
            if !fresh_only && let Some(idle) = self.kit.upstreams.take_idle(address) {
                return Ok(idle);
            }
            match self
                .kit
                .upstreams
                .open(address, self.site.timeouts.connect, self.timer)
                .await
            {
                Ok(upstream) => return Ok(upstream),
                Err(error) => {
                    if self.timer.was_cut() {
                        return Err(Failed::Answer(Answer::SiteGone, None));
                    }
                    if last.replace(error).is_some() {
                        finished.retries += 1;
                    }
                }
            }
        }
        Err(match last {
            Some(error) => Failed::Answer(Answer::from(&error), Some(self.why(&error))),
            None => Failed::Answer(Answer::Internal, None),
        })
    }

    /// Sends the request and waits for the head of the final response, or of a tunnel; passes on those before it.
    async fn response(
        &mut self,
        out: &[u8],
        asked: &Asked,
        upload: &mut Body,
        attempt: &mut Attempt,
    ) -> Result<(Returning, Sheet, Block), Retry> {
        self.set_for_body(asked, attempt, upload);
        let mut is_sent = false;
        loop {
            let waited =
                poll_fn(|cx| self.poll_response(cx, out, asked, upload, attempt, &mut is_sent))
                    .await;
            let mut block = match waited {
                Waited::Bytes(block) => block,
                Waited::UpstreamGone { said_anything } => {
                    return Err(self.upstream_gone(said_anything, asked, upload, attempt));
                }
                Waited::ClientGone => return Err(Retry::Never(Failed::Silent)),
                Waited::BodyFailed(BodyError::SourceGone) => {
                    return Err(Retry::Never(Failed::Silent));
                }
                Waited::BodyFailed(error) => return Err(Retry::answer(answer_to(&error))),
                Waited::TimedOut => return Err(self.timed_out(out, asked, upload, attempt)),
            };
            // Several heads may have come at once.
            loop {
                let mut head_out = Sheet::lend();
                let request_is_over = attempt.sent == out.len() && upload.is_done();
                let returning = match self.read_head(&block, asked, request_is_over, &mut head_out)
                {
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
                    Ok(None) => return Err(self.malformed(attempt, "a head that does not end")),
                    Err(what) => return Err(self.malformed(attempt, what)),
                };
                block.consume(returning.head_bytes);
                if returning.status >= 200 || returning.becomes_tunnel {
                    // Answered before it has the whole head: it gets no more, and nobody else gets it.
                    attempt.upstream_deaf |= attempt.sent < out.len();
                    return Ok((returning, head_out, block));
                }
                attempt.interim += 1;
                attempt.began = self.timer.wheel().now();
                if attempt.interim > INTERIM_RESPONSES {
                    return Err(self.malformed(attempt, "one interim response after the other"));
                }
                // RFC 9110 15.2: a 1.0 client knows none of them.
                if asked.version == Version::Http11 {
                    let sent = self
                        .timer
                        .within(self.site.timeouts.idle, send(self.client, &head_out))
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
        attempt: &mut Attempt,
        is_sent: &mut bool,
    ) -> Poll<Waited> {
        let moved_before = upload.moved;
        let Attempt {
            upstream,
            sent,
            upstream_deaf,
            behind,
            end,
            ..
        } = attempt;
        while *sent < out.len() && !*upstream_deaf {
            match upstream.stream.poll_put(cx, &out[*sent..]) {
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(_)) => *upstream_deaf = true,
                Poll::Pending => break,
            }
        }
        if *sent == out.len() && !*is_sent && !*upstream_deaf {
            match upload.poll(cx, self.client, &mut upstream.stream) {
                Poll::Ready(Ok(())) => {
                    *is_sent = true;
                    if behind.is_none() {
                        *behind = upload.take_surplus();
                    }
                    self.set(*end, self.site.timeouts.first_byte);
                }
                Poll::Ready(Err(BodyError::TargetGone)) => *upstream_deaf = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Waited::BodyFailed(error)),
                Poll::Pending if upload.moved != moved_before => {
                    self.set_for_body(asked, attempt, upload);
                }
                Poll::Pending => {}
            }
        }
        let Attempt {
            upstream,
            partial,
            behind,
            ..
        } = attempt;
        let mut block = partial.take().unwrap_or_else(Block::lend);
        let had = block.len();
        match block.poll_fill(cx, &mut upstream.stream) {
            Poll::Ready(Ok(0) | Err(_)) => {
                return Poll::Ready(Waited::UpstreamGone {
                    said_anything: had > 0,
                });
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Waited::Bytes(block)),
            Poll::Pending if had > 0 => *partial = Some(block),
            Poll::Pending => drop(block),
        }
        if *is_sent && poll_client_gone(cx, self.client, behind).is_ready() {
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
        head_out: &mut Sheet,
    ) -> Result<Option<Returning>, &'static str> {
        let mut room = Room::new();
        let raw = block.filled();
        let head = match head::response(raw, asked.method, &self.kit.shared.head_limits, &mut room)
        {
            Ok(Parsed::Complete(head)) => head,
            Ok(Parsed::NeedMore) => return Ok(None),
            Err(head::HeadRefusal::Malformed(what)) => return Err(what),
            Err(head::HeadRefusal::TooLarge) => return Err("a head that is too large"),
            Err(head::HeadRefusal::CodingNotSupported) => {
                return Err("a transfer coding nobody asked for");
            }
            Err(_) => return Err("a head that is not one"),
        };
        let becomes_tunnel = match (head.status, &asked.upgrade, head.upgrade) {
            // CASES R-11, W-05: only to what was asked for.
            (101, Some(wanted), Some(given)) if same(wanted, given) && request_is_over => true,
            (101, ..) => return Err("a switch to a protocol nobody asked for"),
            _ => false,
        };
        let framing_back = match (head.framing, asked.version) {
            (Framing::Chunked | Framing::Close, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::Close, Version::Http10) => Framing::Close,
            (framing, _) => framing,
        };
        let close = head.status >= 200
            && (!asked.keep_alive
                || !request_is_over
                || framing_back == Framing::Close
                || self.kit.wheel.is_draining());
        let back = Back {
            site: self.site,
            framing: framing_back,
            close,
            date: &self.kit.date(),
            to_head: asked.method == Method::Head,
        };
        forward::response_head(head_out, raw, &head, &back);
        Ok(Some(Returning {
            status: head.status,
            framing: head.framing,
            framing_back,
            close,
            reusable: head.reusable,
            // A second less than it says: the race about who closes first is ours to avoid.
            keep_alive: head
                .keep_alive_seconds
                .map(|s| Duration::from_secs(u64::from(s.saturating_sub(1)))),
            authenticates_connection: head.authenticates_connection,
            becomes_tunnel,
            head_bytes: head.bytes,
        }))
    }

    /// Passes the response back while the rest of the request goes out.
    #[expect(
        clippy::too_many_arguments,
        reason = "the second half of `fly`: all of it is handed over once"
    )]
    async fn pass_back(
        &mut self,
        returning: Returning,
        head: Sheet,
        block: Block,
        mut attempt: Attempt,
        mut upload: Body,
        asked: &Asked,
        finished: &mut Finished,
    ) -> After {
        let chunked = returning.framing_back == Framing::Chunked;
        let mut download = Body::new(
            returning.framing,
            chunked,
            None,
            self.kit.shared.head_limits,
        );
        if download.take(block).is_err() {
            // Nothing of it has been passed on, so it can still be said.
            let why = format!("{} sent a body that is not one", attempt.upstream.address);
            let why = Some(self.of_site(&why));
            return self
                .answer(
                    Answer::BackendMalformed,
                    why,
                    asked,
                    After::Linger,
                    finished,
                )
                .await;
        }
        finished.status = returning.status;
        finished.kind = Kind::Aborted;
        let idle = self.site.timeouts.idle;
        self.set(attempt.end, idle);
        if let Err(body) = download.put_in_front(&head) {
            download.put_back(body);
            let sent = self.timer.within(idle, send(self.client, &head)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return After::Abort;
            }
            self.set(attempt.end, idle);
        }
        drop(head);
        let client_stopped = returning.close && !upload.is_done();
        let passed =
            poll_fn(|cx| self.poll_both_ways(cx, &mut upload, &mut download, &mut attempt)).await;
        finished.from_client = upload.moved;
        finished.to_client = download.moved;
        if passed.is_err() {
            return After::Abort;
        }
        finished.kind = Kind::Exchange;
        let Attempt {
            upstream,
            upstream_deaf,
            behind,
            ..
        } = attempt;
        // CASES R-07: whatever came behind the response was not asked for.
        let is_clean = download.take_surplus().is_none() && upload.is_done() && !upstream_deaf;
        if returning.reusable && is_clean {
            let kept_for = returning.keep_alive.unwrap_or(self.site.timeouts.pool_idle);
            let authenticates =
                returning.authenticates_connection || asked.authenticates_connection;
            self.keep(upstream, kept_for, authenticates);
        }
        if client_stopped || !upload.is_done() {
            return After::Linger;
        }
        if returning.close || !asked.keep_alive {
            return After::Close;
        }
        After::Next(behind)
    }

    fn poll_both_ways(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Body,
        download: &mut Body,
        attempt: &mut Attempt,
    ) -> Poll<Result<(), ()>> {
        let before = upload.moved + download.moved;
        if !upload.is_done() && !attempt.upstream_deaf {
            match upload.poll(cx, self.client, &mut attempt.upstream.stream) {
                Poll::Ready(Ok(())) => {
                    if attempt.behind.is_none() {
                        attempt.behind = upload.take_surplus();
                    }
                }
                Poll::Ready(Err(BodyError::TargetGone)) => attempt.upstream_deaf = true,
                // The answer has begun: nothing can be said any more (CASES reject-body-error).
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(done) = download.poll(cx, &mut attempt.upstream.stream, self.client) {
            return Poll::Ready(done.map_err(drop));
        }
        if upload.is_done() && poll_client_gone(cx, self.client, &mut attempt.behind).is_ready() {
            return Poll::Ready(Err(()));
        }
        if upload.moved + download.moved != before {
            self.set(attempt.end, self.site.timeouts.idle);
        }
        self.timer.poll_fired(cx).map(|()| Err(()))
    }

    /// Hands both sides to the relay: the backend has agreed to speak something else from here on.
    async fn tunnel(
        &mut self,
        head: Sheet,
        block: Block,
        mut attempt: Attempt,
        finished: &mut Finished,
    ) -> After {
        finished.status = 101;
        finished.kind = Kind::Tunnel;
        let sent = self
            .timer
            .within(self.site.timeouts.idle, send(self.client, &head))
            .await;
        if !matches!(sent, Ok(Ok(()))) {
            return After::Abort;
        }
        drop(head);
        let early = (!block.is_empty()).then_some(block);
        let outcome = relay::both(
            self.client,
            attempt.behind.take(),
            &mut attempt.upstream.stream,
            early,
            self.site.timeouts.websocket_idle,
            self.timer,
        )
        .await;
        finished.from_client = outcome.from_client;
        finished.to_client = outcome.from_upstream;
        match outcome.ending {
            relay::Ending::Broken => {
                attempt.upstream.stream.abort();
                After::Abort
            }
            relay::Ending::Finished | relay::Ending::Idle | relay::Ending::Cut => After::Close,
        }
    }

    /// Keeps an upstream whose exchange ended where it should.
    fn keep(&mut self, upstream: Upstream, kept_for: Duration, authenticates_connection: bool) {
        // NTLM and Negotiate authenticate the connection: nobody else may ever use it.
        if authenticates_connection || upstream.is_pinned {
            *self.pinned = Some(Box::new(Upstream {
                is_pinned: true,
                ..upstream
            }));
        } else if !kept_for.is_zero() {
            self.kit.upstreams.give_back(upstream, kept_for);
        }
    }

    /// The backend left without a response.
    fn upstream_gone(
        &self,
        said_anything: bool,
        asked: &Asked,
        upload: &Body,
        attempt: &Attempt,
    ) -> Retry {
        let said_anything = said_anything || attempt.interim > 0;
        let was_idle = attempt.upstream.reused && !attempt.upstream.is_pinned;
        let is_repeatable =
            attempt.sent == 0 || (asked.method.is_idempotent() && upload.moved == 0);
        if was_idle && !said_anything && is_repeatable {
            return Retry::Fresh;
        }
        let what = if said_anything {
            "before its response was there"
        } else {
            "before it answered"
        };
        let why = format!("{} closed the connection {what}", attempt.upstream.address);
        Retry::Never(Failed::Answer(
            Answer::BackendFailed,
            Some(self.of_site(&why)),
        ))
    }

    fn timed_out(&self, out: &[u8], asked: &Asked, upload: &Body, attempt: &Attempt) -> Retry {
        if self.timer.was_cut() {
            return Retry::answer(Answer::SiteGone);
        }
        let waits_for_client = upload.waits_for_source() && !waits_for_100(asked, attempt, upload);
        if attempt.sent == out.len() && waits_for_client {
            return Retry::answer(Answer::BodyTimeout);
        }
        let why = format!(
            "{} took the request and did not answer in time",
            attempt.upstream.address
        );
        Retry::Never(Failed::Answer(
            Answer::BackendTimeout,
            Some(self.of_site(&why)),
        ))
    }

    fn malformed(&self, attempt: &Attempt, what: &str) -> Retry {
        let why = format!("{} sent {what}", attempt.upstream.address);
        Retry::Never(Failed::Answer(
            Answer::BackendMalformed,
            Some(self.of_site(&why)),
        ))
    }

    fn why(&self, error: &UpstreamError) -> String {
        self.of_site(&match error {
            UpstreamError::Refused { backend, source } => {
                format!("{backend} does not accept connections: {source}")
            }
            UpstreamError::TimedOut { backend, after } => {
                format!("{backend} did not accept within {after:?}")
            }
            UpstreamError::Unresolved { backend, source } => {
                format!("{backend} has no address: {source}")
            }
        })
    }

    fn of_site(&self, why: &str) -> String {
        format!("site {}: {why}", self.site.name)
    }

    /// Sends an answer of our own in place of a response.
    async fn answer(
        &mut self,
        answer: Answer,
        why: Option<String>,
        asked: &Asked,
        after: After,
        finished: &mut Finished,
    ) -> After {
        let mut out = Sheet::lend();
        let why = why.filter(|_| asked.may_be_told_why);
        let close = !matches!(after, After::Next(_));
        answer.write(
            &mut out,
            &self.kit.date(),
            close,
            asked.method != Method::Head,
            why.as_deref(),
        );
        let (status, reason, _) = answer.parts();
        finished.status = status;
        finished.reason = Some(reason);
        finished.to_client = out.len() as u64;
        self.timer.serving(None);
        match self
            .timer
            .within(self.site.timeouts.idle, send(self.client, &out))
            .await
        {
            Ok(Ok(())) => after,
            Ok(Err(_)) | Err(_) => After::Abort,
        }
    }

    /// Sets the timer for a request body: the idle time, and no later than a client at the least rate would be here.
    fn set_for_body(&self, asked: &Asked, attempt: &Attempt, upload: &Body) {
        if waits_for_100(asked, attempt, upload) {
            return self.set(attempt.end, self.site.timeouts.first_byte);
        }
        let wheel = self.timer.wheel();
        let mut at = wheel.at(self.site.timeouts.idle);
        if upload.waits_for_source() {
            let slowest = BODY_GRACE + Duration::from_secs(upload.read / BODY_RATE);
            at = at.min(wheel.after(attempt.began, slowest));
        }
        self.timer.set_at(attempt.end.map_or(at, |end| at.min(end)));
    }

    /// Sets the timer, but never behind the end of the whole exchange.
    fn set(&self, end: Option<Tick>, after: Duration) {
        let at = self.timer.wheel().at(after);
        self.timer.set_at(end.map_or(at, |end| at.min(end)));
    }
}

/// Whether another attempt may be made.
enum Retry {
    /// On an upstream that has not been used before.
    Fresh,
    Never(Failed),
}

impl Retry {
    fn answer(answer: Answer) -> Retry {
        Retry::Never(Failed::Answer(answer, None))
    }
}

/// Notices a client that leaves while it is owed a response. What it sends ahead is kept in `behind`; as long as
/// something is there nothing more is read, so one block is all that a client can make us hold.
fn poll_client_gone(
    cx: &mut Context<'_>,
    client: &mut Stream,
    behind: &mut Option<Block>,
) -> Poll<()> {
    if behind.is_some() || client.poll_readable(cx).is_pending() {
        return Poll::Pending;
    }
    let mut block = Block::lend();
    match block.poll_fill(cx, client) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
        Poll::Ready(Ok(_)) => {
            *behind = Some(block);
            Poll::Pending
        }
    }
}

/// Whether it is the app that is waited for: the client sends no body before it is told to go on.
fn waits_for_100(asked: &Asked, attempt: &Attempt, upload: &Body) -> bool {
    asked.expects_continue && attempt.interim == 0 && upload.read == 0
}

/// What `send_host = "backend"` says to a backend.
fn backend_host(address: &Address) -> String {
    match address {
        Address::Loopback { port } => format!("127.0.0.1:{port}"),
        Address::Ip(at) => at.to_string(),
        Address::Name { name, port: 80 } => name.to_string(),
        Address::Name { name, port } => format!("{name}:{port}"),
        Address::Unix(_) => "localhost".to_owned(),
    }
}
