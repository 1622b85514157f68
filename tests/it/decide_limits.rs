use std::collections::BTreeMap;

use chrono::DateTime;
use poolwright::control::{Binding, Decision, PoolDecision, State, decide, problem_of};
use poolwright::observe::{Finding, FindingKind, Histogram, Observation, PoolObservation, Signal};
use poolwright::plan::{LimitKind, Problem};
use poolwright::policy::{LimitScope, Policy, from_text};

const FLEET: &str = r#"
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: test}
spec:
  planner: {scaleDownStarts: 0}
  accelerators:
    - {name: h100, type: H100, pricePerHour: 3.0, stock: 16}
    - {name: spot, type: H100, pricePerHour: 1.0, stock: 16}
  classes:
    - {name: chat, priority: 100, percentile: 99, ttft: 2s, itl: 80ms}
    - {name: batch, priority: 0, deadline: 4h}
  schedules:
    - {name: office, days: [mon, tue, wed, thu, fri], from: "08:00", until: "20:00", timeZone: Europe/Berlin}
"#;

const MODEL: &str = r#"
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: llama, namespace: prod}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: chat}]
  pools:
    - {name: llama-h100, accelerator: h100, mode: act, startupTime: 9m}
    - {name: llama-spot, accelerator: spot, mode: act, startupTime: 9m}
"#;

fn policy(fleet: &str, model: &str) -> Policy {
    let text = format!("{FLEET}{fleet}{MODEL}{model}");
    from_text("test.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A Wednesday in winter.
fn at(time: &str) -> f64 {
    DateTime::parse_from_rfc3339(&format!("2026-01-14T{time}+01:00")).unwrap().timestamp() as f64
}

fn lengths(mean: f64, count: f64) -> Histogram {
    Histogram {
        upper: vec![mean / 2.0, mean, 2.0 * mean, f64::MAX],
        cumulative: [0.2, 0.6, 1.0, 1.0].map(|share| share * count).to_vec(),
        sum: mean * count,
        count,
    }
}

fn pool(id: &str, ready: u32, rate: f64, waiting: f64, at: f64) -> PoolObservation {
    PoolObservation {
        pool: id.into(),
        ready: Signal::fresh(ready, at),
        starting: Signal::fresh(0, at),
        arrival_rate: Signal::fresh(rate, at),
        completion_rate: Signal::fresh(rate, at),
        running: Signal::fresh(rate, at),
        waiting: Signal::fresh(waiting, at),
        kv_usage: Signal::fresh(0.3, at),
        kv_capacity_tokens: Signal::fresh(400_000.0, at),
        prefix_hit_ratio: Signal::fresh(0.0, at),
        ttft: Signal::fresh(lengths(0.5, 15.0), at),
        itl: Signal::fresh(lengths(0.02, 15.0), at),
        input_tokens: Signal::fresh(lengths(800.0, rate * 60.0), at),
        output_tokens: Signal::fresh(lengths(200.0, rate * 60.0), at),
        ..PoolObservation::default()
    }
}

fn seen(ready: [u32; 2], rate: f64, waiting: f64, at: f64) -> Observation {
    let pools =
        vec![pool("prod/llama-h100", ready[0], rate, waiting, at), pool("prod/llama-spot", ready[1], 0.0, 0.0, at)];
    Observation { at_seconds: at, source_error: None, pools, findings: vec![] }
}

/// What is said after ten minutes of steady load that end at `end`, while what is said runs.
fn settled(policy: &Policy, rate: f64, end: f64) -> (Decision, State) {
    let (mut state, mut ready, mut last) = (State::default(), [1, 0], None);
    for tick in (0..40).rev() {
        let now = end - 15.0 * f64::from(tick);
        let (decision, next) = decide(policy, &seen(ready, rate, 0.0, now), state, now);
        ready = [0, 1].map(|p| decision.pools[p].desired.unwrap());
        (state, last) = (next, Some(decision));
    }
    (last.unwrap(), state)
}

fn planned_problem(policy: &Policy, rate: f64, waiting: f64, now: f64) -> Problem {
    let (_, state) = settled(policy, rate, now - 15.0);
    problem_of(policy, &seen([1, 0], rate, waiting, now), state, now)
}

fn by_name(decision: &Decision) -> BTreeMap<&str, &PoolDecision> {
    decision.pools.iter().map(|p| (p.pool.as_str(), p)).collect()
}

fn conflicts(decision: &Decision) -> Vec<&Finding> {
    decision.findings.iter().filter(|f| f.kind == FindingKind::LimitConflict).collect()
}

/// Everything that bounds the numbers together holds for what is said, and is what is named.
#[test]
fn each_limit_holds_and_is_named_when_it_binds() {
    let cases = [
        ("  budgetPerHour: 7.5\n", Binding::Budget, "budget of 7.5 USD/h"),
        ("  powerKW: 3\n", Binding::Power, "power of 3 kW"),
        (
            "  limits: [{name: account, accelerators: [h100, spot], most: 5}]\n",
            Binding::Quota,
            "account of 5 h100 or spot",
        ),
        ("  limits: [{name: room, accelerators: [h100, spot], powerKW: 2.2}]\n", Binding::Power, "room of 2.2 kW"),
    ];
    for (limit, binding, words) in cases {
        let policy = policy(limit, "");
        let (decision, _) = settled(&policy, 500.0, at("12:00:00"));
        assert!(decision.classes[0].shortfall_rate > 0.0, "{limit}: the test needs a shortage");
        let [said] = &decision.limits[..] else { panic!("{:?}", decision.limits) };
        assert!(said.planned > 0.0 && said.planned <= said.most + 1e-9, "{said:?}");
        assert!(decision.pools.iter().any(|p| p.binding == binding), "{limit}: {:?}", by_name(&decision));
        let reason = decision.pools.iter().find(|p| p.binding == binding).map(|p| p.reason.as_str());
        assert!(reason.is_some_and(|r| r.contains(words)), "{reason:?} has no {words}");
        assert!(conflicts(&decision).is_empty());
    }
}

#[test]
fn scopes_of_one_type_hold_together_and_the_least_is_what_can_be_had() {
    let text = format!("{FLEET}{MODEL}")
        .replace("pricePerHour: 1.0, stock: 16", "pricePerHour: 1.0, stock: 16, quota: 4, reservation: 2");
    let policy = from_text("test.yaml", &text).unwrap();
    let (decision, _) = settled(&policy, 500.0, at("12:00:00"));
    let [_, spot] = &decision.accelerators[..] else { panic!() };
    assert_eq!((spot.accelerator.as_str(), spot.stock, spot.planned), ("spot", 2, 2));
    let scopes: Vec<(&str, LimitScope, f64)> =
        decision.limits.iter().map(|l| (l.limit.as_str(), l.scope, l.planned)).collect();
    assert_eq!(scopes, [("spot quota", LimitScope::Quota, 2.0), ("spot reservation", LimitScope::Reservation, 2.0)]);
    let pool = by_name(&decision)["llama-spot"];
    assert_eq!(pool.binding, Binding::Reservation, "{}", pool.reason);
}

/// What is kept for safety uses the budget too: growth elsewhere has to wait for it, and says so.
#[test]
fn growth_waits_where_what_is_kept_uses_up_a_limit() {
    let now = at("12:00:00");
    let dear = format!("{FLEET}{MODEL}").replace("pricePerHour: 1.0", "pricePerHour: 9.0");
    let (before, state) = settled(&from_text("test.yaml", &dear).unwrap(), 60.0, now);
    let kept = by_name(&before)["llama-h100"].desired.unwrap();
    assert!(kept >= 2 && by_name(&before)["llama-spot"].desired == Some(0), "{:?}", by_name(&before));

    // Spot capacity is cheap now, but the budget has room for one of them beside what is not yet given up.
    let budget = 3.0 * f64::from(kept) + 1.5;
    let cheap = policy(&format!("  budgetPerHour: {budget}\n"), "");
    let (decision, _) = decide(&cheap, &seen([kept, 0], 60.0, 0.0, now + 15.0), state, now + 15.0);
    let said = by_name(&decision);
    assert!(said["llama-spot"].planned > Some(1), "{said:?}");
    assert_eq!((said["llama-h100"].desired, said["llama-spot"].desired), (Some(kept), Some(1)));
    assert_eq!(said["llama-spot"].binding, Binding::Budget);
    assert!(said["llama-spot"].reason.contains("growth waits"), "{}", said["llama-spot"].reason);
}

#[test]
fn a_floor_begins_before_its_schedule_by_the_time_of_a_start_and_ends_with_it() {
    let policy = policy("", "  floors: [{schedule: office, replicas: 5, pool: llama-spot}]\n");
    let spot = |now: f64| planned_problem(&policy, 1.0, 0.0, now).pools[1].min;
    // Nine minutes, one tick, and what a follower takes.
    assert_eq!(spot(at("07:50:29")), 0);
    assert_eq!(spot(at("07:50:30")), 5);
    assert_eq!(spot(at("19:59:59")), 5);
    assert_eq!(spot(at("20:00:00")), 0);
    let (decision, _) = settled(&policy, 1.0, at("08:00:00"));
    let said = by_name(&decision)["llama-spot"];
    assert_eq!((said.desired, said.binding), (Some(5), Binding::Min), "{}", said.reason);
    assert!(said.reason.contains("during office"), "{}", said.reason);
}

/// Even when the source is lost, the floor of a schedule that begins is kept.
#[test]
fn a_floor_rises_while_data_is_missing() {
    let policy = policy("", "  floors: [{schedule: office, replicas: 5, pool: llama-spot}]\n");
    let (before, state) = settled(&policy, 1.0, at("07:00:00"));
    assert!(by_name(&before)["llama-spot"].desired < Some(5));
    let lost = Observation {
        at_seconds: at("08:00:00"),
        source_error: Some("connection refused".into()),
        pools: vec![PoolObservation::default(), PoolObservation::default()],
        findings: vec![],
    };
    let (decision, _) = decide(&policy, &lost, state, at("08:00:00"));
    assert_eq!(by_name(&decision)["llama-spot"].desired, Some(5));
}

#[test]
fn a_model_keeps_replicas_wherever_they_cost_least() {
    let policy = policy("", "  floors: [{replicas: 4}]\n");
    let problem = planned_problem(&policy, 1.0, 0.0, at("12:00:00"));
    let floor = problem.limits.last().unwrap();
    assert_eq!((floor.kind, floor.most, floor.uses.as_slice()), (LimitKind::Floor, -4.0, &[(0, -1.0), (1, -1.0)][..]));
    let (decision, _) = settled(&policy, 1.0, at("12:00:00"));
    let said = by_name(&decision);
    assert_eq!(decision.pools.iter().filter_map(|p| p.desired).sum::<u32>(), 4, "{said:?}");
    assert!(said["llama-spot"].desired >= Some(3), "{said:?}");
    assert_eq!(said["llama-spot"].binding, Binding::Min, "{}", said["llama-spot"].reason);
}

#[test]
fn a_load_is_planned_for_during_a_schedule() {
    let policy = policy("", "  floors: [{schedule: office, requestsPerSecond: 60, class: chat}]\n");
    let (day, _) = settled(&policy, 1.0, at("12:00:00"));
    let (night, _) = settled(&policy, 1.0, at("23:00:00"));
    let (measured, _) = settled(&policy, 60.0, at("23:00:00"));
    assert_eq!(day.classes[0].demand_rate, 60.0);
    assert!(night.classes[0].demand_rate < 3.0, "{}", night.classes[0].demand_rate);
    assert!(day.planned_cost_per_hour > night.planned_cost_per_hour);
    let said = day.pools.iter().find(|p| p.planned_rate > 0.0).unwrap();
    assert!(said.reason.contains("a floor of 60 req/s during office"), "{}", said.reason);
    assert!(measured.classes[0].demand_rate >= 60.0);
    let (above, _) = settled(&policy, 90.0, at("12:00:00"));
    assert!(above.classes[0].demand_rate >= 90.0, "a floor lowers nothing");
}

/// Two floors that fit alone but not together are seen when they meet; the planner stays calm and says it.
#[test]
fn a_conflict_of_floors_is_named_and_stops_nobody() {
    let lunch = "    - {name: lunch, from: \"12:00\", until: \"13:00\", timeZone: Europe/Berlin}\n";
    let quota = "  limits: [{name: account, accelerators: [h100, spot], most: 6}]\n";
    let floors = "  floors:
    - {schedule: office, replicas: 4, pool: llama-spot}
    - {schedule: lunch, replicas: 4, pool: llama-h100}
";
    let policy = policy(&format!("{lunch}{quota}"), floors);
    let (noon, _) = settled(&policy, 1.0, at("12:30:00"));
    let [conflict] = conflicts(&noon)[..] else { panic!("{:?}", noon.findings) };
    assert_eq!(conflict.subject, "account");
    assert!(conflict.message.contains("needs 8 h100 or spot, there are 6 h100 or spot"), "{}", conflict.message);
    assert!(noon.pools.iter().all(|p| p.desired == Some(4)), "{:?}", by_name(&noon));
    let (morning, _) = settled(&policy, 1.0, at("10:00:00"));
    assert!(conflicts(&morning).is_empty());
}

#[test]
fn work_that_may_wait_waits_until_its_deadline_asks_for_it() {
    let text = |wait: &str| {
        let fleet = FLEET.replace("deadline: 4h", &format!("deadline: 4h{wait}"));
        from_text("test.yaml", &format!("{fleet}{}", MODEL.replace("name: chat", "name: batch"))).unwrap()
    };
    let (patient, default) = (text(", mayWait: true"), text(""));
    let now = at("12:00:00");
    let cell = |policy: &Policy, waiting: f64| planned_problem(policy, 20.0, waiting, now).cells[0].clone();
    let kept = cell(&default, 600.0);
    assert!(kept.rate > 20.0 && kept.may_wait == 0.0, "without mayWait nothing is put off: {kept:?}");
    let waits = cell(&patient, 600.0);
    // 600 requests are half a minute of arrivals; two hours less ten minutes are left for them.
    assert!(waits.rate > 0.05 && waits.rate < 0.15, "{waits:?}");
    assert!((waits.rate + waits.may_wait - kept.rate).abs() < 1e-9, "{waits:?} {kept:?}");
    // Nobody saw these arrive, so they may have waited for long: all of it is due.
    let unknown = cell(&patient, 1e6);
    assert_eq!((unknown.rate, unknown.may_wait), (cell(&default, 1e6).rate, 0.0));
}
