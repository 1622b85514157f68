//! Rules of other projects: they give the answers that their projects published.

use std::path::Path;

use poolwright::plan::instance::{Recipe, generate, read};
use poolwright::plan::peers::{Choice, Claim, Given, greedy, melange, of_servers, one_per_class};
use poolwright::plan::priced;
use poolwright::plan::{Cell, Effort, Limit, LimitKind, PoolOption, Problem, Serve, Solution, solve};

fn fixture(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/instances").join(name);
    let paths = match path.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect(),
        false => vec![path],
    };
    paths.iter().map(|p| (p.display().to_string(), std::fs::read_to_string(p).unwrap())).collect()
}

#[test]
fn infernos_greedy_pays_39743_for_its_small_instance() {
    let instance = read(&fixture("inferno-small")).unwrap();
    let peer = of_servers(instance.servers.as_ref().unwrap());
    let cost = priced(&instance.problem, &peer.replicas).unwrap().objective;
    assert!((cost - 39_743.0).abs() < 1e-6, "{cost}");
}

/// README of the source: 6.70; with two and four slices 5.69, with three the optimum. More slices are no better ones.
#[test]
fn melange_pays_for_its_slices() {
    let problem = read(&fixture("melange.json")).unwrap().problem;
    for (slices, wanted) in [(1, 6.70), (2, 5.69), (3, 4.68), (4, 5.69)] {
        let peer = melange(&problem, slices, 100_000);
        let cost = problem.cost_per_hour(&peer.replicas);
        assert!(peer.finished && (cost - wanted).abs() < 1e-6, "{slices} slices: {cost}");
    }
}

#[test]
fn the_rules_keep_the_stock_and_are_never_better_than_the_optimum() {
    for seed in 0..6 {
        let recipe = Recipe { models: 2, accelerators: 3, cells: 8, most_variants: 8, load: 2.0, tight: 0.6, seed };
        let problem = generate(&recipe).problem();
        let best = solve(&problem, &Effort::default());
        assert!(best.gap < 1e-4);
        for peer in [melange(&problem, 2, 2_000), one_per_class(&problem)] {
            let found = priced(&problem, &peer.replicas).expect("within the stock");
            assert!(found.objective >= best.objective * (1.0 - 1e-4), "{} < {}", found.objective, best.objective);
        }
    }
}

fn claim(name: &str, priority: i64, choices: &[(usize, u32, f64)]) -> Claim {
    let choice =
        |&(pool, replicas, value): &(usize, u32, f64)| Choice { pool, replicas, value, units: vec![(pool, 1.0)] };
    Claim { name: name.into(), priority, choices: choices.iter().map(choice).collect() }
}

#[test]
fn who_loses_most_goes_first_within_a_priority() {
    // Pool 0 has room for one: `b` would lose 9 by its second choice, `a` only 1.
    let mut claims = [claim("a", 1, &[(0, 4, 4.0), (1, 4, 5.0)]), claim("b", 1, &[(0, 4, 4.0), (1, 4, 13.0)])];
    let given = greedy(&mut claims, &mut [4.0, 4.0]);
    assert_eq!(given[1], Some(Given { choice: 0, replicas: 4 }));
    assert_eq!(given[0], Some(Given { choice: 1, replicas: 4 }));
    // A more important one goes before, whatever it loses.
    claims[0].priority = 0;
    let given = greedy(&mut claims, &mut [4.0, 4.0]);
    assert_eq!(given[0], Some(Given { choice: 0, replicas: 4 }));
}

#[test]
fn what_is_left_is_given_one_by_one() {
    let mut claims = [claim("a", 1, &[(0, 4, 1.0)]), claim("b", 1, &[(0, 4, 1.0)])];
    let given = greedy(&mut claims, &mut [3.0]);
    assert_eq!(given, [Some(Given { choice: 0, replicas: 2 }), Some(Given { choice: 0, replicas: 1 })]);
    assert_eq!(greedy(&mut claims, &mut [0.0]), [None, None]);
}

fn pool(name: String, price: f64, max: u32) -> PoolOption {
    PoolOption {
        name,
        price_per_hour: price,
        start_cost_per_hour: 0.0,
        stop_cost_per_hour: 0.0,
        min: 0,
        max,
        running: 0,
        tier: None,
    }
}

/// Data of `llm-inferno/lpsolve:demos/main/common.go` (Apache-2.0); a replica takes several instances of its type.
fn lp_solve_demo(limited: bool, single: bool) -> Problem {
    const COST: [f64; 8] = [0.5, 1.0, 1.2, 2.3, 2.7, 5.6, 7.0, 10.0];
    const RATE: [f64; 8] = [0.1, 0.2, 0.4, 0.6, 0.9, 1.4, 2.0, 3.2];
    const ARRIVALS: [f64; 5] = [10.0, 20.0, 30.0, 40.0, 50.0];
    const INSTANCES: [[u32; 8]; 5] = [
        [3, 2, 2, 2, 1, 1, 1, 1],
        [4, 3, 3, 2, 2, 1, 1, 1],
        [5, 4, 3, 2, 2, 2, 1, 1],
        [5, 4, 3, 3, 2, 2, 2, 2],
        [6, 5, 4, 4, 3, 3, 2, 2],
    ];
    const UNITS: [u32; 8] = [512, 256, 192, 128, 98, 64, 48, 32];
    let mut problem = Problem::default();
    for (kind, units) in UNITS.iter().enumerate() {
        let most = if limited { f64::from(*units) } else { 1e6 };
        problem.limits.push(Limit { name: format!("t{kind}"), kind: LimitKind::Stock, most, uses: vec![] });
    }
    for (s, &arrivals) in ARRIVALS.iter().enumerate() {
        let cell = Cell { name: format!("s{s}"), model: s, class: s, priority: 0, rate: arrivals, may_wait: 0.0 };
        problem.cells.push(cell);
        for kind in 0..8 {
            // Alone, a server takes all its replicas at once.
            let all = (arrivals / RATE[kind] - 1e-9).ceil();
            let (replicas, rate, max) = if single { (all, arrivals, 1) } else { (1.0, RATE[kind], 1000) };
            let at = problem.pools.len();
            let instances = f64::from(INSTANCES[s][kind]) * replicas;
            problem.pools.push(pool(format!("s{s}t{kind}"), COST[kind] * instances, max));
            problem.limits[kind].uses.push((at, instances));
            problem.serves.push(Serve { cell: s, pool: at, tier: 0, rate, then: None });
        }
    }
    problem
}

#[test]
fn optima_of_the_lp_solve_demo() {
    let effort = Effort { units: 20_000_000, stop: None, ..Effort::default() };
    for (limited, single, wanted) in
        [(false, true, 765.4), (true, true, 773.0), (false, false, 747.0), (true, false, 760.5)]
    {
        let Solution { objective, gap, .. } = solve(&lp_solve_demo(limited, single), &effort);
        assert!((objective - wanted).abs() < 1e-3 && gap < 1e-4, "{limited} {single}: {objective} for {wanted}, {gap}");
    }
}

/// Cheapest per request is not cheapest when one replica of the dearer kind is already too much.
#[test]
fn whole_replicas_are_counted_whole() {
    let problem = Problem {
        cells: vec![Cell { name: "c".into(), model: 0, class: 0, priority: 0, rate: 100.0, may_wait: 0.0 }],
        pools: vec![pool("a".into(), 10.0, 5), pool("b".into(), 6.0, 5)],
        serves: [(0, 200.0), (1, 100.0)].map(|(pool, rate)| Serve { cell: 0, pool, tier: 0, rate, then: None }).into(),
        ..Problem::default()
    };
    let found = solve(&problem, &Effort::default());
    assert_eq!((found.plan.replicas, found.objective), (vec![0, 1], 6.0));
}
