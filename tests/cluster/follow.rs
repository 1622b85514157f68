//! A real HPA and a real Deployment, whose pods become ready, follow what is published.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ApiResource;

use crate::harness::World;
use crate::harness::hpa::{AVERAGE, DEPLOYMENT, Hpa, Status};
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::wait::until_equal;

/// Reads of the value from the moment it changes to the moment the change is seen in the object: the one that
/// acts, one that may have been under way, and one more for a watch that is late.
pub const READS_OF_ONE_SYNC: u64 = 3;

pub async fn a_deployment_follows_exactly(world: &mut World) {
    let (namespace, name) = ("follow", "llama");
    world.namespace(namespace);
    world.deployment(namespace, name, 1);
    world.server.say(namespace, name, Say::Number(1));
    let deployments = ApiResource::erase::<Deployment>(&());
    let recorder = Recorder::start(&world.client, &deployments, namespace, name).await;
    let status = Status::of(&world.client, namespace);
    Hpa { namespace, name, target: DEPLOYMENT, max: 30, tolerance: Some("0"), goal: AVERAGE }.apply(&world.kubectl);
    status.wait_condition(name, "ScalingActive", "True ValidMetricFound").await;
    for wanted in [7, 21, 20, 0, 1] {
        let before = world.server.reads(namespace, name);
        world.server.say(namespace, name, Say::Number(wanted));
        recorder.reaches(i64::from(wanted)).await;
        let reads = world.server.reads(namespace, name) - before;
        assert!(reads <= READS_OF_ONE_SYNC, "{wanted} took {reads} syncs");
        if wanted == 0 {
            // Only an HPA that brought its target to zero itself may wake it again.
            until_equal("the HPA knows that it scaled to zero", true, async || {
                status.condition(name, "ScaledToZero").await.is_some_and(|c| c.starts_with("True"))
            })
            .await;
        }
    }
    assert_eq!(recorder.seen(), [1, 7, 21, 20, 0, 1], "no other number in between");
    world.forget_namespace(namespace);
}

/// A target of type Value multiplies by the ready replicas: two replicas that should be two become four.
pub async fn value_targets_do_not_follow(world: &mut World) {
    let (namespace, name) = ("follow-value", "llama");
    world.namespace(namespace);
    world.deployment(namespace, name, 2);
    world.server.say(namespace, name, Say::Number(2));
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), namespace);
    until_equal("both replicas are ready", Some(2), async || api.get(name).await.ok()?.status?.ready_replicas).await;
    let recorder = Recorder::start(&world.client, &ApiResource::erase::<Deployment>(&()), namespace, name).await;
    let goal = r#"type: Value, value: "1""#;
    Hpa { namespace, name, target: DEPLOYMENT, max: 5, tolerance: Some("0"), goal }.apply(&world.kubectl);
    until_equal("the HPA goes past the number", true, async || recorder.seen().len() > 1).await;
    assert_eq!(recorder.seen()[..2], [2, 4]);
    world.forget_namespace(namespace);
}
