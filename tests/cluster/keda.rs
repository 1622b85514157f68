//! A real KEDA beside us. It owns the external metrics API from here on: these tests come last.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ApiResource;

use crate::harness::World;
use crate::harness::keda::{self, Keda};
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::wait::until_equal;

/// A ScaledObject on the JSON endpoint of the pool of its own name.
fn scaled_object(world: &World, namespace: &str, name: &str) -> String {
    let port = world.server.web_port;
    let rules =
        r#"{tolerance: "0", stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 30, periodSeconds: 1}]}"#;
    format!(
        r#"
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  scaleTargetRef: {{name: {name}}}
  pollingInterval: 1
  cooldownPeriod: 1
  minReplicaCount: 0
  maxReplicaCount: 30
  advanced:
    horizontalPodAutoscalerConfig: {{behavior: {{scaleUp: {rules}, scaleDown: {rules}}}}}
  triggers:
  - type: metrics-api
    metadata:
      targetValue: "1"
      url: http://127.0.0.1:{port}/v1/namespaces/{namespace}/pools/{name}
      valueLocation: desired_replicas
"#
    )
}

pub async fn keda_serves_its_own_metrics_beside_ours(world: &mut World) {
    let _keda = Keda::start(world).await;
    let (namespace, name) = ("keda-json", "llama");
    world.namespace(namespace);
    world.deployment(namespace, name, 1);
    world.server.say(namespace, name, Say::Number(1));
    let recorder = Recorder::start(&world.client, &ApiResource::erase::<Deployment>(&()), namespace, name).await;
    world.kubectl.apply(&scaled_object(world, namespace, name));
    for wanted in [7, 21, 20, 0, 3] {
        world.server.say(namespace, name, Say::Number(wanted));
        recorder.reaches(i64::from(wanted)).await;
    }
    // KEDA goes from and to zero through one; every other number is exact.
    let seen: Vec<i64> = recorder.seen().into_iter().filter(|n| *n != 1).collect();
    assert_eq!(seen, [7, 21, 20, 0, 3], "{:?}", recorder.seen());
    assert_eq!(world.owner().await, keda::SERVICE, "nobody took the API from KEDA");
    // And back: whoever removes KEDA registers us again.
    world.kubectl.ok(&["delete", "scaledobject", name, "--namespace", namespace, "--timeout=60s"]);
    world.register();
    until_equal("we serve the API again", "True Passed".to_owned(), async || world.api_service_condition().await).await;
    world.forget_namespace(namespace);
}
