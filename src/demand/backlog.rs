//! How fast waiting work has to be served so that all of it keeps its deadline.

use super::RateMemory;

/// Length of a step of the memory, seconds.
const STEP_SECONDS: f64 = 60.0;

/// How long work may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// From its arrival to its service, seconds.
    pub allowed_seconds: f64,
    /// Until a replica that is asked for now serves, seconds.
    pub delay_seconds: f64,
    /// Shortest time over which work is spread, however late it is, seconds.
    pub least_seconds: f64,
}

/// The least constant rate, requests per second, at which `backlog` waiting requests are all served in time, in the
/// order of their arrival.
///
/// Who waits arrived last: going back from now, the remembered arrivals are counted until they make up the backlog.
/// Let `Q(a)` be those of them that are older than `a` seconds. These have to be served within
/// `allowed - a - delay` seconds, so the rate is the greatest `Q(a) / (allowed - a - delay)` over all ages.
///
/// `None` when what is remembered does not explain the backlog: nobody knows how long it has waited.
pub fn due_rate(arrivals: &RateMemory, now_seconds: f64, backlog: f64, patience: Patience) -> Option<f64> {
    if backlog <= 0.0 {
        return Some(0.0);
    }
    // (age of the oldest, requests), newest first.
    let mut steps: Vec<(f64, f64)> = vec![];
    let mut missing = backlog;
    let mut last = now_seconds;
    for point in arrivals.newest_first() {
        let since = (point.at_seconds - STEP_SECONDS).min(last);
        let arrived = point.rate * (last - since).min(STEP_SECONDS);
        steps.push((now_seconds - since, arrived.min(missing)));
        missing -= arrived;
        if missing <= 0.0 {
            break;
        }
        last = since;
    }
    if missing > 0.0 {
        return None;
    }
    let (mut older, mut rate) = (0.0, 0.0_f64);
    for (age_seconds, requests) in steps.into_iter().rev() {
        older += requests;
        let left = patience.allowed_seconds - age_seconds - patience.delay_seconds;
        rate = rate.max(older / left.max(patience.least_seconds));
    }
    Some(rate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { allowed_seconds: 3600.0, delay_seconds: 300.0, least_seconds: 60.0 };

    /// A rate each minute, the last one at second 0 of now.
    fn minutes(rates: &[f64]) -> (RateMemory, f64) {
        let mut memory = RateMemory::default();
        for (i, rate) in rates.iter().enumerate() {
            memory.note(60.0 * (i + 1) as f64, *rate);
        }
        (memory, 60.0 * rates.len() as f64)
    }

    #[test]
    fn a_steady_backlog_is_due_when_its_newest_part_is() {
        let (memory, now) = minutes(&[2.0; 60]);
        // 1,200 requests are ten minutes of arrivals; the newest of them are a minute old.
        let rate = due_rate(&memory, now, 1200.0, PATIENCE).unwrap();
        assert!((rate - 1200.0 / 3240.0).abs() < 1e-9, "{rate}");
        assert_eq!(due_rate(&memory, now, 0.0, PATIENCE), Some(0.0));
    }

    #[test]
    fn old_work_presses_more_than_new_work() {
        let mut rates = vec![0.0; 60];
        rates[10] = 30.0;
        let (memory, now) = minutes(&rates);
        // All of it is 50 minutes old: of the ten minutes left, the start of a replica takes five.
        let rate = due_rate(&memory, now, 1800.0, PATIENCE).unwrap();
        assert!((rate - 6.0).abs() < 1e-9, "{rate}");
        rates[10] = 0.0;
        rates[59] = 30.0;
        let (memory, now) = minutes(&rates);
        assert!(due_rate(&memory, now, 1800.0, PATIENCE).unwrap() < 0.6);
    }

    #[test]
    fn a_backlog_that_nobody_saw_arrive_is_not_trusted_to_wait() {
        let (memory, now) = minutes(&[1.0; 5]);
        assert_eq!(due_rate(&memory, now, 301.0, PATIENCE), None);
        assert!(due_rate(&memory, now, 299.0, PATIENCE).is_some());
        assert_eq!(due_rate(&RateMemory::default(), 0.0, 1.0, PATIENCE), None);
    }

    proptest! {
        /// Work that waits and is served at the rate asked for, which new replicas follow late, is never late.
        #[test]
        fn no_deadline_is_missed(load in prop::collection::vec(0.0..5.0f64, 30..120), start in 1usize..8) {
            let patience = Patience { delay_seconds: 60.0 * start as f64, ..PATIENCE };
            let mut memory = RateMemory::default();
            let (mut queue, mut ordered) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
            for minute in 1..=load.len() + 70 {
                let now = 60.0 * minute as f64;
                let rate = load.get(minute - 1).copied().unwrap_or(0.0);
                memory.note(now, rate);
                queue.push_back((now - 60.0, 60.0 * rate));
                let backlog: f64 = queue.iter().map(|(_, n)| n).sum();
                ordered.push_back(due_rate(&memory, now, backlog - 1e-6, patience).unwrap());
                let mut room = if ordered.len() > start { 60.0 * ordered.pop_front().unwrap() } else { 0.0 };
                while let Some((arrived, n)) = queue.front_mut().filter(|_| room > 0.0) {
                    prop_assert!(now - *arrived <= patience.allowed_seconds + 60.0, "{} s", now - *arrived);
                    let served = room.min(*n);
                    *n -= served;
                    room -= served;
                    if *n <= 1e-6 { queue.pop_front(); }
                }
            }
            prop_assert!(queue.iter().map(|(_, n)| n).sum::<f64>() < 1e-3 * (1.0 + load.iter().sum::<f64>()));
        }
    }
}
