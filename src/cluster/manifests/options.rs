//! The choices, and which names cannot be.

use std::collections::BTreeMap;

use super::{KedaVersion, KubernetesVersion, ManifestError};
use crate::cluster::Identity;

/// Who follows the published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follower {
    /// HPA, through the external metrics API that poolwright serves.
    Hpa,
    /// KEDA, through poolwright's gRPC scaler: pushed from 0, polled otherwise.
    Keda,
    /// KEDA, through poolwright's JSON with a bearer token.
    MetricsApi,
}

/// Where the daemon reads metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsFrom {
    /// From this Prometheus.
    Prometheus(String),
    /// From the model servers themselves; their pods are found in the cluster.
    Pods,
}

/// Where the certificate of the aggregated API comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// From an authority that the daemon makes and keeps in a Secret.
    SelfMade,
    /// From cert-manager.
    CertManager,
}

/// What keeps state and journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateVolume {
    /// A PersistentVolumeClaim of the default storage class.
    Claim,
    /// A folder that ends with the pod: a restart then holds what runs and learns demand anew.
    Empty,
}

/// Everything that the policy does not say.
#[derive(Clone, Debug)]
pub struct Options {
    pub follower: Follower,
    pub kubernetes: KubernetesVersion,
    pub keda: KedaVersion,
    /// The daemon's namespace, and its Service, whose name begins the names of all its objects.
    pub identity: Identity,
    pub image: String,
    pub metrics: MetricsFrom,
    pub certificates: Certificates,
    /// The metrics server from which the daemon takes the external metrics API, and to which it passes on what is not
    /// its own.
    pub upstream: Option<String>,
    /// KEDA's calls are mutual TLS; else plain text, with nothing but the NetworkPolicy in front.
    pub keda_tls: bool,
    /// Namespace of KEDA's operator.
    pub keda_namespace: String,
    /// Namespace of the Prometheus that reads `/metrics`.
    pub monitoring_namespace: String,
    /// Print a ServiceMonitor of the Prometheus operator too.
    pub service_monitor: bool,
    pub state: StateVolume,
    /// Policy texts by file name, for the ConfigMap; empty when something else makes it.
    pub policy_files: BTreeMap<String, String>,
}

const LABEL_RULE: &str = "lower-case letters, digits and `-`, starting with a letter, at most 50";
const NAMESPACE_RULE: &str = "lower-case letters, digits and `-`, at most 63";

/// Longest name that leaves room for a suffix within the 63 characters of a Service.
const LONGEST_NAME: usize = 50;

impl Default for Options {
    fn default() -> Self {
        Self {
            follower: Follower::Hpa,
            kubernetes: KubernetesVersion::NEWEST,
            keda: KedaVersion::NEWEST,
            identity: Identity { namespace: "poolwright-system".to_owned(), service: "poolwright".to_owned() },
            image: Self::default_image(),
            metrics: MetricsFrom::Pods,
            certificates: Certificates::SelfMade,
            upstream: None,
            keda_tls: true,
            keda_namespace: "keda".to_owned(),
            monitoring_namespace: "monitoring".to_owned(),
            service_monitor: false,
            state: StateVolume::Claim,
            policy_files: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The image of this version, as a local build names it.
    pub fn default_image() -> String {
        concat!("poolwright:", env!("CARGO_PKG_VERSION")).to_owned()
    }

    pub(super) fn is_keda_grpc(&self) -> bool {
        self.follower == Follower::Keda
    }

    /// Whether KEDA shows a certificate or a token.
    pub(super) fn keda_authenticates(&self) -> bool {
        match self.follower {
            Follower::Hpa => false,
            Follower::Keda => self.keda_tls,
            Follower::MetricsApi => true,
        }
    }

    pub(super) fn serves_api(&self) -> bool {
        self.follower == Follower::Hpa
    }

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let refuse = |what, name: &str, rule| Err(ManifestError::Name { what, name: name.to_owned(), rule });
        let service = self.name();
        let starts_well = service.starts_with(|c: char| c.is_ascii_lowercase());
        if !is_dns_label(service) || !starts_well || service.len() > LONGEST_NAME {
            return refuse("name of the Service", service, LABEL_RULE);
        }
        let namespaces = [
            ("daemon's namespace", &self.identity.namespace),
            ("namespace of KEDA", &self.keda_namespace),
            ("namespace of Prometheus", &self.monitoring_namespace),
        ];
        for (what, name) in namespaces {
            if !is_dns_label(name) {
                return refuse(what, name, NAMESPACE_RULE);
            }
        }
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return refuse("image", &self.image, "an image's name has no spaces");
        }
        match self.policy_files.keys().find(|key| !is_config_key(key)) {
            Some(key) => Err(ManifestError::PolicyFile(key.clone())),
            None => Ok(()),
        }
    }
}

fn is_dns_label(name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

fn is_config_key(key: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=253).contains(&key.len()) && key.bytes().all(inside) && !key.starts_with("..") && key != "."
}
