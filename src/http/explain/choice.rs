//! Which backend a request would go to, by the code that chooses; where that draws or takes turns, among which.

use std::sync::Arc;

use super::BackendState;
use crate::http::obtain::Affinity;
use crate::reload::wrong_with;
use crate::site::balance::{Balance, HashBy};
use crate::site::fitness::Against;
use crate::site::health::WhenNone;
use crate::site::{Backends, Member, Site};
use crate::upstream::{Among, Balancer, Tried};

/// See the module.
pub(super) struct Choice<'s> {
    site: &'s Site,
    list: &'s [Member],
    /// Places of those that may be chosen: the fit ones that have a share; backups where there is none of these.
    candidates: Vec<usize>,
    by: By,
}

/// Why it is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The request names it.
    Cookie(usize),
    Hash(usize),
    /// Something that no request says: what is in flight, whose turn it is, chance.
    Moment,
}

impl<'s> Choice<'s> {
    pub(super) fn of(site: &'s Site, backends: &'s Backends, affinity: &Affinity) -> Choice<'s> {
        let list = &*backends.list;
        let candidates = |backup: bool| -> Vec<usize> {
            let is_one = |at: &usize| {
                let member = &list[*at];
                member.backup == backup && !member.is_drained() && member.state.is_fit()
            };
            (0..list.len()).filter(is_one).collect()
        };
        let mut among = candidates(false);
        if among.is_empty() {
            among = candidates(true);
        }
        let way = affinity.way(site);
        // One that has counted nothing: what it says without chance is what every worker says.
        let balancer = Balancer::new(Arc::default(), 1);
        let chosen = balancer.choose(backends, way, Tried::default(), Among::Fit);
        let by = match (chosen, way.balance, way.hash) {
            (Some(at), ..) if way.token == Some(list[at].token) => By::Cookie(at),
            (Some(at), Balance::Hash(_), Some(_)) => By::Hash(at),
            _ => By::Moment,
        };
        Choice {
            site,
            list,
            candidates: among,
            by,
        }
    }

    fn certain(&self) -> Option<usize> {
        match (self.by, self.candidates.as_slice()) {
            (By::Cookie(at) | By::Hash(at), _) => Some(at),
            (By::Moment, [one]) => Some(*one),
            (By::Moment, _) => None,
        }
    }

    pub(super) fn backends(&self) -> Vec<BackendState> {
        let told = self
            .list
            .iter()
            .enumerate()
            .map(|(at, member)| BackendState {
                address: member.to_string(),
                state: self.state(at, member),
                chosen: self.certain() == Some(at),
            });
        told.collect()
    }

    /// `fit, one of 3`; `out: its check fails`.
    fn state(&self, at: usize, member: &Member) -> String {
        let state = &member.state;
        let against = [
            (Against::Check, "its check fails"),
            (Against::Failures, "too many requests in a row failed"),
            (Against::Unresolved, "its name has no address"),
            (Against::Unproven, "its check has not passed yet"),
        ];
        let has = |against| state.fitness.has(against) || state.endpoint.fitness.has(against);
        let out: Vec<&str> = against
            .into_iter()
            .filter(|(against, _)| has(*against))
            .map(|(_, words)| words)
            .collect();
        let is_candidate = self.candidates.contains(&at);
        let mut words = match (self.certain(), out.is_empty()) {
            (_, false) => format!("out: {}", out.join(", ")),
            (Some(certain), true) if certain == at => "fit, the next".to_owned(),
            (_, true) if member.is_drained() => "drained: weight 0".to_owned(),
            (Some(_), true) if is_candidate => "fit, for other requests".to_owned(),
            (None, true) if is_candidate => format!("fit, one of {}", self.candidates.len()),
            (_, true) => "fit, for when no other is".to_owned(),
        };
        if member.weight > 1 {
            words.push_str(&format!(", weight {}", member.weight));
        }
        if let Some(max) = member.max {
            words.push_str(&format!(", max {max}"));
        }
        if member.backup {
            words.push_str(", backup");
        }
        // As `ls` has it.
        if let Some(wrong) = wrong_with(member) {
            words.push_str(&format!("; {wrong}"));
        }
        words
    }

    /// `None`: there is nothing to choose from.
    pub(super) fn rule(&self) -> Option<String> {
        if self.list.len() < 2 {
            return None;
        }
        let sticky = self.site.balancing.sticky.as_ref();
        if let (By::Cookie(_), Some(sticky)) = (self.by, sticky) {
            return Some(format!("sticky: its cookie {} names it", sticky.cookie));
        }
        let mut rule = match (&self.site.balancing.by, self.by) {
            (Balance::LeastRequests, _) => {
                "least-requests: of two that are drawn, the one with fewer requests in flight"
                    .to_owned()
            }
            (Balance::RoundRobin, _) => "round-robin: each worker takes them in turn".to_owned(),
            (Balance::Random, _) => "random".to_owned(),
            (Balance::Hash(by), By::Hash(_)) => {
                format!("by hash of {}: the same for the same", name_of(by))
            }
            (Balance::Hash(by), _) => {
                format!("by hash of {}, which it has not: drawn", name_of(by))
            }
        };
        if let Some(sticky) = sticky {
            let cookie = &sticky.cookie;
            rule.push_str(&format!("; from then on as the cookie {cookie} says"));
        }
        Some(rule)
    }

    pub(super) fn where_to(&self) -> String {
        if let Some(at) = self.certain() {
            let member = &self.list[at];
            return match member.state.endpoint.trouble.goes_on() {
                // It is fit all the same, as the last one always is.
                true => format!("the app at {member} is asked; the last connect to it failed"),
                false if member.state.unanswered.goes_on() => {
                    format!("the app at {member} is asked; the last request to it got no answer")
                }
                false => format!("the app at {member} answers"),
            };
        }
        if !self.candidates.is_empty() {
            return format!("one of {} apps answers", self.candidates.len());
        }
        if self.list.iter().all(Member::is_drained) {
            return "all of them are drained, so that the answer is 503".to_owned();
        }
        let hold = self.site.balancing.hold;
        let is_passing = |member: &Member| {
            !member.is_drained() && member.state.fitness.is_fit_but_for_failures()
        };
        match self.site.health.when_none {
            WhenNone::Refuse if self.list.iter().any(is_passing) => {
                "no app is fit, and one whose check does not fail is tried all the same".to_owned()
            }
            WhenNone::Try => "no app is fit, and one of them is tried all the same".to_owned(),
            _ if hold.is_zero() => "no app is fit; until one is, the answer is 503".to_owned(),
            _ => format!("no app is fit; it waits up to {hold:?} for one, and gets 503 then"),
        }
    }
}

fn name_of(by: &HashBy) -> String {
    match by {
        HashBy::Ip => "the client's address".to_owned(),
        HashBy::Header(name) => format!("the header {name}"),
        HashBy::Cookie(name) => format!("the cookie {name}"),
        HashBy::Path => "the path".to_owned(),
    }
}
