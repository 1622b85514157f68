//! Which solver solves what, and the last word on every answer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::effort::{Effort, Meter};
use super::greedy::greedy;
use super::large::{Depth, decompose, routed};
use super::memory::Memory;
use super::milp::exact;
use super::parts::{Group, components, is_shareable, merge, part_of, plan_of};
use super::{Flow, Objective, Plan, Problem, Serve, Solution, Stage, verify};

/// Pools up to which a part is given to the exact solver as a whole.
const EXACT_POOLS: usize = 110;
/// Pools from which the exact solver is given a plan of the decomposition to begin from.
const SEEDED_POOLS: usize = 24;
/// Part of the effort that such a plan may take.
const SEED: f64 = 0.2;
/// Part of what is left then that the proof may take; without one the rest goes into better plans.
const PROOF: f64 = 0.5;

/// Find replicas and flows. Always answers with a feasible plan as long as the lower limits of the pools can
/// be kept (see [`Problem::conflicts`]), never a worse one than what runs; every answer has passed [`verify`].
pub fn solve(problem: &Problem, effort: &Effort<'_>) -> Solution {
    solve_again(problem, effort, &mut Memory::default())
}

/// [`solve`] with what the last solve left, so that it begins where that ended. The memory is brought up to
/// date; without it the answer is as valid, and for a large fleet later or a little dearer.
pub fn solve_again(problem: &Problem, effort: &Effort<'_>, memory: &mut Memory) -> Solution {
    search(problem, effort, memory, None)
}

/// [`solve`] with replicas that are known to begin from: never worse than these with the best routing, as long as
/// they keep the limits.
pub fn solve_from(problem: &Problem, effort: &Effort<'_>, start: Option<&[u32]>) -> Solution {
    search(problem, effort, &mut Memory::default(), start)
}

/// These replicas with the best routing, every pool at the latency level it is operated at; `None` when they break a
/// limit.
pub fn priced(problem: &Problem, replicas: &[u32]) -> Option<Solution> {
    let tiers: Vec<Option<usize>> = problem.pools.iter().map(|p| p.tier).collect();
    let plan = (replicas.len() == problem.pools.len()).then(|| routed(problem, replicas, &tiers))?;
    verify(problem, &plan).ok()?;
    let objective = problem.objective(&plan);
    let bound = least_cost(problem).min(objective);
    let (solver, gap) = ("given".into(), gap_of(objective, bound));
    Some(Solution { plan, solver, work_units: 0, objective, bound, gap, refused: 0, stopped: false, stopped_at: None })
}

fn search(problem: &Problem, effort: &Effort<'_>, memory: &mut Memory, start: Option<&[u32]>) -> Solution {
    let mut meter = Meter::new(*effort);
    memory.forget(problem);
    let known = start.and_then(|replicas| priced(problem, replicas));
    let found = search_anew(problem, known.as_ref().map(|k| &k.plan), memory, &mut meter);
    match known {
        // Parts that were solved apart do not see what was known of the whole.
        Some(known) if is_better(problem, &known.plan, &found.plan) => {
            let bound = found.bound.min(known.objective);
            let gap = gap_of(known.objective, bound);
            Solution { plan: known.plan, objective: known.objective, bound, gap, solver: "given".into(), ..found }
        }
        _ => found,
    }
}

fn search_anew(problem: &Problem, known: Option<&Plan>, memory: &mut Memory, meter: &mut Meter<'_>) -> Solution {
    if problem.pools.len() > EXACT_POOLS {
        let answer = solve_large(problem, known, memory, meter);
        let whole = Group { pools: (0..problem.pools.len()).collect(), cells: (0..problem.cells.len()).collect() };
        let joined = join(problem, &[whole], vec![answer], meter);
        return checked(problem, joined);
    }
    solve_apart(problem, known, memory, meter)
}

/// Part of the effort that a look at parts takes: whether they compete shows in their plans only.
const LOOK: f64 = 0.1;

/// Parts that do not compete are solved on their own: sooner done, and proven. A first look tells which these are, and
/// only parts that it did not finish are searched on.
fn solve_apart(problem: &Problem, known: Option<&Plan>, memory: &mut Memory, meter: &mut Meter<'_>) -> Solution {
    let mut groups = components(problem);
    let mut start = known.cloned();
    let mut finished = BTreeMap::new();
    let mut is_look = true;
    loop {
        let parts = groups.len();
        is_look &= parts > 1;
        let answers = meter.with_share(if is_look { LOOK } else { 1.0 }, |meter| {
            solve_groups(problem, &groups, start.as_ref(), &mut finished, memory, meter)
        });
        let is_done = answers.iter().all(|a| a.is_done);
        let mut joined = join(problem, &groups, answers, meter);
        joined.stopped |= !is_done;
        let over = overstepped(problem, &joined.plan);
        if !over.is_empty() {
            groups = merge(problem, groups, &over);
        }
        if groups.len() < parts {
            is_look = true;
        } else if is_look && !is_done && over.is_empty() {
            start = Some(joined.plan);
            is_look = false;
        } else {
            // A part that oversteps a limit on its own is nothing that more effort would mend.
            return checked(problem, joined);
        }
    }
}

/// Every group on its own, each with a part of the effort after its size; groups that are finished are not asked
/// again.
fn solve_groups(
    problem: &Problem,
    groups: &[Group],
    start: Option<&Plan>,
    finished: &mut BTreeMap<Group, Answer>,
    memory: &mut Memory,
    meter: &mut Meter<'_>,
) -> Vec<Answer> {
    let parts: Vec<Problem> = groups.iter().map(|g| part_of(problem, g)).collect();
    let size = |part: &Problem| 1 + part.serves.len() as u64;
    let mut rest: u64 = parts.iter().map(size).sum();
    let mut answers = vec![];
    for (group, part) in groups.iter().zip(parts) {
        let share = size(&part) as f64 / rest as f64;
        rest -= size(&part);
        if let Some(answer) = finished.get(group) {
            answers.push(answer.clone());
            continue;
        }
        let known = start.map(|plan| plan_of(group, plan));
        let answer = meter.with_share(share, |meter| {
            let mut answer = solve_part(&part, known.as_ref(), memory, meter);
            answer.is_done = !meter.is_spent();
            answer
        });
        if answer.is_done {
            finished.insert(group.clone(), answer.clone());
        }
        answers.push(answer);
    }
    answers
}

/// Limits of which the plan uses too much.
fn overstepped(problem: &Problem, plan: &Plan) -> BTreeSet<usize> {
    let is_over = |l: &usize| {
        let limit = &problem.limits[*l];
        is_shareable(limit) && verify::is_over(problem, limit, &plan.replicas)
    };
    (0..problem.limits.len()).filter(is_over).collect()
}

#[derive(Clone)]
struct Answer {
    plan: Plan,
    solver: &'static str,
    bound: f64,
    refused: u32,
    /// Whether the search ended by itself.
    is_done: bool,
}

/// The best of the greedy plan, what runs now and what is known.
fn first_plan(problem: &Problem, known: Option<&Plan>, meter: &mut Meter<'_>) -> Plan {
    let (mut first, steps) = greedy(problem);
    meter.spend(steps);
    let running: Vec<u32> = problem.pools.iter().map(|p| p.running.clamp(p.min, p.max)).collect();
    let tiers: Vec<Option<usize>> = problem.pools.iter().map(|p| p.tier).collect();
    for replicas in [running, first.replicas.clone()] {
        let tiers = if replicas == first.replicas { first.tiers.clone() } else { tiers.clone() };
        let plan = routed(problem, &replicas, &tiers);
        meter.spend(problem.serves.len() as u64 / 8 + 1);
        if is_better(problem, &plan, &first) {
            first = plan;
        }
    }
    known.filter(|k| is_better(problem, k, &first)).cloned().unwrap_or(first)
}

fn solve_large(problem: &Problem, known: Option<&Plan>, memory: &mut Memory, meter: &mut Meter<'_>) -> Answer {
    let first = first_plan(problem, known, meter);
    let found = decompose(problem, &first, Depth::Full, memory, meter);
    let bound = found.bound.max(least_cost(problem));
    Answer { plan: found.plan, solver: "decomposition", bound, refused: found.refused, is_done: true }
}

fn solve_part(problem: &Problem, known: Option<&Plan>, memory: &mut Memory, meter: &mut Meter<'_>) -> Answer {
    let nothing_to_choose = problem.serves.is_empty() || problem.cells.iter().all(|c| c.rate <= 0.0);
    if nothing_to_choose {
        let (plan, steps) = greedy(problem);
        meter.spend(steps);
        return Answer { bound: problem.objective(&plan), plan, solver: "none", refused: 0, is_done: true };
    }
    let plan = first_plan(problem, known, meter);
    let mut answer = Answer { plan, solver: "greedy", bound: least_cost(problem), refused: 0, is_done: true };
    if problem.pools.len() <= SEEDED_POOLS {
        answer.improve_exactly(problem, meter);
        return answer;
    }
    meter.with_share(SEED, |meter| answer.improve(problem, Depth::Quick, memory, meter));
    let is_proven = meter.with_share(PROOF, |meter| {
        answer.improve_exactly(problem, meter);
        !meter.is_spent()
    });
    if !is_proven {
        answer.improve(problem, Depth::Full, memory, meter);
    }
    answer
}

impl Answer {
    fn improve(&mut self, problem: &Problem, depth: Depth, memory: &mut Memory, meter: &mut Meter<'_>) {
        let found = decompose(problem, &self.plan, depth, memory, meter);
        self.refused += found.refused;
        self.solver = "decomposition";
        self.take(problem, found.plan, found.bound);
    }

    /// A plan that is as good or better, and what no plan with its shortfall costs less than.
    fn take(&mut self, problem: &Problem, plan: Plan, bound: f64) {
        // A bound speaks of the plans with one shortfall: with another one the earlier says nothing.
        let is_same = |(old, new): (&f64, &f64)| (old - new).abs() <= SAME_SHORTFALL * old.max(1.0);
        if problem.objective == Objective::Strict && !self.plan.shortfall.iter().zip(&plan.shortfall).all(is_same) {
            self.bound = least_cost(problem);
        }
        self.plan = plan;
        // Pools without a price have a tiny one in the program, so that no replica is run for nothing.
        let replicas: f64 = self.plan.replicas.iter().map(|n| f64::from(*n)).sum();
        let objective = problem.objective(&self.plan);
        if bound > objective + WRONG_BOUND * (objective.abs() + 1.0 + replicas) {
            self.refused += 1;
        } else {
            self.bound = self.bound.max(bound);
        }
    }

    fn improve_exactly(&mut self, problem: &Problem, meter: &mut Meter<'_>) {
        if meter.is_spent() {
            return;
        }
        let Some(found) = exact(problem, Some(&self.plan), meter) else { return };
        // Its replicas count; what it sends where is rounded, so that is computed anew.
        let plan = routed(problem, &found.plan.replicas, &found.plan.tiers);
        match verify(problem, &plan) {
            Ok(()) if !is_better(problem, &self.plan, &plan) => {
                self.solver = "milp";
                self.take(problem, plan, found.bound);
            }
            Ok(()) => {}
            Err(_) => self.refused += 1,
        }
    }
}

/// How far a bound may be above a plan's cost by rounding, relative to it and by replica; more is a wrong answer.
const WRONG_BOUND: f64 = 1e-5;
/// Part of a priority's load within which two shortfalls are the same.
const SAME_SHORTFALL: f64 = 1e-6;

/// Cost of the fewest replicas allowed: a bound that always holds.
fn least_cost(problem: &Problem) -> f64 {
    problem.pools.iter().map(|p| p.price_per_hour * f64::from(p.min)).sum()
}

/// How far the objective may be above the least possible, as a share of it.
fn gap_of(objective: f64, bound: f64) -> f64 {
    ((objective - bound) / objective.abs().max(1e-9)).max(0.0)
}

/// True when `a` is a valid plan and better than `b` by more than rounding.
pub(super) fn is_better(problem: &Problem, a: &Plan, b: &Plan) -> bool {
    if verify(problem, a).is_err() {
        return false;
    }
    if problem.objective == Objective::Strict {
        let rates: Vec<f64> = problem.cells.iter().map(|c| c.rate).collect();
        let of = |rates: &[f64]| problem.shortfall_by_priority(rates).into_iter().map(|p| p.1);
        for ((a, b), rate) in of(&a.shortfall).zip(of(&b.shortfall)).zip(of(&rates)) {
            if (a - b).abs() > SAME_SHORTFALL * rate {
                return a < b;
            }
        }
    }
    let (a, b) = (problem.objective(a), problem.objective(b));
    a < b - 1e-6 * b.abs()
}

fn join(problem: &Problem, groups: &[Group], answers: Vec<Answer>, meter: &mut Meter<'_>) -> Solution {
    let mut plan = problem.empty_plan();
    let (mut bound, mut refused) = (0.0, 0);
    let mut solvers: BTreeSet<&str> = BTreeSet::new();
    for (group, answer) in groups.iter().zip(answers) {
        for (i, &pool) in group.pools.iter().enumerate() {
            plan.replicas[pool] = answer.plan.replicas[i];
            plan.tiers[pool] = answer.plan.tiers[i];
        }
        for (i, &cell) in group.cells.iter().enumerate() {
            plan.shortfall[cell] = answer.plan.shortfall[i];
        }
        plan.flows.extend(answer.plan.flows.iter().map(|f| Flow {
            cell: group.cells[f.cell],
            pool: group.pools[f.pool],
            then: f.then.map(|p| group.pools[p]),
            rate: f.rate,
        }));
        bound += answer.bound;
        refused += answer.refused;
        solvers.insert(answer.solver);
    }
    plan.flows.sort_by_key(|f| (f.cell, f.pool, f.then));
    let solver = ["greedy", "decomposition", "milp"].into_iter().find(|s| solvers.contains(s)).unwrap_or("none");
    let objective = problem.objective(&plan);
    let solution = Solution {
        plan,
        solver: solver.into(),
        work_units: 0,
        objective,
        bound: bound.min(objective),
        gap: 0.0,
        refused,
        stopped: false,
        stopped_at: None,
    };
    finished(solution, meter)
}

fn finished(solution: Solution, meter: &mut Meter<'_>) -> Solution {
    let gap = gap_of(solution.objective, solution.bound);
    let (work_units, stopped) = (meter.used(), meter.was_stopped());
    Solution { gap, work_units, stopped, stopped_at: meter.stopped_at(), ..solution }
}

/// Load that may wait gets what is left of the replicas there are, most important first.
fn use_what_is_left(problem: &Problem, plan: &mut Plan) {
    let mut load = vec![0.0; problem.pools.len()];
    let open = |plan: &Plan, stage: Stage| plan.tiers[stage.pool].is_none_or(|tier| tier == stage.tier);
    for flow in &plan.flows {
        let is_way = |s: &&Serve| {
            (s.cell, s.pool, s.then.map(|t| t.pool)) == (flow.cell, flow.pool, flow.then)
                && s.stages().all(|stage| plan.tiers[stage.pool] == Some(stage.tier))
        };
        for stage in problem.serves.iter().find(is_way).into_iter().flat_map(Serve::stages) {
            load[stage.pool] += flow.rate / stage.rate;
        }
    }
    let mut waiting: Vec<usize> = (0..problem.cells.len()).filter(|&c| problem.cells[c].may_wait > 0.0).collect();
    waiting.sort_by_key(|&c| (Reverse(problem.cells[c].priority), c));
    for cell in waiting {
        let mut left = problem.cells[cell].may_wait;
        // A pool that serves nothing yet takes its loosest level.
        let mut ways: Vec<&Serve> = problem.serves.iter().filter(|s| s.cell == cell).collect();
        ways.sort_by_key(|s| (s.pool, Reverse(s.tier)));
        for serve in ways {
            let room = |s: Stage| (f64::from(plan.replicas[s.pool]) - load[s.pool]).max(0.0) * s.rate;
            let rate = serve.stages().map(room).fold(left, f64::min);
            if rate <= 0.0 || !serve.stages().all(|s| open(plan, s)) {
                continue;
            }
            for stage in serve.stages() {
                plan.tiers[stage.pool] = Some(stage.tier);
                load[stage.pool] += rate / stage.rate;
            }
            let then = serve.then.map(|s| s.pool);
            let same = |f: &&mut Flow| (f.cell, f.pool, f.then) == (cell, serve.pool, then);
            match plan.flows.iter_mut().find(same) {
                Some(flow) => flow.rate += rate,
                None => plan.flows.push(Flow { cell, pool: serve.pool, then, rate }),
            }
            left -= rate;
        }
    }
    plan.flows.sort_by_key(|f| (f.cell, f.pool, f.then));
}

/// The last word: a plan that does not add up is replaced by the greedy one, and that by the fewest
/// replicas allowed.
fn checked(problem: &Problem, mut solution: Solution) -> Solution {
    if verify(problem, &solution.plan).is_ok() {
        if problem.cells.iter().any(|c| c.may_wait > 0.0) {
            let mut filled = solution.plan.clone();
            use_what_is_left(problem, &mut filled);
            if verify(problem, &filled).is_ok() {
                solution.plan = filled;
            }
        }
        return solution;
    }
    solution.refused += 1;
    let (plan, _) = greedy(problem);
    solution.solver = "greedy".into();
    solution.plan = if verify(problem, &plan).is_ok() { plan } else { problem.empty_plan() };
    solution.objective = problem.objective(&solution.plan);
    solution.bound = least_cost(problem);
    solution.gap = gap_of(solution.objective, solution.bound);
    solution
}

#[cfg(test)]
mod brute;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
