//! The real program with the shipped manifests: the installation guide's commands, from nothing to an HPA that
//! follows, with no right more than the manifests give.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ApiResource;

use crate::harness::World;
use crate::harness::audit::Audit;
use crate::harness::daemon::{Daemon, LARGE, POOLS, SMALL, available, before_installation, overlay, reasons};
use crate::harness::guide;
use crate::harness::hpa::Status;
use crate::harness::process::free_port;
use crate::harness::recorder::Recorder;
use crate::harness::wait::until;

/// A decision every 15 s, a sync every 2 s, and what the planner wants to see before it believes in a change.
pub const DECIDED: Duration = Duration::from_secs(120);

/// Run a line of the guide; it has to work without a warning.
pub fn run(world: &World, line: &str) -> String {
    let said = world.kubectl.shell(line);
    assert!(said.ok && said.err.is_empty(), "{line}: {said:?}");
    said.out
}

async fn replicas(world: &World, pool: &str) -> i64 {
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), POOLS);
    let deployment = api.get(pool).await.expect("it is there");
    deployment.spec.and_then(|s| s.replicas).map_or(1, i64::from)
}

/// Wait until both pools have what is published, and that is as wanted.
pub async fn followed(world: &World, daemon: &Daemon, what: &str, wanted: impl Fn(i64, i64) -> bool) {
    until(what, DECIDED, async || {
        let published = (daemon.published(LARGE).await, daemon.published(SMALL).await);
        let seen = (replicas(world, LARGE).await, replicas(world, SMALL).await);
        let equal = published == (Some(seen.0), Some(seen.1));
        if equal && wanted(seen.0, seen.1) { Ok(()) } else { Err(format!("{seen:?} for {published:?}")) }
    })
    .await;
    println!("  {what}: {LARGE} {} {SMALL} {}", replicas(world, LARGE).await, replicas(world, SMALL).await);
}

pub async fn five_commands_lead_to_an_hpa_that_follows(world: &mut World) {
    let engines = before_installation(world).await;
    engines.set_rate(2.0);
    let audit = Audit::start(world.plane.folder());
    let commands = guide::commands("HPA, in five commands");
    assert_eq!(commands.len(), 5, "{commands:?}");
    run(world, &commands[0]);
    run(world, &commands[1]);
    let api_port = free_port();
    let daemon = Daemon::start_at(world, "hpa", api_port, &[]).await;
    // There is no node that a port could be forwarded from; the program listens here.
    assert!(commands[2].contains("port-forward") && commands[2].contains("8080"), "{}", commands[2]);
    let page = reqwest::get(format!("http://127.0.0.1:{}/", daemon.web_port)).await.expect("the page is there");
    assert_eq!(page.status().as_u16(), 200);
    advised(&daemon).await;
    let standing = daemon.standing("nobody owns the API", |s| s["api_service"]["owner"] == "absent").await;
    assert_eq!(standing["mode"], "exporter", "{standing}");
    assert_eq!(audit.registrations(), [], "advice changes nothing outside of our namespace");
    // What the guide says to look at before the fourth command.
    let said = world.kubectl.shell("kubectl get apiservice v1beta1.external.metrics.k8s.io");
    assert!(!said.ok && said.err.contains("NotFound"), "{said:?}");
    run(world, &commands[3].replace("manifests/hpa/", &overlay(world, api_port).display().to_string()));
    daemon.refresh_policy(world).await;
    available(world).await;
    let standing = daemon.standing("the API is ours", |s| s["api_service"]["available"] == true).await;
    assert_eq!((&standing["mode"], &standing["api_service"]["owner"]), (&"owner".into(), &"ours".into()));
    assert_eq!(standing["certificate"]["secret"], "poolwright-system/poolwright-serving", "{standing}");
    // The caBundle came from the daemon itself.
    let written = audit.registrations();
    assert!(written.iter().any(|deed| deed.code == 200), "{written:?}");
    assert!(written.iter().all(|deed| deed.verb == "patch" && [200, 409].contains(&deed.code)), "{written:?}");
    let status = Status::of(&world.client, POOLS);
    for pool in [LARGE, SMALL] {
        status.wait_condition(pool, "ScalingActive", "True ValidMetricFound").await;
    }
    followed(world, &daemon, "a little load", |large, _| large >= 1).await;
    engines.set_rate(400.0);
    followed(world, &daemon, "much load", |large, small| large + small >= 3).await;
    assert!(commands[4].ends_with("get hpa --watch"), "{}", commands[4]);
    let shown = run(world, commands[4].trim_end_matches(" --watch"));
    assert!(shown.contains(LARGE) && shown.contains("(avg)") && !shown.contains("<unknown>"), "{shown}");
    explains(world);
    let daemon = killed_and_back(world, daemon, api_port).await;
    let reasons = reasons(world);
    for reason in ["AuthorityMade", "CertificateRenewed", "TrustRenewed", "ExternalMetricsOwned"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} in {reasons:?}");
    }
    rights_are_enough(&audit, &daemon);
    drop(daemon);
    world.server.restart();
    world.register();
}

/// A crash of the program: what runs is held, and the next one goes on from there.
async fn killed_and_back(world: &World, mut daemon: Daemon, api_port: u16) -> Daemon {
    let status = Status::of(&world.client, POOLS);
    let resource = ApiResource::erase::<Deployment>(&());
    let recorders = [
        Recorder::start(&world.client, &resource, POOLS, LARGE).await,
        Recorder::start(&world.client, &resource, POOLS, SMALL).await,
    ];
    daemon.process.kill();
    status.wait_condition(LARGE, "ScalingActive", "False FailedGetExternalMetric").await;
    let daemon = Daemon::start_at(world, "hpa", api_port, &[]).await;
    for pool in [LARGE, SMALL] {
        status.wait_condition(pool, "ScalingActive", "True ValidMetricFound").await;
    }
    followed(world, &daemon, "after a crash", |_, _| true).await;
    assert!(recorders.iter().all(|recorder| recorder.seen().len() == 1), "{:?}", recorders.map(|r| r.seen()));
    daemon
}

/// Wait until there is advice for both pools.
pub async fn advised(daemon: &Daemon) {
    until("the pools get advice", DECIDED, async || {
        let (_, list) = daemon.get("/v1/pools").await;
        let advised = list["pools"].as_array().is_some_and(|all| {
            all.len() == 2 && all.iter().all(|pool| pool["advised_replicas"].is_u64() && pool["mode"] == "advise")
        });
        if advised { Ok(()) } else { Err(list.to_string()) }
    })
    .await;
}

/// Nothing that the daemon did was more than its rights allow.
pub fn rights_are_enough(audit: &Audit, daemon: &Daemon) {
    let refused: Vec<_> = audit.deeds().into_iter().filter(|deed| [401, 403].contains(&deed.code)).collect();
    assert_eq!(refused, [], "the shipped rights are enough");
    let log = daemon.process.log();
    assert!(!log.to_lowercase().contains("forbidden") && !log.contains(" 403"), "{log}");
}

/// The API's own description, for both metrics.
fn explains(world: &World) {
    for metric in ["poolwright_desired_replicas", "wva_desired_replicas"] {
        let told = world.kubectl.ok(&["explain", metric, "--api-version=external.metrics.k8s.io/v1beta1"]);
        println!("  {}", told.lines().take(3).collect::<Vec<_>>().join(" | "));
        assert!(told.contains("ExternalMetricValueList"), "{told}");
    }
}
