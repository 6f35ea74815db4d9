//! The same work on many files, by several threads where that pays.

use std::thread;

/// Below that, starting threads costs more than the files do.
const FEW: usize = 64;

/// `work` on every item, in the order of `items`. Blocks; panics of `work` are passed on.
pub(super) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8);
    if items.len() < FEW || threads == 1 {
        return items.into_iter().map(work).collect();
    }
    let size = items.len().div_ceil(threads);
    let mut parts = Vec::new();
    let mut items = items.into_iter();
    loop {
        let part: Vec<T> = items.by_ref().take(size).collect();
        if part.is_empty() {
            break;
        }
        parts.push(part);
    }
    let work = &work;
    thread::scope(|scope| {
        let run =
            |part: Vec<T>| scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>());
        let running: Vec<_> = parts.into_iter().map(run).collect();
        let joined = running.into_iter().map(|thread| thread.join());
        let done = joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 5, 63, 64, 1001] {
            let doubled = super::map((0..count).collect(), |n: u32| n * 2);
            assert_eq!(doubled, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
