//! Independent arithmetic on a plan: nothing is published that does not add up.

use std::collections::HashMap;

use super::{Limit, Plan, Problem, Stage};

/// Relative tolerance on loads and rates: demand can fill a fleet exactly.
const TOLERANCE: f64 = 1e-6;

/// What a plan breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    #[error("the plan has {got} {what}, the problem has {wanted}")]
    Size { what: &'static str, got: usize, wanted: usize },
    #[error("pool {pool}: {replicas} replicas are outside {min}..={max}")]
    Bounds { pool: String, replicas: u32, min: u32, max: u32 },
    #[error("{limit}: {used} used of {most}")]
    Limit { limit: String, used: f64, most: f64 },
    #[error("cell {cell}: {served} served and {short} short of {rate}")]
    Demand { cell: String, served: f64, short: f64, rate: f64 },
    #[error("pool {pool}: load of {load} replicas on {replicas}")]
    Overload { pool: String, load: f64, replicas: u32 },
    #[error("pool {pool} cannot serve cell {cell} at its latency level")]
    NoService { pool: String, cell: String },
    #[error("a flow or a shortfall is negative or no number")]
    NotANumber,
}

/// Check a plan against its problem.
///
/// # Errors
/// The first rule that is broken.
pub fn verify(problem: &Problem, plan: &Plan) -> Result<(), Violation> {
    let size = |what, got: usize, wanted: usize| match got == wanted {
        true => Ok(()),
        false => Err(Violation::Size { what, got, wanted }),
    };
    size("pools", plan.replicas.len(), problem.pools.len())?;
    size("tiers", plan.tiers.len(), problem.pools.len())?;
    size("cells", plan.shortfall.len(), problem.cells.len())?;
    replicas_fit(problem, plan)?;
    flows_fit(problem, plan)
}

fn replicas_fit(problem: &Problem, plan: &Plan) -> Result<(), Violation> {
    for (pool, &replicas) in problem.pools.iter().zip(&plan.replicas) {
        if replicas < pool.min || replicas > pool.max {
            return Err(Violation::Bounds { pool: pool.name.clone(), replicas, min: pool.min, max: pool.max });
        }
    }
    for limit in &problem.limits {
        if is_over(problem, limit, &plan.replicas) {
            let (used, most) = (limit.used(&plan.replicas), problem.most(limit));
            return Err(Violation::Limit { limit: limit.name.clone(), used, most });
        }
    }
    Ok(())
}

/// Whether more of the limit is used than there is. Amounts are prices and watts too: their sums are rounded.
pub(super) fn is_over(problem: &Problem, limit: &Limit, replicas: &[u32]) -> bool {
    let most = problem.most(limit);
    limit.used(replicas) > most + TOLERANCE * most.abs().max(1.0)
}

fn flows_fit(problem: &Problem, plan: &Plan) -> Result<(), Violation> {
    let mut ways: HashMap<(usize, usize, Option<usize>), Vec<usize>> = HashMap::new();
    for (index, serve) in problem.serves.iter().enumerate() {
        ways.entry((serve.cell, serve.pool, serve.then.map(|s| s.pool))).or_default().push(index);
    }
    let mut served = vec![0.0; problem.cells.len()];
    let mut load = vec![0.0; problem.pools.len()];
    for flow in &plan.flows {
        if !(flow.rate.is_finite() && flow.rate >= 0.0) {
            return Err(Violation::NotANumber);
        }
        let (Some(cell), Some(pool)) = (problem.cells.get(flow.cell), problem.pools.get(flow.pool)) else {
            return Err(Violation::Size { what: "flow targets", got: flow.cell.max(flow.pool), wanted: 0 });
        };
        let is_open = |stage: Stage| plan.tiers[stage.pool] == Some(stage.tier);
        let serve = ways
            .get(&(flow.cell, flow.pool, flow.then))
            .and_then(|ways| ways.iter().map(|&i| &problem.serves[i]).find(|s| s.stages().all(is_open)))
            .ok_or_else(|| Violation::NoService { pool: pool.name.clone(), cell: cell.name.clone() })?;
        served[flow.cell] += flow.rate;
        for stage in serve.stages() {
            load[stage.pool] += flow.rate / stage.rate;
        }
    }
    for ((cell, &served), &short) in problem.cells.iter().zip(&served).zip(&plan.shortfall) {
        if !(short.is_finite() && short >= 0.0) {
            return Err(Violation::NotANumber);
        }
        // Load that may wait is carried or not.
        let off = (cell.rate - served - short).max(served + short - cell.rate - cell.may_wait);
        if off > TOLERANCE * cell.rate.max(1e-3) {
            return Err(Violation::Demand { cell: cell.name.clone(), served, short, rate: cell.rate });
        }
    }
    for ((pool, &load), &replicas) in problem.pools.iter().zip(&load).zip(&plan.replicas) {
        if load > f64::from(replicas) * (1.0 + TOLERANCE) + TOLERANCE {
            return Err(Violation::Overload { pool: pool.name.clone(), load, replicas });
        }
    }
    Ok(())
}
