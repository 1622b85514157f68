//! A small fleet and what is seen of it, from plain numbers.

use super::{Hardware, ReplicaSeen, Seen, Setting, Truth};
use crate::control::GivenDemand;
use crate::demand::Bucket;
use crate::observe::{Histogram, Observation, PoolObservation, Signal};
use crate::perf::Shape;
use crate::policy::{Policy, from_text};

pub(super) const START: f64 = 1_700_000_000.0;
/// A replica's KV memory, tokens.
pub(super) const KV_TOKENS: f64 = 16_000.0;

const POLICY: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  accelerators:
    - {name: a100, type: A100-80GB, pricePerHour: 1.5, stock: 40}
    - {name: h100, type: H100, pricePerHour: 3.0, stock: 40}
  classes:
    - {name: chat, priority: 100, percentile: 99, ttft: 2s, itl: 80ms}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: m, namespace: n}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: chat}]
  pools:
    - {name: cheap, accelerator: a100, mode: act, startupTime: 2m}
    - {name: dear, accelerator: h100, mode: act, startupTime: 2m}
";

/// What rules are started with; pool 0 has the cheaper accelerator.
pub(super) struct Room {
    pub policy: Policy,
    pub hardware: Hardware,
    pub truth: Truth,
}

impl Room {
    fn with(shares: Vec<(usize, f64)>) -> Self {
        let truth = Truth { start_seconds: START, minutes: vec![] };
        Self { policy: from_text("p.yaml", POLICY).unwrap(), hardware: Hardware { shares }, truth }
    }

    /// Everything on one pool.
    pub fn on(pool: usize) -> Self {
        Self::with(vec![(pool, 1.0)])
    }

    /// `share` of the requests on pool 0, the others on pool 1.
    pub fn split(share: f64) -> Self {
        Self::with(vec![(0, share), (1, 1.0 - share)])
    }

    /// Rates of the minutes to come, requests per second of 500 and 100 tokens.
    pub fn with_minutes(mut self, rates: &[f64]) -> Self {
        self.truth.minutes = rates.iter().map(|rate| vec![demand(*rate, 500.0, 100.0)]).collect();
        self
    }

    pub fn setting(&self, target: f64) -> Setting<'_> {
        Setting { policy: &self.policy, hardware: &self.hardware, target, truth: &self.truth }
    }
}

/// One class and one bucket.
pub(super) fn demand(rate: f64, input_tokens: f64, output_tokens: f64) -> GivenDemand {
    let shape = Shape { input_tokens, output_tokens };
    GivenDemand { classes: vec![(0, rate)], buckets: vec![Bucket { name: "all".into(), share: 1.0, shape }] }
}

/// What is seen of the two pools.
pub(super) struct Scene {
    pub now_seconds: f64,
    pub observation: Observation,
    pub replicas: Vec<Vec<ReplicaSeen>>,
    pub wanted: Vec<u32>,
    pub ready: Vec<u32>,
}

impl Scene {
    /// Idle pools of this many ready replicas, lengths of 500 and 100 tokens.
    pub fn new(replicas: &[u32]) -> Self {
        let lengths = |mean: f64| {
            let upper = vec![100.0, 1000.0, f64::MAX];
            Signal::fresh(
                Histogram { upper, cumulative: vec![0.0, 900.0, 1000.0], sum: mean * 1000.0, count: 1000.0 },
                START,
            )
        };
        let pool = |n: &u32| PoolObservation {
            ready: Signal::fresh(*n, START),
            starting: Signal::fresh(0, START),
            arrival_rate: Signal::fresh(0.0, START),
            input_tokens: lengths(500.0),
            output_tokens: lengths(100.0),
            ..PoolObservation::default()
        };
        let pools = replicas.iter().map(pool).collect();
        let mut scene = Self {
            now_seconds: START,
            observation: Observation { at_seconds: START, source_error: None, pools, findings: vec![] },
            replicas: vec![],
            wanted: replicas.to_vec(),
            ready: replicas.to_vec(),
        };
        scene.replicas = (0..replicas.len()).map(|pool| scene.alike(pool, replicas[pool], 0.0, 0.0, 0.0)).collect();
        scene
    }

    fn alike(&self, pool: usize, n: u32, running: f64, waiting: f64, kv_usage: f64) -> Vec<ReplicaSeen> {
        let id = |i: u32| pool as u64 * 1000 + u64::from(i);
        (0..n).map(|i| ReplicaSeen { id: id(i), running, waiting, kv_usage, kv_tokens: KV_TOKENS }).collect()
    }

    /// Gauges of every ready replica of a pool.
    pub fn gauges(mut self, pool: usize, running: f64, waiting: f64, kv_usage: f64) -> Self {
        self.replicas[pool] = self.alike(pool, self.ready[pool], running, waiting, kv_usage);
        self
    }

    /// Arrivals of a pool, requests per second.
    pub fn rate(mut self, pool: usize, rate: f64) -> Self {
        self.observation.pools[pool].arrival_rate = Signal::fresh(rate, self.now_seconds);
        self
    }

    /// So many of a pool are asked for and do not run yet.
    pub fn starting(mut self, pool: usize, n: u32) -> Self {
        self.wanted[pool] = self.ready[pool] + n;
        self.observation.pools[pool].starting = Signal::fresh(n, self.now_seconds);
        self
    }

    /// The same, so many seconds after the start.
    pub fn at(mut self, seconds: f64) -> Self {
        self.now_seconds = START + seconds;
        self.observation.at_seconds = self.now_seconds;
        for pool in &mut self.observation.pools {
            pool.ready.at_seconds = self.now_seconds;
            pool.starting.at_seconds = self.now_seconds;
            pool.arrival_rate.at_seconds = self.now_seconds;
        }
        self
    }

    pub fn seen(&self) -> Seen<'_> {
        Seen {
            now_seconds: self.now_seconds,
            observation: &self.observation,
            replicas: &self.replicas,
            wanted: &self.wanted,
            ready: &self.ready,
        }
    }
}
