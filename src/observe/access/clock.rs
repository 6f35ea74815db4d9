//! The times of a line: one look at the steady clock in a turn; the calendar is asked once a second.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::digits::six_digits;
use crate::observe::turn;

/// Microseconds on a [`Clock`].
pub(super) type Micros = u64;

/// The clock of one worker.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// The turn that has looked last, and what it saw.
    looked: Cell<(u64, Micros)>,
    second: RefCell<Second>,
}

/// A second as it is written: hundreds of lines have the same.
#[derive(Debug)]
struct Second {
    /// When it began. A clock that is set is noticed with the next one.
    since: Micros,
    rfc3339: [u8; RFC3339_BYTES],
    clf: [u8; CLF_BYTES],
}

/// Up to the point behind the seconds.
pub(super) const RFC3339_BYTES: usize = "2026-11-27T23:25:51.".len();
const CLF_BYTES: usize = "10/Oct/2000:13:55:36 +0000".len();
const SECOND: Micros = 1_000_000;

impl Clock {
    pub(super) fn new() -> Clock {
        let clock = Clock {
            started: Instant::now(),
            looked: Cell::new((0, 0)),
            second: RefCell::new(Second::of(0, 0)),
        };
        clock.second.borrow_mut().renew(clock.now());
        clock
    }

    /// Nothing that happens in one turn waits for anything, so all of it has one time.
    #[inline]
    pub(super) fn now(&self) -> Micros {
        let (turn, seen) = self.looked.get();
        match turn::current() {
            Some(current) if current == turn => seen,
            Some(current) => {
                let now = self.look();
                self.looked.set((current, now));
                now
            }
            None => self.look(),
        }
    }

    /// Counted from a second before it was made: the second it was made in has begun on it.
    #[inline]
    fn look(&self) -> Micros {
        let since = self.started.elapsed();
        SECOND + since.as_secs() * SECOND + u64::from(since.subsec_micros())
    }

    /// RFC 3339 with microseconds, but for its `Z`. `at` is now, or nearly.
    #[inline]
    pub(super) fn rfc3339(&self, at: Micros) -> [u8; RFC3339_BYTES + 6] {
        let mut text = [0; RFC3339_BYTES + 6];
        self.with(at, |second, micros| {
            text[..RFC3339_BYTES].copy_from_slice(&second.rfc3339);
            text[RFC3339_BYTES..].copy_from_slice(&six_digits(micros));
        });
        text
    }

    /// `10/Oct/2000:13:55:36 +0000`.
    #[inline]
    pub(super) fn put_clf(&self, out: &mut Vec<u8>, at: Micros) {
        self.with(at, |second, _| out.extend_from_slice(&second.clf));
    }

    #[inline]
    fn with(&self, at: Micros, put: impl FnOnce(&Second, u32)) {
        let mut second = self.second.borrow_mut();
        let mut micros = at.wrapping_sub(second.since);
        if micros >= SECOND {
            second.renew(at);
            micros = at.wrapping_sub(second.since);
        }
        put(&second, micros as u32);
    }
}

impl Second {
    /// The one that `at` lies in, as the calendar has it now.
    #[cold]
    fn renew(&mut self, at: Micros) {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let into_it = u64::from(since.subsec_micros());
        *self = Second::of(at - into_it, since.as_secs());
    }

    fn of(since: Micros, seconds: u64) -> Second {
        let time = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let year = u32::try_from(time.year()).unwrap_or_default();
        let clock = [time.hour(), time.minute(), time.second()].map(u32::from);
        let mut rfc3339 = *b"0000-00-00T00:00:00.";
        put_digits(&mut rfc3339[..4], year);
        put_digits(&mut rfc3339[5..7], u32::from(u8::from(time.month())));
        put_digits(&mut rfc3339[8..10], u32::from(time.day()));
        let mut clf = *b"00/Jan/0000:00:00:00 +0000";
        put_digits(&mut clf[..2], u32::from(time.day()));
        clf[3..6].copy_from_slice(&time.month().to_string().as_bytes()[..3]);
        put_digits(&mut clf[7..11], year);
        for (at, number) in clock.into_iter().enumerate() {
            put_digits(&mut rfc3339[11 + 3 * at..][..2], number);
            put_digits(&mut clf[12 + 3 * at..][..2], number);
        }
        Second {
            since,
            rfc3339,
            clf,
        }
    }
}

/// The last digits of a number, as many as there is room for.
fn put_digits(to: &mut [u8], mut number: u32) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let second = Second::of(0, 784_111_777);
        assert_eq!(&second.rfc3339, b"1994-11-06T08:49:37.");
        assert_eq!(&second.clf, b"06/Nov/1994:08:49:37 +0000");
    }

    #[test]
    fn a_line_is_of_the_time_it_is_written_at_also_when_the_second_is_over() {
        let clock = Clock::new();
        for _ in 0..3 {
            let mut text = Vec::new();
            let before = time::OffsetDateTime::now_utc();
            let at = clock.now();
            text.extend_from_slice(&clock.rfc3339(at));
            let text = String::from_utf8(text).expect("UTF-8");
            assert_eq!(text.len(), "2026-11-27T23:25:51.123456".len());
            // Both clocks were looked at one after the other, on a machine that may be busy.
            let seconds: f64 = text[17..].parse().expect("seconds");
            let read = f64::from(before.second()) + f64::from(before.microsecond()) / 1e6;
            let apart = (seconds - read + 60.0) % 60.0;
            assert!(!(1.0..59.0).contains(&apart), "{text} after {before}");
            // As if it were over.
            clock.second.borrow_mut().since = at - SECOND;
        }
    }
}
