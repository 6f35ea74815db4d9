//! When each check is asked next: on a beat of its own, so that a thousand of them are spread over time. Pure: the
//! time is passed in.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// So many that come together are asked at once, and soon again: somebody may wait for what was just edited. More
/// are spread over their interval, as after a start.
pub(super) const FEW: usize = 16;
/// A check that came with few others and has not passed yet is asked after so long, and so often, before its own
/// interval holds: an app that starts takes seconds.
pub(super) const SOON: Duration = Duration::from_millis(250);
pub(super) const SOON_TIMES: u32 = 40;

/// All have been asked once after so long: until then nobody knows whether they are fit.
const FIRST: Duration = Duration::from_secs(5);

/// A beat: every so often, at a place in the interval that nobody else was given on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    every: Duration,
    phase: Duration,
}

impl Beat {
    /// `hash` is what the check is known by: its place stays the same over reloads.
    pub(super) fn new(every: Duration, hash: u64) -> Beat {
        Beat {
            every,
            phase: part(every, hash),
        }
    }

    /// The next time after `now`, both counted from `start`. `random` moves it by up to a tenth of the interval, so
    /// that what began together does not stay together.
    pub(super) fn next(self, start: Instant, now: Instant, random: u64) -> Instant {
        let every = self.every.as_nanos().max(1);
        let gone = now.saturating_duration_since(start + self.phase).as_nanos();
        // The round after the nearest: the one that was moved to before its time has had its turn.
        let rounds = (gone + every / 2) / every + 1;
        let due = start + self.phase + nanos(rounds * every);
        let tenth = self.every / 10;
        let moved = due + part(2 * tenth, random) - tenth;
        // Not twice within half of an interval.
        moved.max(now + self.every / 2)
    }

    /// The first time: within one interval from now, and soon, however long that is.
    pub(super) fn first(self, now: Instant) -> Instant {
        let within = self.every.min(FIRST);
        let every = self.every.as_nanos().max(1);
        now + nanos(self.phase.as_nanos() * within.as_nanos() / every)
    }
}

/// As far into `whole` as `hash` is into all numbers.
fn part(whole: Duration, hash: u64) -> Duration {
    // The upper half is enough of a hash, and the product fits.
    let share = u128::from(hash >> 32);
    nanos((whole.as_nanos() * share) >> 32)
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// What is due when, each number once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeSet<(Instant, u64)>,
}

impl Agenda {
    pub(super) fn put(&mut self, number: u64, at: Instant) {
        self.due.insert((at, number));
    }

    pub(super) fn take_out(&mut self, number: u64, at: Instant) {
        self.due.remove(&(at, number));
    }

    /// Who is due longest, taken out.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let first = self.due.first().filter(|(at, _)| *at <= now).copied()?;
        self.due.remove(&first);
        Some(first.1)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    fn hash(number: u64) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        number.hash(&mut hasher);
        hasher.finish()
    }

    /// When each of `count` checks is asked within `time`.
    fn asked(count: u64, time: Duration) -> Vec<(u64, Duration)> {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let beats: Vec<Beat> = (0..count).map(|n| Beat::new(EVERY, hash(n))).collect();
        for (number, beat) in (0..).zip(&beats) {
            agenda.put(number, beat.first(start));
        }
        let mut all = Vec::new();
        while let Some(at) = agenda.next().filter(|at| *at < start + time) {
            let number = agenda.take(at).expect("it is due");
            all.push((number, at - start));
            let random = hash(all.len() as u64 ^ 0xfeed);
            agenda.put(number, beats[number as usize].next(start, at, random));
        }
        all
    }

    #[test]
    fn a_thousand_checks_are_spread_over_their_interval() {
        let time = Duration::from_secs(20);
        let all = asked(1000, time);
        let mut tenths = [0; 200];
        for (_, at) in &all {
            tenths[at.as_millis() as usize / 100] += 1;
        }
        // 50 on average; seven standard deviations.
        let most = tenths.iter().max().expect("some");
        let least = tenths.iter().min().expect("some");
        assert!(*most < 100 && *least > 15, "{least} to {most}: {tenths:?}");
        assert!((9_500..=10_500).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn each_check_keeps_its_interval_give_or_take_a_fifth() {
        let all = asked(50, Duration::from_secs(60));
        for number in 0..50 {
            let times: Vec<Duration> = all
                .iter()
                .filter(|(n, _)| *n == number)
                .map(|(_, at)| *at)
                .collect();
            for pair in times.windows(2) {
                let between = pair[1] - pair[0];
                assert!(
                    between >= EVERY * 4 / 5 && between <= EVERY * 6 / 5,
                    "{number}: {between:?}"
                );
            }
            assert!(
                (28..=32).contains(&times.len()),
                "{number}: {}",
                times.len()
            );
        }
    }

    #[test]
    fn one_that_took_longer_than_its_interval_is_not_asked_again_at_once() {
        let start = Instant::now();
        let beat = Beat::new(EVERY, 0);
        let late = start + EVERY * 7 - Duration::from_millis(1);
        let next = beat.next(start, late, u64::MAX / 2);
        assert!(next >= late + EVERY / 2, "{:?}", next - late);
        assert!(next <= late + EVERY * 2);
    }

    #[test]
    fn the_first_time_is_soon_however_long_the_interval_is() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for number in 0..100 {
            assert!(Beat::new(hour, hash(number)).first(now) <= now + FIRST);
            assert!(Beat::new(EVERY, hash(number)).first(now) <= now + EVERY);
        }
    }

    #[test]
    fn a_place_in_the_interval_is_the_same_after_a_reload() {
        assert_eq!(Beat::new(EVERY, 7 << 40), Beat::new(EVERY, 7 << 40));
        assert_eq!(Beat::new(EVERY, 1 << 63).phase, Duration::from_secs(1));
        assert!(Beat::new(EVERY, u64::MAX).phase < EVERY);
    }
}
