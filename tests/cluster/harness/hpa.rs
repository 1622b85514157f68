//! Horizontal pod autoscalers: the objects, and what they say of themselves.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};

use super::kubectl::Kubectl;
use super::wait::{SOON, until};

/// An HPA on the desired replicas of the pool of its own name.
#[derive(Clone, Copy)]
pub struct Hpa<'a> {
    pub namespace: &'a str,
    /// Of the HPA, its target and the pool.
    pub name: &'a str,
    /// `apiVersion` and `kind` of the target.
    pub target: (&'a str, &'a str),
    pub max: u32,
    /// Tolerance of both directions; `None` leaves the cluster's.
    pub tolerance: Option<&'a str>,
    /// For example `type: AverageValue, averageValue: "1"`.
    pub goal: &'a str,
}

/// One replica for each one that is published.
pub const AVERAGE: &str = r#"type: AverageValue, averageValue: "1""#;
pub const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");

impl Hpa<'_> {
    /// The object: it may go to zero, and reaches any number within one sync.
    pub fn yaml(&self) -> String {
        let Self { namespace, name, target: (api_version, kind), max, goal, .. } = self;
        let tolerance = self.tolerance.map(|t| format!("tolerance: \"{t}\", ")).unwrap_or_default();
        let rules = format!(
            "{{{tolerance}stabilizationWindowSeconds: 0, policies: [{{type: Pods, value: {max}, periodSeconds: 1}}]}}"
        );
        format!(
            r#"
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  scaleTargetRef: {{apiVersion: {api_version}, kind: {kind}, name: {name}}}
  minReplicas: 0
  maxReplicas: {max}
  behavior: {{scaleUp: {rules}, scaleDown: {rules}}}
  metrics:
  - type: External
    external:
      metric: {{name: poolwright_desired_replicas, selector: {{matchLabels: {{pool: {name}}}}}}}
      target: {{{goal}}}
"#
        )
    }

    pub fn apply(&self, kubectl: &Kubectl) {
        kubectl.apply(&self.yaml());
    }
}

/// What HPAs of one namespace say.
pub struct Status {
    api: Api<HorizontalPodAutoscaler>,
}

impl Status {
    pub fn of(client: &Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace) }
    }

    /// `status` and `reason` of a condition, such as `False FailedGetExternalMetric`.
    pub async fn condition(&self, name: &str, kind: &str) -> Option<String> {
        let status = self.api.get(name).await.ok()?.status?;
        let condition = status.conditions?.into_iter().find(|c| c.type_ == kind)?;
        Some(format!("{} {}", condition.status, condition.reason.unwrap_or_default()))
    }

    /// Wait for a condition.
    pub async fn wait_condition(&self, name: &str, kind: &str, wanted: &str) {
        until(&format!("{kind} of HPA {name}"), SOON, async || match self.condition(name, kind).await {
            Some(seen) if seen == wanted => Ok(()),
            other => Err(format!("{other:?} instead of {wanted}")),
        })
        .await;
    }

    /// The value per replica, thousandths, that the last sync computed.
    async fn average_milli(&self, name: &str) -> Option<i64> {
        let status = self.api.get(name).await.ok()?.status?;
        let metric = status.current_metrics?.into_iter().next()?.external?;
        milli(&metric.current.average_value?.0)
    }

    /// Wait until a sync has read `value` for `replicas` replicas: from then on what the HPA did not do, it
    /// decided not to do.
    pub async fn wait_read(&self, name: &str, value: i64, replicas: i64) {
        let wanted = (value * 1000 + replicas - 1) / replicas;
        until(&format!("HPA {name} has read {value} for {replicas} replicas"), SOON, async || {
            match self.average_milli(name).await {
                Some(seen) if seen == wanted => Ok(()),
                other => Err(format!("{other:?} instead of {wanted}")),
            }
        })
        .await;
    }
}

/// Thousandths of a quantity that is whole or has the suffix `m`.
fn milli(quantity: &str) -> Option<i64> {
    match quantity.strip_suffix('m') {
        Some(milli) => milli.parse().ok(),
        None => quantity.parse::<i64>().ok().map(|whole| whole * 1000),
    }
}
