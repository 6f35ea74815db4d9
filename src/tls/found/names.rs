//! Which pair is shown for a name, of all that are for it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::folder::Pair;
use crate::site::HostPattern;
use crate::site::hostname::Hostname;
use crate::tls::certificate::Certificate;

/// Made once for all pairs, and good until one of them begins or ends.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<Hostname, Shown>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Hostname, Shown>,
    as_of: Range<SystemTime>,
}

/// What is shown for one name: the best of each kind of key, ECDSA first.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Shown {
    pub(in crate::tls) certificates: Arc<[Arc<Certificate>]>,
    /// Clients accept it today.
    is_valid: bool,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            as_of: UNIX_EPOCH..for_ever(),
        }
    }
}

impl Names {
    pub(super) fn of<'p>(pairs: impl Iterator<Item = &'p Arc<Pair>>, now: SystemTime) -> Names {
        let mut by_name: HashMap<HostPattern, Vec<Arc<Pair>>> = HashMap::new();
        let mut until = for_ever();
        for pair in pairs {
            let Certificate {
                not_before,
                not_after,
                ..
            } = *pair.certificate;
            for turn in [not_before, not_after + Duration::from_secs(1)] {
                if turn > now {
                    until = until.min(turn);
                }
            }
            for name in pair.certificate.names() {
                let best = by_name.entry(name.clone()).or_default();
                let kind = |pair: &Pair| pair.certificate.certified.key.algorithm();
                match best.iter_mut().find(|best| kind(best) == kind(pair)) {
                    Some(best) if rank(pair, now) > rank(best, now) => *best = Arc::clone(pair),
                    Some(_) => {}
                    None => best.push(Arc::clone(pair)),
                }
            }
        }
        let mut names = Names {
            as_of: now..until,
            ..Names::default()
        };
        for (name, best) in by_name {
            let shown = Shown::of(best, now);
            match name {
                HostPattern::Exact(name) => drop(names.exact.insert(name, shown)),
                HostPattern::Wildcard(suffix) => drop(names.wildcard.insert(suffix, shown)),
                // No certificate is for every name.
                HostPattern::Any => {}
            }
        }
        names
    }

    /// Whether none has begun or ended since. A clock that was set back tells nothing.
    pub(super) fn are_as_of(&self, now: SystemTime) -> bool {
        self.as_of.contains(&now)
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let shown = self.exact.values().chain(self.wildcard.values());
        shown.flat_map(|shown| shown.certificates.iter())
    }

    /// Those in certificates.
    pub(super) fn names(&self) -> impl Iterator<Item = HostPattern> {
        let exact = self.exact.keys().cloned().map(HostPattern::Exact);
        let wildcard = self.wildcard.keys().cloned();
        exact.chain(wildcard.map(HostPattern::Wildcard))
    }

    /// Whether `certificate` is shown for one of its names.
    pub(super) fn show(&self, certificate: &Arc<Certificate>) -> bool {
        let is_it = |shown: &Shown| {
            let mut certificates = shown.certificates.iter();
            certificates.any(|one| Arc::ptr_eq(one, certificate))
        };
        let mut names = certificate.names().iter();
        names.any(|name| self.covering(name).is_some_and(is_it))
    }

    /// The names of these for which `after` has nothing.
    pub(super) fn lost_in(&self, after: &Names) -> HashSet<HostPattern> {
        let exact = self
            .exact
            .keys()
            .filter(|name| !after.exact.contains_key(*name));
        let exact = exact.cloned().map(HostPattern::Exact);
        let suffixes = self.wildcard.keys();
        let suffixes = suffixes.filter(|suffix| !after.wildcard.contains_key(*suffix));
        let lost = exact.chain(suffixes.cloned().map(HostPattern::Wildcard));
        lost.collect()
    }

    /// Allocates nothing: every connection asks, also those in clear text.
    pub(super) fn find(&self, host: &str) -> Option<&Shown> {
        let own = self.exact.get(host);
        if own.is_some_and(|own| own.is_valid) {
            return own;
        }
        let above = || self.wildcard.get(host.split_once('.')?.1);
        match (own, above()) {
            (Some(own), Some(above)) if !above.is_valid => Some(own),
            (own, above) => above.or(own),
        }
    }

    pub(super) fn covering(&self, pattern: &HostPattern) -> Option<&Shown> {
        match pattern {
            HostPattern::Exact(name) => self.find(name.as_str()),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
            HostPattern::Any => None,
        }
    }
}

impl Shown {
    fn of(mut best: Vec<Arc<Pair>>, now: SystemTime) -> Shown {
        let is_valid = best.iter().any(|pair| pair.certificate.is_valid(now));
        best.retain(|pair| pair.certificate.is_valid(now) == is_valid);
        if best.iter().any(|pair| !pair.is_half()) {
            best.retain(|pair| !pair.is_half());
        }
        best.sort_by_key(|pair| !pair.certificate.is_ecdsa());
        Shown {
            certificates: best
                .iter()
                .map(|pair| Arc::clone(&pair.certificate))
                .collect(),
            is_valid,
        }
    }
}

/// Of two for one name and of one kind, what clients accept, then what is there as a whole, then what they can check, then
/// what is good for longer.
fn rank(pair: &Pair, now: SystemTime) -> impl Ord + use<> {
    let certificate = &pair.certificate;
    (
        certificate.is_valid(now),
        !pair.is_half(),
        certificate.certified.cert.len() > 1,
        certificate.not_after,
    )
}

/// No clock shows it.
fn for_ever() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1 << 40)
}
