//! The same planner for a demand that is given instead of observed: static fleets, what-if.

use super::floors::{self, Ahead};
use super::learn::{Known, ModelKnown, PoolKnown};
use super::problem::{Scope, build};
use crate::control::State;
use crate::demand::Bucket;
use crate::plan::{Effort, Problem, solve};
use crate::policy::Policy;

/// Demand of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenDemand {
    /// (class index, requests per second).
    pub classes: Vec<(usize, f64)>,
    pub buckets: Vec<Bucket>,
}

/// Replicas for a given demand.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    /// By pool index.
    pub replicas: Vec<u32>,
    pub cost_per_hour: f64,
    /// Load that misses its target, requests per second.
    pub shortfall_rate: f64,
}

/// Size the whole fleet for `demands` (one per model of the policy) as if nothing ran yet and starting
/// cost nothing.
pub fn size(policy: &Policy, demands: &[GivenDemand], state: &mut State) -> Sizing {
    let problem = problem_for(policy, demands, state);
    let solution = solve(&problem, &Effort::default());
    Sizing {
        cost_per_hour: problem.cost_per_hour(&solution.plan.replicas),
        shortfall_rate: solution.plan.shortfall.iter().sum(),
        replicas: solution.plan.replicas,
    }
}

/// The problem that [`size`] solves, for other solvers.
pub fn problem_for(policy: &Policy, demands: &[GivenDemand], state: &mut State) -> Problem {
    let known = Known {
        pools: (0..policy.pools.len())
            .map(|p| PoolKnown { floor: floors::of_pool(policy, p, Ahead::ALWAYS), ..PoolKnown::empty() })
            .collect(),
        models: policy
            .models
            .iter()
            .zip(demands)
            .map(|(model, demand)| ModelKnown::given(demand, floors::of_model(policy, model, Ahead::ALWAYS)))
            .collect(),
        findings: vec![],
        now_seconds: 0.0,
    };
    let mut problem = build(policy, &known, state, Scope::All).problem;
    for pool in &mut problem.pools {
        pool.start_cost_per_hour = 0.0;
    }
    problem
}
