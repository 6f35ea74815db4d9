//! Requests beside each other on one connection: each has a share of what its client may have.

use super::connection::Shared;
use crate::slots::NoSlot;

/// The right of a request to be open beside the others of its client.
pub(super) struct Share<'a>(&'a Shared);

impl Shared {
    /// Each request holds what a connection of HTTP/1 holds: an upstream, and so a descriptor. The first has the slot of the
    /// connection, and each beside it one more, as long as about as many are open. `None`: the client has all it may have.
    pub(super) fn share(&self) -> Option<Share<'_>> {
        let sharing = self.sharing.get();
        let mut more = self.more_slots.borrow_mut();
        while more.len() < sharing {
            let rested = self.kit.shared.limits.idle_when_full;
            let slot = match self.slot.another() {
                // Who only waits for a request makes room.
                Err(NoSlot::Full) => {
                    self.kit.wheel.make_room(rested);
                    self.slot.another_too_many()
                }
                slot => slot,
            };
            more.push(slot.ok()?);
        }
        self.sharing.set(sharing + 1);
        Some(Share(self))
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let Share(shared) = self;
        let sharing = shared.sharing.get() - 1;
        shared.sharing.set(sharing);
        let mut more = shared.more_slots.borrow_mut();
        if more.len() > 2 * sharing {
            more.truncate(sharing);
        }
    }
}
