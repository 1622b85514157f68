//! Independent pieces of work on several threads, with answers in the order of the pieces. Knows nothing of replays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Do `work` for every item, on as many threads as said (at least one); the answers in the order of the items.
pub fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
    let one = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let answer = work(item);
            // A poisoned lock means that another piece panicked; that panic is passed on by the scope.
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, answer);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, items.len().max(1)) {
            scope.spawn(one);
        }
        one();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            assert_eq!(in_parallel(threads, &items, |n| n * n), items.iter().map(|n| n * n).collect::<Vec<_>>());
        }
        assert!(in_parallel(2, &[] as &[u64], |n| *n).is_empty());
    }
}
