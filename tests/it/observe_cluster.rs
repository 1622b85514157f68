//! The cluster's state as it is judged, and what the planner makes of it: surge, starting, leaving, zero, doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::core::DynamicObject;
use poolwright::control::{State as Memory, decide};
use poolwright::observe::cluster::{ClusterSnapshot, ClusterState, Fact, Resource, Shelf, WatchKey};
use poolwright::observe::{
    FindingKind, Increments, Meta, Observation, PoolObservation, Quality, Reading, Signal, State, assemble,
};
use poolwright::policy::{MetricsPort, Policy, Pool, ScaleTarget};
use serde_json::{Value, json};

use crate::decide::{START, policy as whole_policy};
use crate::observe_support::{MODEL, NOW, findings, policy, pool, seen};

pub const PODS: &str = "/api/v1/namespaces/inference/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/inference/deployments";
pub const HPAS: &str = "/apis/autoscaling/v2/namespaces/inference/horizontalpodautoscalers";

/// A Deployment with the labels `app=<name>`.
pub fn deployment(name: &str, replicas: u32, ready: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "inference"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {"replicas": ready, "readyReplicas": ready}})
}

/// A pod of the Deployment `app`; its ReplicaSet's hash is in its name.
pub fn pod(name: &str, app: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    let hash = name.split('-').nth(1).unwrap_or("x");
    let owners = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-{hash}"), "uid": "u",
        "controller": true}]);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "inference", "labels": {"app": app}, "ownerReferences": owners},
        "spec": {"containers": [{"name": "server", "ports": [{"name": "http", "containerPort": 8081}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": ready}]}})
}

fn terminating(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    pod
}

/// A snapshot of the pools' lists, read at `NOW`.
pub fn snapshot(policy: &Policy, objects: &[(Resource, Value)]) -> ClusterSnapshot {
    let mut lists: BTreeMap<WatchKey, BTreeMap<String, Arc<Fact>>> =
        WatchKey::all(policy).into_iter().map(|key| (key, BTreeMap::new())).collect();
    for (resource, object) in objects {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let key = WatchKey { namespace: "inference".into(), resource: resource.clone() };
        let fact = Fact::read(resource, &object);
        lists.entry(key).or_default().insert(object.metadata.name.clone().unwrap(), Arc::new(fact));
    }
    let shelves = lists.into_iter().map(|(key, objects)| (key, Shelf::of(objects, NOW))).collect();
    ClusterSnapshot { shelves, server_minor: Some(35) }
}

/// Deployment `a` that wants `wanted`, and its pods.
fn cluster(policy: &Policy, wanted: u32, pods: &[Value]) -> ClusterState {
    let mut objects = vec![(Resource::Deployments, deployment("a", wanted, 0))];
    objects.extend(pods.iter().map(|pod| (Resource::Pods, pod.clone())));
    snapshot(policy, &objects).judge(policy, NOW)
}

fn reading(pod: &str, state: State) -> Reading {
    let labels = [("namespace", "inference"), ("pod", pod), ("model_name", MODEL)];
    let increments = Increments {
        span_seconds: 60.0,
        completions: 60.0,
        arrivals: Some(60.0),
        moved: true,
        ..Increments::default()
    };
    Reading {
        labels: labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        state,
        at_seconds: NOW - 5.0,
        running: Some(2.0),
        waiting: Some(0.0),
        kv_usage: Some(0.5),
        increments: (state != State::Starting).then_some(increments),
        ..Reading::default()
    }
}

fn name(n: u32) -> String {
    format!("a-7c9d8-{}zzzz", char::from(b'a' + u8::try_from(n).unwrap()))
}

/// Pods number `from..to`.
fn pods(from: u32, to: u32, ready: bool) -> Vec<Value> {
    (from..to).map(|n| pod(&name(n), "a", ready)).collect()
}

fn live(from: u32, to: u32) -> Vec<Reading> {
    (from..to).map(|n| reading(&name(n), State::Live)).collect()
}

fn one_pool() -> Arc<Policy> {
    policy(vec![pool("a")])
}

fn look(policy: &Policy, state: ClusterState, readings: Vec<Reading>) -> (Observation, PoolObservation) {
    let observation = assemble(policy, readings, Meta { cluster: Some(state), ..Meta::default() }, NOW);
    let a = seen(&observation, "a").clone();
    (observation, a)
}

fn numbers(a: &PoolObservation) -> (Option<u32>, Option<u32>, u32, Quality) {
    (a.ready.value, a.starting.value, a.silent, a.ready.quality)
}

#[test]
fn surge_of_a_rolling_update_is_no_capacity() {
    let policy = one_pool();
    // Ten are wanted, twelve answer, a thirteenth starts.
    let all: Vec<Value> = [pods(0, 12, true), pods(12, 13, false)].concat();
    let (_, a) = look(&policy, cluster(&policy, 10, &all), live(0, 12));
    assert_eq!(numbers(&a), (Some(10), Some(0), 0, Quality::Fresh));
    let report = a.cluster.unwrap();
    assert_eq!((report.wanted, report.ready, report.starting), (Some(10), Some(12), Some(1)));
    // Thirteen are ready, of which three are not measured: ten answer, and a part of the load is unseen.
    let (_, a) = look(&policy, cluster(&policy, 10, &pods(0, 13, true)), live(0, 10));
    assert_eq!(a.arrival_rate.quality, Quality::Stale);
    // Eight are ready, three start: ten are wanted, not eleven.
    let all = [pods(0, 8, true), pods(8, 11, false)].concat();
    let (_, a) = look(&policy, cluster(&policy, 10, &all), live(0, 8));
    assert_eq!(numbers(&a), (Some(8), Some(2), 0, Quality::Fresh));
}

#[test]
fn starting_replicas_are_counted_once_whoever_tells_of_them() {
    let policy = one_pool();
    let all = [pods(0, 2, true), pods(2, 4, false)].concat();
    // Two of five are ready, two pods start (one is listed, one answers already), one is not created yet.
    let mut readings = live(0, 3);
    readings.push(reading(&name(3), State::Starting));
    let (_, a) = look(&policy, cluster(&policy, 5, &all), readings);
    assert_eq!(numbers(&a), (Some(2), Some(3), 0, Quality::Fresh));
}

#[test]
fn pods_that_go_are_no_capacity_and_their_silence_is_no_loss() {
    let policy = one_pool();
    let mut all = pods(0, 3, true);
    all[2] = terminating(all[2].clone());
    let (_, a) = look(&policy, cluster(&policy, 2, &all), live(0, 3));
    assert_eq!(numbers(&a), (Some(2), Some(0), 0, Quality::Fresh));
    assert_eq!(a.arrival_rate.value, Some(3.0), "what it was asked for is still demand");
    let mut readings = live(0, 2);
    readings.push(reading(&name(2), State::Silent));
    let (observation, a) = look(&policy, cluster(&policy, 2, &all), readings.clone());
    assert_eq!(numbers(&a), (Some(2), Some(0), 0, Quality::Fresh));
    assert_eq!(findings(&observation, FindingKind::InstanceSilent).len(), 0);
    // A pod that is not there any more is gone, too.
    let (_, a) = look(&policy, cluster(&policy, 2, &all[..2]), readings.clone());
    assert_eq!(numbers(&a), (Some(2), Some(0), 0, Quality::Fresh));
    // One that is there and silent is a part of the pool that is not known.
    let (_, a) = look(&policy, cluster(&policy, 3, &pods(0, 3, true)), readings.clone());
    assert_eq!(numbers(&a), (Some(2), Some(0), 1, Quality::Stale));
    // Without readiness it is starting again, counted once, and its load is still not known.
    let all = [pods(0, 2, true), pods(2, 3, false)].concat();
    let (_, a) = look(&policy, cluster(&policy, 3, &all), readings);
    assert_eq!(numbers(&a), (Some(2), Some(1), 0, Quality::Stale));
}

/// A Prometheus that was killed wrote no end of its series, and repeats their last samples for minutes.
#[test]
fn what_an_old_sample_says_of_a_pod_that_went_makes_nothing_stale() {
    let policy = one_pool();
    let ghost = |age: f64| Reading {
        at_seconds: NOW - age,
        increments: None,
        waiting: Some(9.0),
        ..reading(&name(2), State::Live)
    };
    let mut all = pods(0, 3, true);
    all[2] = terminating(all[2].clone());
    let seen = |pods: &[Value], ghost: Reading| {
        let readings = live(0, 2).into_iter().chain([ghost]).collect();
        look(&policy, cluster(&policy, 2, pods), readings).1
    };
    let old = 2.0 * policy.planner.stale_after_seconds;
    let gone = seen(&all, ghost(old));
    assert_eq!((gone.arrival_rate.quality, gone.arrival_rate.value), (Quality::Fresh, Some(2.0)));
    assert_eq!(gone.waiting.value, Some(0.0), "nobody waits there any more");
    assert_eq!(seen(&all, ghost(5.0)).arrival_rate.quality, Quality::Stale, "it answers, and its load is not known");
    let stays = seen(&pods(0, 3, true), ghost(old));
    assert_eq!(stays.arrival_rate.quality, Quality::Stale, "a pod that stays is not excused");
}

#[test]
fn a_name_that_is_no_pods_name_is_never_taken_for_gone() {
    let policy = one_pool();
    let mut silent = reading("10.0.0.9:8000", State::Silent);
    silent.pool = Some(0);
    let (_, a) = look(&policy, cluster(&policy, 2, &pods(0, 1, true)), [live(0, 1), vec![silent]].concat());
    assert_eq!(a.ready.quality, Quality::Stale);
}

#[test]
fn the_clusters_word_confirms_zero_and_nothing_less_does() {
    let policy = one_pool();
    let (_, a) = look(&policy, cluster(&policy, 0, &[]), vec![]);
    assert_eq!((numbers(&a), a.arrival_rate.quality), ((Some(0), Some(0), 0, Quality::Fresh), Quality::ConfirmedIdle));
    let (_, a) = look(&policy, cluster(&policy, 2, &[]), vec![]);
    assert_eq!(numbers(&a), (Some(0), Some(2), 0, Quality::Fresh), "wanted, not there yet");
    // Ready in the cluster, no series: known to run, not known to be idle.
    let (observation, a) = look(&policy, cluster(&policy, 2, &pods(0, 2, true)), vec![]);
    assert_eq!(numbers(&a), (Some(0), Some(0), 2, Quality::Stale));
    assert_eq!(findings(&observation, FindingKind::NoSeries).len(), 1);

    let listed = |state| Meta { cluster: Some(state), listing_complete: true, ..Meta::default() };
    for unknown in [ClusterState::default(), ClusterSnapshot::default().judge(&policy, NOW)] {
        let observation = assemble(&policy, vec![], listed(unknown), NOW);
        assert_eq!(seen(&observation, "a").ready.value, None, "a cluster that says nothing confirms nothing");
    }
}

#[test]
fn what_is_not_known_now_holds_the_pool() {
    let policy = one_pool();
    let stale = snapshot(&policy, &[(Resource::Deployments, deployment("a", 2, 2))]).judge(&policy, NOW + 61.0);
    let missing = snapshot(&policy, &[]).judge(&policy, NOW);
    assert_eq!(missing.findings[0].kind, FindingKind::TargetMissing);
    for state in [stale, missing, ClusterSnapshot::default().judge(&policy, NOW)] {
        let (_, a) = look(&policy, state, live(0, 2));
        assert_eq!(numbers(&a), (Some(2), Some(0), 0, Quality::Stale));
    }
}

/// The pods decide whose a series is, not their names; the operator's own conditions are not overruled.
#[test]
fn series_belong_to_the_pool_whose_pod_prints_them() {
    let a = Pool { target: ScaleTarget { name: "odd".into(), ..pool("a").target }, ..pool("a") };
    let given = |pool: Pool| {
        let mut pool = pool;
        pool.selector.derived = false;
        pool
    };
    let objects = [
        (Resource::Deployments, deployment("odd", 1, 1)),
        (Resource::Deployments, deployment("b", 1, 1)),
        (Resource::Pods, pod("nobody-7c9d8-guess", "odd", true)),
        // Named like a pod of pool `a`, and one of somebody else.
        (Resource::Pods, pod("a-7c9d8-xxxxx", "other", true)),
    ];
    let readings = || vec![reading("nobody-7c9d8-guess", State::Live), reading("a-7c9d8-xxxxx", State::Live)];
    let fleet = policy(vec![a.clone(), pool("b")]);
    let state = snapshot(&fleet, &objects).judge(&fleet, NOW);
    let (observation, seen_a) = look(&fleet, state, readings());
    assert_eq!(seen_a.ready.value, Some(1));
    let strangers = findings(&observation, FindingKind::UnmatchedSeries);
    assert_eq!((strangers.len(), strangers[0].subject.as_str()), (1, "inference/a-7c9d8-xxxxx"));

    let fleet = policy(vec![given(a), pool("b")]);
    let state = snapshot(&fleet, &objects).judge(&fleet, NOW);
    let (observation, _) = look(&fleet, state, readings());
    let strangers = findings(&observation, FindingKind::UnmatchedSeries);
    assert_eq!(strangers[0].subject, "inference/nobody-7c9d8-guess", "the operator's condition on `pod` decides");
}

#[test]
fn a_page_is_where_the_policy_the_annotation_or_the_engine_says() {
    let mut annotated = pod("a-7c9d8-aaaaa", "a", true);
    annotated["metadata"]["annotations"] = json!({"prometheus.io/port": "9001"});
    let mut v6 = pod("a-7c9d8-bbbbb", "a", false);
    v6["status"]["podIP"] = json!("fd00::7");
    let mut unborn = pod("a-7c9d8-ccccc", "a", false);
    unborn["status"]["podIP"] = Value::Null;
    let all = [annotated, v6, unborn, terminating(pod("a-7c9d8-ddddd", "a", true))];
    let pages = |port: Option<MetricsPort>| {
        let policy = policy(vec![Pool { metrics_port: port, ..pool("a") }]);
        let state = cluster(&policy, 3, &all);
        (state.pools[0].pages.iter().map(|p| p.address.clone()).collect::<Vec<_>>(), state.findings)
    };
    assert_eq!(pages(None).0, ["10.0.0.7:9001", "[fd00::7]:8000"]);
    assert_eq!(pages(Some(MetricsPort::Number(7))).0, ["10.0.0.7:7", "[fd00::7]:7"]);
    assert_eq!(pages(Some(MetricsPort::Name("http".into()))).0, ["10.0.0.7:8081", "[fd00::7]:8081"]);
    let (none, said) = pages(Some(MetricsPort::Name("metrics".into())));
    assert!(none.is_empty() && said.iter().any(|f| f.message.contains("no container port named `metrics`")));
}

#[test]
fn pods_that_no_node_takes_are_told_after_a_while() {
    let policy = one_pool();
    let mut stuck = pod("a-7c9d8-aaaaa", "a", false);
    let refused = |since: &str| {
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: insufficient nvidia.com/gpu", "lastTransitionTime": since}])
    };
    stuck["status"]["conditions"] = refused("2027-01-15T07:50:00Z");
    let state = cluster(&policy, 1, &[stuck.clone()]);
    assert_eq!(state.pools[0].report.unschedulable, Some(1));
    let told = state.findings.iter().find(|f| f.kind == FindingKind::Unschedulable).unwrap();
    assert!(told.message.contains("insufficient nvidia.com/gpu"), "{}", told.message);
    stuck["status"]["conditions"] = refused("2027-01-15T07:59:30Z");
    assert!(cluster(&policy, 1, &[stuck]).findings.iter().all(|f| f.kind != FindingKind::Unschedulable));
}

/// A replica of a LeaderWorkerSet is a group: the object counts them, leaders are read.
#[test]
fn groups_are_counted_as_groups() {
    let api_version = "leaderworkerset.x-k8s.io/v1".to_owned();
    let target = ScaleTarget { api_version: api_version.clone(), kind: "LeaderWorkerSet".into(), name: "a".into() };
    let policy = policy(vec![Pool { target, ..pool("a") }]);
    let member = |name: &str, worker: &str| {
        let mut pod = pod(name, "a", true);
        pod["metadata"]["labels"] = json!({"leaderworkerset.sigs.k8s.io/name": "a",
            "leaderworkerset.sigs.k8s.io/worker-index": worker});
        pod
    };
    let set =
        json!({"metadata": {"name": "a"}, "spec": {"replicas": 2}, "status": {"replicas": 2, "readyReplicas": 1}});
    let mut objects = vec![(Resource::LeaderWorkerSets { api_version }, set)];
    for (name, worker) in [("a-0", "0"), ("a-0-1", "1"), ("a-1", "0"), ("a-1-1", "1")] {
        objects.push((Resource::Pods, member(name, worker)));
    }
    let state = snapshot(&policy, &objects).judge(&policy, NOW);
    let evidence = state.pools[0].evidence.unwrap();
    assert_eq!((evidence.wanted, evidence.ready), (Some(2), Some(1)), "four pods are two replicas, one is ready");
    let leaders: BTreeSet<&str> = state.pools[0].pages.iter().map(|p| p.pod.as_str()).collect();
    assert_eq!(leaders, ["a-0", "a-1"].into());
}

/// A rolling update at constant load moves no number, at any moment of it and also right after a start.
#[test]
fn a_rolling_update_neither_shrinks_nor_inflates() {
    let fleet = one_pool();
    let plan = whole_policy();
    let mut memory = Memory::default();
    let decide_on = |observed: PoolObservation, at: f64, memory: Memory| {
        let lengths = |mean: f64| poolwright::observe::Histogram {
            upper: vec![mean, f64::MAX],
            cumulative: vec![300.0, 600.0],
            sum: mean * 600.0,
            count: 600.0,
        };
        let busy = PoolObservation {
            pool: "prod/llama-a100".into(),
            ready: Signal { at_seconds: at, ..observed.ready },
            starting: Signal { at_seconds: at, ..observed.starting },
            arrival_rate: Signal::fresh(10.0, at),
            input_tokens: Signal::fresh(lengths(800.0), at),
            output_tokens: Signal::fresh(lengths(200.0), at),
            ..observed
        };
        let zero = PoolObservation {
            pool: "prod/llama-h100".into(),
            ready: Signal::fresh(0, at),
            starting: Signal::fresh(0, at),
            arrival_rate: Signal::idle(0.0, at),
            ..PoolObservation::default()
        };
        let observation = Observation { at_seconds: at, source_error: None, pools: vec![busy, zero], findings: vec![] };
        let (decision, memory) = decide(&plan, &observation, memory, at);
        (decision.pools[0].desired.unwrap(), memory)
    };
    // At the first look ten are wanted and thirteen answer.
    let surge = look(&fleet, cluster(&fleet, 10, &pods(0, 13, true)), live(0, 13)).1;
    let (first, _) = decide_on(surge, START, Memory::default());
    assert_eq!(first, 10, "what is wanted is the base, not the surge");

    let calm = look(&fleet, cluster(&fleet, 10, &pods(0, 10, true)), live(0, 10)).1;
    let (steady, next) = decide_on(calm.clone(), START, memory);
    memory = next;
    for step in 0..10 {
        // Old pods 0..10 go one by one, new ones 10.. come, up to three above what is wanted.
        let mut all = [pods(step, 10, true), pods(10, 10 + step, true), pods(10 + step, 13 + step, false)].concat();
        all.extend((0..step).map(|n| terminating(pod(&name(n), "a", true))));
        let (_, seen) = look(&fleet, cluster(&fleet, 10, &all), live(0, 10 + step));
        assert_eq!(seen.ready.value.unwrap() + seen.starting.value.unwrap() + seen.silent, 10);
        let (said, next) = decide_on(seen, START + 15.0 * f64::from(step + 1), memory);
        assert_eq!(said, steady, "step {step}");
        memory = next;
    }
}
