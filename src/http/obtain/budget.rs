//! How many retries a site may still have: a share of its requests, on each worker by itself.

use std::cell::RefCell;

/// What one retry takes, in hundredths of a request.
const RETRY: i32 = 100;
/// A site that has been quiet may have so many at once: of nothing, no share is enough.
const RESERVE: i32 = 10 * RETRY;

/// By `Site::number`: what is missing from a full reserve, so that a new site has one.
#[derive(Debug, Default)]
pub(in crate::http) struct Budget(RefCell<Vec<i32>>);

impl Budget {
    /// A request of the site of this number; retries may be `percent` of them.
    pub(in crate::http) fn request(&self, number: u32, percent: u32) {
        // Sites without retries have nothing to fill up.
        if let Some(spent) = self.0.borrow_mut().get_mut(number as usize)
            && *spent > 0
        {
            *spent = spent.saturating_sub_unsigned(percent);
        }
    }

    /// Takes what a retry needs. `false`: there have been too many.
    pub(in crate::http) fn spend(&self, number: u32) -> bool {
        let mut all = self.0.borrow_mut();
        let number = number as usize;
        if all.len() <= number {
            all.resize(number + 1, 0);
        }
        let spent = &mut all[number];
        if *spent + RETRY > RESERVE {
            return false;
        }
        *spent = (*spent).max(0) + RETRY;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_no_more_than_their_share_beyond_the_first_ten() {
        let budget = Budget::default();
        let retries = (0..1_000).filter(|_| {
            budget.request(3, 20);
            budget.spend(3)
        });
        let count = retries.count();
        assert!((200..=210).contains(&count), "{count}");
        let none = (0..1_000).filter(|_| {
            budget.request(4, 0);
            budget.spend(4)
        });
        assert_eq!(none.count(), 10);
    }
}
