//! What is kept of an HPA and of a KEDA ScaledObject: everything that decides whether it follows a number.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{Owner, controller};
use super::json::{int, list, quantity, text, texts};
use super::selector::Selector;

/// The object that a scaler scales.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRef {
    /// API group without the version; empty for the core group.
    pub group: String,
    pub kind: String,
    pub name: String,
}

/// Rules of one direction of a `behavior`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    pub stabilization_seconds: Option<i64>,
    /// `Max`, `Min` or `Disabled`.
    pub select: Option<String>,
    pub tolerance: Option<f64>,
    /// `None`: the server's defaults.
    pub policies: Option<Vec<RatePolicy>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePolicy {
    /// `Pods` or `Percent`.
    pub kind: String,
    pub value: i64,
    pub period_seconds: i64,
}

/// One metric of an HPA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HpaMetric {
    External(ExternalMetric),
    /// Any other type, by name.
    Other(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExternalMetric {
    pub name: String,
    pub has_selector: bool,
    /// `None` when there is none, or it cannot be read.
    pub selector: Option<Selector>,
    /// `AverageValue` or `Value`, as written.
    pub target_type: String,
    pub average_value: Option<f64>,
    pub value: Option<f64>,
}

/// A condition of a scaler's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// A HorizontalPodAutoscaler, `autoscaling/v2`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hpa {
    pub name: String,
    pub owner: Option<Owner>,
    pub target: TargetRef,
    /// 1 where nothing is written.
    pub min: i64,
    pub max: i64,
    pub metrics: Vec<HpaMetric>,
    pub up: Option<Rules>,
    pub down: Option<Rules>,
    pub conditions: Vec<Condition>,
}

/// A trigger of a ScaledObject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub kind: String,
    /// Empty where nothing is written: `AverageValue`.
    pub metric_type: String,
    pub metadata: BTreeMap<String, String>,
}

/// A KEDA ScaledObject, `keda.sh/v1alpha1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScaledObject {
    pub name: String,
    pub target: TargetRef,
    /// 0 where nothing is written.
    pub min: i64,
    /// 100 where nothing is written.
    pub max: i64,
    pub idle: Option<i64>,
    /// 300 where nothing is written.
    pub cooldown_seconds: i64,
    /// Replicas of the fallback.
    pub fallback: Option<i64>,
    pub has_formula: bool,
    pub up: Option<Rules>,
    pub down: Option<Rules>,
    pub triggers: Vec<Trigger>,
    /// Annotations `autoscaling.keda.sh/paused…` that are in force.
    pub paused: Vec<String>,
    /// Name of the HPA that KEDA makes for it.
    pub hpa: String,
    pub conditions: Vec<Condition>,
}

impl Hpa {
    pub fn read(object: &DynamicObject) -> Self {
        let data = &object.data;
        let (up, down) = rules(data, "/spec/behavior");
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            owner: controller(object),
            target: target(data, ""),
            min: int(data, "/spec/minReplicas").unwrap_or(1),
            max: int(data, "/spec/maxReplicas").unwrap_or(0),
            metrics: list(data, "/spec/metrics").iter().map(metric).collect(),
            up,
            down,
            conditions: conditions(data),
        }
    }
}

impl ScaledObject {
    pub fn read(object: &DynamicObject) -> Self {
        let data = &object.data;
        let name = object.metadata.name.clone().unwrap_or_default();
        let (up, down) = rules(data, "/spec/advanced/horizontalPodAutoscalerConfig/behavior");
        let hpa = text(data, "/status/hpaName")
            .or_else(|| text(data, "/spec/advanced/horizontalPodAutoscalerConfig/name"))
            .unwrap_or_else(|| format!("keda-hpa-{name}"));
        let annotations = object.metadata.annotations.iter().flatten();
        let paused = annotations
            .filter(|(key, value)| key.starts_with("autoscaling.keda.sh/paused") && value.as_str() != "false")
            .map(|(key, value)| format!("{key}: {value}"));
        Self {
            target: target(data, "Deployment"),
            min: int(data, "/spec/minReplicaCount").unwrap_or(0),
            max: int(data, "/spec/maxReplicaCount").unwrap_or(100),
            idle: int(data, "/spec/idleReplicaCount"),
            cooldown_seconds: int(data, "/spec/cooldownPeriod").unwrap_or(300),
            fallback: data
                .pointer("/spec/fallback")
                .filter(|f| f.is_object())
                .map(|f| int(f, "/replicas").unwrap_or(0)),
            has_formula: text(data, "/spec/advanced/scalingModifiers/formula").is_some(),
            up,
            down,
            triggers: list(data, "/spec/triggers").iter().map(trigger).collect(),
            paused: paused.collect(),
            hpa,
            conditions: conditions(data),
            name,
        }
    }
}

fn target(data: &Value, default_kind: &str) -> TargetRef {
    let version = text(data, "/spec/scaleTargetRef/apiVersion");
    let default_group = if default_kind.is_empty() { "" } else { "apps" };
    let group = version.map_or_else(
        || default_group.to_owned(),
        |v| v.rsplit_once('/').map_or(String::new(), |(group, _)| group.to_owned()),
    );
    TargetRef {
        group,
        kind: text(data, "/spec/scaleTargetRef/kind").unwrap_or_else(|| default_kind.to_owned()),
        name: text(data, "/spec/scaleTargetRef/name").unwrap_or_default(),
    }
}

fn rules(data: &Value, behavior: &str) -> (Option<Rules>, Option<Rules>) {
    let direction = |name: &str| {
        let rules = data.pointer(&format!("{behavior}/{name}")).filter(|r| r.is_object())?;
        let policies = rules.get("policies").and_then(Value::as_array).filter(|p| !p.is_empty());
        Some(Rules {
            stabilization_seconds: int(rules, "/stabilizationWindowSeconds"),
            select: text(rules, "/selectPolicy"),
            tolerance: quantity(rules, "/tolerance"),
            policies: policies.map(|p| p.iter().map(rate_policy).collect()),
        })
    };
    (direction("scaleUp"), direction("scaleDown"))
}

fn rate_policy(policy: &Value) -> RatePolicy {
    RatePolicy {
        kind: text(policy, "/type").unwrap_or_default(),
        value: int(policy, "/value").unwrap_or(0),
        period_seconds: int(policy, "/periodSeconds").unwrap_or(0),
    }
}

fn metric(metric: &Value) -> HpaMetric {
    let kind = text(metric, "/type").unwrap_or_default();
    let Some(external) = metric.get("external").filter(|_| kind == "External") else { return HpaMetric::Other(kind) };
    let selector = external.pointer("/metric/selector").filter(|s| !s.is_null());
    HpaMetric::External(ExternalMetric {
        name: text(external, "/metric/name").unwrap_or_default(),
        has_selector: selector.is_some(),
        selector: selector.and_then(Selector::from_json),
        target_type: text(external, "/target/type").unwrap_or_default(),
        average_value: quantity(external, "/target/averageValue"),
        value: quantity(external, "/target/value"),
    })
}

fn trigger(trigger: &Value) -> Trigger {
    Trigger {
        kind: text(trigger, "/type").unwrap_or_default(),
        metric_type: text(trigger, "/metricType").unwrap_or_default(),
        metadata: texts(trigger, "/metadata"),
    }
}

fn conditions(data: &Value) -> Vec<Condition> {
    let condition = |c: &Value| {
        let word = |name: &str| text(c, name).unwrap_or_default();
        Condition { kind: word("/type"), status: word("/status"), reason: word("/reason"), message: word("/message") }
    };
    list(data, "/status/conditions").iter().map(condition).collect()
}
