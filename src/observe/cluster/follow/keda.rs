//! A ScaledObject: its trigger, its limits, and what KEDA does besides following.

use super::{Problems, Subject, behavior, limits};
use crate::observe::FindingKind;
use crate::observe::cluster::{ScaledObject, Trigger};
use crate::policy::Pool;

/// Trigger metadata that names the pool.
const POOL_KEY: &str = "pool";
/// Enough to bridge an outage of ours; a longer wait before the step to zero only damps a second time what the
/// policy already damps.
const MOST_COOLDOWN_SECONDS: i64 = 300;

/// What a trigger asks of us.
enum Asks<'a> {
    /// The pool that it names, if it names one.
    Pool(Option<&'a str>),
    Nothing,
}

fn asks<'a>(trigger: &'a Trigger, pool: &Pool) -> Asks<'a> {
    let named = trigger.metadata.get(POOL_KEY).map(String::as_str);
    match trigger.kind.as_str() {
        "external" | "external-push" => match named {
            Some(name) => Asks::Pool(Some(name)),
            // Some other external scaler has other keys; one of ours without its key names no pool.
            None if trigger.metadata.get("scalerAddress").is_some_and(|a| a.contains("poolwright")) => Asks::Pool(None),
            None => Asks::Nothing,
        },
        "metrics-api" => {
            let url = trigger.metadata.get("url").map_or("", String::as_str);
            let path = url.split(['?', '#']).next().unwrap_or_default();
            let prefix = format!("/v1/namespaces/{}/pools/", pool.namespace);
            path.split_once(prefix.as_str()).map_or(Asks::Nothing, |(_, name)| Asks::Pool(Some(name)))
        }
        _ => Asks::Nothing,
    }
}

/// One of its triggers asks us.
pub(super) fn asks_us(object: &ScaledObject, pool: &Pool) -> bool {
    object.triggers.iter().any(|trigger| matches!(asks(trigger, pool), Asks::Pool(_)))
}

pub(super) fn check(subject: &Subject<'_>, object: &ScaledObject, problems: &mut Problems) {
    let pool = subject.pool();
    let whose = format!("ScaledObject {}", object.name);
    if !object.paused.is_empty() {
        let message = format!(
            "{whose} is paused by {}: its replicas stay as they are; remove the annotation to have it follow",
            object.paused.join(", ")
        );
        problems.blocks(FindingKind::ScalerPaused, message);
    }
    let ours = object.triggers.iter().find_map(|trigger| match asks(trigger, pool) {
        Asks::Pool(named) => Some((trigger, named)),
        Asks::Nothing => None,
    });
    let Some((trigger, named)) = ours else {
        let message = format!(
            "{whose} does not ask for the published number; give it a trigger of type external-push with the metadata \
             `pool: {}`",
            pool.name
        );
        problems.blocks(FindingKind::ScalerMetric, message);
        return;
    };
    match named {
        Some(name) if name == pool.name => {}
        Some(name) => {
            let message =
                format!("{whose} gets the number of another pool ({name}); write `pool: {}` in its trigger", pool.name);
            problems.blocks(FindingKind::ScalerSelector, message);
        }
        None => {
            let message = format!("{whose} names no pool; write `pool: {}` in the metadata of its trigger", pool.name);
            problems.blocks(FindingKind::ScalerSelector, message);
        }
    }
    metric(&whose, trigger, problems);
    extras(subject, &whose, object, problems);
    let names = (format!("{whose}: minReplicaCount"), format!("{whose}: maxReplicaCount"));
    limits(subject, (&names.0, object.min), (&names.1, object.max), problems);
    // Between 0 and 1 KEDA itself acts; the HPA that it makes begins at 1.
    behavior::check(subject, &whose, object.up.as_ref(), object.down.as_ref(), object.min.max(1), problems);
    for c in object.conditions.iter().filter(|c| c.kind == "Ready" && c.status == "False") {
        let message = format!("{whose} reports Ready=False, {}: {}", c.reason, c.message);
        problems.blocks(FindingKind::ScalerCondition, message);
    }
    let fallback: Vec<_> = object.conditions.iter().filter(|c| c.kind == "Fallback" && c.status == "True").collect();
    if !fallback.is_empty() {
        problems.blocks(FindingKind::ScalerFallback, format!("{whose} runs on its fallback: it gets no number"));
    }
}

fn metric(whose: &str, trigger: &Trigger, problems: &mut Problems) {
    if !matches!(trigger.metric_type.as_str(), "" | "AverageValue") {
        let message = format!(
            "{whose} has the metricType {}: the number is multiplied by the ready pods instead of being taken; write \
             metricType: AverageValue",
            trigger.metric_type
        );
        problems.blocks(FindingKind::ScalerMetric, message);
    }
    if trigger.kind != "metrics-api" {
        return;
    }
    let value = |key: &str| trigger.metadata.get(key).map(|v| v.trim());
    if value("targetValue").and_then(|v| v.parse::<f64>().ok()) != Some(1.0) {
        let message = format!("{whose} divides the number by its targetValue; write targetValue: \"1\"");
        problems.blocks(FindingKind::ScalerMetric, message);
    }
    if value("valueLocation") != Some("desired_replicas") {
        let message =
            format!("{whose} does not read the field desired_replicas; write valueLocation: desired_replicas");
        problems.blocks(FindingKind::ScalerMetric, message);
    }
    if value("activationTargetValue").is_some_and(|v| v.parse() != Ok(0.0_f64)) {
        let message = format!("{whose} does not wake at 1 replica; write activationTargetValue: \"0\"");
        problems.blocks(FindingKind::ScalerMetric, message);
    }
}

fn extras(subject: &Subject<'_>, whose: &str, object: &ScaledObject, problems: &mut Problems) {
    if object.triggers.len() > 1 {
        let message = format!(
            "{whose} has {} triggers: the largest result wins, and one that fails forbids every scale-down; keep one",
            object.triggers.len()
        );
        problems.blocks(FindingKind::ScalerOtherMetrics, message);
    }
    if object.has_formula {
        let message = format!("{whose} changes the number by a formula (scalingModifiers); remove it");
        problems.blocks(FindingKind::ScalerOtherMetrics, message);
    }
    if let Some(replicas) = object.fallback {
        let message = format!(
            "{whose} has a fallback: when poolwright does not answer, it goes to {replicas} replicas and wakes the pool \
             from zero; without `fallback` replicas stay as they are"
        );
        problems.notes(FindingKind::ScalerFallback, message);
    }
    if let Some(idle) = object.idle {
        let message = format!("{whose} goes to {idle} when idle (idleReplicaCount); remove it, poolwright says when");
        problems.blocks(FindingKind::ScalerBehavior, message);
    }
    let (to_zero, cooldown) = (subject.pool().min == 0 && object.min == 0, object.cooldown_seconds);
    if to_zero && cooldown > MOST_COOLDOWN_SECONDS {
        let message = format!(
            "{whose} waits {cooldown} s more before the step to 0 (cooldownPeriod), on top of the wait that the policy \
             already makes; write cooldownPeriod: 300"
        );
        problems.blocks(FindingKind::ScalerBehavior, message);
    }
}
