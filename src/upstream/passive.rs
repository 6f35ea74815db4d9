//! What requests themselves tell of a backend: after so many failures in a row it rests for a while, which grows; then
//! one request at a time tries it again. Never the last one: with nobody else fit, a bad backend is better than none.
//!
//! Connects count for the endpoint, whatever site they were for; the rest for the backend of one site.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::moment;
use crate::site::addresses::Located;
use crate::site::fitness::{Against, Fitness, Moment, Rest, Streak};
use crate::site::{Backends, EndpointState, Member, Site};

/// A connect succeeded. Only reads, where the last one had, too.
pub fn accepted(site: &Site, member: &Member) {
    if connected(&member.state.endpoint) {
        info!(site = %site.name, backend = %member, "backend back: it accepts connections");
    }
}

/// The same at one of the addresses of a name. Whether it is fit again by that.
pub(super) fn connected(endpoint: &EndpointState) -> bool {
    endpoint.connects.ends();
    if endpoint.refused_since.load(Ordering::Relaxed) != 0 {
        endpoint.refused_since.store(0, Ordering::Relaxed);
    }
    endpoint.fitness.has(Against::Failures) && endpoint.fitness.clear(Against::Failures, moment())
}

/// A connect to the backend at place `at` failed; `why` is for a person.
pub fn refused(site: &Site, backends: &Backends, at: usize, why: impl FnOnce() -> String) {
    let member = &backends.list[at];
    let endpoint = &*member.state.endpoint;
    // The first of a row.
    endpoint
        .refused_since
        .compare_exchange(0, moment(), Ordering::Relaxed, Ordering::Relaxed)
        .ok();
    let EndpointState {
        connects,
        rest,
        fitness,
        ..
    } = endpoint;
    let case = Case {
        site,
        backends,
        at,
        fitness,
        rest,
    };
    case.count(connects, site.health.passive.connect, why);
}

/// The same at one of the addresses of a name: the others are tried first from now on, and nobody else is told.
pub(super) fn connect_failed(endpoint: &EndpointState) {
    let now = moment();
    endpoint.connects.failed();
    if endpoint.rest.begin(now).is_some() {
        endpoint.fitness.set(Against::Failures, now);
    }
}

/// The backend at place `at` answered with this status. Costs nothing where the site counts no answers.
pub fn answered(site: &Site, backends: &Backends, at: usize, status: u16) {
    let passive = &site.health.passive;
    if passive.reset.is_none() && passive.server_error.is_none() {
        return;
    }
    let state = &*backends.list[at].state;
    state.resets.ends();
    if status >= 500 && passive.server_error.is_some() {
        let case = Case::of_backend(site, backends, at);
        let why = || format!("it answers {status}");
        return case.count(&state.server_errors, passive.server_error, why);
    }
    state.server_errors.ends();
    if state.fitness.has(Against::Failures) && state.fitness.clear(Against::Failures, moment()) {
        info!(site = %site.name, backend = %backends.list[at], "backend back: it answers {status}");
    }
}

/// The backend at place `at` broke off before it answered.
pub fn broke_off(site: &Site, backends: &Backends, at: usize) {
    if let Some(most) = site.health.passive.reset {
        let case = Case::of_backend(site, backends, at);
        let why = || "it breaks off before it answers".to_owned();
        case.count(&backends.list[at].state.resets, Some(most), why);
    }
}

/// Whether a connect is to try this address of a name again, which has rested; only one is told so.
pub(super) fn has_rested(located: &Located) -> bool {
    let endpoint = &located.endpoint;
    !located.is_out.load(Ordering::Relaxed)
        && endpoint.fitness.has(Against::Failures)
        && endpoint.rest.trial(moment())
}

/// Whether a request is to try `member` again, which has rested; only one is told so.
pub(super) fn is_to_be_tried(member: &Member) -> bool {
    let (state, endpoint) = (&*member.state, &*member.state.endpoint);
    let rests = [
        (&state.fitness, &state.rest),
        (&endpoint.fitness, &endpoint.rest),
    ];
    let is_resting = |(fitness, _): &(&Fitness, &Rest)| fitness.has(Against::Failures);
    let others = [Against::Check, Against::Unproven, Against::Unresolved];
    if !rests.iter().any(is_resting) || others.iter().any(|against| state.fitness.has(*against)) {
        return false;
    }
    let now = moment();
    rests
        .iter()
        .filter(|rest| is_resting(rest))
        .all(|(_, rest)| rest.trial(now))
}

/// A failure at one backend of a list.
struct Case<'a> {
    site: &'a Site,
    backends: &'a Backends,
    at: usize,
    fitness: &'a Fitness,
    rest: &'a Rest,
}

impl<'a> Case<'a> {
    fn of_backend(site: &'a Site, backends: &'a Backends, at: usize) -> Case<'a> {
        let state = &backends.list[at].state;
        Case {
            site,
            backends,
            at,
            fitness: &state.fitness,
            rest: &state.rest,
        }
    }

    /// One more in a row; `most` of them are a reason to rest.
    fn count(self, streak: &Streak, most: Option<NonZeroU32>, why: impl FnOnce() -> String) {
        let count = streak.failed();
        if most.is_none_or(|most| count < most.get()) || self.is_the_last() {
            return;
        }
        let now = moment();
        let Some(length) = self.rest.begin(now) else {
            return;
        };
        if self.fitness.set(Against::Failures, now) {
            let backend = &self.backends.list[self.at];
            let seconds = seconds(length);
            warn!(
                site = %self.site.name, %backend,
                "backend out: {}, {count} times in a row; tried again after {seconds}", why()
            );
        }
    }

    /// Whether no other backend of the list is fit.
    fn is_the_last(&self) -> bool {
        let others = self.backends.list.iter().enumerate();
        let mut others = others.filter(|(at, _)| *at != self.at);
        !others.any(|(_, other)| !other.is_drained() && other.state.is_fit())
    }
}

fn seconds(length: Moment) -> String {
    format!("{}s", length / 1000)
}
