//! One decision prepared for answering: built once per decision, read by every request.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::discovery::Metric;
use super::label;
use crate::control::{Decision, PoolDecision};
use crate::policy::Mode;

/// Largest number that is published: HPA's own arithmetic overflows far above it.
pub const MAX_REPLICAS: u32 = 1_000_000_000;

/// A decision with its answers prepared.
#[derive(Debug)]
pub struct View {
    pub decision: Arc<Decision>,
    /// By metric (in the order of [`Metric::ALL`]) and namespace; sorted by pool. Written when first asked for.
    items: OnceLock<[BTreeMap<String, Vec<Item>>; 2]>,
    /// Index of a pool in the decision, by namespace and name.
    pools: BTreeMap<String, BTreeMap<String, usize>>,
    /// The decision as JSON, written when first asked for.
    json: OnceLock<Bytes>,
}

/// What the external metrics API says of one pool in mode `act`.
#[derive(Debug)]
pub struct Item {
    /// The pool's name as its label carries it.
    pub pool: String,
    pub value: MetricValue,
    /// The value as compact JSON, or why there is none.
    pub answer: Result<String, Refusal>,
}

impl Item {
    /// Value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value.metric_labels.get(key).map(String::as_str)
    }
}

/// One `ExternalMetricValue`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricValue {
    pub metric_name: &'static str,
    pub metric_labels: BTreeMap<&'static str, String>,
    /// Time of the decision, RFC 3339.
    pub timestamp: String,
    /// A quantity; an integer here.
    pub value: String,
}

/// Why a pool in mode `act` has no number to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("pool {pool} has no number yet: {reason}")]
    NoNumber { pool: String, reason: String },
    #[error("pool {pool}: {value} replicas are more than the {MAX_REPLICAS} that can be published")]
    TooLarge { pool: String, value: u32 },
    #[error("the decision has no usable time")]
    NoTime,
    #[error("pool {pool} was decided twice")]
    Twice { pool: String },
}

impl View {
    pub fn new(decision: Arc<Decision>) -> Self {
        let mut pools: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (index, pool) in decision.pools.iter().enumerate() {
            pools.entry(pool.namespace.clone()).or_default().insert(pool.pool.clone(), index);
        }
        Self { decision, items: OnceLock::new(), pools, json: OnceLock::new() }
    }

    fn prepare_items(&self) -> [BTreeMap<String, Vec<Item>>; 2] {
        let decision = &self.decision;
        // Of two with one name the later one is in the index.
        let kept = |index, pool: &PoolDecision| {
            self.pools.get(&pool.namespace).and_then(|names| names.get(&pool.pool)) == Some(&index)
        };
        let repeated = decision.pools.iter().enumerate().filter(|(index, pool)| !kept(*index, pool));
        let twice: Vec<_> = repeated.map(|(_, pool)| (pool.namespace.as_str(), pool.pool.as_str())).collect();
        let time = timestamp(decision.at_seconds);
        Metric::ALL.map(|metric| {
            let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
            for (namespace, names) in &self.pools {
                let act = names.values().map(|&index| &decision.pools[index]).filter(|p| p.mode == Mode::Act);
                let prepared = act.map(|pool| {
                    let twice = twice.contains(&(pool.namespace.as_str(), pool.pool.as_str()));
                    prepare(metric, pool, time.as_deref(), twice)
                });
                let mut prepared: Vec<Item> = prepared.collect();
                prepared.sort_by(|a, b| a.pool.cmp(&b.pool));
                items.insert(namespace.clone(), prepared);
            }
            items
        })
    }

    /// Items of one metric in one namespace, sorted by pool; with `pool`, only that pool's.
    pub fn items(&self, metric: Metric, namespace: &str, pool: Option<&str>) -> &[Item] {
        let all = self.items.get_or_init(|| self.prepare_items());
        let items = all[metric as usize].get(namespace).map_or(&[][..], Vec::as_slice);
        match pool {
            None => items,
            Some(pool) => items.binary_search_by(|item| item.pool.as_str().cmp(pool)).map_or(&[], |i| &items[i..=i]),
        }
    }

    pub fn pool(&self, namespace: &str, pool: &str) -> Option<&PoolDecision> {
        self.pools.get(namespace)?.get(pool).map(|&index| &self.decision.pools[index])
    }

    /// The whole decision as JSON.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(serde_json::to_vec(&*self.decision).unwrap_or_default())).clone()
    }
}

fn prepare(metric: Metric, pool: &PoolDecision, time: Option<&str>, twice: bool) -> Item {
    let name = pool.pool.clone();
    let number = match (pool.published(), time) {
        _ if twice => Err(Refusal::Twice { pool: name.clone() }),
        (None, _) => Err(Refusal::NoNumber { pool: name.clone(), reason: pool.reason.clone() }),
        (Some(value), _) if value > MAX_REPLICAS => Err(Refusal::TooLarge { pool: name.clone(), value }),
        (Some(_), None) => Err(Refusal::NoTime),
        (Some(value), Some(time)) => Ok((value.to_string(), time.to_owned())),
    };
    let (quantity, timestamp) = number.clone().unwrap_or_default();
    let value =
        MetricValue { metric_name: metric.name(), metric_labels: labels(metric, pool), timestamp, value: quantity };
    let answer = number.map(|_| serde_json::to_string(&value).unwrap_or_default());
    let pool = value.metric_labels.get(metric.pool_label()).cloned().unwrap_or(name);
    Item { pool, value, answer }
}

fn labels(metric: Metric, pool: &PoolDecision) -> BTreeMap<&'static str, String> {
    let selectable = |text: &str| label::selectable(text).into_owned();
    match metric {
        Metric::Desired => BTreeMap::from([
            (metric.pool_label(), selectable(&pool.pool)),
            ("model", selectable(&pool.model)),
            ("model_name", pool.model.clone()),
        ]),
        Metric::Alias => BTreeMap::from([
            (metric.pool_label(), selectable(&pool.pool)),
            ("accelerator_type", selectable(&pool.accelerator)),
            ("namespace", selectable(&pool.namespace)),
        ]),
    }
}

/// RFC 3339 in UTC, whole seconds; `None` where the time is none.
pub fn timestamp(at_seconds: f64) -> Option<String> {
    let whole = at_seconds.floor();
    // The range of years that RFC 3339 can write.
    if !(0.0..253_402_300_800.0).contains(&whole) {
        return None;
    }
    let time: DateTime<Utc> = DateTime::from_timestamp(whole as i64, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_whole_seconds_in_utc() {
        assert_eq!(timestamp(1_795_352_400.9).as_deref(), Some("2026-11-22T13:00:00Z"));
        assert_eq!(timestamp(0.0).as_deref(), Some("1970-01-01T00:00:00Z"));
        for impossible in [f64::NAN, f64::INFINITY, -1.0, 1e308] {
            assert_eq!(timestamp(impossible), None);
        }
    }
}
