//! The watches against a kube-apiserver: what appears, changes and goes, what fails, what is mended.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use poolwright::observe::FindingKind;
use poolwright::observe::cluster::{ClusterSnapshot, ClusterState, ClusterView, ClusterWatch};
use poolwright::observe::{ScrapeOptions, ScrapeSource, Source};
use poolwright::policy::{MetricsPort, Policy, Pool, ScaleTarget};
use serde_json::{Value, json};

use crate::fake_kube::FakeKube;
use crate::observe_cluster::{DEPLOYMENTS, HPAS, PODS, deployment, pod};
use crate::observe_support::{NOW, policy, pool, seen};

const LIMIT: Duration = Duration::from_secs(60);

/// Wait until the state at `at` is as it should be.
async fn until(
    watch: &ClusterWatch,
    policy: &Policy,
    at: f64,
    what: &str,
    is: impl Fn(&ClusterState) -> bool,
) -> ClusterState {
    let mut changes = watch.changes();
    let wait = async {
        loop {
            let state = watch.state(policy, at);
            if is(&state) {
                return state;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}: {:#?}", watch.state(policy, at)))
}

fn counts(state: &ClusterState, pool: usize) -> (Option<u32>, Option<u32>) {
    let evidence = state.pools[pool].evidence;
    (evidence.and_then(|e| e.wanted), evidence.and_then(|e| e.ready))
}

fn has(state: &ClusterState, kind: FindingKind) -> bool {
    state.findings.iter().any(|f| f.kind == kind)
}

async fn watched(fake: &FakeKube, policy: &Policy) -> ClusterWatch {
    let watch = ClusterWatch::start(fake.client(), policy);
    assert!(watch.settled(LIMIT).await);
    watch
}

#[tokio::test]
async fn what_appears_changes_and_goes_is_seen() {
    let fake = FakeKube::start().await;
    let policy = policy(vec![pool("a")]);
    let watch = ClusterWatch::start(fake.client(), &policy);
    let early = watch.state(&policy, NOW);
    assert_eq!(early.pools[0].evidence, None, "nothing is known before the lists are read");
    assert!(watch.settled(LIMIT).await);
    let empty = watch.state(&policy, NOW);
    assert!(has(&empty, FindingKind::TargetMissing) && empty.pools[0].evidence.is_none());

    fake.put(DEPLOYMENTS, deployment("a", 2, 0));
    until(&watch, &policy, NOW, "appears", |s| counts(s, 0) == (Some(2), Some(0))).await;
    fake.put(PODS, pod("a-7c9d8-aaaaa", "a", true));
    fake.put(PODS, pod("a-7c9d8-bbbbb", "a", false));
    let state = until(&watch, &policy, NOW, "pods", |s| s.pools[0].pages.len() == 2).await;
    assert_eq!(counts(&state, 0), (Some(2), Some(1)));
    fake.put(PODS, pod("a-7c9d8-bbbbb", "a", true));
    until(&watch, &policy, NOW, "ready", |s| counts(s, 0) == (Some(2), Some(2))).await;
    fake.put(DEPLOYMENTS, deployment("a", 1, 2));
    fake.remove(PODS, "a-7c9d8-bbbbb");
    until(&watch, &policy, NOW, "shrinks", |s| counts(s, 0) == (Some(1), Some(1))).await;
    fake.remove(DEPLOYMENTS, "a");
    until(&watch, &policy, NOW, "goes", |s| has(s, FindingKind::TargetMissing)).await;
}

#[tokio::test]
async fn a_list_that_may_not_be_read_holds_the_pool_and_says_what_to_grant() {
    let fake = FakeKube::start().await;
    fake.put(DEPLOYMENTS, deployment("a", 2, 2));
    fake.fail(DEPLOYMENTS, Some(StatusCode::FORBIDDEN));
    let policy = policy(vec![pool("a")]);
    let watch = watched(&fake, &policy).await;
    let state = watch.state(&policy, NOW);
    assert_eq!(state.pools[0].evidence, None);
    let finding = state.findings.iter().find(|f| f.kind == FindingKind::ClusterUnreadable).unwrap();
    assert_eq!(finding.subject, "deployments in inference");
    assert!(finding.message.contains("get, list and watch on deployments"), "{}", finding.message);
    fake.fail(DEPLOYMENTS, None);
    let mended = until(&watch, &policy, NOW, "mended", |s| counts(s, 0).0 == Some(2)).await;
    assert!(!has(&mended, FindingKind::ClusterUnreadable));
}

/// What was known counts until it is too old, then it is no evidence; a watch that is back reads everything anew.
#[tokio::test]
async fn a_watch_that_is_cut_goes_stale_and_comes_back() {
    let fake = FakeKube::start().await;
    fake.put(DEPLOYMENTS, deployment("a", 2, 2));
    let policy = policy(vec![pool("a")]);
    let watch = watched(&fake, &policy).await;
    assert_eq!(watch.state(&policy, NOW).pools[0].evidence.unwrap().at_seconds, NOW);

    fake.cut_watches();
    fake.put(DEPLOYMENTS, deployment("a", 3, 2));
    until(&watch, &policy, NOW + 10.0, "resumed", |s| counts(s, 0).0 == Some(3)).await;

    fake.fail("/apis/apps", Some(StatusCode::SERVICE_UNAVAILABLE));
    fake.cut_watches();
    until(&watch, &policy, NOW + 20.0, "noticed", |s| has(s, FindingKind::ClusterUnreadable)).await;
    let good = watch.snapshot(NOW + 30.0).judge(&policy, NOW + 30.0).pools[0].evidence.unwrap();
    assert_eq!(good.wanted, Some(3), "what was known still counts");
    assert!(good.at_seconds <= NOW + 20.0, "and ages");
    assert_eq!(watch.state(&policy, NOW + 90.0).pools[0].evidence, None, "too old: no evidence");

    fake.put(DEPLOYMENTS, deployment("a", 4, 2));
    fake.fail("/apis/apps", None);
    let back = until(&watch, &policy, NOW + 100.0, "back", |s| counts(s, 0).0 == Some(4)).await;
    assert!(!has(&back, FindingKind::ClusterUnreadable));
}

#[tokio::test]
async fn a_reloaded_policy_moves_the_watches() {
    let fake = FakeKube::start().await;
    fake.put(DEPLOYMENTS, deployment("a", 2, 2));
    fake.put("/apis/apps/v1/namespaces/other/statefulsets", {
        let mut set = deployment("b", 5, 5);
        set["kind"] = json!("StatefulSet");
        set
    });
    let before = policy(vec![pool("a")]);
    let target = ScaleTarget { kind: "StatefulSet".into(), ..pool("b").target };
    let after = policy(vec![Pool { namespace: "other".into(), target, ..pool("b") }]);
    let watch = watched(&fake, &before).await;
    assert_eq!(counts(&watch.state(&before, NOW), 0).0, Some(2));
    let state = until(&watch, &after, NOW, "moved", |s| counts(s, 0).0 == Some(5)).await;
    assert!(!state.pods.contains_key("inference"));
    let asked = fake.calls(DEPLOYMENTS).len();
    fake.put(DEPLOYMENTS, deployment("a", 9, 2));
    fake.put("/api/v1/namespaces/other/pods", pod("b-0", "b", true));
    until(&watch, &after, NOW, "follows the new", |s| s.pods.get("other").is_some_and(|p| p.contains_key("b-0"))).await;
    assert_eq!(fake.calls(DEPLOYMENTS).len(), asked, "the old is not asked any more");
}

/// Kinds that are not built in: found by discovery, counted through the scale sub-resource, read when they change.
#[tokio::test]
async fn any_object_with_a_scale_is_a_target() {
    let fake = FakeKube::start().await;
    let group = |name: &str, resource: Value| {
        json!({"kind": "APIResourceList", "metadata": {"name": name},
        "groupVersion": format!("argoproj.io/{name}"), "resources": [resource]})
    };
    let rollouts = json!({"name": "rollouts", "singularName": "rollout", "namespaced": true, "kind": "Rollout",
        "verbs": ["get", "list", "watch"]});
    let collection = "/apis/argoproj.io/v1alpha1/namespaces/inference/rollouts";
    let object = |n: u32| {
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "a", "namespace": "inference"}, "spec": {"replicas": n}, "status": {"replicas": n}})
    };
    let scale = |n: u32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "scale"},
        "spec": {"replicas": n}, "status": {"replicas": n, "selector": "app=a"}})
    };
    let scales = format!("{collection}/a");
    fake.put(&scales, scale(3));
    fake.put(collection, object(3));
    fake.put(PODS, pod("whatever-1", "a", true));
    let target = ScaleTarget { api_version: "argoproj.io/v1alpha1".into(), kind: "Rollout".into(), name: "a".into() };
    let policy = policy(vec![Pool { target, ..pool("a") }]);
    let watch = watched(&fake, &policy).await;
    let state = watch.state(&policy, NOW);
    assert!(state.findings.iter().any(|f| f.message.contains("no Rollout in argoproj.io/v1alpha1")), "{state:?}");

    fake.put("/apis/argoproj.io", group("v1alpha1", rollouts));
    let state = until(&watch, &policy, NOW, "found", |s| counts(s, 0) == (Some(3), Some(1))).await;
    assert_eq!(state.pods["inference"]["whatever-1"].pools, [0].into());
    fake.put(&scales, scale(5));
    fake.put(collection, object(5));
    until(&watch, &policy, NOW, "changed", |s| counts(s, 0).0 == Some(5)).await;
    let asked = fake.calls(&format!("{collection}/a/scale")).len();
    let mut labelled = object(5);
    labelled["metadata"]["labels"] = json!({"x": "y"});
    fake.put(collection, labelled);
    fake.put(PODS, pod("whatever-2", "a", true));
    until(&watch, &policy, NOW, "still there", |s| counts(s, 0).1 == Some(2)).await;
    assert_eq!(fake.calls(&format!("{collection}/a/scale")).len(), asked, "a label is no change of its scale");
}

#[tokio::test]
async fn one_look_says_what_the_watch_says() {
    let fake = FakeKube::start().await;
    fake.put(
        "",
        json!({"metadata": {"name": "version"}, "major": "1", "minor": "32+", "gitVersion": "v1.32.1",
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
    );
    fake.put(DEPLOYMENTS, deployment("a", 2, 2));
    fake.put(PODS, pod("a-7c9d8-aaaaa", "a", true));
    fake.put(
        HPAS,
        json!({"metadata": {"name": "a", "namespace": "inference"}, "spec": {"maxReplicas": 10,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}}),
    );
    let policy = policy(vec![pool("a"), Pool { min: 1, ..pool("b") }]);
    let once = ClusterSnapshot::read_once(&fake.client(), &policy, NOW).await;
    assert_eq!(once.server_minor, Some(32));
    let watch = watched(&fake, &policy).await;
    let state = until(&watch, &policy, NOW, "the version", |s| *s == once.judge(&policy, NOW)).await;
    assert_eq!(counts(&state, 0), (Some(2), Some(1)));
    let report = state.pools[0].report.scaler.as_ref().unwrap();
    assert!(!report.follows && report.kind == "HorizontalPodAutoscaler", "{report:?}");
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<ClusterState>(&text).unwrap(), state);

    fake.fail(PODS, Some(StatusCode::FORBIDDEN));
    let blind = ClusterSnapshot::read_once(&fake.client(), &policy, NOW).await.judge(&policy, NOW);
    assert!(has(&blind, FindingKind::ClusterUnreadable));
    assert_eq!(counts(&blind, 0), (Some(2), Some(2)), "the object's own status stands in for the pods");
}

/// Direct scrape of the pools' pods without any list of addresses.
#[tokio::test]
async fn pods_are_scraped_where_no_address_is_given() {
    let fake = FakeKube::start().await;
    let server = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::path("/metrics"))
        .respond_with(
            wiremock::ResponseTemplate::new(200).set_body_string(crate::observe_support::Server::busy(5.0).page()),
        )
        .mount(&server)
        .await;
    let port = server.address().port();
    let mut there = pod("a-7c9d8-aaaaa", "a", true);
    there["status"]["podIP"] = json!("127.0.0.1");
    fake.put(PODS, there);
    fake.put(DEPLOYMENTS, deployment("a", 1, 1));
    fake.put(DEPLOYMENTS, deployment("b", 0, 0));
    let port = |p: Pool| Pool { metrics_port: Some(MetricsPort::Number(port)), ..p };
    let policy = policy(vec![port(pool("a")), port(pool("b"))]);
    let snapshot = ClusterSnapshot::read_once(&fake.client(), &policy, NOW).await;
    let view = ClusterView::Once(Arc::new(snapshot));
    let mut source = ScrapeSource::new(ScrapeOptions::default()).unwrap().with_cluster(Some(view));
    let observation = source.observe(&policy, NOW).await;
    assert_eq!(observation.source_error, None);
    let (a, b) = (seen(&observation, "a"), seen(&observation, "b"));
    assert_eq!((a.ready.value, a.running.value), (Some(1), Some(4.0)), "{observation:#?}");
    assert_eq!((b.ready.value, b.starting.value), (Some(0), Some(0)), "confirmed zero");
}
