//! The whole problem as one mixed integer program, solved stage by stage.
//!
//! Shares of cells are continuous (never make the split integer: it only costs time), replicas are
//! integer, and a pool with several latency levels opens one of them. Stages of the strict objective: the
//! load that is not served, one stage for each priority, then cost. When everything can be served the first
//! stages are skipped.

mod model;
mod pick;

use std::panic::{AssertUnwindSafe, catch_unwind};

use good_lp::solvers::microlp::microlp;
use microlp::{ResumeOptions, SolveOptions, SolveOutcome};

use super::effort::Meter;
use super::{Objective, Plan, Problem};
use model::{Columns, Found};
pub(super) use pick::{Pick, pick};

/// Answer of the exact solver.
pub(super) struct Exact {
    pub plan: Plan,
    /// Proven lower bound on the objective, among the plans with this plan's shortfall.
    pub bound: f64,
}

/// Relative gap at which a stage counts as solved.
const GAP: f64 = 1e-6;
/// Pivots of a node, about: with little effort left the first slice is shorter.
const NODE_ITERATIONS: u64 = 8;
/// Share of a priority's load within which the least shortfall is proven.
const PROVEN: f64 = 1e-5;
/// Branch-and-bound nodes between two looks at the effort.
const SLICE: u64 = 64;

/// What one stage minimises.
enum Goal {
    /// Load of one priority that is not served, as a share of it.
    Shortfall(i32),
    /// Cost; with the price of what is not served where the objective is weighted.
    Cost,
}

/// What is decided about the shortfall before the stage.
enum Fixed {
    /// Everything is served.
    Served,
    /// At most this rate in all cells of a priority.
    Sums(Vec<(i32, f64)>),
}

/// Solve within the effort that is left; `start` is a plan to begin from. `None` when no plan was found or
/// the solver failed.
pub(super) fn exact(problem: &Problem, start: Option<&Plan>, meter: &mut Meter) -> Option<Exact> {
    if matches!(problem.objective, Objective::Weighted(_)) {
        return stage(problem, &Goal::Cost, &Fixed::Sums(vec![]), start, meter).map(|s| s.finish(problem));
    }
    if let Some(served) = stage(problem, &Goal::Cost, &Fixed::Served, start, meter) {
        return Some(served.finish(problem));
    }
    let mut limits: Vec<(i32, f64)> = vec![];
    let mut is_proven = true;
    let zero = vec![0.0; problem.cells.len()];
    for (priority, _) in problem.shortfall_by_priority(&zero) {
        let found = stage(problem, &Goal::Shortfall(priority), &Fixed::Sums(limits.clone()), start, meter)?;
        let short = found.found.shortfall_of(problem, priority);
        is_proven &= short / model::rate_of(problem, priority).max(f64::MIN_POSITIVE) <= found.bound + PROVEN;
        limits.push((priority, short));
    }
    // What stays unserved has a tiny price in the last stage, which is no cost.
    let allowed = limits.iter().map(|(priority, most)| most + model::STAGE_SLACK * model::rate_of(problem, *priority));
    let short_ties = model::TIE * allowed.sum::<f64>();
    let mut found = stage(problem, &Goal::Cost, &Fixed::Sums(limits), start, meter)?.finish(problem);
    found.bound -= short_ties;
    if !is_proven {
        // Plans that serve more may cost less: the bound is not one on them.
        found.bound = f64::NEG_INFINITY;
    }
    Some(found)
}

/// A few models at weighted prices: a plan and a bound, both as good as the depth makes them.
pub(super) fn bounded(problem: &Problem, start: &Plan, depth: Depth, meter: &mut Meter<'_>) -> Option<Exact> {
    let fixed = Fixed::Sums(vec![]);
    stage_to(problem, &Goal::Cost, &fixed, Some(start), depth, meter).map(|s| s.finish(problem))
}

/// How deep a stage is searched.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    /// Relative gap at which it ends.
    pub gap: f64,
    /// Slices of nodes after which it ends.
    pub slices: u64,
}

const FULL: Depth = Depth { gap: GAP, slices: u64::MAX };

struct Stage {
    found: Found,
    bound: f64,
}

impl Stage {
    fn finish(self, problem: &Problem) -> Exact {
        Exact { plan: self.found.plan(problem), bound: self.bound }
    }
}

fn stage(problem: &Problem, goal: &Goal, fixed: &Fixed, start: Option<&Plan>, meter: &mut Meter) -> Option<Stage> {
    stage_to(problem, goal, fixed, start, FULL, meter)
}

fn stage_to(
    problem: &Problem,
    goal: &Goal,
    fixed: &Fixed,
    start: Option<&Plan>,
    depth: Depth,
    meter: &mut Meter,
) -> Option<Stage> {
    let (vars, columns, objective) = Columns::new(problem, goal, fixed);
    let mut model = vars.minimise(objective).using(microlp);
    let rows = columns.add_rows(problem, goal, fixed, &mut model);
    let mut options = SolveOptions::default();
    options.mip_gap = depth.gap;
    let cost = iteration_cost(columns.count(), rows);
    options.node_limit = Some((meter.left() / (cost * NODE_ITERATIONS)).clamp(1, SLICE));
    options.warm_start = start.and_then(|plan| columns.values_of(problem, fixed, plan));
    // A panic of the solver must not end the loop; the model is dropped with it.
    let outcome = catch_unwind(AssertUnwindSafe(|| search(&model, options, cost, depth, meter))).ok()??;
    let stats = outcome.stats();
    let values: Vec<f64> = outcome.solution()?.iter().map(|(_, v)| v).collect();
    if !values.iter().all(|v| v.is_finite()) {
        return None;
    }
    let bound = stats.best_bound.unwrap_or(f64::NEG_INFINITY);
    let bound = if matches!(goal, Goal::Cost) { columns.true_bound(problem, bound) } else { bound };
    Some(Stage { found: columns.read(&values), bound })
}

/// Search in slices, so that the effort is counted and the stop flag seen.
fn search(
    model: &good_lp::solvers::microlp::MicroLpProblem,
    options: SolveOptions,
    cost: u64,
    depth: Depth,
    meter: &mut Meter,
) -> Option<SolveOutcome> {
    let mut outcome = model.as_inner().solve_with(options).ok()?;
    let mut counted = 0;
    let mut slices = 0;
    loop {
        slices += 1;
        let iterations = outcome.stats().lp_iterations;
        meter.spend((iterations - counted).max(1) * cost);
        counted = iterations;
        let limited = outcome.termination_reason() == microlp::TerminationReason::NodeLimit;
        if !limited || slices >= depth.slices || meter.is_spent() {
            return Some(outcome);
        }
        let mut more = ResumeOptions::default();
        more.node_limit = Some(SLICE);
        more.mip_gap = Some(depth.gap);
        outcome = outcome.resume_with(more).ok()?;
    }
}

/// Units of work of one pivot: it touches a sparse inverse of the rows and prices the columns.
fn iteration_cost(columns: usize, rows: usize) -> u64 {
    1 + ((columns + 4 * rows) / 220) as u64
}
