//! Rules on the same requests, beside each other: what a report tells.

use serde::Serialize;

use super::outcome::Outcome;
use crate::policy::{Promise, SloClass};

/// Everything that was run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What was played, one line a trace.
    pub traffic: Vec<String>,
    /// What was set beside the policy's files, and what goes wrong on purpose, one line each.
    pub circumstances: Vec<String>,
    pub currency: String,
    /// Names of the policy's pools, `namespace/name`, in its order.
    pub pools: Vec<String>,
    /// Promises of the classes, in the policy's order.
    pub promises: Vec<PromiseWords>,
    /// Our planner, one run a seed.
    pub ours: Vec<Outcome>,
    pub others: Vec<Contest>,
}

/// A class and its targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromiseWords {
    pub class: String,
    /// Share of the requests, 0..1.
    pub quantile: f64,
    pub ttft_seconds: Option<f64>,
    pub itl_seconds: Option<f64>,
    pub deadline_seconds: Option<f64>,
}

impl PromiseWords {
    pub fn of(class: &SloClass) -> Self {
        let finite = |seconds: f64| seconds.is_finite().then_some(seconds);
        let name = class.name.clone();
        match class.promise {
            Promise::Latency { quantile, ttft_seconds, itl_seconds } => Self {
                class: name,
                quantile,
                ttft_seconds: finite(ttft_seconds),
                itl_seconds: finite(itl_seconds),
                deadline_seconds: None,
            },
            Promise::Deadline { seconds } => Self {
                class: name,
                quantile: 1.0,
                ttft_seconds: None,
                itl_seconds: None,
                deadline_seconds: Some(seconds),
            },
        }
    }
}

/// One other rule with all points that were tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    pub rule: String,
    pub about: String,
    /// What the target is; empty when there is none.
    pub target: String,
    pub points: Vec<Outcome>,
    /// The cheapest point that serves every class at least as well as ours does, in hindsight; `None` when none does.
    pub best: Option<usize>,
}

impl Comparison {
    /// Whether `other` serves every class at least as well as `ours`.
    pub fn serves_as_well(other: &Outcome, ours: &Outcome) -> bool {
        let share = |o: &Outcome, class: usize| o.classes[class].attainment.unwrap_or(1.0);
        (0..ours.classes.len()).all(|class| share(other, class) >= share(ours, class))
    }

    /// The cheapest of `points` that serves every class at least as well as `ours`.
    pub fn best(points: &[Outcome], ours: &Outcome) -> Option<usize> {
        let good = points.iter().enumerate().filter(|(_, point)| Self::serves_as_well(point, ours));
        good.min_by(|a, b| a.1.cost.total_cmp(&b.1.cost)).map(|(index, _)| index)
    }
}
