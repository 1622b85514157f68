//! An HPA of the operator's own: its metric, its target, its selector.

use std::collections::{BTreeMap, BTreeSet};

use super::{Problems, Subject, behavior, conditions, limits};
use crate::observe::FindingKind;
use crate::observe::cluster::{ExternalMetric, Hpa, HpaMetric, Selector};
use crate::policy::{Mode, Policy, Pool};

/// The metric, its label that names the pool, and labels whose values are not compared here.
struct Ours {
    metric: &'static str,
    pool_label: &'static str,
    unknown: &'static [&'static str],
}

const METRICS: [Ours; 2] = [
    Ours { metric: "poolwright_desired_replicas", pool_label: "pool", unknown: &["model"] },
    Ours { metric: "wva_desired_replicas", pool_label: "variant_name", unknown: &["accelerator_type", "namespace"] },
];

fn ours(metric: &HpaMetric) -> Option<(&ExternalMetric, &'static Ours)> {
    let HpaMetric::External(external) = metric else { return None };
    METRICS.iter().find(|ours| ours.metric == external.name).map(|ours| (external, ours))
}

/// It asks for a number of ours.
pub(super) fn asks_us(hpa: &Hpa) -> bool {
    hpa.metrics.iter().any(|metric| ours(metric).is_some())
}

pub(super) fn check(subject: &Subject<'_>, hpa: &Hpa, problems: &mut Problems) {
    let whose = format!("HPA {}", hpa.name);
    let asked: Vec<_> = hpa.metrics.iter().filter_map(ours).collect();
    let Some((metric, ours)) = asked.first() else {
        let message = format!(
            "{whose} does not ask for the published number; give it the External metric {} with the selector pool={} \
             and the target AverageValue 1",
            METRICS[0].metric,
            subject.pool().name
        );
        problems.blocks(FindingKind::ScalerMetric, message);
        return;
    };
    target(&whose, metric, problems);
    selector(subject, &whose, metric, ours, problems);
    others(&whose, hpa, problems);
    let names = (format!("{whose}: minReplicas"), format!("{whose}: maxReplicas"));
    limits(subject, (&names.0, hpa.min), (&names.1, hpa.max), problems);
    behavior::check(subject, &whose, hpa.up.as_ref(), hpa.down.as_ref(), hpa.min, problems);
    asleep(subject, &whose, hpa, problems);
    if !(subject.wanted == Some(0) && slept_by_itself(hpa)) {
        conditions(&whose, &hpa.conditions, problems);
    }
}

/// With AverageValue 1 the value is the number of replicas, whatever the pods do; with anything else it is not.
fn target(whose: &str, metric: &ExternalMetric, problems: &mut Problems) {
    let write = "write `target: {type: AverageValue, averageValue: \"1\"}`";
    match (metric.average_value, metric.value) {
        (Some(1.0), None) if metric.target_type == "AverageValue" => {}
        (Some(average), None) if metric.target_type == "AverageValue" => {
            let message = format!(
                "{whose} divides the number by averageValue {average}: replicas are not what is published; {write}"
            );
            problems.blocks(FindingKind::ScalerMetric, message);
        }
        _ => {
            let kind = if metric.target_type.is_empty() { "nothing" } else { &metric.target_type };
            let message = format!(
                "{whose} has the target type {kind}: the number is multiplied by the ready pods instead of being taken; \
                 {write}"
            );
            problems.blocks(FindingKind::ScalerMetric, message);
        }
    }
}

/// The labels with which a pool's number is published, as far as they are compared.
fn labels(policy: &Policy, pool: &Pool, ours: &Ours) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(ours.pool_label.to_owned(), pool.name.clone())]);
    if ours.pool_label == "pool" {
        let model = policy.models.get(pool.model).map(|m| m.served_name.clone());
        labels.insert("model_name".to_owned(), model.unwrap_or_default());
    }
    labels
}

fn selector(subject: &Subject<'_>, whose: &str, metric: &ExternalMetric, ours: &Ours, problems: &mut Problems) {
    let pool = subject.pool();
    let write = format!("write `selector: {{matchLabels: {{{}: {}}}}}`", ours.pool_label, pool.name);
    let selector = match &metric.selector {
        Some(selector) if !selector.is_empty() => selector,
        Some(_) | None if !metric.has_selector || metric.selector.is_some() => {
            let message = format!(
                "{whose} has no selector: the numbers of all pools of the namespace are added up; {write} under `metric`"
            );
            problems.blocks(FindingKind::ScalerSelector, message);
            return;
        }
        _ => {
            problems
                .blocks(FindingKind::ScalerSelector, format!("{whose} has a selector that cannot be read; {write}"));
            return;
        }
    };
    let selected = selected(subject.policy, pool, selector, ours);
    let message = if selected.contains(&pool.name) && selected.len() == 1 {
        return;
    } else if selected.is_empty() {
        format!("{whose} has a selector that no pool fits: it gets no number; {write}")
    } else if selected.contains(&pool.name) {
        let names: Vec<String> = selected.into_iter().collect();
        format!("{whose} has a selector that fits the pools {}: their numbers are added up; {write}", names.join(", "))
    } else {
        let names: Vec<String> = selected.into_iter().collect();
        format!("{whose} gets the number of another pool ({}); {write}", names.join(", "))
    };
    problems.blocks(FindingKind::ScalerSelector, message);
}

/// Pools of the same namespace whose published number a selector picks.
fn selected(policy: &Policy, pool: &Pool, selector: &Selector, ours: &Ours) -> BTreeSet<String> {
    let here = policy.pools.iter().filter(|p| p.namespace == pool.namespace && p.mode == Mode::Act);
    here.filter(|p| selector.could_match(&labels(policy, p, ours), ours.unknown)).map(|p| p.name.clone()).collect()
}

fn others(whose: &str, hpa: &Hpa, problems: &mut Problems) {
    if hpa.metrics.len() > 1 {
        let message = format!(
            "{whose} has {} metrics: the largest result wins, and one that fails forbids every scale-down; keep the \
             External metric alone",
            hpa.metrics.len()
        );
        problems.blocks(FindingKind::ScalerOtherMetrics, message);
    }
}

fn slept_by_itself(hpa: &Hpa) -> bool {
    hpa.conditions.iter().any(|c| c.kind == "ScaledToZero" && c.status == "True")
}

/// An HPA does not touch a target that somebody else set to zero.
fn asleep(subject: &Subject<'_>, whose: &str, hpa: &Hpa, problems: &mut Problems) {
    // Before 1.36 an HPA does not say who put its target to 0.
    if subject.wanted == Some(0) && hpa.min == 0 && !slept_by_itself(hpa) && !subject.is_before(36) {
        let target = &subject.pool().target;
        let message = format!(
            "{whose} sleeps: its target was set to 0 by somebody else, so it will not wake it; run `kubectl -n {} scale \
             {}/{} --replicas=1` once",
            subject.pool().namespace,
            target.kind.to_lowercase(),
            target.name
        );
        problems.blocks(FindingKind::ScalerCondition, message);
    }
}
