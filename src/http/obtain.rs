//! An upstream for an exchange, whatever version it arrived in: which backend, idle or new.
//!
//! A [`Search`] lives as long as its exchange does and remembers what was tried; what it finds is a [`Found`], whose
//! [`Visit`] counts the request at the backend until it is dropped. What comes of the visit is told to the search, and
//! so to everybody who chooses after it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answer::Answer;
use super::exchange;
use super::kit::Kit;
use crate::site::fitness::Against;
use crate::site::{Backends, Member, Site};
use crate::upstream::{
    Among, Endpoint, InFlight, Phase, Tried, Upstream, UpstreamError, Way, moment,
};
use crate::wheel::Timer;

/// See the module.
#[derive(Debug)]
pub(super) struct Search<'a> {
    kit: &'a Kit,
    timer: &'a Timer,
    site: &'a Arc<Site>,
    rule: Option<usize>,
    /// What `balance = "hash:..."` hashes of the request, hashed.
    hash: Option<u64>,
    /// What an upstream begins with that belongs to one client alone: the site's PROXY header. `None`: nothing, so that
    /// idle ones serve.
    introduction: Option<Vec<u8>>,
    tried: Tried,
    /// An idle upstream has turned out to be closed: another may be, too.
    fresh_only: bool,
    /// Connects that failed and were followed by another.
    pub(super) retries: u32,
}

/// An upstream and the request's visit there.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) upstream: Upstream,
    pub(super) visit: Visit<'a>,
}

/// A request at a backend, counted there for as long as this lives.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    /// Its place in the list.
    at: usize,
    _in_flight: InFlight<'a>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct NotFound {
    pub(super) answer: Answer,
    /// For those who may know.
    pub(super) why: Option<String>,
}

impl<'a> Search<'a> {
    /// For a request of the path rule `rule` of `site`, or of the site.
    pub(super) fn new(
        kit: &'a Kit,
        timer: &'a Timer,
        site: &'a Arc<Site>,
        rule: Option<usize>,
        hash: Option<u64>,
    ) -> Search<'a> {
        Search {
            kit,
            timer,
            site,
            rule,
            hash,
            introduction: None,
            tried: Tried::default(),
            fresh_only: false,
            retries: 0,
        }
    }

    /// Each upstream begins with this, and none is shared.
    pub(super) fn introduce(&mut self, introduction: Vec<u8>) {
        self.introduction = Some(introduction);
    }

    /// From now on only upstreams that have not been used before.
    pub(super) fn insist_on_fresh(&mut self) {
        self.fresh_only = true;
    }

    /// The visit to a backend of this request that `endpoint` is one of: of an upstream that the caller has already.
    pub(super) fn visit(&self, endpoint: &Endpoint) -> Option<Visit<'a>> {
        let list = &self.backends()?.list;
        let at = list.iter().position(|m| endpoint.is_of(&m.backend))?;
        Some(self.enter(at, &list[at]))
    }

    /// An idle upstream, or a new one to the first backend that accepts.
    ///
    /// # Errors
    /// What the client is answered when there is none.
    pub(super) async fn upstream(&mut self) -> Result<Found<'a>, NotFound> {
        let Some(backends) = self.backends() else {
            return Err(Answer::Internal.into());
        };
        let mut last = None;
        while let Some(at) = self.choose(backends) {
            let member = &backends.list[at];
            if !self.fresh_only
                && self.introduction.is_none()
                && let Some(upstream) = self.kit.upstreams.take_idle(&member.backend)
            {
                let visit = self.enter(at, member);
                return Ok(Found { upstream, visit });
            }
            match self.open(at, member).await? {
                Ok(found) => return Ok(found),
                Err(error) => {
                    self.tried.add(at);
                    if last.replace(error).is_some() {
                        self.retries += 1;
                    }
                }
            }
            // A list of more has places that nobody remembers.
            if at >= 64 {
                break;
            }
        }
        Err(match last {
            Some(error) => NotFound {
                answer: Answer::from(&error),
                why: Some(self.of_site(&words(&error))),
            },
            None => Answer::Internal.into(),
        })
    }

    /// The backend whose turn it is: a fit one, or any when none is.
    fn choose(&self, backends: &Backends) -> Option<usize> {
        let way = Way {
            balance: &self.site.balancing.by,
            slow_start: self.site.balancing.slow_start,
            hash: self.hash,
        };
        let balancer = &self.kit.balancer;
        let fit = balancer.choose(backends, way, self.tried, Among::Fit);
        fit.or_else(|| balancer.choose(backends, way, self.tried, Among::All))
    }

    /// A new upstream to `member`; inside, why that backend gives none.
    async fn open(
        &self,
        at: usize,
        member: &Member,
    ) -> Result<Result<Found<'a>, UpstreamError>, NotFound> {
        // Held until the backend has accepted, or has not.
        let most = self.site.limits.connecting;
        let Some(_connecting) = self.site.slots.connecting(most) else {
            let why = format!("{most} requests wait for a connection already");
            return Err(NotFound {
                answer: Answer::SiteBusy,
                why: Some(self.of_site(&why)),
            });
        };
        let visit = self.enter(at, member);
        let first = self.introduction.as_deref().unwrap_or_default();
        let limit = self.site.timeouts.connect;
        let opened = self
            .kit
            .upstreams
            .open(&member.backend, first, limit, self.timer)
            .await;
        match opened {
            Ok(upstream) => {
                accepted(member);
                let introduced = self.site.send_proxy;
                let upstream = Upstream {
                    introduced,
                    ..upstream
                };
                Ok(Ok(Found { upstream, visit }))
            }
            Err(_) if self.timer.was_cut() => Err(Answer::SiteGone.into()),
            // No other backend would find more.
            Err(error @ UpstreamError::Exhausted { .. }) => Err(NotFound {
                answer: Answer::from(&error),
                why: Some(self.of_site(&words(&error))),
            }),
            Err(error) => {
                refused(member);
                Ok(Err(error))
            }
        }
    }

    fn enter(&self, at: usize, member: &Member) -> Visit<'a> {
        Visit {
            at,
            _in_flight: self.kit.balancer.enter(member),
        }
    }

    fn backends(&self) -> Option<&'a Backends> {
        exchange::backends(self.site, self.rule)
    }

    fn of_site(&self, why: &str) -> String {
        format!("site {}: {why}", self.site.name)
    }
}

impl From<Answer> for NotFound {
    fn from(answer: Answer) -> NotFound {
        NotFound { answer, why: None }
    }
}

/// A connect succeeded. Only reads, where the last one had, too.
fn accepted(member: &Member) {
    let endpoint = &member.state.endpoint;
    endpoint.connects.ends();
    if endpoint.refused_since.load(Ordering::Relaxed) != 0 {
        endpoint.refused_since.store(0, Ordering::Relaxed);
    }
    if !endpoint.fitness.is_fit() {
        endpoint.fitness.clear(Against::Failures, moment());
    }
}

fn refused(member: &Member) {
    let endpoint = &member.state.endpoint;
    endpoint.connects.failed();
    // The first of a row.
    endpoint
        .refused_since
        .compare_exchange(0, moment(), Ordering::Relaxed, Ordering::Relaxed)
        .ok();
}

/// Why there is no upstream, for a person.
fn words(error: &UpstreamError) -> String {
    match error {
        UpstreamError::Refused { backend, source } => {
            format!("{backend} does not accept connections: {source}")
        }
        UpstreamError::TimedOut {
            backend,
            after,
            during,
        } => match during {
            Phase::Connect => format!("{backend} did not accept within {after:?}"),
            Phase::Handshake => format!(
                "{backend} accepted and did not finish the TLS handshake within {after:?}; does it speak TLS?"
            ),
            Phase::Files => {
                format!("the files that TLS with {backend} needs were not read within {after:?}")
            }
        },
        UpstreamError::Tls { why, .. } => why.clone(),
        UpstreamError::Unresolved { backend, source } => {
            format!("{backend} has no address: {source}")
        }
        UpstreamError::Exhausted { source } => {
            format!("onedoor cannot open another connection: {source}")
        }
    }
}
