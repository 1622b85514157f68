//! Fleets that are small enough to know the answers by hand.

use super::*;
use crate::plan::Solution;
use crate::plan::samples::{cell, fleet, pool, serve};

fn solved(problem: &Problem) -> Solution {
    let solution = solve(problem, &Effort::default());
    assert!(solution.gap <= ROUNDING, "{solution:?}");
    solution
}

fn analyst<'a>(problem: &'a Problem, solution: &'a Solution) -> Analyst<'a> {
    Analyst::new(problem, solution, 100, 1_000_000)
}

/// 10 req/s; a fast pool carries 4 for 3.0, a slow one 2 for 2.0: three fast ones cost 9.0.
fn two_kinds() -> Problem {
    let pools = vec![pool("fast", 0, 1, 3.0, 10), pool("slow", 1, 1, 2.0, 10)];
    let serves = vec![serve(0, 0, 4.0), serve(0, 1, 2.0)];
    fleet(vec![cell("web", 100, 10.0)], pools, &[10, 10], serves)
}

#[test]
fn the_runner_up_of_a_pool_that_grows_keeps_what_runs() {
    let mut problem = two_kinds();
    problem.pools[0].running = 1;
    let solution = solved(&problem);
    // 2 fast and 1 slow: 8.0 for exactly 10 req/s.
    assert_eq!(solution.plan.replicas, [2, 1]);
    let mut analyst = analyst(&problem, &solution);
    let kept = analyst.instead(0, Instead::Keep).unwrap();
    // One fast carries 4; the other 6 take three slow ones: 9.0.
    assert_eq!(kept.plan.replicas, [1, 3]);
    assert_eq!(kept.difference.replicas, [(0, 2, 1), (1, 1, 3)]);
    assert!((kept.difference.cost_per_hour - 1.0).abs() < 1e-9, "{kept:?}");
    assert!(kept.difference.shortfall.is_empty() && kept.proven);
    let without = analyst.instead(0, Instead::Without).unwrap();
    assert_eq!((without.plan.replicas.as_slice(), without.difference.price_per_hour), ([0, 5].as_slice(), 2.0));
    let more = analyst.instead(0, Instead::More).unwrap();
    assert_eq!((more.plan.replicas.as_slice(), more.difference.price_per_hour), ([3, 0].as_slice(), 1.0));
    assert!(analyst.spent() > 0);
    assert_eq!(analyst.instead(1, Instead::Keep).unwrap().plan.replicas, [3, 0], "the slow one ran not");
}

#[test]
fn start_costs_count_and_are_told_apart_from_the_price() {
    let mut problem = two_kinds();
    problem.pools[0].running = 3;
    problem.pools[1].start_cost_per_hour = 1.5;
    let solution = solved(&problem);
    assert_eq!(solution.plan.replicas, [3, 0], "a start costs more than the replica saves");
    let fewer = analyst(&problem, &solution).instead(0, Instead::Fewer).unwrap();
    assert_eq!(fewer.plan.replicas, [2, 1]);
    assert!((fewer.difference.cost_per_hour - 0.5).abs() < 1e-9, "{fewer:?}");
    assert!((fewer.difference.price_per_hour + 1.0).abs() < 1e-9, "{fewer:?}");
}

#[test]
fn load_that_would_miss_its_target_is_named_by_priority_and_not_priced() {
    let mut problem = two_kinds();
    problem.limits[1].most = 1.0;
    problem.pools[0].running = 1;
    let solution = solved(&problem);
    let kept = analyst(&problem, &solution).instead(0, Instead::Keep).unwrap();
    assert_eq!(kept.plan.replicas, [1, 1]);
    assert_eq!(kept.difference.shortfall.len(), 1);
    let (priority, short) = kept.difference.shortfall[0];
    assert_eq!((priority, (short * 1e6).round() / 1e6), (100, 4.0));
    assert!(kept.difference.cost_per_hour < 0.0, "cheaper, but it does not serve");
    assert_eq!(kept.difference.compare(&Difference::default()), Ordering::Greater, "served load goes first");
}

#[test]
fn no_choice_is_no_alternative() {
    let mut problem = two_kinds();
    (problem.pools[0].min, problem.pools[0].max, problem.pools[0].running) = (2, 2, 7);
    let solution = solved(&problem);
    let mut analyst = analyst(&problem, &solution);
    for instead in [Instead::Keep, Instead::Fewer, Instead::More, Instead::Without] {
        assert_eq!(analyst.instead(0, instead), None, "{instead:?}");
    }
    assert_eq!(analyst.binds(0), Binds { at_min: true, at_max: true, limits: vec![] });
}

/// A web and a batch model on the same three accelerators: batch gets what is left.
fn shared() -> Problem {
    let pools = vec![pool("batch", 0, 1, 3.0, 10), pool("web", 0, 1, 3.0, 10), pool("spare", 1, 1, 7.0, 10)];
    let serves = vec![serve(0, 1, 2.0), serve(1, 0, 2.0), serve(0, 2, 2.0)];
    fleet(vec![cell("web", 100, 4.0), cell("batch", 0, 4.0)], pools, &[3, 10], serves)
}

#[test]
fn one_more_accelerator_is_worth_what_it_saves_or_serves() {
    let problem = shared();
    let solution = solved(&problem);
    // Batch has no other pool: web gives way to the dear ones for it.
    assert_eq!(solution.plan.replicas, [2, 1, 1]);
    let mut analyst = analyst(&problem, &solution);
    assert_eq!(analyst.binds(1).limits, [0]);
    let more = analyst.more(0).unwrap();
    assert_eq!((more.amount, more.proven), (1.0, true));
    assert!((more.difference.cost_per_hour + 4.0).abs() < 1e-9, "3.0 instead of 7.0: {more:?}");
    assert!(analyst.more(1).unwrap().difference.is_nothing(), "there are enough of those");
    assert_eq!(analyst.stocks(), [0, 1]);

    let mut poor = shared();
    poor.limits[1].most = 0.0;
    let solution = solved(&poor);
    let mut analyst = Analyst::new(&poor, &solution, 100, 1_000_000);
    let more = analyst.more(0).unwrap();
    assert_eq!(more.difference.shortfall.len(), 1);
    assert_eq!((more.difference.shortfall[0].0, more.difference.shortfall[0].1.round()), (0, -2.0));
    let kept = analyst.instead(1, Instead::Fewer).unwrap();
    assert_eq!(kept.plan.replicas, [2, 1, 0], "what the one frees the other takes: they compete");
    assert_eq!(kept.difference.compare(&Difference::default()), Ordering::Greater);
}

#[test]
fn where_one_more_brings_nothing_a_whole_replica_is_tried() {
    let pools = vec![pool("twos", 0, 2, 6.0, 10), pool("other", 1, 1, 9.0, 10)];
    let problem = fleet(vec![cell("web", 1, 4.0)], pools, &[2, 9], vec![serve(0, 0, 2.0), serve(0, 1, 2.0)]);
    let solution = solved(&problem);
    let more = analyst(&problem, &solution).more(0).unwrap();
    assert_eq!(more.amount, 2.0);
    assert!((more.difference.cost_per_hour + 3.0).abs() < 1e-9, "{more:?}");
}

#[test]
fn an_upper_limit_that_is_the_stock_moves_with_it_and_another_one_does_not() {
    let mut problem = two_kinds();
    (problem.limits[0].most, problem.pools[0].max) = (1.0, 1);
    let solution = solved(&problem);
    assert_eq!(solution.plan.replicas, [1, 3]);
    let more = analyst(&problem, &solution).more(0).unwrap();
    assert!((more.difference.cost_per_hour + 1.0).abs() < 1e-9, "{more:?}");
    problem.limits[0].most = 2.0;
    assert!(analyst(&problem, &solution).more(0).unwrap().difference.is_nothing());
}

#[test]
fn what_does_not_compete_stays_as_it_is() {
    let mut problem = two_kinds();
    let other = fleet(vec![cell("b", 5, 3.0)], vec![pool("b", 0, 1, 1.0, 9)], &[9], vec![serve(0, 0, 1.0)]);
    problem.cells.extend(other.cells);
    problem.pools.extend(other.pools);
    problem.serves.push(serve(1, 2, 1.0));
    problem.limits[0].uses.push((2, 1.0));
    let solution = solved(&problem);
    let fewer = analyst(&problem, &solution).instead(0, Instead::Fewer).unwrap();
    assert_eq!(fewer.plan.replicas[2], solution.plan.replicas[2]);
    assert_eq!(verify(&problem, &fewer.plan), Ok(()));
    // Too many pools to plan anew together: the model alone, the others as they are.
    let alone = Analyst::new(&problem, &solution, 0, 1_000_000).instead(0, Instead::Fewer).unwrap();
    assert_eq!(alone.plan.replicas, fewer.plan.replicas);
}

/// On random small fleets an alternative is a valid plan that is not better than the proven one, and no more
/// stock ever loses anything.
#[test]
fn alternatives_are_valid_and_never_better() {
    let mut seed = 11u64;
    let mut random = move |below: u32| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % u64::from(below)) as u32
    };
    let mut proven = 0;
    for _ in 0..60 {
        let pools = (0..3)
            .map(|i| {
                let price = 1.0 + f64::from(random(8));
                pool(&format!("p{i}"), i % 2, 1 + random(2), price, 1 + random(4))
            })
            .collect();
        let cells = vec![cell("a", 10, f64::from(1 + random(9))), cell("b", 1, f64::from(1 + random(9)))];
        let serves = (0..5).map(|i| serve(i % 2, i % 3, 1.0 + f64::from(random(4)))).collect();
        let mut problem = fleet(cells, pools, &[2 + random(5), 1 + random(5)], serves);
        problem.pools.iter_mut().for_each(|p| p.running = random(3));
        let solution = solve(&problem, &Effort::default());
        if !is_proven(&solution) {
            continue;
        }
        proven += 1;
        let mut analyst = analyst(&problem, &solution);
        for pool in 0..3 {
            for instead in [Instead::Keep, Instead::Fewer, Instead::More, Instead::Without] {
                let Some(found) = analyst.instead(pool, instead) else { continue };
                assert_eq!(verify(&problem, &found.plan), Ok(()));
                assert_ne!(found.plan.replicas[pool], solution.plan.replicas[pool]);
                assert_ne!(found.difference.compare(&Difference::default()), Ordering::Less, "{problem:?} {found:?}");
            }
        }
        for limit in analyst.stocks() {
            let more = analyst.more(limit).unwrap();
            assert_ne!(more.difference.compare(&Difference::default()), Ordering::Greater, "{more:?}");
        }
    }
    assert!(proven > 40, "{proven}");
}
