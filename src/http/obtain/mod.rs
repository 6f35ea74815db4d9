//! An upstream for an exchange, whatever version it arrived in: which backend, idle or new.
//!
//! A [`Search`] lives as long as its exchange does and remembers what was tried; what it finds is a [`Found`], whose
//! [`Visit`] counts the request at the backend until it is dropped. What comes of the visit is told to the search
//! (`learn`), and so to everybody who chooses after it. Where there is nobody to go to, the request waits (`hold`).

mod affinity;
mod budget;
mod hold;
mod learn;
mod words;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::answer::Answer;
use super::exchange;
use super::kit::Kit;
use crate::observe::Reason;
use crate::site::fitness;
use crate::site::health::WhenNone;
use crate::site::{BackendState, Backends, Member, PathPattern, Site, Waiting};
use crate::upstream::{
    Among, Endpoint, InFlight, PLACES, Speaks, Tried, Upstream, UpstreamError, Way, moment,
};
use crate::wheel::{Tick, Timer};

pub(crate) use affinity::Affinity;
pub(super) use budget::Budget;
pub(super) use learn::Failure;

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
    trial: Option<Trial>,
}

/// One of the `max` requests that a backend sees at once. Free again when dropped, and whoever waits is called.
#[derive(Debug)]
struct Turn {
    state: Arc<BackendState>,
    waiting: Arc<Waiting>,
}

/// The one request that tries a backend which failures have taken out.
#[derive(Debug)]
struct Trial {
    state: Arc<BackendState>,
    of: fitness::Tried,
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

/// What came of asking each backend once.
#[derive(Debug)]
enum Round<'k> {
    Found(Found<'k>),
    /// Each that could be asked has as many requests as it takes.
    Full,
    /// Nobody is fit, or nobody accepts.
    Nobody(Option<UpstreamError>),
}

/// Says when a client has left that is owed a response.
pub(crate) trait Patient {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
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
            tried: Tried::default(),
            full: Tried::default(),
            next: None,
            fresh_only: false,
            again: 0,
            end,
            retries: 0,
        }
    }

    /// Each upstream begins with this, and none is shared.
    pub(crate) fn introduce(&mut self, introduction: Vec<u8>) {
        self.introduction = Some(introduction);
    }

    /// Only upstreams that may become something else.
    pub(crate) fn insist_on_http1(&mut self) {
        self.speaks = Speaks::Http1;
    }

    /// From now on only upstreams that have not been used before.
    pub(super) fn insist_on_fresh(&mut self) {
        self.retries += 1;
        self.fresh_only = true;
    }

    /// The visit to a backend of this request that `endpoint` is one of: of an upstream that the caller has already.
    pub(super) fn visit(&self, endpoint: &Endpoint) -> Option<Visit<'k>> {
        let list = &self.backends()?.list;
        let at = list.iter().position(|m| endpoint.is_of(m))?;
        // It is that client's alone: it has had its turn.
        Some(self.enter(at, &list[at], None))
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
        if backends.has_max && !self.site.waiting.is_empty() {
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
        if count > 1 && backends.list[(at + 1) % count].state.awaits_trial(moment) {
            return None;
        }
        let turn = match member.max {
            None => None,
            Some(_) => Some(Turn::take(self.site, member)?),
        };
        let upstream = self.kit.upstreams.take_idle(member, self.speaks)?;
        self.next = None;
        let visit = self.enter(at, member, turn);
        Some(Found { upstream, visit })
    }

    async fn one_way_or_another(
        &mut self,
        client: &mut impl Patient,
    ) -> Result<Found<'k>, NotFound> {
        let site = Arc::clone(self.present());
        let Some(backends) = exchange::backends(&site, self.present_rule()) else {
            return Err(Answer::Internal.into());
        };
        // Whoever came before and waits for a turn has it first.
        let round = match backends.has_max && !site.waiting.is_empty() {
            true => Round::Full,
            false => self.round(&site, backends).await?,
        };
        match round {
            Round::Found(found) => Ok(found),
            other => self.hold(other, client).await,
        }
    }

    /// Asks each backend once, the fit ones first, until one has an upstream: then those that the site had before, then
    /// those that something speaks against.
    async fn round(
        &mut self,
        site: &Arc<Site>,
        backends: &Backends,
    ) -> Result<Round<'k>, NotFound> {
        let mut last = None;
        if let Some(round) = self
            .ask(site, backends, Among::Fit, false, &mut last)
            .await?
        {
            return Ok(round);
        }
        let is_absence = last.as_ref().is_none_or(UpstreamError::is_absence);
        let before = self.before(site).filter(|_| is_absence);
        if let Some(before) = &before {
            let tried = std::mem::take(&mut self.tried);
            let full = std::mem::take(&mut self.full);
            self.tried = before.others;
            // What is wrong with those is no answer to what is wrong with the new ones.
            let mut theirs = None;
            let asked = self.ask(site, before.backends, Among::Fit, true, &mut theirs);
            let round = asked.await?;
            (self.tried, self.full) = (tried, full);
            if let Some(round) = round {
                return Ok(round);
            }
        }
        if site.health.when_none == WhenNone::Try
            && let Some(round) = self
                .ask(site, backends, Among::All, false, &mut last)
                .await?
        {
            return Ok(round);
        }
        Ok(Round::Nobody(last))
    }

    /// Asks those of one kind. `None`: all have been asked in vain, for the reason in `last`.
    async fn ask(
        &mut self,
        site: &Arc<Site>,
        backends: &Backends,
        among: Among,
        of_before: bool,
        last: &mut Option<UpstreamError>,
    ) -> Result<Option<Round<'k>>, NotFound> {
        let mut is_full = false;
        while let Some((at, trial)) = self.choose(site, backends, among) {
            let member = &backends.list[at];
            let turn = match member.max {
                None => None,
                Some(_) => match Turn::take(site, member) {
                    Some(turn) => Some(turn),
                    None if at < PLACES => {
                        self.full.add(at);
                        is_full = true;
                        continue;
                    }
                    None => return Ok(Some(Round::Full)),
                },
            };
            let visit = Visit {
                of_before,
                trial,
                ..self.enter(at, member, turn)
            };
            if !self.fresh_only
                && self.introduction.is_none()
                && let Some(upstream) = self.kit.upstreams.take_idle(member, self.speaks)
            {
                return Ok(Some(Round::Found(Found { upstream, visit })));
            }
            match self.open(site, backends, member, visit).await? {
                Ok(found) => return Ok(Some(Round::Found(found))),
                Err(error) => {
                    self.tried.add(at);
                    if last.replace(error).is_some() {
                        self.retries += 1;
                    }
                }
            }
            let goes_on = site.retry.times > 0 && site.retry.on.connect;
            // A list of more has places that nobody remembers.
            if !goes_on || at >= PLACES {
                break;
            }
        }
        Ok(is_full.then_some(Round::Full))
    }

    /// The backend whose turn it is, and whether the visit is a trial.
    fn choose(
        &mut self,
        site: &Site,
        backends: &Backends,
        among: Among,
    ) -> Option<(usize, Option<Trial>)> {
        let tried = self.tried.and(self.full);
        if backends.list.len() > 1 {
            let trials = backends.list.iter().enumerate();
            let mut trials = trials.filter(|(at, m)| !tried.has(*at) && !m.is_drained());
            let trial = trials.find_map(|(at, member)| Some((at, Trial::of(&member.state)?)));
            if let Some((at, trial)) = trial {
                return Some((at, Some(trial)));
            }
        }
        let next = self.next.take();
        if let Some(next) = next.filter(|next| *next < backends.list.len() && !tried.has(*next)) {
            return Some((next, None));
        }
        let way = self.way(site);
        let at = self.kit.balancer.choose(backends, way, tried, among)?;
        Some((at, None))
    }

    /// A new upstream to `member`; inside, why that backend gives none.
    async fn open(
        &self,
        site: &Arc<Site>,
        backends: &Backends,
        member: &Member,
        visit: Visit<'k>,
    ) -> Result<Result<Found<'k>, UpstreamError>, NotFound> {
        // Held until the backend has accepted, or has not.
        let most = site.limits.connecting;
        let Some(_connecting) = site.slots.connecting(most) else {
            let why = format!("{most} requests wait for a connection already");
            return Err(NotFound::Answer(
                Answer::SiteBusy,
                Some(words::of_site(site, &why)),
            ));
        };
        let first = self.introduction.as_deref().unwrap_or_default();
        let limit = site.timeouts.connect;
        let opened = self
            .kit
            .upstreams
            .open(member, self.speaks, first, limit, self.timer)
            .await;
        match opened {
            Ok(upstream) => {
                learn::accepted(site, member);
                let introduced = self.site.send_proxy;
                let upstream = Upstream {
                    introduced,
                    ..upstream
                };
                Ok(Ok(Found { upstream, visit }))
            }
            Err(_) if self.timer.was_cut() => Err(Answer::SiteGone.into()),
            // No other backend would find more.
            Err(error @ UpstreamError::Exhausted { .. }) => Err(NotFound::Answer(
                Answer::from(&error),
                Some(words::of_site(site, &words::of(&error))),
            )),
            Err(error) => {
                learn::refused(site, backends, member, &visit, &error);
                Ok(Err(error))
            }
        }
    }

    fn enter(&self, at: usize, member: &Member, turn: Option<Turn>) -> Visit<'k> {
        Visit {
            at,
            of_before: false,
            _in_flight: self.kit.balancer.enter(member),
            _turn: turn,
            trial: None,
        }
    }

    fn way<'s>(&self, site: &'s Site) -> Way<'s> {
        Way {
            balance: &site.balancing.by,
            slow_start: site.balancing.slow_start,
            hash: self.affinity.hash,
            token: self.affinity.token,
        }
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

    /// The backends that the site had before, as long as they may answer.
    fn before<'s>(&self, site: &'s Site) -> Option<Eligible<'s>> {
        let pattern = pattern(site, self.present_rule());
        let former = site.before.as_ref()?.former(pattern)?;
        if !former.is_waited_for() {
            // Fallen back to while `hold` runs, from when the new ones were found not to be there.
            let backends = exchange::backends(site, self.present_rule())?;
            let lost = lost_since(backends)?;
            if moment() >= lost + hold::length(site) {
                return None;
            }
        }
        let backends = &former.backends;
        let mut others = Tried::default();
        let states = &self.kit.shared.states;
        for (at, member) in backends.list.iter().enumerate() {
            if states.is_of_another(&member.backend.address, &site.name) {
                others.add(at);
            }
        }
        Some(Eligible { backends, others })
    }
}

/// Backends of the version before, and those among them that are another site's by now.
struct Eligible<'s> {
    backends: &'s Backends,
    others: Tried,
}

/// Since when no request can be answered by this list. `None`: one could.
fn lost_since(backends: &Backends) -> Option<fitness::Moment> {
    let usable = backends.list.iter().filter(|member| !member.is_drained());
    let since = usable.map(|member| member.state.lost_since());
    since.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn pattern(site: &Site, rule: Option<usize>) -> Option<&PathPattern> {
    let rule = site.paths.get(rule?)?;
    // A rule without an answer of its own goes to the site's backends.
    rule.action.is_some().then_some(&rule.pattern)
}

impl Turn {
    /// `None`: the backend has as many as it takes.
    fn take(site: &Arc<Site>, member: &Member) -> Option<Turn> {
        let max = member.max?.get();
        let free = |taken: u32| (taken < max).then_some(taken + 1);
        let taken = &member.state.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .ok()?;
        Some(Turn {
            state: Arc::clone(&member.state),
            waiting: Arc::clone(&site.waiting),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.taken.fetch_sub(1, Ordering::Relaxed);
        self.waiting.wake_one();
    }
}

impl Trial {
    /// `None`: nothing has to be tried, or not now, or somebody does.
    fn of(state: &Arc<BackendState>) -> Option<Trial> {
        let of = state.trial(moment)?;
        let state = Arc::clone(state);
        Some(Trial { state, of })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.state.outage(self.of).trial_is_over();
    }
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
