//! The daemon's rights as a list: what each binding of the manifests gives, so that what is applied and what is
//! checked cannot differ.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::rbac::{plural, service_account, usual_targets};
use super::{Manifest, Options, api, rbac};
use crate::policy::Policy;

/// One thing that may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    /// Of the one object; empty for all.
    pub name: String,
    /// Empty for the whole cluster.
    pub namespace: String,
}

/// What one binding gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub binding: Manifest,
    /// The role is one of Kubernetes' own, so that the binding alone is what can be missing.
    pub built_in: bool,
    pub rights: Vec<Right>,
}

/// What the daemon needs for this policy, by binding, for the service account of that name. Rights on kinds of scale
/// targets that the policy does not have are left out.
pub fn grants(policy: &Policy, options: &Options, account: &str) -> Vec<Grant> {
    let mut manifests = rbac::objects(policy, options);
    if options.serves_api() {
        manifests.extend(api::objects(options, true));
    }
    let daemon = service_account(options);
    let bindings = manifests.iter().filter(|m| m.object["subjects"][0] == daemon);
    let needed = needed(policy);
    bindings
        .map(|binding| {
            let namespace = text(&binding.object, "/metadata/namespace");
            let role = text(&binding.object, "/roleRef/name");
            let of_kubernetes = built_in(role);
            let rules =
                of_kubernetes.clone().unwrap_or_else(|| rules(&manifests, &binding.object["roleRef"], namespace));
            let mut rights = flatten(&rules, namespace);
            rights.retain(|right| needed(right));
            let mut binding = binding.clone();
            binding.object["subjects"][0]["name"] = json!(account);
            Grant { binding, built_in: of_kubernetes.is_some(), rights }
        })
        .filter(|grant| !grant.rights.is_empty())
        .collect()
}

/// Whether a right is one that this policy needs.
fn needed(policy: &Policy) -> impl Fn(&Right) -> bool {
    let used: BTreeSet<(String, String, String)> = policy
        .pools
        .iter()
        .map(|pool| {
            let group = pool.target.api_version.split_once('/').map_or("", |(group, _)| group);
            (pool.namespace.clone(), group.to_owned(), plural(&pool.target.kind))
        })
        .collect();
    move |right| {
        !usual_targets().any(|target| target == (right.group.as_str(), right.resource.as_str()))
            || used.contains(&(right.namespace.clone(), right.group.clone(), right.resource.clone()))
    }
}

/// The rules of a rendered role.
fn rules(manifests: &[Manifest], reference: &Value, namespace: &str) -> Value {
    let is_it = |m: &&Manifest| {
        m.object["kind"] == reference["kind"]
            && m.object["metadata"]["name"] == reference["name"]
            && (reference["kind"] == "ClusterRole" || text(&m.object, "/metadata/namespace") == namespace)
    };
    manifests.iter().find(is_it).map(|m| m.object["rules"].clone()).unwrap_or_default()
}

/// The rules that matter here of the roles that every cluster has.
fn built_in(role: &str) -> Option<Value> {
    match role {
        "system:auth-delegator" => Some(json!([
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        ])),
        "extension-apiserver-authentication-reader" => Some(json!([{
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["extension-apiserver-authentication"],
            "verbs": ["get", "list", "watch"],
        }])),
        _ => None,
    }
}

fn flatten(rules: &Value, namespace: &str) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let named = texts(&rule["resourceNames"]);
        let names = if named.is_empty() { vec![""] } else { named };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                for name in &names {
                    rights.extend(texts(&rule["verbs"]).into_iter().map(|verb| Right {
                        verb: verb.to_owned(),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        name: (*name).to_owned(),
                        namespace: namespace.to_owned(),
                    }));
                }
            }
        }
    }
    rights
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}
