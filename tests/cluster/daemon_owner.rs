//! The real program where the external metrics API belongs to somebody else, a real KEDA.

use std::time::Duration;

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;

use crate::harness::World;
use crate::harness::audit::Audit;
use crate::harness::daemon::{Daemon, available, before_installation, overlay, reasons};
use crate::harness::keda::{self, Keda};
use crate::harness::process::free_port;
use crate::harness::wait::{SOON, until};

/// Time in which a program that fights for the object would have done so.
const FIGHT: Duration = Duration::from_secs(5);
/// The daemon has to notice a change within this time.
const NOTICED: Duration = Duration::from_secs(60);

const OWNED_BY_KEDA: &str = "keda/keda-operator-metrics-apiserver";

/// What the object says; its status is kube-apiserver's own.
async fn registered(world: &World) -> String {
    let api: Api<APIService> = Api::all(world.client.clone());
    let found = api.get("v1beta1.external.metrics.k8s.io").await.expect("it is there");
    serde_json::to_string(&(found.spec, found.metadata.annotations)).expect("it came as JSON")
}

fn is_keda(standing: &serde_json::Value) -> bool {
    standing["api_service"]["service"] == OWNED_BY_KEDA
}

pub async fn what_keda_owns_is_left_alone(world: &mut World) {
    let _engines = before_installation(world).await;
    world.kubectl.ok(&["apply", "-k", &crate::harness::daemon::manifests("").display().to_string()]);
    let keda = Keda::start(world).await;
    let before = registered(world).await;
    let audit = Audit::start(world.plane.folder());
    let daemon = Daemon::start(world, "beside-keda", &[]).await;
    let standing = daemon.standing("KEDA owns the API", is_keda).await;
    assert_eq!((&standing["mode"], &standing["api_service"]["owner"]), (&"external-scaler".into(), &"keda".into()));
    let log = daemon.process.log();
    assert!(log.contains("is left alone") && log.contains(OWNED_BY_KEDA), "{log}");
    until("the event is there", SOON, async || {
        let seen = reasons(world);
        if seen.iter().any(|r| r == "ExternalMetricsElsewhere") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    tokio::time::sleep(FIGHT).await;
    assert_eq!(registered(world).await, before, "nobody wrote the object");
    assert_eq!(audit.registrations(), []);
    // The daemon is in nobody's way when KEDA goes.
    drop((daemon, keda));
    world.server.restart();
    world.register();
}

pub async fn a_lost_api_is_reported_and_not_fought_for(world: &mut World) {
    let _engines = before_installation(world).await;
    let port = free_port();
    let ours = overlay(world, port).display().to_string();
    world.kubectl.ok(&["apply", "-k", &ours]);
    let further = format!("--api-service-port={port}");
    let daemon = Daemon::start_at(world, "losing", port, &[]).await;
    available(world).await;
    daemon.standing("the API is ours", |s| s["api_service"]["owner"] == "ours").await;
    let keda = Keda::start(world).await;
    let audit = Audit::start(world.plane.folder());
    let before = registered(world).await;
    let start = std::time::Instant::now();
    let standing = daemon.standing("KEDA took the API", is_keda).await;
    assert!(start.elapsed() < NOTICED);
    assert_eq!((&standing["mode"], &standing["api_service"]["warning"]), (&"external-scaler".into(), &true.into()));
    assert!(standing["api_service"]["message"].as_str().is_some_and(|m| m.contains("taken over")), "{standing}");
    tokio::time::sleep(FIGHT).await;
    assert_eq!((registered(world).await, audit.registrations()), (before, vec![]), "nobody fights");
    assert!(daemon.process.log().contains("was taken over by"), "{}", daemon.process.log());
    drop(daemon);
    // Somebody says that it may be taken: it is, once.
    let daemon = Daemon::start_at(world, "taking", port, &["--take-over", &further]).await;
    daemon.standing("the API is ours again", |s| s["api_service"]["owner"] == "ours").await;
    available(world).await;
    assert_eq!(world.owner().await, "poolwright");
    assert!(reasons(world).iter().any(|r| r == "ExternalMetricsTakenOver"), "{:?}", reasons(world));
    drop(keda);
    let keda = Keda::start(world).await;
    let audit = Audit::start(world.plane.folder());
    daemon.standing("KEDA took it back", is_keda).await;
    tokio::time::sleep(FIGHT).await;
    assert_eq!(world.owner().await, keda::SERVICE, "it is taken once");
    assert_eq!(audit.registrations(), []);
    drop((daemon, keda));
    world.server.restart();
    world.register();
}
