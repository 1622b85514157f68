//! The Prometheus source against a fake server: what is asked, what is understood, and every fault.

use std::sync::Arc;
use std::time::Duration;

use poolwright::observe::{
    FindingKind, HttpAccess, Observation, PrometheusOptions, PrometheusSource, Quality, RatePoint, Source,
};
use poolwright::policy::{Policy, Pool};
use serde_json::json;
use wiremock::ResponseTemplate;

use crate::observe_fake_prometheus::{FakePrometheus, target};
use crate::observe_support::{NOW, close, findings, kinds, policy, pool, seen};

fn source(fake: &FakePrometheus, access: HttpAccess) -> PrometheusSource {
    let url = format!("{}/prom", fake.server.uri());
    PrometheusSource::new(PrometheusOptions { url, access }).unwrap()
}

async fn look(fake: &FakePrometheus, pools: Vec<Pool>) -> Observation {
    source(fake, HttpAccess::default()).observe(&policy(pools), NOW).await
}

/// Counts at every 15 s of the last 90 s, at this rate, newest 5 s ago.
fn steady(start: f64, per_second: f64) -> Vec<(f64, f64)> {
    (0..6).rev().map(|i| f64::from(i) * 15.0 + 5.0).map(|ago| (ago, start + (80.0 - ago) * per_second)).collect()
}

#[tokio::test]
async fn the_fleet_is_read_with_one_query_per_signal() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(1000.0, 2.0), 3.0, 1.0);
    fake.serve("a-2", &steady(50.0, 1.0), 1.0, 0.0);
    fake.serve("b-1", &steady(7.0, 0.0), 0.0, 0.0);
    let observation = look(&fake, vec![pool("a"), pool("b")]).await;
    let a = seen(&observation, "a");
    assert_eq!(
        (a.ready.value, a.running.value, a.waiting.value, a.kv_usage.value),
        (Some(2), Some(4.0), Some(1.0), Some(0.5))
    );
    close(a.arrival_rate.value, 3.0);
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.at_seconds), (Quality::Fresh, NOW - 5.0));
    assert_eq!(a.kv_capacity_tokens.value, Some(16_000.0));
    let ttft = a.ttft.value.as_ref().unwrap();
    assert_eq!((ttft.upper.len(), ttft.count), (2, 225.0));
    close(ttft.mean(), 0.3);
    let b = seen(&observation, "b");
    assert_eq!((b.ready.value, b.arrival_rate.quality), (Some(1), Quality::ConfirmedIdle));
    assert_eq!(observation.findings, Vec::new());

    let requests = fake.change(|store| std::mem::take(&mut store.requests));
    assert_eq!(requests.len(), 15);
    assert!(requests.iter().all(|r| r["path"] == "/prom/api/v1/query" && r["time"] == format!("{NOW:.3}")));
    look(&fake, (0..50).map(|i| pool(&format!("p{i}"))).collect()).await;
    assert_eq!(fake.change(|store| store.requests.len()), 15, "the number of queries does not grow with the pools");
}

#[tokio::test]
async fn a_new_replica_counts_from_zero_when_its_process_is_new() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(1000.0, 1.0), 0.0, 0.0);
    fake.serve("a-2", &[(20.0, 15.0), (5.0, 30.0)], 0.0, 0.0);
    fake.serve("a-3", &[(20.0, 1e6), (5.0, 1e6 + 15.0)], 0.0, 0.0);
    fake.add("process_start_time_seconds", target("a-2", &[]), &[(NOW - 5.0, NOW - 40.0)]);
    fake.add("process_start_time_seconds", target("a-3", &[]), &[(NOW - 5.0, NOW - 86_400.0)]);
    let observation = look(&fake, vec![pool("a")]).await;
    // One per second all the time; 30 since its start, over the window; one per second as far as it was watched.
    close(seen(&observation, "a").arrival_rate.value, 1.0 + 30.0 / 55.0 + 1.0);
}

#[tokio::test]
async fn a_restart_and_an_absurd_count_are_named() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &[(65.0, 1000.0), (35.0, 1030.0), (20.0, 5.0), (5.0, 20.0)], 0.0, 0.0);
    fake.serve("b-1", &[(65.0, 10.0), (35.0, 1e308), (20.0, f64::NAN), (5.0, 70.0)], 0.0, 0.0);
    let observation = look(&fake, vec![pool("a"), pool("b")]).await;
    close(seen(&observation, "a").arrival_rate.value, 50.0 / 60.0);
    close(seen(&observation, "b").arrival_rate.value, 1.0);
    assert_eq!(findings(&observation, FindingKind::CounterReset)[0].subject, "inference/a-1");
    assert!(findings(&observation, FindingKind::Implausible).iter().any(|f| f.subject.contains("b-1")));
}

#[tokio::test]
async fn a_target_that_fails_is_silent_and_one_that_is_gone_is_gone() {
    let fake = FakePrometheus::start().await;
    for pod in ["a-1", "a-2", "a-3"] {
        fake.serve(pod, &steady(0.0, 1.0), 0.0, 0.0);
    }
    fake.change(|store| {
        for series in &mut store.series {
            let of = series.labels["pod"].clone();
            series.ended = (of == "a-2" && series.name != "up") || of == "a-3";
            if of == "a-2" && series.name == "up" {
                series.samples.push((NOW - 1.0, 0.0));
            }
        }
    });
    fake.add("up", target("a-4", &[]), &[(NOW - 1.0, 0.0)]);
    fake.add("up", target("unrelated", &[]), &[(NOW - 1.0, 0.0)]);
    let policy = policy(vec![pool("a")]);
    let mut source = source(&fake, HttpAccess::default());
    let observation = source.observe(&policy, NOW).await;
    let a = seen(&observation, "a");
    assert_eq!((a.ready.value, a.silent, a.starting.value), (Some(1), 1, Some(1)));
    assert_eq!((a.arrival_rate.quality, a.quality()), (Quality::Stale, Quality::Stale));
    assert_eq!(findings(&observation, FindingKind::InstanceSilent)[0].subject, "inference/a-2");
    assert!(findings(&observation, FindingKind::UnmatchedSeries).is_empty());
}

#[tokio::test]
async fn old_samples_that_prometheus_still_shows_are_stale() {
    let fake = FakePrometheus::start().await;
    let late: Vec<(f64, f64)> = steady(0.0, 1.0).into_iter().map(|(ago, n)| (ago + 120.0, n)).collect();
    fake.serve("a-1", &late, 2.0, 0.0);
    let a = look(&fake, vec![pool("a")]).await.pools.remove(0);
    assert_eq!((a.ready.value, a.ready.quality, a.ready.at_seconds), (Some(1), Quality::Stale, NOW - 125.0));
    assert!(a.running.trusted().is_none() && a.arrival_rate.trusted().is_none());
}

#[tokio::test]
async fn the_cluster_tells_zero_and_starting() {
    let fake = FakePrometheus::start().await;
    fake.serve("c-1", &steady(0.0, 1.0), 0.0, 0.0);
    for (name, metric, value) in [
        ("a", "kube_deployment_spec_replicas", 0.0),
        ("a", "kube_deployment_status_replicas_ready", 0.0),
        ("b", "kube_deployment_spec_replicas", 2.0),
        ("b", "kube_deployment_status_replicas_ready", 0.0),
        ("c", "kube_deployment_spec_replicas", 3.0),
        ("c", "kube_deployment_status_replicas_ready", 1.0),
    ] {
        let labels = target(
            "kube-state-metrics-0",
            &[("namespace", "monitoring"), ("exported_namespace", "inference"), ("deployment", name)],
        );
        fake.add(metric, labels, &[(NOW - 5.0, value)]);
    }
    let observation = look(&fake, vec![pool("a"), pool("b"), pool("c"), pool("d")]).await;
    let counts = |name: &str| {
        let p = seen(&observation, name);
        (p.ready.value, p.starting.value, p.arrival_rate.quality)
    };
    assert_eq!(counts("a"), (Some(0), Some(0), Quality::ConfirmedIdle));
    assert_eq!(counts("b"), (Some(0), Some(2), Quality::ConfirmedIdle));
    assert_eq!(counts("c"), (Some(1), Some(2), Quality::Fresh));
    assert_eq!(counts("d"), (None, None, Quality::Missing));
    assert_eq!(findings(&observation, FindingKind::NoSeries)[0].subject, "inference/d");
}

#[tokio::test]
async fn duplicated_unmatched_and_implausible_series_are_named() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(0.0, 1.0), 2.0, 0.0);
    fake.serve("stranger-1", &steady(0.0, 1.0), 2.0, 0.0);
    let again: Vec<_> = fake.change(|store| {
        for series in store.series.iter_mut().filter(|s| s.name == "vllm:kv_cache_usage_perc") {
            series.samples = vec![(NOW - 5.0, 7.3)];
        }
        store.series.iter().filter(|s| s.labels["pod"] == "a-1").cloned().collect()
    });
    for mut series in again {
        series.labels.insert("prometheus_replica".into(), "1".into());
        fake.change(|store| store.series.push(series));
    }
    let observation = look(&fake, vec![pool("a")]).await;
    let a = seen(&observation, "a");
    assert_eq!((a.ready.value, a.running.value, a.kv_usage.value), (Some(1), Some(2.0), None));
    close(a.arrival_rate.value, 1.0);
    assert_eq!(
        kinds(&observation),
        vec![FindingKind::UnmatchedSeries, FindingKind::DuplicateSeries, FindingKind::Implausible]
    );
}

#[tokio::test]
async fn older_names_are_read() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(0.0, 1.0), 2.0, 0.0);
    fake.change(|store| {
        for series in &mut store.series {
            match series.name.as_str() {
                "vllm:request_success_total" => series.name = "vllm:request_success".into(),
                "vllm:kv_cache_usage_perc" => series.name = "vllm:gpu_cache_usage_perc".into(),
                _ => {}
            }
        }
    });
    let a = look(&fake, vec![pool("a")]).await.pools.remove(0);
    close(a.arrival_rate.value, 1.0);
    assert_eq!(a.kv_usage.value, Some(0.5));
}

#[tokio::test]
async fn a_failing_server_is_one_clear_line_and_no_zero() {
    let json_error = |status, text: &str| {
        ResponseTemplate::new(status).set_body_json(json!({"status": "error", "errorType": "x", "error": text}))
    };
    let html = "<html><body>Bad Gateway</body></html>";
    let faults = [
        (ResponseTemplate::new(401).set_body_string("Unauthorized"), "the credentials were refused"),
        (ResponseTemplate::new(403), "403"),
        (ResponseTemplate::new(404).set_body_raw(html, "text/html"), "check the path"),
        (ResponseTemplate::new(500).set_body_raw(html, "text/html"), "500"),
        (json_error(503, "query processing\n would load too many samples"), "query processing would load"),
        (json_error(200, "out of memory"), "refused the query: out of memory"),
        (ResponseTemplate::new(200).set_body_raw(html, "text/html"), "not that of a Prometheus API"),
        (ResponseTemplate::new(200).set_body_raw("{\"status\": 7", "application/json"), "cannot be read"),
        (ResponseTemplate::new(302).insert_header("location", "/login"), "302"),
    ];
    for (fault, words) in faults {
        let fake = FakePrometheus::start().await;
        fake.serve("a-1", &steady(0.0, 1.0), 2.0, 0.0);
        fake.change(|store| store.faults.push((String::new(), fault)));
        let observation = look(&fake, vec![pool("a")]).await;
        let error = observation.source_error.clone().unwrap();
        assert!(error.contains(words) && !error.contains('\n') && !error.contains("html>"), "{error}");
        assert_eq!((observation.pools[0].ready.value, observation.pools[0].quality()), (None, Quality::Missing));
        assert!(kinds(&observation).contains(&FindingKind::SourceFailed));
    }
}

#[tokio::test]
async fn a_slow_or_absent_server_is_said_to_be_so() {
    let fake = FakePrometheus::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(600));
    fake.change(|store| store.faults.push((String::new(), slow)));
    let access = HttpAccess { timeout_seconds: 0.2, ..HttpAccess::default() };
    let observation = source(&fake, access).observe(&policy(vec![pool("a")]), NOW).await;
    assert!(observation.source_error.unwrap().contains("no answer within 0.2 s"));

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://user:secret@127.0.0.1:{port}/prom");
    let mut absent = PrometheusSource::new(PrometheusOptions { url, ..PrometheusOptions::default() }).unwrap();
    let observation = absent.observe(&policy(vec![pool("a")]), NOW).await;
    let error = observation.source_error.unwrap();
    assert!(error.contains("unreachable") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn one_failing_query_costs_one_signal() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(0.0, 1.0), 2.0, 0.0);
    fake.change(|store| store.faults.push(("request_success".into(), ResponseTemplate::new(500))));
    let observation = look(&fake, vec![pool("a")]).await;
    let a = seen(&observation, "a");
    assert_eq!((a.running.value, a.running.quality), (Some(2.0), Quality::Fresh));
    assert_eq!((a.arrival_rate.value, a.quality()), (None, Quality::Missing));
    assert_eq!(kinds(&observation), vec![FindingKind::SourceFailed]);
}

#[tokio::test]
async fn partial_answers_are_stale() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(0.0, 0.0), 0.0, 0.0);
    fake.change(|store| store.warnings.push("PromQL info: metric might not be a counter".into()));
    assert_eq!(look(&fake, vec![pool("a")]).await.pools[0].quality(), Quality::ConfirmedIdle);
    fake.change(|store| store.warnings.push("No StoreAPIs matched for this query".into()));
    let observation = look(&fake, vec![pool("a")]).await;
    assert_eq!(observation.pools[0].quality(), Quality::Stale);
    assert!(findings(&observation, FindingKind::SourceFailed)[0].message.contains("No StoreAPIs matched"));
}

#[tokio::test]
async fn clocks_that_differ_are_named_and_the_age_is_the_larger_one() {
    let fake = FakePrometheus::start().await;
    fake.serve("a-1", &steady(0.0, 1.0), 2.0, 0.0);
    fake.change(|store| store.clock_ahead_seconds = 300.0);
    let observation = look(&fake, vec![pool("a")]).await;
    assert_eq!(observation.pools[0].quality(), Quality::Stale, "the samples are five minutes older than they seem");
    assert!(findings(&observation, FindingKind::ClockSkew)[0].message.contains("300 s behind"));
    fake.change(|store| store.clock_ahead_seconds = -20.0);
    let observation = look(&fake, vec![pool("a")]).await;
    assert_eq!((observation.pools[0].quality(), kinds(&observation)), (Quality::Fresh, vec![FindingKind::ClockSkew]));
}

#[tokio::test]
async fn credentials_and_tenant_go_with_every_query() {
    let fake = FakePrometheus::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t0ken\n").unwrap();
    let tenant = || vec![("X-Scope-OrgID".to_owned(), "team-a".to_owned().into())];
    let bearer =
        HttpAccess { bearer_token_file: Some(token.path().to_owned()), headers: tenant(), ..HttpAccess::default() };
    let basic = HttpAccess {
        basic_user: Some("user".into()),
        basic_password: Some("pass".to_owned().into()),
        headers: tenant(),
        ..HttpAccess::default()
    };
    assert!(!format!("{basic:?}").contains("pass\""), "secrets do not show in debug output");
    for (access, expected) in [(bearer, "Bearer t0ken"), (basic, "Basic dXNlcjpwYXNz")] {
        let policy = policy(vec![pool("a")]);
        let mut source = source(&fake, access);
        source.observe(&policy, NOW).await;
        source.history(&policy, NOW, 3600.0).await;
        let requests = fake.server.received_requests().await.unwrap();
        assert!(requests.len() > 15);
        for request in requests {
            assert_eq!(
                (&request.headers["authorization"], &request.headers["x-scope-orgid"]),
                (&expected.parse().unwrap(), &"team-a".parse().unwrap())
            );
        }
        fake.server.reset().await;
    }
}

#[tokio::test]
async fn history_is_the_rate_of_every_minute_by_model() {
    let fake = FakePrometheus::start().await;
    let model = json!({"namespace": "inference", "model_name": "tiny"});
    let other = json!({"namespace": "inference", "model_name": "not in the policy"});
    let answer = json!({"status": "success", "data": {"resultType": "matrix", "result": [
        {"metric": model, "values": [[NOW - 120.0, "1.5"], [NOW - 60.0, "NaN"], [NOW, "-0.25"]]},
        {"metric": other, "values": [[NOW, "9"]]},
    ]}});
    fake.change(|store| store.faults.push(("rate(".into(), ResponseTemplate::new(200).set_body_json(answer))));
    let policy: Arc<Policy> = policy(vec![pool("a")]);
    let history = source(&fake, HttpAccess::default()).history(&policy, NOW, 86_400.0).await;
    let points = vec![RatePoint { at_seconds: NOW - 120.0, rate: 1.5 }, RatePoint { at_seconds: NOW, rate: 0.0 }];
    assert_eq!(history.into_iter().collect::<Vec<_>>(), vec![("inference/tiny-model".to_owned(), points)]);
    let request = fake.change(|store| store.requests.remove(0));
    assert_eq!((request["path"].as_str(), request["step"].as_str()), ("/prom/api/v1/query_range", "60"));
    assert_eq!(request["end"].parse::<f64>().unwrap() - request["start"].parse::<f64>().unwrap(), 86_340.0);
}

#[test]
fn wrong_options_are_refused_with_the_reason() {
    let new = |url: &str, access: HttpAccess| {
        let url = url.to_owned();
        format!("{:#}", PrometheusSource::new(PrometheusOptions { url, access }).unwrap_err())
    };
    for wrong in ["prometheus:9090", "10.0.0.1:9090", "", "ftp://p/", "http://u:secret@"] {
        let why = new(wrong, HttpAccess::default());
        assert!(why.contains("is not an http:// or https:// address") && !why.contains("secret"), "{why}");
    }
    let access = HttpAccess { ca_file: Some("/nonexistent/ca.pem".into()), ..HttpAccess::default() };
    assert!(new("https://p", access).contains("/nonexistent/ca.pem"));
    let access = HttpAccess { client_cert_file: Some("/c.pem".into()), ..HttpAccess::default() };
    assert!(new("https://p", access).contains("key"));
}
