//! What both sources hand to [`assemble`](super::assemble()): one reading per instance or per group of labels.
//!
//! Plain data between the sources, which know protocols, and the assembly, which knows the policy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cluster::ClusterState;
use super::plausible::Refusal;
use super::window::{Distributions, Increments};
use super::{Finding, FindingKind};
use crate::policy::NAMESPACE_LABEL;

/// Labels of a target and its series, by name.
pub type Labels = BTreeMap<String, String>;

/// Label that names the pod of a target.
pub const POD_LABEL: &str = "pod";
/// Label that names the address of a target.
pub const INSTANCE_LABEL: &str = "instance";
/// Label that names the served model of a series.
pub const MODEL_LABEL: &str = "model_name";

/// What is known of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Listed, and it answered.
    #[default]
    Live,
    /// Listed, answered before, did not answer now.
    Silent,
    /// Listed, has never answered.
    Starting,
    /// No longer listed; what it counted in the window still counts.
    Gone,
    /// Not an instance: series of several instances added up by the source.
    Group,
}

/// One target instance, or one group of labels.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub labels: Labels,
    /// Index of the pool, where the operator listed the address under a pool; else the selectors decide.
    pub pool: Option<usize>,
    pub state: State,
    /// Unix time of the newest sample, seconds.
    pub at_seconds: f64,
    /// Data-parallel ranks that print their own series.
    pub ranks: BTreeSet<String>,
    /// Gauges at that time, as printed.
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    pub kv_usage: Option<f64>,
    pub kv_capacity_tokens: Option<f64>,
    /// What was counted in the window; `None` before a second sample.
    pub increments: Option<Increments>,
    pub distributions: Distributions,
    /// Values that the source threw away.
    pub refused: Vec<Refusal>,
    /// Its pod was asked to go: it may still answer, and is no capacity.
    pub leaving: bool,
    /// Why the instance is silent.
    pub error: Option<String>,
}

impl Reading {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// The instance this reading claims to be: namespace and pod, else the address, else all labels.
    pub fn identity(&self) -> String {
        match (self.label(NAMESPACE_LABEL), self.label(POD_LABEL), self.label(INSTANCE_LABEL)) {
            (Some(namespace), Some(pod), _) => format!("{namespace}/{pod}"),
            (_, _, Some(instance)) => instance.to_owned(),
            (_, Some(pod), _) => pod.to_owned(),
            _ => format!("{:?}", self.labels),
        }
    }
}

/// Evidence of replica counts from the cluster's own state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicaEvidence {
    /// Replicas the scale target asks for.
    pub wanted: Option<u32>,
    /// Replicas that are ready.
    pub ready: Option<u32>,
    /// Unix time of the evidence, seconds.
    pub at_seconds: f64,
    /// Watched in the cluster itself, so that it is as new as the pods; else a metric about them, which lags.
    pub watched: bool,
}

/// What a source knows besides the readings.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The source as a whole did not answer.
    pub source_error: Option<String>,
    pub findings: Vec<Finding>,
    /// The list of targets is complete: a pool for which nothing is listed has no instance.
    pub listing_complete: bool,
    /// The source says itself that its answers may be partial.
    pub partial: bool,
    /// Replica counts by index of the pool, as metrics report them.
    pub replicas: BTreeMap<usize, ReplicaEvidence>,
    /// Pools (`namespace/name`) that were seen without any instance, and no instance of which has answered since:
    /// what is listed for them now really is starting.
    pub at_zero: BTreeSet<String>,
    /// What the cluster itself says, where one is watched: then its word counts instead of `replicas`, and a pool
    /// of which it says nothing is held.
    pub cluster: Option<ClusterState>,
}

/// Findings of one kind that are told one by one.
const LIMIT_PER_KIND: usize = 20;

/// Collects findings: each once, at most [`LIMIT_PER_KIND`] of a kind.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<FindingKind, BTreeMap<String, String>>);

impl Findings {
    /// Add one; the first message about a subject stands.
    pub fn add(&mut self, kind: FindingKind, subject: impl Into<String>, message: impl Into<String>) {
        self.0.entry(kind).or_default().entry(subject.into()).or_insert_with(|| message.into());
    }

    /// All findings by kind and subject, the surplus of a kind replaced by its number.
    pub fn finish(self) -> Vec<Finding> {
        let mut all = Vec::new();
        for (kind, of_kind) in self.0 {
            let surplus = of_kind.len().saturating_sub(LIMIT_PER_KIND);
            all.extend(of_kind.into_iter().take(LIMIT_PER_KIND).map(|(subject, message)| Finding {
                kind,
                subject,
                message,
            }));
            if surplus > 0 {
                let message = format!("{surplus} more of this kind are not listed");
                all.push(Finding { kind, subject: "fleet".into(), message });
            }
        }
        all
    }
}

impl FromIterator<Finding> for Findings {
    fn from_iter<T: IntoIterator<Item = Finding>>(findings: T) -> Self {
        let mut all = Self::default();
        for finding in findings {
            all.add(finding.kind, finding.subject, finding.message);
        }
        all
    }
}
