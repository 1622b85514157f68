//! KEDA's objects: ScaledObject and TriggerAuthentication.

use serde_json::{Value, json};

use super::pools::{behavior, metadata, target, tolerance_note};
use super::{Follower, JSON_SECRET, JSON_TOKEN, Manifest, Options};
use crate::policy::Pool;

/// Seconds between two polls of KEDA.
const POLL_SECONDS: u32 = 15;

/// Seconds without activity before KEDA scales to 0. Poolwright has waited already; this bridges an outage of
/// poolwright, since KEDA's poll takes a pool for inactive when it runs into a failing query of its HPA.
const COOLDOWN_SECONDS: u32 = 300;

pub fn scaled_object(pool: &Pool, options: &Options) -> Manifest {
    let tolerance = options.kubernetes.has_tolerance() && options.keda.has_tolerance();
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(pool),
        "spec": {
            "scaleTargetRef": target(pool),
            "minReplicaCount": pool.min,
            "maxReplicaCount": pool.max,
            "pollingInterval": POLL_SECONDS,
            "cooldownPeriod": COOLDOWN_SECONDS,
            "advanced": {
                "restoreToOriginalReplicaCount": false,
                "horizontalPodAutoscalerConfig": {"behavior": behavior(pool, tolerance)},
            },
            "triggers": [trigger(pool, options)],
        },
    });
    let manifest = Manifest::new(object).note(
        "No fallback on purpose: without it an error holds the replicas; with it errors that last set every pool to \
         it, also those at 0. restoreToOriginalReplicaCount is false: removing this object leaves the replicas as they are.",
    );
    let manifest = match tolerance_note(options) {
        Some(note) => manifest.note(note),
        None => manifest,
    };
    if options.kubernetes.has_tolerance() && !options.keda.has_tolerance() {
        let version = options.keda;
        let note = format!(
            "KEDA {version} cannot pass a tolerance on (from 2.18): differences of up to 10 % are not followed."
        );
        return manifest.note(note);
    }
    manifest
}

fn trigger(pool: &Pool, options: &Options) -> Value {
    let namespace = &options.identity.namespace;
    if options.follower == Follower::MetricsApi {
        let service = options.name();
        let path = format!("v1/namespaces/{}/pools/{}", pool.namespace, pool.name);
        return json!({
            "type": "metrics-api",
            "metricType": "AverageValue",
            "metadata": {
                "url": format!("http://{service}.{namespace}.svc:8080/{path}"),
                "valueLocation": "desired_replicas",
                "targetValue": "1",
                "activationTargetValue": "0",
                "authMode": "bearer",
            },
            "authenticationRef": {"name": options.name()},
        });
    }
    let address = format!("{}.{namespace}.svc:9443", options.named("keda"));
    if !options.keda_tls {
        return json!({
            "type": "external-push",
            "metricType": "AverageValue",
            "metadata": {"scalerAddress": address, "pool": pool.name},
        });
    }
    json!({
        "type": "external-push",
        "metricType": "AverageValue",
        "metadata": {"scalerAddress": address, "enableTLS": "true", "pool": pool.name},
        "authenticationRef": {"name": options.name()},
    })
}

/// What KEDA shows for the pools of one namespace: a client certificate, or the token of the JSON API.
pub fn authentication(namespace: &str, options: &Options) -> Manifest {
    let (secret, parameters, note) = if options.follower == Follower::MetricsApi {
        let (secret, own) = (options.named(JSON_SECRET), &options.identity.namespace);
        let note = format!(
            "Needs the Secret {secret} in this namespace and the same one in {own}, with the key {JSON_TOKEN}: \
             `kubectl -n NAMESPACE create secret generic {secret} --from-literal={JSON_TOKEN}=TOKEN`. A second line \
             in the Secret of {own} is accepted too, so that a token can be replaced."
        );
        (secret, vec![("token", JSON_TOKEN)], note)
    } else {
        let secret = options.named("keda-client");
        let note = format!(
            "Needs the Secret {secret} in this namespace, with ca.crt, tls.crt and tls.key: scripts/keda-certificates \
             makes it."
        );
        (secret, vec![("caCert", "ca.crt"), ("tlsClientCert", "tls.crt"), ("tlsClientKey", "tls.key")], note)
    };
    let from = |(parameter, key): (&str, &str)| json!({"parameter": parameter, "name": secret, "key": key});
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": options.metadata(options.name(), Some(namespace)),
        "spec": {"secretTargetRef": parameters.into_iter().map(from).collect::<Vec<_>>()},
    });
    Manifest::new(object).note(note)
}
