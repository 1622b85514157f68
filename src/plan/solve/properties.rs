//! What must hold for every answer, whatever the fleet.

use std::sync::atomic::AtomicBool;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::brute::{found, lower, tiny};
use super::*;
use crate::plan::instance::{Recipe, generate};
use crate::plan::samples::{Stocked, cell, fleet, pool, serve};
use crate::plan::{Cell, Limit, LimitKind, Serve};

const CASES: u64 = 300;

/// A fleet of many models, too large for the exact solver as a whole.
fn large(seed: u64, models: usize) -> Problem {
    let mut r = ChaCha8Rng::seed_from_u64(seed);
    let (mut cells, mut pools, mut serves): (Vec<Cell>, Vec<Stocked>, Vec<Serve>) = (vec![], vec![], vec![]);
    for m in 0..models {
        let first = pools.len();
        for p in 0..r.random_range(2..6) {
            let mut stocked = pool(&format!("m{m}-p{p}"), p % 4, r.random_range(1..5), r.random_range(0.7..9.0), 12);
            stocked.0.running = r.random_range(0..4);
            stocked.0.start_cost_per_hour = r.random_range(0.0..0.5);
            pools.push(stocked);
        }
        for c in 0..r.random_range(1..5) {
            cells.push(cell(&format!("m{m}-c{c}"), r.random_range(0..3) * 50, r.random_range(0.2..15.0)));
            for p in first..pools.len() {
                if r.random_bool(0.8) {
                    serves.push(Serve { tier: c % 2, ..serve(cells.len() - 1, p, r.random_range(0.5..9.0)) });
                }
            }
        }
    }
    let stock: Vec<u32> = (0..4).map(|_| r.random_range(10..60) * models as u32 / 20).collect();
    fleet(cells, pools, &stock, serves)
}

#[test]
fn more_of_a_limit_is_never_worse() {
    for seed in 0..CASES {
        let problem = tiny(seed);
        let before = solve(&problem, &Effort::default());
        let mut more = problem.clone();
        more.limits[0].most += 1.0;
        let after = solve(&more, &Effort::default());
        let (before, after) = (found(&problem, &before.plan), found(&problem, &after.plan));
        assert!(!lower(&problem, &before, &(after.0.clone(), after.1 - 1e-5)), "seed {seed}: {after:?} {before:?}");
    }
}

#[test]
fn a_pool_less_is_never_better() {
    for seed in 0..CASES {
        let problem = tiny(seed);
        let with = solve(&problem, &Effort::default());
        let mut without = problem.clone();
        if problem.pools[0].min > 0 || problem.pools[0].stop_cost_per_hour > 0.0 {
            continue;
        }
        without.pools[0].max = 0;
        without.pools[0].running = 0;
        let without = solve(&without, &Effort::default());
        let (a, b) = (found(&problem, &with.plan), found(&problem, &without.plan));
        assert!(!lower(&problem, &(b.0.clone(), b.1 + 1e-5), &a), "seed {seed}: {b:?} without, {a:?} with");
    }
}

#[test]
fn a_class_that_gains_priority_is_never_served_less() {
    for seed in 0..CASES {
        let mut problem = tiny(seed);
        problem.objective = Objective::Strict;
        let before = solve(&problem, &Effort::default());
        let mut raised = problem.clone();
        raised.cells[0].priority = 1000;
        let after = solve(&raised, &Effort::default());
        let (a, b) = (after.plan.shortfall[0], before.plan.shortfall[0]);
        assert!(a <= b + 1e-5 * problem.cells[0].rate, "seed {seed}: {a} short with priority, {b} without");
    }
}

#[test]
fn prices_are_only_relative() {
    for seed in 0..CASES {
        let mut problem = tiny(seed);
        problem.objective = Objective::Strict;
        problem.limits.retain(|l| l.kind != LimitKind::Budget);
        let before = solve(&problem, &Effort::default());
        let mut dear = problem.clone();
        for pool in &mut dear.pools {
            pool.price_per_hour *= 8.0;
            pool.start_cost_per_hour *= 8.0;
            pool.stop_cost_per_hour *= 8.0;
        }
        let after = solve(&dear, &Effort::default());
        assert!((after.objective - 8.0 * before.objective).abs() <= 1e-4 * after.objective.max(1.0), "seed {seed}");
        assert_eq!(after.plan.replicas, before.plan.replicas, "seed {seed}");
    }
}

/// No amount of work is too little for a valid answer, and none of them is worse than leaving things alone.
#[test]
fn every_effort_gives_a_plan_no_worse_than_what_runs() {
    for seed in 0..4 {
        let problem = large(seed, 40);
        let keep = routed(
            &problem,
            &problem.pools.iter().map(|p| p.running).collect::<Vec<_>>(),
            &vec![None; problem.pools.len()],
        );
        let keep = verify(&problem, &keep).is_ok().then_some(keep);
        for units in [0, 1, 100, 3_000, 20_000, 60_000] {
            let s = solve(&problem, &Effort { units, ..Effort::default() });
            assert_eq!((verify(&problem, &s.plan), s.refused), (Ok(()), 0), "seed {seed}, {units} units");
            assert!(s.bound <= s.objective && (0.0..=1.0).contains(&s.gap), "seed {seed}, {units} units: {s:?}");
            let is_worse = keep.as_ref().is_some_and(|k| is_better(&problem, k, &s.plan));
            assert!(!is_worse, "seed {seed}, {units} units: keeping is better");
        }
    }
}

#[test]
fn a_solve_that_was_told_to_stop_can_be_repeated() {
    let problem = large(7, 40);
    for at in [0, 50, 2_000, 9_000] {
        let effort = Effort { units: 60_000, stop_at: Some(at), ..Effort::default() };
        let first = solve(&problem, &effort);
        let stopped_at = first.stopped_at.expect("it is told to stop before its end");
        assert!(stopped_at >= at);
        let again = solve(&problem, &Effort { stop_at: Some(stopped_at), ..effort });
        assert_eq!(first, again, "told at {at}");
    }
    let flag = AtomicBool::new(true);
    let told = solve(&problem, &Effort { stop: Some(&flag), ..Effort::default() });
    let again = solve(&problem, &Effort { stop_at: told.stopped_at, ..Effort::default() });
    assert_eq!(told, again);
}

#[test]
fn threads_change_no_answer() {
    let problem = large(11, 40);
    let effort = Effort { units: 60_000, ..Effort::default() };
    assert_eq!(solve(&problem, &effort), solve(&problem, &Effort { threads: 3, ..effort }));
}

/// What the last solve left helps, and a memory of another fleet does no harm.
#[test]
fn a_memory_changes_the_work_and_not_the_validity() {
    let problem = large(5, 40);
    let mut memory = Memory::default();
    let effort = Effort { units: 150_000, ..Effort::default() };
    let first = solve_again(&problem, &effort, &mut memory);
    let mut moved = problem.clone();
    for (pool, n) in moved.pools.iter_mut().zip(&first.plan.replicas) {
        pool.running = *n;
    }
    moved.cells.iter_mut().for_each(|c| c.rate *= 1.03);
    let short = Effort { units: 15_000, ..Effort::default() };
    let warm = solve_again(&moved, &short, &mut memory.clone());
    let cold = solve(&moved, &short);
    assert!(!is_better(&moved, &cold.plan, &warm.plan), "{} cold, {} warm", cold.objective, warm.objective);
    let other = solve_again(&large(6, 40), &short, &mut memory);
    assert_eq!(other.refused, 0);
}

#[test]
fn strange_numbers_are_answered() {
    let pools = |n: usize| (0..n).map(|i| pool(&format!("p{i:04}"), 0, 1, 1.0, 3)).collect::<Vec<_>>();
    let each = |n: usize, rate: f64| (0..n).map(|p| serve(0, p, rate)).collect::<Vec<_>>();
    for rate in [0.0, 1e-12, 1e-3, 1.0, 1e9] {
        for capacity in [1e-9, 1.0, 1e9] {
            let problem = fleet(vec![cell("d", 0, rate)], pools(3), &[5], each(3, capacity));
            let s = solve(&problem, &Effort::default());
            assert_eq!((verify(&problem, &s.plan), s.refused), (Ok(()), 0), "{rate} at {capacity}: {s:?}");
            let room = 5.0 * capacity;
            assert!(s.plan.shortfall[0] <= (rate - room).max(0.0) + 1e-5 * rate, "{rate} at {capacity}: {s:?}");
        }
    }
    let problem = fleet(vec![cell("d", 0, 7.0)], pools(1000), &[500], each(1000, 1.0));
    let s = solve(&problem, &Effort { units: 100_000, ..Effort::default() });
    assert_eq!(s.plan.replicas.iter().sum::<u32>(), 7);
    assert_eq!(s, solve(&problem, &Effort { units: 100_000, ..Effort::default() }), "a tie falls one way");
    let problem = fleet(vec![cell("d", 0, 7.0)], pools(2), &[0], each(2, 1.0));
    assert_eq!(solve(&problem, &Effort::default()).plan.shortfall, vec![7.0]);
}

/// Lower limits that cannot be kept together are named; everybody else is planned as usual.
#[test]
fn limits_that_contradict_each_other_are_named_and_stop_nobody() {
    let mut kept = pool("kept", 0, 2, 1.0, 9);
    kept.0.min = 3;
    let mut problem = fleet(
        vec![cell("d", 0, 4.0), cell("e", 0, 4.0)],
        vec![kept, pool("other", 1, 1, 1.0, 9)],
        &[4, 9],
        vec![serve(0, 0, 2.0), serve(1, 1, 2.0)],
    );
    problem.limits.push(Limit { name: "floor".into(), kind: LimitKind::Floor, most: -20.0, uses: vec![(1, -1.0)] });
    let conflicts: Vec<String> = problem.conflicts().iter().map(ToString::to_string).collect();
    assert_eq!(
        conflicts,
        [
            "a0: the least that `min` asks for is 6, the most there is is 4",
            "floor: the least that `min` asks for is -9, the most there is is -20"
        ]
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!((s.plan.replicas, s.plan.shortfall), (vec![3, 9], vec![0.0, 0.0]));
}

/// A request computed in one pool and answered in another takes room in both, and their numbers are bound.
#[test]
fn two_steps_of_a_request_take_room_in_both_pools() {
    let mut problem = fleet(
        vec![cell("d", 0, 10.0)],
        vec![pool("prefill", 0, 1, 3.0, 9), pool("decode", 1, 1, 1.0, 9)],
        &[9, 9],
        vec![Serve { then: Some(crate::plan::Stage { pool: 1, tier: 0, rate: 2.0 }), ..serve(0, 0, 5.0) }],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!(s.plan.replicas, vec![2, 5]);
    assert_eq!(s.plan.flows[0].then, Some(1));
    // At most two decode replicas for each of prefill.
    problem.limits.push(Limit {
        name: "ratio".into(),
        kind: LimitKind::Ratio,
        most: 0.0,
        uses: vec![(0, -2.0), (1, 1.0)],
    });
    assert_eq!(solve(&problem, &Effort::default()).plan.replicas, vec![3, 5]);
}

#[test]
fn load_that_may_wait_gets_what_is_left_and_starts_nothing() {
    let mut batch = cell("batch", 0, 1.0);
    batch.may_wait = 50.0;
    let problem = fleet(
        vec![cell("chat", 10, 7.0), batch],
        vec![pool("p", 0, 1, 1.0, 9)],
        &[9],
        vec![serve(0, 0, 4.0), serve(1, 0, 8.0)],
    );
    let s = solve(&problem, &Effort::default());
    // 7/4 + 1/8 of a replica are needed, so two run and an eighth of one is left: 1 request/s more.
    assert_eq!(s.plan.replicas, vec![2]);
    let sent: f64 = s.plan.flows.iter().filter(|f| f.cell == 1).map(|f| f.rate).sum();
    assert!((sent - 2.0).abs() < 1e-6, "{:?}", s.plan);
    assert_eq!(s.plan.shortfall, vec![0.0, 0.0]);
}

/// Looked at apart these models ask for more than there is: what that costs must not be taken from the whole.
#[test]
fn models_that_turn_out_to_compete_are_still_searched() {
    let recipe = Recipe { models: 8, accelerators: 4, cells: 48, most_variants: 40, load: 20.0, tight: 1.1, seed: 4 };
    let problem = generate(&recipe).problem();
    let found = solve(&problem, &Effort { units: 100_000, ..Effort::default() });
    assert!(found.gap < 0.02, "{} of at least {}", found.objective, found.bound);
}

/// A limit that is overstepped by less than sums are rounded by: full, and neither a conflict nor a reason to look
/// for ever.
#[test]
fn a_limit_that_is_full_to_the_last_digit_ends_the_search() {
    for over in [1e-9, 3e-9, 1e-8, 9e-8, 9e-7, 1.1e-6, 1e-5] {
        let mut pools: Vec<Stocked> = ["a", "b", "c"].iter().map(|name| pool(name, 0, 1, 0.4, 9)).collect();
        pools[1].0.price_per_hour = 0.6 + over;
        let cells = vec![cell("a", 0, 1.0), cell("b", 0, 1.0), cell("c", 0, 1.0)];
        let serves = (0..3).map(|i| serve(i, i, 2.0)).collect();
        let mut problem = fleet(cells, pools, &[90], serves);
        let uses = vec![(0, 0.4), (1, 0.6 + over)];
        problem.limits.push(Limit { name: "budget".into(), kind: LimitKind::Budget, most: 1.0, uses });
        let found = solve(&problem, &Effort::default());
        assert_eq!(verify(&problem, &found.plan), Ok(()), "over {over}");
        assert_eq!(found.plan.replicas[2], 1, "over {over}");
    }
}

/// Whether a plan is all that could be had is told whatever the size of the fleet.
#[test]
fn an_effort_that_ended_the_search_is_told() {
    let recipe = Recipe { models: 8, accelerators: 4, cells: 48, most_variants: 40, load: 20.0, tight: 1.1, seed: 4 };
    let problem = generate(&recipe).problem();
    assert!(solve(&problem, &Effort { units: 1_000, ..Effort::default() }).stopped);
}
