use std::collections::BTreeMap;

use poolwright::control::{Decision, ModelDecision, Route, SolveReport};
use poolwright::policy::Condition;
use poolwright::simulate::{ClassSnapshot, Completion, Fleet, FleetOptions, RouteShares, Snapshot};

use crate::simulate_policy::{BATCH, FAST, INTERACTIVE, SLOW, conversation, fleet, policy};

fn quiet(seed: u64) -> Fleet {
    Fleet::new(&policy(), Vec::new(), FleetOptions { seed, ..FleetOptions::default() })
}

fn counts(snapshot: &Snapshot, pool: usize) -> (u32, u32, u32, u32, u32) {
    let p = &snapshot.pools[pool];
    (p.spec, p.ready, p.starting, p.draining, p.pending)
}

fn by_id(mut completions: Vec<Completion>) -> Vec<Completion> {
    completions.sort_by_key(|c| c.request.id);
    completions
}

#[test]
fn a_start_takes_its_start_up_time() {
    let mut fleet = quiet(1);
    assert_eq!(counts(&fleet.snapshot(), FAST), (1, 1, 0, 0, 0), "the minimum is there from the start");
    fleet.advance(100.0);
    fleet.set_replicas(FAST, 3);
    assert_eq!(counts(&fleet.snapshot(), FAST), (3, 1, 2, 0, 0));
    fleet.advance(100.0 + 120.0 * 0.94);
    assert_eq!(counts(&fleet.snapshot(), FAST), (3, 1, 2, 0, 0));
    fleet.advance(100.0 + 120.0 * 1.06);
    assert_eq!(counts(&fleet.snapshot(), FAST), (3, 3, 0, 0, 0));
}

#[test]
fn the_stock_is_the_limit_and_what_waits_starts_when_it_is_free() {
    let mut fleet = quiet(1);
    fleet.set_replicas(FAST, 6);
    assert_eq!(counts(&fleet.snapshot(), FAST), (6, 1, 3, 0, 2), "16 accelerators are 4 replicas");
    fleet.set_replicas(SLOW, 100);
    assert_eq!(counts(&fleet.snapshot(), SLOW), (100, 0, 8, 0, 92));
    fleet.advance(200.0);
    fleet.set_replicas(FAST, 2);
    assert_eq!(counts(&fleet.snapshot(), FAST), (2, 2, 0, 0, 0));
    assert_eq!(fleet.scale(SLOW), (100, 100));
}

#[test]
fn starting_replicas_go_first() {
    let mut fleet = quiet(1);
    fleet.set_replicas(FAST, 3);
    let serving = fleet.replicas().into_iter().find(|r| r.ready).unwrap();
    fleet.advance(10.0);
    fleet.set_replicas(FAST, 1);
    assert_eq!(fleet.replicas().into_iter().filter(|r| r.pool == FAST).collect::<Vec<_>>(), vec![serving]);
    assert_eq!(counts(&fleet.snapshot(), FAST), (1, 1, 0, 0, 0));
}

#[test]
fn a_replica_taken_away_finishes_what_it_has_and_costs_until_then() {
    let mut fleet = fleet(1.0, 1);
    fleet.place_ready(FAST, 2);
    fleet.advance(300.0);
    let before = fleet.snapshot();
    let inside = before.pools[FAST].running;
    assert!(inside > 4, "there must be something to finish: {inside}");
    fleet.set_replicas(FAST, 0);
    fleet.stop_arrivals();
    let draining = fleet.snapshot();
    assert_eq!(counts(&draining, FAST), (0, 0, 0, 2, 0));
    assert_eq!(draining.cost_per_hour, 2.0 * 16.0);
    fleet.advance(400.0);
    let after = fleet.snapshot();
    assert_eq!(counts(&after, FAST), (0, 0, 0, 0, 0));
    assert_eq!(after.classes.iter().map(|c| c.open + c.overdue).sum::<u64>(), 0);
    assert!(after.cost > before.cost && after.cost_per_hour == 0.0);
    let hours = |seconds: f64| 32.0 * seconds / 3600.0;
    assert!(after.cost < hours(400.0), "it stops costing when it is empty");
    assert!((before.cost - hours(300.0)).abs() < 1e-9);
}

#[test]
fn a_draining_replica_gets_no_request() {
    let mut fleet = fleet(1.0, 2);
    fleet.place_ready(FAST, 2);
    fleet.advance(120.0);
    fleet.set_replicas(FAST, 1);
    let leaving = fleet.replicas().into_iter().find(|r| r.draining).unwrap();
    let started = |page: &str| {
        let line = page.lines().find(|l| l.starts_with("vllm:prompt_tokens_total{")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    fleet.advance(121.0);
    let first = started(&fleet.metrics_page(leaving.id).unwrap());
    fleet.advance(122.0);
    let second = fleet.metrics_page(leaving.id).map(|p| started(&p));
    assert!(second.is_none_or(|s| s == first));
    fleet.advance(200.0);
    assert_eq!(fleet.metrics_page(leaving.id), None);
}

#[test]
fn nothing_is_lost() {
    let mut fleet = fleet(2.0, 3);
    let mut finished = 0;
    for step in 1..=40 {
        fleet.advance(f64::from(step) * 15.0);
        match step {
            5 => fleet.set_replicas(FAST, 4),
            20 => fleet.set_replicas(FAST, 2),
            25 => fleet.set_replicas(SLOW, 3),
            30 => fleet.set_replicas(FAST, 0),
            _ => {}
        }
        finished += fleet.take_completions().len() as u64;
        let snapshot = fleet.snapshot();
        let inside: u64 = snapshot.pools.iter().map(|p| p.running + p.waiting).sum::<u64>() + snapshot.gateway_waiting;
        let sum = |of: fn(&ClassSnapshot) -> u64| snapshot.classes.iter().map(of).sum::<u64>();
        assert_eq!(sum(|c| c.arrived), finished + inside, "at step {step}");
        assert_eq!(sum(|c| c.met + c.late + c.failed), finished);
        assert_eq!(sum(|c| c.open + c.overdue), inside);
    }
    let minutes: u64 = fleet.arrivals_by_minute().values().flatten().map(|m| m.requests).sum();
    assert_eq!(minutes, fleet.snapshot().classes.iter().map(|c| c.arrived).sum::<u64>());
}

#[test]
fn requests_wait_at_the_gateway_until_a_replica_is_ready_and_that_counts() {
    let mut fleet = fleet(0.2, 4);
    fleet.set_replicas(FAST, 0);
    fleet.set_replicas(SLOW, 4);
    fleet.advance(50.0);
    let waiting = fleet.snapshot();
    assert!(waiting.gateway_waiting > 10);
    assert!(waiting.classes[INTERACTIVE].overdue > 0 && waiting.classes[INTERACTIVE].attainment == Some(0.0));
    fleet.advance(100.0);
    let served = fleet.snapshot();
    assert_eq!(served.gateway_waiting, 0);
    assert!(served.classes[INTERACTIVE].late > 0, "they were late when they were served");
    assert_eq!(served.classes[BATCH].attainment, Some(1.0), "a deadline of ten minutes is not hurt");
}

#[test]
fn the_same_seed_gives_the_same_run_however_time_is_cut() {
    let run = |seed, step: f64| {
        let mut fleet = fleet(1.0, seed);
        fleet.place_ready(FAST, 2);
        let mut at = 0.0;
        let until = |fleet: &mut Fleet, at: &mut f64, to: f64| {
            while *at < to {
                *at = (*at + step).min(to);
                fleet.advance(*at);
            }
        };
        until(&mut fleet, &mut at, 60.0);
        fleet.set_replicas(SLOW, 2);
        until(&mut fleet, &mut at, 180.0);
        fleet.set_replicas(FAST, 1);
        until(&mut fleet, &mut at, 240.0);
        let pods: Vec<String> = fleet.replicas().into_iter().map(|r| r.pod).collect();
        let cost = fleet.snapshot().cost;
        (by_id(fleet.take_completions()), pods, cost)
    };
    let once = run(5, 60.0);
    assert!(once.0.len() > 500);
    assert_eq!(once, run(5, 60.0));
    assert_eq!(once, run(5, 7.0));
    assert_ne!(once.0, run(6, 60.0).0);
}

#[test]
fn more_replicas_serve_no_worse_and_too_few_miss() {
    let attainment = |replicas| {
        let mut fleet = fleet(4.0, 7);
        fleet.place_ready(FAST, replicas);
        fleet.advance(600.0);
        fleet.snapshot().classes[INTERACTIVE].attainment.unwrap()
    };
    let shares: Vec<f64> = (1..=4).map(attainment).collect();
    assert!(shares.is_sorted_by(|a, b| *a <= *b + 0.005), "{shares:?}");
    assert!(shares[0] < 0.5 && shares[3] > 0.98, "{shares:?}");
}

#[test]
fn the_truth_differs_from_the_policy_within_the_error() {
    let policy = policy();
    let factor = |seed, error| {
        let fleet = Fleet::new(&policy, Vec::new(), FleetOptions { seed, error, ..FleetOptions::default() });
        fleet.truth(FAST).unwrap().parameters.alpha_seconds / policy.pools[FAST].parameters.alpha_seconds
    };
    let factors: Vec<f64> = (0..20).map(|seed| factor(seed, 0.08)).collect();
    assert!(factors.iter().all(|f| (0.92..=1.08).contains(f)));
    assert!(factors.iter().any(|f| *f > 1.02) && factors.iter().any(|f| *f < 0.98));
    assert_eq!(factor(1, 0.0), 1.0);
}

#[test]
fn pods_are_named_like_those_of_a_deployment() {
    let policy = policy();
    let mut fleet = quiet(1);
    fleet.set_replicas(FAST, 4);
    fleet.set_replicas(SLOW, 8);
    let mut names = BTreeMap::new();
    for replica in fleet.replicas() {
        let labels = BTreeMap::from([
            ("namespace".to_owned(), replica.namespace.clone()),
            ("pod".to_owned(), replica.pod.clone()),
        ]);
        let owners: Vec<usize> =
            (0..policy.pools.len()).filter(|p| policy.pools[*p].selector.selects(&labels)).collect();
        assert_eq!(owners, vec![replica.pool], "{}", replica.pod);
        assert_eq!(names.insert(replica.pod, replica.id), None);
    }
    assert_eq!(names.len(), 12);
}

/// A StatefulSet's pods are numbered from 0, and the highest number goes first; so are the leaders of a
/// LeaderWorkerSet.
#[test]
fn pods_of_the_other_kinds_are_numbered() {
    for (kind, pattern) in [("StatefulSet", "llama-l40s-[0-9]+"), ("LeaderWorkerSet", "llama-l40s-[0-9]+(-[0-9]+)?")] {
        let mut policy = policy();
        policy.pools[SLOW].target.kind = kind.into();
        policy.pools[SLOW].selector.conditions =
            BTreeMap::from([("pod".to_owned(), Condition::matches(pattern).unwrap())]);
        let mut fleet = Fleet::new(&policy, Vec::new(), FleetOptions::default());
        let mut pods = |wanted: u32| {
            fleet.set_replicas(SLOW, wanted);
            let labels = |pod: &str| {
                BTreeMap::from([("namespace".to_owned(), "inference".to_owned()), ("pod".to_owned(), pod.to_owned())])
            };
            let own = fleet.replicas().into_iter().filter(|r| r.pool == SLOW).map(|r| r.pod);
            let own: Vec<String> = own.collect();
            assert!(own.iter().all(|pod| policy.pools[SLOW].selector.selects(&labels(pod))), "{own:?}");
            own
        };
        assert_eq!(pods(3), ["llama-l40s-0", "llama-l40s-1", "llama-l40s-2"]);
        assert_eq!(pods(1), ["llama-l40s-0"]);
        assert_eq!(pods(2), ["llama-l40s-0", "llama-l40s-1"]);
    }
}

/// Requests in each pool after some minutes under the given shares of both classes.
fn split(shares: &[(usize, f64)], fast: u32, slow: u32, scale: f64) -> [f64; 2] {
    let policy = policy();
    let workload = conversation(&policy, scale, 8);
    let mut fleet = Fleet::new(&policy, vec![workload], FleetOptions::default());
    fleet.place_ready(FAST, fast);
    fleet.place_ready(SLOW, slow);
    let map = [INTERACTIVE, BATCH].map(|class| ((0, class), shares.to_vec()));
    fleet.set_routes(RouteShares(map.into_iter().collect()));
    fleet.advance(300.0);
    let mut tokens = [0.0; 2];
    for replica in fleet.replicas() {
        let page = fleet.metrics_page(replica.id).unwrap();
        let line = page.lines().find(|l| l.starts_with("vllm:e2e_request_latency_seconds_count{")).unwrap();
        tokens[replica.pool] += line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
    }
    tokens
}

#[test]
fn routes_are_honoured() {
    let [fast, slow] = split(&[(FAST, 0.7), (SLOW, 0.3)], 2, 4, 0.5);
    assert!((slow / (fast + slow) - 0.3).abs() < 0.03, "{fast} {slow}");
    let [fast, slow] = split(&[(SLOW, 1.0)], 2, 4, 0.2);
    assert!(fast == 0.0 && slow > 100.0);
}

#[test]
fn a_route_to_a_pool_that_is_not_there_falls_back_to_what_is() {
    let [fast, slow] = split(&[(SLOW, 1.0)], 2, 0, 0.2);
    assert!(fast > 100.0 && slow == 0.0);
}

#[test]
fn without_routes_the_load_goes_where_the_room_is() {
    let [fast, slow] = split(&[], 1, 1, 1.0);
    assert!(slow > 0.0 && fast > 2.0 * slow, "{fast} {slow}");
}

#[test]
fn a_full_pool_spills_requests_that_cannot_wait() {
    let [fast, slow] = split(&[(SLOW, 1.0)], 4, 1, 2.0);
    assert!(fast > slow && slow > 50.0, "{fast} {slow}");
}

#[test]
fn the_routes_of_a_decision_are_found_by_name() {
    let route = |class: &str, pool: &str, share| Route { class: class.into(), pool: pool.into(), share, rate: 1.0 };
    let model = ModelDecision {
        namespace: "inference".into(),
        name: "llama".into(),
        model: "llama".into(),
        offered_rate: None,
        planned_rate: 1.0,
        horizon_seconds: 60.0,
        input_tokens: 1000.0,
        output_tokens: 100.0,
        routes: vec![
            route("interactive", "inference/llama-h100", 0.6),
            route("interactive", "inference/llama-l40s", 0.4),
            route("batch", "inference/llama-l40s", 1.0),
            route("batch", "inference/llama-h100", 0.0),
            route("batch", "inference/unknown", 1.0),
        ],
        weights: vec![],
    };
    let other = ModelDecision { namespace: "elsewhere".into(), ..model.clone() };
    let decision = Decision {
        at_seconds: 0.0,
        policy: "test".into(),
        currency: "USD".into(),
        pools: Vec::new(),
        classes: Vec::new(),
        models: vec![model, other],
        accelerators: Vec::new(),
        limits: Vec::new(),
        solve: SolveReport::default(),
        current_cost_per_hour: 0.0,
        planned_cost_per_hour: 0.0,
        findings: Vec::new(),
        analysis: None,
        source_error: None,
    };
    let expected =
        BTreeMap::from([((0, INTERACTIVE), vec![(FAST, 0.6), (SLOW, 0.4)]), ((0, BATCH), vec![(SLOW, 1.0)])]);
    assert_eq!(RouteShares::from_decision(&policy(), &decision), RouteShares(expected));
}
