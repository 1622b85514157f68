//! Every answer of a tiny fleet, tried out, against the solvers.

use good_lp::solvers::microlp::microlp;
use good_lp::{Expression, ProblemVariables, Solution as _, SolverModel, Variable, constraint, variable};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::plan::samples::{cell, fleet, pool, serve};
use crate::plan::{Serve, Stage};

/// Unserved load by priority (and its price, for a weighted objective) of the best routing over these replicas.
fn best_routing(problem: &Problem, replicas: &[u32], tiers: &[usize]) -> Vec<f64> {
    let priorities: Vec<i32> =
        problem.shortfall_by_priority(&vec![0.0; problem.cells.len()]).iter().map(|p| p.0).collect();
    let open = |s: Stage| tiers[s.pool] == s.tier && replicas[s.pool] > 0;
    let usable: Vec<&Serve> = problem.serves.iter().filter(|s| s.stages().all(open)).collect();
    let stages = if problem.objective == Objective::Strict { priorities.len() } else { 1 };
    let mut found: Vec<f64> = vec![];
    for stage in 0..stages {
        let mut vars = ProblemVariables::new();
        let flows: Vec<Variable> = usable.iter().map(|_| vars.add(variable().min(0.0))).collect();
        let short: Vec<Variable> = problem.cells.iter().map(|c| vars.add(variable().min(0.0).max(c.rate))).collect();
        let sum_of = |priority: i32| -> Expression {
            problem.cells.iter().zip(&short).filter(|(c, _)| c.priority == priority).map(|(_, s)| *s).sum()
        };
        let goal = match &problem.objective {
            Objective::Strict => sum_of(priorities[stage]),
            Objective::Weighted(p) => short.iter().zip(p).map(|(s, p)| *p * *s).sum(),
        };
        let mut model = vars.minimise(goal.clone()).using(microlp);
        for (c, cell) in problem.cells.iter().enumerate() {
            let sent: Expression = usable.iter().zip(&flows).filter(|(s, _)| s.cell == c).map(|(_, f)| *f).sum();
            model.add_constraint(constraint!(sent + short[c] == cell.rate));
        }
        for (p, n) in replicas.iter().enumerate() {
            let mut load = Expression::from(0.0);
            for (s, f) in usable.iter().zip(&flows) {
                for stage in s.stages().filter(|stage| stage.pool == p) {
                    load += 1.0 / stage.rate * *f;
                }
            }
            model.add_constraint(constraint!(load <= f64::from(*n)));
        }
        for (priority, most) in priorities.iter().zip(&found) {
            model.add_constraint(constraint!(sum_of(*priority) <= *most + 1e-9));
        }
        let solution = model.solve().unwrap();
        found.push(solution.eval(goal));
    }
    found
}

/// The best of all: unserved load, then cost.
fn brute_force(problem: &Problem) -> Option<(Vec<f64>, f64)> {
    let mut best: Option<(Vec<f64>, f64)> = None;
    let tiers_of = |p: usize| -> Vec<usize> {
        let mut tiers: Vec<usize> =
            problem.serves.iter().flat_map(|s| s.stages()).filter(|s| s.pool == p).map(|s| s.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() { vec![0] } else { tiers }
    };
    let choices: Vec<Vec<(u32, usize)>> = problem
        .pools
        .iter()
        .enumerate()
        .map(|(p, o)| (o.min..=o.max).flat_map(|n| tiers_of(p).into_iter().map(move |t| (n, t))).collect())
        .collect();
    let all: usize = choices.iter().map(Vec::len).product();
    for mut index in 0..all {
        let mut pick = vec![];
        for list in &choices {
            pick.push(list[index % list.len()]);
            index /= list.len();
        }
        let replicas: Vec<u32> = pick.iter().map(|p| p.0).collect();
        let tiers: Vec<usize> = pick.iter().map(|p| p.1).collect();
        if problem.limits.iter().any(|l| l.used(&replicas) > problem.most(l) + 1e-9) {
            continue;
        }
        let mut plan = problem.empty_plan();
        plan.tiers = tiers.iter().zip(&replicas).map(|(t, n)| (*n > 0).then_some(*t)).collect();
        plan.replicas.clone_from(&replicas);
        plan.shortfall = vec![0.0; problem.cells.len()];
        let cost = problem.objective(&plan);
        if best.as_ref().is_some_and(|(short, c)| *c <= cost && short.iter().all(|s| *s <= 1e-9)) {
            continue;
        }
        let short = best_routing(problem, &replicas, &tiers);
        let found = match problem.objective {
            Objective::Strict => (short, cost),
            Objective::Weighted(_) => (vec![], cost + short[0]),
        };
        if best.as_ref().is_none_or(|b| lower(problem, &found, b)) {
            best = Some(found);
        }
    }
    best
}

/// Whether the first is better by more than rounding.
pub(super) fn lower(problem: &Problem, a: &(Vec<f64>, f64), b: &(Vec<f64>, f64)) -> bool {
    let rates: Vec<f64> = problem.cells.iter().map(|c| c.rate).collect();
    for ((x, y), (_, rate)) in a.0.iter().zip(&b.0).zip(problem.shortfall_by_priority(&rates)) {
        if (x - y).abs() > 1e-6 * rate {
            return x < y;
        }
    }
    a.1 < b.1 - 1e-9
}

/// A fleet of at most three pools and cells with everything that a problem may have.
pub(super) fn tiny(seed: u64) -> Problem {
    let mut r = ChaCha8Rng::seed_from_u64(seed);
    let pools = r.random_range(1..4);
    let cells = r.random_range(1..4);
    let types = r.random_range(1..3);
    let levels = if r.random_bool(0.3) { 2 } else { 1 };
    let stocked = (0..pools)
        .map(|p| {
            let max = r.random_range(1..4);
            let mut stocked = pool(&format!("p{p}"), r.random_range(0..types), r.random_range(1..3), 0.0, max);
            stocked.0.price_per_hour = (r.random_range(0.5..5.0_f64) * 8.0).round() / 8.0;
            stocked.0.running = r.random_range(0..=max);
            if r.random_bool(0.5) {
                stocked.0.start_cost_per_hour = r.random_range(0.0..0.6);
                stocked.0.stop_cost_per_hour = r.random_range(0.0..0.2);
            }
            stocked.0.min = u32::from(r.random_bool(0.1));
            stocked
        })
        .collect();
    let cells_made = (0..cells)
        .map(|c| {
            cell(
                &format!("c{c}"),
                r.random_range(0..3) * 10,
                if r.random_bool(0.1) { 0.0 } else { r.random_range(0.1..12.0) },
            )
        })
        .collect();
    let mut serves = vec![];
    for c in 0..cells {
        for p in 0..pools {
            for tier in 0..levels {
                if r.random_bool(0.7) {
                    serves.push(Serve { tier, ..serve(c, p, r.random_range(0.5..8.0)) });
                }
            }
        }
    }
    if pools > 1 && r.random_bool(0.2) {
        let then = Stage { pool: 1, tier: 0, rate: r.random_range(0.5..8.0) };
        serves.push(Serve { then: Some(then), ..serve(0, 0, r.random_range(0.5..8.0)) });
    }
    let stock: Vec<u32> = (0..types).map(|_| r.random_range(1..7)).collect();
    let mut problem = fleet(cells_made, stocked, &stock, serves);
    if r.random_bool(0.3) {
        let uses = problem.pools.iter().enumerate().map(|(p, o)| (p, o.price_per_hour)).collect();
        let most = r.random_range(3.0..15.0);
        problem.limits.push(crate::plan::Limit {
            name: "budget".into(),
            kind: crate::plan::LimitKind::Budget,
            most,
            uses,
        });
    }
    if r.random_bool(0.4) {
        let penalties = problem.cells.iter().map(|_| r.random_range(0.05..6.0)).collect();
        problem.objective = Objective::Weighted(penalties);
    }
    problem
}

pub(super) fn found(problem: &Problem, plan: &Plan) -> (Vec<f64>, f64) {
    let short = problem.shortfall_by_priority(&plan.shortfall).into_iter().map(|p| p.1).collect();
    match problem.objective {
        Objective::Strict => (short, problem.objective(plan)),
        Objective::Weighted(_) => (vec![], problem.objective(plan)),
    }
}

#[test]
fn every_tiny_fleet_equals_brute_force() {
    for seed in 0..CASES {
        let problem = tiny(seed);
        let best = brute_force(&problem).expect("the fewest replicas are always allowed here");
        let s = solve(&problem, &Effort::default());
        assert_eq!(verify(&problem, &s.plan), Ok(()), "seed {seed}");
        let got = found(&problem, &s.plan);
        let near = (got.1 - best.1).abs() <= 2e-6 * best.1.abs().max(1.0);
        assert!(
            !lower(&problem, &best, &got) && (near || lower(&problem, &got, &best)),
            "seed {seed}: {got:?} against {best:?}, {s:?}"
        );
        assert!(s.bound <= best.1 + 1e-5 * best.1.abs().max(1.0), "seed {seed}: bound {} above {best:?}", s.bound);
    }
}

/// The decomposition on the same fleets: never wrong, never worse than what runs, and its bound holds.
#[test]
fn the_decomposition_is_feasible_and_its_bound_holds() {
    let mut exact = 0;
    for seed in 0..CASES {
        let problem = tiny(seed);
        let best = brute_force(&problem).expect("the fewest replicas are always allowed here");
        let mut meter = Meter::new(Effort::default());
        let first = first_plan(&problem, None, &mut meter);
        let answer = decompose(&problem, &first, Depth::Full, &mut Memory::default(), &mut meter);
        assert_eq!((verify(&problem, &answer.plan), answer.refused), (Ok(()), 0), "seed {seed}");
        let (got, before) = (found(&problem, &answer.plan), found(&problem, &first));
        assert!(!lower(&problem, &before, &got), "seed {seed}: {got:?} worse than {before:?}");
        assert!(!lower(&problem, &got, &(best.0.clone(), best.1 - 1e-6)), "seed {seed}: {got:?} beats {best:?}");
        // With load unserved the bound is on plans that leave the same load unserved.
        let comparable = best.0.iter().all(|s| *s <= 0.0) || !lower(&problem, &best, &got);
        let holds = answer.bound <= best.1 + 1e-5 * best.1.abs().max(1.0);
        assert!(holds || !comparable, "seed {seed}: bound {} above {best:?}, {got:?}", answer.bound);
        exact += u64::from(!lower(&problem, &best, &got));
    }
    assert!(exact * 100 >= CASES * 90, "only {exact} of {CASES} are the best");
}

/// Tiny fleets tried out.
const CASES: u64 = 3000;
