//! Solving a fleet of many models with the decomposition: what is minimised in which order, and how the effort
//! is shared.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::effort::Meter;
use super::fleet::{Fleet, Goal};
use super::memory::Memory;
use super::solve::is_better;
use super::{Objective, Plan, Problem, verify};

/// What the decomposition found.
pub(super) struct Found {
    pub plan: Plan,
    /// Lower bound on the objective of plans with this plan's shortfall.
    pub bound: f64,
    /// Plans that the independent check refused.
    pub refused: u32,
}

/// How long a decomposition goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// A good plan soon.
    Quick,
    /// Until nothing is found any more.
    Full,
}

/// Parts of the effort after which column generation (cold and warm) and the exact answers end; the rest is for
/// the choice.
const GENERATE_UNTIL: f64 = 0.5;
const WARM_UNTIL: f64 = 0.7;
const CERTIFY_UNTIL: f64 = 0.85;
/// The same for further rounds of exact answers.
const CERTIFY_AGAIN_UNTIL: f64 = 0.5;
/// Rounds at most.
const RELAX_ROUNDS: usize = 30;
const GENERATE_ROUNDS: usize = 40;
/// How many times the dearest way to serve a cell its shortfall is priced.
const PENALTY: f64 = 20.0;
/// Factor between the prices of two priorities in the first stage.
const RANK: f64 = 50.0;
/// Factor between priorities where one of them is minimised.
const STRICT_RANK: f64 = 1e4;

/// Improve on `start`, which keeps all limits.
pub(super) fn decompose(
    problem: &Problem,
    start: &Plan,
    depth: Depth,
    memory: &mut Memory,
    meter: &mut Meter<'_>,
) -> Found {
    let mut best = Found { plan: start.clone(), bound: f64::NEG_INFINITY, refused: 0 };
    let goal = first_goal(problem);
    let (plan, bound) = stage(problem, &goal, (start, depth), memory, meter);
    best.offer(problem, plan);
    if matches!(problem.objective, Objective::Weighted(_)) {
        best.bound = bound;
        return best;
    }
    let short: BTreeSet<Reverse<i32>> = problem
        .cells
        .iter()
        .zip(&best.plan.shortfall)
        .filter(|(_, short)| **short > 0.0)
        .map(|(cell, _)| Reverse(cell.priority))
        .collect();
    for Reverse(priority) in short {
        if meter.is_spent() {
            break;
        }
        let goal = stage_goal(problem, priority);
        // What is learnt at the prices of a shortage is of no use to the next tick.
        let (plan, _) = stage(problem, &goal, (&best.plan, depth), &mut memory.clone(), meter);
        best.offer(problem, plan);
    }
    // The bound is on cost and priced shortfall together: what is left for the cost of a plan with this one's.
    let priced = goal.cell.iter().zip(&best.plan.shortfall).zip(&problem.cells);
    best.bound =
        bound - priced.map(|((price, short), c)| if *short > 0.0 { price * short / c.rate } else { 0.0 }).sum::<f64>();
    best
}

impl Found {
    /// Take a plan that is better.
    fn offer(&mut self, problem: &Problem, plan: Plan) {
        if verify(problem, &plan).is_err() {
            self.refused += 1;
        } else if is_better(problem, &plan, &self.plan) {
            self.plan = plan;
        }
    }
}

fn stage(
    problem: &Problem,
    goal: &Goal,
    (start, depth): (&Plan, Depth),
    memory: &mut Memory,
    meter: &mut Meter<'_>,
) -> (Plan, f64) {
    let mut fleet = Fleet::new(problem, goal, start);
    fleet.threads = meter.threads();
    let begun = meter.used();
    let left = meter.left();
    let until = |share: f64| begun.saturating_add((left as f64 * share) as u64);
    let is_warm = memory.recall(&mut fleet, meter);
    if is_warm {
        // At the remembered prices: they stay, and there is a bound.
        fleet.relax(1, meter);
        fleet.choose(0, meter);
        fleet.refit_all(&vec![0.0; fleet.most.len()], meter);
    } else {
        fleet.relax(RELAX_ROUNDS, meter);
    }
    meter.until(until(if is_warm { WARM_UNTIL } else { GENERATE_UNTIL }));
    fleet.generate(GENERATE_ROUNDS, is_warm, meter);
    meter.until(u64::MAX);
    fleet.choose(0, meter);
    let can_certify = !is_warm || memory.can_certify(&fleet, until(CERTIFY_UNTIL).saturating_sub(meter.used()));
    if can_certify && !fleet.certify(until(CERTIFY_UNTIL), until(CERTIFY_AGAIN_UNTIL), meter) {
        // Models too large for exact answers need more of the others.
        meter.until(until(WARM_UNTIL));
        fleet.generate(GENERATE_ROUNDS, true, meter);
        meter.until(u64::MAX);
        fleet.choose(0, meter);
    }
    fleet.polish(depth, meter);
    memory.keep(&fleet);
    (fleet.plan(problem), fleet.bound)
}

/// The price of a whole cell: what the dearest way to serve it alone would cost.
fn dearest(problem: &Problem) -> Vec<f64> {
    let mut price = vec![0.0_f64; problem.cells.len()];
    for serve in &problem.serves {
        let rate = problem.cells[serve.cell].rate;
        let way: f64 = serve
            .stages()
            .map(|s| {
                let pool = &problem.pools[s.pool];
                (rate / s.rate).ceil() * (pool.price_per_hour + pool.start_cost_per_hour)
            })
            .sum();
        price[serve.cell] = price[serve.cell].max(way);
    }
    price
}

/// Rank of each priority, the least important 0.
fn ranks(problem: &Problem) -> BTreeMap<i32, i32> {
    let priorities: BTreeSet<i32> = problem.cells.iter().map(|c| c.priority).collect();
    priorities.into_iter().zip(0..).collect()
}

fn first_goal(problem: &Problem) -> Goal {
    let cell = match &problem.objective {
        Objective::Weighted(penalties) => problem.cells.iter().zip(penalties).map(|(c, p)| c.rate * p).collect(),
        Objective::Strict => {
            let ranks = ranks(problem);
            let price = |(c, way): (&super::Cell, f64)| PENALTY * way * RANK.powi(ranks[&c.priority].min(4));
            problem.cells.iter().zip(dearest(problem)).map(price).collect()
        }
    };
    Goal { cell }
}

/// Load of one priority first: what is more important must not get worse, what is less counts little.
fn stage_goal(problem: &Problem, priority: i32) -> Goal {
    let per_rate = |(c, way): (&super::Cell, f64)| if c.rate > 0.0 { way / c.rate } else { 0.0 };
    let unit = PENALTY * problem.cells.iter().zip(dearest(problem)).map(per_rate).fold(0.0, f64::max);
    let price = |c: &super::Cell| {
        let rank = match c.priority.cmp(&priority) {
            std::cmp::Ordering::Greater => STRICT_RANK,
            std::cmp::Ordering::Equal => 1.0,
            std::cmp::Ordering::Less => 1.0 / STRICT_RANK,
        };
        c.rate * unit * rank
    };
    Goal { cell: problem.cells.iter().map(price).collect() }
}

/// Given replicas with the load routed over them as well as can be; more important cells first.
pub(super) fn routed(problem: &Problem, replicas: &[u32], tiers: &[Option<usize>]) -> Plan {
    let mut plan = problem.empty_plan();
    plan.replicas.copy_from_slice(replicas);
    plan.tiers.copy_from_slice(tiers);
    Fleet::new(problem, &first_goal(problem), &plan).plan(problem)
}
