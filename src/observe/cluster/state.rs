//! The cluster's state as the rest of the program sees it: plain data, one entry per pool of the policy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::observe::{Finding, ReplicaEvidence};
use crate::perf::GivenLimits;

/// The judgement over everything that was read of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// In the policy's order.
    pub pools: Vec<PoolState>,
    /// Pods by namespace, then by name, of the namespaces whose pods are known now.
    pub pods: BTreeMap<String, BTreeMap<String, PodPlace>>,
    pub findings: Vec<Finding>,
}

/// Where a pod belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlace {
    /// Indices of the pools whose scale target it belongs to: one, or none.
    pub pools: BTreeSet<usize>,
    /// It was asked to go, or ended.
    pub leaving: bool,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    /// Replica counts; `None` where they are not known now, and then the pool is held.
    pub evidence: Option<ReplicaEvidence>,
    /// Its pods are known, so that a pod that is known and is none of them belongs elsewhere.
    pub pods_known: bool,
    /// Metrics pages of its pods.
    pub pages: Vec<ScrapePod>,
    pub report: PoolCluster,
}

/// A pod's metrics page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrapePod {
    pub pod: String,
    /// `address:port`.
    pub address: String,
}

/// What the cluster says about a pool, for people: shown and journaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolCluster {
    /// Replicas the scale target asks for.
    pub wanted: Option<u32>,
    /// Replicas that exist, surge of a rolling update included.
    pub existing: Option<u32>,
    /// Replicas that are ready, surge included.
    pub ready: Option<u32>,
    /// Pods that are there and not ready.
    pub starting: Option<u32>,
    /// Pods that were asked to go and are still there.
    pub terminating: Option<u32>,
    /// Pods that no node takes.
    pub unschedulable: Option<u32>,
    /// Limits that its servers were started with, as far as the arguments of its pods say them; nothing where no
    /// pod and no template is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<GivenLimits>,
    /// The scale target, once it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetObject>,
    /// What scales the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<ScalerReport>,
}

/// A scale target as events name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetObject {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// With it `kubectl describe` finds what is said about the object.
    pub uid: Option<String>,
}

/// The HPA or ScaledObject of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalerReport {
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    pub kind: String,
    pub name: String,
    /// It sets exactly the number that is published, as far as its settings tell.
    pub follows: bool,
    /// What keeps it from doing so, or may.
    pub problems: Vec<String>,
}
