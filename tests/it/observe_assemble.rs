//! The judgement over readings: what is used, what is doubted, what counts as zero.

use std::collections::{BTreeMap, BTreeSet};

use poolwright::observe::{
    Finding, FindingKind, Increments, Labels, Meta, Observation, PoolObservation, Quality, Reading, ReplicaEvidence,
    State, assemble,
};
use poolwright::policy::Policy;

use crate::observe_support::{MODEL, NOW, close, findings, kinds, policy, pool, seen};

fn labels(pod: &str) -> Labels {
    [("namespace", "inference"), ("pod", pod), ("instance", &format!("{pod}:8000")), ("model_name", MODEL)]
        .into_iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

/// A live instance that finished 60 requests in the last minute and received 90.
fn busy(pod: &str) -> Reading {
    Reading {
        labels: labels(pod),
        at_seconds: NOW - 5.0,
        ranks: BTreeSet::from(["0".to_owned()]),
        running: Some(4.0),
        waiting: Some(1.0),
        kv_usage: Some(0.5),
        kv_capacity_tokens: Some(16_000.0),
        increments: Some(Increments {
            span_seconds: 60.0,
            completions: 60.0,
            arrivals: Some(90.0),
            moved: true,
            ..Increments::default()
        }),
        ..Reading::default()
    }
}

fn idle(pod: &str) -> Reading {
    let still = Increments { span_seconds: 60.0, arrivals: Some(0.0), ..Increments::default() };
    Reading { running: Some(0.0), waiting: Some(0.0), kv_usage: Some(0.0), increments: Some(still), ..busy(pod) }
}

fn in_state(pod: &str, state: State) -> Reading {
    Reading { labels: labels(pod), state, at_seconds: NOW - 20.0, ..Reading::default() }
}

fn listed() -> Meta {
    Meta { listing_complete: true, ..Meta::default() }
}

fn look(readings: Vec<Reading>, meta: Meta) -> (Observation, PoolObservation) {
    let observation = assemble(&policy(vec![pool("a"), pool("b")]), readings, meta, NOW);
    let a = seen(&observation, "a").clone();
    (observation, a)
}

#[test]
fn instances_of_a_pool_add_up() {
    let (observation, a) = look(vec![busy("a-1"), busy("a-2"), busy("b-1")], listed());
    assert_eq!((a.ready.value, a.ready.quality, a.starting.value, a.silent), (Some(2), Quality::Fresh, Some(0), 0));
    close(a.arrival_rate.value, 3.0);
    close(a.completion_rate.value, 2.0);
    assert_eq!((a.running.value, a.waiting.value, a.kv_usage.value), (Some(8.0), Some(2.0), Some(0.5)));
    assert_eq!(a.kv_capacity_tokens.value, Some(16_000.0));
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.at_seconds), (Quality::Fresh, NOW - 5.0));
    assert_eq!(observation.findings, Vec::new());
}

#[test]
fn rest_is_believed_only_when_every_instance_was_watched_and_none_moved() {
    let (_, a) = look(vec![idle("a-1"), idle("a-2")], listed());
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.value), (Quality::ConfirmedIdle, Some(0.0)));
    assert_eq!((a.running.quality, a.quality()), (Quality::ConfirmedIdle, Quality::ConfirmedIdle));

    let mut short = idle("a-2");
    short.increments.as_mut().unwrap().span_seconds = 20.0;
    let (_, a) = look(vec![idle("a-1"), short], listed());
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.value), (Quality::Fresh, Some(0.0)));

    let (_, a) = look(vec![idle("a-1"), busy("a-2")], listed());
    assert_eq!(a.arrival_rate.quality, Quality::Fresh);

    let (_, a) = look(vec![idle("a-1"), in_state("a-2", State::Silent)], listed());
    assert_eq!((a.arrival_rate.quality, a.ready.quality), (Quality::Stale, Quality::Stale));
}

#[test]
fn one_silent_pod_makes_the_pool_partial_not_smaller() {
    let (observation, a) = look(vec![busy("a-1"), in_state("a-2", State::Silent)], listed());
    assert_eq!((a.silent, a.ready.value), (1, Some(1)));
    for quality in [a.arrival_rate.quality, a.running.quality, a.waiting.quality, a.kv_usage.quality, a.quality()] {
        assert_eq!(quality, Quality::Stale);
    }
    assert_eq!(findings(&observation, FindingKind::InstanceSilent)[0].subject, "inference/a-2");
    assert_eq!(seen(&observation, "b").ready.value, Some(0), "the other pool is not touched");
}

#[test]
fn all_silent_is_missing_and_never_zero() {
    let mut last = in_state("a-1", State::Silent);
    last.increments =
        Some(Increments { span_seconds: 60.0, completions: 6.0, arrivals: Some(6.0), ..Increments::default() });
    let (_, a) = look(vec![last], listed());
    assert_eq!((a.ready.value, a.running.value, a.silent), (None, None, 1));
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.value), (Quality::Stale, Some(0.1)));
}

#[test]
fn zero_needs_a_complete_list_or_the_clusters_word() {
    let (observation, a) = look(Vec::new(), listed());
    assert_eq!((a.ready.value, a.starting.value), (Some(0), Some(0)));
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.value), (Quality::ConfirmedIdle, Some(0.0)));
    assert_eq!(observation.findings, Vec::new());

    let (observation, a) = look(Vec::new(), Meta::default());
    assert_eq!((a.ready.value, a.arrival_rate.value, a.quality()), (None, None, Quality::Missing));
    assert_eq!(findings(&observation, FindingKind::NoSeries).len(), 2);

    let (_, a) = look(Vec::new(), Meta { partial: true, ..listed() });
    assert_eq!(a.ready.value, None);

    let evidence = |wanted, ready| {
        let e = ReplicaEvidence { wanted: Some(wanted), ready: Some(ready), at_seconds: NOW, watched: false };
        Meta { replicas: BTreeMap::from([(0, e)]), ..Meta::default() }
    };
    let (_, a) = look(Vec::new(), evidence(0, 0));
    assert_eq!((a.ready.value, a.starting.value, a.arrival_rate.quality), (Some(0), Some(0), Quality::ConfirmedIdle));
    let (_, a) = look(Vec::new(), evidence(3, 0));
    assert_eq!((a.ready.value, a.starting.value), (Some(0), Some(3)));
    let (observation, a) = look(Vec::new(), evidence(3, 3));
    assert_eq!((a.ready.value, a.silent, a.quality()), (None, 3, Quality::Missing));
    assert!(findings(&observation, FindingKind::NoSeries)[0].message.contains("3 ready replicas"));
    let (_, a) = look(vec![busy("a-1"), busy("a-2")], evidence(5, 2));
    assert_eq!((a.ready.value, a.starting.value, a.silent), (Some(2), Some(3), 0));
    let (_, a) = look(vec![busy("a-1"), busy("a-2")], evidence(3, 3));
    assert_eq!((a.silent, a.starting.value, a.arrival_rate.quality), (1, Some(0), Quality::Stale));
}

#[test]
fn listed_instances_that_never_answered_are_starting_but_prove_no_rest() {
    let (observation, a) = look(vec![in_state("a-1", State::Starting)], listed());
    assert_eq!((a.ready.value, a.starting.value, a.arrival_rate.value), (None, Some(1), None));
    assert_eq!(kinds(&observation), vec![FindingKind::NoSeries]);

    let from_zero = Meta { at_zero: BTreeSet::from(["inference/a".to_owned()]), ..listed() };
    let (_, a) = look(vec![in_state("a-1", State::Starting)], from_zero);
    assert_eq!((a.ready.value, a.starting.value), (Some(0), Some(1)));
    assert_eq!(a.arrival_rate.quality, Quality::ConfirmedIdle);

    let (_, a) = look(vec![busy("a-1"), in_state("a-2", State::Starting)], listed());
    assert_eq!((a.ready.value, a.starting.value, a.arrival_rate.quality), (Some(1), Some(1), Quality::Fresh));
}

#[test]
fn the_last_instances_load_is_not_lost_when_it_goes() {
    let mut gone = in_state("a-1", State::Gone);
    gone.increments = busy("a-1").increments;
    let (_, a) = look(vec![gone.clone()], listed());
    assert_eq!((a.ready.value, a.arrival_rate.quality, a.running.value), (Some(0), Quality::Fresh, Some(0.0)));
    close(a.arrival_rate.value, 1.5);
    let (_, a) = look(vec![gone, busy("a-2")], listed());
    assert_eq!(a.ready.value, Some(1));
    close(a.arrival_rate.value, 3.0);
}

#[test]
fn absurd_values_are_refused_by_name_and_never_used() {
    for (value, word) in [
        (7.3, "kv use of inference/a-1 looks like percent"),
        (-0.2, "negative"),
        (f64::NAN, "NaN"),
        (1e308, "outside"),
        (f64::INFINITY, "inf"),
    ] {
        let bad = Reading { kv_usage: Some(value), ..busy("a-1") };
        let (observation, a) = look(vec![bad.clone()], listed());
        assert_eq!((a.kv_usage.value, a.kv_usage.quality), (None, Quality::Missing), "{value}");
        assert_eq!(a.running.quality, Quality::Fresh);
        let found = findings(&observation, FindingKind::Implausible);
        assert!(found[0].message.contains(word) && found[0].subject.starts_with("inference/a-1"), "{found:?}");
        let (_, a) = look(vec![bad, busy("a-2")], listed());
        assert_eq!((a.kv_usage.value, a.kv_usage.quality), (Some(0.5), Quality::Stale), "part of the pool");
    }
    for value in [-3.0, f64::NAN, 1e308] {
        let bad = Reading { running: Some(value), waiting: Some(value), ..busy("a-1") };
        let (observation, a) = look(vec![bad], listed());
        assert_eq!((a.running.value, a.waiting.value), (None, None));
        assert_eq!(findings(&observation, FindingKind::Implausible).len(), 2);
    }
    let mut absurd = busy("a-1");
    absurd.increments = Some(Increments { absurd: true, ..absurd.increments.unwrap() });
    let (observation, a) = look(vec![absurd], listed());
    assert_eq!((a.arrival_rate.value, a.completion_rate.value), (None, None));
    assert_eq!(kinds(&observation), vec![FindingKind::Implausible]);
}

#[test]
fn old_samples_and_foreign_clocks_are_stale() {
    let aged = |age: f64| Reading { at_seconds: NOW - age, ..busy("a-1") };
    let (observation, a) = look(vec![aged(61.0), busy("a-2")], listed());
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.at_seconds), (Quality::Stale, NOW - 61.0));
    assert_eq!(observation.findings, Vec::new(), "late is not skewed");

    let (observation, a) = look(vec![aged(-30.0)], listed());
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.at_seconds), (Quality::Fresh, NOW - 30.0));
    assert!(findings(&observation, FindingKind::ClockSkew)[0].message.contains("30 s ahead of"));
    for age in [-90.0, 3600.0, f64::NAN] {
        let (observation, a) = look(vec![aged(age)], listed());
        assert_eq!(a.arrival_rate.quality, Quality::Stale);
        assert_eq!(kinds(&observation), vec![FindingKind::ClockSkew], "{age}");
    }
}

#[test]
fn series_of_no_pool_or_of_two_are_named_and_not_counted() {
    let stranger = Reading { labels: labels("c-1"), ..busy("c-1") };
    let (observation, a) = look(vec![stranger], listed());
    assert_eq!(findings(&observation, FindingKind::UnmatchedSeries)[0].subject, "inference/c-1");
    assert_eq!(a.ready.value, None, "it might be this pool's, so that nothing is proven");

    let mut other_model = busy("a-1");
    other_model.labels.insert("model_name".into(), "another".into());
    let (observation, a) = look(vec![other_model], listed());
    assert!(findings(&observation, FindingKind::UnmatchedSeries)[0].message.contains("`another`"));
    assert_eq!(a.ready.value, Some(0));

    let mut greedy = pool("b");
    greedy.selector.conditions.clear();
    let observation = assemble(&policy(vec![pool("a"), greedy]), vec![busy("a-1")], listed(), NOW);
    let found = findings(&observation, FindingKind::AmbiguousSeries);
    assert!(found[0].message.contains("inference/a and inference/b"), "{found:?}");
    assert!(observation.pools.iter().all(|p| p.ready.value.is_none() && p.quality() == Quality::Missing));
}

#[test]
fn one_server_measured_twice_counts_once() {
    let mut twice = busy("a-1");
    twice.labels.insert("job".into(), "again".into());
    twice.at_seconds = NOW - 40.0;
    let (observation, a) = look(vec![twice.clone(), busy("a-1")], listed());
    assert_eq!((a.ready.value, a.running.value, a.running.at_seconds), (Some(1), Some(4.0), NOW - 5.0));
    assert_eq!(findings(&observation, FindingKind::DuplicateSeries)[0].subject, "inference/a-1");

    let mut same_address = busy("a-2");
    same_address.labels.insert("instance".into(), "a-1:8000".into());
    let (observation, a) = look(vec![busy("a-1"), same_address], listed());
    assert_eq!((a.ready.value, findings(&observation, FindingKind::DuplicateSeries).len()), (Some(1), 1));
}

#[test]
fn ranks_on_two_ports_of_one_pod_are_one_replica() {
    let mut rank = busy("a-1");
    rank.labels.insert("instance".into(), "a-1:8001".into());
    rank.ranks = BTreeSet::from(["1".to_owned()]);
    let (observation, a) = look(vec![busy("a-1"), rank], listed());
    assert_eq!((a.ready.value, a.running.value, a.kv_capacity_tokens.value), (Some(1), Some(8.0), Some(32_000.0)));
    assert_eq!(observation.findings, Vec::new());
}

#[test]
fn a_failed_source_knows_nothing_and_says_why() {
    let meta = Meta { source_error: Some("unreachable".into()), ..listed() };
    let (observation, a) = look(vec![busy("a-1")], meta);
    assert_eq!((a.quality(), a.ready.value), (Quality::Missing, None));
    assert_eq!(observation.source_error.as_deref(), Some("unreachable"));
    assert_eq!(kinds(&observation), vec![FindingKind::SourceFailed]);
}

#[test]
fn findings_of_one_kind_are_limited() {
    let readings = (0..300).map(|i| busy(&format!("stranger-{i}"))).collect();
    let (observation, _) = look(readings, listed());
    let found: Vec<&Finding> = findings(&observation, FindingKind::UnmatchedSeries);
    assert_eq!(found.len(), 21);
    assert!(found[20].message.contains("280 more"));
}

#[test]
fn queues_that_shrink_faster_than_requests_finish_are_no_negative_load() {
    let mut reading = busy("a-1");
    reading.increments.as_mut().unwrap().arrivals = Some(-12.0);
    let (_, a) = look(vec![reading], listed());
    assert_eq!((a.arrival_rate.value, a.arrival_rate.quality), (Some(0.0), Quality::Fresh));
}

#[test]
fn the_same_readings_in_another_order_are_the_same_observation() {
    let readings = vec![busy("a-1"), idle("a-2"), in_state("a-3", State::Silent), busy("b-1"), busy("x-1")];
    let policy: &Policy = &policy(vec![pool("a"), pool("b")]);
    let forward = assemble(policy, readings.clone(), listed(), NOW);
    let backward = assemble(policy, readings.into_iter().rev().collect(), listed(), NOW);
    assert_eq!(serde_json::to_string(&forward).unwrap(), serde_json::to_string(&backward).unwrap());
}
