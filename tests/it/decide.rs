use std::collections::BTreeMap;

use poolwright::control::{Binding, Decision, Entry, Journal, JournalLimits, State, decide, read_journal};
use poolwright::observe::cluster::PoolCluster;
use poolwright::observe::{Histogram, Observation, PoolObservation, Signal};
use poolwright::policy::{Mode, Policy, from_text};
use poolwright::safety::PoolMemory;

pub const START: f64 = 1_700_000_000.0;

const POLICY: &str = r#"
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: test}
spec:
  accelerators:
    - {name: h100, type: H100, pricePerHour: 3.0, stock: 16}
    - {name: a100, type: A100-80GB, pricePerHour: 1.5, stock: 16}
  classes:
    - {name: interactive, priority: 100, percentile: 99, ttft: 2s, itl: 80ms}
    - {name: batch, priority: 0, deadline: 10m}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: llama, namespace: prod}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: interactive, share: 0.8}, {name: batch}]
  pools:
    - {name: llama-a100, accelerator: a100, mode: act, startupTime: 2m}
    - {name: llama-h100, accelerator: h100, mode: act, startupTime: 2m}
"#;

pub fn policy() -> Policy {
    from_text("test.yaml", POLICY).unwrap()
}

fn edited(from: &str, to: &str) -> Policy {
    assert!(POLICY.contains(from));
    from_text("test.yaml", &POLICY.replace(from, to)).unwrap()
}

fn lengths(mean: f64, count: f64) -> Histogram {
    Histogram {
        upper: vec![100.0, 200.0, 500.0, 1000.0, 2000.0, f64::MAX],
        cumulative: [0.1, 0.3, 0.5, 0.7, 0.9, 1.0].map(|share| share * count).to_vec(),
        sum: mean * count,
        count,
    }
}

fn latencies(seconds: f64, count: f64) -> Histogram {
    Histogram {
        upper: vec![seconds / 2.0, seconds, seconds * 2.0, f64::MAX],
        cumulative: [0.2, 0.9, 1.0, 1.0].map(|share| share * count).to_vec(),
        sum: seconds * 0.8 * count,
        count,
    }
}

/// A pool with everything fresh.
pub fn fresh(pool: &str, ready: u32, rate: f64, at: f64) -> PoolObservation {
    PoolObservation {
        pool: pool.into(),
        ready: Signal::fresh(ready, at),
        starting: Signal::fresh(0, at),
        silent: 0,
        arrival_rate: Signal::fresh(rate, at),
        completion_rate: Signal::fresh(rate, at),
        running: Signal::fresh(rate * 5.0, at),
        waiting: Signal::fresh(0.0, at),
        kv_usage: Signal::fresh(0.3, at),
        kv_capacity_tokens: Signal::fresh(400_000.0, at),
        prefix_hit_ratio: Signal::fresh(0.0, at),
        ttft: Signal::fresh(latencies(0.5, rate * 60.0), at),
        // Too few to learn the servers' speed from: what is tested here is something else.
        itl: Signal::fresh(latencies(0.03, 15.0), at),
        input_tokens: Signal::fresh(lengths(800.0, rate * 60.0), at),
        output_tokens: Signal::fresh(lengths(200.0, rate * 60.0), at),
        cluster: None,
    }
}

/// A pool that is known to run nothing.
pub fn at_zero(pool: &str, at: f64) -> PoolObservation {
    PoolObservation {
        pool: pool.into(),
        ready: Signal::fresh(0, at),
        starting: Signal::fresh(0, at),
        arrival_rate: Signal::idle(0.0, at),
        ..PoolObservation::default()
    }
}

pub fn seen(at: f64, pools: Vec<PoolObservation>) -> Observation {
    Observation { at_seconds: at, source_error: None, pools, findings: vec![] }
}

fn lost(at: f64) -> Observation {
    Observation {
        at_seconds: at,
        source_error: Some("connection refused".into()),
        pools: vec![PoolObservation::default(), PoolObservation::default()],
        findings: vec![],
    }
}

/// Runs `minutes` of steady load and returns what was said last.
fn settle(policy: &Policy, rate: f64, minutes: u32, mut state: State) -> (Decision, State) {
    let from = state.pools.values().filter_map(|p| p.wants.back()).map(|w| w.0).fold(START, f64::max);
    let said = |state: &State, id: &str| state.pools.get(id).and_then(|p| p.published).unwrap_or(1);
    let mut last = None;
    for tick in 1..=minutes * 4 {
        let at = from + 15.0 * f64::from(tick);
        let (a, h) = (said(&state, "prod/llama-a100"), said(&state, "prod/llama-h100"));
        let share = f64::from(a) / f64::from(a + h).max(1.0);
        let part = |pool: &str, n: u32, rate: f64| if n == 0 { at_zero(pool, at) } else { fresh(pool, n, rate, at) };
        let pools = vec![part("prod/llama-a100", a, rate * share), part("prod/llama-h100", h, rate * (1.0 - share))];
        let (decision, next) = decide(policy, &seen(at, pools), state, at);
        state = next;
        last = Some(decision);
    }
    (last.unwrap(), state)
}

fn said(decision: &Decision) -> BTreeMap<&str, Option<u32>> {
    decision.pools.iter().map(|p| (p.pool.as_str(), p.desired)).collect()
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (_, state) = settle(&policy(), 20.0, 5, State::default());
    let at = START + 3600.0;
    let observation = seen(at, vec![fresh("prod/llama-a100", 2, 9.0, at), fresh("prod/llama-h100", 1, 14.0, at)]);
    let run = || {
        let (decision, state) = decide(&policy(), &observation, state.checkpoint(), at);
        (serde_json::to_string(&decision).unwrap(), serde_json::to_string(&state).unwrap())
    };
    assert_eq!(run(), run());
    // What was remembered of capacities changes nothing, and neither does a way through JSON.
    let stored: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let observed: Observation = serde_json::from_str(&serde_json::to_string(&observation).unwrap()).unwrap();
    let (decision, _) = decide(&policy(), &observed, stored, at);
    assert_eq!(serde_json::to_string(&decision).unwrap(), run().0);
}

#[test]
fn a_journal_replays_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(dir.path(), JournalLimits { file_bytes: 60_000, files: 3 });
    let mut state = State::default();
    for tick in 0..40 {
        let at = START + 15.0 * f64::from(tick);
        let rate = 10.0 + f64::from(tick % 7);
        let observation = match tick % 11 {
            5 => lost(at),
            _ => seen(at, vec![fresh("prod/llama-a100", 2, rate, at), fresh("prod/llama-h100", 1, rate, at)]),
        };
        let before = state.checkpoint();
        let (decision, next) = decide(&policy(), &observation, state, at);
        journal.append(&before, &observation, &decision).unwrap();
        state = next;
    }
    let mut replayed = 0;
    for name in ["journal.jsonl", "journal.1.jsonl", "journal.2.jsonl"] {
        let mut state = None;
        for entry in read_journal(&dir.path().join(name)).unwrap() {
            match entry {
                Entry::State(stored) => state = Some(*stored),
                Entry::Tick { at_seconds, observation, decision } => {
                    let (again, next) = decide(&policy(), &observation, state.take().unwrap(), at_seconds);
                    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&*decision).unwrap());
                    state = Some(next);
                    replayed += 1;
                }
            }
        }
    }
    assert!(replayed > 5, "{replayed}");
    assert!(!dir.path().join("journal.3.jsonl").exists());
}

#[test]
fn more_load_wants_more_and_less_load_less() {
    let (low, state) = settle(&policy(), 5.0, 20, State::default());
    let (high, state) = settle(&policy(), 60.0, 5, state);
    // One jump in an hour is remembered as a habit; after three quiet hours it is an exception.
    let (low_again, _) = settle(&policy(), 5.0, 180, state);
    let cost = |d: &Decision| d.planned_cost_per_hour;
    assert!(cost(&low) < cost(&high), "{} {}", cost(&low), cost(&high));
    assert_eq!(cost(&low), cost(&low_again));
    assert!(high.classes.iter().all(|c| c.shortfall_rate < 1e-6));
    let promised = |d: &Decision| d.pools.iter().all(|p| p.ttft.predicted_seconds.is_none_or(|t| t <= 2.0));
    assert!(promised(&low) && promised(&high));
}

#[test]
fn lost_data_holds_every_number_and_says_why() {
    let (before, mut state) = settle(&policy(), 40.0, 10, State::default());
    for tick in 1..400 {
        let at = START + 3600.0 + 15.0 * f64::from(tick);
        let (held, next) = decide(&policy(), &lost(at), state, at);
        assert_eq!(said(&held), said(&before));
        assert!(held.pools.iter().all(|p| p.binding == Binding::Hold && !p.reason.is_empty()));
        assert_eq!(held.source_error.as_deref(), Some("connection refused"));
        state = next;
    }
}

#[test]
fn a_first_look_without_data_says_nothing() {
    let (decision, state) = decide(&policy(), &lost(START), State::default(), START);
    assert!(decision.pools.iter().all(|p| p.desired.is_none()));
    assert!(state.pools.values().all(|p| p.published.is_none()));
}

/// Every way in which one signal of one pool can be bad; whatever it is, nothing shrinks.
#[test]
fn bad_signals_never_shrink_anything() {
    let policy = policy();
    let (before, state) = settle(&policy, 40.0, 10, State::default());
    let published = said(&before);
    type Break = fn(&mut PoolObservation);
    let breaks: [(&str, Break); 8] = [
        ("replicas missing", |p| p.ready = Signal::missing()),
        ("load missing", |p| p.arrival_rate = Signal::missing()),
        ("load stale", |p| p.arrival_rate = Signal::stale(0.0, START)),
        ("replicas stale", |p| p.ready = Signal::stale(0, START)),
        ("one silent", |p| p.silent = 1),
        ("everything missing", |p| *p = PoolObservation::default()),
        ("load without replicas", |p| {
            p.ready = Signal::missing();
            p.arrival_rate.value = Some(0.0);
        }),
        ("not a number", |p| p.arrival_rate = Signal { value: Some(f64::NAN), ..p.arrival_rate }),
    ];
    for (name, break_it) in breaks {
        let mut state = state.checkpoint();
        for tick in 1..60 {
            let at = START + 3600.0 + 15.0 * f64::from(tick);
            let mut pools = vec![fresh("prod/llama-a100", 1, 0.1, at), fresh("prod/llama-h100", 1, 0.1, at)];
            break_it(&mut pools[1]);
            let (decision, next) = decide(&policy, &seen(at, pools), state, at);
            for (pool, n) in said(&decision) {
                assert!(n >= published[pool], "{name}: {pool} fell from {:?} to {n:?}", published[pool]);
            }
            state = next;
        }
    }
}

#[test]
fn absurd_numbers_do_no_harm() {
    let policy = policy();
    let (_, state) = settle(&policy, 40.0, 10, State::default());
    for absurd in [f64::NAN, f64::INFINITY, -1.0, 1e308, 1e-308] {
        let at = START + 3600.0;
        let mut pool = fresh("prod/llama-a100", 1, 1.0, at);
        pool.kv_capacity_tokens = Signal::fresh(absurd, at);
        pool.waiting = Signal::fresh(absurd, at);
        pool.prefix_hit_ratio = Signal::fresh(absurd, at);
        pool.input_tokens.value.as_mut().unwrap().sum = absurd;
        pool.arrival_rate = Signal::fresh(absurd, at);
        let observation = seen(at, vec![pool, fresh("prod/llama-h100", 1, 1.0, at)]);
        let (decision, _) = decide(&policy, &observation, state.checkpoint(), at);
        for pool in &decision.pools {
            assert!(pool.desired.unwrap() <= 16, "{absurd}: {pool:?}");
        }
        serde_json::to_string(&decision).unwrap();
    }
}

#[test]
fn a_restart_without_memory_starts_from_what_runs() {
    let at = START;
    let observation = seen(at, vec![fresh("prod/llama-a100", 9, 1.0, at), at_zero("prod/llama-h100", at)]);
    let (decision, _) = decide(&policy(), &observation, State::default(), at);
    assert_eq!(said(&decision)["llama-a100"], Some(9), "a scale-down must first prove itself");
}

#[test]
fn starting_replicas_are_counted_once() {
    let policy = policy();
    let (decision, state) = settle(&policy, 60.0, 3, State::default());
    let wanted = decision.pools.iter().map(|p| p.desired.unwrap()).sum::<u32>();
    let at = START + 300.0;
    let mut pools = vec![];
    for p in &decision.pools {
        let id = format!("prod/{}", p.pool);
        let n = p.desired.unwrap();
        let ready = n.min(1);
        let rate = 60.0 * f64::from(n) / f64::from(wanted);
        let mut pool = if ready == 0 { at_zero(&id, at) } else { fresh(&id, ready, rate, at) };
        pool.starting = Signal::fresh(n - ready, at);
        pools.push(pool);
    }
    let (next, _) = decide(&policy, &seen(at, pools), state, at);
    let still = next.pools.iter().map(|p| p.desired.unwrap()).sum::<u32>();
    assert!(still <= wanted + 1, "{wanted} were wanted and are starting, now {still} are wanted");
}

#[test]
fn advise_does_not_act_and_is_not_counted_on() {
    let acting = policy();
    let mut mixed = policy();
    mixed.pools[1].mode = Mode::Advise;
    let at = START;
    let observation = seen(at, vec![fresh("prod/llama-a100", 1, 40.0, at), at_zero("prod/llama-h100", at)]);
    let (both, _) = decide(&acting, &observation, State::default(), at);
    let (one, _) = decide(&mixed, &observation, State::default(), at);
    // The cheaper pool only advises, so the acting one has to carry everything itself.
    assert!(said(&one)["llama-a100"] >= said(&both)["llama-a100"]);
    assert_eq!(one.pools[1].published(), None);
    assert_eq!(one.pools[1].desired, both.pools[1].desired, "the advice is what acting would have said");
}

#[test]
fn stock_is_kept_and_shortage_is_said() {
    let scarce = edited("pricePerHour: 3.0, stock: 16", "pricePerHour: 3.0, stock: 1");
    let scarce = Policy {
        pools: scarce.pools.iter().cloned().map(|p| poolwright::policy::Pool { max: p.max.min(2), ..p }).collect(),
        ..scarce
    };
    let (decision, _) = settle(&scarce, 200.0, 10, State::default());
    for a in &decision.accelerators {
        assert!(a.planned <= a.stock, "{a:?}");
    }
    let class = |name: &str| decision.classes.iter().find(|c| c.class == name).unwrap();
    assert!(class("batch").shortfall_rate > 0.9 * class("batch").demand_rate, "{:?}", class("batch"));
    assert!(class("interactive").shortfall_rate > 0.0);
    assert!(decision.pools.iter().any(|p| p.binding == Binding::Stock), "{:?}", said(&decision));
}

#[test]
fn no_load_at_all_leaves_the_one_replica_that_would_see_it() {
    let (decision, _) = settle(&policy(), 0.0, 45, State::default());
    assert_eq!(decision.pools.iter().filter_map(|p| p.desired).sum::<u32>(), 1, "{:?}", said(&decision));
    assert!(decision.pools.iter().any(|p| p.binding == Binding::Idle), "{:?}", decision.pools);
}

/// Nobody can serve, so nobody sees a request: that is no evidence of idleness.
#[test]
fn all_replicas_lost_is_not_idleness() {
    let (before, mut state) = settle(&policy(), 40.0, 10, State::default());
    for tick in 1..200 {
        let at = START + 3600.0 + 15.0 * f64::from(tick);
        let observation = seen(at, vec![at_zero("prod/llama-a100", at), at_zero("prod/llama-h100", at)]);
        let (decision, next) = decide(&policy(), &observation, state, at);
        for (pool, n) in said(&decision) {
            assert!(n >= said(&before)[pool], "{pool} fell to {n:?}");
        }
        state = next;
    }
}

/// Silent replicas run until somebody says that they do not, also at the very first look.
#[test]
fn a_first_look_at_a_part_of_the_replicas_keeps_all() {
    let mut part = fresh("prod/llama-a100", 3, 1.0, START);
    part.ready = Signal::stale(3, START);
    part.silent = 2;
    let observation = seen(START, vec![part, at_zero("prod/llama-h100", START)]);
    let (decision, _) = decide(&policy(), &observation, State::default(), START);
    assert_eq!(said(&decision)["llama-a100"], Some(5));
}

/// What was only advised is no base for acting: the replicas that run are.
#[test]
fn turning_to_act_starts_from_what_runs() {
    let advise = edited("llama-a100, accelerator: a100, mode: act", "llama-a100, accelerator: a100, mode: advise");
    let mut state = State::default();
    let look = |at| seen(at, vec![fresh("prod/llama-a100", 9, 1.0, at), at_zero("prod/llama-h100", at)]);
    for tick in 0..100 {
        let at = START + 15.0 * f64::from(tick);
        state = decide(&advise, &look(at), state, at).1;
    }
    let at = START + 1500.0;
    let (decision, _) = decide(&policy(), &look(at), state, at);
    assert_eq!(said(&decision)["llama-a100"], Some(9));
}

/// The plan of the first acting tick counts on what runs, too: what was only advised starts nothing.
#[test]
fn turning_to_act_does_not_plan_with_what_was_advised() {
    let advise = edited("llama-a100, accelerator: a100, mode: act", "llama-a100, accelerator: a100, mode: advise");
    let at = START + 1500.0;
    let mut state = settle(&advise, 60.0, 10, State::default()).1;
    let memory = state.pools.get_mut("prod/llama-a100").unwrap();
    assert!(!memory.followed && memory.published.is_some());
    memory.published = Some(7);
    // Only a part of the pool is seen, so the plan may not go below its base.
    let mut part = fresh("prod/llama-a100", 1, 0.1, at);
    part.ready = Signal::stale(1, at);
    let observation = seen(at, vec![part, fresh("prod/llama-h100", 1, 0.1, at)]);
    let problem = poolwright::control::problem_of(&policy(), &observation, state.checkpoint(), at);
    let option = problem.pools.iter().find(|p| p.name == "prod/llama-a100").unwrap();
    assert_eq!((option.min, option.running), (1, 1), "one runs; seven were only advised");
    state = decide(&policy(), &observation, state, at).1;
    assert!(state.pools["prod/llama-a100"].followed);
}

/// In a cluster whose targets are not known yet, what answers may be less than what runs.
#[test]
fn the_first_number_waits_for_the_cluster_and_later_ones_do_not() {
    let unknown = |pool: &str, ready, at| {
        let cluster = Some(PoolCluster::default());
        PoolObservation { ready: Signal::stale(ready, at), cluster, ..fresh(pool, ready, 1.0, at) }
    };
    let look = |at| seen(at, vec![unknown("prod/llama-a100", 3, at), at_zero("prod/llama-h100", at)]);
    let mut remembered = State::default();
    remembered
        .pools
        .insert("prod/llama-a100".into(), PoolMemory { published: Some(2), followed: true, ..Default::default() });
    for state in [State::default(), remembered] {
        let (first, state) = decide(&policy(), &look(START), state, START);
        assert_eq!(said(&first)["llama-a100"], None);
        let at = START + 15.0;
        let mut known = fresh("prod/llama-a100", 3, 1.0, at);
        known.starting = Signal::fresh(2, at);
        known.cluster = Some(PoolCluster { wanted: Some(5), ..PoolCluster::default() });
        let (second, state) = decide(&policy(), &seen(at, vec![known, at_zero("prod/llama-h100", at)]), state, at);
        assert_eq!(said(&second)["llama-a100"], Some(5));
        let (lost, _) = decide(&policy(), &look(START + 300.0), state, START + 300.0);
        assert_eq!(said(&lost)["llama-a100"], Some(5), "held");
    }
}

/// Two of five answer while the cluster is not heard: turned to `act`, two would be said and three stopped.
#[test]
fn turning_to_act_says_nothing_before_the_target_is_known() {
    let advising = edited("accelerator: a100, mode: act", "accelerator: a100, mode: advise");
    let look = |at| {
        let cluster = Some(PoolCluster::default());
        let part = PoolObservation { ready: Signal::stale(2, at), cluster, ..fresh("prod/llama-a100", 2, 1.0, at) };
        seen(at, vec![part, at_zero("prod/llama-h100", at)])
    };
    let (_, state) = decide(&advising, &look(START), State::default(), START);
    let (turned, _) = decide(&policy(), &look(START + 15.0), state, START + 15.0);
    assert_eq!(said(&turned)["llama-a100"], None);
}

#[test]
fn an_upper_limit_is_named_as_such() {
    let limited = edited("accelerator: a100, mode: act", "accelerator: a100, max: 1, mode: act");
    let limited = Policy {
        pools: limited.pools.iter().cloned().map(|p| poolwright::policy::Pool { max: p.max.min(1), ..p }).collect(),
        ..limited
    };
    let (decision, _) = settle(&limited, 200.0, 10, State::default());
    assert!(decision.pools.iter().all(|p| p.binding == Binding::Max), "{:?}", decision.pools);
    assert!(decision.pools[0].reason.contains("upper limit of 1"), "{}", decision.pools[0].reason);
}
