//! Whose APIService it is: reported, never taken without being told to.

use std::time::{Duration, Instant};

use poolwright::cluster::{Events, Notice, StandingSettings, Weight};
use poolwright::control::Clock;
use poolwright::serve::{Coexistence, Owner};
use serde_json::json;

use crate::cluster_support::*;
use crate::fake_kube::FakeKube;
use crate::serve_support::{Daemon, decision, published};

/// Wait for something that happens in another task.
async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_owner_is_recognised() {
    for (namespace, service, owner, mode) in [
        ("poolwright-system", "poolwright", Owner::Ours, Coexistence::Owner),
        ("elsewhere", "poolwright", Owner::Other, Coexistence::Exporter),
        ("keda", "keda-operator-metrics-apiserver", Owner::Keda, Coexistence::ExternalScaler),
        ("monitoring", "prometheus-adapter", Owner::PrometheusAdapter, Coexistence::Exporter),
        ("datadog", "datadog-cluster-agent-metrics-api", Owner::Datadog, Coexistence::Exporter),
        ("kube-system", "kube-metrics-adapter", Owner::KubeMetricsAdapter, Coexistence::Exporter),
        ("x", "y", Owner::Other, Coexistence::Exporter),
    ] {
        let (fake, clock) = (FakeKube::start().await, clock());
        register(&fake, namespace, service);
        let mut replica = Replica::new(&fake, StandingSettings { certificates: None, ..settings() }, &clock);
        replica.settle().await;
        let status = replica.status();
        assert_eq!((status.api_service.owner, status.mode), (owner, mode), "{service}");
        assert_eq!(status.api_service.service.as_deref(), Some(&*format!("{namespace}/{service}")));
        assert_eq!(writes(&fake), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_api_service_of_somebody_else_is_never_written() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "keda", "keda-operator-metrics-apiserver");
    let before = api_service(&fake);
    let (events, writer) = Events::new(fake.client(), clock.clone());
    tokio::spawn(writer);
    let mut replica = Replica::with_events(&fake, settings(), &clock, events);
    for _ in 0..200 {
        replica.settle().await;
        clock.set(clock.now_seconds() + HOUR);
    }
    assert_eq!(api_service(&fake), before);
    let calls = fake.calls(API_SERVICES);
    assert!(calls.iter().all(|c| c.method == "GET"), "no other call than reading");
    let status = replica.status();
    assert!(status.api_service.message.contains("keda/keda-operator-metrics-apiserver and is left alone"));
    assert!(!status.api_service.warning, "this is a way to live, not a fault");
    eventually("the event", || fake.calls(EVENTS).iter().any(|c| c.body["reason"] == "ExternalMetricsElsewhere")).await;
    // Certificates for the other listeners are renewed all the same.
    assert!(!replica.tls.is_expiring(clock.now_seconds() - HOUR));
}

#[tokio::test]
async fn nobody_owning_it_is_said_and_nothing_is_created() {
    let (fake, clock) = (FakeKube::start().await, clock());
    let take = StandingSettings { take_over: true, keda_listens: true, ..settings() };
    let mut replica = Replica::new(&fake, take, &clock);
    replica.settle().await;
    let status = replica.status();
    assert_eq!((status.api_service.owner, status.mode), (Owner::Absent, Coexistence::ExternalScaler));
    assert!(status.api_service.message.contains("apply the APIService"));
    assert!(fake.calls(API_SERVICES).iter().all(|c| c.method == "GET"));
}

#[tokio::test]
async fn being_taken_over_is_noticed_reported_and_not_fought() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let (events, writer) = Events::new(fake.client(), clock.clone());
    tokio::spawn(writer);
    let take = StandingSettings { take_over: true, ..settings() };
    let replica = Replica::with_events(&fake, take, &clock, events);
    let status = replica.status.clone();
    // The real task: a watch, no step by step.
    let task = tokio::spawn(replica.standing.run());
    eventually("ours", || status.load().api_service.owner == Owner::Ours).await;
    eventually("trusted", || !bundle(&fake).is_empty()).await;
    register(&fake, "keda", "keda-operator-metrics-apiserver");
    let patches = || fake.calls(API_SERVICES).iter().filter(|c| c.method != "GET").count();
    let before = patches();
    eventually("noticed", || status.load().api_service.owner == Owner::Keda).await;
    let seen = status.load_full();
    assert!(seen.api_service.warning && seen.api_service.message.contains("was taken over by keda/"));
    assert_eq!(seen.mode, Coexistence::ExternalScaler);
    eventually("the event", || {
        fake.calls(EVENTS).iter().any(|c| c.body["type"] == "Warning" && c.body["regarding"]["name"] == "poolwright")
    })
    .await;
    assert_eq!(patches(), before, "--take-over is for the start, not for a fight");
    register(&fake, "poolwright-system", "poolwright");
    eventually("given back", || status.load().api_service.owner == Owner::Ours).await;
    task.abort();
}

#[tokio::test]
async fn take_over_takes_it_once_and_whole() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "monitoring", "prometheus-adapter");
    let mut object = api_service(&fake);
    object["spec"]["insecureSkipTLSVerify"] = json!(true);
    fake.put(API_SERVICES, object);
    let take = StandingSettings { take_over: true, upstream: Some("https://x".into()), ..settings() };
    let mut replica = Replica::new(&fake, take, &clock);
    replica.settle().await;
    let spec = &api_service(&fake)["spec"];
    assert_eq!(spec["service"], json!({"namespace": "poolwright-system", "name": "poolwright", "port": 443}));
    assert_eq!((&spec["insecureSkipTLSVerify"], &spec["versionPriority"]), (&json!(false), &json!(100)));
    assert!(verifies(&bundle(&fake), &replica.shown(), clock.now_seconds()));
    assert_eq!(replica.status().mode, Coexistence::OwnerWithUpstream);
    register(&fake, "monitoring", "prometheus-adapter");
    replica.settle().await;
    assert_eq!(api_service(&fake)["spec"]["service"]["name"], "prometheus-adapter", "only once");
    assert!(replica.status().api_service.message.contains("was taken over by monitoring/prometheus-adapter"));
}

#[tokio::test]
async fn missing_rights_are_named_and_a_dead_kube_apiserver_changes_nothing() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    forbid(&fake, API_SERVICES);
    let mut replica = Replica::new(&fake, settings(), &clock);
    replica.settle().await;
    let status = replica.status();
    assert_eq!((status.api_service.owner, status.mode), (Owner::Unreadable, Coexistence::Unknown));
    assert!(status.api_service.message.contains("get, list and watch the APIService v1beta1.external"));
    assert!(!replica.tls.is_expiring(clock.now_seconds()), "the certificate is served all the same");
    fake.fail(API_SERVICES, None);
    replica.settle().await;
    assert_eq!(replica.status().api_service.owner, Owner::Ours);
    let shown = replica.shown();
    fake.fail("/", Some(axum::http::StatusCode::INTERNAL_SERVER_ERROR));
    replica.settle().await;
    let status = replica.status();
    assert_eq!((status.api_service.owner, status.api_service.warning), (Owner::Ours, true), "the last known stays");
    assert_eq!(replica.shown(), shown);
    fake.fail("/", None);
    forbid(&fake, SECRETS);
    replica.settle().await;
    assert!(replica.status().certificate.clone().unwrap().error.unwrap().contains("cannot be read"));
    assert_eq!(replica.shown(), shown);
}

#[tokio::test]
async fn the_standing_is_shown_in_json_metrics_and_readiness() {
    let (fake, clock) = (FakeKube::start().await, clock());
    register(&fake, "poolwright-system", "poolwright");
    let mut replica = Replica::new(&fake, settings(), &clock);
    let (status, tls) = (replica.status.clone(), replica.tls.clone());
    let daemon = Daemon::of(published(decision()), |state| state.with_cluster(status).with_certificate("api", tls));
    daemon.clock.set(clock.now_seconds());
    let ready = daemon.get("/readyz?verbose").await;
    assert!(ready.body.contains("[-]serving-certificate failed"), "{}", ready.body);
    replica.settle().await;
    assert!(daemon.get("/readyz?verbose").await.body.contains("[+]serving-certificate ok"));
    replica.standing.look().await;
    let shown = daemon.get("/v1/cluster").await.json();
    assert_eq!((&shown["api_service"]["owner"], &shown["mode"]), (&json!("ours"), &json!("owner")));
    assert_eq!(shown["certificate"]["secret"], "poolwright-system/poolwright-tls");
    let metrics = daemon.get("/metrics").await.body;
    for line in [
        "poolwright_apiservice_owner{owner=\"ours\"} 1.0",
        "poolwright_apiservice_owner{owner=\"keda\"} 0.0",
        "poolwright_coexistence_mode{mode=\"owner\"} 1.0",
        "poolwright_serving_certificate_expiry_seconds{listener=\"api\"} 86400.0",
        "poolwright_certificate_error 0.0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // An hour before the end, not after it.
    daemon.clock.set(clock.now_seconds() + 22.0 * HOUR);
    assert!(daemon.get("/readyz?verbose").await.body.contains("[+]serving-certificate ok"));
    daemon.clock.set(clock.now_seconds() + 23.5 * HOUR);
    assert!(daemon.get("/readyz").await.body.contains("[-]serving-certificate failed"));
    assert_eq!(Daemon::new(decision()).get("/v1/cluster").await.status.as_u16(), 404);
}

#[tokio::test]
async fn events_reach_the_object_once() {
    let (fake, clock) = (FakeKube::start().await, clock());
    let (events, writer) = Events::new(fake.client(), clock.clone());
    let task = tokio::spawn(writer);
    let notice = Notice {
        regarding: serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama",
            "namespace": "inference", "uid": "u"}))
        .unwrap(),
        weight: Weight::Warning,
        reason: "NotFollowed",
        action: "Check",
        note: "the HPA has target type Value".into(),
    };
    for _ in 0..5 {
        events.publish(notice.clone());
    }
    drop(events);
    task.await.unwrap();
    let calls = fake.calls("/apis/events.k8s.io/v1/namespaces/inference/events");
    assert_eq!(calls.len(), 1);
    let body = &calls[0].body;
    assert_eq!((&body["regarding"]["uid"], &body["type"]), (&json!("u"), &json!("Warning")));
    assert_eq!((&body["reason"], &body["reportingController"]), (&json!("NotFollowed"), &json!("poolwright")));
    assert!(body["eventTime"].is_string() && body["reportingInstance"].is_string() && body["action"] == "Check");
}
