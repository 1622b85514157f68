//! The check-up: what keeps a cluster from following poolwright, and what to do about it.
//!
//! Owns what is asked of the cluster for it ([`read`]) and what the answers mean ([`judge`], which is pure). Reads
//! only, and knows neither the daemon nor how anything is printed.

mod actions;
mod api;
mod keda;
mod metrics;
mod read;
mod rights;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::Identity;
use crate::cluster::manifests::{Grant, KubernetesVersion, Right};
use crate::observe::Observation;
pub use crate::observe::Severity;
use crate::policy::{Mode, Policy};
use crate::serve::Owner;

pub use read::{reach, read};

/// What a finding is about, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    Metrics,
    Cluster,
    Scalers,
    Api,
    Rights,
    Keda,
}

impl Area {
    /// A heading for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Metrics => "Metrics",
            Self::Cluster => "Cluster",
            Self::Scalers => "What scales the pools",
            Self::Api => "External metrics API",
            Self::Rights => "Rights of the daemon",
            Self::Keda => "KEDA",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub area: Area,
    pub severity: Severity,
    /// Stable name for programs.
    pub kind: String,
    /// Kind and name of the object, pool or series.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// What to do: words, a line of YAML or a command.
    pub action: String,
}

/// The result of a check-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was looked at, for people.
    pub checked: Vec<String>,
    /// Sorted by area, then the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing but good-to-know was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Info)
    }

    fn add(&mut self, area: Area, severity: Severity, kind: &str, object: impl Into<String>, what: What) {
        let What { message, action } = what;
        self.findings.push(Finding { area, severity, kind: kind.to_owned(), object: object.into(), message, action });
    }
}

/// What is wrong and what to do.
struct What {
    message: String,
    action: String,
}

fn what(message: impl Into<String>, action: impl Into<String>) -> What {
    What { message: message.into(), action: action.into() }
}

/// Something that was asked of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<T> {
    Found(T),
    Absent,
    /// It could not be asked; why.
    Unknown(String),
}

/// Who is asked about, and how the actions name things.
#[derive(Clone, Debug)]
pub struct Settings {
    pub identity: Identity,
    /// Name of the daemon's service account.
    pub account: String,
    /// The policy as it was given, for commands.
    pub policy_path: String,
    /// The metrics source, for people.
    pub source: String,
}

impl Settings {
    /// The daemon as kube-apiserver names it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.identity.namespace, self.account)
    }
}

/// The APIService of external metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiFacts {
    pub owner: Owner,
    /// Namespace, name and port of the Service it points to.
    pub service: Option<(String, String, i32)>,
    pub has_bundle: bool,
    pub insecure: bool,
    /// cert-manager writes the bundle.
    pub injected: bool,
    /// Whether kube-apiserver reaches it, and its words.
    pub available: Option<(bool, String)>,
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    Unknown(String),
}

/// A scaler address of a ScaledObject.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalerAddress {
    /// `namespace/name` of the ScaledObject.
    pub object: String,
    pub address: String,
    /// Namespace, name and port of the Service, where the address names one.
    pub service: Option<(String, String, i32)>,
}

/// Everything that was asked of the cluster besides its pools.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFacts {
    /// Version of kube-apiserver; `None` when it writes none that is known.
    pub version: Option<KubernetesVersion>,
    pub api: Lookup<ApiFacts>,
    /// Ports of the Services that something points to, by namespace and name.
    pub services: BTreeMap<(String, String), Lookup<Vec<i32>>>,
    /// Data of ConfigMap `kube-system/extension-apiserver-authentication`.
    pub trust: Lookup<BTreeMap<String, String>>,
    /// The daemon's service account.
    pub account: Lookup<()>,
    /// The daemon's rights, by binding.
    pub grants: Vec<(Grant, Vec<(Right, Answer)>)>,
    /// Whether HPA may list our metric, by namespace of acting pools.
    pub hpa: Vec<(String, Answer)>,
    pub keda_installed: bool,
    pub addresses: Vec<ScalerAddress>,
}

/// The cluster, as far as it was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Cluster {
    /// There is none to talk to.
    None,
    /// It does not answer; why.
    Silent(String),
    Read(Box<ClusterFacts>),
}

/// What all that means.
pub fn judge(policy: &Policy, observation: &Observation, cluster: &Cluster, settings: &Settings) -> Report {
    let mut report = Report::default();
    report.checked.push(format!("policy ({} pools)", policy.pools.len()));
    report.checked.push(format!("metrics ({})", settings.source));
    metrics::judge(policy, observation, cluster, settings, &mut report);
    match cluster {
        Cluster::None => report.checked.push("no cluster (--kubernetes on, or --kubeconfig FILE)".to_owned()),
        Cluster::Silent(why) => {
            let action = "check --kubeconfig, --context and the network, then `kubectl version`";
            report.add(
                Area::Cluster,
                Severity::Error,
                "cluster-unreachable",
                "kube-apiserver",
                what(format!("does not answer: {why}"), action),
            );
        }
        Cluster::Read(facts) => {
            version(policy, facts, &mut report);
            let needs_api = needs_api(policy, observation);
            api::judge(facts, needs_api, settings, &mut report);
            rights::judge(facts, needs_api, settings, &mut report);
            keda::judge(facts, &settings.policy_path, &mut report);
        }
    }
    consequences(&mut report);
    report.findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.area, std::cmp::Reverse(f.severity));
        key(a).cmp(&key(b)).then_with(|| (&a.object, &a.kind).cmp(&(&b.object, &b.kind)))
    });
    report.findings.dedup();
    report
}

/// Whether an acting pool waits for numbers from the external metrics API.
fn needs_api(policy: &Policy, observation: &Observation) -> bool {
    policy.pools.iter().zip(&observation.pools).any(|(pool, seen)| {
        let scaler = seen.cluster.as_ref().and_then(|cluster| cluster.scaler.as_ref());
        pool.mode == Mode::Act && scaler.is_none_or(|scaler| scaler.kind != "ScaledObject")
    })
}

fn version(policy: &Policy, facts: &ClusterFacts, report: &mut Report) {
    let Some(version) = facts.version else {
        let action = "expect what Kubernetes 1.35 and later can do";
        let message = what("its version cannot be read", action);
        report.add(Area::Cluster, Severity::Info, "kubernetes-version", "kube-apiserver", message);
        return;
    };
    report.checked.push(format!("Kubernetes {version}"));
    let mut tell = |message: String, action: &str| {
        report.add(Area::Cluster, Severity::Info, "kubernetes-version", "kube-apiserver", what(message, action));
    };
    if !version.has_tolerance() {
        tell(
            format!("Kubernetes {version} has no tolerance of one HPA (from {})", KubernetesVersion::TOLERANCE),
            "start kube-controller-manager with --horizontal-pod-autoscaler-tolerance=0",
        );
    }
    if !version.scales_to_zero() && policy.pools.iter().any(|p| p.min == 0 && p.mode == Mode::Act) {
        tell(
            format!("no HPA of Kubernetes {version} goes to 0 (from {})", KubernetesVersion::SCALE_TO_ZERO),
            "let KEDA scale these pools (`poolwright manifests --for keda`), or write `min: 1` in the policy",
        );
    }
}

/// An HPA that gets no number because nobody can get one, or that rests because of another one, is no matter of its
/// own.
fn consequences(report: &mut Report) {
    let rivals: Vec<String> =
        report.findings.iter().filter(|f| f.kind == "two-scalers").map(|f| f.object.clone()).collect();
    for finding in &mut report.findings {
        let rests = finding.kind == "scaler-condition" && finding.message.contains("AmbiguousSelector");
        if rests && rivals.contains(&finding.object) {
            finding.severity = Severity::Info;
            "delete all but one of the scalers first, this follows from it".clone_into(&mut finding.action);
        }
    }
    let broken = |f: &Finding| matches!(f.area, Area::Api | Area::Rights) && f.severity == Severity::Error;
    let Some(cause) = report.findings.iter().find(|f| broken(f)).map(|f| f.object.clone()) else { return };
    for finding in &mut report.findings {
        if finding.kind == "scaler-condition" && finding.message.contains("FailedGetExternalMetric") {
            finding.severity = Severity::Info;
            finding.action = format!("mend {cause} first, this follows from it");
        }
    }
}
