//! One replica and one shape over all rates: latencies at a rate, and the largest rate within targets.
//!
//! A curve holds the latencies at fixed loads; every target is answered from the same curve, so three latency tiers
//! cost little more than one.

use std::sync::OnceLock;

use statrs::distribution::{ContinuousCDF, Normal};

use super::capacity::{Capacity, Limit, Replica, Target};
use super::latency::{Moments, Quantiles, Room, Stage, Traffic, Work, growing_skew, mean_answer_held};
use super::{Limits, Shape};

/// Loads at which a curve is computed, shares of the full rate. The last one is the highest that is planned when no
/// latency is promised.
const LOADS: [f64; 8] = [1e-3, 0.2, 0.4, 0.58, 0.73, 0.84, 0.91, 0.95];
/// Loads whose latencies bound those of lower and higher ones: a median can fall while the tail behind it grows.
const FINE_LOADS: [f64; 28] = [
    0.002, 0.004, 0.007, 0.012, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.36, 0.42, 0.48,
    0.55, 0.62, 0.69, 0.76, 0.82, 0.87, 0.91, 0.94, 0.965, 0.985,
];
/// Relative precision of a capacity.
const PRECISION: f64 = 3e-4;
/// Excess below which a rate is near enough to the largest one: a third of a percent fewer late requests.
const NEAR: f64 = 3e-3;
/// Most steps of the search between two loads.
const STEPS: usize = 24;

/// Latencies of one replica for requests of one shape, by rate.
#[derive(Clone, Debug)]
pub struct Curve {
    stage: Stage,
    full_rate: f64,
    /// What bounds the requests in execution.
    places: Limit,
    /// Share of a rate that is kept in reserve.
    spread: f64,
    /// KV memory that a request in execution holds on average, share of all.
    kv_each: f64,
    grid: [OnceLock<Option<Moments>>; LOADS.len()],
    /// The same replica with ample memory, where memory is what bounds the requests in execution: more of them would
    /// run and slow each other down. A plan has to hold there too, or a larger memory could mean a smaller capacity.
    ample: Option<Stage>,
}

/// Share of the KV memory that running requests fill on average when no more are admitted. Engines admit a prompt
/// when it fits now; the more an answer adds to it, the more memory is taken from those that came last and their
/// work is done twice.
fn kv_fill(shape: &Shape) -> f64 {
    let answer = shape.output_tokens.max(1.0);
    0.93 - 0.3 * answer / (shape.input_tokens.max(1.0) + answer)
}

/// Every running request needs a token of each iteration's budget.
fn most_sequences(limits: &Limits) -> f64 {
    f64::from(limits.max_num_seqs.min(limits.max_num_batched_tokens).max(1))
}

/// Room for requests in execution, and whether memory or the server's limit bounds it. A prompt is let in when it
/// fits into what is free, so that half of one lies idle on average; requests of different size fill the memory
/// unevenly.
fn room(limits: &Limits, kv_tokens: f64, shape: &Shape, traffic: &Traffic) -> (Room, Limit) {
    let input = shape.input_tokens.max(1.0);
    let answer = mean_answer_held(shape.output_tokens.max(1.0), traffic.output_cv);
    let held = input + answer;
    let lengths = traffic.input_cv * traffic.input_cv;
    let spread = input * input * lengths + answer * answer * (1.0 / 3.0 + traffic.output_cv * traffic.output_cv);
    let by_memory = ((kv_tokens - 0.5 * input * (1.0 + lengths)) / held).max(1.0);
    let sustained = (kv_fill(shape) * kv_tokens / held).max(1.0);
    let by_sequences = most_sequences(limits);
    let limit = if sustained < by_sequences { Limit::KvMemory } else { Limit::MaxSequences };
    let room = Room {
        places: by_memory.min(by_sequences),
        sustained: sustained.min(by_sequences),
        crowding: if by_memory < by_sequences { 1.0 + spread / (held * held) } else { 1.0 },
        budget: f64::from(limits.max_num_batched_tokens.max(1)),
    };
    (room, limit)
}

impl Curve {
    /// The curve of `replica` for requests of `shape`; `None` when no such request fits or the figures are unusable.
    pub fn new(replica: &Replica, shape: &Shape, traffic: &Traffic) -> Option<Self> {
        Self::of(replica, shape, traffic, Work::Both)
    }

    /// The same for a replica that does only a part of the work.
    pub(super) fn of(replica: &Replica, shape: &Shape, traffic: &Traffic, work: Work) -> Option<Self> {
        let finite = [shape.input_tokens, shape.output_tokens, replica.kv_tokens, replica.prefix_hit_ratio];
        let answer = if work == Work::Prompt { 1.0 } else { shape.output_tokens.max(1.0) };
        let shape = Shape { output_tokens: answer, ..*shape };
        if !replica.parameters.is_usable()
            || finite.iter().any(|v| !v.is_finite())
            || replica.kv_tokens < shape.input_tokens.max(1.0) + answer
        {
            return None;
        }
        let traffic = traffic.bounded();
        let (room, limit) = room(&replica.limits, replica.kv_tokens, &shape, &traffic);
        let stage = Stage::new(&replica.parameters, &shape, &traffic, replica.prefix_hit_ratio, &room, work);
        let full_rate = stage.full_rate();
        let held = shape.input_tokens.max(1.0) + mean_answer_held(answer, traffic.output_cv);
        let by_sequences = most_sequences(&replica.limits);
        let ample = (room.places < by_sequences).then(|| {
            let room = Room { places: by_sequences, sustained: by_sequences, crowding: 1.0, ..room };
            Stage::new(&replica.parameters, &shape, &traffic, replica.prefix_hit_ratio, &room, work)
        });
        Some(Self {
            stage,
            full_rate,
            places: limit,
            spread: replica.spread.clamp(0.0, 0.9),
            kv_each: held / replica.kv_tokens,
            grid: Default::default(),
            ample,
        })
    }

    /// Rate that fills the replica, requests per second.
    pub fn full_rate(&self) -> f64 {
        self.full_rate
    }

    /// Mean share of the KV memory in use at `rate`, 0..1; `None` when the replica cannot keep up.
    pub fn kv_use(&self, rate: f64) -> Option<f64> {
        self.moments(rate).map(|m| (m.batch * self.kv_each).min(1.0))
    }

    /// What requests see at `rate` requests per second; `None` when the replica cannot keep up.
    pub fn moments(&self, rate: f64) -> Option<Moments> {
        self.stage.moments(rate.max(LOADS[0] * 1e-3 * self.full_rate))
    }

    /// Latencies at `quantile` (0..1) of the requests at `rate` requests per second, no less than at the loads looked
    /// at below it and no more than at the next one above; `None` when the replica cannot keep up.
    pub fn latencies(&self, rate: f64, quantile: f64) -> Option<Quantiles> {
        let quantile = bounded(quantile);
        let z = z(quantile);
        let mut found = self.moments(rate)?.quantiles(quantile, z);
        let at = |load: f64| self.moments(load * self.full_rate).map(|m| m.quantiles(quantile, z));
        let next = FINE_LOADS.partition_point(|fine| *fine < rate / self.full_rate);
        let below: Vec<Quantiles> = FINE_LOADS[..next].iter().filter_map(|load| at(*load)).collect();
        let above = FINE_LOADS.get(next).and_then(|load| at(*load));
        for latency in [(|q| &mut q.ttft_seconds) as fn(&mut Quantiles) -> &mut f64, |q| &mut q.itl_seconds] {
            let value = |mut q: Quantiles| *latency(&mut q);
            let least = below.iter().map(|q| value(*q)).fold(0.0, f64::max);
            let most = above.map_or(f64::INFINITY, value).max(least);
            *latency(&mut found) = value(found).clamp(least, most);
        }
        Some(found)
    }

    /// Capacity within `target`.
    pub fn capacity(&self, target: &Target) -> Capacity {
        let goal = Goal::new(target);
        let rate = |i: usize| LOADS[i] * self.full_rate;
        let excess = |i: usize| goal.excess(self.at(i).as_ref());
        // Latencies grow with the load, so the first load that misses the goal is found by halving.
        let loads: [usize; LOADS.len()] = std::array::from_fn(|i| i);
        let first_miss = loads.partition_point(|i| excess(*i) <= 0.0);
        if first_miss == 0 {
            return self.infeasible(&goal);
        }
        let (mut largest, mut limit) = (rate(LOADS.len() - 1), Limit::Throughput);
        if first_miss < LOADS.len() {
            let ends = [first_miss - 1, first_miss].map(|i| (rate(i), excess(i)));
            largest = crossing(ends, |r| goal.excess(self.stage.moments(r).as_ref()));
            limit = self.limit(&self.stage, largest, &goal);
        }
        if let Some(ample) = &self.ample {
            let there = |r: f64| goal.excess(ample.moments(r).as_ref());
            let most = there(largest);
            if most > 0.0 {
                let least = there(rate(0));
                if least > 0.0 {
                    return self.infeasible(&goal);
                }
                largest = crossing([(rate(0), least), (largest, most)], there);
                limit = self.limit(ample, largest, &goal);
            }
        }
        self.planned(largest, &goal, limit)
    }

    /// What makes most of those late that are late at the largest rate.
    fn limit(&self, stage: &Stage, rate: f64, goal: &Goal<'_>) -> Limit {
        let Some(m) = stage.moments(rate) else { return self.places };
        let late = goal.ttft_late(&m);
        if goal.itl_late(&m) > late {
            Limit::Itl
        } else if m.ttft_above_with_place(goal.target.ttft_seconds, goal.skew) > 0.5 * late {
            Limit::Ttft
        } else {
            self.places
        }
    }

    /// What requests see at one of the fixed loads.
    fn at(&self, load: usize) -> &Option<Moments> {
        self.grid[load].get_or_init(|| self.stage.moments(LOADS[load] * self.full_rate))
    }

    fn planned(&self, largest: f64, goal: &Goal<'_>, limit: Limit) -> Capacity {
        let rate = largest * (1.0 - self.spread);
        let planned = self.moments(rate).map(|m| m.quantiles(goal.quantile, goal.z));
        let or_infinite = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
        Capacity {
            rate,
            limit,
            ttft_seconds: or_infinite(planned.map(|q| q.ttft_seconds)),
            itl_seconds: or_infinite(planned.map(|q| q.itl_seconds)),
            batch: planned.map_or(0.0, |q| q.batch),
        }
    }

    fn infeasible(&self, goal: &Goal<'_>) -> Capacity {
        match self.at(0).map(|m| m.quantiles(goal.quantile, goal.z)) {
            Some(q) => Capacity::infeasible(q.ttft_seconds, q.itl_seconds),
            None => Capacity::infeasible(f64::INFINITY, f64::INFINITY),
        }
    }
}

/// Where `excess` crosses zero between two (rate, excess), of which the first is not above it and the second is: a
/// rate that fits. False position with the Illinois rule.
fn crossing(ends: [(f64, f64); 2], excess: impl Fn(f64) -> f64) -> f64 {
    let [(mut low, mut below), (mut high, mut beyond)] = ends;
    let mut last = 0;
    for step in 0..STEPS {
        if high - low <= PRECISION * high || (step > 0 && below > -NEAR) {
            break;
        }
        let part = if step % 4 == 3 { 0.5 } else { (below / (below - beyond)).clamp(0.02, 0.98) };
        let rate = low + part * (high - low);
        let value = excess(rate);
        if value <= 0.0 {
            (low, below) = (rate, value.min(-f64::MIN_POSITIVE));
            beyond *= if last == -1 { 0.5 } else { 1.0 };
            last = -1;
        } else {
            (high, beyond) = (rate, value);
            below *= if last == 1 { 0.5 } else { 1.0 };
            last = 1;
        }
    }
    low
}

/// Excess of a replica that cannot keep up.
const MOST_EXCESS: f64 = 10.0;

struct Goal<'t> {
    target: &'t Target,
    quantile: f64,
    z: f64,
    /// Share of the requests that may miss it.
    tail: f64,
    /// Skew up to which latencies are counted to grow.
    skew: f64,
}

impl<'t> Goal<'t> {
    fn new(target: &'t Target) -> Self {
        let quantile = bounded(target.quantile);
        let z = z(quantile);
        Self { target, quantile, z, tail: 1.0 - quantile, skew: growing_skew(z) }
    }

    fn ttft_late(&self, m: &Moments) -> f64 {
        let target = self.target.ttft_seconds;
        if target.is_finite() { m.ttft_above(target, self.skew) } else { 0.0 }
    }

    fn itl_late(&self, m: &Moments) -> f64 {
        let target = self.target.itl_seconds;
        if target.is_finite() { m.itl_above(target, self.skew) } else { 0.0 }
    }

    /// Positive when too many requests miss a target: logarithm of how many times too many.
    fn excess(&self, moments: Option<&Moments>) -> f64 {
        let Some(m) = moments else { return MOST_EXCESS };
        (self.ttft_late(m).max(self.itl_late(m)) / self.tail).max(1e-6).ln().min(MOST_EXCESS)
    }
}

/// A quantile that the formulas can answer.
fn bounded(quantile: f64) -> f64 {
    if quantile.is_nan() { 0.5 } else { quantile.clamp(0.01, 0.999_999) }
}

/// Standard normal quantile.
fn z(quantile: f64) -> f64 {
    Normal::standard().inverse_cdf(quantile)
}
