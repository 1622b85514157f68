//! Solving from a plan that is known, and the price of a plan that is given.

use crate::plan::{Effort, Problem, Solution, solve, verify};

/// Units of work for the routing of given replicas: nothing whole is left to choose, so that this is never spent.
const PRICING_UNITS: u64 = 1_000_000_000;

/// Solve with the replicas of a known plan to begin from. Never worse than those replicas with the best routing, as
/// long as they keep the limits.
pub fn solve_from(problem: &Problem, effort: &Effort<'_>, start: Option<&[u32]>) -> Solution {
    let found = solve(problem, effort);
    let Some(known) = start.and_then(|replicas| priced(problem, replicas)) else { return found };
    let (short, served) = (total(&known.plan.shortfall), total(&found.plan.shortfall));
    let better = short <= served + 1e-9 && known.objective < found.objective;
    if !better {
        return found;
    }
    let bound = found.bound.min(known.objective);
    let gap = (known.objective - bound) / known.objective.abs().max(1e-9);
    Solution { plan: known.plan, objective: known.objective, bound, gap, solver: "start".into(), ..found }
}

fn total(shortfall: &[f64]) -> f64 {
    shortfall.iter().sum()
}

/// These replicas with the best routing; `None` when they break a limit.
pub fn priced(problem: &Problem, replicas: &[u32]) -> Option<Solution> {
    let mut fixed = problem.clone();
    for (pool, &n) in fixed.pools.iter_mut().zip(replicas) {
        if n > pool.max {
            return None;
        }
        (pool.min, pool.max) = (n, n);
    }
    let found = solve(&fixed, &Effort { units: PRICING_UNITS, stop: None });
    let objective = problem.objective(&found.plan);
    verify(problem, &found.plan).is_ok().then_some(Solution { objective, ..found })
}
