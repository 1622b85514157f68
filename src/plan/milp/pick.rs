//! The master of the decomposition with whole choices: one column for each model, under the limits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use good_lp::{Expression, ProblemVariables, SolverModel, constraint, solvers::microlp::microlp, variable};
use microlp::SolveOptions;

use super::iteration_cost;
use crate::plan::effort::Meter;

/// A column that may be chosen.
pub(in crate::plan) struct Pick<'a> {
    pub member: usize,
    pub column: usize,
    pub cost: f64,
    pub uses: &'a [f64],
    /// Whether it is chosen now.
    pub is_chosen: bool,
}

/// Relative gap at which the choice is good enough.
const GAP: f64 = 5e-5;

/// The cheapest choice found within `nodes` nodes: (member, column). `None` when nothing was found or the
/// solver failed.
pub(in crate::plan) fn pick(
    picks: &[Pick<'_>],
    members: usize,
    most: &[f64],
    nodes: u64,
    meter: &mut Meter<'_>,
) -> Option<Vec<(usize, usize)>> {
    let mut vars = ProblemVariables::new();
    let columns: Vec<_> = picks.iter().map(|_| vars.add(variable().binary())).collect();
    let mut objective = Expression::with_capacity(picks.len());
    let mut one: Vec<Expression> = vec![Expression::from(0.0); members];
    let mut used: Vec<Expression> = vec![Expression::from(0.0); most.len()];
    for (pick, column) in picks.iter().zip(&columns) {
        objective.add_mul(pick.cost, *column);
        one[pick.member].add_mul(1.0, *column);
        for (limit, amount) in pick.uses.iter().enumerate().filter(|(_, a)| **a != 0.0) {
            used[limit].add_mul(*amount, *column);
        }
    }
    let mut model = vars.minimise(objective).using(microlp);
    for sum in one {
        model.add_constraint(constraint!(sum == 1.0));
    }
    for (sum, most) in used.into_iter().zip(most) {
        model.add_constraint(constraint!(sum <= *most));
    }
    let mut options = SolveOptions::default();
    options.mip_gap = GAP;
    options.node_limit = Some(nodes);
    let mut handles = microlp::Problem::new(microlp::OptimizationDirection::Minimize);
    let start = picks.iter().map(|p| (handles.add_var(0.0, (0.0, 0.0)), f64::from(u8::from(p.is_chosen))));
    options.warm_start = Some(start.collect());
    let outcome = catch_unwind(AssertUnwindSafe(|| model.as_inner().solve_with(options).ok())).ok()??;
    meter.spend(outcome.stats().lp_iterations.max(1) * iteration_cost(picks.len(), members + most.len()));
    let solution = outcome.solution()?;
    let chosen = solution.iter().map(|(_, v)| v).zip(picks).filter(|(v, _)| *v > 0.5);
    Some(chosen.map(|(_, p)| (p.member, p.column)).collect())
}
