//! The objects of `manifests/` as they are shipped, on a server of the version they are rendered for. An overlay
//! changes where the API is reached: here it is a port of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ApiResource;

use crate::harness::World;
use crate::harness::hpa::Status;
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::wait::until_equal;

const POOLS: &str = "inference";
const SYSTEM: &str = "poolwright-system";

fn manifests(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(part)
}

/// A folder to apply with `kubectl apply -k`: the shipped HPA variant with another way to the API.
fn overlay(world: &World) -> PathBuf {
    let folder = world.plane.folder().join("overlay");
    fs::create_dir(&folder).expect("a new folder");
    let (port, authority) = (world.server.api_port, world.server.ca_bundle());
    // Bases are named by relative paths only.
    let depth = folder.components().count() - 1;
    let base = format!("{}{}", "..".to_owned() + &"/..".repeat(depth - 1), manifests("hpa").display());
    let text = format!(
        r#"
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["{base}"]
patches:
- target: {{kind: Service, name: poolwright}}
  patch: |
    - {{op: replace, path: /spec, value: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}}}
- target: {{kind: APIService}}
  patch: |
    - {{op: replace, path: /spec/service/port, value: {port}}}
    - {{op: add, path: /spec/caBundle, value: {authority}}}
"#
    );
    fs::write(folder.join("kustomization.yaml"), text).expect("a file can be written");
    folder
}

fn deployments(world: &World, namespace: &str) -> Api<Deployment> {
    Api::namespaced(world.client.clone(), namespace)
}

pub async fn the_shipped_objects_are_accepted_and_followed(world: &mut World) {
    world.namespace(POOLS);
    for name in ["llama-70b-h100", "llama-70b-a100"] {
        world.deployment(POOLS, name, 1);
        world.server.say(POOLS, name, Say::Number(1));
    }
    // The first step of the installation: nothing but the daemon.
    let base = manifests("").display().to_string();
    world.kubectl.ok(&["apply", "--dry-run=server", "-k", &base]);
    let folder = overlay(world).display().to_string();
    world.kubectl.ok(&["apply", "-k", &folder]);
    // The namespace enforces the restricted pod security standard: a pod that breaks it is never made.
    let system = deployments(world, SYSTEM);
    until_equal("the daemon's pod is admitted", Some(1), async || {
        system.get("poolwright").await.ok()?.status?.ready_replicas
    })
    .await;
    let status = Status::of(&world.client, POOLS);
    let resource = ApiResource::erase::<Deployment>(&());
    let large = Recorder::start(&world.client, &resource, POOLS, "llama-70b-h100").await;
    let small = Recorder::start(&world.client, &resource, POOLS, "llama-70b-a100").await;
    for name in ["llama-70b-h100", "llama-70b-a100"] {
        status.wait_condition(name, "ScalingActive", "True ValidMetricFound").await;
    }
    for (of_large, of_small) in [(4, 0), (2, 3), (3, 4), (1, 0)] {
        world.server.say(POOLS, "llama-70b-h100", Say::Number(of_large));
        world.server.say(POOLS, "llama-70b-a100", Say::Number(of_small));
        large.reaches(i64::from(of_large)).await;
        small.reaches(i64::from(of_small)).await;
    }
    assert_eq!((large.seen(), small.seen()), (vec![1, 4, 2, 3, 1], vec![1, 0, 3, 4, 0]));
}

/// KEDA's kinds check the objects for KEDA; it need not run for that.
pub async fn the_shipped_objects_for_keda_are_accepted(world: &mut World) {
    let crds = world.assets.keda.join("crds").display().to_string();
    world.kubectl.ok(&["apply", "--server-side", "--filename", &crds]);
    let keda = manifests("keda").display().to_string();
    until_equal("kubectl knows KEDA's kinds", true, async || {
        world.kubectl.run(&["get", "scaledobjects", "--all-namespaces"]).ok
    })
    .await;
    world.kubectl.ok(&["apply", "--dry-run=server", "-k", &keda]);
}
