//! One exchange with a backend: the request goes out, the response comes back, both at once where they overlap.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use self::attempt::{Attempt, Retry};
use self::way_back::{Keep, Passed};
use super::body::BadBody;
use super::departure::{After, Asked, Departure, Order};
use super::h1::head::{Method, Version};
use super::side::{ClientSide, Source};
use crate::block::Sheet;
use crate::http::answer::Answer;
use crate::http::kit::{Client, Kit};
use crate::http::logged;
use crate::http::obtain::{Found, NotFound, Patient, Search};
use crate::observe::{Finished, Kind, Protocol};
use crate::proxy_header::{self, Beside, Ends};
use crate::site::{SendHost, SendProxy, Site};
use crate::tls::Secure;
use crate::upstream::Upstream;
use crate::wheel::{Tick, Timer};

mod attempt;
mod way_back;

/// What an exchange works with.
pub(super) struct Flight<'a, C> {
    pub(super) client: &'a mut C,
    pub(super) who: &'a Client,
    /// What is known of its TLS, where that ends here.
    pub(super) secure: Option<&'a Secure>,
    pub(super) timer: &'a Timer,
    pub(super) kit: &'a Rc<Kit>,
    pub(super) site: &'a Arc<Site>,
    /// An upstream that is this client connection's alone.
    pub(super) pinned: &'a mut Option<Box<Upstream>>,
    /// Whether both sides may be silent for as long as they like.
    pub(super) is_patient: bool,
}

/// How it ended.
pub(super) struct Landed {
    pub(super) after: After,
    pub(super) finished: Finished,
}

/// Our answer to a request body that is not passed on to its end.
pub(super) fn answer_to(bad: &BadBody) -> Answer {
    match bad {
        BadBody::Malformed(what) => Answer::BadBody(what),
        BadBody::TooLarge => Answer::BodyTooLarge,
    }
}

/// Why there is no response to pass on.
enum Failed {
    /// We say so, and why to whom it concerns.
    Answer(Answer, Option<String>),
    /// The client is gone, or can no longer be told.
    Silent,
}

impl<'a, C: ClientSide> Flight<'a, C> {
    /// Sends the request to a backend and the response back.
    pub(super) async fn fly(mut self, departure: &mut Departure, started: Tick) -> Landed {
        let Departure { order, upload } = departure;
        let Order {
            out,
            host_at,
            asked,
            rule,
            affinity,
            log,
        } = order;
        let asked = &*asked;
        let mut finished = Finished {
            watch: self.kit.watch(),
            log: log.take(),
            ..Finished::of(
                Kind::Exchange,
                protocol(asked.version),
                Some(self.site.number),
            )
        };
        self.client.request_is_over(upload);
        let end = self
            .site
            .timeouts
            .total
            .map(|total| self.timer.wheel().at(total));
        let mut search = Search::new(self.kit, self.timer, self.site, *rule, *affinity, end);
        if asked.upgrade.is_some() {
            search.insist_on_http1();
        }
        if !asked.method.is_idempotent() {
            search.leave_trials();
        }
        // Here and lent to whoever works with it: it is large, and moved from hand to hand it would be copied each time.
        let mut under_way = None;
        let answered = loop {
            let is_over = upload.is_done();
            let Found { upstream, visit } = match self.obtain(&mut search, is_over).await {
                Ok(found) => found,
                Err(failed) => {
                    if let (Some(log), Some(address)) = (&mut finished.log, search.gave_none()) {
                        log.has_backend(|text| logged::put_backend(text, address));
                    }
                    break Err(failed);
                }
            };
            // Elsewhere it is no call of gRPC, whatever it says: there its words would only hold an upstream for ever.
            self.is_patient = asked.is_grpc && upstream.is_shared();
            match upstream.is_opened() {
                true => self.kit.counters.opened.add(1),
                false => self.kit.counters.reused.add(1),
            }
            if let Some(log) = &mut finished.log {
                let address = &upstream.endpoint.address;
                self.kit.access.has_upstream(log, !upstream.reused, |text| {
                    logged::put_backend(text, address);
                });
            }
            if self.site.send_host == SendHost::Backend {
                // Each backend has its own.
                let host = search.host(&visit);
                let rest = out.split_off(host_at.start);
                let line_end = memchr::memchr(b'\r', &rest).unwrap_or(rest.len());
                out.extend_from_slice(host.as_bytes());
                out.extend_from_slice(&rest[line_end..]);
            }
            let attempt = under_way.insert(Attempt {
                upstream,
                visit,
                sent: 0,
                sent_in_part: false,
                upstream_deaf: false,
                partial: None,
                end,
                began: self.timer.wheel().now(),
                interim: 0,
                wants_body: false,
                reusable: true,
            });
            let response = self.response(out, asked, upload, attempt, &mut search);
            let failed = match response.await {
                Ok((returning, head, block)) => break Ok((returning, head, block, attempt)),
                Err(failed) => failed,
            };
            // Before the next one begins, or the client hears of it.
            under_way = None;
            match failed {
                Retry::Fresh => search.insist_on_fresh(),
                Retry::Again => {}
                Retry::Never(failed) => break Err(failed),
            }
            if let Some(log) = &mut finished.log {
                self.kit.access.tries_again(log);
            }
        };
        out.give_back();
        if let (Some(log), Ok(_)) = (&mut finished.log, &answered) {
            self.kit.access.has_response(log);
        }
        let after = match answered {
            Ok((returning, head, block, attempt)) if returning.becomes_tunnel => {
                self.tunnel(head, block, attempt, &mut finished).await
            }
            Ok((returning, head, block, attempt)) => {
                let passed = self.pass_back(
                    returning,
                    head,
                    block,
                    attempt,
                    upload,
                    asked,
                    &search,
                    &mut finished,
                );
                let Passed { after, keep } = passed.await;
                if let (Some(keep), Some(Attempt { upstream, .. })) = (keep, under_way) {
                    self.keep(upstream, keep);
                }
                after
            }
            Err(Failed::Answer(answer, why)) => {
                let next = upload.is_done() && asked.keep_alive && !self.kit.wheel.is_draining();
                let after = if next {
                    After::Next(self.client.behind())
                } else {
                    After::Linger
                };
                self.answer(answer, why, asked, after, &mut finished).await
            }
            Err(Failed::Silent) => {
                finished.kind = Kind::Aborted;
                After::Abort
            }
        };
        finished.retries = search.retries;
        finished.took = self.kit.since(started);
        Landed { after, finished }
    }

    /// An upstream: the one this client owns, or one that the search finds.
    /// `is_over`: the client has sent its request to the end.
    async fn obtain(
        &mut self,
        search: &mut Search<'a, '_>,
        is_over: bool,
    ) -> Result<Found<'a>, Failed> {
        let send_proxy = self.site.send_proxy;
        if let Some(pinned) = self.pinned.take()
            && pinned.introduced == send_proxy
            && pinned.kept_until >= self.timer.wheel().now()
            && let Some(visit) = search.visit(&pinned.endpoint)
            && pinned.is_quiet()
        {
            let upstream = *pinned;
            return Ok(Found { upstream, visit });
        }
        if let Some(version) = send_proxy {
            search.introduce(self.introduction(version));
        }
        let mut client = Waits {
            client: &mut *self.client,
            is_over,
        };
        let found = search.upstream(&mut client).await;
        found.map_err(|not_found| match not_found {
            NotFound::Answer(answer, why) => Failed::Answer(answer, why),
            NotFound::ClientGone => Failed::Silent,
        })
    }

    /// What an upstream begins with, so that the backend knows whose connection it is.
    fn introduction(&self, version: SendProxy) -> Vec<u8> {
        let mut header = Vec::new();
        let ends = Ends {
            client: self.who.address,
            local: self.who.local,
        };
        let is_address = |name: &&str| name.parse::<IpAddr>().is_ok();
        let beside = Beside {
            sni: self
                .secure
                .map(|secure| &*secure.name)
                .filter(|name| !is_address(name)),
            alpn: self.client.alpn().unwrap_or_default(),
        };
        proxy_header::write(&mut header, version, ends, beside);
        header
    }

    /// Keeps an upstream whose exchange ended where it should.
    fn keep(&mut self, upstream: Upstream, keep: Keep) {
        let Keep {
            kept_for,
            authenticates_connection,
        } = keep;
        // NTLM and Negotiate authenticate the connection: nobody else may ever use it.
        if authenticates_connection || upstream.is_pinned {
            *self.pinned = Some(Box::new(Upstream {
                is_pinned: true,
                // As long as the client: an earlier exchange has said for how long it was kept, as one of many.
                kept_until: Tick::MAX,
                ..upstream
            }));
        } else if upstream.introduced.is_some() {
            // What its backend closes is opened anew.
            let kept_until = self.timer.wheel().at(kept_for);
            *self.pinned = (!kept_for.is_zero()).then(|| {
                Box::new(Upstream {
                    reused: true,
                    kept_until,
                    ..upstream
                })
            });
        } else if !kept_for.is_zero() {
            self.kit.upstreams.give_back(upstream, kept_for);
        }
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
            .within(self.site.timeouts.idle, self.client.put_answer(&out))
            .await
        {
            Ok(Ok(())) => after,
            Ok(Err(_)) | Err(_) => After::Abort,
        }
    }

    /// Sets the timer, but never behind the end of the whole exchange.
    fn set(&self, end: Option<Tick>, after: Duration) {
        if self.is_patient {
            return self.timer.set_at(end.unwrap_or(Tick::MAX));
        }
        let at = self.timer.wheel().at(after);
        self.timer.set_at(end.map_or(at, |end| at.min(end)));
    }
}

/// A client that waits for an upstream.
struct Waits<'c, C> {
    client: &'c mut C,
    is_over: bool,
}

impl<C: ClientSide> Patient for Waits<'_, C> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What comes of its body, or behind it, is for later.
        self.take_ahead(cx);
        if self.client.has_left(cx) {
            return Poll::Ready(());
        }
        match self.is_over {
            true => self.client.poll_gone(cx),
            false => Poll::Pending,
        }
    }

    fn take_ahead(&mut self, cx: &mut Context<'_>) {
        if !self.is_over {
            self.client.source().take_ahead(cx);
        }
    }
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 | Version::Http11 => Protocol::Http1,
        Version::Http2 => Protocol::Http2,
    }
}
