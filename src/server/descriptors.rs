//! The file descriptors of the process: how many there are, and who may take how many.
//!
//! Everything that opens one is bounded so that the sum stays below the limit: running out would hit whoever comes
//! next, be it a client, a site file or the admin socket.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::limits::Limits;

/// What each part may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Client connections. Each may have an upstream beside it.
    pub(super) connections: usize,
    /// Idle upstreams of a worker.
    pub(super) pool_all: usize,
    /// Pipes of a worker, of two ends each.
    pub(super) pipes: usize,
    /// Checks of backends at once.
    pub(super) checks: usize,
}

/// What there is to be shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    limit: usize,
    /// What stays open whatever is served.
    open: usize,
    workers: usize,
}

/// Raises the soft limit to the hard one and counts what is open, before anything is served.
pub(super) fn count(workers: usize) -> Descriptors {
    Descriptors {
        limit: raise(),
        open: open_now(),
        workers,
    }
}

/// Shares out what is free. Says what was asked for and is not there.
pub(super) fn share(descriptors: Descriptors, limits: &Limits) -> Share {
    let Descriptors {
        limit: descriptors,
        open,
        workers,
    } = descriptors;
    let share = share_out(descriptors, open, workers, limits);
    if let Some(wished) = limits.connections
        && wished > share.connections
    {
        warn!(
            wished,
            descriptors,
            connections = share.connections,
            "[limit] connections is more than the file descriptors allow; taking fewer (raise LimitNOFILE or ulimit -n)"
        );
    }
    if let Some(wished) = limits.pool_all
        && wished > share.pool_all
    {
        warn!(
            wished,
            descriptors,
            pool_all = share.pool_all,
            "[limit] pool_all is more than the file descriptors allow; keeping fewer idle upstreams"
        );
    }
    share
}

/// What a start of now would share out, without raising anything.
pub(super) fn share_of_a_start(limits: &Limits, workers: usize) -> Share {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.or(limit.current).unwrap_or(ENOUGH);
    let most = usize::try_from(most.min(ENOUGH)).unwrap_or(usize::MAX);
    share_out(most, open_now(), workers, limits)
}

/// More than this no process could serve, and some kernels size tables by it.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit to the hard one, and returns it.
fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = Some(limit.maximum.unwrap_or(ENOUGH).min(ENOUGH));
    let raised = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(_) => before,
    };
    usize::try_from(raised.unwrap_or(ENOUGH)).unwrap_or(usize::MAX)
}

/// Logs, locks, listeners: what stays open.
fn open_now() -> usize {
    // Without /proc: more than there are.
    fs::read_dir("/proc/self/fd").map_or(64, Iterator::count)
}

fn share_out(descriptors: usize, open: usize, workers: usize, limits: &Limits) -> Share {
    /// Files that are read, watches, the admin socket and who talks to it.
    const RESERVE: usize = 24;
    /// A runtime's own, and a connection that is accepted and waits for a slot.
    const PER_WORKER: usize = 5;
    /// 8 MiB of pages, of the 64 MiB that the pipes of an unprivileged user share.
    const PIPES: usize = 32;
    const POOL: usize = 2048;
    /// A thousand backends that answer within half a second, every two seconds.
    const CHECKS: usize = 256;
    let free = descriptors.saturating_sub(open + RESERVE + workers * PER_WORKER);
    let pipes = (free / 20 / 2 / workers).min(PIPES);
    let checks = (free / 40).clamp(1, CHECKS);
    let pool_all = limits.pool_all.unwrap_or(POOL).min(free / 10 / workers);
    let most = free.saturating_sub(workers * (pool_all + 2 * pipes) + checks) / 2;
    let connections = match limits.connections {
        Some(wished) => wished.min(most),
        None => free * 2 / 5,
    };
    Share {
        connections: connections.max(1),
        pool_all: pool_all.max(1),
        pipes,
        checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wished_the_sum_stays_below_the_limit() {
        for descriptors in [128, 256, 1024, 4096, 65_536, 1 << 20] {
            for workers in [1, 2, 8] {
                for wished in [None, Some(10), Some(usize::MAX)] {
                    let limits = Limits {
                        connections: wished,
                        pool_all: wished,
                        ..Limits::default()
                    };
                    let share = share_out(descriptors, 20, workers, &limits);
                    let sum = 20
                        + workers * (2 + share.pool_all + 2 * share.pipes)
                        + share.checks
                        + 2 * share.connections;
                    let case = format!("{descriptors} {workers} {wished:?}: {share:?} makes {sum}");
                    assert!(sum < descriptors, "{case}");
                    assert!(
                        wished.is_none_or(|wished| share.connections <= wished),
                        "{case}"
                    );
                }
            }
        }
    }

    #[test]
    fn plenty_of_descriptors_are_shared_as_the_readme_says() {
        let share = share_out(100_000, 20, 4, &Limits::default());
        assert_eq!((share.pool_all, share.pipes), (2048, 32));
        assert!((39_900..40_000).contains(&share.connections), "{share:?}");
    }
}
