//! How many units of work this machine does in a second, learnt from the decisions it made.

/// Units a second before anything was measured: a slow machine's.
const FIRST_UNITS_PER_SECOND: f64 = 100_000.0;
/// Weight of a decision in the average.
const WEIGHT: f64 = 0.3;
/// Decisions that took less tell nothing, seconds.
const LEAST_SECONDS: f64 = 0.05;
/// Longest that planning may take, seconds; and as a part of the interval between decisions.
const LIMIT_SECONDS: f64 = 5.0;
const LIMIT_SHARE: f64 = 1.0 / 3.0;

/// Speed of the search on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    units_per_second: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { units_per_second: FIRST_UNITS_PER_SECOND }
    }
}

impl Pace {
    /// Time that planning may take in a loop of this interval, seconds.
    pub(super) fn limit_seconds(interval_seconds: f64) -> f64 {
        (interval_seconds * LIMIT_SHARE).clamp(0.1, LIMIT_SECONDS)
    }

    /// Units that fit into a time.
    pub(super) fn units(&self, seconds: f64) -> u64 {
        (self.units_per_second * seconds) as u64
    }

    /// A decision took so long for its work.
    pub(super) fn learn(&mut self, work_units: u64, seconds: f64) {
        if seconds >= LEAST_SECONDS && work_units > 0 {
            let seen = work_units as f64 / seconds;
            self.units_per_second += WEIGHT * (seen - self.units_per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_follow_the_machine() {
        let mut pace = Pace::default();
        for _ in 0..30 {
            pace.learn(900_000, 3.0);
        }
        assert!((pace.units(2.0) as f64 - 600_000.0).abs() < 6_000.0, "{pace:?}");
        let before = pace;
        pace.learn(10, 0.001);
        assert_eq!(pace, before, "a decision that took no time tells nothing");
    }

    #[test]
    fn planning_takes_a_part_of_the_interval() {
        assert_eq!([1.5, 15.0, 300.0].map(Pace::limit_seconds), [0.5, 5.0, 5.0]);
    }
}
