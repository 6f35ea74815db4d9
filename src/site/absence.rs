//! That nobody accepts at an endpoint, as the requests that go there find it. `hold` is counted from its beginning.
//!
//! Nobody looks while nobody asks, so what was found a while ago says little: the app may have come back and gone again
//! unseen, which is what a developer does all day. After a silence an absence is therefore counted anew, and whoever asks
//! then is held as after any loss. So that somebody who asks now and then at an app that is gone for good does not wait
//! in vain each time, the silence that it takes doubles with each absence that follows on another.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::fitness::Moment;

/// See the module. Shared by workers; written only by connects that fail, and by the first that does not.
#[derive(Debug, Default)]
pub struct Absence {
    /// When the first connect of the present absence failed; 0: the last one succeeded.
    since: AtomicU64,
    /// When the last one failed.
    seen: AtomicU64,
    /// How many absences have followed on one another without anybody being there between them.
    times: AtomicU32,
}

/// The first silence that is long enough, in milliseconds. 5 s, as long as `hold` unless a site says otherwise: who has
/// waited in vain and asks again at once is told at once.
const SILENCE: Moment = 5_000;
/// And the longest that it takes: whoever is gone for an hour may be awaited again.
const LONGEST_SILENCE: Moment = 3_600_000;

impl Absence {
    /// Since when nobody accepts. `None`: somebody does, as far as is known. One load.
    pub fn since(&self) -> Option<Moment> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0).then_some(since)
    }

    /// A connect that began at `began` has failed just now.
    pub fn is_found(&self, began: Moment, now: Moment) {
        let seen = self.seen.swap(now, Ordering::Relaxed);
        if self.since.load(Ordering::Relaxed) == 0 {
            self.times.store(0, Ordering::Relaxed);
            self.since.store(began.max(1), Ordering::Relaxed);
            return;
        }
        let times = self.times.load(Ordering::Relaxed);
        let long_enough = (SILENCE << times.min(10)).min(LONGEST_SILENCE);
        if began.saturating_sub(seen) >= long_enough {
            self.times.store(times.saturating_add(1), Ordering::Relaxed);
            self.since.store(began.max(1), Ordering::Relaxed);
        }
    }

    /// A connect has succeeded. Whether the one before had not. One load where it had.
    pub fn is_over(&self) -> bool {
        self.since.load(Ordering::Relaxed) != 0 && self.since.swap(0, Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_counted_from_its_first_failure_as_long_as_somebody_asks() {
        let absence = Absence::default();
        assert_eq!(absence.since(), None);
        for now in (10_000..100_000).step_by(4_000) {
            absence.is_found(now, now);
            assert_eq!(absence.since(), Some(10_000));
        }
        assert!(absence.is_over() && !absence.is_over());
        assert_eq!(absence.since(), None);
        absence.is_found(100_001, 100_101);
        assert_eq!(absence.since(), Some(100_001), "from when it was tried");
    }

    #[test]
    fn after_a_silence_it_is_counted_anew_and_each_takes_a_longer_one() {
        let absence = Absence::default();
        let mut now = 1_000;
        absence.is_found(now, now);
        for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            let before = absence.since();
            now += seconds * 1_000 - 1;
            absence.is_found(now, now);
            assert_eq!(absence.since(), before, "{seconds} s are not over");
            now += seconds * 1_000;
            absence.is_found(now, now);
            assert_eq!(absence.since(), Some(now), "after {seconds} s");
        }
        assert!(absence.is_over());
        absence.is_found(now, now);
        absence.is_found(now + SILENCE, now + SILENCE);
        assert_eq!(absence.since(), Some(now + SILENCE), "it had been back");
    }

    #[test]
    fn the_time_that_a_connect_takes_is_no_silence() {
        let absence = Absence::default();
        absence.is_found(1, 5_001);
        absence.is_found(5_001, 10_001);
        absence.is_found(10_001, 15_001);
        assert_eq!(absence.since(), Some(1));
    }
}
