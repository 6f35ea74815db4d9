//! Turns: a poll of a task that is contained. What happens in one has one time in the access log.

use std::cell::Cell;

thread_local! {
    /// Counted at the begin and at the end of each: odd inside of one. That is all a turn costs.
    static COUNTED: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work` as a turn of this thread. It does not panic.
#[inline]
pub(super) fn take<T>(work: impl FnOnce() -> T) -> T {
    let turn = COUNTED.get() | 1;
    COUNTED.set(turn);
    let done = work();
    COUNTED.set(turn + 1);
    done
}

/// The turn that this thread is in, which is another number each time.
#[inline]
pub(super) fn current() -> Option<u64> {
    let counted = COUNTED.get();
    (counted & 1 == 1).then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_another_one_and_between_them_is_none() {
        assert_eq!(current(), None);
        let first = take(|| [current(), current()]);
        assert_eq!(current(), None);
        let second = take(current);
        assert!(first[0].is_some() && first[0] == first[1]);
        assert!(second.is_some() && second != first[0]);
    }
}
