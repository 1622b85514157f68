//! What a decision says of its reasons: what else could be planned, what would change the plan, at which latency
//! level pools are run. Plain data, part of the decision.

use serde::{Deserialize, Serialize};

/// At which latency level a pool is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatingLevel {
    /// 0 is the tightest of the model's levels.
    pub level: usize,
    pub focus: Focus,
    /// Class whose targets it keeps.
    pub class: String,
    /// A clause for a person, e.g. `throughput-focused: batch only`.
    pub why: String,
}

/// What a pool's batch sizes are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Focus {
    /// The targets of a class.
    Latency,
    /// As much work as possible.
    Throughput,
}

/// What a pool does in another plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherChoice {
    /// It stays at what runs now, or as near to it as its limits allow.
    Keep,
    /// At least one replica less.
    Fewer,
    /// At least one replica more.
    More,
    /// As few replicas as it may have: the next best hardware.
    Without,
}

/// The best plan in which a pool has another number, compared with the one chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherPlan {
    pub choice: OtherChoice,
    /// Replicas of the pool in it.
    pub replicas: u32,
    /// Further cost with starts and stops, currency per hour: what the planner compares.
    pub extra_cost_per_hour: f64,
    /// Further cost of the replicas alone, currency per hour.
    pub extra_price_per_hour: f64,
    /// Further load that misses its target, most important priority first. It goes before any cost.
    pub extra_shortfall: Vec<PriorityRate>,
    /// Every pool with another number.
    pub changes: Vec<ReplicaChange>,
    /// Whether it was proven that nothing better exists under this condition.
    pub proven: bool,
    /// One sentence for a person.
    pub sentence: String,
}

/// Load of the classes of one priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorityRate {
    pub priority: i32,
    pub classes: Vec<String>,
    /// Requests per second.
    pub rate: f64,
}

/// Another number of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaChange {
    /// `namespace/name`.
    pub pool: String,
    /// In the plan chosen.
    pub from: u32,
    pub to: u32,
}

/// What would change the plan. Computed when it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    pub accelerators: Vec<AcceleratorValue>,
    pub relaxations: Vec<Relaxation>,
    /// Units of work spent on it, not counted among those of the plan.
    pub work_units: u64,
}

/// What more accelerators would bring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceleratorValue {
    /// The accelerator types under the limit.
    pub accelerators: Vec<String>,
    /// Name of the limit on them: the type's own for its stock.
    pub limit: String,
    pub most: f64,
    /// Used by the plan.
    pub used: f64,
    /// Accelerators added: 1, or as many as one more replica takes where 1 brings nothing.
    pub more: f64,
    pub gain: Gain,
    pub sentence: String,
}

/// What a relaxed target would bring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relaxation {
    pub class: String,
    pub target: LatencyTarget,
    pub from_seconds: f64,
    pub to_seconds: f64,
    pub gain: Gain,
    /// What one replica of the pools that serve the class would carry.
    pub capacity: Vec<CapacityChange>,
    pub sentence: String,
}

/// Requests per second that one replica of a pool carries, now and with a looser target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityChange {
    /// `namespace/name`.
    pub pool: String,
    pub from: f64,
    pub to: f64,
}

/// One of the two latencies that a class promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatencyTarget {
    Ttft,
    Itl,
}

/// What a plan under looser conditions is better in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Currency per hour, starts and stops included; negative where more load is served for it.
    pub saved_cost_per_hour: f64,
    /// Of the replicas alone, currency per hour.
    pub saved_price_per_hour: f64,
    /// Load that meets its target then and did not before, most important priority first.
    pub served: Vec<PriorityRate>,
    pub changes: Vec<ReplicaChange>,
    /// Whether both plans were proven best.
    pub proven: bool,
}

/// Share of a model's requests that a pool should get, as a weight of HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolWeight {
    /// `namespace/name`.
    pub pool: String,
    /// 0..=100; the weights of a model add up to 100.
    pub weight: u32,
}

/// What the plan promises a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Latency at the class's percentile in the slowest pool it is sent to, at most, seconds.
    pub ttft_seconds: Option<f64>,
    pub itl_seconds: Option<f64>,
    /// Share of the requests within both targets, at least.
    pub attainment: Option<f64>,
}

impl Gain {
    /// Nothing saved and nothing more served.
    pub fn is_nothing(&self) -> bool {
        self.served.is_empty() && self.saved_cost_per_hour == 0.0
    }
}
