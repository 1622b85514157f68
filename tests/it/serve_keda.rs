//! KEDA's external scaler, asked over a real socket: what it answers, and what it refuses with which code.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use poolwright::control::{Decision, Published};
use poolwright::serve::{KEDA_METRIC, KEDA_POOL_KEY, KedaOptions, keda_router};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use crate::serve_keda_support::proto::ScaledObjectRef;
use crate::serve_keda_support::{Channel, Client, Running, metrics, object, until};
use crate::serve_support::{AT, Daemon, decision, published};

async fn serve(decision: Decision) -> (Daemon, Running, Client) {
    let daemon = Daemon::new(decision);
    let server = Running::start(&daemon, KedaOptions::default(), None);
    let client = server.client().await;
    (daemon, server, client)
}

async fn active(client: &mut Client, namespace: &str, pool: &str) -> Result<bool, Status> {
    client.is_active(object(namespace, pool)).await.map(|answer| answer.into_inner().result)
}

/// The one value, from both fields.
async fn value(client: &mut Client, namespace: &str, pool: &str) -> Result<i64, Status> {
    let answer = client.get_metrics(metrics(object(namespace, pool), KEDA_METRIC)).await?.into_inner();
    let [value] = &answer.metric_values[..] else { panic!("{answer:?}") };
    assert_eq!(value.metric_name, KEDA_METRIC);
    assert_eq!(value.metric_value_float, value.metric_value as f64, "both fields say the same");
    Ok(value.metric_value)
}

/// Both questions are refused alike, so that KEDA neither activates nor stops anything.
async fn refused(client: &mut Client, namespace: &str, pool: &str) -> (Code, String) {
    let (a, b) =
        (active(client, namespace, pool).await.unwrap_err(), value(client, namespace, pool).await.unwrap_err());
    assert_eq!((a.code(), a.message()), (b.code(), b.message()));
    (a.code(), a.message().to_owned())
}

#[tokio::test]
async fn one_spec_with_a_target_of_one_and_a_name_that_stands_in_a_path() {
    let (_daemon, _server, mut client) = serve(decision()).await;
    let answer = client.get_metric_spec(object("inference", "llama-a100")).await.unwrap().into_inner();
    let [spec] = &answer.metric_specs[..] else { panic!("{answer:?}") };
    assert_eq!((spec.metric_name.as_str(), spec.target_size, spec.target_size_float), (KEDA_METRIC, 1, 1.0));
    assert!(spec.metric_name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", spec.metric_name);
    assert_eq!(KEDA_POOL_KEY, "pool");
}

#[tokio::test]
async fn the_number_of_exactly_the_pool_that_is_named() {
    let (_daemon, _server, mut client) = serve(decision()).await;
    for (namespace, pool, number) in
        [("inference", "llama-a100", 21), ("inference", "llama-h100", 7), ("other", "llama-a100", 5)]
    {
        assert_eq!(value(&mut client, namespace, pool).await.unwrap(), number);
        assert!(active(&mut client, namespace, pool).await.unwrap());
    }
    for name in ["", "s0-poolwright-desired-replicas", "cpu", "Poolwright-Desired-Replicas"] {
        let error = client.get_metrics(metrics(object("inference", "llama-a100"), name)).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{name:?}");
    }
}

#[tokio::test]
async fn a_wrong_question_is_told_what_is_wrong() {
    let (_daemon, _server, mut client) = serve(decision()).await;
    let long = "p".repeat(254);
    for (namespace, pool, code, words) in [
        ("inference", "nobody", Code::NotFound, "has no pool \"nobody\""),
        ("nowhere", "llama-a100", Code::NotFound, "namespace \"nowhere\""),
        ("other", "llama-h100", Code::NotFound, "has no pool"),
        ("inference", "small-advised", Code::FailedPrecondition, "mode advise"),
        ("inference", "small-off", Code::FailedPrecondition, "mode off"),
        ("inference", "", Code::InvalidArgument, "metadata key `pool` is missing"),
        ("", "llama-a100", Code::InvalidArgument, "namespace is missing"),
        ("inference", &long, Code::InvalidArgument, "longer than 253 bytes"),
    ] {
        let (got, message) = refused(&mut client, namespace, pool).await;
        assert!(got == code && message.contains(words), "{namespace}/{pool}: {got:?} {message}");
    }
    // The object's own name is no pool, even where one is called so.
    let nameless = ScaledObjectRef { name: "llama-a100".into(), namespace: "inference".into(), ..Default::default() };
    assert_eq!(client.is_active(nameless.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.get_metric_spec(nameless).await.unwrap_err().code(), Code::InvalidArgument);
    let nobody = crate::serve_keda_support::proto::GetMetricsRequest { scaled_object_ref: None, ..Default::default() };
    assert_eq!(client.get_metrics(nobody).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn without_data_every_question_is_an_error_and_none_says_false() {
    let mut mute = decision();
    mute.pools[1].desired = None;
    mute.pools[4].desired = Some(2_000_000_000);
    let (daemon, _server, mut client) = serve(mute).await;
    for (namespace, pool) in [("inference", "llama-h100"), ("other", "llama-a100")] {
        assert_eq!(refused(&mut client, namespace, pool).await.0, Code::Unavailable);
    }
    daemon.clock.set(AT + 61.0);
    let (code, message) = refused(&mut client, "inference", "llama-a100").await;
    assert_eq!((code, message.as_str()), (Code::Unavailable, "the decision is 61s old, limit 60s"));
    daemon.published.store(Arc::new(Published::empty(60.0)));
    assert_eq!(refused(&mut client, "inference", "llama-a100").await.0, Code::Unavailable);
    // KEDA makes the HPA from the spec, whatever the number is.
    assert!(client.get_metric_spec(object("inference", "llama-a100")).await.is_ok());
}

#[tokio::test]
async fn zero_is_said_when_it_was_seen_and_not_when_the_source_is_lost() {
    let mut idle = decision();
    idle.pools[0].desired = Some(0);
    let (daemon, _server, mut client) = serve(idle.clone()).await;
    assert_eq!(value(&mut client, "inference", "llama-a100").await.unwrap(), 0);
    assert!(!active(&mut client, "inference", "llama-a100").await.unwrap());

    let blind = Decision { source_error: Some("connection refused".into()), ..idle };
    daemon.published.store(Arc::new(published(blind)));
    let (code, message) = refused(&mut client, "inference", "llama-a100").await;
    assert!(code == Code::Unavailable && message.contains("connection refused"), "{code:?} {message}");
    assert_eq!(value(&mut client, "inference", "llama-h100").await.unwrap(), 7, "other numbers are held");
    let json = daemon.get("/v1/namespaces/inference/pools/llama-a100").await;
    assert_eq!((json.status.as_u16(), json.json()["error"]["reason"].as_str()), (503, Some("no-number")));
}

#[tokio::test]
async fn hostile_messages_are_errors_and_harm_nobody() {
    let (daemon, server, mut client) = serve(decision()).await;
    let mut large = object("inference", "llama-a100");
    large.scaler_metadata.extend((0..10_000).map(|i| (format!("key-{i}"), "v".repeat(90))));
    assert!(client.is_active(large.clone()).await.unwrap().into_inner().result, "1 MB of metadata is no harm");
    large.scaler_metadata.insert("huge".into(), "v".repeat(5 << 20));
    let error = client.is_active(large).await.unwrap_err();
    assert!(matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted), "{error}");

    let mut heavy = tonic::Request::new(object("inference", "llama-a100"));
    for i in 0..1100 {
        let key = tonic::metadata::MetadataKey::from_bytes(format!("x-{i}").as_bytes()).unwrap();
        heavy.metadata_mut().insert(key, "v".repeat(1000).parse().unwrap());
    }
    assert!(client.is_active(heavy).await.is_err(), "headers beyond 1 MiB are refused");

    // Field 2 is a string of two bytes that are no UTF-8; then a length beyond the end; then no message at all.
    for bytes in [&[0, 0, 0, 0, 4, 0x12, 2, 0xff, 0xfe][..], &[0, 0, 0, 0, 2, 0x12, 90], &[0, 0, 0], &[9; 40]] {
        let request =
            Request::post("/externalscaler.ExternalScaler/IsActive").header("content-type", "application/grpc");
        let request = request.body(Body::from(bytes.to_vec())).unwrap();
        let router = keda_router(daemon.state.clone(), KedaOptions::default());
        let answer = router.oneshot(request).await.unwrap();
        let code = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
        assert!(code.as_deref().is_some_and(|code| code != "0"), "{bytes:?}: {code:?}");
    }
    assert!(active(&mut server.client().await, "inference", "llama-a100").await.unwrap());
}

#[tokio::test]
async fn a_listener_for_some_namespaces_refuses_the_others() {
    let daemon = Daemon::new(decision());
    let namespaces = Some(BTreeSet::from(["other".to_owned()]));
    let server = Running::start(&daemon, KedaOptions { namespaces, ..KedaOptions::default() }, None);
    let mut client = server.client().await;
    assert!(active(&mut client, "other", "llama-a100").await.unwrap());
    for pool in ["llama-a100", "nobody", ""] {
        assert_eq!(refused(&mut client, "inference", pool).await.0, Code::PermissionDenied);
    }
    let spec = client.get_metric_spec(object("inference", "llama-a100")).await;
    assert_eq!(spec.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let (daemon, _server, mut client) = serve(decision()).await;
    for _ in 0..3 {
        active(&mut client, "inference", "llama-a100").await.unwrap();
    }
    let _ = refused(&mut client, "inference", "nobody").await;
    let mut stream = client.stream_is_active(object("inference", "llama-a100")).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().result);
    for (series, count) in [
        ("poolwright_keda_calls_total{method=\"IsActive\",code=\"OK\"}", 3),
        ("poolwright_keda_calls_total{method=\"IsActive\",code=\"NOT_FOUND\"}", 1),
        ("poolwright_keda_calls_total{method=\"GetMetrics\",code=\"NOT_FOUND\"}", 1),
        ("poolwright_keda_calls_total{method=\"StreamIsActive\",code=\"OK\"}", 1),
        ("poolwright_keda_open_streams", 1),
    ] {
        until(&daemon, series, count).await;
    }
    // A client that cancels frees its place.
    drop(stream);
    until(&daemon, "poolwright_keda_open_streams", 0).await;
    let quiet = Daemon::new(decision()).get("/metrics").await.body;
    assert!(!quiet.contains("poolwright_keda"), "nothing is said of KEDA where nothing listens for it");
}

#[tokio::test]
async fn health_says_what_readiness_says() {
    let (daemon, server, _client) = serve(decision()).await;
    let channel = Channel::plain(server.address).await;
    let mut health = HealthClient::with_origin(channel, "http://localhost".parse().unwrap());
    for service in ["", "externalscaler.ExternalScaler"] {
        let mut watch = health.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        // What stands there before the first look of the daemon at itself may be either.
        while watch.message().await.unwrap().unwrap().status != ServingStatus::Serving as i32 {}
        let check = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(check.status, ServingStatus::Serving as i32);
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    daemon.state.readiness().stop();
    while watch.message().await.unwrap().unwrap().status != ServingStatus::NotServing as i32 {}
    drop((watch, health));
    server.stop().await;
}

#[tokio::test]
async fn many_pings_are_answered_and_the_connection_lives() {
    let (_daemon, server, _client) = serve(decision()).await;
    let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(socket).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..1000 {
        pings.ping(h2::Ping::opaque()).await.unwrap();
    }
    let mut sender = sender.ready().await.unwrap();
    let request = Request::post("http://localhost/externalscaler.ExternalScaler/IsActive").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    assert!(answer.await.is_ok());
    assert!(!connection.is_finished(), "no GOAWAY");
}
