//! Whether a backend may be given requests: a word that a request reads and that others write.
//!
//! What is known of a backend lives in two cells that outlive reloads. A [`Member`](super::Member) of a site's
//! [`Backends`](super::Backends) holds both, so that a request looks into no map; `upstream::States` finds them for a
//! new version of a site before it is published.
//!
//! - [`EndpointState`]: one for each address and way of speaking to it, whatever site names it. Connect failures.
//! - [`BackendState`]: one for each endpoint of a site (by the site's name). Everything else.
//!
//! Who watches backends off the way of requests writes into [`BackendState::fitness`], for each site that the finding
//! is about, and wakes those who wait for it:
//!
//! ```text
//! if state.fitness.set(Against::Check, now) { /* it is out since now: say so once */ }
//! if state.fitness.clear(Against::Check, now) { /* fit again: say so once */ site.waiting.wake_all(); }
//! ```
//!
//! [`Against::Unproven`] is set here, by `States`, for a backend that an edit brings to a site with checks; whoever
//! checks clears it at the first pass, or when there is nothing to check. [`Against::Failures`] is set and cleared at
//! the request, by what [`Row`] counts. `now` is [`Moment`], the milliseconds of `upstream::moment()`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::absence::Absence;
use super::health::WhenNone;

/// Milliseconds since the process started, and never 0: that stands for "never".
pub type Moment = u64;

/// What speaks against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Against {
    /// An edit brought it, and its check has not passed yet.
    Unproven = 1,
    /// Its check fails.
    Check = 2,
    /// It is a name without an address.
    Unresolved = 4,
    /// Too many requests in a row failed there.
    Failures = 8,
}

/// A word of what speaks against a backend, and since when. 0: nothing, and it has all its share of requests.
#[derive(Debug, Default)]
pub struct Fitness {
    word: AtomicU32,
    /// When the first of what is in the word was set, or, with [`WARMING`] alone, when the last was cleared.
    since: AtomicU64,
}

/// In [`Fitness`]: it is back, and gets its share little by little.
const WARMING: u32 = 1 << 31;

impl Fitness {
    /// Whether nothing speaks against it. One load.
    pub fn is_fit(&self) -> bool {
        self.word.load(Ordering::Relaxed) & !WARMING == 0
    }

    /// Whether nothing but requests that failed speaks against it. One load.
    pub fn is_fit_but_for_failures(&self) -> bool {
        let failures = Against::Failures as u32;
        self.word.load(Ordering::Relaxed) & !(WARMING | failures) == 0
    }

    /// Whether there is nothing at all to heed. One load.
    pub fn is_plain(&self) -> bool {
        self.word.load(Ordering::Relaxed) == 0
    }

    pub fn has(&self, against: Against) -> bool {
        self.word.load(Ordering::Relaxed) & against as u32 != 0
    }

    /// Since when it is unfit. `None`: it is fit.
    pub fn unfit_since(&self) -> Option<Moment> {
        (!self.is_fit()).then(|| self.since.load(Ordering::Relaxed))
    }

    /// Since when it is back and warming up. `None`: it is not.
    pub fn warming_since(&self) -> Option<Moment> {
        let word = self.word.load(Ordering::Relaxed);
        (word == WARMING).then(|| self.since.load(Ordering::Relaxed))
    }

    /// It has warmed up.
    pub fn is_warm(&self) {
        // Another one that found something against it meanwhile is right.
        self.word
            .compare_exchange(WARMING, 0, Ordering::Relaxed, Ordering::Relaxed)
            .ok();
    }

    /// Holds this against it. Whether it was fit until now.
    pub fn set(&self, against: Against, now: Moment) -> bool {
        let before = self.word.fetch_or(against as u32, Ordering::Relaxed);
        // Warming ends: it begins anew when it is back.
        self.word.fetch_and(!WARMING, Ordering::Relaxed);
        let was_fit = before & !WARMING == 0;
        if was_fit {
            self.since.store(now, Ordering::Relaxed);
        }
        was_fit
    }

    /// Holds this no longer against it. Whether that makes it fit; then it warms up.
    pub fn clear(&self, against: Against, now: Moment) -> bool {
        let before = self.word.fetch_and(!(against as u32), Ordering::Relaxed);
        let is_fit_again = before & !WARMING == against as u32;
        if is_fit_again {
            // A site that comes with a backend that was never in use has nothing to warm up for.
            let warming = if against == Against::Unproven {
                0
            } else {
                WARMING
            };
            self.since.store(now, Ordering::Relaxed);
            self.word
                .compare_exchange(0, warming, Ordering::Relaxed, Ordering::Relaxed)
                .ok();
        }
        is_fit_again
    }
}

/// Failures in a row. Shared by workers; a success that ends no row only reads.
#[derive(Debug, Default)]
pub struct Row(AtomicU32);

impl Row {
    /// One more. How many that makes.
    pub fn failed(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One load where there was no failure.
    pub fn ends(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

/// For how long [`Against::Failures`] keeps a backend out, and who tries it again.
#[derive(Debug, Default)]
pub struct Outage {
    /// How often in a row it was out.
    times: AtomicU32,
    /// When one request may try it again.
    trial_at: AtomicU64,
    /// Since when that one request is under way. 0: none is.
    trial: AtomicU64,
}

/// The first time out, in milliseconds; each further one in a row is twice as long.
const FIRST_OUT: Moment = 1_000;
/// And no longer than that: a minute is what somebody who repairs an app waits for its first request.
const LONGEST_OUT: Moment = 60_000;

impl Outage {
    /// It is out until a trial; longer than the last time, when that was not long ago. Says for how long.
    pub fn begins(&self, now: Moment) -> Moment {
        let before = self.trial_at.load(Ordering::Relaxed);
        // Who has served for longer than it could be out begins anew.
        let times = match before != 0 && now < before + LONGEST_OUT {
            true => self.times.fetch_add(1, Ordering::Relaxed) + 1,
            false => {
                self.times.store(0, Ordering::Relaxed);
                0
            }
        };
        let length = (FIRST_OUT << times.min(6)).min(LONGEST_OUT);
        self.trial_at.store(now + length, Ordering::Relaxed);
        length
    }

    /// Whether [`Outage::trial`] would say yes.
    fn has_come(&self, now: Moment) -> bool {
        let since = self.trial.load(Ordering::Relaxed);
        self.trial_at.load(Ordering::Relaxed) <= now && is_free(since, now)
    }

    /// The right to be the one request that tries it again, when its time has come. A request that knows no better
    /// after `LONGEST_OUT` (its client still sends) leaves that to another.
    pub fn trial(&self, now: Moment) -> bool {
        let since = self.trial.load(Ordering::Relaxed);
        self.trial_at.load(Ordering::Relaxed) <= now
            && is_free(since, now)
            && self
                .trial
                .compare_exchange(since, now, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// The trial is over, whatever came of it.
    pub fn trial_is_over(&self) {
        self.trial.store(0, Ordering::Release);
    }
}

/// Whether a trial that began at `since` keeps nobody else from trying.
fn is_free(since: Moment, now: Moment) -> bool {
    since == 0 || now >= since.saturating_add(LONGEST_OUT)
}

/// What is known of an address and a way of speaking to it, whatever site names it.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Connects that failed, over all sites.
    pub connects: Row,
    /// Only [`Against::Failures`] is ever set here: nobody accepts there.
    pub fitness: Fitness,
    pub outage: Outage,
    pub absence: Absence,
    /// What the last connect failed with.
    #[cfg(feature = "serve")]
    pub trouble: super::trouble::Trouble,
    /// One of the requests that are held is trying it.
    pub knock: AtomicBool,
}

/// What is known of one backend of one site.
#[derive(Debug, Default)]
pub struct BackendState {
    /// Where workers count what they have in flight there ([`crate::upstream`]).
    pub number: u32,
    pub endpoint: Arc<EndpointState>,
    pub fitness: Fitness,
    /// Of [`Against::Failures`] in `fitness`.
    pub outage: Outage,
    /// What it was taken out for then.
    #[cfg(feature = "serve")]
    pub trouble: super::trouble::Trouble,
    /// Requests that ended in no whole response head.
    pub resets: Row,
    /// Why the last request to it got no answer, or not all of one.
    #[cfg(feature = "serve")]
    pub unanswered: super::trouble::Trouble,
    /// Responses with 5xx.
    pub server_errors: Row,
    /// In flight over all workers, as far as the site set `max` for it.
    pub taken: AtomicU32,
    pub findings: Findings,
    /// What requests found wrong with it.
    #[cfg(feature = "serve")]
    pub faults: super::faults::Faults,
}

/// What was found out about a backend off the way of requests.
#[derive(Debug, Default)]
pub struct Findings {
    /// What a name leads to.
    #[cfg(feature = "serve")]
    pub(super) addresses: arc_swap::ArcSwapOption<super::addresses::Addresses>,
    /// Whether the site's check has passed there, ever.
    has_passed: AtomicBool,
    told: Mutex<Option<Box<str>>>,
}

impl BackendState {
    /// Whether requests go there. Two loads.
    pub fn is_fit(&self) -> bool {
        self.fitness.is_fit() && self.endpoint.fitness.is_fit()
    }

    /// Whether the site's check has passed there, as long as it was this check.
    pub fn has_passed(&self) -> bool {
        self.findings.has_passed.load(Ordering::Relaxed)
    }

    pub fn set_passed(&self, has_passed: bool) {
        self.findings
            .has_passed
            .store(has_passed, Ordering::Relaxed);
    }

    /// Writes down what was found out about it, for a person. `None`: nothing is wrong.
    pub fn find(&self, what: Option<String>) {
        *self.lock_told() = what.map(Box::from);
    }

    /// What was found out about it last.
    pub fn finding(&self) -> Option<Box<str>> {
        self.lock_told().clone()
    }

    fn lock_told(&self) -> MutexGuard<'_, Option<Box<str>>> {
        // A text is whole whatever panicked beside it.
        self.findings
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when no request can be answered there, as far as is known. `None`: one could.
    pub fn lost_since(&self, when_none: WhenNone) -> Option<Moment> {
        let absent = self.endpoint.absence.since();
        let is_unfit = match when_none {
            // Requests that failed, perhaps those of another site, never take the last one out.
            WhenNone::Refuse => !self.fitness.is_fit_but_for_failures(),
            // Whoever only fails its check is asked all the same, and may have answered until a moment ago.
            WhenNone::Try => self.fitness.has(Against::Unresolved),
        };
        let unfit = [&self.fitness, &self.endpoint.fitness].map(Fitness::unfit_since);
        let unfit = unfit.into_iter().flatten().filter(|_| is_unfit);
        unfit.chain(absent).min()
    }

    /// Which of the two that failures can take out has its trial now; the caller is that trial until
    /// [`Outage::trial_is_over`].
    pub fn trial(&self, now: impl Fn() -> Moment) -> Option<Tried> {
        let both = [
            (&self.fitness, &self.outage, Tried::Backend),
            (
                &self.endpoint.fitness,
                &self.endpoint.outage,
                Tried::Endpoint,
            ),
        ];
        both.into_iter()
            .find(|(fitness, outage, _)| fitness.has(Against::Failures) && outage.trial(now()))
            .map(|(_, _, tried)| tried)
    }

    /// Whether one request should ask for a trial. Without failures two loads.
    pub fn awaits_trial(&self, now: impl Fn() -> Moment) -> bool {
        let both = [
            (&self.fitness, &self.outage),
            (&self.endpoint.fitness, &self.endpoint.outage),
        ];
        let mut out = both
            .into_iter()
            .filter(|(fitness, _)| fitness.has(Against::Failures));
        out.any(|(_, outage)| outage.has_come(now()))
    }

    pub fn outage(&self, tried: Tried) -> &Outage {
        match tried {
            Tried::Backend => &self.outage,
            Tried::Endpoint => &self.endpoint.outage,
        }
    }
}

/// What a trial is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    Backend,
    Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_fit_when_nothing_speaks_against_it_and_then_warms_up() {
        let fitness = Fitness::default();
        assert!(fitness.is_plain());
        assert!(fitness.set(Against::Check, 5));
        assert!(!fitness.set(Against::Failures, 7));
        assert_eq!(fitness.unfit_since(), Some(5));
        assert!(!fitness.clear(Against::Check, 9));
        assert!(!fitness.clear(Against::Check, 9), "it was not set any more");
        assert!(fitness.clear(Against::Failures, 11));
        assert!(fitness.is_fit() && !fitness.is_plain());
        assert_eq!(fitness.warming_since(), Some(11));
        fitness.is_warm();
        assert!(fitness.is_plain());
        fitness.set(Against::Unproven, 12);
        assert!(fitness.clear(Against::Unproven, 13));
        assert!(fitness.is_plain(), "nothing to warm up for");
    }

    #[test]
    fn each_time_out_is_longer_and_one_request_tries() {
        let outage = Outage::default();
        let mut now = 10;
        for length in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(outage.begins(now), length);
            assert!(!outage.trial(now + length - 1));
            now += length;
            assert!(outage.trial(now));
            assert!(!outage.trial(now), "one at a time");
            outage.trial_is_over();
        }
        assert!(outage.trial(now) && !outage.trial(now + LONGEST_OUT - 1));
        assert!(outage.trial(now + LONGEST_OUT), "that one takes too long");
        now += 2 * LONGEST_OUT;
        assert_eq!(outage.begins(now), 1_000, "it had served for long");
    }
}
