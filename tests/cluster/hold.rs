//! Without a number to give, an error or an empty list holds what runs.

use std::time::Duration;

use crate::follow::READS_OF_ONE_SYNC;
use crate::harness::World;
use crate::harness::controlplane::HPA_SYNC;
use crate::harness::hpa::{AVERAGE, Hpa, Status};
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::scalable::{self, Scalable};
use crate::harness::wait::until;

const FAILED: &str = "False FailedGetExternalMetric";
const ACTIVE: &str = "True ValidMetricFound";

/// Make an object of five replicas that follows its pool, and wait until it does.
pub async fn following(world: &mut World, namespace: &str, name: &str) -> Recorder {
    scalable::install(&world.kubectl, &world.client).await;
    world.server.say(namespace, name, Say::Number(5));
    Scalable::create(&world.client, namespace, name, 5, 5).await;
    let recorder = Recorder::start(&world.client, &scalable::resource(), namespace, name).await;
    let target = scalable::TARGET;
    Hpa { namespace, name, target, max: 30, tolerance: Some("0"), goal: AVERAGE }.apply(&world.kubectl);
    Status::of(&world.client, namespace).wait_condition(name, "ScalingActive", ACTIVE).await;
    recorder
}

/// Wait for so many more reads of a pool's value, each by one sync.
async fn syncs(world: &World, namespace: &str, name: &str, count: u64) {
    let end = world.server.reads(namespace, name) + count;
    // Twice as long as they should take.
    let limit = 2 * HPA_SYNC * u32::try_from(count).expect("a small number") + Duration::from_secs(20);
    until(&format!("{count} syncs of {name}"), limit, async || match world.server.reads(namespace, name) {
        reads if reads >= end => Ok(()),
        reads => Err(format!("{} to come", end - reads)),
    })
    .await;
}

const NAMESPACE: &str = "hold";

/// What holds while other tests run.
struct Held {
    control: Recorder,
    error: Recorder,
    empty: Recorder,
    /// How often the values of `error` and `empty` will have been read after forty syncs.
    ends: [u64; 2],
}

/// Begins what the next test judges: forty syncs take longer than the tests between the two.
pub async fn errors_and_empty_lists_begin_to_hold(world: &mut World) {
    world.namespace(NAMESPACE);
    let control = following(world, NAMESPACE, "control").await;
    let error = following(world, NAMESPACE, "error").await;
    let empty = following(world, NAMESPACE, "empty").await;
    let status = Status::of(&world.client, NAMESPACE);
    world.server.say(NAMESPACE, "error", Say::Unknown);
    world.server.say(NAMESPACE, "empty", Say::Advised(1));
    for name in ["error", "empty"] {
        status.wait_condition(name, "ScalingActive", FAILED).await;
    }
    world.server.say(NAMESPACE, "control", Say::Number(6));
    let ends = ["error", "empty"].map(|name| world.server.reads(NAMESPACE, name) + 40);
    world.keep(Held { control, error, empty, ends });
}

pub async fn errors_and_empty_lists_hold_for_forty_syncs(world: &mut World) {
    let held = match world.take::<Held>() {
        Some(held) => held,
        None => {
            errors_and_empty_lists_begin_to_hold(world).await;
            world.take().expect("it was begun a line before")
        }
    };
    let Held { control, error, empty, ends } = *held;
    let status = Status::of(&world.client, NAMESPACE);
    for (name, end) in ["error", "empty"].into_iter().zip(ends) {
        let still = end.saturating_sub(world.server.reads(NAMESPACE, name));
        println!("  {name}: {} of 40 syncs to come", still);
        syncs(world, NAMESPACE, name, still).await;
        assert_eq!(status.condition(name, "ScalingActive").await.as_deref(), Some(FAILED));
    }
    assert_eq!((error.seen(), empty.seen()), (vec![5], vec![5]));
    assert_eq!(control.seen(), [5, 6], "the other pools are not held");
    for (name, recorder) in [("error", &error), ("empty", &empty)] {
        let before = world.server.reads(NAMESPACE, name);
        world.server.say(NAMESPACE, name, Say::Number(9));
        recorder.reaches(9).await;
        let reads = world.server.reads(NAMESPACE, name) - before;
        assert!(reads <= READS_OF_ONE_SYNC, "the recovery of {name} took {reads} syncs");
        assert_eq!(recorder.seen(), [5, 9]);
        status.wait_condition(name, "ScalingActive", ACTIVE).await;
    }
    world.forget_namespace(NAMESPACE);
}

pub async fn a_stale_decision_holds(world: &mut World) {
    let namespace = "hold-stale";
    world.namespace(namespace);
    let recorder = following(world, namespace, "llama").await;
    let status = Status::of(&world.client, namespace);
    world.server.stop_deciding();
    status.wait_condition("llama", "ScalingActive", FAILED).await;
    syncs(world, namespace, "llama", 5).await;
    assert_eq!(recorder.seen(), [5]);
    // The API stays there for everybody: what it may not say is no reason to be away.
    assert_eq!(world.api_service_condition().await, "True Passed");
    world.server.say(namespace, "llama", Say::Number(2));
    recorder.reaches(2).await;
    assert_eq!(recorder.seen(), [5, 2]);
    world.forget_namespace(namespace);
}
