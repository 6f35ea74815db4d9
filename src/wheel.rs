//! A worker's coarse clock and the deadlines of its connections.
//!
//! One slot a tick (100 ms). A connection has one entry; what it does on the way of a request is write a number
//! into it. The entry is looked at again when its slot comes round, and filed anew if its deadline has moved on,
//! so no request costs a timer operation. Times are therefore late by at most two ticks, and never early; where a great many
//! end at the same tick, also by what ending them in groups takes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::site::tls::MinVersion;

/// The unit of this clock.
pub const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: u64 = 10;
/// Slots of the wheel: 51.2 s. A later deadline is filed at the far end and looked at again there.
const SLOTS: u32 = 512;
/// No deadline.
const NEVER: u32 = u32::MAX;

/// A point in time, in ticks since the worker started. Wraps after thirteen years.
pub type Tick = u32;

/// The wheel of one worker.
#[derive(Debug)]
pub struct Wheel {
    started: Instant,
    now: Cell<Tick>,
    draining: Cell<bool>,
    /// When it last turned out that nobody could make room.
    no_room: Cell<Tick>,
    resting_at_sites: RefCell<RestingAtSites>,
    filing: RefCell<Filing>,
}

#[derive(Debug)]
struct Filing {
    entries: Vec<Entry>,
    /// Indices of entries that nobody owns.
    free: Vec<u32>,
    /// Indices of entries, by the slot they are filed in.
    slots: Vec<Vec<u32>>,
    /// The last tick whose slot has been looked at.
    swept: Tick,
    /// Indices of entries that have fired and whose tasks have not been woken.
    due: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    deadline: Tick,
    /// When whatever the connection is doing must end, because its site was edited or removed.
    cut: Tick,
    filed: Tick,
    /// Where in its slot the entry stands.
    position: u32,
    fired: bool,
    /// Since when it waits for a request; [`NEVER`] when it does not.
    resting: Tick,
    /// `Site::number` of the one it takes a slot of; [`GONE`] for none.
    site: u32,
    waker: Option<Waker>,
    serving: Option<Serving>,
}

/// Which part of which site a connection is busy with: how a publish finds the connections it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// [`crate::site::Site::number`]: the same for all its versions, so that what began before an edit is still
    /// found after it. [`GONE`] once it is gone.
    pub site: u32,
    /// [`crate::site::Site::version`] it was routed by, or one that puts the same path rules in the same places.
    pub version: u64,
    /// Index of the path rule.
    pub rule: Option<u32>,
    /// Who asked in truth: a trusted proxy's client, or the client itself. `None`: nobody knows.
    pub asker: Option<IpAddr>,
    /// How it came by TLS that ends here. `None`: in clear text, or passed through.
    pub tls: Option<Came>,
}

/// What is known of the TLS of a connection, as far as an edit may ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    pub version: MinVersion,
    /// `Policy::number` of the one it was let in under.
    pub policy: u32,
}

/// A thirty-second of those that rest makes room at once.
const PART: usize = 32;

/// Whose connections could make room at which site, as found once in a tick.
#[derive(Debug, Default)]
struct RestingAtSites {
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

/// Stands in [`Serving::site`] for a site that is gone: its number may be another one's by then.
pub const GONE: u32 = u32::MAX;

/// What [`Timer::within`] says instead of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

impl Wheel {
    pub fn new() -> Rc<Wheel> {
        Rc::new(Wheel {
            started: Instant::now(),
            now: Cell::new(0),
            draining: Cell::new(false),
            no_room: Cell::new(NEVER),
            resting_at_sites: RefCell::default(),
            filing: RefCell::new(Filing {
                entries: Vec::new(),
                free: Vec::new(),
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                swept: 0,
                due: Vec::new(),
            }),
        })
    }

    /// The coarse time, as of the last turn.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// The first tick that lies at least `after` from now.
    pub fn at(&self, after: Duration) -> Tick {
        self.after(self.now(), after)
    }

    /// The first tick that lies at least `after` from `since`.
    pub fn after(&self, since: Tick, after: Duration) -> Tick {
        // In 64 bits: this is on the way of every request, several times.
        let part = after.subsec_nanos().div_ceil(TICK.subsec_nanos());
        let ticks = after.as_secs().saturating_mul(TICKS_PER_SECOND) + u64::from(part);
        since
            .saturating_add(u32::try_from(ticks).unwrap_or(NEVER))
            .saturating_add(1)
    }

    /// Whether the worker is draining: whoever is between two requests ends.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on connections between two requests end. Wakes everybody, so that they notice.
    pub fn drain(&self) {
        self.draining.set(true);
        for entry in &mut self.filing.borrow_mut().entries {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// A timer for one connection. Nothing is set.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let entry = Entry {
            deadline: NEVER,
            cut: NEVER,
            filed: NEVER,
            position: 0,
            fired: false,
            resting: NEVER,
            site: GONE,
            waker: None,
            serving: None,
        };
        let mut filing = self.filing.borrow_mut();
        let index = match filing.free.pop() {
            Some(index) => {
                filing.entries[index as usize] = entry;
                index
            }
            None => {
                filing.entries.push(entry);
                u32::try_from(filing.entries.len() - 1).unwrap_or(NEVER)
            }
        };
        Timer {
            wheel: Rc::clone(self),
            index,
        }
    }

    /// Takes the time, and notes whose deadline has passed. Called once a tick; [`Wheel::wake`] tells them.
    pub fn turn(&self) {
        let ticks = self.started.elapsed().as_millis() / TICK.as_millis();
        self.turn_to(u32::try_from(ticks).unwrap_or(NEVER - 1));
    }

    fn turn_to(&self, now: Tick) {
        self.now.set(now);
        let mut filing = self.filing.borrow_mut();
        // After a long pause every slot is looked at once, not once a lost tick.
        let first = (filing.swept + 1).max(now.saturating_sub(SLOTS - 1));
        for tick in first..=now {
            filing.sweep(tick, now);
        }
        filing.swept = now;
    }

    /// Wakes up to `most` of those whose deadline has passed. Whether there are more: deadlines fall together on ticks,
    /// and ending a thousand connections in a row would keep everybody else waiting.
    pub fn wake(&self, most: usize) -> bool {
        let mut filing = self.filing.borrow_mut();
        let Filing { due, entries, .. } = &mut *filing;
        let rest = due.len().saturating_sub(most);
        for index in due.drain(rest..) {
            // Somebody else's by now, it has not fired; and if it has, it is only told so twice.
            let entry = &entries[index as usize];
            if let (true, Some(waker)) = (entry.fired, &entry.waker) {
                waker.wake_by_ref();
            }
        }
        rest > 0
    }

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

    /// Gives every connection for which `choose` names a time at most that long to end what it is doing. `choose`
    /// may say anew what the connection is to be found by.
    pub fn cut(&self, mut choose: impl FnMut(&mut Serving) -> Option<Duration>) {
        let mut filing = self.filing.borrow_mut();
        for index in 0..filing.entries.len() {
            let Some(after) = filing.entries[index].serving.as_mut().and_then(&mut choose) else {
                continue;
            };
            let at = if after.is_zero() {
                self.now()
            } else {
                self.at(after)
            };
            let entry = &mut filing.entries[index];
            entry.cut = entry.cut.min(at);
            if at <= self.now.get() {
                entry.fire();
            } else {
                filing.file_by(index as u32, at, self.now());
            }
        }
    }
}

impl Filing {
    /// Those that have waited for a request since `latest` or longer: since when, at which site, and the index.
    fn resting_since(
        &self,
        latest: Option<Tick>,
    ) -> impl Iterator<Item = (Tick, u32, u32)> + use<'_> {
        (0..)
            .zip(&self.entries)
            .filter(move |(_, entry)| latest.is_some_and(|latest| entry.resting <= latest))
            .map(|(index, entry)| (entry.resting, entry.site, index))
    }

    fn end_resting(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.resting = NEVER;
        entry.fire();
    }

    /// Looks at everything filed under `tick`.
    fn sweep(&mut self, tick: Tick, now: Tick) {
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
    fn file_by(&mut self, index: u32, deadline: Tick, now: Tick) {
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

    fn take_out(&mut self, index: u32) {
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
    fn fire(&mut self) {
        self.fired = true;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The deadline of one connection.
#[derive(Debug)]
pub struct Timer {
    wheel: Rc<Wheel>,
    index: u32,
}

impl Timer {
    pub fn wheel(&self) -> &Rc<Wheel> {
        &self.wheel
    }

    /// Fires `after` from now, unless set anew before.
    pub fn set(&self, after: Duration) {
        self.set_at(self.wheel.at(after));
    }

    /// The connection is busy with nothing and waits for a request, at most for `after`. It may be told to make room.
    pub fn rest(&self, after: Duration) {
        let now = self.wheel.now();
        let deadline = self.wheel.at(after);
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = None;
        entry.cut = NEVER;
        entry.deadline = deadline;
        entry.resting = now;
        entry.fired = false;
        if deadline < entry.filed {
            filing.file_by(self.index, deadline, now);
        }
    }

    /// Says which site the connection takes a slot of; [`GONE`]: of none.
    pub fn at_site(&self, site: u32) {
        self.wheel.filing.borrow_mut().entries[self.index as usize].site = site;
    }

    /// Whether it fired before its time: somebody else needs the room.
    pub fn fired_for_room(&self) -> bool {
        let filing = self.wheel.filing.borrow();
        filing.entries[self.index as usize].deadline > self.wheel.now.get()
    }

    /// Fires at `deadline`, unless set anew before.
    pub fn set_at(&self, deadline: Tick) {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.deadline = deadline;
        entry.resting = NEVER;
        entry.fired = entry.cut <= self.wheel.now.get();
        if deadline < entry.filed {
            filing.file_by(self.index, deadline, self.wheel.now());
        }
    }

    /// Fires no more, except to cut.
    pub fn clear(&self) {
        self.set_at(NEVER);
    }

    /// Says what the connection is busy with, and forgets a cut that was about something else.
    pub fn serving(&self, serving: Option<Serving>) {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = serving;
        entry.cut = NEVER;
    }

    /// Whether the deadline has passed. When not, the task that asks is woken once it has.
    pub fn poll_fired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut filing = self.wheel.filing.borrow_mut();
        let entry = &mut filing.entries[self.index as usize];
        if entry.fired {
            return Poll::Ready(());
        }
        if !entry
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether it was the cut that fired.
    pub fn was_cut(&self) -> bool {
        let filing = self.wheel.filing.borrow();
        filing.entries[self.index as usize].cut <= self.wheel.now.get()
    }

    /// Runs `work`, but at most for `limit`. What `work` had done when it is dropped at the limit is its own affair.
    ///
    /// # Errors
    /// [`Expired`] at the limit.
    pub async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Expired> {
        self.set(limit);
        self.until_fired(work).await
    }

    /// Runs `work`, but no longer than to the deadline that is set already.
    ///
    /// # Errors
    /// [`Expired`] at the deadline.
    pub async fn until_fired<T>(&self, work: impl Future<Output = T>) -> Result<T, Expired> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll_fired(cx).map(|()| Err(Expired)),
        })
        .await
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut filing = self.wheel.filing.borrow_mut();
        filing.take_out(self.index);
        let entry = &mut filing.entries[self.index as usize];
        entry.serving = None;
        entry.resting = NEVER;
        let waker = entry.waker.take();
        filing.free.push(self.index);
        drop(filing);
        drop(waker); // last: dropping a waker may drop a task, and that task's timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn fired(timer: &Timer) -> bool {
        timer
            .poll_fired(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    fn timer(wheel: &Rc<Wheel>) -> Timer {
        wheel.timer()
    }

    fn serve(timer: &Timer, site: u32) {
        timer.serving(Some(Serving {
            site,
            version: 1,
            rule: None,
            asker: Some(Ipv4Addr::LOCALHOST.into()),
            tls: None,
        }));
    }

    #[test]
    fn a_deadline_fires_when_it_has_passed_and_not_before() {
        let wheel = Wheel::new();
        let timer = timer(&wheel);
        timer.set(Duration::from_millis(250));
        wheel.turn_to(3);
        assert!(!fired(&timer));
        wheel.turn_to(4);
        assert!(fired(&timer));
    }

    #[test]
    fn a_deadline_that_moves_on_is_filed_anew_and_one_that_moves_closer_is_met() {
        let wheel = Wheel::new();
        let timer = timer(&wheel);
        timer.set_at(10);
        wheel.turn_to(9);
        timer.set_at(900);
        wheel.turn_to(899);
        assert!(!fired(&timer));
        timer.set_at(901);
        wheel.turn_to(900);
        assert!(!fired(&timer));
        wheel.turn_to(901);
        assert!(fired(&timer));
        timer.set_at(2000);
        timer.set_at(905);
        assert!(!fired(&timer));
        wheel.turn_to(905);
        assert!(fired(&timer));
    }

    #[test]
    fn a_long_pause_of_the_thread_loses_nobody() {
        let wheel = Wheel::new();
        let timers: Vec<Timer> = (0..100).map(|_| timer(&wheel)).collect();
        for (n, timer) in timers.iter().enumerate() {
            timer.set_at(5 + 7 * n as u32);
        }
        wheel.turn_to(5000);
        assert!(timers.iter().all(fired));
    }

    #[test]
    fn those_whose_time_is_over_at_once_are_woken_in_groups() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let wheel = Wheel::new();
        let timers: Vec<Timer> = (0..10).map(|_| timer(&wheel)).collect();
        for timer in &timers {
            timer.set_at(5);
            assert!(
                timer
                    .poll_fired(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        wheel.turn_to(5);
        assert!(timers.iter().all(fired), "who looks sees it at once");
        timers[9].set_at(20);
        for (more, count) in [(true, 3), (true, 7), (false, 9)] {
            assert_eq!(wheel.wake(4), more);
            assert_eq!(woken.0.load(Ordering::Relaxed), count);
        }
        assert!(!wheel.wake(4));
    }

    #[test]
    fn a_dropped_timer_leaves_its_slot_to_the_others() {
        let wheel = Wheel::new();
        let (a, b, c) = (timer(&wheel), timer(&wheel), timer(&wheel));
        for timer in [&a, &b, &c] {
            timer.set_at(7);
        }
        drop(a);
        wheel.turn_to(7);
        assert!(fired(&b) && fired(&c));
        assert_eq!(wheel.filing.borrow().free.len(), 1);
    }

    #[test]
    fn who_has_rested_longest_makes_room_and_who_is_busy_does_not() {
        let wheel = Wheel::new();
        let (busy, first, second) = (timer(&wheel), timer(&wheel), timer(&wheel));
        busy.set(Duration::from_secs(60));
        first.rest(Duration::from_secs(60));
        wheel.turn_to(5);
        second.rest(Duration::from_secs(60));
        drop({
            let gone = timer(&wheel);
            gone.rest(Duration::from_secs(60));
            gone
        });
        let rested = Duration::from_millis(300);
        assert_eq!(wheel.make_room(rested), 1);
        assert!(fired(&first) && first.fired_for_room());
        assert_eq!(
            wheel.make_room(rested),
            0,
            "the other has not rested so long"
        );
        wheel.turn_to(9);
        assert_eq!(wheel.make_room(rested), 1);
        assert!(fired(&second) && !fired(&busy));
        wheel.turn_to(20);
        second.set(Duration::from_secs(1));
        assert!(!fired(&second), "a request came in time");
        assert_eq!(wheel.make_room(rested), 0);
    }

    #[test]
    fn room_at_a_site_is_made_by_its_own() {
        let wheel = Wheel::new();
        let (here, there) = (timer(&wheel), timer(&wheel));
        for (timer, site) in [(&here, 7), (&there, 8)] {
            timer.at_site(site);
            timer.rest(Duration::from_secs(60));
        }
        wheel.turn_to(20);
        let rested = Duration::from_secs(1);
        assert!(wheel.make_room_at_site(7, rested));
        assert!(fired(&here) && !fired(&there));
        // A site without anybody to make room takes nothing from the others.
        assert!(!wheel.make_room_at_site(7, rested));
        assert!(!wheel.make_room_at_site(9, rested));
        assert_eq!(wheel.make_some_room_at_site(8, rested), 1);
        assert!(fired(&there));
    }

    #[test]
    fn who_was_asked_something_in_this_tick_makes_no_room() {
        let wheel = Wheel::new();
        let timers: Vec<Timer> = (0..3).map(|_| timer(&wheel)).collect();
        for (n, timer) in timers.iter().enumerate() {
            wheel.turn_to(n as u32);
            timer.at_site(7);
            timer.rest(Duration::from_secs(60));
        }
        wheel.turn_to(40);
        let rested = Duration::from_secs(1);
        assert!(wheel.make_room_at_site(7, rested));
        assert!(fired(&timers[0]), "the one that has waited longest");
        timers[1].set(Duration::from_secs(60));
        assert!(wheel.make_room_at_site(7, rested));
        assert!(!fired(&timers[1]) && fired(&timers[2]));
        assert!(!wheel.make_room_at_site(7, rested));
    }

    #[test]
    fn a_cut_is_for_those_who_serve_the_site_and_only_as_long_as_they_do() {
        let wheel = Wheel::new();
        let (a, b) = (timer(&wheel), timer(&wheel));
        serve(&a, 7);
        serve(&b, 8);
        wheel.cut(|serving| (serving.site == 7).then_some(Duration::ZERO));
        assert!(fired(&a) && a.was_cut());
        assert!(!fired(&b));
        a.set(Duration::from_secs(1));
        assert!(fired(&a), "a new deadline does not undo a cut");
        serve(&a, 9);
        a.set(Duration::from_secs(1));
        assert!(!fired(&a));
    }
}
