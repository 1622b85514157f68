//! kube-apiserver's aggregator and kubectl in front of the external metrics API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::published::Say;
use crate::harness::wait::{until, until_equal};

const EM: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// A new APIService is looked at when it appears and every half minute after that.
const AVAILABLE: Duration = Duration::from_secs(35);

pub async fn the_api_is_available(world: &mut World) {
    until("the APIService is available", AVAILABLE, async || match world.api_service_condition().await {
        seen if seen == "True Passed" => Ok(()),
        other => Err(other),
    })
    .await;
}

pub async fn kubectl_lists_the_metrics_without_a_warning(world: &mut World) {
    // Discovery of an aggregated API is fetched in the background.
    let list = ["api-resources", "--api-group=external.metrics.k8s.io", "--no-headers"];
    until_equal("kubectl lists two metrics", 2, async || world.kubectl.run(&list).out.lines().count()).await;
    let listed = world.kubectl.ok(&list);
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(["poolwright_desired_replicas", "wva_desired_replicas"].contains(&words[0]), "{line}");
        assert_eq!(words[1..], ["external.metrics.k8s.io/v1beta1", "true", "ExternalMetricValueList"], "{line}");
    }
    let all = world.kubectl.ok(&["api-resources"]);
    assert!(all.contains("poolwright_desired_replicas") && all.contains("deployments"), "{all}");
    assert!(world.kubectl.ok(&["api-versions"]).contains("external.metrics.k8s.io/v1beta1"));
}

pub async fn kubectl_reads_a_value_as_json(world: &mut World) {
    world.server.say("raw", "llama", Say::Number(21));
    world.server.say("raw", "other", Say::Number(3));
    let path = format!("{EM}/namespaces/raw/poolwright_desired_replicas?labelSelector=pool%3Dllama");
    let list: Value = serde_json::from_str(&world.kubectl.ok(&["get", "--raw", &path])).expect("JSON");
    assert_eq!(list["kind"], "ExternalMetricValueList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    let item = &list["items"][0];
    assert_eq!((&item["value"], &item["metricName"]), (&json!("21"), &json!("poolwright_desired_replicas")));
    assert_eq!(item["metricLabels"]["pool"], "llama");
}

pub async fn kubectl_is_refused_as_kubernetes_refuses(world: &mut World) {
    let raw = |path: &str| world.kubectl.run(&["get", "--raw", &format!("{EM}{path}")]);
    for (path, reason) in [
        ("/namespaces/raw/no_such_metric", "NotFound"),
        ("/nope", "NotFound"),
        ("/namespaces/raw/poolwright_desired_replicas?labelSelector=a%20b", "BadRequest"),
    ] {
        let said = raw(path);
        assert!(!said.ok && said.err.contains(reason), "{path}: {said:?}");
    }
    world.server.say("raw", "unknown", Say::Unknown);
    let said = raw("/namespaces/raw/poolwright_desired_replicas?labelSelector=pool%3Dunknown");
    assert!(!said.ok && said.err.contains("ServiceUnavailable"), "{said:?}");
    // A user of the cluster needs a role to read values; without one kube-apiserver does not even ask us.
    let path = format!("{EM}/namespaces/raw/poolwright_desired_replicas");
    let plain = world.kubectl.with_kubeconfig(&world.plane.plain_kubeconfig());
    let said = plain.run(&["get", "--raw", &path]);
    assert!(!said.ok && said.err.contains("Forbidden"), "{said:?}");
}

pub async fn a_namespace_can_be_deleted(world: &mut World) {
    // Deletion asks every API for objects to delete, and waits for ever for one that does not answer.
    world.namespace("short-lived");
    world.kubectl.ok(&["create", "configmap", "something", "--namespace=short-lived"]);
    world.kubectl.ok(&["delete", "namespace", "short-lived", "--wait=true", "--timeout=60s"]);
}
