//! The daemon itself: namespace, account, policy, volume, Deployment.

use serde_json::{Value, json};

use super::{
    Certificates, Follower, JSON_SECRET, JSON_TOKEN, Manifest, ManifestError, MetricsFrom, Options, StateVolume,
};

/// User and group of the image.
const USER: u32 = 65_532;

/// Longer than the drain (5 s) and the grace of open requests (10 s) together.
const TERMINATION_SECONDS: u32 = 30;

const POLICIES: &str = "/etc/poolwright/policies";
const STATE: &str = "/var/lib/poolwright";
const API_TLS: &str = "/etc/poolwright/api-tls";
const KEDA_TLS: &str = "/etc/poolwright/keda-tls";
const JSON: &str = "/etc/poolwright/json";

pub fn objects(options: &Options) -> Result<Vec<Manifest>, ManifestError> {
    let mut objects = vec![namespace(options), account(options)];
    if !options.policy_files.is_empty() {
        objects.push(Manifest::new(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": options.own_metadata(&options.named("policy")),
            "data": options.policy_files,
        })));
    }
    if options.certificates == Certificates::CertManager && options.serves_api() {
        objects.extend(certificates(options));
    }
    if options.state == StateVolume::Claim {
        objects.push(claim(options));
    }
    objects.push(deployment(options));
    Ok(objects)
}

fn namespace(options: &Options) -> Manifest {
    let mut metadata = options.metadata(&options.identity.namespace, None);
    for mode in ["enforce", "audit", "warn"] {
        metadata["labels"][format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
    }
    Manifest::new(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
}

fn account(options: &Options) -> Manifest {
    let metadata = options.own_metadata(options.name());
    Manifest::new(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
}

/// An authority in this namespace and a serving certificate signed by it.
fn certificates(options: &Options) -> Vec<Manifest> {
    let object = |kind: &str, name: &str, spec: Value| {
        let metadata = options.own_metadata(name);
        Manifest::new(json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec}))
    };
    let (bootstrap, authority, serving) =
        (options.named("bootstrap"), options.named("authority"), options.named("serving"));
    let key = json!({"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"});
    let of_authority = json!({
        "isCA": true,
        "commonName": authority,
        "secretName": authority,
        "duration": "43800h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        "issuerRef": {"kind": "Issuer", "name": bootstrap},
    });
    let of_serving = json!({
        "secretName": serving,
        "dnsNames": options.identity.dns_names(),
        "duration": "2160h",
        "privateKey": key,
        "usages": ["digital signature", "server auth"],
        "issuerRef": {"kind": "Issuer", "name": authority},
    });
    vec![
        object("Issuer", &bootstrap, json!({"selfSigned": {}})),
        object("Certificate", &authority, of_authority),
        object("Issuer", &authority, json!({"ca": {"secretName": authority}})),
        object("Certificate", &serving, of_serving),
    ]
}

fn claim(options: &Options) -> Manifest {
    Manifest::new(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": options.own_metadata(&options.named("state")),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .note(
        "Demand history and published numbers outlive the pod here, and a journal of at most 256 MiB. Needs a default \
         StorageClass.",
    )
}

fn deployment(options: &Options) -> Manifest {
    Manifest::new(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": options.own_metadata(options.name()),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": options.pod_labels()},
            "template": {"metadata": {"labels": options.pod_labels()}, "spec": pod(options)},
        },
    }))
    .note(
        "One replica, and the old one goes first: there is no leader election yet, and two daemons would share \
         neither state nor numbers. While it is away, HPA and KEDA hold what runs.",
    )
}

fn pod(options: &Options) -> Value {
    json!({
        "serviceAccountName": options.name(),
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "containers": [container(options)],
        "volumes": volumes(options),
    })
}

fn container(options: &Options) -> Value {
    let mut ports = vec![json!({"name": "http", "containerPort": 8080, "protocol": "TCP"})];
    if options.serves_api() {
        ports.push(json!({"name": "api", "containerPort": 6443, "protocol": "TCP"}));
    }
    if options.is_keda_grpc() {
        ports.push(json!({"name": "grpc", "containerPort": 9443, "protocol": "TCP"}));
    }
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "name": "poolwright",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments(options),
        "env": [
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
            {"name": "POOLWRIGHT_LOG", "value": "info"},
            {"name": "POOLWRIGHT_LOG_FORMAT", "value": "json"},
        ],
        "ports": ports,
        "livenessProbe": probe("/livez", 10, 6),
        // Without a decision the API answers errors, and has to be reachable for it: an API that is away
        // blocks the removal of every namespace of the cluster.
        "readinessProbe": probe("/readyz?exclude=first-decision", 5, 2),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts(options),
    })
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    })
}

fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), format!("--policy={POLICIES}")];
    arguments.push(match &options.metrics {
        MetricsFrom::Prometheus(url) => format!("--prometheus={url}"),
        MetricsFrom::Pods => "--scrape".to_owned(),
    });
    let mut add = |text: &str| arguments.push(text.to_owned());
    add(&format!("--state-dir={STATE}"));
    add("--kubernetes=auto");
    add(&format!("--own-service={}", options.name()));
    add("--listen=0.0.0.0:8080");
    if options.serves_api() {
        add("--api-listen=0.0.0.0:6443");
        add("--require-selector");
        match options.certificates {
            Certificates::SelfMade => add(&format!("--api-tls-secret={}", options.named("serving"))),
            Certificates::CertManager => {
                add(&format!("--api-tls-cert={API_TLS}/tls.crt"));
                add(&format!("--api-tls-key={API_TLS}/tls.key"));
            }
        }
        if let Some(url) = &options.upstream {
            add(&format!("--upstream={url}"));
            add("--take-over");
        }
    }
    if options.is_keda_grpc() {
        add("--keda-listen=0.0.0.0:9443");
        if options.keda_tls {
            add(&format!("--keda-tls-cert={KEDA_TLS}/tls.crt"));
            add(&format!("--keda-tls-key={KEDA_TLS}/tls.key"));
            add(&format!("--keda-client-ca={KEDA_TLS}/ca.crt"));
        } else {
            add("--keda-plaintext");
        }
    }
    if options.follower == Follower::MetricsApi {
        add(&format!("--web-bearer-token-file={JSON}/{JSON_TOKEN}"));
    }
    arguments
}

/// Name, folder and source of every volume, as far as the choices want it.
fn volume_list(options: &Options) -> Vec<(&'static str, &'static str, Value)> {
    let state = match options.state {
        StateVolume::Claim => json!({"persistentVolumeClaim": {"claimName": options.named("state")}}),
        StateVolume::Empty => json!({"emptyDir": {"sizeLimit": "1Gi"}}),
    };
    let mut volumes =
        vec![("policies", POLICIES, json!({"configMap": {"name": options.named("policy")}})), ("state", STATE, state)];
    let secret = |name: &str| json!({"secret": {"secretName": options.named(name)}});
    if options.serves_api() && options.certificates == Certificates::CertManager {
        volumes.push(("api-tls", API_TLS, secret("serving")));
    }
    if options.is_keda_grpc() && options.keda_tls {
        volumes.push(("keda-tls", KEDA_TLS, secret("keda-serving")));
    }
    if options.follower == Follower::MetricsApi {
        volumes.push(("json-token", JSON, secret(JSON_SECRET)));
    }
    volumes
}

fn volumes(options: &Options) -> Vec<Value> {
    let with_name = |(name, _, mut source): (&str, _, Value)| {
        source["name"] = json!(name);
        source
    };
    volume_list(options).into_iter().map(with_name).collect()
}

fn mounts(options: &Options) -> Vec<Value> {
    let mount = |(name, folder, _)| {
        if name == "state" {
            json!({"name": name, "mountPath": folder})
        } else {
            json!({"name": name, "mountPath": folder, "readOnly": true})
        }
    };
    volume_list(options).into_iter().map(mount).collect()
}
