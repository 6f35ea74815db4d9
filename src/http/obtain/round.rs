//! Each backend of a list is asked once: the fit ones, those that the site had before, and those that something speaks
//! against, in this order.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::turn::{Trial, Turn};
use super::words;
use super::{
    Found, NotFound, Patient, Search, Visit, exchange, fault, hold, learn, lost_since, pattern,
};
use crate::http::answer::Answer;
use crate::site::health::WhenNone;
use crate::site::{Backends, Member, Site};
use crate::upstream::{Among, PLACES, Tried, Upstream, UpstreamError, moment};
use crate::wheel::TICK;

/// To accept a connection: whoever does not within that is blamed, however little a request has left.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// What came of asking each backend once.
#[derive(Debug)]
pub(super) enum Round<'k> {
    Found(Found<'k>),
    /// Each that could be asked has as many requests as it takes.
    Full,
    /// Nobody is fit, or nobody accepts.
    Nobody(Option<UpstreamError>),
}

impl<'k> Search<'k, '_> {
    /// What no idle upstream is at hand for.
    pub(super) async fn one_way_or_another(
        &mut self,
        client: &mut impl Patient,
    ) -> Result<Found<'k>, NotFound> {
        let site = Arc::clone(self.present());
        let Some(backends) = exchange::backends(&site, self.present_rule()) else {
            return Err(Answer::Internal.into());
        };
        // Whoever came before and waits for a turn has it first.
        let round = match backends.has_max && !site.waiting.is_line_empty(backends.line()) {
            true => Round::Full,
            false => self.round(&site, backends, client).await?,
        };
        match round {
            Round::Found(found) => Ok(found),
            other => self.hold(other, client).await,
        }
    }

    /// Asks each backend once, the fit ones first, until one has an upstream: then those that the site had before, then
    /// those that something speaks against.
    pub(super) async fn round(
        &mut self,
        site: &Arc<Site>,
        backends: &Backends,
        client: &mut impl Patient,
    ) -> Result<Round<'k>, NotFound> {
        let mut last = None;
        if let Some(round) = self
            .ask(site, backends, Among::Fit, false, &mut last, client)
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
            let asked = self.ask(site, before.backends, Among::Fit, true, &mut theirs, client);
            let round = asked.await?;
            (self.tried, self.full) = (tried, full);
            if let Some(round) = round {
                return Ok(round);
            }
        }
        let among = match site.health.when_none {
            WhenNone::Try => Among::All,
            // The check refuses. Requests that failed do not, least of all those of another site with the same backend.
            WhenNone::Refuse => Among::Passing,
        };
        let round = self
            .ask(site, backends, among, false, &mut last, client)
            .await?;
        Ok(round.unwrap_or(Round::Nobody(last)))
    }

    /// Asks those of one kind. `None`: all have been asked in vain, for the reason in `last`.
    async fn ask(
        &mut self,
        site: &Arc<Site>,
        backends: &Backends,
        among: Among,
        of_before: bool,
        last: &mut Option<UpstreamError>,
        client: &mut impl Patient,
    ) -> Result<Option<Round<'k>>, NotFound> {
        let mut is_full = false;
        while let Some((at, trial)) = self.choose(site, backends, among) {
            let member = &backends.list[at];
            let turn = match member.max {
                None => None,
                Some(_) => match Turn::take(site, backends.line(), member) {
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
                trial: RefCell::new(trial),
                ..self.enter(at, member, turn)
            };
            if !self.fresh_only
                && self.introduction.is_none()
                && let Some(upstream) = self.kit.upstreams.take_idle(member, self.speaks)
            {
                return Ok(Some(Round::Found(Found { upstream, visit })));
            }
            self.gave_none = Some(member.backend.address.clone());
            match self.open(site, backends, member, visit, client).await? {
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
            let usable = |(at, m): &(usize, &Member)| !tried.has(*at) && !m.is_drained();
            let all = || backends.list.iter().enumerate().filter(usable);
            let clock = match self.is_scout || !all().any(|(_, m)| m.state.is_fit()) {
                true => moment(),
                false => self.trial_clock(),
            };
            let mut trials = all().filter(|(_, m)| m.state.awaits_trial(|| clock));
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
        client: &mut impl Patient,
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
        let left = self.left();
        let limit = left.map_or(site.timeouts.connect, |left| {
            left.min(site.timeouts.connect)
        });
        let upstreams = &self.kit.upstreams;
        let mut opening = pin!(upstreams.open(member, self.speaks, first, limit, self.timer));
        let opened = poll_fn(|cx| {
            client.take_ahead(cx);
            opening.as_mut().poll(cx)
        });
        let opened = opened.await;
        if opened.is_err()
            && let Some(cut) = self.timer.cut()
        {
            return Err(Answer::from(cut).into());
        }
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
            Err(error @ UpstreamError::TimedOut { .. }) if left == Some(limit) => {
                // In its own time it might have accepted, but the next one is not to wait as long for the same.
                if limit >= FAIR_TIME {
                    self.has_failed(site, backends, member, &visit, &error);
                }
                let why =
                    format!("no connection to {member} in the time that the whole request has");
                let why = Some(words::of_site(site, &why));
                Err(NotFound::Answer(Answer::BackendTimeout, why))
            }
            // No other backend would find more.
            Err(error @ UpstreamError::Exhausted { .. }) => Err(NotFound::Answer(
                Answer::from(&error),
                Some(words::of_site(site, &words::of(&error))),
            )),
            Err(error) => {
                self.has_failed(site, backends, member, &visit, &error);
                Ok(Err(error))
            }
        }
    }

    /// The way to `member` has failed: said, and learnt from.
    fn has_failed(
        &self,
        site: &Site,
        backends: &Backends,
        member: &Member,
        visit: &Visit<'_>,
        error: &UpstreamError,
    ) {
        let why = words::of(error);
        if let Some(fault) = fault::of(error) {
            fault::fails(self.kit, site, member, fault, &why);
        }
        learn::refused(site, backends, member, visit, error, &why);
    }

    /// What is left of the time of the whole exchange.
    fn left(&self) -> Option<Duration> {
        let ticks = self.end?.saturating_sub(self.timer.wheel().now());
        Some(TICK * ticks)
    }

    /// The backends that the site had before, as long as they may answer.
    fn before<'s>(&self, site: &'s Site) -> Option<Eligible<'s>> {
        let pattern = pattern(site, self.present_rule());
        let former = site.before.as_ref()?.former(pattern)?;
        if !former.is_waited_for() {
            // Fallen back to while `hold` runs, from when the new ones were found not to be there.
            let backends = exchange::backends(site, self.present_rule())?;
            let lost = lost_since(site, backends)?;
            if moment() >= lost.saturating_add(hold::length(site)) {
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
