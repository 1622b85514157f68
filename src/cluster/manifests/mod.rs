//! What to apply to a cluster: a policy and a few choices become Kubernetes objects, and these become text.
//!
//! This folder owns the objects' names, their rights and every field that decides whether HPA or KEDA
//! follows the published number exactly. It is pure: it may not know a client, a clock or a file; the version
//! of the cluster is one of the choices.
//!
//! What would act outside of poolwright's own namespace stays a comment until the policy has a pool in mode
//! `act`: an HPA clamps to its limits, and stops another HPA of the same target, before it reads any number.

mod api;
mod daemon;
mod grants;
mod network;
mod options;
mod pools;
mod rbac;
mod scaled_object;
mod text;
mod version;

use std::collections::BTreeSet;

use serde_json::{Value, json};

pub use grants::{Grant, Right, grants};
pub use options::{Certificates, Follower, MetricsFrom, Options, StateVolume};
pub use text::{Format, to_text};
pub use version::{KedaVersion, KubernetesVersion, VersionError};

use crate::policy::{Mode, Policy, Pool};

/// What belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The daemon in its namespace, with what it may read. Changes nothing outside of it.
    Daemon,
    /// The registration of the external metrics API.
    Api,
    /// The HPA or ScaledObject of every pool.
    Pools,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Daemon, Self::Api, Self::Pools];
}

/// One object and what to know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Sentences printed above it.
    pub notes: Vec<String>,
    pub object: Value,
    /// Printed as a comment: no pool acts on it yet.
    pub held_back: bool,
}

impl Manifest {
    fn new(object: Value) -> Self {
        Self { notes: vec![], object, held_back: false }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn hold_back_unless(mut self, acts: bool, note: impl Into<String>) -> Self {
        if !acts {
            self.held_back = true;
            self.notes.push(note.into());
        }
        self
    }

    /// `Kind namespace/name`, or `Kind name`.
    pub fn id(&self) -> String {
        let text = |at: &str| self.object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let slash = if namespace.is_empty() { "" } else { "/" };
        format!("{} {namespace}{slash}{}", text("/kind"), text("/metadata/name"))
    }
}

/// The objects in the order in which a server takes them, and what else there is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub manifests: Vec<Manifest>,
    /// What was left out and why.
    pub remarks: Vec<String>,
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    #[error("`{name}` cannot be the {what}: {rule}")]
    Name { what: &'static str, name: String, rule: &'static str },
    #[error("policy file `{0}`: a ConfigMap has no folders and takes letters, digits, `-`, `_` and `.` in names only")]
    PolicyFile(String),
}

/// Objects for this policy.
///
/// # Errors
/// A name that a Kubernetes object cannot have.
pub fn render(policy: &Policy, options: &Options, parts: &[Part]) -> Result<Rendered, ManifestError> {
    options.check()?;
    let mut rendered = Rendered { manifests: vec![], remarks: vec![] };
    let acts = policy.pools.iter().any(|p| p.mode == Mode::Act);
    if parts.contains(&Part::Daemon) {
        rendered.manifests.extend(daemon::objects(options)?);
        rendered.manifests.extend(rbac::objects(policy, options));
        rendered.manifests.extend(network::objects(options));
    }
    if parts.contains(&Part::Api) && options.follower == Follower::Hpa {
        rendered.manifests.extend(api::objects(options, acts));
    }
    if parts.contains(&Part::Pools) {
        pools::objects(policy, options, &mut rendered);
    }
    Ok(rendered)
}

/// Pools that get a scaler, one day or now.
fn scaled_pools(policy: &Policy) -> impl Iterator<Item = &Pool> {
    policy.pools.iter().filter(|p| p.mode != Mode::Off)
}

/// Namespaces of the policy's pools, whatever their mode: all of them are watched.
fn namespaces(policy: &Policy) -> BTreeSet<&str> {
    policy.pools.iter().map(|p| p.namespace.as_str()).collect()
}

/// End of the name of the Secret with the JSON API's token, and the key in it.
const JSON_SECRET: &str = "json";
const JSON_TOKEN: &str = "token";

const NAME_LABEL: &str = "app.kubernetes.io/name";
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

impl Options {
    /// Labels that choose the daemon's pods.
    fn pod_labels(&self) -> Value {
        json!({NAME_LABEL: "poolwright", INSTANCE_LABEL: self.name()})
    }

    /// Metadata of an object in the daemon's namespace.
    fn own_metadata(&self, name: &str) -> Value {
        self.metadata(name, Some(&self.identity.namespace))
    }

    fn metadata(&self, name: &str, namespace: Option<&str>) -> Value {
        match namespace {
            Some(namespace) => json!({"name": name, "namespace": namespace, "labels": self.pod_labels()}),
            None => json!({"name": name, "labels": self.pod_labels()}),
        }
    }

    /// Name of the daemon's objects.
    fn name(&self) -> &str {
        &self.identity.service
    }

    /// Name of one of the daemon's objects.
    fn named(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.identity.service)
    }
}
