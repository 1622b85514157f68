//! What happened over time, thinned to what a picture can show.
//!
//! It owns how minutes become points: each point is the mean of as many minutes as it takes to have few enough.

use std::collections::BTreeMap;

use serde::Serialize;

use super::numbers::rounded;
use crate::simulate::replay::outcome::{Cause, MinutePoint, Outcome};

/// Most points of a line.
pub const MOST_POINTS: usize = 600;
/// Lengths of time over which scale changes are counted, minutes, and most bars of a picture.
const COUNTED_OVER: [usize; 6] = [10, 60, 180, 360, 720, 1440];
const MOST_BARS: usize = 72;

/// One rule over time. All lists have one entry a point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleSeries {
    pub rule: String,
    /// Ready replicas of every pool, in the order of the report's `pools`.
    pub ready: Vec<Vec<f64>>,
    /// Cost per hour of all replicas: starting, ready and draining.
    pub cost_per_hour: Vec<f64>,
    /// Late requests per minute by cause, by their time of arrival; causes that never occur are left out.
    pub late_per_minute: BTreeMap<Cause, Vec<f64>>,
    pub actions: ActionSeries,
}

/// Changes of the fleet over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionSeries {
    /// Over how many minutes each entry counts; the last one may be shorter.
    pub minutes: usize,
    /// Changes of a scale target.
    pub actions: Vec<u64>,
    /// Changes of one pool up and another of the same model down at the same time.
    pub type_changes: Vec<u64>,
}

/// Minutes that make one point.
pub(super) fn minutes_per_point(minutes: usize) -> usize {
    minutes.div_ceil(MOST_POINTS).max(1)
}

/// Means over `per_point` minutes each.
pub(super) fn thinned(minutes: &[MinutePoint], per_point: usize, value: impl Fn(&MinutePoint) -> f64) -> Vec<f64> {
    let mean = |part: &[MinutePoint]| rounded(part.iter().map(&value).sum::<f64>() / part.len() as f64);
    minutes.chunks(per_point).map(mean).collect()
}

impl RuleSeries {
    pub(super) fn of(outcome: &Outcome, pools: usize, per_point: usize) -> Self {
        let minutes = &outcome.minutes;
        let thin = |value: &dyn Fn(&MinutePoint) -> f64| thinned(minutes, per_point, value);
        let ready = |pool: usize| thin(&|m| m.ready.get(pool).map_or(0.0, |n| f64::from(*n)));
        let causes: Vec<Cause> = outcome.classes.iter().flat_map(|c| c.late.keys().copied()).collect();
        let late = |cause: Cause| thin(&|m| m.late.get(&cause).map_or(0.0, |n| f64::from(*n)));
        Self {
            rule: outcome.rule.clone(),
            ready: (0..pools).map(ready).collect(),
            cost_per_hour: thin(&|m| m.cost_per_hour),
            late_per_minute: causes.into_iter().map(|cause| (cause, late(cause))).collect(),
            actions: ActionSeries::of(minutes),
        }
    }

    /// Ready replicas of all pools.
    pub(super) fn replicas(&self) -> Vec<f64> {
        let points = self.ready.first().map_or(0, Vec::len);
        (0..points).map(|at| self.ready.iter().map(|pool| pool[at]).sum()).collect()
    }
}

impl ActionSeries {
    fn of(minutes: &[MinutePoint]) -> Self {
        let fits = |over: &usize| minutes.len().div_ceil(*over) <= MOST_BARS;
        let over = COUNTED_OVER.into_iter().find(fits).unwrap_or_else(|| minutes.len().div_ceil(MOST_BARS));
        let count = |value: fn(&MinutePoint) -> u32| {
            minutes.chunks(over).map(|part| part.iter().map(|m| u64::from(value(m))).sum()).collect()
        };
        Self { minutes: over, actions: count(|m| m.actions), type_changes: count(|m| m.type_changes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_thinned_to_means_and_counts_are_kept() {
        let minute = |n: u32| MinutePoint { cost_per_hour: f64::from(n), actions: n % 2, ..MinutePoint::default() };
        let minutes: Vec<MinutePoint> = (0..10_080).map(minute).collect();
        let per_point = minutes_per_point(minutes.len());
        let thin = thinned(&minutes, per_point, |m| m.cost_per_hour);
        assert_eq!((per_point, thin.len(), thin[0]), (17, 593, 8.0));
        let actions = ActionSeries::of(&minutes);
        assert_eq!((actions.minutes, actions.actions.len(), actions.actions.iter().sum::<u64>()), (180, 56, 5040));
        assert_eq!((minutes_per_point(600), minutes_per_point(601), minutes_per_point(0)), (1, 2, 1));
    }
}
