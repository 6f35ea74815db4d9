//! Which entry stands in which slot, and when it is looked at again.

use std::task::Waker;

use super::{NEVER, SLOTS, Serving, Tick};

#[derive(Debug)]
pub(super) struct Filing {
    pub(super) entries: Vec<Entry>,
    /// Indices of entries that nobody owns.
    pub(super) free: Vec<u32>,
    /// Indices of entries, by the slot they are filed in.
    pub(super) slots: Vec<Vec<u32>>,
    /// The last tick whose slot has been looked at.
    pub(super) swept: Tick,
    /// Indices of entries that have fired and whose tasks have not been woken.
    pub(super) due: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) deadline: Tick,
    /// When whatever the connection is doing must end, because its site was edited or removed.
    pub(super) cut: Tick,
    pub(super) filed: Tick,
    /// Where in its slot the entry stands.
    pub(super) position: u32,
    pub(super) fired: bool,
    /// Since when it waits for a request; [`NEVER`] when it does not.
    pub(super) resting: Tick,
    /// `Site::number` of the one it takes a slot of; [`GONE`] for none.
    pub(super) site: u32,
    pub(super) waker: Option<Waker>,
    pub(super) serving: Option<Serving>,
}

impl Filing {
    /// Those that have waited for a request since `latest` or longer: since when, at which site, and the index.
    pub(super) fn resting_since(
        &self,
        latest: Option<Tick>,
    ) -> impl Iterator<Item = (Tick, u32, u32)> + use<'_> {
        (0..)
            .zip(&self.entries)
            .filter(move |(_, entry)| latest.is_some_and(|latest| entry.resting <= latest))
            .map(|(index, entry)| (entry.resting, entry.site, index))
    }

    pub(super) fn end_resting(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.resting = NEVER;
        entry.fire();
    }

    /// Looks at everything filed under `tick`.
    pub(super) fn sweep(&mut self, tick: Tick, now: Tick) {
        let slot = (tick % SLOTS) as usize;
        let due = std::mem::take(&mut self.slots[slot]);
        for &index in &due {
            let entry = &mut self.entries[index as usize];
            entry.filed = NEVER;
            let deadline = entry.deadline.min(entry.cut);
            if deadline <= now {
                entry.fired = true;
                self.due.push(index);
            } else if deadline != NEVER {
                self.file(index, deadline, now);
            }
        }
        // The emptied list keeps its room, unless somebody was filed into the same slot anew.
        let mut emptied = due;
        emptied.clear();
        if self.slots[slot].is_empty() {
            self.slots[slot] = emptied;
        }
    }

    /// Makes sure that the entry is looked at by `deadline`.
    pub(super) fn file_by(&mut self, index: u32, deadline: Tick, now: Tick) {
        if self.entries[index as usize].filed <= deadline {
            return;
        }
        self.take_out(index);
        self.file(index, deadline, now);
    }

    fn file(&mut self, index: u32, deadline: Tick, now: Tick) {
        let tick = deadline.clamp(now + 1, now + SLOTS - 1);
        let slot = &mut self.slots[(tick % SLOTS) as usize];
        let entry = &mut self.entries[index as usize];
        entry.filed = tick;
        entry.position = u32::try_from(slot.len()).unwrap_or(NEVER);
        slot.push(index);
    }

    pub(super) fn take_out(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        if entry.filed == NEVER {
            return;
        }
        let position = entry.position as usize;
        let slot = &mut self.slots[(entry.filed % SLOTS) as usize];
        slot.swap_remove(position);
        if let Some(&moved) = slot.get(position) {
            self.entries[moved as usize].position = position as u32;
        }
        self.entries[index as usize].filed = NEVER;
    }
}

impl Entry {
    pub(super) fn fire(&mut self) {
        self.fired = true;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
