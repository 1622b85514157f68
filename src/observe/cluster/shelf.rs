//! What was read of the cluster, kept by the list it came from, with the doubt about each list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kube::core::DynamicObject;

use super::facts::{Pod, Target};
use super::scaler::{Hpa, ScaledObject};
use crate::policy::{Policy, Pool};

/// A kind of objects that is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Pods,
    Deployments,
    StatefulSets,
    Hpas,
    ScaledObjects,
    /// Groups of a leader and its workers.
    LeaderWorkerSets {
        api_version: String,
    },
    /// One object of any other kind, through its scale sub-resource.
    Scaled {
        api_version: String,
        kind: String,
        name: String,
    },
}

/// One list that is read: a kind of objects in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey {
    pub namespace: String,
    pub resource: Resource,
}

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = &self.namespace;
        match &self.resource {
            Resource::Scaled { kind, name, .. } => write!(f, "{kind} {name} in {namespace}"),
            other => write!(f, "{} in {namespace}", other.plural()),
        }
    }
}

impl Resource {
    /// Plural name as a role names it.
    pub fn plural(&self) -> String {
        match self {
            Self::Pods => "pods".into(),
            Self::Deployments => "deployments".into(),
            Self::StatefulSets => "statefulsets".into(),
            Self::Hpas => "horizontalpodautoscalers".into(),
            Self::ScaledObjects => "scaledobjects".into(),
            Self::LeaderWorkerSets { .. } => "leaderworkersets".into(),
            Self::Scaled { kind, .. } => format!("objects of kind {kind} and their scale"),
        }
    }
}

impl WatchKey {
    fn new(pool: &Pool, resource: Resource) -> Self {
        Self { namespace: pool.namespace.clone(), resource }
    }

    /// The list that holds a pool's scale target.
    pub fn target(pool: &Pool) -> Self {
        let target = &pool.target;
        let api_version = target.api_version.clone();
        let resource = match (target.api_version.as_str(), target.kind.as_str()) {
            ("apps/v1", "Deployment") => Resource::Deployments,
            ("apps/v1", "StatefulSet") => Resource::StatefulSets,
            (version, "LeaderWorkerSet") if version.starts_with("leaderworkerset.x-k8s.io/") => {
                Resource::LeaderWorkerSets { api_version }
            }
            _ => Resource::Scaled { api_version, kind: target.kind.clone(), name: target.name.clone() },
        };
        Self::new(pool, resource)
    }

    /// The list of a pool's kind of scaler or pods.
    pub fn beside(pool: &Pool, resource: Resource) -> Self {
        Self::new(pool, resource)
    }

    /// Everything that is read for a policy.
    pub fn all(policy: &Policy) -> BTreeSet<Self> {
        let of = |pool| {
            [Resource::Pods, Resource::Hpas, Resource::ScaledObjects]
                .map(|resource| Self::new(pool, resource))
                .into_iter()
                .chain([Self::target(pool)])
        };
        policy.pools.iter().flat_map(of).collect()
    }
}

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Pod(Pod),
    Target(Target),
    Hpa(Box<Hpa>),
    ScaledObject(Box<ScaledObject>),
}

impl Fact {
    /// Keep what is needed of an object. Of a kind that is read through its scale sub-resource the answer of that
    /// is given, not the object.
    pub fn read(resource: &Resource, object: &DynamicObject) -> Self {
        let target = |target| Self::Target(Target { uid: object.metadata.uid.clone(), ..target });
        match resource {
            Resource::Pods => Self::Pod(Pod::read(object)),
            Resource::Deployments | Resource::StatefulSets => target(Target::of_workload(object)),
            Resource::LeaderWorkerSets { .. } => target(Target::of_groups(object)),
            Resource::Scaled { .. } => target(Target::of_scale(&object.data)),
            Resource::Hpas => Self::Hpa(Box::new(Hpa::read(object))),
            Resource::ScaledObjects => Self::ScaledObject(Box::new(ScaledObject::read(object))),
        }
    }
}

/// One list: what it held when it was last heard of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shelf {
    /// By name.
    pub objects: Arc<BTreeMap<String, Arc<Fact>>>,
    /// It was read completely at least once.
    pub synced: bool,
    /// It is being followed: what it holds is what there is.
    pub healthy: bool,
    /// Why it is not, and what to do.
    pub problem: Option<String>,
    /// When it was last known to be right, Unix seconds.
    pub good_seconds: Option<f64>,
}

impl Shelf {
    /// A list that could not be read.
    pub fn failed(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }

    /// A list that was read completely.
    pub fn of(objects: BTreeMap<String, Arc<Fact>>, now_seconds: f64) -> Self {
        let objects = Arc::new(objects);
        Self { objects, synced: true, healthy: true, problem: None, good_seconds: Some(now_seconds) }
    }

    pub fn is_fresh(&self, now_seconds: f64, limit_seconds: f64) -> bool {
        self.synced && self.good_seconds.is_some_and(|good| (now_seconds - good).abs() <= limit_seconds)
    }
}

/// Everything that was read of the cluster, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSnapshot {
    pub shelves: BTreeMap<WatchKey, Shelf>,
    /// Minor version of the server (33 for 1.33), if known.
    pub server_minor: Option<u32>,
}

impl ClusterSnapshot {
    /// The list, if it was read and is not too old.
    pub fn fresh(&self, key: &WatchKey, now_seconds: f64, limit_seconds: f64) -> Option<&Shelf> {
        self.shelves.get(key).filter(|shelf| shelf.is_fresh(now_seconds, limit_seconds))
    }
}
