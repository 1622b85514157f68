//! What to do about a finding of the observation: its own words, and the command that goes with them. Pure.

use super::{Cluster, Settings};
use crate::observe::{Finding, FindingKind, dialect};
use crate::policy::Pool;

/// Words that begin what to do, in the sentences of findings.
const IMPERATIVES: [&str; 16] = [
    "write",
    "give",
    "remove",
    "keep",
    "delete",
    "run",
    "apply",
    "start",
    "set",
    "check",
    "add",
    "tell",
    "create",
    "synchronise",
    "scrape",
    "use",
];

/// A finding's sentence as what is wrong and what to do: its parts between semicolons that begin with a command.
pub(super) fn split(message: &str) -> (String, String) {
    let (how, what): (Vec<&str>, Vec<&str>) =
        message.split("; ").partition(|part| part.split(' ').next().is_some_and(|word| IMPERATIVES.contains(&word)));
    if what.is_empty() { (message.to_owned(), String::new()) } else { (what.join("; "), how.join("; ")) }
}

/// What to do, and with which command.
pub(super) fn action(
    finding: &Finding,
    how: String,
    pool: Option<&Pool>,
    scaler: Option<(&str, &str)>,
    cluster: &Cluster,
    settings: &Settings,
) -> String {
    let policy = &settings.policy_path;
    let command = match finding.kind {
        FindingKind::SourceFailed => source(&finding.message).to_owned(),
        FindingKind::NoScaler => {
            format!("poolwright manifests --policy {policy} --part pools | kubectl apply -f -")
        }
        FindingKind::TwoScalers => pool.map_or_else(String::new, |pool| {
            format!(
                "`kubectl -n {} get hpa,scaledobjects` shows them, `kubectl -n {} delete hpa NAME` deletes one",
                pool.namespace, pool.namespace
            )
        }),
        FindingKind::ScalerMetric
        | FindingKind::ScalerSelector
        | FindingKind::ScalerTolerance
        | FindingKind::ScalerLimits
        | FindingKind::ScalerBehavior
        | FindingKind::ScalerOtherMetrics
        | FindingKind::ScalerFallback
        | FindingKind::ScalerPaused => edit(pool, scaler, policy),
        FindingKind::ScalerCondition => match (pool, scaler) {
            (Some(pool), Some((kind, name))) => {
                format!("`kubectl -n {} describe {} {name}`", pool.namespace, resource(kind))
            }
            _ => String::new(),
        },
        FindingKind::ScalerWaits => "write `mode: act` in the policy when you trust its advice".to_owned(),
        FindingKind::NoSeries => no_series(pool, cluster),
        FindingKind::UnmatchedSeries => "give it a pool in the policy, or keep it out: no pool counts it".to_owned(),
        FindingKind::DuplicateSeries => {
            "let only one scrape job or address find the instance: drop it from the other (`action: drop` under \
             relabel_configs, or one of two ServiceMonitors or PodMonitors)"
                .to_owned()
        }
        FindingKind::Unschedulable => pool.map_or_else(String::new, |pool| {
            format!("`kubectl -n {} get pods --field-selector status.phase=Pending`", pool.namespace)
        }),
        FindingKind::InstanceSilent => {
            "see whether the pod is healthy and its metrics port reachable; nothing is shrunk meanwhile".to_owned()
        }
        FindingKind::CounterReset => "nothing, unless it repeats: then the server crashes".to_owned(),
        _ => String::new(),
    };
    match (how.is_empty(), command.is_empty()) {
        (false, false) => format!("{how}: {command}"),
        (false, true) => how,
        (true, false) => command,
        (true, true) => "see what it names".to_owned(),
    }
}

fn resource(kind: &str) -> &'static str {
    if kind == "ScaledObject" { "scaledobject" } else { "hpa" }
}

fn edit(pool: Option<&Pool>, scaler: Option<(&str, &str)>, policy: &str) -> String {
    let Some((pool, (kind, name))) = pool.zip(scaler) else { return String::new() };
    format!(
        "`kubectl -n {} edit {} {name}`; `poolwright manifests --policy {policy} --part pools` prints one that follows",
        pool.namespace,
        resource(kind)
    )
}

/// The access option that fits the failure.
fn source(message: &str) -> &'static str {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["401", "403", "unauthorized", "forbidden"]) {
        "give it credentials: --source-token-file FILE, --source-user NAME with --source-password-file FILE, or \
         --source-cert FILE with --source-key FILE"
    } else if has(&["certificate", "tls", "unknownissuer"]) {
        "name the authority of its certificate: --source-ca FILE"
    } else if has(&["404", "not found"]) {
        "check the path: --prometheus takes the address that /api/v1/query is appended to"
    } else {
        "check address and network: `curl URL/api/v1/query?query=up` for Prometheus, `curl URL/metrics` for a server"
    }
}

fn no_series(pool: Option<&Pool>, cluster: &Cluster) -> String {
    let Some(pool) = pool else { return String::new() };
    let selector = &pool.selector;
    let mut text = format!(
        "count({{__name__=~\"{}.*\",namespace=\"{}\",model_name=\"{}\"}}) by (pod) must list its pods; correct `model`, \
         `series` or `namespace` in the policy, or the scrape job's labels",
        dialect::of(pool.engine).prefix,
        selector.namespace,
        selector.model_name
    );
    if *cluster == Cluster::None {
        text += "; to tell zero replicas from missing data, add --kubernetes on or let Prometheus scrape kube-state-metrics";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn sentences_are_split_into_fault_and_remedy() {
        let both = "HPA a has the target type Value: it is multiplied; write `target: {}`; it is so; remove it";
        let wanted = ("HPA a has the target type Value: it is multiplied; it is so", "write `target: {}`; remove it");
        assert_eq!(split(both), (wanted.0.to_owned(), wanted.1.to_owned()));
        assert_eq!(split("write this"), ("write this".to_owned(), String::new()));
    }
}
