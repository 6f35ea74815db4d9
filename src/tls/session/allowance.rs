//! How much a peer may say that is not clear text (CASES T-51).

use std::time::{Duration, Instant};

/// This often at once, and once more after each pause. New keys cost some ten microseconds, and nobody needs them more
/// often than each few minutes.
pub(super) const AT_ONCE: u32 = 32;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Allowance {
    used: u32,
    since: Option<Instant>,
}

impl Allowance {
    /// `false`: it is used up.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let pauses = now.saturating_duration_since(since).as_millis() / PAUSE.as_millis();
        if pauses > 0 {
            self.used = self
                .used
                .saturating_sub(u32::try_from(pauses).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        self.used += 1;
        self.used <= AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_talk_has_a_rate() {
        let mut allowance = Allowance::default();
        let start = Instant::now();
        for _ in 0..AT_ONCE {
            assert!(allowance.take(start));
        }
        assert!(!allowance.take(start));
        let mut allowance = Allowance::default();
        for second in 0..10 * AT_ONCE {
            assert!(allowance.take(start + PAUSE * second), "{second}");
        }
    }
}
