//! The HPA or ScaledObject of every pool, with all that one sync needs to reach the published number.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Follower, Manifest, Options, Rendered, scaled_object, scaled_pools};
use crate::policy::{Mode, Policy, Pool};
use crate::serve::{Metric, selectable};

/// Label with the pool's name.
const POOL_LABEL: &str = "poolwright.dev/pool";

/// Seconds of a scaling policy: HPA's usual sync period.
const PERIOD_SECONDS: u32 = 15;

pub fn objects(policy: &Policy, options: &Options, rendered: &mut Rendered) {
    let mut authenticated = BTreeSet::new();
    for pool in scaled_pools(policy) {
        if pool.max == 0 {
            let id = pool.id();
            rendered.remarks.push(format!("pool {id}: the stock allows no replica, so it gets no scaler"));
            continue;
        }
        let acts = pool.mode == Mode::Act;
        if options.keda_authenticates() && acts && authenticated.insert(&pool.namespace) {
            rendered.manifests.push(scaled_object::authentication(&pool.namespace, options));
        }
        let scaler = match options.follower {
            Follower::Hpa => hpa(pool, options),
            Follower::Keda | Follower::MetricsApi => scaled_object::scaled_object(pool, options),
        };
        let advised = format!(
            "Pool {} is in mode advise: nothing is published for it. Apply this together with `mode: act`; remove \
             any other scaler of {} {} first.",
            pool.id(),
            pool.target.kind,
            pool.target.name
        );
        rendered.manifests.push(scaler.hold_back_unless(acts, advised));
    }
}

fn hpa(pool: &Pool, options: &Options) -> Manifest {
    let zero = options.kubernetes.scales_to_zero();
    let min = if zero { pool.min } else { pool.min.max(1) };
    let object = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(pool),
        "spec": {
            "scaleTargetRef": target(pool),
            "minReplicas": min,
            "maxReplicas": pool.max,
            "metrics": [{
                "type": "External",
                "external": {
                    "metric": {
                        "name": Metric::Desired.name(),
                        "selector": {"matchLabels": {"pool": selectable(&pool.name)}},
                    },
                    "target": {"type": "AverageValue", "averageValue": "1"},
                },
            }],
            "behavior": behavior(pool, options.kubernetes.has_tolerance()),
        },
    });
    let mut manifest = Manifest::new(object);
    if min == 0 {
        manifest = manifest.note(
            "minReplicas 0: this HPA wakes what it has put to 0 itself; a target that was set to 0 by hand or was \
             created with 0 stays there until somebody scales it to 1.",
        );
    } else if pool.min == 0 {
        let version = options.kubernetes;
        manifest = manifest.note(format!(
            "minReplicas 1: Kubernetes {version} has no HPA that goes to 0 (from 1.37). KEDA does it on any version."
        ));
    }
    match tolerance_note(options) {
        Some(note) => manifest.note(note),
        None => manifest,
    }
}

/// What a cluster without a tolerance for each HPA means.
pub fn tolerance_note(options: &Options) -> Option<String> {
    let version = options.kubernetes;
    (!version.has_tolerance()).then(|| {
        format!(
            "Kubernetes {version} has no tolerance for one HPA (from 1.35): differences of up to 10 % are not \
             followed, one replica at 10 and two at 20, unless kube-controller-manager runs with \
             --horizontal-pod-autoscaler-tolerance=0."
        )
    })
}

pub fn metadata(pool: &Pool) -> Value {
    let labels = json!({"app.kubernetes.io/managed-by": "poolwright", POOL_LABEL: selectable(&pool.name)});
    json!({"name": pool.name, "namespace": pool.namespace, "labels": labels})
}

pub fn target(pool: &Pool) -> Value {
    json!({"apiVersion": pool.target.api_version, "kind": pool.target.kind, "name": pool.target.name})
}

/// Both directions at once and without delay: poolwright itself damps, and has more reason to.
pub fn behavior(pool: &Pool, tolerance: bool) -> Value {
    let mut rules = Map::new();
    rules.insert("stabilizationWindowSeconds".to_owned(), json!(0));
    rules.insert("selectPolicy".to_owned(), json!("Max"));
    // As many pods as there can be: one sync reaches every number from every other.
    let policy = json!({"type": "Pods", "value": pool.max.max(1), "periodSeconds": PERIOD_SECONDS});
    rules.insert("policies".to_owned(), json!([policy]));
    if tolerance {
        rules.insert("tolerance".to_owned(), json!("0"));
    }
    json!({"scaleUp": rules, "scaleDown": rules})
}
