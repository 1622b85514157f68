//! What `decide` makes of servers that are not what the policy says.

use poolwright::control::{LiveCorrection, State, StateStore};
use poolwright::observe::{FindingKind, PoolObservation, Signal};
use poolwright::perf::{Evidence, Parameters, Shape};
use proptest::prelude::*;

use crate::live_support::{Rig, WINDOW, one_pool, pool, told};
use crate::simulate_policy::FAST;

const RATE: f64 = 100.0;

fn correction(rig: &Rig) -> LiveCorrection {
    let mut copy = rig.with(rig.policy.clone(), rig.state.checkpoint());
    pool(&copy.look(&|_| ())).live.expect("a correction")
}

/// Windows until the capacity planned with is what a policy that knows the servers plans with, and the replicas at
/// the end: (windows, with the wrong figures, with the right ones).
fn recovery(factor: f64) -> (u32, u32, u32) {
    let mut wrong = Rig::slower(factor, RATE);
    let mut right = Rig::new(told(&wrong.policy, &wrong.truth), wrong.truth, RATE);
    let known = pool(&right.run(3600.0)).replica_capacity.unwrap();
    let windows = (1..=60).find(|_| {
        let capacity = pool(&wrong.run(WINDOW)).replica_capacity.unwrap();
        (capacity / known - 1.0).abs() < 0.1
    });
    wrong.run(3600.0);
    (windows.unwrap_or(60), wrong.replicas, right.replicas)
}

#[test]
fn a_wrong_profile_recovers_in_either_direction() {
    for factor in [1.3, 1.6] {
        let (slow, slow_replicas, slow_right) = recovery(factor);
        let (fast, fast_replicas, fast_right) = recovery(1.0 / factor);
        assert!(slow <= 10 && fast <= 10, "by {factor}: slower {slow} windows, faster {fast}");
        assert!(slow.abs_diff(fast) <= 2, "by {factor}: slower {slow} windows, faster {fast}");
        assert!(slow_replicas.abs_diff(slow_right) <= 1, "{slow_replicas} replicas, {slow_right} with the truth");
        assert!(fast_replicas.abs_diff(fast_right) <= 1, "{fast_replicas} replicas, {fast_right} with the truth");
        assert!(slow_replicas > fast_replicas + 2, "{slow_replicas} {fast_replicas}");
    }
}

#[test]
fn the_promise_is_kept_after_the_correction_and_not_before() {
    let mut rig = Rig::slower(1.6, RATE);
    rig.run(30.0);
    let target = 0.03;
    assert!(rig.latencies().0 > target, "the test is about servers that are too slow: {:?}", rig.latencies());
    let decision = rig.run(1800.0);
    assert!(rig.latencies().0 < target, "{:?}", rig.latencies());
    assert!(pool(&decision).reason.contains("measured ITL is 1."), "{}", pool(&decision).reason);
}

type Fault = (&'static str, fn(&mut PoolObservation, u32));

/// Nothing is learnt from what is old, incomplete, moving or at rest.
#[test]
fn pools_that_are_not_steady_teach_nothing() {
    let faults: [Fault; 11] = [
        ("latencies stale", |p, _| p.itl = Signal { quality: poolwright::observe::Quality::Stale, ..p.itl.clone() }),
        ("latencies missing", |p, _| p.ttft = Signal::missing()),
        ("rates stale", |p, _| p.arrival_rate = Signal::stale(100.0, p.arrival_rate.at_seconds)),
        ("lengths missing", |p, _| p.output_tokens = Signal::missing()),
        ("one silent", |p, _| p.silent = 1),
        ("replicas starting", |p, _| p.starting.value = Some(1)),
        ("replicas unknown", |p, _| p.ready = Signal::missing()),
        ("replicas come and go", |p, i| p.ready.value = Some(4 + i % 2)),
        ("load grows faster than answers", |p, _| p.completion_rate.value = Some(60.0)),
        ("memory full", |p, _| p.kv_usage.value = Some(0.97)),
        ("at rest", |p, _| {
            p.arrival_rate = Signal::idle(0.0, p.arrival_rate.at_seconds);
            p.completion_rate = Signal::idle(0.0, p.arrival_rate.at_seconds);
        }),
    ];
    for (name, fault) in faults {
        let mut rig = Rig::slower(2.0, RATE);
        for i in 0..60 {
            let decision = rig.look(&|p| fault(p, i));
            assert_eq!(pool(&decision).live, None, "{name}, look {i}");
            assert_eq!(pool(&decision).evidence, Evidence::Curve, "{name}");
        }
    }
}

/// Whether the neighbour of a pool is seen is no matter to what the pool's own servers show.
#[test]
fn an_unseen_neighbour_stops_nothing() {
    let mut rig = Rig::slower(1.3, RATE);
    rig.other = PoolObservation::default();
    assert!(pool(&rig.run(600.0)).live.is_some());
}

/// One operating point tells one thing: the parameters follow together, however it came about.
#[test]
fn what_cannot_be_told_apart_stays_near_what_was_believed() {
    let believed = one_pool().pools[FAST].parameters;
    let truth = Parameters { gamma_seconds_per_token: 5.0 * believed.gamma_seconds_per_token, ..believed };
    let mut rig = Rig::new(one_pool(), truth, RATE);
    rig.run(3.0 * 3600.0);
    let live = correction(&rig);
    for factor in [live.iteration, live.tokens, live.kv] {
        assert!((0.7..2.0).contains(&factor), "{live:?}");
    }
    let seen =
        rig.latencies().0 / Rig { truth: believed, policy: one_pool(), state: State::default(), ..rig }.latencies().0;
    assert!((live.itl / seen - 1.0).abs() < 0.15, "{} against {seen}", live.itl);
}

/// A tenth up and down from window to window is no news.
#[test]
fn noise_moves_nothing() {
    let mut rig = Rig::slower(1.0, RATE);
    rig.run(1800.0);
    let mut plans = vec![];
    let mut random = 12_345_u32;
    for tick in 0..720 {
        if tick % 4 == 0 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            rig.noise = 0.92 + 0.16 * f64::from(random >> 16) / 65_536.0;
        }
        plans.push(pool(&rig.tick()).planned.unwrap());
    }
    let changes = plans.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 3, "{changes} changes in three hours: {plans:?}");
}

#[test]
fn the_reserve_follows_what_is_left_in_doubt() {
    let mut policy = one_pool();
    (policy.pools[FAST].evidence, policy.pools[FAST].margin) = (Evidence::OutsideIn, 0.15);
    let truth = policy.pools[FAST].parameters.slowed(1.1);
    let mut rig = Rig::new(policy, truth, RATE);
    let mut spreads = vec![];
    for _ in 0..40 {
        spreads.extend(pool(&rig.run(WINDOW)).live.map(|live| live.spread));
    }
    let (first, last) = (spreads[0], spreads[spreads.len() - 1]);
    assert_eq!(first, 0.15, "the first windows prove nothing");
    assert!(last < 0.1 && last >= Evidence::Live.safety_margin(), "{spreads:?}");
    assert!(spreads.is_sorted_by(|a, b| a >= b), "{spreads:?}");
    assert_eq!(pool(&rig.tick()).evidence, Evidence::Live);
    // Figures that are wrong are no ground for a smaller reserve.
    rig.truth = rig.truth.slowed(2.2);
    let decision = rig.run(1800.0);
    let live = pool(&decision).live.unwrap();
    assert!(live.drift && live.spread >= 0.15, "{live:?}");
}

#[test]
fn a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = StateStore::open(directory.path()).unwrap();
    let mut rig = Rig::slower(1.4, RATE);
    rig.run(1200.0);
    store.save(&rig.state).unwrap();
    let going_on = correction(&rig);
    rig.state = store.load().unwrap().unwrap();
    assert_eq!(correction(&rig), going_on);
    assert!((going_on.itl - 1.4).abs() < 0.08, "{going_on:?}");
}

#[test]
fn a_state_without_corrections_or_with_unreadable_ones_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = StateStore::open(directory.path()).unwrap();
    let mut rig = Rig::slower(1.4, RATE);
    rig.run(600.0);
    let whole = serde_json::to_value(&rig.state).unwrap();
    for live in [None, Some(serde_json::json!({"inference/llama-h100": {"calibration": {"windows": null}}}))] {
        let mut stored = whole.clone();
        stored.as_object_mut().unwrap().remove("live").expect("the field that an older file does not have");
        if let Some(live) = live {
            stored["live"] = live;
        }
        std::fs::write(directory.path().join("state.json"), stored.to_string()).unwrap();
        let state = store.load().unwrap().unwrap();
        assert_eq!((state.pools.len(), state.live.len()), (rig.state.pools.len(), 0));
        let mut again = rig.with(rig.policy.clone(), state);
        assert_eq!(pool(&again.tick()).desired, Some(rig.replicas), "it goes on with what it said");
        assert!(pool(&again.run(600.0)).live.is_some(), "and learns again");
    }
}

/// Figures of another policy are not corrected by what was learnt of these.
#[test]
fn an_edited_profile_begins_anew() {
    let mut rig = Rig::slower(1.6, RATE);
    assert!(pool(&rig.run(1200.0)).live.is_some());
    rig.policy = told(&rig.policy, &rig.truth);
    let decision = rig.tick();
    assert_eq!(pool(&decision).live.map(|live| live.windows), None);
    assert!(decision.findings.iter().all(|f| f.kind != FindingKind::ModelDrift));
}

#[test]
fn drift_is_a_finding_that_says_what_to_do() {
    let drift = |factor: f64| {
        let decision = Rig::slower(factor, RATE).run(1800.0);
        let live = pool(&decision).live.unwrap();
        let finding = decision.findings.into_iter().find(|f| f.kind == FindingKind::ModelDrift);
        assert_eq!(live.drift, finding.is_some());
        assert!((live.itl / factor - 1.0).abs() < 0.05, "{live:?}");
        finding
    };
    assert_eq!(drift(1.1), None);
    let finding = drift(1.6).unwrap();
    assert_eq!(finding.subject, "inference/llama-h100");
    for words in ["measured ITL is 1.", "x what its profile says", "`poolwright fit`"] {
        assert!(finding.message.contains(words), "{}", finding.message);
    }
    assert!(drift(0.6).unwrap().message.contains("measured ITL is 0."));
}

/// A clock that was ahead and is set back must not keep corrections out.
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut rig = Rig::slower(1.5, RATE);
    rig.run(600.0);
    let before = correction(&rig).windows;
    rig.at -= 7200.0;
    rig.run(900.0);
    assert!(correction(&rig).windows > before, "{before}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_is_measured_the_figures_stay_within_three_times(
        seen in prop::collection::vec((0.1f64..500.0, 1e-5f64..50.0, 1e-4f64..500.0, 1.0f64..20_000.0, 1.0f64..3000.0), 4..12),
    ) {
        let mut rig = Rig::slower(1.0, RATE);
        for (rate, itl, ttft, input_tokens, output_tokens) in seen {
            (rig.rate, rig.shape) = (rate, Shape { input_tokens, output_tokens });
            for _ in 0..5 {
                let decision = rig.look(&|p| {
                    p.itl.value = Some(crate::live_support::histogram(itl, 500.0));
                    p.ttft.value = Some(crate::live_support::histogram(ttft, 500.0));
                });
                let found = pool(&decision);
                prop_assert!(found.desired.is_some_and(|n| n <= 40));
                prop_assert!(found.replica_capacity.is_none_or(|c| c.is_finite() && c >= 0.0));
                if let Some(live) = found.live {
                    for factor in [live.iteration, live.tokens, live.kv] {
                        prop_assert!((1.0 / 3.01..=3.01).contains(&factor), "{live:?}");
                    }
                    prop_assert!(live.itl.is_finite() && (0.05..=0.15).contains(&live.spread), "{live:?}");
                }
                let text = serde_json::to_string(&rig.state).unwrap();
                prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap().live.len(), 2, "no NaN in the state");
            }
        }
    }
}

/// A load that comes and goes, always in time, is planned on fewer replicas after some hours; without leave to use the
/// error budget it is not.
#[test]
fn a_pool_without_late_requests_is_given_more() {
    let played = |budget_use: f64| {
        let mut policy = one_pool();
        policy.planner.error_budget_use = budget_use;
        let truth = policy.pools[0].parameters;
        let mut rig = Rig::new(policy, truth, RATE);
        let early = pool(&rig.run(1800.0)).capacity_stretch;
        for quarter in 0..48 {
            rig.rate = RATE * [1.0, 0.9, 0.75, 0.85][quarter % 4];
            rig.run(900.0);
        }
        rig.rate = RATE;
        let decision = rig.run(900.0);
        (early, pool(&decision).capacity_stretch, pool(&decision).reason.clone(), pool(&decision).replica_capacity)
    };
    let (early, late, reason, capacity) = played(0.25);
    let factor = late.expect("more than the figures say");
    assert!(early.is_none() && factor > 1.05, "{early:?} {factor}");
    assert!(reason.contains(&format!("given {factor:.2}x what its figures say")), "{reason}");
    let (_, never, _, plain) = played(0.0);
    assert!(never.is_none() && capacity > plain, "{never:?} {capacity:?} {plain:?}");
}
