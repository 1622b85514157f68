//! Answers remembered for a short time, and one question at a time per key.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::reviews::ReviewError;
use crate::control::Clock;

/// Hash of a question: as large for a small question as for a large one.
pub(super) type Key = [u8; 32];

type Answer<V> = Result<V, ReviewError>;
type Flight<V> = BoxFuture<'static, Answer<V>>;

/// Answers keep for the same time, so the oldest is the next to go; what exceeds the size goes before its time.
pub(super) struct Cache<V> {
    shelf: Arc<Mutex<Shelf<V>>>,
    clock: Arc<dyn Clock>,
}

struct Shelf<V> {
    seconds: f64,
    most: usize,
    answers: HashMap<Key, (f64, V)>,
    /// The keys of `answers` in the order in which they came.
    order: VecDeque<(f64, Key)>,
    /// Questions under way. Nobody waits any more for those that cannot be upgraded.
    flights: HashMap<Key, WeakShared<Flight<V>>>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub fn new(seconds: f64, most: usize, clock: Arc<dyn Clock>) -> Self {
        let shelf = Shelf { seconds, most, answers: HashMap::new(), order: VecDeque::new(), flights: HashMap::new() };
        Self { shelf: Arc::new(Mutex::new(shelf)), clock }
    }

    /// The remembered answer; else that of the question under way; else ask. Errors are not remembered. A
    /// question that nobody waits for any more is given up.
    pub async fn get(&self, key: Key, ask: impl FnOnce() -> Flight<V>) -> Answer<V> {
        let flight = {
            let mut shelf = lock(&self.shelf);
            if let Some(answer) = shelf.fresh(&key, self.clock.now_seconds()) {
                return Ok(answer);
            }
            let under_way = shelf.flights.get(&key).and_then(WeakShared::upgrade);
            under_way.unwrap_or_else(|| self.start(&mut shelf, key, ask()))
        };
        flight.await
    }

    fn start(&self, shelf: &mut Shelf<V>, key: Key, question: Flight<V>) -> Shared<Flight<V>> {
        let (place, clock) = (Arc::clone(&self.shelf), Arc::clone(&self.clock));
        let flight = async move {
            let answer = question.await;
            let mut shelf = lock(&place);
            shelf.flights.remove(&key);
            if let Ok(value) = &answer {
                shelf.remember(key, clock.now_seconds(), value.clone());
            }
            answer
        };
        let flight = flight.boxed().shared();
        if shelf.flights.len() >= shelf.most {
            shelf.flights.retain(|_, flight| flight.upgrade().is_some());
        }
        if let Some(weak) = flight.downgrade() {
            shelf.flights.insert(key, weak);
        }
        flight
    }

    /// Answers remembered now, fresh or not.
    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.shelf).answers.len()
    }
}

impl<V: Clone> Shelf<V> {
    /// A clock that was set back makes an answer as old as one that came too long ago.
    fn fresh(&self, key: &Key, now_seconds: f64) -> Option<V> {
        let (since, value) = self.answers.get(key)?;
        let age_seconds = now_seconds - since;
        (0.0..self.seconds).contains(&age_seconds).then(|| value.clone())
    }

    fn remember(&mut self, key: Key, now_seconds: f64, value: V) {
        self.answers.insert(key, (now_seconds, value));
        self.order.push_back((now_seconds, key));
        while let Some(&(since, oldest)) = self.order.front() {
            let expired = !(0.0..self.seconds).contains(&(now_seconds - since));
            if !expired && self.order.len() <= self.most {
                break;
            }
            self.order.pop_front();
            // A newer answer to the same question has its own place in the order.
            if self.answers.get(&oldest).is_some_and(|(at, _)| *at == since) {
                self.answers.remove(&oldest);
            }
        }
    }
}

fn lock<V>(shelf: &Mutex<Shelf<V>>) -> MutexGuard<'_, Shelf<V>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn cache(most: usize) -> (Cache<usize>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1000.0));
        (Cache::new(10.0, most, clock.clone()), clock)
    }

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[tokio::test]
    async fn answers_keep_for_their_time_and_errors_do_not() {
        let (cache, clock) = cache(8);
        let value = |value: usize| move || async move { Ok(value) }.boxed();
        assert_eq!(cache.get(key(1), value(1)).await, Ok(1));
        clock.set(1009.9);
        assert_eq!(cache.get(key(1), value(2)).await, Ok(1));
        clock.set(1010.0);
        assert_eq!(cache.get(key(1), value(3)).await, Ok(3));
        clock.set(900.0);
        assert_eq!(cache.get(key(1), value(4)).await, Ok(4), "a clock set back");
        let error = || async { Err(ReviewError("down".into())) }.boxed();
        assert!(cache.get(key(2), error).await.is_err());
        assert_eq!(cache.get(key(2), value(5)).await, Ok(5));
    }

    #[tokio::test]
    async fn the_size_is_bounded() {
        let (cache, clock) = cache(100);
        for number in 0..1000 {
            cache.get(key(number), || async move { Ok(number) }.boxed()).await.unwrap();
        }
        assert_eq!(cache.len(), 100);
        clock.set(1011.0);
        cache.get(key(5000), || async { Ok(0) }.boxed()).await.unwrap();
        assert_eq!(cache.len(), 1);
        for _ in 0..1000 {
            // The same key over and over does not fill the order either.
            clock.set(clock.now_seconds() + 10.0);
            cache.get(key(1), || async { Ok(0) }.boxed()).await.unwrap();
        }
        assert!(lock(&cache.shelf).order.len() <= 100);
    }

    #[tokio::test]
    async fn an_abandoned_question_is_asked_again() {
        let (cache, _) = cache(8);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let never = move || {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending().boxed()
        };
        let first = cache.get(key(1), never.clone());
        let second = cache.get(key(1), never);
        {
            let both = std::pin::pin!(async { tokio::join!(first, second) });
            assert!(both.now_or_never().is_none());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "one question for both");
        assert_eq!(cache.get(key(1), || async { Ok(7) }.boxed()).await, Ok(7), "nobody waits for the first any more");
    }
}
