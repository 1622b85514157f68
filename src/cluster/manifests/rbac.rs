//! What the daemon may do: read its trust, the pools' objects in the policy's namespaces, one APIService and one
//! Secret; write events and that Secret. No workload can be changed with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::apiservice_name;
use super::{Certificates, Manifest, Options, namespaces};
use crate::policy::Policy;

const API: &str = "rbac.authorization.k8s.io/v1";

const WATCH: [&str; 3] = ["get", "list", "watch"];

/// Scale targets that are watched in every namespace of the policy; others come from the policy itself.
const USUAL_TARGETS: [(&str, &str); 3] =
    [("apps", "deployments"), ("apps", "statefulsets"), ("leaderworkerset.x-k8s.io", "leaderworkersets")];

pub fn usual_targets() -> impl Iterator<Item = (&'static str, &'static str)> {
    USUAL_TARGETS.into_iter()
}

pub fn objects(policy: &Policy, options: &Options) -> Vec<Manifest> {
    let own = &options.identity.namespace;
    let mut objects = vec![delegator(options), authentication_reader(options)];
    objects.extend(apiservice_reader(options));
    objects.extend(role(options, &options.named("own"), own, &own_rules(options)));
    for namespace in namespaces(policy) {
        objects.extend(role(options, &options.named("pools"), namespace, &pool_rules(policy, namespace)));
    }
    objects
}

/// Tokens and rights of callers are checked by the cluster itself.
fn delegator(options: &Options) -> Manifest {
    let role = ("ClusterRole", "system:auth-delegator");
    role_binding(options, &options.named("auth-delegator"), None, role, &service_account(options))
        .note("May ask the cluster whose token it is and who may do what (TokenReview, SubjectAccessReview).")
}

fn authentication_reader(options: &Options) -> Manifest {
    let role = ("Role", "extension-apiserver-authentication-reader");
    let name = options.named("authentication-reader");
    role_binding(options, &name, Some("kube-system"), role, &service_account(options))
        .note("May read which front proxy and which client certificates the cluster trusts.")
}

/// Reading is needed in every mode: who owns the API is watched, never assumed.
fn apiservice_reader(options: &Options) -> [Manifest; 2] {
    let name = options.named("apiservice-reader");
    let role = json!({
        "apiVersion": API,
        "kind": "ClusterRole",
        "metadata": options.metadata(&name, None),
        "rules": [{
            "apiGroups": ["apiregistration.k8s.io"],
            "resources": ["apiservices"],
            "resourceNames": [apiservice_name()],
            "verbs": WATCH,
        }],
    });
    [Manifest::new(role), role_binding(options, &name, None, ("ClusterRole", &name), &service_account(options))]
}

fn own_rules(options: &Options) -> Vec<Value> {
    // Events about the daemon itself belong to its Service.
    let service =
        json!({"apiGroups": [""], "resources": ["services"], "resourceNames": [options.name()], "verbs": ["get"]});
    let mut rules = vec![events(), service];
    if options.serves_api() && options.certificates == Certificates::SelfMade {
        rules.push(json!({
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [options.named("serving")],
            "verbs": ["get", "list", "watch", "update"],
        }));
        // A rule for "create" cannot name the object.
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}));
    }
    rules
}

/// What is read of the pools of one namespace.
fn pool_rules(policy: &Policy, namespace: &str) -> Vec<Value> {
    let mut targets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, resource) in USUAL_TARGETS {
        targets.entry(group.to_owned()).or_default().insert(resource.to_owned());
    }
    for pool in policy.pools.iter().filter(|p| p.namespace == namespace) {
        let group = pool.target.api_version.split_once('/').map_or("", |(group, _)| group);
        targets.entry(group.to_owned()).or_default().insert(plural(&pool.target.kind));
    }
    let mut rules = vec![json!({"apiGroups": [""], "resources": ["pods"], "verbs": WATCH})];
    for (group, resources) in &targets {
        rules.push(json!({"apiGroups": [group], "resources": resources, "verbs": WATCH}));
        // Of the usual kinds the object itself says what its scale would.
        let is_usual = |r: &str| USUAL_TARGETS.contains(&(group.as_str(), r));
        let scales: Vec<String> = resources.iter().filter(|r| !is_usual(r)).map(|r| format!("{r}/scale")).collect();
        if !scales.is_empty() {
            rules.push(json!({"apiGroups": [group], "resources": scales, "verbs": ["get"]}));
        }
    }
    rules.push(json!({"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": WATCH}));
    rules.push(json!({"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": WATCH}));
    rules.push(events());
    rules
}

fn events() -> Value {
    json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]})
}

/// The resource of a kind by the rule that nearly all of them keep.
pub fn plural(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if lower.ends_with(['s', 'x', 'z']) || lower.ends_with("ch") || lower.ends_with("sh") => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

fn role(options: &Options, name: &str, namespace: &str, rules: &[Value]) -> [Manifest; 2] {
    let role = json!({
        "apiVersion": API,
        "kind": "Role",
        "metadata": options.metadata(name, Some(namespace)),
        "rules": rules,
    });
    let binding = role_binding(options, name, Some(namespace), ("Role", name), &service_account(options));
    [Manifest::new(role), binding]
}

/// The daemon as the subject of a binding.
pub fn service_account(options: &Options) -> Value {
    json!({"kind": "ServiceAccount", "name": options.name(), "namespace": options.identity.namespace})
}

/// A RoleBinding in that namespace, or a ClusterRoleBinding.
pub fn role_binding(
    options: &Options,
    name: &str,
    namespace: Option<&str>,
    (kind, role): (&str, &str),
    subject: &Value,
) -> Manifest {
    Manifest::new(json!({
        "apiVersion": API,
        "kind": if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": options.metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }))
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn kinds_become_resources() {
        let pairs = [("Deployment", "deployments"), ("Gateway", "gateways"), ("Policy", "policies")];
        for (kind, resource) in pairs.into_iter().chain([("Class", "classes"), ("Switch", "switches")]) {
            assert_eq!(plural(kind), resource);
        }
    }
}
