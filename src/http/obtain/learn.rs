//! What comes of a visit, for all who choose after it: rows of failures, backends that are out and back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::{Search, Visit, exchange, fault, pattern};
use crate::site::faults::Fault;
use crate::site::fitness::{self, Against, Fitness, Moment, Outage};
use crate::site::{Backends, Member, Site};
use crate::upstream::{Among, Tried, UpstreamError, moment};

/// How often a request may be passed over before that is the answer. A backend that ends its connections one after the
/// other passes over a request once or twice.
const MOST_PASSED_OVER: u32 = 4;

/// How an attempt failed after the backend had accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Failure {
    /// The connection broke off, or what came was no response.
    Reset,
    /// The response has this status, and none of it has been passed on.
    Status(u16),
}

impl Search<'_, '_> {
    /// The backend has answered with this status.
    pub(in crate::http) fn answered(&self, visit: &Visit<'_>, status: u16) {
        let site = self.present();
        let Some((backends, member)) = self.visited(site, visit) else {
            return;
        };
        let state = &member.state;
        state.unanswered.is_over();
        if status >= 500 {
            fault::count(self.kit, member, Fault::ServerError);
        }
        if let Some(before) = &site.before {
            before.answered(pattern(site, self.present_rule()), state);
        }
        let passive = &site.health.passive;
        if passive.reset.is_some() {
            state.resets.ends();
        }
        if let Some(most) = passive.server_error {
            if status >= 500 {
                let row = state.server_errors.failed();
                let what = "answers in a row from 500 on";
                self.count(site, backends, member, visit, row, most, what);
                return;
            }
            state.server_errors.ends();
        }
        if visit.trial.take().is_some() && state.fitness.has(Against::Failures) {
            is_back(site, member, &state.fitness);
            state.trouble.is_over();
        }
    }

    /// The backend accepted and did not answer.
    pub(in crate::http) fn broke_off(&self, visit: &Visit<'_>) {
        let site = self.present();
        let Some((backends, member)) = self.visited(site, visit) else {
            return;
        };
        if let Some(most) = site.health.passive.reset {
            let row = member.state.resets.failed();
            let what = "requests in a row got no answer";
            self.count(site, backends, member, visit, row, most, what);
        } else {
            out_again(visit);
        }
    }

    /// Whether the request, whose method and body allow it, is sent once more after this; the visit is over then.
    pub(in crate::http) fn goes_again(&mut self, visit: &Visit<'_>, after: Failure) -> bool {
        let site = Arc::clone(self.present());
        let Some(backends) = exchange::backends(&site, self.present_rule()) else {
            return false;
        };
        let is_asked_for = match after {
            Failure::Reset => site.retry.on.reset,
            Failure::Status(status) => site.retry.on.status(status),
        };
        if !is_asked_for || self.again >= site.retry.times || visit.of_before {
            return false;
        }
        let mut tried = self.tried;
        tried.add(visit.at);
        let balancer = &self.kit.balancer;
        let next = balancer.choose(backends, self.way(&site), tried, Among::Fit);
        match (next, after) {
            (Some(_), _) => {}
            // Somebody who breaks off may be on his way to a restart; the same answer would come again.
            (None, Failure::Reset) => tried = Tried::default(),
            (None, Failure::Status(_)) => return false,
        }
        if !self.kit.budget.spend(site.number) {
            return false;
        }
        self.tried = tried;
        self.next = next;
        self.again += 1;
        self.retries += 1;
        true
    }

    /// Whether the request, which this backend has passed over without a look at it (RFC 9113 8.7), is sent once more; the
    /// visit is over then. The first time on another connection to wherever it belongs, and at nobody's expense: one that was
    /// about to end is no failure. Then elsewhere, if there is somebody else, and as any other retry.
    pub(in crate::http) fn goes_past(&mut self, visit: &Visit<'_>) -> bool {
        if self.retries >= MOST_PASSED_OVER {
            return false;
        }
        if self.retries > 0 {
            let site = Arc::clone(self.present());
            if !self.kit.budget.spend(site.number) {
                return false;
            }
            if !visit.of_before
                && let Some(backends) = exchange::backends(&site, self.present_rule())
            {
                let mut tried = self.tried;
                tried.add(visit.at);
                let balancer = &self.kit.balancer;
                self.next = balancer.choose(backends, self.way(&site), tried, Among::Fit);
                if self.next.is_some() {
                    self.tried = tried;
                }
            }
        }
        self.retries += 1;
        true
    }

    /// What `send_host = "backend"` says there.
    pub(in crate::http) fn host(&self, visit: &Visit<'_>) -> String {
        let visited = self.visited(self.present(), visit);
        visited
            .map(|(_, member)| member.backend.host())
            .unwrap_or_default()
    }

    /// The cookie that brings the client back to where it is now.
    pub(in crate::http) fn cookie(&self, visit: &Visit<'_>) -> Option<String> {
        let site = self.present();
        site.balancing.sticky.as_ref()?;
        let (_, member) = self.visited(site, visit)?;
        self.affinity.cookie(site, member)
    }

    pub(super) fn visited<'s>(
        &self,
        site: &'s Site,
        visit: &Visit<'_>,
    ) -> Option<(&'s Backends, &'s Member)> {
        let rule = self.present_rule();
        let backends = match visit.of_before {
            false => exchange::backends(site, rule)?,
            true => &site.before.as_ref()?.former(pattern(site, rule))?.backends,
        };
        Some((backends, backends.list.get(visit.at)?))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one failure, and what it may lead to"
    )]
    fn count(
        &self,
        site: &Site,
        backends: &Backends,
        member: &Member,
        visit: &Visit<'_>,
        row: u32,
        most: NonZeroU32,
        what: &str,
    ) {
        if !out_again(visit) && row >= most.get() {
            let (fitness, outage) = (&member.state.fitness, &member.state.outage);
            if goes_out(site, backends, member, fitness, outage, row, what) {
                let why = format!("{row} {what}");
                member.state.trouble.is_found(&why, SystemTime::now());
            }
        }
    }
}

/// A connect succeeded. Only reads, where the last one had, too.
pub(super) fn accepted(site: &Site, member: &Member) {
    let endpoint = &member.state.endpoint;
    endpoint.connects.ends();
    endpoint.trouble.is_over();
    if endpoint.absence.is_over() {
        fault::accepts_again(site, member);
        site.waiting.wake_all();
    }
    if endpoint.fitness.has(Against::Failures) {
        is_back(site, member, &endpoint.fitness);
    }
}

/// A connect failed, in words for the reason `why`.
pub(super) fn refused(
    site: &Site,
    backends: &Backends,
    member: &Member,
    visit: &Visit<'_>,
    error: &UpstreamError,
    why: &str,
) {
    let endpoint = &member.state.endpoint;
    endpoint.trouble.is_found(why, SystemTime::now());
    let row = endpoint.connects.failed();
    if error.is_absence() {
        let waited = match error {
            UpstreamError::TimedOut { after, .. } => after.as_millis(),
            _ => 0,
        };
        let now = moment();
        let began = now.saturating_sub(Moment::try_from(waited).unwrap_or(0));
        endpoint.absence.is_found(began, now);
    }
    if out_again(visit) {
        return;
    }
    if let Some(most) = site.health.passive.connect
        && row >= most.get()
    {
        let (fitness, outage) = (&endpoint.fitness, &endpoint.outage);
        let what = "connects in a row failed";
        goes_out(site, backends, member, fitness, outage, row, what);
    }
}

/// Takes it out, unless it is the last one. Whether it was in until now.
fn goes_out(
    site: &Site,
    backends: &Backends,
    member: &Member,
    fitness: &Fitness,
    outage: &Outage,
    row: u32,
    what: &str,
) -> bool {
    let is_other = |other: &&Member| !Arc::ptr_eq(&other.state, &member.state);
    let mut others = backends.list.iter().filter(is_other);
    let is_last = !others.any(|other| !other.is_drained() && other.state.is_fit());
    if is_last || fitness.has(Against::Failures) {
        return false;
    }
    let now: Moment = moment();
    fitness.set(Against::Failures, now);
    let length = outage.begins(now);
    warn!(site = %site.name, backend = %member, "backend out for {length} ms: {row} {what}");
    true
}

/// If it was a trial, it came to the same: the backend is out for longer.
fn out_again(visit: &Visit<'_>) -> bool {
    let Some(trial) = visit.trial.take() else {
        return false;
    };
    trial.state.outage(trial.of).begins(moment());
    true
}

fn is_back(site: &Site, member: &Member, fitness: &fitness::Fitness) {
    if fitness.clear(Against::Failures, moment()) {
        member.state.server_errors.ends();
        member.state.resets.ends();
        info!(site = %site.name, backend = %member, "backend back");
        site.waiting.wake_all();
    }
}
