//! Which values a measure can have. What lies outside is a fault of the data and is never used.

use super::dialect::Measure;

/// No number of requests or tokens inside one window reaches this.
pub const MAX_INCREASE: f64 = 1e12;

/// No counter of requests, tokens or seconds reaches this in the life of a server.
const MAX_COUNTER: f64 = 1e15;

/// No instance executes or queues this many requests.
const MAX_REQUESTS: f64 = 1e7;

/// No KV cache of one replica holds this many tokens.
const MAX_KV_TOKENS: f64 = 1e12;

/// Rounding of servers that report a little more than a full cache.
const KV_TOLERANCE: f64 = 1e-3;

/// A value that was thrown away.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub measure: Measure,
    /// The value and why it cannot be.
    pub why: String,
    /// The value as it would be were it a percentage of what it should be a share of.
    pub percent: Option<f64>,
}

impl Refusal {
    /// What is wrong and what would be right, for this instance.
    pub fn sentence(&self, instance: &str) -> String {
        match self.percent {
            Some(percent) => format!(
                "kv use of {instance} looks like percent: {percent}, where 0..1 is possible; it is not used; write a \
                 share where it is exported, or divide it by 100 where it is recorded"
            ),
            None => format!("{}: {}; it is not used", self.measure.as_str(), self.why),
        }
    }
}

/// Check a gauge; the answer is what may be used.
///
/// # Errors
/// The value is outside what the measure can be.
pub fn gauge(measure: Measure, value: f64) -> Result<f64, Refusal> {
    let refuse = |why: String| Err(Refusal { measure, why, percent: None });
    if !value.is_finite() {
        return refuse(format!("{value} is not a number that can be used"));
    }
    if value < 0.0 {
        return refuse(format!("{value} is negative"));
    }
    match measure {
        Measure::KvUsage if value > 100.0 => refuse(format!("{value} is outside 0..1")),
        Measure::KvUsage if value > 1.0 + KV_TOLERANCE => {
            Err(Refusal { measure, why: format!("{value} is outside 0..1"), percent: Some(value) })
        }
        Measure::KvUsage => Ok(value.min(1.0)),
        Measure::KvCapacity if !(1.0..=MAX_KV_TOKENS).contains(&value) => {
            refuse(format!("{value} tokens are outside 1..{MAX_KV_TOKENS:e}"))
        }
        Measure::Running | Measure::Waiting if value > MAX_REQUESTS => {
            refuse(format!("{value:e} requests are more than {MAX_REQUESTS:e}"))
        }
        _ => Ok(value),
    }
}

/// Check the value of a cumulative counter.
///
/// # Errors
/// Not finite, negative, or larger than any counter can become.
pub fn counter(measure: Measure, value: f64) -> Result<f64, Refusal> {
    if value.is_finite() && (0.0..=MAX_COUNTER).contains(&value) {
        return Ok(value);
    }
    Err(Refusal { measure, percent: None, why: format!("a counter of {value:?} is outside 0..{MAX_COUNTER:e}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_values_are_refused_and_edges_are_kept() {
        for bad in [7.3, 730.0, -0.1, f64::NAN, f64::INFINITY, 1e308] {
            assert!(gauge(Measure::KvUsage, bad).is_err(), "{bad}");
        }
        assert!(gauge(Measure::KvUsage, 7.3).unwrap_err().sentence("a/b").contains("kv use of a/b looks like percent"));
        assert_eq!(gauge(Measure::KvUsage, 730.0).unwrap_err().percent, None);
        assert_eq!(gauge(Measure::KvUsage, 1.0005), Ok(1.0));
        assert_eq!(gauge(Measure::Running, 0.0), Ok(0.0));
        for bad in [-1.0, 1e308, f64::NAN] {
            assert!(gauge(Measure::Waiting, bad).is_err());
            assert!(counter(Measure::Completions, bad).is_err());
        }
        assert!(gauge(Measure::KvCapacity, 0.0).is_err());
        assert_eq!(counter(Measure::PrefixQueries, 3e12).ok(), Some(3e12));
    }
}
