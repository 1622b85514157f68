//! From what is to be read to the API that has it, and from an error of the cluster to what a person can do.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error};

use super::shelf::{Resource, WatchKey};

/// Find the API of a list; asks the cluster for kinds that are not built in. `None`: the cluster has no such API,
/// which is no fault where it is that of an add-on.
pub async fn resolve(client: &Client, key: &WatchKey) -> Result<Option<Api<DynamicObject>>, Error> {
    let resource = match &key.resource {
        Resource::Pods => ApiResource::erase::<Pod>(&()),
        Resource::Deployments => ApiResource::erase::<Deployment>(&()),
        Resource::StatefulSets => ApiResource::erase::<StatefulSet>(&()),
        Resource::Hpas => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        other => match discover(client, &kind_of(other)).await? {
            Some(resource) => resource,
            None => return Ok(None),
        },
    };
    Ok(Some(Api::namespaced_with(client.clone(), &key.namespace, &resource)))
}

fn kind_of(resource: &Resource) -> GroupVersionKind {
    let of = |api_version: &str, kind: &str| {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        GroupVersionKind::gvk(group, version, kind)
    };
    match resource {
        Resource::LeaderWorkerSets { api_version } => of(api_version, "LeaderWorkerSet"),
        Resource::Scaled { api_version, kind, .. } => of(api_version, kind),
        _ => of("keda.sh/v1alpha1", "ScaledObject"),
    }
}

async fn discover(client: &Client, kind: &GroupVersionKind) -> Result<Option<ApiResource>, Error> {
    match kube::discovery::pinned_kind(client, kind).await {
        Ok((resource, _)) => Ok(Some(resource)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(Error::Discovery(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Field selector of a list that is about one object.
pub fn field_selector(key: &WatchKey) -> Option<String> {
    match &key.resource {
        Resource::Scaled { name, .. } => Some(format!("metadata.name={name}")),
        _ => None,
    }
}

/// Whether the list is allowed not to exist.
pub fn is_optional(key: &WatchKey) -> bool {
    key.resource == Resource::ScaledObjects
}

/// What is wrong, and what to do.
pub fn problem(key: &WatchKey, error: &Error) -> String {
    let what = key.resource.plural();
    match error {
        Error::Api(status) if status.code == 403 => format!(
            "may not be read (403 Forbidden): give poolwright's service account get, list and watch on {what} in \
             namespace {}",
            key.namespace
        ),
        Error::Api(status) if status.code == 401 => {
            "may not be read (401 Unauthorized): the cluster does not accept poolwright's credentials".to_owned()
        }
        Error::Api(status) if status.code == 404 => absent(key),
        error => format!("cannot be read ({error}); tried again and again"),
    }
}

/// The kind, or its scale sub-resource, does not exist.
pub fn absent(key: &WatchKey) -> String {
    let kind = kind_of(&key.resource);
    format!(
        "the cluster has no {} in {} with a scale sub-resource: install it, or correct `target` in the policy",
        kind.kind,
        kind.api_version()
    )
}
