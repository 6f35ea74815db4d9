//! The end of the process waits for what threads that write still have, but not for ever.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts to say something to a thread that has no room for it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until everything that `notes` was given before is written, at most until `deadline`. `mark` makes the note by which
/// the thread is asked to say so; one that has its hands full is asked when it has room.
pub(super) fn until_written<N>(
    notes: &SyncSender<N>,
    mark: impl FnOnce(SyncSender<()>) -> N,
    deadline: Instant,
) {
    let left = || deadline.saturating_duration_since(Instant::now());
    let (written, is_written) = sync_channel(1);
    let mut note = mark(written);
    loop {
        match notes.try_send(note) {
            Ok(()) => break,
            Err(TrySendError::Full(again)) if !left().is_zero() => {
                note = again;
                thread::sleep(LOOK_EVERY);
            }
            Err(_) => return,
        }
    }
    // In time or not, this is the end.
    is_written.recv_timeout(left()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Note {
        Work,
        Mark(SyncSender<()>),
    }

    #[test]
    fn a_thread_with_its_hands_full_is_waited_for_too() {
        let (notes, work) = sync_channel(1);
        notes.send(Note::Work).expect("room for one");
        let (begin, may_begin) = sync_channel::<()>(0);
        let worker = thread::spawn(move || {
            may_begin.recv().ok();
            let mut done = 0;
            while let Ok(note) = work.recv() {
                match note {
                    Note::Work => done += 1,
                    Note::Mark(written) => {
                        written.send(()).expect("somebody waits");
                        return done;
                    }
                }
            }
            done
        });
        thread::spawn(move || begin.send(()));
        until_written(&notes, Note::Mark, Instant::now() + Duration::from_secs(20));
        assert_eq!(worker.join().expect("no panic"), 1);
    }

    #[test]
    fn a_thread_that_is_stuck_is_not_waited_for_beyond_the_deadline() {
        let (notes, stuck) = sync_channel(1);
        notes.send(Note::Work).expect("room for one");
        let begun = Instant::now();
        until_written(&notes, Note::Mark, begun + Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50));
        drop(stuck);
    }
}
