//! What goes wrong at a backend, in one line, as the requests that go there find it: for whoever looks at it later.
//!
//! Nobody looks while nobody asks, so it says when it was found last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;

/// See the module. Shared by workers; written only by what fails, and by the first that does not.
#[derive(Debug, Default)]
pub struct Trouble {
    /// When it was found last, in seconds of Unix time. 0: it is over.
    last: AtomicU64,
    told: ArcSwapOption<Told>,
}

#[derive(Debug)]
struct Told {
    why: Box<str>,
    since: SystemTime,
}

/// Trouble that goes on, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub why: Box<str>,
    pub since: SystemTime,
    pub last: SystemTime,
}

impl Trouble {
    /// It has failed at `now`, for the reason `why`. What is known already is not written down again.
    pub fn is_found(&self, why: &str, now: SystemTime) {
        let told = self.told.load();
        let told = told.as_ref().filter(|_| self.goes_on());
        if told.is_none_or(|told| *told.why != *why) {
            let since = told.map_or(now, |told| told.since);
            let why = why.into();
            self.told.store(Some(Told { why, since }.into()));
        }
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(seconds.as_secs().max(1), Ordering::Release);
    }

    /// It has not failed. One load where it had not before, either.
    pub fn is_over(&self) {
        if self.goes_on() {
            self.last.store(0, Ordering::Relaxed);
        }
    }

    /// One load.
    pub fn goes_on(&self) -> bool {
        self.last.load(Ordering::Acquire) != 0
    }

    /// `None`: there is none.
    pub fn read(&self) -> Option<Found> {
        let last = self.last.load(Ordering::Acquire);
        let told = self.told.load();
        let told = told.as_ref().filter(|_| last != 0)?;
        Some(Found {
            why: told.why.clone(),
            since: told.since,
            last: UNIX_EPOCH + Duration::from_secs(last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_since_it_was_found_first_and_says_what_was_found_last() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let trouble = Trouble::default();
        let found = |why: &str, since, last| {
            let (since, last) = (at(since), at(last));
            let why = why.into();
            assert_eq!(trouble.read(), Some(Found { why, since, last }));
        };
        trouble.is_over();
        assert_eq!(trouble.read(), None);
        trouble.is_found("refused", at(10));
        trouble.is_found("refused", at(11));
        found("refused", 10, 11);
        trouble.is_found("too slow", at(12));
        found("too slow", 10, 12);
        trouble.is_over();
        assert_eq!(trouble.read(), None);
        trouble.is_found("too slow", at(13));
        found("too slow", 13, 13);
    }
}
