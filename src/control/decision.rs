//! The answer of one tick: what every pool should run and why. Plain data, journaled as it is.

use serde::{Deserialize, Serialize};

use super::reasons::{Analysis, OperatingLevel, OtherPlan, PoolWeight, Prediction};
use crate::observe::cluster::PoolCluster;
use crate::observe::{Finding, Histogram, Quality};
use crate::perf::Evidence;
use crate::policy::{LimitScope, Mode, Promise};

/// Everything one call of [`decide`](crate::control::decide) concluded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unix time of the decision, seconds.
    pub at_seconds: f64,
    /// Fingerprint of the policy it was made with.
    pub policy: String,
    pub currency: String,
    pub pools: Vec<PoolDecision>,
    pub classes: Vec<ClassDecision>,
    pub models: Vec<ModelDecision>,
    pub accelerators: Vec<AcceleratorUse>,
    /// Quotas, reservations, budgets, power.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitUse>,
    pub solve: SolveReport,
    /// Cost per hour of the replicas that are ready or starting now.
    pub current_cost_per_hour: f64,
    /// Cost per hour of what is recommended.
    pub planned_cost_per_hour: f64,
    pub findings: Vec<Finding>,
    /// What would change the plan; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// Why the fleet could not be observed at all; everything is held then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_error: Option<String>,
}

/// The recommendation for one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolDecision {
    pub namespace: String,
    pub pool: String,
    /// The served model's name.
    pub model: String,
    pub accelerator: String,
    pub accelerators_per_replica: u32,
    pub mode: Mode,
    /// Replicas to run; `None` when nothing is known yet and nothing may be said.
    pub desired: Option<u32>,
    /// What the plan wanted before the safety rules.
    pub planned: Option<u32>,
    pub ready: Option<u32>,
    pub starting: Option<u32>,
    pub binding: Binding,
    /// One sentence for a person.
    pub reason: String,
    /// What is missing or stale, by name; empty when everything is fresh.
    pub missing: Vec<String>,
    pub quality: Quality,
    /// Age of the oldest measurement used, seconds.
    pub input_age_seconds: Option<f64>,
    pub evidence: Evidence,
    /// How its figures are corrected by what its servers showed; absent while nothing was learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveCorrection>,
    /// Offered load seen, requests per second.
    pub arrival_rate: Option<f64>,
    /// Load the plan sends to this pool, requests per second.
    pub planned_rate: f64,
    /// Highest rate of one replica for the mix it is given, requests per second.
    pub replica_capacity: Option<f64>,
    /// Part of `replica_capacity` over what the figures say, above 1 where so few requests were late that a replica is
    /// given more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_stretch: Option<f64>,
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    pub kv_usage: Option<f64>,
    /// Latency at the class percentile, observed and predicted, against the targets, seconds.
    pub ttft: Latency,
    pub itl: Latency,
    /// Latency histograms of the window, for display and attainment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_histogram: Option<Histogram>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itl_histogram: Option<Histogram>,
    /// Replicas and pods as the cluster counts them, and what scales them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<PoolCluster>,
    pub cost_per_hour: f64,
    /// Price of one replica per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
    /// At which latency level it is run; absent for a pool that serves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<OperatingLevel>,
    /// Limits that leave no room for one more replica, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_limits: Vec<String>,
    /// The next best plan: of a pool that changes the one in which it stays as it is, of another one the better of
    /// one replica less and one more. Computed in every tick for the pools that change, as far as that is cheap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<OtherPlan>,
    /// Further plans in which the pool has another number; only where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<OtherPlan>,
}

/// Factors on a pool's performance figures, above 1 for a server that is slower than these say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveCorrection {
    /// On the fixed time of an iteration and on reading experts.
    pub iteration: f64,
    /// On the time per token computed.
    pub tokens: f64,
    /// On the time per KV token read.
    pub kv: f64,
    /// On the time between tokens, where the pool was last seen.
    pub itl: f64,
    /// Share of a replica's capacity that is kept in reserve, 0..1.
    pub spread: f64,
    /// Windows that were learnt from.
    pub windows: u32,
    /// Whether the figures are further off than their evidence allows.
    pub drift: bool,
}

/// One latency: observed over the window, predicted by the plan, promised by the tightest class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub observed_seconds: Option<f64>,
    pub predicted_seconds: Option<f64>,
    pub target_seconds: Option<f64>,
    /// Quantile all three speak of, 0..1.
    pub quantile: Option<f64>,
}

/// What keeps the number from being smaller (or larger). Stable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// The target of the time to the first token.
    Ttft,
    /// The target of the time per output token.
    Itl,
    /// KV memory limits the batch.
    KvMemory,
    /// `max-num-seqs` limits the batch.
    MaxSequences,
    /// Throughput: nothing but the work itself.
    Throughput,
    /// No more accelerators of this type.
    Stock,
    /// No more accelerators in a quota.
    Quota,
    /// No more reserved accelerators.
    Reservation,
    /// The budget per hour is spent.
    Budget,
    /// The limit on power is reached.
    Power,
    /// The operator's lower limit.
    Min,
    /// The operator's upper limit.
    Max,
    /// Data is missing or stale: the last number is kept.
    Hold,
    /// A smaller number must prove itself for a while first, or the step is limited.
    Dwell,
    /// Another pool serves the load for less.
    Cheaper,
    /// There is no load.
    Idle,
    /// No replica of this pool can meet the targets.
    Infeasible,
    /// The pool is switched off.
    Off,
}

impl Binding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Itl => "itl",
            Self::KvMemory => "kv-memory",
            Self::MaxSequences => "max-sequences",
            Self::Throughput => "throughput",
            Self::Stock => "stock",
            Self::Quota => "quota",
            Self::Reservation => "reservation",
            Self::Budget => "budget",
            Self::Power => "power",
            Self::Min => "min",
            Self::Max => "max",
            Self::Hold => "hold",
            Self::Dwell => "dwell",
            Self::Cheaper => "cheaper",
            Self::Idle => "idle",
            Self::Infeasible => "infeasible",
            Self::Off => "off",
        }
    }
}

/// How one class fares over the whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDecision {
    pub class: String,
    pub priority: i32,
    pub promise: Promise,
    /// Load planned for, requests per second.
    pub demand_rate: f64,
    /// Part of it that cannot be served within the target, requests per second.
    pub shortfall_rate: f64,
    /// Share of the window's requests within both targets as far as the servers' histograms tell
    /// (the smaller of the two shares), `None` without requests or for a deadline class.
    pub attainment: Option<f64>,
    /// Cells of this class that no pool can serve within its targets.
    pub infeasible: Vec<String>,
    /// What the plan promises; absent for a class without load or without latency targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
}

/// Demand of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDecision {
    pub namespace: String,
    /// Name of the ServedModel.
    pub name: String,
    /// The served model's name.
    pub model: String,
    /// Offered load now, requests per second.
    pub offered_rate: Option<f64>,
    /// Load planned for, requests per second.
    pub planned_rate: f64,
    /// Seconds ahead the plan looks.
    pub horizon_seconds: f64,
    pub input_tokens: f64,
    pub output_tokens: f64,
    /// Where each class's load goes.
    pub routes: Vec<Route>,
    /// The same for all classes together, for whoever can route by pool only; empty when nothing is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<PoolWeight>,
}

/// Share of one class's load that one pool should receive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub class: String,
    /// `namespace/name`.
    pub pool: String,
    /// 0..=1.
    pub share: f64,
    /// Requests per second.
    pub rate: f64,
}

/// Use of one accelerator type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceleratorUse {
    pub accelerator: String,
    /// Those that can be had: the least of stock and what quota and reservation of this type alone allow.
    pub stock: u32,
    /// In replicas that are ready or starting.
    pub in_use: u32,
    /// In recommended replicas.
    pub planned: u32,
}

/// Use of one limit besides stock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitUse {
    pub limit: String,
    pub scope: LimitScope,
    /// Accelerators, currency per hour or watts, as the scope says.
    pub most: f64,
    /// By replicas that are ready or starting.
    pub in_use: f64,
    /// By recommended replicas.
    pub planned: f64,
}

/// How the plan was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SolveReport {
    /// `milp`, `decomposition`, `greedy` or `none`.
    pub solver: String,
    /// Units of work spent.
    pub work_units: u64,
    /// (cost - bound) / cost; 0 when proven optimal.
    pub gap: f64,
    /// Plans that the independent check refused and replaced.
    pub refused: u32,
    /// Cost of the plan with starts and stops, currency per hour.
    #[serde(default)]
    pub objective: f64,
    /// Proven: no plan that serves as much costs less, currency per hour.
    #[serde(default)]
    pub bound: f64,
    /// Whether the search ended before its end, for time or effort.
    #[serde(default)]
    pub stopped: bool,
    /// Units of work spent on the next best plans of pools, on top of `work_units`.
    #[serde(default)]
    pub reason_units: u64,
    /// Units that each plan might spend.
    #[serde(default)]
    pub effort_units: u64,
    /// Units at which the plan with all pools, and the one with those that follow it, were told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_stopped_at: Option<u64>,
    /// The same of the plan in which models keep what they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_stopped_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advised_kept_stopped_at: Option<u64>,
}

impl SolveReport {
    /// Whether one of the plans was told to stop.
    pub fn was_stopped(&self) -> bool {
        let plans = [self.stopped_at, self.acting_stopped_at, self.kept_stopped_at, self.advised_kept_stopped_at];
        plans.iter().any(Option::is_some)
    }
}
