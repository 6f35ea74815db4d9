//! Waiting for something that will happen, with a deadline and a reason; never a guess at the time.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long any event may take on a machine that is busy with other tests. Less than the minute after which most of what
/// is forgotten ends by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Returns when `condition` is true; fails the test, saying `reason`, when it is not within [`PATIENCE`].
#[track_caller]
pub(crate) fn until(reason: &str, mut condition: impl FnMut() -> bool) {
    until_some(reason, || condition().then_some(()));
}

/// The same for what is due only half a minute after a start, and for the start itself: some have ten thousand sites.
#[track_caller]
pub(crate) fn until_late(reason: &str, mut condition: impl FnMut() -> bool) {
    until_some_within(reason, 2 * PATIENCE, || condition().then_some(()));
}

/// The same for a condition that brings something.
#[track_caller]
pub(crate) fn until_some<T>(reason: &str, look: impl FnMut() -> Option<T>) -> T {
    until_some_within(reason, PATIENCE, look)
}

#[track_caller]
fn until_some_within<T>(
    reason: &str,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain: {reason}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Stops a process that this one has started, with all of its threads: the signal alone only asks for that.
pub(crate) fn suspend(child: Pid) {
    kill_process(child, Signal::STOP).unwrap();
    let once_stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), once_stopped).unwrap();
}
