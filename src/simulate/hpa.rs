//! A small model of the HorizontalPodAutoscaler: one external metric, no behaviours. The arithmetic is
//! that of the controller (`replica_calculator.go`); the follower has target AverageValue 1, reads the
//! metric over HTTP as the controller does and holds on any error.

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

/// Name of the metric that is followed.
const METRIC: &str = "poolwright_desired_replicas";

/// Target AverageValue 1, in thousandths.
const TARGET_MILLI: i64 = 1000;

/// Time-out of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Target of an external metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpaTarget {
    /// `averageValue`, thousandths: the metric is shared out over the replicas.
    AverageValue(i64),
    /// `value`, thousandths: the replicas in spec, if their ready pods serve so much, are right.
    Value { milli: i64, ready_pods: u32 },
}

/// How far the ratio of metric and target may be from 1 without an effect; 0.1 each by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HpaTolerance {
    pub down: f64,
    pub up: f64,
}

impl HpaTolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// Replicas that one metric asks for, before behaviours and bounds. `metric_milli` is the sum of the
/// metric's items in thousandths. Inside the tolerance AverageValue gives the pods that exist
/// (`status_replicas`), Value the replicas asked for (`spec_replicas`).
pub fn hpa_recommendation(
    target: HpaTarget,
    metric_milli: i64,
    status_replicas: u32,
    spec_replicas: u32,
    tolerance: HpaTolerance,
) -> u32 {
    let metric = metric_milli as f64;
    let whole = |replicas: f64| replicas.ceil().min(f64::from(i32::MAX)) as u32;
    match target {
        HpaTarget::AverageValue(milli) => {
            let ratio = metric / (milli as f64 * f64::from(status_replicas));
            if tolerance.covers(ratio) { status_replicas } else { whole(metric / milli as f64) }
        }
        HpaTarget::Value { milli, ready_pods } => {
            let ratio = metric / milli as f64;
            match spec_replicas {
                0 => whole(ratio),
                spec if tolerance.covers(ratio) => spec,
                _ => whole(ratio * f64::from(ready_pods)),
            }
        }
    }
}

/// Replicas that the HPA writes to the scale target for AverageValue 1 and one tolerance both ways.
///
/// Outside `min..=max` the bound is taken without a look at the metric; at 0 with `min` above 0 scaling is
/// switched off. The result lies within the bounds.
pub fn hpa_desired(
    status_replicas: u32,
    spec_replicas: u32,
    metric_milli: i64,
    tolerance: f64,
    min: u32,
    max: u32,
) -> u32 {
    if spec_replicas == 0 && min > 0 {
        return 0;
    }
    if spec_replicas > max {
        return max;
    }
    if spec_replicas < min {
        return min;
    }
    let tolerance = HpaTolerance { down: tolerance, up: tolerance };
    let target = HpaTarget::AverageValue(TARGET_MILLI);
    hpa_recommendation(target, metric_milli, status_replicas, spec_replicas, tolerance).min(max).max(min)
}

/// A quantity such as `7`, `7500m`, `1.5`, `2k` in thousandths, rounded up; `None` when it is none.
pub fn parse_quantity_milli(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "m" => 1.0,
        "" => 1e3,
        "k" => 1e6,
        "M" => 1e9,
        _ => return None,
    };
    let number = &text[..digits];
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    let milli = number.parse::<f64>().ok().filter(|_| plain)? * factor;
    // whole thousandths survive the multiplication only nearly
    let milli = if (milli - milli.round()).abs() < 1e-6 { milli.round() } else { milli.ceil() };
    (milli.abs() < 9e15).then_some(milli as i64)
}

/// `ExternalMetricValueList`, as far as the controller looks.
#[derive(Deserialize)]
struct ValueList {
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct Value {
    value: String,
}

/// The HorizontalPodAutoscaler object of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct HpaSpec {
    pub namespace: String,
    /// Name of the pool, the value of the metric's label `pool`.
    pub pool: String,
    pub min: u32,
    pub max: u32,
    /// 0.1 is the controller's default; 0 follows every number.
    pub tolerance: f64,
}

/// The HPA of one pool: asks the external metrics API and says what it would write.
#[derive(Debug)]
pub struct HpaFollower {
    client: Client,
    url: String,
    spec: HpaSpec,
    condition: Option<String>,
}

impl HpaFollower {
    /// Follow the metric of `spec` at the API behind `base_url`.
    pub fn new(client: Client, base_url: &str, spec: HpaSpec) -> Self {
        let base = base_url.trim_end_matches('/');
        let HpaSpec { namespace, pool, .. } = &spec;
        let url = format!(
            "{base}/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{METRIC}?labelSelector=pool%3D{pool}"
        );
        Self { client, url, spec, condition: None }
    }

    /// One sync: the replicas to write to the scale target. Without a usable metric that is
    /// `spec_replicas`, and [`condition`](Self::condition) says why.
    pub async fn sync(&mut self, status_replicas: u32, spec_replicas: u32) -> u32 {
        match self.read().await {
            Ok(milli) => {
                self.condition = None;
                let HpaSpec { min, max, tolerance, .. } = self.spec;
                hpa_desired(status_replicas, spec_replicas, milli, tolerance, min, max)
            }
            Err(why) => {
                self.condition = Some(why);
                spec_replicas
            }
        }
    }

    /// Why the last sync had no metric; `None` when it had one.
    pub fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    async fn read(&self) -> Result<i64, String> {
        let request = self.client.get(&self.url).timeout(TIMEOUT).send();
        let response = request.await.map_err(|e| format!("unable to fetch metrics: {e}"))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| format!("unable to read metrics: {e}"))?;
        if !status.is_success() {
            return Err(format!("unable to fetch metrics: the API answered {status}"));
        }
        let list: ValueList = serde_json::from_slice(&body).map_err(|e| format!("answer is no value list: {e}"))?;
        if list.items.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        list.items.iter().try_fold(0_i64, |sum, item| {
            let milli = parse_quantity_milli(&item.value);
            milli.map(|m| sum.saturating_add(m)).ok_or_else(|| format!("value `{}` is no quantity", item.value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and spec equal, wide bounds, the metric in whole or fractional replicas.
    fn desired(current: u32, metric: f64, tolerance: f64) -> u32 {
        hpa_desired(current, current, (metric * 1000.0).round() as i64, tolerance, 0, 1000)
    }

    #[test]
    fn follows_like_the_controller() {
        let cases = [
            (11, 12.0, 11),
            (9, 10.0, 10),
            (12, 11.0, 12),
            (12, 10.01, 11),
            (10, 9.0, 10),
            (10, 8.01, 9),
            (20, 21.0, 20),
            (20, 23.0, 23),
            (10, 11.0, 10),
        ];
        for (current, metric, expected) in cases {
            assert_eq!(desired(current, metric, 0.1), expected, "current {current}, metric {metric}");
        }
    }

    #[test]
    fn the_smallest_step_that_acts_grows_with_the_size() {
        for (currents, step) in [(1..=9, 1), (10..=19, 2), (20..=29, 3), (30..=30, 4), (50..=50, 6), (100..=100, 11)] {
            for current in currents {
                let at = |metric: u32| desired(current, f64::from(metric), 0.1);
                assert_eq!(at(current + step - 1), current, "up by {} from {current}", step - 1);
                assert_eq!(at(current + step), current + step);
                assert_eq!(at(current + 1 - step), current, "down by {} from {current}", step - 1);
                assert_eq!(at(current - step), current - step);
            }
        }
    }

    #[test]
    fn without_tolerance_every_number_is_followed() {
        for (current, metric) in [(20, 21), (20, 19), (100, 101), (1, 1), (0, 5), (3, 0)] {
            assert_eq!(desired(current, f64::from(metric), 0.0), metric);
        }
    }

    #[test]
    fn bounds_win_without_a_look_at_the_metric() {
        assert_eq!(hpa_desired(12, 12, 11_000, 0.1, 1, 10), 10);
        assert_eq!(hpa_desired(1, 1, 50_000, 0.1, 2, 10), 2);
        assert_eq!(hpa_desired(5, 5, 50_000, 0.1, 1, 10), 10);
        assert_eq!(hpa_desired(5, 5, 0, 0.1, 2, 10), 2);
        assert_eq!(hpa_desired(0, 0, 5_000, 0.1, 1, 10), 0, "scaling is switched off at zero");
        assert_eq!(hpa_desired(0, 0, 5_000, 0.1, 0, 10), 5);
        assert_eq!(hpa_desired(3, 3, -5, 0.1, 0, 10), 0);
    }

    #[test]
    fn inside_the_tolerance_the_pods_seen_are_taken() {
        // surge pods of a rolling update: 10 wanted, 13 seen, 12 desired
        assert_eq!(hpa_desired(13, 10, 12_000, 0.1, 0, 100), 13);
        assert_eq!(hpa_desired(13, 10, 12_000, 0.0, 0, 100), 12);
    }

    #[test]
    fn quantities_are_read_in_all_their_spellings() {
        for (text, milli) in
            [("7", 7000), ("0", 0), ("7500m", 7500), ("1.5", 1500), ("2k", 2_000_000), ("-3", -3000), ("0.0001", 1)]
        {
            assert_eq!(parse_quantity_milli(text), Some(milli), "{text}");
        }
        for text in ["", "m", "x", "NaN", "inf", "7 ", "1e3", "7Q", "1..5"] {
            assert_eq!(parse_quantity_milli(text), None, "{text}");
        }
    }
}
