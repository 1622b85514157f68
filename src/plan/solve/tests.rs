use proptest::prelude::*;

use super::*;
use crate::plan::samples::{Stocked, cell, fleet, pool, serve};
use crate::plan::{Cell, Serve};

/// Integrality decides: a pool that is cheaper per request is dearer per replica.
#[test]
fn one_small_replica_beats_a_large_one() {
    let problem = fleet(
        vec![cell("d", 0, 100.0)],
        vec![pool("a", 0, 1, 10.0, 9), pool("b", 1, 1, 6.0, 9)],
        &[9, 9],
        vec![serve(0, 0, 200.0), serve(0, 1, 100.0)],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!((s.plan.replicas, s.solver.as_str()), (vec![0, 1], "milp"));
}

/// Demand that fills one machine of each type exactly must not buy a third one.
#[test]
fn a_knife_edge_is_held() {
    let problem = fleet(
        vec![cell("small", 0, 5.0), cell("large", 0, 5.0)],
        vec![pool("a10g", 0, 1, 1.01, 9), pool("a100", 1, 1, 3.67, 9)],
        &[9, 9],
        vec![serve(0, 0, 5.0), serve(0, 1, 20.0), serve(1, 0, 0.5), serve(1, 1, 5.0)],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!(s.plan.replicas, vec![1, 1]);
    assert!((problem.cost_per_hour(&s.plan.replicas) - 4.68).abs() < 1e-9);
}

#[test]
fn shortage_degrades_the_lowest_priority_first() {
    let problem = fleet(
        vec![cell("batch", 0, 1000.0), cell("interactive", 100, 10.0)],
        vec![pool("p", 0, 2, 1.0, 9)],
        &[3],
        vec![serve(0, 0, 100.0), serve(1, 0, 10.0)],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!(s.plan.replicas, vec![1]);
    assert!(s.plan.shortfall[1] < 1e-6, "{:?}", s.plan);
    assert!((s.plan.shortfall[0] - 1000.0).abs() < 1e-3);
}

#[test]
fn models_that_compete_for_stock_are_solved_together() {
    let problem = fleet(
        vec![cell("x", 10, 10.0), cell("y", 10, 10.0)],
        vec![pool("x-a", 0, 1, 1.0, 9), pool("x-b", 1, 1, 5.0, 9), pool("y-a", 0, 1, 1.0, 9)],
        &[1, 4],
        vec![serve(0, 0, 10.0), serve(0, 1, 10.0), serve(1, 2, 10.0)],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!(s.plan.replicas, vec![0, 1, 1]);
}

#[test]
fn a_pool_is_operated_at_one_latency_level() {
    let mut problem = fleet(
        vec![cell("tight", 10, 10.0), cell("loose", 0, 10.0)],
        vec![pool("p", 0, 1, 1.0, 9)],
        &[9],
        vec![serve(0, 0, 5.0), serve(1, 0, 5.0), Serve { tier: 1, ..serve(1, 0, 20.0) }],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!((s.plan.replicas.clone(), s.plan.tiers.clone()), (vec![4], vec![Some(0)]));
    problem.cells[0].rate = 0.0;
    let s = solve(&problem, &Effort::default());
    assert_eq!((s.plan.replicas, s.plan.tiers), (vec![1], vec![Some(1)]));
}

#[test]
fn a_pool_keeps_its_latency_level_when_nothing_is_gained() {
    for now in [0, 1] {
        let mut problem = fleet(
            vec![cell("loose", 0, 3.0)],
            vec![pool("p", 0, 1, 1.0, 9)],
            &[9],
            vec![serve(0, 0, 5.0), Serve { tier: 1, ..serve(0, 0, 20.0) }],
        );
        problem.pools[0].tier = Some(now);
        assert_eq!(solve(&problem, &Effort::default()).plan.tiers, vec![Some(now)]);
    }
}

#[test]
fn a_start_costs_something() {
    let mut running = pool("running", 0, 1, 1.05, 9);
    running.0.running = 1;
    let mut cheaper = pool("cheaper", 1, 1, 1.0, 9);
    cheaper.0.start_cost_per_hour = 0.2;
    let problem =
        fleet(vec![cell("d", 0, 1.0)], vec![running, cheaper], &[9, 9], vec![serve(0, 0, 1.0), serve(0, 1, 1.0)]);
    assert_eq!(solve(&problem, &Effort::default()).plan.replicas, vec![1, 0]);
}

#[test]
fn an_unservable_cell_stops_nobody() {
    let problem = fleet(
        vec![cell("nobody", 100, 5.0), cell("ok", 0, 5.0)],
        vec![pool("p", 0, 1, 1.0, 9)],
        &[9],
        vec![serve(1, 0, 5.0)],
    );
    let s = solve(&problem, &Effort::default());
    assert_eq!((s.plan.replicas, s.plan.shortfall), (vec![1], vec![5.0, 0.0]));
}

/// Exhaustive search over replicas with the best split of two cells over two pools.
fn brute_force(problem: &Problem) -> f64 {
    let mut best = f64::INFINITY;
    for a in 0..=problem.pools[0].max {
        for b in 0..=problem.pools[1].max {
            if problem.limits.iter().any(|l| l.used(&[a, b]) > l.most) {
                continue;
            }
            if split_exists(problem, f64::from(a), f64::from(b)) {
                best = best.min(problem.running_cost(&[a, b]));
            }
        }
    }
    best
}

/// Two cells, two pools: with the first pool filled by the first cell up to a share and by the second
/// cell beyond it, the load on the second pool is piecewise linear in that share, so its corners decide.
fn split_exists(problem: &Problem, a: f64, b: f64) -> bool {
    let need = |cell: usize, pool: usize| {
        let s = problem.serves.iter().find(|s| s.cell == cell && s.pool == pool);
        s.map_or(f64::INFINITY, |s| problem.cells[cell].rate / s.rate)
    };
    let corners = [0.0, 1.0, (a - need(1, 0)) / need(0, 0), a / need(0, 0)];
    corners.into_iter().filter(|x| (0.0..=1.0).contains(x)).any(|x| {
        let spare = a - x * need(0, 0);
        let y = (spare.max(0.0) / need(1, 0)).min(1.0);
        let load = (1.0 - x) * need(0, 1) + (1.0 - y) * need(1, 1);
        spare >= -1e-9 && load <= b * (1.0 + 1e-9) + 1e-9
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn tiny_fleets_equal_brute_force(
        rates in prop::array::uniform2(0.1f64..20.0), caps in prop::array::uniform4(1.0f64..10.0),
        prices in prop::array::uniform2(0.5f64..5.0),
    ) {
        let problem = fleet(vec![cell("d0", 1, rates[0]), cell("d1", 1, rates[1])], vec![pool("p0", 0, 1, prices[0], 12), pool("p1", 1, 1, prices[1], 12)], &[12, 12], vec![serve(0, 0, caps[0]), serve(0, 1, caps[1]), serve(1, 0, caps[2]), serve(1, 1, caps[3])]);
        let s = solve(&problem, &Effort::default());
        prop_assert!(verify(&problem, &s.plan).is_ok());
        let best = brute_force(&problem);
        if s.plan.shortfall.iter().sum::<f64>() < 1e-6 {
            prop_assert!(problem.running_cost(&s.plan.replicas) <= best + 1e-6 , "{:?} against {best}", s);
        } else {
            prop_assert!(best.is_infinite());
        }
    }

    #[test]
    fn every_answer_is_feasible_and_repeats(
        seed in 0u64..10_000, pools in 1usize..8, cells in 1usize..8, stock in 0u32..20,
    ) {
        let mut x = seed;
        let mut random = move || { x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (x >> 33) as f64 / 2f64.powi(31) };
        let pools: Vec<Stocked> = (0..pools)
            .map(|i| pool(&format!("p{i}"), i % 3, 1 + (random() * 4.0) as u32, 0.5 + random() * 8.0, 20))
            .collect();
        let cells: Vec<Cell> = (0..cells).map(|i| cell(&format!("c{i}"), (random() * 3.0) as i32, random() * 30.0)).collect();
        let mut serves = vec![];
        for c in 0..cells.len() { for p in 0..pools.len() { for tier in 0..2 {
            if random() < 0.6 { serves.push(Serve { tier, ..serve(c, p, 0.2 + random() * 9.0) }); }
        }}}
        let problem = fleet(cells, pools, &[stock; 3], serves);
        let budget = Effort { units: 200_000, ..Effort::default() };
        let s = solve(&problem, &budget);
        prop_assert!(verify(&problem, &s.plan).is_ok(), "{:?}", verify(&problem, &s.plan));
        prop_assert_eq!(&s, &solve(&problem, &budget));
    }
}
