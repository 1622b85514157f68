//! What is kept of a pod and of a scale target: the few fields that are judged, nothing else of the object.

use std::collections::BTreeMap;

use chrono::DateTime;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::Arguments;
use super::json::{count, list, text};
use super::selector::Selector;

/// Annotation with the number of the port that prints metrics.
const PORT_ANNOTATION: &str = "prometheus.io/port";

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub kind: String,
    pub name: String,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub labels: BTreeMap<String, String>,
    pub owner: Option<Owner>,
    pub ip: Option<String>,
    /// Numbers of the containers' ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Port named by the annotation that Prometheus users know.
    pub annotated_port: Option<u16>,
    /// The condition `Ready`.
    pub ready: bool,
    /// It was asked to go.
    pub terminating: bool,
    /// It ended, well or badly, and will not serve again.
    pub finished: bool,
    /// Since when (Unix seconds) and why no node takes it.
    pub unschedulable: Option<(f64, String)>,
    /// Limits that its server was started with.
    #[serde(default)]
    pub arguments: Arguments,
}

impl Pod {
    pub fn read(object: &DynamicObject) -> Self {
        let (metadata, data) = (&object.metadata, &object.data);
        let conditions = list(data, "/status/conditions");
        let condition = |kind: &str| conditions.iter().find(|c| c["type"] == kind);
        let refused = condition("PodScheduled").filter(|c| c["status"] == "False" && c["reason"] == "Unschedulable");
        let annotation = metadata.annotations.as_ref().and_then(|a| a.get(PORT_ANNOTATION));
        Self {
            labels: metadata.labels.clone().unwrap_or_default(),
            owner: controller(object),
            ip: text(data, "/status/podIP"),
            ports: list(data, "/spec/containers").iter().flat_map(|c| list(c, "/ports")).filter_map(port).collect(),
            annotated_port: annotation.and_then(|port| port.trim().parse().ok()).filter(|p| *p > 0),
            ready: condition("Ready").is_some_and(|c| c["status"] == "True"),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(data.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed")),
            unschedulable: refused.map(|c| (since(c), text(c, "/message").unwrap_or_default())),
            arguments: data.pointer("/spec").map(Arguments::of_pod).unwrap_or_default(),
        }
    }

    /// It counts, or will: neither asked to go nor ended.
    pub fn is_there(&self) -> bool {
        !self.terminating && !self.finished
    }
}

/// The object's controller.
pub fn controller(object: &DynamicObject) -> Option<Owner> {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    Some(Owner { kind: owner.kind.clone(), name: owner.name.clone() })
}

fn port(port: &Value) -> Option<(String, u16)> {
    Some((text(port, "/name")?, u16::try_from(port.get("containerPort")?.as_u64()?).ok()?))
}

/// Unix time of a condition's last change; the beginning of time where it is not written.
fn since(condition: &Value) -> f64 {
    let time = text(condition, "/lastTransitionTime").and_then(|t| DateTime::parse_from_rfc3339(&t).ok());
    #[allow(clippy::cast_precision_loss)] // Seconds since 1970.
    time.map_or(0.0, |t| t.timestamp() as f64)
}

/// A scale target, or what its scale sub-resource says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Replicas asked for.
    pub wanted: Option<u32>,
    /// Replicas that exist, surge of a rolling update included.
    pub replicas: Option<u32>,
    /// Replicas that are ready, where the object itself says so.
    pub ready: Option<u32>,
    pub selector: Option<Selector>,
    /// Replicas are groups of pods, so that ready pods are not ready replicas.
    pub grouped: bool,
    /// Which object it is, over deletion and re-creation.
    #[serde(default)]
    pub uid: Option<String>,
    /// Limits that its next pods' servers will be started with, where its template was read.
    #[serde(default)]
    pub template: Option<Arguments>,
}

impl Target {
    /// A Deployment or a StatefulSet.
    pub fn of_workload(object: &DynamicObject) -> Self {
        let data = &object.data;
        Self {
            selector: data.pointer("/spec/selector").and_then(Selector::from_json).filter(|s| !s.is_empty()),
            template: data.pointer("/spec/template/spec").map(Arguments::of_pod),
            ..Self::counted(data)
        }
    }

    /// A LeaderWorkerSet: a replica is a group of a leader and its workers, and the leader serves.
    pub fn of_groups(object: &DynamicObject) -> Self {
        let data = &object.data;
        let selector = text(data, "/status/hpaPodSelector").and_then(|s| Selector::parse(&s));
        // Without a template of its own the leader is started as the workers are.
        let template = ["leader", "worker"].map(|pod| format!("/spec/leaderWorkerTemplate/{pod}Template/spec"));
        Self {
            selector: selector.filter(|s| !s.is_empty()),
            grouped: true,
            template: template.iter().find_map(|path| data.pointer(path)).map(Arguments::of_pod),
            ..Self::counted(data)
        }
    }

    fn counted(data: &Value) -> Self {
        // What the server does not print is the default: one wanted, none there.
        Self {
            wanted: Some(data.pointer("/spec/replicas").map_or(Some(1), |_| count(data, "/spec/replicas"))).flatten(),
            replicas: Some(count(data, "/status/replicas").unwrap_or(0)),
            ready: Some(count(data, "/status/readyReplicas").unwrap_or(0)),
            ..Self::default()
        }
    }

    /// What the scale sub-resource of any object says. It prints no zeros.
    pub fn of_scale(scale: &Value) -> Self {
        let selector = text(scale, "/status/selector").and_then(|s| Selector::parse(&s));
        Self {
            wanted: Some(count(scale, "/spec/replicas").unwrap_or(0)),
            replicas: Some(count(scale, "/status/replicas").unwrap_or(0)),
            selector: selector.filter(|s| !s.is_empty()),
            ..Self::default()
        }
    }
}
