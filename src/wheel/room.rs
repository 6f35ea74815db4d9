//! Connections that wait for a request and end, so that others get in.

use std::collections::HashMap;
use std::time::Duration;

use super::{GONE, TICK, Tick, Wheel};

/// A thirty-second of those that rest makes room at once.
const PART: usize = 32;

/// Whose connections could make room at which site, as found once in a tick.
#[derive(Debug, Default)]
pub(super) struct RestingAtSites {
    found: Option<Tick>,
    /// Since when each waits, and its index; who has waited longest comes last.
    of_sites: HashMap<u32, Vec<(Tick, u32)>>,
}

impl RestingAtSites {
    fn find(&mut self, resting: impl Iterator<Item = (Tick, u32, u32)>) {
        self.of_sites.clear();
        for (since, site, index) in resting.filter(|&(_, site, _)| site != GONE) {
            self.of_sites.entry(site).or_default().push((since, index));
        }
        for of_site in self.of_sites.values_mut() {
            of_site.sort_unstable_by(|one, other| other.cmp(one));
        }
    }
}

impl Wheel {
    /// Ends connections that have waited for a request for at least `rested`, those first that have waited longest: a
    /// thirty-second of them, so that looking at all is not paid for each. Returns how many.
    pub fn make_room(&self, rested: Duration) -> usize {
        let now = self.now();
        // Looking in vain is not paid for more than once a tick.
        if self.no_room.get() == now {
            return 0;
        }
        let mut filing = self.filing.borrow_mut();
        let mut resting: Vec<(Tick, u32)> = filing
            .resting_since(self.before(rested))
            .map(|(since, _, index)| (since, index))
            .collect();
        let count = resting.len().div_ceil(PART);
        if count == 0 {
            self.no_room.set(now);
            return 0;
        }
        resting.select_nth_unstable(count - 1);
        for &(_, index) in &resting[..count] {
            filing.end_resting(index);
        }
        count
    }

    /// Ends one connection of `site` that has waited for a request for at least `rested`: the one that has waited longest.
    /// Whether there was one. The connections of all sites are looked at once a tick, however many sites are full, and
    /// however often they are asked for.
    pub fn make_room_at_site(&self, site: u32, rested: Duration) -> bool {
        let mut filing = self.filing.borrow_mut();
        let mut resting = self.resting_at_sites.borrow_mut();
        if resting.found != Some(self.now()) {
            resting.found = Some(self.now());
            resting.find(filing.resting_since(self.before(rested)));
        }
        let Some(of_site) = resting.of_sites.get_mut(&site) else {
            return false;
        };
        while let Some((since, index)) = of_site.pop() {
            // It may have been asked something since it was found.
            let entry = &filing.entries[index as usize];
            if entry.site == site && entry.resting == since {
                filing.end_resting(index);
                return true;
            }
        }
        false
    }

    /// The same for somebody on another worker, who will come again: a part of those there are, and at least one.
    pub fn make_some_room_at_site(&self, site: u32, rested: Duration) -> usize {
        if !self.make_room_at_site(site, rested) {
            return 0;
        }
        let resting = self.resting_at_sites.borrow();
        let left = resting.of_sites.get(&site).map_or(0, Vec::len);
        drop(resting);
        let more = (0..left / PART).take_while(|_| self.make_room_at_site(site, rested));
        1 + more.count()
    }

    /// The last tick that lies at least `time` back.
    fn before(&self, time: Duration) -> Option<Tick> {
        let ticks = time.as_millis().div_ceil(TICK.as_millis());
        self.now().checked_sub(u32::try_from(ticks).ok()?)
    }
}
