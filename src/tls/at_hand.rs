//! The local authority at hand: opened, or made, when it is first needed, because most machines never do.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use super::authority::Authority;

/// What was in its way may be gone by then, and clients that keep asking cost a look at the disk only so often.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct AtHand {
    state: PathBuf,
    authority: OnceLock<Authority>,
    failed: Mutex<Option<Failed>>,
}

/// It could not be had.
#[derive(Debug)]
struct Failed {
    at: Instant,
    why: String,
}

impl AtHand {
    /// The one of this state directory.
    pub(super) fn of(state: PathBuf) -> AtHand {
        AtHand {
            state,
            authority: OnceLock::new(),
            failed: Mutex::default(),
        }
    }

    /// `None`: it cannot be had, and that was said. Tried again after a while.
    pub(super) fn get(&self) -> Option<&Authority> {
        self.get_at(Instant::now())
    }

    fn get_at(&self, now: Instant) -> Option<&Authority> {
        if let Some(authority) = self.authority.get() {
            return Some(authority);
        }
        // Whoever comes meanwhile waits for what comes of it.
        let mut failed = self.failed();
        if let Some(failed) = &*failed
            && now.saturating_duration_since(failed.at) < TRY_EVERY
        {
            return None;
        }
        match Authority::open(&self.state) {
            Ok(authority) => {
                *failed = None;
                let authority = self.authority.get_or_init(|| authority);
                if let Some(advice) = authority.advice(SystemTime::now()) {
                    warn!("{advice}");
                }
                Some(authority)
            }
            Err(why) => {
                let is_news = failed.as_ref().is_none_or(|before| before.why != why);
                if is_news {
                    error!("no certificates for local names: {why}");
                }
                *failed = Some(Failed { at: now, why });
                None
            }
        }
    }

    /// What an operator of a local name should know: that it cannot be had, or what is wrong with it.
    pub(super) fn advice(&self) -> Option<String> {
        if let Some(authority) = self.authority.get() {
            return authority.advice(SystemTime::now());
        }
        let failed = self.failed();
        let Failed { why, .. } = failed.as_ref()?;
        Some(format!("no certificates for local names: {why}"))
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failed>> {
        // What is in it is whole, whatever panicked beside it.
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_could_not_be_made_is_tried_again_after_a_minute() {
        let state = std::env::temp_dir().join(format!("onedoor-at-hand-{}", std::process::id()));
        std::fs::create_dir_all(&state).expect("folder");
        let in_the_way = state.join("authority");
        std::fs::write(&in_the_way, "a file").expect("file");
        let (at_hand, start) = (AtHand::of(state.clone()), Instant::now());
        assert!(at_hand.get_at(start).is_none());
        let advice = at_hand.advice().expect("advice");
        assert!(advice.contains("cannot make"), "{advice}");
        std::fs::remove_file(&in_the_way).expect("gone");
        assert!(at_hand.get_at(start + TRY_EVERY / 2).is_none());
        assert!(at_hand.get_at(start + TRY_EVERY).is_some());
        assert_eq!(at_hand.advice(), None);
        std::fs::remove_dir_all(&state).expect("gone");
    }
}
