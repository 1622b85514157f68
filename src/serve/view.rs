//! One decision prepared for answering: built once per decision, read by every request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::discovery::Metric;
use super::label;
use super::number::{self, NoNumber};
use super::protobuf::Message;
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
    /// The value, written, or why there is none.
    pub answer: Result<Answer, Refusal>,
}

/// A value as it stands in a list.
#[derive(Debug)]
pub struct Answer {
    /// Compact JSON.
    pub json: String,
    /// The list's field in protobuf, with its key and length.
    pub protobuf: Vec<u8>,
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
    /// Time of the decision.
    pub timestamp: Timestamp,
    /// Seconds before the time that the value was computed from; none of our metrics is a rate.
    #[serde(rename = "window", skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<i64>,
    /// A quantity; an integer here.
    pub value: String,
}

impl MetricValue {
    pub fn protobuf(&self) -> Message {
        let head = Message::default().text(1, self.metric_name);
        let label = |(key, value): (&&str, &String)| Message::default().text(1, key).text(2, value);
        let head = head.messages(2, self.metric_labels.iter().map(label));
        let head = head.message(3, &Message::default().number(1, self.timestamp.0).number(2, 0));
        let head = self.window_seconds.iter().fold(head, |m, window| m.number(4, *window));
        head.message(5, &Message::default().text(1, &self.value))
    }
}

/// Whole seconds since 1970, in the years that RFC 3339 can write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The second in which `at_seconds` lies; `None` where the time is none.
    pub fn of(at_seconds: f64) -> Option<Self> {
        let whole = at_seconds.floor();
        (0.0..253_402_300_800.0).contains(&whole).then_some(Self(whole as i64))
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time: DateTime<Utc> = DateTime::from_timestamp(self.0, 0).ok_or(fmt::Error)?;
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a pool in mode `act` has no number to give.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    NoNumber(#[from] NoNumber),
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
        let time = Timestamp::of(decision.at_seconds);
        Metric::ALL.map(|metric| {
            let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
            for (namespace, names) in &self.pools {
                let act = names.values().map(|&index| &decision.pools[index]).filter(|p| p.mode == Mode::Act);
                let prepared = act.map(|pool| {
                    let twice = twice.contains(&(pool.namespace.as_str(), pool.pool.as_str()));
                    prepare(metric, pool, time, twice, decision.source_error.as_deref())
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

fn prepare(
    metric: Metric,
    pool: &PoolDecision,
    time: Option<Timestamp>,
    twice: bool,
    source_error: Option<&str>,
) -> Item {
    let name = pool.pool.clone();
    let number = match (number::of_pool(pool, source_error), time) {
        _ if twice => Err(Refusal::Twice { pool: name.clone() }),
        (Err(why), _) => Err(Refusal::NoNumber(why)),
        (Ok(_), None) => Err(Refusal::NoTime),
        (Ok(value), Some(time)) => Ok((value.to_string(), time)),
    };
    let (quantity, timestamp) = number.clone().unwrap_or_default();
    let metric_labels = labels(metric, pool);
    let value =
        MetricValue { metric_name: metric.name(), metric_labels, timestamp, window_seconds: None, value: quantity };
    let answer = number.map(|_| Answer {
        json: serde_json::to_string(&value).unwrap_or_default(),
        protobuf: Message::default().message(2, &value.protobuf()).into_bytes(),
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::protobuf::{body, list_meta};

    #[test]
    fn timestamps_are_whole_seconds_in_utc() {
        let text = |at_seconds| Timestamp::of(at_seconds).map(|t| t.to_string());
        assert_eq!(text(1_795_352_400.9).as_deref(), Some("2026-11-22T13:00:00Z"));
        assert_eq!(text(0.0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(text(253_402_300_799.0).as_deref(), Some("9999-12-31T23:59:59Z"));
        for impossible in [f64::NAN, f64::INFINITY, -1.0, 1e308, 253_402_300_800.0] {
            assert_eq!(text(impossible), None);
        }
    }

    fn value(window_seconds: Option<i64>) -> MetricValue {
        MetricValue {
            metric_name: "wva_desired_replicas",
            metric_labels: BTreeMap::from([
                ("controller_instance", "a".to_owned()),
                ("variant_name", "llama-a100".to_owned()),
            ]),
            timestamp: Timestamp(1_795_352_400),
            window_seconds,
            value: "21".into(),
        }
    }

    fn hex(values: &[MetricValue]) -> String {
        let list = Message::default().message(1, &list_meta()).messages(2, values.iter().map(MetricValue::protobuf));
        body("external.metrics.k8s.io/v1beta1", "ExternalMetricValueList", &list)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    /// Envelope of a list, as the Go library writes it.
    const HEAD: &str = "6b3873000a3a0a1f65787465726e616c2e6d6574726963732e6b38732e696f2f76316265746131121745787465726e\
                        616c4d657472696356616c75654c697374";

    /// The expected bytes were written by the Go library.
    #[test]
    fn protobuf_is_that_of_the_go_library() {
        let one = format!(
            "{HEAD}12660a060a0012001a00125c0a147776615f646573697265645f7265706c6963617312180a13636f6e74726f6c6c65725f696e\
             7374616e6365120161121a0a0c76617269616e745f6e616d65120a6c6c616d612d613130301a0808d0ce8bd80610002a040a0232311a\
             002200"
        );
        assert_eq!((hex(&[value(None)]), one.len()), (one, 172 * 2));
        assert_eq!(hex(&[]), format!("{HEAD}12080a060a0012001a001a002200"));
    }

    #[test]
    fn a_window_is_written_in_seconds() {
        let json = serde_json::to_value(value(Some(60))).unwrap();
        assert_eq!((&json["window"], json.get("windowSeconds")), (&serde_json::json!(60), None));
        assert_eq!(serde_json::to_value(value(None)).unwrap().get("window"), None);
        // With a second value without labels, as the Go library writes it.
        let bare = MetricValue {
            metric_name: "m",
            metric_labels: BTreeMap::new(),
            timestamp: Timestamp(1_795_352_400),
            window_seconds: None,
            value: "1k".into(),
        };
        let two = format!(
            "{HEAD}127d0a060a0012001a00125e0a147776615f646573697265645f7265706c6963617312180a13636f6e74726f6c6c65725f696e\
             7374616e6365120161121a0a0c76617269616e745f6e616d65120a6c6c616d612d613130301a0808d0ce8bd8061000203c2a040a0232\
             3112130a016d1a0808d0ce8bd80610002a040a02316b1a002200"
        );
        assert_eq!(hex(&[value(Some(60)), bare]), two);
    }
}
