//! What one look at the fleet says: its findings with what to do, and units that nobody can have meant. Pure.

use super::actions::{action, split};
use super::{Area, Cluster, Report, Settings, Severity, what};
use crate::observe::{Finding, FindingKind, Histogram, Observation, PoolObservation, Quality, Signal};
use crate::policy::{Policy, Pool};

/// No server that is in use takes as long for one token, seconds.
const ABSURD_ITL_SECONDS: f64 = 2.0;

/// Nor for the first one.
const ABSURD_TTFT_SECONDS: f64 = 600.0;

/// Series of no pool that are named with a pool that has none.
const MOST_NAMED: usize = 3;

pub(super) fn judge(
    policy: &Policy,
    observation: &Observation,
    cluster: &Cluster,
    settings: &Settings,
    report: &mut Report,
) {
    let (strays, findings): (Vec<&Finding>, Vec<&Finding>) =
        observation.findings.iter().partition(|finding| explained(finding, observation));
    for finding in findings {
        let pool = observation.pools.iter().zip(&policy.pools).find(|(seen, _)| seen.pool == finding.subject);
        let (seen, pool) = pool.map_or((None, None), |(seen, pool)| (Some(seen), Some(pool)));
        let (message, how) = split(&finding.message);
        let mut message = message;
        if finding.kind == FindingKind::NoSeries {
            message += &candidates(&strays, pool);
        }
        let area = area(finding.kind);
        let action = action(finding, how, pool, scaler(seen), cluster, settings);
        let object = object(finding, pool, scaler(seen), settings);
        report.add(area, finding.kind.severity(), finding.kind.as_str(), object, what(message, action));
    }
    for (pool, seen) in policy.pools.iter().zip(&observation.pools) {
        units(pool, seen, report);
        age(policy, pool, seen, observation.at_seconds, report);
    }
    let instances: u32 = observation.pools.iter().filter_map(|p| p.ready.value).sum();
    report.checked.push(format!("{instances} instances"));
}

/// The scaler of a pool, kind and name.
fn scaler(seen: Option<&PoolObservation>) -> Option<(&str, &str)> {
    let scaler = seen?.cluster.as_ref()?.scaler.as_ref()?;
    Some((scaler.kind.as_str(), scaler.name.as_str()))
}

/// A series of no pool in the namespace of a pool without series: two sides of one mistake, which is told once.
fn explained(finding: &Finding, observation: &Observation) -> bool {
    let namespace = |subject: &str| subject.split_once('/').map(|(namespace, _)| namespace.to_owned());
    finding.kind == FindingKind::UnmatchedSeries
        && observation
            .findings
            .iter()
            .any(|f| f.kind == FindingKind::NoSeries && namespace(&f.subject) == namespace(&finding.subject))
}

fn candidates(strays: &[&Finding], pool: Option<&Pool>) -> String {
    let here = |finding: &&&Finding| {
        pool.is_some_and(|p| finding.subject.split_once('/').is_some_and(|(namespace, _)| namespace == p.namespace))
    };
    let all: Vec<&&Finding> = strays.iter().filter(here).collect();
    if all.is_empty() {
        return String::new();
    }
    let named: Vec<String> =
        all.iter().take(MOST_NAMED).map(|f| format!("{} {}", f.subject, split(&f.message).0)).collect();
    let more = if all.len() > MOST_NAMED { format!(" and {} more", all.len() - MOST_NAMED) } else { String::new() };
    format!("; there are series that match no pool: {}{more}", named.join(", "))
}

fn area(kind: FindingKind) -> Area {
    match kind {
        FindingKind::ClusterUnreadable | FindingKind::TargetMissing | FindingKind::Unschedulable => Area::Cluster,
        FindingKind::SourceFailed
        | FindingKind::InstanceSilent
        | FindingKind::UnmatchedSeries
        | FindingKind::AmbiguousSeries
        | FindingKind::DuplicateSeries
        | FindingKind::Implausible
        | FindingKind::CounterReset
        | FindingKind::NoSeries
        | FindingKind::ClockSkew => Area::Metrics,
        _ => Area::Scalers,
    }
}

fn object(finding: &Finding, pool: Option<&Pool>, scaler: Option<(&str, &str)>, settings: &Settings) -> String {
    match (area(finding.kind), pool, scaler) {
        (Area::Scalers, Some(pool), Some((kind, name))) => format!("{kind} {}/{name}", pool.namespace),
        (Area::Scalers | Area::Cluster, Some(pool), _) => {
            format!("{} {}/{}", pool.target.kind, pool.namespace, pool.target.name)
        }
        (_, Some(pool), _) => format!("pool {}", pool.id()),
        _ if finding.kind == FindingKind::SourceFailed && finding.subject == "source" => settings.source.clone(),
        _ => finding.subject.clone(),
    }
}

/// Latencies that can only be milliseconds.
fn units(pool: &Pool, seen: &PoolObservation, report: &mut Report) {
    let mean = |signal: &Signal<Histogram>| signal.value.as_ref().and_then(Histogram::mean);
    for (name, mean, most) in [
        ("time per output token", mean(&seen.itl), ABSURD_ITL_SECONDS),
        ("time to first token", mean(&seen.ttft), ABSURD_TTFT_SECONDS),
    ] {
        let Some(mean) = mean.filter(|mean| *mean > most) else { continue };
        let message = format!("{name} of {} looks like milliseconds: its mean is {mean:.0} s", pool.id());
        let action = "export it in seconds, as its name says; a relabelling or recording rule in between must not \
                      multiply it";
        report.add(Area::Metrics, Severity::Warning, "units", format!("pool {}", pool.id()), what(message, action));
    }
}

/// Samples that are too old to shrink by.
fn age(policy: &Policy, pool: &Pool, seen: &PoolObservation, now_seconds: f64, report: &mut Report) {
    let limit = policy.planner.stale_after_seconds;
    let age = now_seconds - seen.ready.at_seconds;
    if seen.ready.value.is_none() || seen.ready.quality != Quality::Stale || age <= limit {
        return;
    }
    let message = format!("its oldest sample in use is {age:.0} s old, more than {limit:.0} s: it is not shrunk");
    let action = "shorten the scrape interval, or see why the target is scraped late (Prometheus: Status, Targets)";
    report.add(Area::Metrics, Severity::Warning, "stale", format!("pool {}", pool.id()), what(message, action));
}
