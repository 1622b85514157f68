//! The registration of the external metrics API: who serves it, who may read it.

use serde_json::json;

use super::rbac::{role_binding, service_account};
use super::{Certificates, Manifest, Options};
use crate::serve::{GROUP, GROUP_VERSION};

/// Name of the APIService; the group and version give it.
pub fn apiservice_name() -> String {
    format!("{}.{GROUP}", version())
}

fn version() -> &'static str {
    GROUP_VERSION.rsplit('/').next().unwrap_or(GROUP_VERSION)
}

pub fn objects(options: &Options, acts: bool) -> Vec<Manifest> {
    let name = apiservice_name();
    let held_back = format!(
        "No pool is in mode act, so this is a comment: a cluster has one {name}, and to apply it takes it from whoever \
         serves it now."
    );
    let mut objects = vec![reader_role(options), reader_binding(options)];
    if options.certificates == Certificates::SelfMade {
        objects.extend(writer(options));
    }
    match options.upstream {
        // Last: the daemon writes to it as soon as it appears, and needs its rights by then.
        None => objects.push(apiservice(options)),
        // The object is there, and the daemon itself takes it, together with the authority to trust.
        Some(_) => objects.push(upstream_binding(options)),
    }
    objects.into_iter().map(|m| m.hold_back_unless(acts, held_back.clone())).collect()
}

fn apiservice(options: &Options) -> Manifest {
    let identity = &options.identity;
    let mut metadata = options.metadata(&apiservice_name(), None);
    let note = match options.certificates {
        Certificates::SelfMade => "spec.caBundle is absent on purpose: the daemon fills it in and keeps it current.",
        Certificates::CertManager => {
            let certificate = format!("{}/{}", identity.namespace, options.named("serving"));
            metadata["annotations"] = json!({"cert-manager.io/inject-ca-from": certificate});
            "spec.caBundle is absent on purpose: cert-manager's injector fills it in."
        }
    };
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": metadata,
        "spec": {
            "group": GROUP,
            "version": version(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": identity.service, "namespace": identity.namespace, "port": 443},
        },
    });
    Manifest::new(object).note(note).note(
        "One per cluster: check first that no other adapter owns it, `kubectl get apiservice \
         v1beta1.external.metrics.k8s.io`. With KEDA installed render with `--for keda` instead.",
    )
}

fn reader_role(options: &Options) -> Manifest {
    Manifest::new(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": options.metadata(&options.named("external-metrics-reader"), None),
        "rules": [{"apiGroups": [GROUP], "resources": ["*"], "verbs": ["get", "list"]}],
    }))
}

fn reader_binding(options: &Options) -> Manifest {
    let name = options.named("external-metrics-reader");
    let subject = json!({"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"});
    role_binding(options, &name, None, ("ClusterRole", &name), &subject).note(
        "Where kube-controller-manager runs without --use-service-account-credentials, HPA asks as another subject: \
         {apiGroup: rbac.authorization.k8s.io, kind: User, name: \"system:kube-controller-manager\"}.",
    )
}

/// What the daemon passes on it asks for itself.
fn upstream_binding(options: &Options) -> Manifest {
    let (name, role) = (options.named("upstream-reader"), options.named("external-metrics-reader"));
    role_binding(options, &name, None, ("ClusterRole", &role), &service_account(options))
        .note("The other metrics server lets poolwright read what it passes on.")
}

/// The right to keep the caBundle of that one object current.
fn writer(options: &Options) -> [Manifest; 2] {
    let name = options.named("apiservice-writer");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": options.metadata(&name, None),
        "rules": [{
            "apiGroups": ["apiregistration.k8s.io"],
            "resources": ["apiservices"],
            "resourceNames": [apiservice_name()],
            "verbs": ["patch"],
        }],
    });
    [Manifest::new(role), role_binding(options, &name, None, ("ClusterRole", &name), &service_account(options))]
}
