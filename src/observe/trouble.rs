//! Trouble that lasts: said when it begins, once a second at most while it goes on, and once when it is over.

use std::cell::Cell;
use std::time::{Duration, Instant};

const SAY_EVERY: Duration = Duration::from_secs(1);

/// One kind of trouble of one thread.
#[derive(Debug, Default)]
pub struct Trouble {
    said: Cell<Option<Instant>>,
    goes_on: Cell<bool>,
}

impl Trouble {
    /// Whether it is to be said now, that there is trouble.
    pub fn is_to_be_said(&self) -> bool {
        let now = Instant::now();
        let last = self.said.get();
        let is_time = last.is_none_or(|last| now.duration_since(last) >= SAY_EVERY);
        if is_time {
            self.said.set(Some(now));
            self.goes_on.set(true);
        }
        is_time
    }

    /// There is none now. Whether that is to be said, because the trouble was.
    pub fn is_over(&self) -> bool {
        self.goes_on.replace(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_said_once_a_second_and_its_end_as_often() {
        let trouble = Trouble::default();
        assert!(!trouble.is_over(), "there was none");
        assert!(trouble.is_to_be_said());
        assert!(!trouble.is_to_be_said());
        assert!(trouble.is_over());
        assert!(!trouble.is_over());
        assert!(!trouble.is_to_be_said(), "within the second");
        assert!(!trouble.is_over(), "this time it was not said");
    }
}
