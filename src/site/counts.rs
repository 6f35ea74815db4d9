//! What one site has answered: one block for each worker, which alone writes it; anybody may read.
//!
//! Made when the site is first asked for. Belongs to all versions of the site, and goes with it.

use std::sync::OnceLock;
use std::time::Duration;

use crate::observe::{Count, Protocol};

/// Classes of status: none, then 1xx to 5xx.
pub const CLASSES: usize = 6;

/// The upper ends of the buckets of durations, in milliseconds; the last has none.
pub const BUCKETS_MS: [u64; 15] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct SiteCounts(OnceLock<Box<[OfWorker]>>);

/// What one worker has counted.
#[derive(Debug, Default)]
#[repr(align(128))] // no two workers write to the same pair of cache lines
pub struct OfWorker {
    requests: [[Count; CLASSES]; Protocol::ALL.len()],
    pub from_client: Count,
    pub to_client: Count,
    /// Of a sample of the requests.
    durations: [Count; BUCKETS_MS.len() + 1],
    duration_micros: Count,
}

impl SiteCounts {
    /// The block of `worker`, one of `workers`.
    #[inline]
    pub fn of_worker(&self, worker: usize, workers: usize) -> Option<&OfWorker> {
        let blocks = self
            .0
            .get_or_init(|| (0..workers).map(|_| OfWorker::default()).collect());
        blocks.get(worker)
    }

    /// The sums over all workers.
    pub fn read(&self) -> Sums {
        let mut sums = Sums::default();
        for block in self.0.get().into_iter().flatten() {
            for (of_protocol, counts) in sums.requests.iter_mut().zip(&block.requests) {
                for (sum, count) in of_protocol.iter_mut().zip(counts) {
                    *sum += count.read();
                }
            }
            for (sum, count) in sums.durations.iter_mut().zip(&block.durations) {
                *sum += count.read();
            }
            sums.duration_micros += block.duration_micros.read();
            sums.from_client += block.from_client.read();
            sums.to_client += block.to_client.read();
        }
        sums
    }
}

impl OfWorker {
    #[inline]
    pub fn request(&self, protocol: Protocol, status: u16) {
        let class = usize::from(status / 100).min(CLASSES - 1);
        self.requests[protocol as usize][class].add(1);
    }

    pub fn duration(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.iter().position(|end| micros <= end * 1000);
        self.durations[bucket.unwrap_or(BUCKETS_MS.len())].add(1);
        self.duration_micros.add(micros);
    }
}

/// What a site has answered so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// By protocol and class of status.
    pub requests: [[u64; CLASSES]; Protocol::ALL.len()],
    pub from_client: u64,
    pub to_client: u64,
    pub durations: [u64; BUCKETS_MS.len() + 1],
    pub duration_micros: u64,
}

impl Sums {
    pub fn requests(&self) -> u64 {
        self.requests.iter().flatten().sum()
    }

    /// Responses with 5xx.
    pub fn errors(&self) -> u64 {
        self.requests.iter().map(|classes| classes[5]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_apart_and_are_read_together() {
        let counts = SiteCounts::default();
        assert_eq!(counts.read(), Sums::default());
        for (worker, status) in [(0, 200), (1, 200), (1, 503), (0, 0), (1, 999)] {
            let block = counts.of_worker(worker, 2).expect("one of two");
            block.request(Protocol::Http1, status);
        }
        counts
            .of_worker(0, 2)
            .expect("one of two")
            .duration(Duration::from_millis(3));
        let sums = counts.read();
        assert_eq!((sums.requests(), sums.errors()), (5, 2));
        assert_eq!(sums.requests[Protocol::Http1 as usize], [1, 0, 2, 0, 0, 2]);
        assert_eq!((sums.durations[2], sums.duration_micros), (1, 3000));
        assert!(counts.of_worker(2, 2).is_none());
    }
}
