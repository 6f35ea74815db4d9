//! What requests of one site found wrong with one backend: one block of counts for each worker, which alone writes it, and
//! when each kind was said to the operator last.
//!
//! Made at the first fault: a backend that has none costs nothing. Belongs to all versions of the site.

use std::sync::OnceLock;

use super::fitness::Moment;
use super::said::Said;
use crate::observe::{Count, Reason};

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Nobody accepts.
    Refused,
    /// Its name has no address.
    Unresolved,
    Tls,
    /// It did not accept, or did not answer, in time.
    Timeout,
    /// It broke off.
    Failed,
    /// What it said was no response.
    Malformed,
    /// It answered with a status from 500 on.
    ServerError,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Faults(OnceLock<Box<Met>>);

#[derive(Debug)]
struct Met {
    counts: Box<[OfWorker]>,
    said: [Said; Fault::ALL.len()],
}

#[derive(Debug, Default)]
#[repr(align(128))] // no two workers write to the same pair of cache lines
struct OfWorker([Count; Fault::ALL.len()]);

impl Fault {
    /// All of them, each at its own number.
    pub const ALL: [Fault; 7] = [
        Fault::Refused,
        Fault::Unresolved,
        Fault::Tls,
        Fault::Timeout,
        Fault::Failed,
        Fault::Malformed,
        Fault::ServerError,
    ];

    /// What a client that is answered for it finds in `Onedoor-Reason`; the answers of the app have none.
    pub fn code(self) -> &'static str {
        let reason = match self {
            Fault::Refused => Reason::BackendRefused,
            Fault::Unresolved => Reason::BackendUnresolved,
            Fault::Tls => Reason::BackendTls,
            Fault::Timeout => Reason::BackendTimeout,
            Fault::Failed => Reason::BackendFailed,
            Fault::Malformed => Reason::BackendMalformed,
            Fault::ServerError => return "5xx",
        };
        reason.code()
    }
}

impl Faults {
    /// Counts one that `worker`, one of `workers`, has met with.
    pub fn add(&self, fault: Fault, worker: usize, workers: usize) {
        let met = self.0.get_or_init(|| {
            Box::new(Met {
                counts: (0..workers).map(|_| OfWorker::default()).collect(),
                said: Default::default(),
            })
        });
        if let Some(OfWorker(counts)) = met.counts.get(worker) {
            counts[fault as usize].add(1);
        }
    }

    /// How often it was met with, over all workers.
    pub fn read(&self, fault: Fault) -> u64 {
        let blocks = self.0.get().into_iter().flat_map(|met| &met.counts);
        blocks
            .map(|OfWorker(counts)| counts[fault as usize].read())
            .sum()
    }

    /// Whether one that was just counted is to be said; then how many have been kept back since the last one that was.
    pub fn is_to_be_said(&self, fault: Fault, now: Moment) -> Option<u64> {
        self.0.get()?.said[fault as usize].is_to_be_said(now)
    }

    /// Somebody accepts there. Whether that is to be said, because it was said that nobody does.
    pub fn nobody_is_over(&self) -> bool {
        let absences = [Fault::Refused, Fault::Unresolved, Fault::Timeout];
        let said = self
            .0
            .get()
            .map(|met| absences.map(|fault| met.said[fault as usize].is_over()));
        said.is_some_and(|said| said.contains(&true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_stands_at_its_own_number_and_has_its_own_code() {
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number);
            let same = |other: &&Fault| other.code() == fault.code();
            assert_eq!(Fault::ALL.iter().filter(same).count(), 1, "{fault:?}");
        }
    }

    #[test]
    fn workers_count_apart_and_are_read_together() {
        let faults = Faults::default();
        assert_eq!(faults.read(Fault::Refused), 0);
        for (worker, fault) in [
            (0, Fault::Refused),
            (1, Fault::Refused),
            (1, Fault::ServerError),
            (2, Fault::Refused),
        ] {
            faults.add(fault, worker, 2);
        }
        let read = Fault::ALL.map(|fault| faults.read(fault));
        assert_eq!(read, [2, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_goes_on_is_said_once_a_minute_and_its_end_once() {
        let faults = Faults::default();
        assert_eq!(
            faults.is_to_be_said(Fault::Refused, 1),
            None,
            "there was none"
        );
        assert!(!faults.nobody_is_over());
        faults.add(Fault::Refused, 0, 1);
        assert_eq!(faults.is_to_be_said(Fault::Refused, 1), Some(0));
        assert_eq!(
            faults.is_to_be_said(Fault::Failed, 2),
            Some(0),
            "another kind"
        );
        for now in [2, 59_000, 60_000] {
            assert_eq!(faults.is_to_be_said(Fault::Refused, now), None);
        }
        assert!(faults.nobody_is_over() && !faults.nobody_is_over());
        assert_eq!(faults.is_to_be_said(Fault::Refused, 60_001), Some(3));
        assert_eq!(faults.is_to_be_said(Fault::Refused, 120_001), Some(0));
    }
}
