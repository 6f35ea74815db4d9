//! How many connections may be open, and requests beside each other on those of HTTP/2: in all, and from one client. Touched
//! at accept and at close, and where a connection has more requests open than before.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

/// The slots of the process.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    taken: AtomicUsize,
    /// Listeners that hold a connection without a slot.
    waiting: AtomicUsize,
    most: AtomicUsize,
    per_client: DashMap<IpAddr, usize>,
    most_per_client: AtomicUsize,
}

/// The right to have one connection open, or one more request on it; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Counts>,
    client: Option<IpAddr>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// All are taken: one becomes free when any connection closes.
    Full,
    /// This client has its share.
    ClientFull,
}

impl Slots {
    pub fn new(most: usize, most_per_client: usize) -> Slots {
        Slots(Arc::new(Counts {
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            per_client: DashMap::new(),
            most_per_client: AtomicUsize::new(most_per_client),
        }))
    }

    /// Other numbers from now on. Who is one too many now stays.
    pub fn allow(&self, most: usize, most_per_client: usize) {
        self.0.most.store(most, Ordering::Relaxed);
        self.0
            .most_per_client
            .store(most_per_client, Ordering::Relaxed);
    }

    /// A slot for a connection of `client`; `None` is a client that is not counted by address.
    ///
    /// # Errors
    /// See [`NoSlot`].
    pub fn take(&self, client: Option<IpAddr>) -> Result<Slot, NoSlot> {
        let counts = &self.0;
        if counts.taken.fetch_add(1, Ordering::Relaxed) >= counts.most.load(Ordering::Relaxed) {
            counts.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(NoSlot::Full);
        }
        self.count(client)
    }

    /// Of those that are taken, one for `client`.
    fn count(&self, client: Option<IpAddr>) -> Result<Slot, NoSlot> {
        let mut slot = Slot {
            counts: Arc::clone(&self.0),
            client: None,
        };
        if let Some(client) = client {
            slot.count(client)?;
        }
        Ok(slot)
    }

    /// Says that a slot is waited for, as long as the value lives: connections that rest make room, on any worker.
    pub fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(&self.0))
    }

    pub fn is_waited_for(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

/// Somebody waits for a slot.
#[derive(Debug)]
pub struct Waiting(Arc<Counts>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slot {
    /// One more for the same client.
    ///
    /// # Errors
    /// See [`NoSlot`].
    pub fn another(&self) -> Result<Slot, NoSlot> {
        Slots(Arc::clone(&self.counts)).take(self.client)
    }

    /// The same where all are taken: an eighth too many, until connections that rest have made room. A new connection would
    /// wait for that, a request cannot.
    ///
    /// # Errors
    /// See [`NoSlot`].
    pub fn another_too_many(&self) -> Result<Slot, NoSlot> {
        let most = self.counts.most.load(Ordering::Relaxed);
        if self.counts.taken.fetch_add(1, Ordering::Relaxed) >= most + (most / 8).max(1) {
            self.counts.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(NoSlot::Full);
        }
        Slots(Arc::clone(&self.counts)).count(self.client)
    }

    /// Counts the connection as one of `client`; of nobody before.
    ///
    /// # Errors
    /// `ClientFull`.
    pub fn count(&mut self, client: IpAddr) -> Result<(), NoSlot> {
        debug_assert!(self.client.is_none(), "a connection has one client");
        let client = counted_as(client);
        let mut open = self.counts.per_client.entry(client).or_insert(0);
        if *open >= self.counts.most_per_client.load(Ordering::Relaxed) {
            return Err(NoSlot::ClientFull);
        }
        *open += 1;
        drop(open);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client
            && let dashmap::Entry::Occupied(mut open) = self.counts.per_client.entry(client)
        {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// An IPv6 client has a /64 to itself, so that is what counts (CASES D-07).
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_dropped() {
        let slots = Slots::new(2, 1);
        let first = slots.take(Some(IpAddr::from([10, 0, 0, 1]))).expect("free");
        assert_eq!(
            slots.take(Some(IpAddr::from([10, 0, 0, 1]))).err(),
            Some(NoSlot::ClientFull)
        );
        let second = slots.take(None).expect("free");
        assert_eq!(slots.take(None).err(), Some(NoSlot::Full));
        drop((first, second));
        assert_eq!(slots.taken(), 0);
        assert!(slots.0.per_client.is_empty());
    }

    #[test]
    fn other_numbers_count_from_then_on() {
        let slots = Slots::new(2, 1);
        let (_first, _second) = (slots.take(None), slots.take(None));
        slots.allow(3, 1);
        let third = slots.take(None);
        assert!(third.is_ok());
        slots.allow(1, 1);
        drop(third);
        assert_eq!(slots.take(None).err(), Some(NoSlot::Full));
        assert_eq!(slots.taken(), 2);
    }

    #[test]
    fn another_one_is_of_the_same_client() {
        let slots = Slots::new(3, 2);
        let first = slots.take(Some(IpAddr::from([10, 0, 0, 1]))).expect("free");
        let second = first.another().expect("free");
        assert_eq!(first.another().err(), Some(NoSlot::ClientFull));
        let other = slots.take(None).expect("free");
        assert_eq!(other.another().err(), Some(NoSlot::Full));
        let too_many = other.another_too_many();
        assert!(too_many.is_ok());
        // One of eight at least.
        assert_eq!(other.another_too_many().err(), Some(NoSlot::Full));
        drop(too_many);
        assert_eq!(first.another_too_many().err(), Some(NoSlot::ClientFull));
        drop((first, second, other));
        assert_eq!(slots.taken(), 0);
        assert!(slots.0.per_client.is_empty());
    }

    #[test]
    fn neighbours_in_a_64_count_as_one() {
        let slots = Slots::new(9, 1);
        let first = slots.take("2001:db8::1".parse().ok());
        assert!(first.is_ok());
        assert_eq!(
            slots.take("2001:db8::2".parse().ok()).err(),
            Some(NoSlot::ClientFull)
        );
        assert!(slots.take("2001:db8:0:1::2".parse().ok()).is_ok());
    }
}
