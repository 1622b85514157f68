//! Processes that go away and come back.

use std::time::{Duration, Instant};

use crate::harness::World;
use crate::harness::hpa::Status;
use crate::harness::published::Say;
use crate::harness::wait::until;
use crate::hold::following;

/// The aggregator looks every thirty seconds, up to five seconds long; after failures it may wait thirty seconds
/// more. Ten seconds are for a busy machine.
const NOTICED: Duration = Duration::from_secs(65);
const BACK: Duration = Duration::from_secs(35 + 10);

async fn available(world: &World, wanted: &str, limit: Duration) {
    let start = Instant::now();
    until(&format!("the API is available: {wanted}"), limit, async || {
        let seen = world.api_service_condition().await;
        if seen.starts_with(wanted) { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("  the API is available: {wanted}, after {:.0} s", start.elapsed().as_secs_f64());
}

pub async fn a_killed_daemon_holds_and_recovers(world: &mut World) {
    let namespace = "outage-daemon";
    world.namespace(namespace);
    let recorder = following(world, namespace, "llama").await;
    let status = Status::of(&world.client, namespace);
    world.server.kill();
    status.wait_condition("llama", "ScalingActive", "False FailedGetExternalMetric").await;
    available(world, "False", NOTICED).await;
    assert_eq!(recorder.seen(), [5], "what runs is held");
    world.server.restart();
    available(world, "True", BACK).await;
    status.wait_condition("llama", "ScalingActive", "True ValidMetricFound").await;
    world.server.say(namespace, "llama", Say::Number(9));
    recorder.reaches(9).await;
    assert_eq!(recorder.seen(), [5, 9]);
    world.forget_namespace(namespace);
}

pub async fn a_restarted_apiserver_needs_no_help(world: &mut World) {
    let namespace = "outage-apiserver";
    world.namespace(namespace);
    let recorder = following(world, namespace, "llama").await;
    world.plane.restart_apiserver().await;
    world.server.say(namespace, "llama", Say::Number(9));
    recorder.reaches(9).await;
    assert_eq!(recorder.seen(), [5, 9]);
    available(world, "True", BACK).await;
    world.forget_namespace(namespace);
}
