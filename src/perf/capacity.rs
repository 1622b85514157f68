//! The highest rate one replica sustains within a class's targets, and what stops it from doing more.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::latency::{Quantiles, Traffic};
use super::{Evidence, Limits, Parameters, Shape};

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
    /// How much of a capacity may be wrong, 0..1: kept in reserve.
    pub spread: f64,
}

impl Replica {
    /// A replica with the spread of its evidence and without hits in a prefix cache.
    pub fn new(parameters: Parameters, limits: Limits, kv_tokens: f64, evidence: Evidence) -> Self {
        Self { parameters, limits, kv_tokens, evidence, prefix_hit_ratio: 0.0, spread: evidence.safety_margin() }
    }
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

impl Limit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Itl => "itl",
            Self::KvMemory => "kv-memory",
            Self::MaxSequences => "max-sequences",
            Self::Throughput => "throughput",
            Self::Infeasible => "infeasible",
        }
    }
}

/// Capacity of one replica for one shape within one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests per second, the replica's spread taken off; 0 when infeasible.
    pub rate: f64,
    pub limit: Limit,
    /// Latencies at the target's quantile at that rate, seconds; of an empty replica when infeasible.
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
    /// Mean requests in execution at that rate.
    pub batch: f64,
}

impl Capacity {
    /// No rate meets the target; the latencies are the best there are.
    pub(super) fn infeasible(ttft_seconds: f64, itl_seconds: f64) -> Self {
        Self { rate: 0.0, limit: Limit::Infeasible, ttft_seconds, itl_seconds, batch: 0.0 }
    }
}

/// Capacity of `replica` for requests of `shape` within `target`. For several targets ask one [`Curve`].
pub fn capacity(replica: &Replica, shape: &Shape, traffic: &Traffic, target: &Target) -> Capacity {
    match Curve::new(replica, shape, traffic) {
        Some(curve) => curve.capacity(target),
        None => Capacity::infeasible(f64::INFINITY, f64::INFINITY),
    }
}

/// Latencies at `quantile` when one replica receives `rate` requests per second of `shape`; `None` when
/// it cannot keep up.
pub fn latency_at(replica: &Replica, shape: &Shape, traffic: &Traffic, rate: f64, quantile: f64) -> Option<Quantiles> {
    Curve::new(replica, shape, traffic)?.latencies(rate, quantile)
}

/// Everything that a curve depends on, as bits.
type CurveKey = [u64; 17];
type TargetKey = [u64; 3];

/// Remembers capacities by their inputs: shapes move slowly from tick to tick, and a capacity is a pure
/// function of its inputs, so remembering it changes no answer.
#[derive(Clone, Debug, Default)]
pub struct CapacityCache {
    entries: HashMap<CurveKey, Vec<(TargetKey, Capacity)>, BuildHasherDefault<Fold>>,
    /// Curves used last, each at the place of its hash: tiers of one pool are asked one after the other.
    recent: Vec<Option<(CurveKey, Option<Curve>)>>,
    remembered: usize,
    pub hits: u64,
    pub misses: u64,
}

/// Entries beyond which the cache starts afresh; about 30 MB.
const CACHE_LIMIT: usize = 200_000;
/// Curves that are kept; a power of two.
const RECENT: usize = 32;

impl CapacityCache {
    /// As [`capacity`].
    pub fn capacity(&mut self, replica: &Replica, shape: &Shape, traffic: &Traffic, target: &Target) -> Capacity {
        let mut found = [Capacity::infeasible(f64::INFINITY, f64::INFINITY)];
        self.capacities(replica, shape, traffic, std::slice::from_ref(target), &mut found);
        found[0]
    }

    /// Capacities for several targets, written to `into`, which is as long as `targets`.
    pub fn capacities(
        &mut self,
        replica: &Replica,
        shape: &Shape,
        traffic: &Traffic,
        targets: &[Target],
        into: &mut [Capacity],
    ) {
        let key = curve_key(replica, shape, traffic);
        if self.remembered >= CACHE_LIMIT {
            self.entries.clear();
            self.remembered = 0;
        }
        let known = self.entries.entry(key).or_default();
        for (target, into) in targets.iter().zip(into) {
            let bits = [target.quantile, target.ttft_seconds, target.itl_seconds].map(f64::to_bits);
            if let Some((_, capacity)) = known.iter().find(|(k, _)| *k == bits) {
                self.hits += 1;
                *into = *capacity;
                continue;
            }
            self.misses += 1;
            self.remembered += 1;
            *into = match recent_curve(&mut self.recent, key, || Curve::new(replica, shape, traffic)) {
                Some(curve) => curve.capacity(target),
                None => Capacity::infeasible(f64::INFINITY, f64::INFINITY),
            };
            known.push((bits, *into));
        }
    }
}

fn recent_curve(
    recent: &mut Vec<Option<(CurveKey, Option<Curve>)>>,
    key: CurveKey,
    make: impl FnOnce() -> Option<Curve>,
) -> Option<&Curve> {
    if recent.is_empty() {
        recent.resize_with(RECENT, || None);
    }
    let mut hash = Fold::default();
    key.iter().for_each(|word| hash.write_u64(*word));
    let slot = &mut recent[hash.finish() as usize & (RECENT - 1)];
    if slot.as_ref().is_none_or(|(k, _)| *k != key) {
        *slot = Some((key, make()));
    }
    slot.as_ref().and_then(|(_, curve)| curve.as_ref())
}

fn curve_key(replica: &Replica, shape: &Shape, traffic: &Traffic) -> CurveKey {
    let p = &replica.parameters;
    [
        p.alpha_seconds.to_bits(),
        p.beta_seconds_per_token.to_bits(),
        p.decode_seconds_per_token.to_bits(),
        p.gamma_seconds_per_token.to_bits(),
        p.experts.all_seconds.to_bits(),
        p.experts.left_out.to_bits(),
        p.prompts.attention_seconds_per_pair.to_bits(),
        p.prompts.overhead_seconds.to_bits(),
        u64::from(replica.limits.max_num_seqs) << 32 | u64::from(replica.limits.max_num_batched_tokens),
        replica.kv_tokens.to_bits(),
        replica.prefix_hit_ratio.to_bits(),
        replica.spread.to_bits(),
        shape.input_tokens.to_bits(),
        shape.output_tokens.to_bits(),
        traffic.burstiness.to_bits(),
        traffic.input_cv.to_bits(),
        traffic.output_cv.to_bits(),
    ]
}

/// A hash of words by multiplication: the keys are the program's own, so nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests;
