//! The highest rate one replica sustains within a class's targets, and what stops it from doing more.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::iteration::Service;
use super::queue::Chain;
use super::{Evidence, Limits, Parameters, Quantiles, Shape};

/// One replica of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replica {
    pub parameters: Parameters,
    pub limits: Limits,
    /// KV-cache capacity, tokens.
    pub kv_tokens: f64,
    pub evidence: Evidence,
    /// Share of the prompt tokens that the prefix cache spares, 0..1.
    pub prefix_hit_ratio: f64,
}

/// Targets at a quantile of the requests; infinite where nothing is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// 0..1.
    pub quantile: f64,
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
}

impl Target {
    /// No latency promised: throughput alone counts.
    pub const THROUGHPUT: Self = Self { quantile: 0.5, ttft_seconds: f64::INFINITY, itl_seconds: f64::INFINITY };
}

/// What stops a replica from taking more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    Ttft,
    Itl,
    /// KV memory bounds the batch and requests queue for it.
    KvMemory,
    /// `max-num-seqs` bounds the batch and requests queue for it.
    MaxSequences,
    /// Nothing but the work itself.
    Throughput,
    /// Not even one request at a time meets the targets, or it does not fit.
    Infeasible,
}

/// Capacity of one replica for one shape within one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests per second, the safety margin of the evidence taken off; 0 when infeasible.
    pub rate: f64,
    pub limit: Limit,
    /// Latencies at the target's quantile at that rate, seconds; of an empty replica when infeasible.
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
    /// Mean requests in execution at that rate.
    pub batch: f64,
}

/// Share of the KV memory that a plan fills on average; the rest absorbs the spread of lengths.
const KV_FILL: f64 = 0.9;

/// Highest load of a replica that is planned when no latency is promised.
const THROUGHPUT_LOAD: f64 = 0.95;

/// Relative precision of a capacity.
const PRECISION: f64 = 1e-4;

fn chain(replica: &Replica, shape: &Shape) -> Option<(Chain, Limit)> {
    let k = shape.output_tokens.max(1.0);
    if !replica.parameters.is_usable() || replica.kv_tokens < shape.input_tokens + k {
        return None;
    }
    let by_memory = (KV_FILL * replica.kv_tokens / (shape.input_tokens + k / 2.0)).floor().max(1.0);
    let by_sequences = f64::from(replica.limits.max_num_seqs.max(1));
    let (concurrency, limit) =
        if by_memory < by_sequences { (by_memory, Limit::KvMemory) } else { (by_sequences, Limit::MaxSequences) };
    let hit = replica.prefix_hit_ratio.clamp(0.0, 0.95);
    let service = Service {
        parameters: replica.parameters,
        shape: Shape { input_tokens: (shape.input_tokens * (1.0 - hit)).max(1.0), output_tokens: k },
        token_budget: f64::from(replica.limits.max_num_batched_tokens.max(1)),
    };
    Some((Chain::new(service, concurrency as u32), limit))
}

/// Standard normal quantile, for the spread of counts.
fn z(quantile: f64) -> f64 {
    Normal::standard().inverse_cdf(quantile.clamp(0.5, 0.999_999))
}

/// Capacity of `replica` for requests of `shape` within `target`.
pub fn capacity(replica: &Replica, shape: &Shape, target: &Target) -> Capacity {
    let infeasible = |ttft_seconds, itl_seconds| Capacity {
        rate: 0.0,
        limit: Limit::Infeasible,
        ttft_seconds,
        itl_seconds,
        batch: 0.0,
    };
    let Some((chain, batch_limit)) = chain(replica, shape) else {
        return infeasible(f64::INFINITY, f64::INFINITY);
    };
    let z = z(target.quantile);
    let full = chain.full_rate();
    let at = |rate: f64| chain.quantiles(rate, target.quantile, z);
    let fits = |q: &Quantiles| q.ttft_seconds <= target.ttft_seconds && q.itl_seconds <= target.itl_seconds;

    let empty = at(full * 1e-3);
    match empty {
        Some(q) if fits(&q) => {}
        Some(q) => return infeasible(q.ttft_seconds, q.itl_seconds),
        None => return infeasible(f64::INFINITY, f64::INFINITY),
    }
    let (mut low, mut high) = (full * 1e-3, full * THROUGHPUT_LOAD);
    let limit = match at(high) {
        Some(q) if fits(&q) => {
            low = high;
            Limit::Throughput
        }
        _ => {
            while high - low > PRECISION * high {
                let middle = 0.5 * (low + high);
                if at(middle).is_some_and(|q| fits(&q)) { low = middle } else { high = middle }
            }
            match at(high) {
                Some(q) if q.itl_seconds > target.itl_seconds => Limit::Itl,
                Some(q) if q.wait_seconds < 0.5 * q.ttft_seconds => Limit::Ttft,
                _ => batch_limit,
            }
        }
    };
    let rate = low * (1.0 - replica.evidence.safety_margin());
    let planned = at(rate);
    let or_infinite = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
    Capacity {
        rate,
        limit,
        ttft_seconds: or_infinite(planned.map(|q| q.ttft_seconds)),
        itl_seconds: or_infinite(planned.map(|q| q.itl_seconds)),
        batch: planned.map_or(0.0, |q| q.batch),
    }
}

/// Latencies at `quantile` when one replica receives `rate` requests per second of `shape`; `None` when
/// it cannot keep up.
pub fn latency_at(replica: &Replica, shape: &Shape, rate: f64, quantile: f64) -> Option<Quantiles> {
    let (chain, _) = chain(replica, shape)?;
    chain.quantiles(rate.max(chain.full_rate() * 1e-6), quantile, z(quantile))
}

/// Remembers capacities by their inputs: shapes move slowly from tick to tick, and a capacity is a pure
/// function of its inputs, so remembering it changes no answer.
#[derive(Clone, Debug, Default)]
pub struct CapacityCache {
    entries: HashMap<[u64; 15], Capacity>,
    pub hits: u64,
    pub misses: u64,
}

/// Entries beyond which the cache starts afresh; about 15 MB.
const CACHE_LIMIT: usize = 100_000;

impl CapacityCache {
    pub fn capacity(&mut self, replica: &Replica, shape: &Shape, target: &Target) -> Capacity {
        let key = [
            replica.parameters.alpha_seconds.to_bits(),
            replica.parameters.beta_seconds_per_token.to_bits(),
            replica.parameters.decode_seconds_per_token.to_bits(),
            replica.parameters.gamma_seconds_per_token.to_bits(),
            replica.parameters.experts.all_seconds.to_bits(),
            replica.parameters.experts.left_out.to_bits(),
            u64::from(replica.limits.max_num_seqs),
            u64::from(replica.limits.max_num_batched_tokens),
            replica.kv_tokens.to_bits(),
            replica.prefix_hit_ratio.to_bits() ^ (replica.evidence as u64),
            shape.input_tokens.to_bits(),
            shape.output_tokens.to_bits(),
            target.quantile.to_bits(),
            target.ttft_seconds.to_bits(),
            target.itl_seconds.to_bits(),
        ];
        if let Some(found) = self.entries.get(&key) {
            self.hits += 1;
            return *found;
        }
        self.misses += 1;
        if self.entries.len() >= CACHE_LIMIT {
            self.entries.clear();
        }
        let found = capacity(replica, shape, target);
        self.entries.insert(key, found);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replica() -> Replica {
        Replica {
            parameters: Parameters::uniform(10.645377e-3, 0.041760195e-3, 5.770509e-8),
            limits: Limits { max_num_seqs: 60, max_num_batched_tokens: 8192 },
            kv_tokens: 200_000.0,
            evidence: Evidence::Curve,
            prefix_hit_ratio: 0.0,
        }
    }

    const SHAPE: Shape = Shape { input_tokens: 871.0, output_tokens: 567.0 };

    #[test]
    fn capacity_lies_below_saturation_and_its_prediction_meets_the_target() {
        let target = Target { quantile: 0.99, ttft_seconds: 1.5, itl_seconds: 0.03 };
        let c = capacity(&replica(), &SHAPE, &target);
        assert!(c.rate > 1.0 && c.rate < 5.028, "{c:?}");
        assert!(c.ttft_seconds <= 1.5 && c.itl_seconds <= 0.03);
    }

    #[test]
    fn what_binds_is_named() {
        let tight_itl = Target { quantile: 0.99, ttft_seconds: 60.0, itl_seconds: 0.016 };
        assert_eq!(capacity(&replica(), &SHAPE, &tight_itl).limit, Limit::Itl);
        assert_eq!(capacity(&replica(), &SHAPE, &Target::THROUGHPUT).limit, Limit::Throughput);
        let impossible = Target { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 0.005 };
        let c = capacity(&replica(), &SHAPE, &impossible);
        assert_eq!((c.limit, c.rate), (Limit::Infeasible, 0.0));
        assert!(c.itl_seconds > 0.0105, "the best possible value is reported");
        let small = Replica { kv_tokens: 12_000.0, ..replica() };
        let queueing = Target { quantile: 0.99, ttft_seconds: 5.0, itl_seconds: 1.0 };
        assert_eq!(capacity(&small, &SHAPE, &queueing).limit, Limit::KvMemory);
        let too_small = Replica { kv_tokens: 1_000.0, ..replica() };
        assert_eq!(capacity(&too_small, &SHAPE, &queueing).limit, Limit::Infeasible);
    }

    #[test]
    fn the_cache_answers_what_the_function_answers() {
        let target = Target { quantile: 0.95, ttft_seconds: 1.0, itl_seconds: 0.03 };
        let mut cache = CapacityCache::default();
        let first = cache.capacity(&replica(), &SHAPE, &target);
        assert_eq!(first, capacity(&replica(), &SHAPE, &target));
        assert_eq!(first, cache.capacity(&replica(), &SHAPE, &target));
        assert_eq!((cache.hits, cache.misses), (1, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_tighter_target_or_a_slower_server_never_raises_capacity(
            ttft in 0.2f64..5.0, itl in 0.012f64..0.08, tighter in 0.3f64..1.0, input in 16.0f64..4000.0,
            output in 8.0f64..1000.0, q in 0.6f64..0.999,
        ) {
            let shape = Shape { input_tokens: input, output_tokens: output };
            let loose = Target { quantile: q, ttft_seconds: ttft, itl_seconds: itl };
            let tight = Target { quantile: q, ttft_seconds: ttft * tighter, itl_seconds: itl * tighter };
            let base = capacity(&replica(), &shape, &loose);
            let slack = 1.0 + 3.0 * PRECISION;
            prop_assert!(capacity(&replica(), &shape, &tight).rate <= base.rate * slack);
            let slow = Replica { parameters: replica().parameters.slowed(1.3), ..replica() };
            prop_assert!(capacity(&slow, &shape, &loose).rate <= base.rate * slack);
            prop_assert!(base.rate.is_finite() && base.rate >= 0.0);
        }
    }
}
