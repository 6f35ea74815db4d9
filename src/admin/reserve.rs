//! Descriptors kept for questions: on the day when clients and backends have all the others, it is most worth to ask.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::dup2;
use tokio::net::{UnixListener, UnixStream};

/// One for a question, and one for the case that somebody else is quicker when it is let go of.
const DESCRIPTORS: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct Reserve(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// What they are copies of; of no use but to hold a place.
    source: Option<OwnedFd>,
    copies: Mutex<Vec<OwnedFd>>,
}

impl Reserve {
    pub(super) fn keep(listener: &UnixListener) -> Reserve {
        let copy = || listener.as_fd().try_clone_to_owned().ok();
        Reserve(Arc::new(Kept {
            source: copy(),
            copies: Mutex::new((0..DESCRIPTORS).filter_map(|_| copy()).collect()),
        }))
    }

    /// Lets one go, for the next accept. `false`: there is none.
    pub(super) fn spend(&self) -> bool {
        self.copies().pop().is_some()
    }

    /// Closes `stream` and keeps its descriptor, where one is missing: between a close and an open whoever waits for a
    /// descriptor would take it.
    pub(super) fn close(&self, stream: UnixStream) {
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let mut copies = self.copies();
        if copies.len() >= DESCRIPTORS {
            return;
        }
        let mut descriptor = OwnedFd::from(stream);
        if let Some(source) = &self.0.source
            && dup2(source, &mut descriptor).is_ok()
        {
            copies.push(descriptor);
        }
    }

    fn copies(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        // A list of descriptors is whole whatever panicked beside it.
        self.0.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
