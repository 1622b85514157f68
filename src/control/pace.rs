//! How many units of work this machine does in a second, learnt from the decisions it made.

use std::time::Instant;

use crate::plan::instance::{Recipe, generate};
use crate::plan::{Effort, solve};

/// Units a second before anything was measured: a slow machine's.
const FIRST_UNITS_PER_SECOND: f64 = 100_000.0;
/// Weight of a decision in the average.
const WEIGHT: f64 = 0.3;
/// Decisions with less planning tell nothing: their time went into everything else.
const LEAST_UNITS: u64 = 50_000;
/// A machine is not taken for slower than this, so that there is always enough work to learn from.
const LEAST_PER_SECOND: f64 = 30_000.0;
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
        if work_units >= LEAST_UNITS && seconds > 0.0 {
            let seen = (work_units as f64 / seconds).max(LEAST_PER_SECOND);
            self.units_per_second += WEIGHT * (seen - self.units_per_second);
        }
    }
}

/// A fleet to measure the machine with: some tenths of a second.
const SAMPLE: Recipe =
    Recipe { models: 30, accelerators: 8, cells: 300, most_variants: 300, load: 5.0, tight: 1.2, seed: 1 };
const SAMPLE_UNITS: u64 = 60_000;

/// Units of work that this machine does in a second, measured now.
pub fn units_per_second() -> f64 {
    let problem = generate(&SAMPLE).problem();
    let started = Instant::now();
    let found = solve(&problem, &Effort { units: SAMPLE_UNITS, ..Effort::default() });
    found.work_units as f64 / started.elapsed().as_secs_f64().max(1e-3)
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
        pace.learn(100, 0.4);
        assert_eq!(pace, before, "a decision with little planning says nothing of its speed");
    }

    #[test]
    fn planning_takes_a_part_of_the_interval() {
        assert_eq!([1.5, 15.0, 300.0].map(Pace::limit_seconds), [0.5, 5.0, 5.0]);
    }
}
