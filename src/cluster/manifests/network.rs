//! How the daemon is reached: Services, who may connect, what a drain may do, what Prometheus reads.

use serde_json::{Value, json};

use super::{Follower, Manifest, Options};

pub fn objects(options: &Options) -> Vec<Manifest> {
    let mut objects = vec![service(options)];
    if options.is_keda_grpc() {
        objects.push(headless(options));
    }
    objects.push(policy(options));
    objects.push(disruption_budget(options));
    if options.service_monitor {
        objects.push(service_monitor(options));
    }
    objects
}

fn port(name: &str, port: u16, target: &str) -> Value {
    json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"})
}

fn service(options: &Options) -> Manifest {
    let mut ports = vec![port("http", 8080, "http")];
    if options.serves_api() {
        ports.insert(0, port("https-api", 443, "api"));
    }
    Manifest::new(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": options.own_metadata(options.name()),
        "spec": {"selector": options.pod_labels(), "ports": ports},
    }))
}

fn headless(options: &Options) -> Manifest {
    let mut metadata = options.own_metadata(&options.named("keda"));
    // A ServiceMonitor must not find the same pod twice.
    metadata["labels"] = json!({"app.kubernetes.io/name": options.named("keda")});
    Manifest::new(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "selector": options.pod_labels(),
            "ports": [port("grpc", 9443, "grpc")],
        },
    }))
    .note("Headless: KEDA keeps one connection for each address that the name gives.")
}

fn from_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

fn policy(options: &Options) -> Manifest {
    let mut web_readers = vec![from_namespace(&options.monitoring_namespace)];
    if options.follower == Follower::MetricsApi {
        web_readers.push(from_namespace(&options.keda_namespace));
    }
    let mut ingress = vec![json!({"from": web_readers, "ports": [{"port": "http", "protocol": "TCP"}]})];
    let mut manifest_note = "Egress stays open: the model servers, Prometheus and kube-apiserver have no fixed \
                             addresses. kubelet's probes and `kubectl port-forward` pass in any case."
        .to_owned();
    if options.serves_api() {
        // kube-apiserver is no pod in most clusters; callers prove themselves with certificates or tokens.
        ingress.push(json!({"ports": [{"port": "api", "protocol": "TCP"}]}));
        manifest_note += " The API port is open to every address, as nobody knows the control plane's.";
    }
    if options.is_keda_grpc() {
        let from = from_namespace(&options.keda_namespace);
        ingress.push(json!({"from": [from], "ports": [{"port": "grpc", "protocol": "TCP"}]}));
    }
    Manifest::new(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": options.own_metadata(options.name()),
        "spec": {
            "podSelector": {"matchLabels": options.pod_labels()},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }))
    .note(manifest_note)
}

fn disruption_budget(options: &Options) -> Manifest {
    Manifest::new(json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": options.own_metadata(options.name()),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": options.pod_labels()},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }))
    .note(
        "One replica is gone while its node is drained, and HPA and KEDA hold meanwhile; minAvailable 1 would block \
         the drain for ever.",
    )
}

/// Of the Prometheus operator; its CRD may be missing.
fn service_monitor(options: &Options) -> Manifest {
    Manifest::new(json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": options.own_metadata(options.name()),
        "spec": {
            "selector": {"matchLabels": options.pod_labels()},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s", "honorLabels": true}],
        },
    }))
}
