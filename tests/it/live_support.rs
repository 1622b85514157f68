//! A pool of servers that are slower or faster than the policy says, as `decide` sees it.

use poolwright::control::{Decision, PoolDecision, State, decide};
use poolwright::observe::{Histogram, Observation, PoolObservation, Signal};
use poolwright::perf::live::Sample;
use poolwright::perf::{Parameters, Shape};
use poolwright::policy::{Mode, Policy, Promise};

use crate::simulate_policy::{FAST, SLOW, policy};

pub const START: f64 = 1_700_000_000.0;
/// Time between two decisions, seconds.
pub const TICK: f64 = 15.0;
pub const WINDOW: f64 = 60.0;

/// Whoever breaks an observation before it is decided on.
pub type Break<'a> = &'a dyn Fn(&mut PoolObservation);

/// One pool in mode `act` with ample stock and an ITL target that binds.
pub fn one_pool() -> Policy {
    let mut policy = policy();
    policy.classes[0].promise = Promise::Latency { quantile: 0.99, ttft_seconds: 2.0, itl_seconds: 0.03 };
    policy.models[0].classes = vec![(0, 1.0)];
    policy.accelerators[0].stock = 64;
    policy.pools[SLOW].mode = Mode::Off;
    let pool = &mut policy.pools[FAST];
    (pool.accelerators_per_replica, pool.max) = (1, 40);
    policy
}

/// The same policy with figures that say what the servers do.
pub fn told(policy: &Policy, truth: &Parameters) -> Policy {
    let mut told = policy.clone();
    told.pools[FAST].parameters = *truth;
    told
}

pub fn histogram(mean: f64, count: f64) -> Histogram {
    let upper = vec![mean * 0.8, mean * 1.25, f64::MAX];
    Histogram { upper, cumulative: vec![0.0, count, count], sum: mean * count, count }
}

/// The policy, what its servers really are, and where the loop stands.
pub struct Rig {
    pub policy: Policy,
    pub truth: Parameters,
    /// Requests per second, the whole pool.
    pub rate: f64,
    pub shape: Shape,
    /// Factor on every latency of the next observations.
    pub noise: f64,
    pub replicas: u32,
    pub state: State,
    pub at: f64,
    /// What is seen of the model's other pool, which is off.
    pub other: PoolObservation,
}

/// A pool that is known to run nothing.
fn at_zero() -> PoolObservation {
    PoolObservation {
        ready: Signal::fresh(0, START),
        starting: Signal::fresh(0, START),
        arrival_rate: Signal::idle(0.0, START),
        ..PoolObservation::default()
    }
}

impl Rig {
    pub fn new(policy: Policy, truth: Parameters, rate: f64) -> Self {
        let shape = Shape { input_tokens: 1155.0, output_tokens: 211.0 };
        Self {
            policy,
            truth,
            rate,
            shape,
            noise: 1.0,
            replicas: 4,
            state: State::default(),
            at: START,
            other: at_zero(),
        }
    }

    /// The same servers and load with another policy and memory.
    pub fn with(&self, policy: Policy, state: State) -> Self {
        Self { policy, state, other: self.other.clone(), ..*self }
    }

    /// Servers `factor` times slower than the policy says.
    pub fn slower(factor: f64, rate: f64) -> Self {
        let policy = one_pool();
        let truth = policy.pools[FAST].parameters.slowed(factor);
        Self::new(policy, truth, rate)
    }

    /// Means of one replica: (time between tokens, time to first token), seconds.
    pub fn latencies(&self) -> (f64, f64) {
        let mut sample = Sample {
            at_seconds: self.at,
            rate: self.rate / f64::from(self.replicas),
            requests: 1.0,
            shape: self.shape,
            prefix_hit_ratio: 0.0,
            limits: self.policy.pools[FAST].limits,
            itl_seconds: self.truth.alpha_seconds,
            ttft_seconds: None,
        };
        for _ in 0..100 {
            sample.itl_seconds = sample.itl_of(&self.truth);
        }
        (sample.itl_seconds, sample.ttft_of(&self.truth).unwrap_or(1.0))
    }

    pub fn seen(&self) -> PoolObservation {
        let (at, rate) = (self.at, self.rate);
        let count = rate * WINDOW;
        let (itl, ttft) = self.latencies();
        PoolObservation {
            pool: self.policy.pools[FAST].id(),
            ready: Signal::fresh(self.replicas, at),
            starting: Signal::fresh(0, at),
            silent: 0,
            arrival_rate: Signal::fresh(rate, at),
            completion_rate: Signal::fresh(rate, at),
            running: Signal::fresh(rate * itl * self.shape.output_tokens, at),
            waiting: Signal::fresh(0.0, at),
            kv_usage: Signal::fresh(0.3, at),
            kv_capacity_tokens: Signal::fresh(400_000.0, at),
            prefix_hit_ratio: Signal::fresh(0.0, at),
            ttft: Signal::fresh(histogram(ttft * self.noise, count), at),
            itl: Signal::fresh(histogram(itl * self.noise, count), at),
            input_tokens: Signal::fresh(histogram(self.shape.input_tokens, count), at),
            output_tokens: Signal::fresh(histogram(self.shape.output_tokens, count), at),
            cluster: None,
        }
    }

    /// One decision on what is seen, after `change` had its hands on it; nobody follows it.
    pub fn look(&mut self, change: Break<'_>) -> Decision {
        self.at += TICK;
        let mut pools = vec![self.seen(), self.other.clone()];
        change(&mut pools[0]);
        let observation = Observation { at_seconds: self.at, source_error: None, pools, findings: vec![] };
        let (decision, state) = decide(&self.policy, &observation, std::mem::take(&mut self.state), self.at);
        self.state = state;
        decision
    }

    /// One decision that is followed at once.
    pub fn tick(&mut self) -> Decision {
        let decision = self.look(&|_| ());
        self.replicas = decision.pools[FAST].desired.unwrap_or(self.replicas).max(1);
        decision
    }

    pub fn run(&mut self, seconds: f64) -> Decision {
        let ticks = (seconds / TICK).round().max(1.0) as u32;
        let mut last = self.tick();
        for _ in 1..ticks {
            last = self.tick();
        }
        last
    }
}

pub fn pool(decision: &Decision) -> &PoolDecision {
    &decision.pools[FAST]
}
