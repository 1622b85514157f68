//! The same planner for a demand that is given instead of observed: static fleets, what-if.

use super::floors::{self, Ahead};
use super::learn::{Known, ModelKnown, PoolKnown};
use super::problem::{self, Scope};
use crate::control::State;
use crate::demand::Bucket;
use crate::plan::{Effort, solve};
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
    };
    let mut built = problem::build(policy, &known, state, Scope::All);
    for pool in &mut built.problem.pools {
        pool.start_cost_per_hour = 0.0;
    }
    let solution = solve(&built.problem, &Effort::default());
    Sizing {
        cost_per_hour: built.problem.cost_per_hour(&solution.plan.replicas),
        shortfall_rate: solution.plan.shortfall.iter().sum(),
        replicas: solution.plan.replicas,
    }
}
