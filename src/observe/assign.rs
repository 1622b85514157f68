//! Which reading belongs to which pool, and which of two readings of one instance counts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::FindingKind;
use super::cluster::ClusterState;
use super::reading::{Findings, INSTANCE_LABEL, MODEL_LABEL, POD_LABEL, Reading, State};
use crate::policy::{NAMESPACE_LABEL, Policy, Pool};

/// The readings of every pool, and the pools about which something could not be placed.
#[derive(Debug)]
pub struct Assigned {
    /// By index of the pool.
    pub pools: Vec<Vec<Reading>>,
    /// Indices of pools that an unplaced reading might belong to: that nothing is known of them proves nothing.
    pub doubtful: BTreeSet<usize>,
}

/// Give every reading to the pool that selects it. Where the cluster knows a pod, it decides whose it is, unless
/// the operator gave conditions.
pub fn assign(
    policy: &Policy,
    readings: Vec<Reading>,
    cluster: Option<&ClusterState>,
    findings: &mut Findings,
) -> Assigned {
    let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, pool) in policy.pools.iter().enumerate() {
        by_namespace.entry(&pool.selector.namespace).or_default().push(index);
    }
    let mut pools: Vec<Vec<Reading>> = policy.pools.iter().map(|_| Vec::new()).collect();
    let mut doubtful = BTreeSet::new();
    for reading in readings {
        let candidates = candidates(policy, &by_namespace, cluster, &reading);
        match candidates.as_slice() {
            [one] => pools[*one].push(reading),
            // What is gone or added up is reported by its instances, or need not be any more.
            _ if matches!(reading.state, State::Gone | State::Group) => {}
            [] => {
                findings.add(FindingKind::UnmatchedSeries, reading.identity(), unmatched(policy, &reading));
                doubtful.extend(policy.pools.iter().enumerate().filter(|(_, p)| might_be(p, &reading)).map(|(i, _)| i));
            }
            several => {
                let names: Vec<String> = several.iter().map(|&i| policy.pools[i].id()).collect();
                findings.add(
                    FindingKind::AmbiguousSeries,
                    reading.identity(),
                    format!(
                        "fits the pools {}; tell them apart in their `series` conditions, until then it counts for none",
                        names.join(" and ")
                    ),
                );
                doubtful.extend(several);
            }
        }
    }
    let pools = pools.into_iter().map(|readings| without_duplicates(readings, findings)).collect();
    Assigned { pools, doubtful }
}

fn candidates(
    policy: &Policy,
    by_namespace: &BTreeMap<&str, Vec<usize>>,
    cluster: Option<&ClusterState>,
    reading: &Reading,
) -> Vec<usize> {
    let serves = |pool: &Pool| reading.label(MODEL_LABEL).is_none_or(|m| m == pool.selector.model_name);
    if let Some(index) = reading.pool {
        return policy.pools.get(index).filter(|pool| serves(pool)).map(|_| index).into_iter().collect();
    }
    if let Some(namespace) = reading.label(NAMESPACE_LABEL) {
        let here = by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let of_pod = |i| cluster?.claims(policy, i, namespace, reading.label(POD_LABEL)?);
        let selects = |&i: &usize| match of_pod(i) {
            Some(claimed) => claimed && serves(&policy.pools[i]),
            None => policy.pools[i].selector.selects(&reading.labels),
        };
        return here.iter().copied().filter(selects).collect();
    }
    // A bare address carries no namespace: its model decides, then the conditions on the labels it has.
    if reading.label(MODEL_LABEL).is_none() {
        return Vec::new();
    }
    let same_model: Vec<usize> = (0..policy.pools.len()).filter(|&i| serves(&policy.pools[i])).collect();
    if same_model.len() <= 1 {
        return same_model;
    }
    let mut labels = reading.labels.clone();
    let selects = |&index: &usize| {
        let selector = &policy.pools[index].selector;
        labels.insert(NAMESPACE_LABEL.to_owned(), selector.namespace.clone());
        selector.selects(&labels)
    };
    let selected: Vec<usize> = same_model.iter().copied().filter(selects).collect();
    if selected.is_empty() { same_model } else { selected }
}

fn unmatched(policy: &Policy, reading: &Reading) -> String {
    let model = reading.label(MODEL_LABEL);
    let serves = model.map_or_else(String::new, |m| format!(" (serves `{m}`)"));
    if let Some(pool) = reading.pool.and_then(|i| policy.pools.get(i)) {
        return format!(
            "listed under pool {} of model `{}`{serves}; it is not counted",
            pool.id(),
            pool.selector.model_name
        );
    }
    match (reading.label(NAMESPACE_LABEL), model) {
        (None, None) => "did not answer, and its address alone does not tell its pool".to_owned(),
        _ => format!("belongs to no pool of the policy{serves}; check namespace, model and `series` conditions"),
    }
}

/// An unplaced reading might be an instance of this pool.
fn might_be(pool: &Pool, reading: &Reading) -> bool {
    let namespace = reading.label(NAMESPACE_LABEL);
    match reading.label(MODEL_LABEL) {
        Some(model) => model == pool.selector.model_name && namespace.is_none_or(|n| n == pool.selector.namespace),
        None => namespace.is_none() && reading.pool.is_none(),
    }
}

/// Keep one reading per instance. Several live ones of one pod are one instance with several ranks when their
/// ranks differ, else the newest counts and the others are named.
fn without_duplicates(readings: Vec<Reading>, findings: &mut Findings) -> Vec<Reading> {
    let (instances, mut kept): (Vec<_>, Vec<_>) =
        readings.into_iter().partition(|r| !matches!(r.state, State::Gone | State::Group));
    let mut by_identity: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
    for reading in instances {
        by_identity.entry(reading.identity()).or_default().push(reading);
    }
    let mut addresses = BTreeSet::new();
    for (identity, mut claims) in by_identity {
        // Live before silent before starting, then the newest, then by labels: the same choice every time.
        claims.sort_by(|a, b| {
            a.state.cmp(&b.state).then(b.at_seconds.total_cmp(&a.at_seconds)).then_with(|| a.labels.cmp(&b.labels))
        });
        let mut ranks: BTreeSet<String> = BTreeSet::new();
        let mut first: Option<State> = None;
        for mut claim in claims {
            let address_taken =
                claim.state == State::Live && claim.label(INSTANCE_LABEL).is_some_and(|a| addresses.contains(a));
            let other_rank = !claim.ranks.is_empty() && claim.ranks.is_disjoint(&ranks);
            match first {
                None if !address_taken => {}
                Some(State::Live) if claim.state == State::Live && !address_taken && other_rank => {}
                Some(State::Live) if claim.state == State::Silent => claim.state = State::Gone,
                // A target that is listed twice and does not answer is one target.
                Some(_) if claim.state != State::Live => continue,
                _ => {
                    let address = claim.label(INSTANCE_LABEL).unwrap_or("no address").to_owned();
                    findings.add(
                        FindingKind::DuplicateSeries,
                        identity.clone(),
                        format!("is measured twice (again at {address}); the newest is used, scrape it only once"),
                    );
                    continue;
                }
            }
            first.get_or_insert(claim.state);
            addresses.extend(claim.label(INSTANCE_LABEL).map(str::to_owned));
            ranks.extend(claim.ranks.iter().cloned());
            kept.push(claim);
        }
    }
    kept
}
