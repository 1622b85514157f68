//! The reasons in a decision: they change nothing, hold what they say, and are made again from the journal.

use std::path::Path;

use poolwright::control::{
    Decision, Detail, Focus, Journal, JournalLimits, LatencyTarget, OtherChoice, Search, State, decide, decide_within,
    moment,
};
use poolwright::observe::{Observation, PoolObservation};
use poolwright::policy::{Policy, load};

use crate::decide::{START, at_zero, fresh, seen};

/// Two types, and so few of the cheaper one that more of them would help.
pub const POLICY: &str = r#"
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: test}
spec:
  accelerators:
    - {name: h100, type: H100, pricePerHour: 3.0, stock: 2}
    - {name: l40s, type: L40S, pricePerHour: 1.6, stock: 40}
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
    - {name: llama-h100, accelerator: h100, mode: act, startupTime: 4m}
    - {name: llama-l40s, accelerator: l40s, mode: act, startupTime: 4m}
"#;

/// The policy as a file, so that its fingerprint is that of the command line.
pub fn policy_in(folder: &Path, text: &str) -> Policy {
    let path = folder.join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    load(&path).unwrap()
}

fn look(policy: &Policy, tick: u32, rate: f64) -> Observation {
    let at = START + 15.0 * f64::from(tick);
    let pools = policy.pools.iter().map(|pool| match pool.name.as_str() {
        "llama-h100" => fresh(&pool.id(), 1, rate, at),
        _ => at_zero(&pool.id(), at),
    });
    let pools: Vec<PoolObservation> = pools.collect();
    seen(at, pools)
}

/// Ticks of a load that grows to `rate`, journaled into the folder; the last decision and the state before it.
pub fn journaled(folder: &Path, policy: &Policy, ticks: u32, rate: f64) -> (Decision, State) {
    let mut journal = Journal::new(folder, JournalLimits::default());
    let mut state = State::default();
    let mut last = None;
    for tick in 1..=ticks {
        let observation = look(policy, tick, rate * f64::from(tick.min(20)) / 20.0);
        let before = state.checkpoint();
        let (decision, next) = decide(policy, &observation, state, observation.at_seconds);
        journal.append(&before, &observation, &decision).unwrap();
        (state, last) = (next, Some((decision, before)));
    }
    last.unwrap()
}

fn full(policy: &Policy, ticks: u32, rate: f64) -> Decision {
    let folder = tempfile::tempdir().unwrap();
    let (_, before) = journaled(folder.path(), policy, ticks, rate);
    let observation = look(policy, ticks, rate);
    let search = Search { detail: Detail::Full { first: None }, ..Search::default() };
    decide_within(policy, &observation, before, observation.at_seconds, &search).0
}

fn policy() -> Policy {
    poolwright::policy::from_text("test.yaml", POLICY).unwrap()
}

#[test]
fn more_detail_decides_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (brief, before) = journaled(folder.path(), &policy(), 24, 80.0);
    let observation = look(&policy(), 24, 80.0);
    let decided = |detail| {
        let search = Search { detail, ..Search::default() };
        decide_within(&policy(), &observation, before.checkpoint(), observation.at_seconds, &search)
    };
    let (full, state) = decided(Detail::Full { first: Some(1) });
    let (again, other) = decided(Detail::Brief);
    assert_eq!(brief, again);
    assert_eq!(serde_json::to_string(&state).unwrap(), serde_json::to_string(&other).unwrap());
    let numbers = |d: &Decision| d.pools.iter().map(|p| (p.desired, p.planned, p.reason.clone())).collect::<Vec<_>>();
    assert_eq!(numbers(&full), numbers(&brief));
    assert_eq!((&full.models, &full.classes), (&brief.models, &brief.classes));
    assert_eq!(brief.analysis, None);
    assert!(brief.pools.iter().all(|p| p.alternatives.is_empty()));
    assert!(brief.solve.reason_units <= 200_000, "{:?}", brief.solve);
    // What a tick says without being asked is what it says when asked.
    for (short, long) in brief.pools.iter().zip(&full.pools) {
        assert!(short.runner_up.is_none() || short.runner_up == long.runner_up, "{short:?} {long:?}");
        assert_eq!((&short.level, &short.full_limits), (&long.level, &long.full_limits));
    }
}

#[test]
fn a_scarce_fleet_says_what_more_would_bring() {
    let decision = full(&policy(), 24, 80.0);
    let h100 = decision.pools.iter().find(|p| p.pool == "llama-h100").unwrap();
    let l40s = decision.pools.iter().find(|p| p.pool == "llama-l40s").unwrap();
    assert_eq!((h100.planned, h100.full_limits.as_slice()), (Some(2), ["h100".to_owned()].as_slice()));
    assert!(l40s.planned.unwrap() > 0 && l40s.full_limits.is_empty(), "{l40s:#?}");
    let level = h100.level.as_ref().unwrap();
    assert!(matches!(level.focus, Focus::Latency | Focus::Throughput) && !level.why.is_empty());

    // Kept as it is, the other type takes the load for more.
    let kept = h100.runner_up.as_ref().unwrap();
    assert_eq!((kept.choice, kept.replicas), (OtherChoice::Keep, 1));
    assert!(kept.extra_cost_per_hour > 0.0 && kept.extra_shortfall.is_empty(), "{kept:?}");
    let other = kept.changes.iter().find(|c| c.pool == "prod/llama-l40s").unwrap();
    assert!(Some(other.from) == l40s.planned && other.to > other.from, "{kept:?}");

    let analysis = decision.analysis.as_ref().unwrap();
    let value = |name: &str| analysis.accelerators.iter().find(|v| v.accelerators == [name]).unwrap();
    let (scarce, plenty) = (value("h100"), value("l40s"));
    assert!(scarce.gain.saved_cost_per_hour > 0.0 && scarce.gain.proven, "{scarce:?}");
    assert!(scarce.sentence.starts_with("one more h100 would save "), "{}", scarce.sentence);
    assert!(plenty.gain.is_nothing() && plenty.sentence.contains("would change nothing"), "{plenty:?}");
    // The saving is real: with that stock the plan costs that much less.
    let richer = POLICY.replace("stock: 2}", "stock: 3}");
    let richer = full(&poolwright::policy::from_text("test.yaml", &richer).unwrap(), 24, 80.0);
    let saved = decision.solve.objective - richer.solve.objective;
    assert!((saved - scarce.gain.saved_cost_per_hour).abs() < 0.02 * saved.abs() + 1e-6, "{saved} {scarce:?}");

    let targets: Vec<LatencyTarget> = analysis.relaxations.iter().map(|r| r.target).collect();
    assert_eq!(targets, [LatencyTarget::Ttft, LatencyTarget::Itl]);
    for relaxation in &analysis.relaxations {
        assert!((relaxation.to_seconds / relaxation.from_seconds - 1.1).abs() < 1e-9);
        assert!(relaxation.gain.saved_cost_per_hour >= 0.0, "{relaxation:?}");
        assert!(relaxation.capacity.iter().all(|c| c.to >= c.from * (1.0 - 1e-9)), "{relaxation:?}");
    }
    assert!(analysis.work_units > 0);
}

/// With nowhere else to go, load is lost: said in requests by class, never as money.
#[test]
fn lost_load_is_named_by_class() {
    let text = POLICY.replace("stock: 40}", "stock: 0}");
    let decision = full(&poolwright::policy::from_text("test.yaml", &text).unwrap(), 24, 300.0);
    let h100 = decision.pools.iter().find(|p| p.pool == "llama-h100").unwrap();
    let kept = h100.runner_up.as_ref().unwrap();
    let lost = kept.extra_shortfall.first().unwrap();
    assert!(lost.rate > 0.0 && !lost.classes.is_empty(), "{kept:?}");
    assert!(kept.sentence.contains("would miss their target"), "{}", kept.sentence);
    let value = decision.analysis.as_ref().unwrap().accelerators.iter().find(|v| v.limit == "h100").unwrap();
    assert!(value.gain.served.iter().any(|s| s.rate > 0.0), "{value:?}");
    assert!(value.sentence.contains("more meet their target"), "{}", value.sentence);
    let interactive = decision.classes.iter().find(|c| c.class == "interactive").unwrap();
    let promised = interactive.predicted.unwrap().attainment.unwrap();
    assert!(promised < 0.99, "{interactive:?}");
}

#[test]
fn weights_follow_the_routes() {
    let decision = full(&policy(), 24, 80.0);
    let model = &decision.models[0];
    assert_eq!(model.weights.iter().map(|w| w.weight).sum::<u32>(), 100);
    let names: Vec<&str> = model.weights.iter().map(|w| w.pool.as_str()).collect();
    assert_eq!(names, ["prod/llama-h100", "prod/llama-l40s"]);
    let total: f64 = model.routes.iter().map(|r| r.rate).sum();
    for weight in &model.weights {
        let rate: f64 = model.routes.iter().filter(|r| r.pool == weight.pool).map(|r| r.rate).sum();
        assert!((100.0 * rate / total - f64::from(weight.weight)).abs() <= 1.0, "{model:?}");
    }
}

#[test]
fn a_moment_of_the_journal_is_decided_again() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy_in(folder.path(), POLICY);
    // Longer than an hour: the state is written again on the way.
    let (last, _) = journaled(folder.path(), &policy, 250, 80.0);
    let file = folder.path().join("journal.jsonl");
    let states =
        std::fs::read_to_string(&file).unwrap().lines().filter(|l| l.starts_with(r#"{"kind":"state""#)).count();
    assert_eq!(states, 2);
    let newest = moment(folder.path(), None, true).unwrap();
    assert_eq!(*newest.decision, last);
    let again = newest.decide_again(&policy, Detail::Brief).unwrap();
    assert_eq!(again, last);
    for tick in [1, 100, 240, 241] {
        let at = START + 15.0 * f64::from(tick);
        let found = moment(&file, Some(at + 1.0), true).unwrap();
        assert_eq!(found.decision.at_seconds, at);
        let recorded = found.decision.clone();
        assert_eq!(found.decide_again(&policy, Detail::Brief).unwrap(), *recorded, "{tick}");
    }
    let other = poolwright::policy::from_text("other.yaml", &POLICY.replace("80ms", "70ms")).unwrap();
    let refused = moment(folder.path(), None, true).unwrap().decide_again(&other, Detail::Brief).unwrap_err();
    assert!(refused.contains(&policy.fingerprint), "{refused}");
    let not_kept = moment(folder.path(), None, false).unwrap().decide_again(&policy, Detail::Brief);
    assert!(not_kept.unwrap_err().contains("state before"));
    let early = moment(folder.path(), Some(START), true).unwrap_err().to_string();
    assert!(early.contains("after the time asked for"), "{early}");
}

#[test]
fn a_line_that_a_crash_cut_short_is_left_out_and_a_broken_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy_in(folder.path(), POLICY);
    let (last, _) = journaled(folder.path(), &policy, 2, 5.0);
    let file = folder.path().join("journal.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{whole}{{\"kind\":\"ti")).unwrap();
    assert_eq!(*moment(&file, None, true).unwrap().decision, last);
    std::fs::write(&file, format!("{{\"kind\":\"ti\n\n{whole}")).unwrap();
    assert_eq!(*moment(&file, None, true).unwrap().decision, last);
    std::fs::write(&file, format!("{{\"kind\":\"ti\n{whole}")).unwrap();
    let error = moment(&file, None, true).unwrap_err().to_string();
    assert!(error.contains("journal.jsonl:1:"), "{error}");
    assert!(moment(&folder.path().join("none"), None, true).is_err());
    std::fs::write(&file, "").unwrap();
    assert!(moment(folder.path(), None, true).unwrap_err().to_string().contains("no decision"));
}
