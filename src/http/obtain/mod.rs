//! An upstream for an exchange, whatever version it arrived in: which backend, idle or new.
//!
//! A [`Search`] lives as long as its exchange does and remembers what was tried; what it finds is a [`Found`], whose
//! [`Visit`] counts the request at the backend until it is dropped. What comes of the visit is told to the search
//! (`learn`), and so to everybody who chooses after it. Where there is nobody to go to, the request waits (`hold`).

mod affinity;
mod budget;
mod fault;
mod hold;
mod learn;
mod round;
mod turn;
mod words;

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::answer::Answer;
use super::exchange;
use super::kit::Kit;
use crate::observe::Reason;
use crate::site::fitness;
use crate::site::{Address, Backends, Member, PathPattern, Site};
use crate::upstream::{Among, Endpoint, InFlight, Speaks, Tried, Upstream, Way, moment};
use crate::wheel::{Tick, Timer};

pub(crate) use affinity::Affinity;
pub(super) use budget::Budget;
pub(super) use learn::Failure;
use turn::{Trial, Turn};

/// How long, in milliseconds, the trial of a backend is left to requests that can be sent again. A minute: a site that has
/// none of them, as one of gRPC alone, must have its backends back all the same.
const SCOUTS_FIRST: fitness::Moment = 60_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Search<'k, 'a> {
    kit: &'k Kit,
    timer: &'a Timer,
    /// The version that the exchange began with.
    site: &'a Arc<Site>,
    /// The version that the request has followed its site to, while it was held.
    followed: Option<Followed>,
    rule: Option<usize>,
    affinity: Affinity,
    /// What an upstream begins with that belongs to one client alone: the site's PROXY header. `None`: nothing, so that
    /// idle ones serve.
    introduction: Option<Vec<u8>>,
    speaks: Speaks,
    /// It may find out whether a backend that was out is back: were it lost, it could be sent again.
    is_scout: bool,
    tried: Tried,
    /// Those at their `max`.
    full: Tried,
    /// Chosen already.
    next: Option<usize>,
    /// An idle upstream has turned out to be closed: another may be, too.
    fresh_only: bool,
    /// How often it was sent again.
    again: u32,
    /// When the whole exchange must have ended.
    end: Option<Tick>,
    gave_none: Option<Address>,
    /// Attempts that came to nothing and were followed by another.
    pub(crate) retries: u32,
}

/// An upstream and the request's visit there.
#[derive(Debug)]
pub(crate) struct Found<'k> {
    pub(crate) upstream: Upstream,
    pub(crate) visit: Visit<'k>,
}

/// A request at a backend, counted there for as long as this lives.
#[derive(Debug)]
pub(crate) struct Visit<'k> {
    /// Its place in the list.
    at: usize,
    /// Whether that is the list of the version before.
    of_before: bool,
    _in_flight: InFlight<'k>,
    /// Its place among the `max`, where there is one.
    _turn: Option<Turn>,
    /// Until it is judged: what comes of it later says nothing about whether the backend is back.
    trial: RefCell<Option<Trial>>,
}

#[derive(Debug)]
struct Followed {
    site: Arc<Site>,
    rule: Option<usize>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum NotFound {
    /// What the client is answered, and why for those who may know.
    Answer(Answer, Option<String>),
    /// The client has not waited for it.
    ClientGone,
}

/// Says when a client has left that is owed a response. Asked once a tick at least: not everything wakes whoever waits.
pub(crate) trait Patient {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes what it sends where it must not be left lying ([`Source`](super::side::Source)).
    fn take_ahead(&mut self, _: &mut Context<'_>) {}
}

impl<'k, 'a> Search<'k, 'a> {
    /// For a request of the path rule `rule` of `site`, or of the site. It must have ended by `end`.
    pub(crate) fn new(
        kit: &'k Kit,
        timer: &'a Timer,
        site: &'a Arc<Site>,
        rule: Option<usize>,
        affinity: Affinity,
        end: Option<Tick>,
    ) -> Search<'k, 'a> {
        kit.budget.request(site.number, site.retry.budget);
        Search {
            kit,
            timer,
            site,
            followed: None,
            rule,
            affinity,
            introduction: None,
            speaks: Speaks::Any,
            is_scout: true,
            tried: Tried::default(),
            full: Tried::default(),
            next: None,
            fresh_only: false,
            again: 0,
            end,
            gave_none: None,
            retries: 0,
        }
    }

    /// The backend that has given no upstream last, where one was asked.
    pub(crate) fn gave_none(&self) -> Option<&Address> {
        self.gave_none.as_ref()
    }

    /// Each upstream begins with this, and none is shared.
    pub(crate) fn introduce(&mut self, introduction: Vec<u8>) {
        self.introduction = Some(introduction);
    }

    /// Only upstreams that may become something else.
    pub(crate) fn insist_on_http1(&mut self) {
        self.speaks = Speaks::Http1;
    }

    /// Others find out whether a backend that was out is back, as long as there is one that is fit.
    pub(crate) fn leave_trials(&mut self) {
        self.is_scout = false;
    }

    /// From now on only upstreams that have not been used before.
    pub(super) fn insist_on_fresh(&mut self) {
        self.retries += 1;
        self.fresh_only = true;
    }

    /// The visit to a backend of this request that `endpoint` is one of: of an upstream that the caller has already.
    /// `None` also when each has to wait for its turn there: whoever waits finds an upstream anew.
    pub(super) fn visit(&self, endpoint: &Endpoint) -> Option<Visit<'k>> {
        let backends = self.backends()?;
        let at = backends.list.iter().position(|m| endpoint.is_of(m))?;
        let member = &backends.list[at];
        let site = self.present();
        let turn = match member.max {
            None => None,
            Some(_) if !site.waiting.is_line_empty(backends.line()) => return None,
            Some(_) => Some(Turn::take(site, backends.line(), member)?),
        };
        Some(self.enter(at, member, turn))
    }

    /// An idle upstream, or a new one to the first backend that accepts. Where nobody does, the request is held, as long
    /// as `client` has patience.
    ///
    /// # Errors
    /// What the client is answered when there is none.
    pub(crate) async fn upstream(
        &mut self,
        client: &mut impl Patient,
    ) -> Result<Found<'k>, NotFound> {
        match self.at_once() {
            Some(found) => Ok(found),
            // Boxed, so that a request that finds an idle one is no larger for it.
            None => Box::pin(self.one_way_or_another(client)).await,
        }
    }

    /// The usual case: the backend whose turn it is has an idle upstream.
    fn at_once(&mut self) -> Option<Found<'k>> {
        if self.fresh_only || self.introduction.is_some() || self.followed.is_some() {
            return None;
        }
        let backends = exchange::backends(self.site, self.rule)?;
        if backends.has_max && !self.site.waiting.is_line_empty(backends.line()) {
            return None;
        }
        let at = match self.next {
            Some(at) => at,
            None => {
                let way = self.way(self.site);
                let balancer = &self.kit.balancer;
                balancer.choose(backends, way, self.tried, Among::Fit)?
            }
        };
        // Whatever comes of it, it has its turn.
        self.next = Some(at);
        let member = &backends.list[at];
        // Failures next door may make this the moment to try that one again; sooner or later everybody's neighbour is
        // chosen.
        let count = backends.list.len();
        if count > 1
            && backends.list[(at + 1) % count]
                .state
                .awaits_trial(|| self.trial_clock())
        {
            return None;
        }
        let turn = match member.max {
            None => None,
            Some(_) => Some(Turn::take(self.site, backends.line(), member)?),
        };
        let upstream = self.kit.upstreams.take_idle(member, self.speaks)?;
        self.next = None;
        let visit = self.enter(at, member, turn);
        Some(Found { upstream, visit })
    }

    fn enter(&self, at: usize, member: &Member, turn: Option<Turn>) -> Visit<'k> {
        Visit {
            at,
            of_before: false,
            _in_flight: self.kit.balancer.enter(member),
            _turn: turn,
            trial: RefCell::new(None),
        }
    }

    /// The moment by which it looks whether a trial is due.
    fn trial_clock(&self) -> fitness::Moment {
        match self.is_scout {
            true => moment(),
            false => moment().saturating_sub(SCOUTS_FIRST),
        }
    }

    fn way<'s>(&self, site: &'s Site) -> Way<'s> {
        self.affinity.way(site)
    }

    /// The version of the site that is gone by.
    fn present(&self) -> &Arc<Site> {
        self.followed
            .as_ref()
            .map_or(self.site, |followed| &followed.site)
    }

    fn present_rule(&self) -> Option<usize> {
        match &self.followed {
            Some(followed) => followed.rule,
            None => self.rule,
        }
    }

    fn backends(&self) -> Option<&Backends> {
        exchange::backends(self.present(), self.present_rule())
    }
}

/// Since when no request can be answered by this list of `site`. `None`: one could.
fn lost_since(site: &Site, backends: &Backends) -> Option<fitness::Moment> {
    let usable = backends.list.iter().filter(|member| !member.is_drained());
    let since = usable.map(|member| member.state.lost_since(site.health.when_none));
    since.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn pattern(site: &Site, rule: Option<usize>) -> Option<&PathPattern> {
    let rule = site.paths.get(rule?)?;
    // A rule without an answer of its own goes to the site's backends.
    rule.action.is_some().then_some(&rule.pattern)
}

impl NotFound {
    /// What it is counted by, where nobody can be answered.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            NotFound::Answer(answer, _) => answer.parts().1,
            NotFound::ClientGone => Reason::Internal,
        }
    }
}

impl From<Answer> for NotFound {
    fn from(answer: Answer) -> NotFound {
        NotFound::Answer(answer, None)
    }
}
