//! The policy after every check: indices instead of names, seconds instead of text, nothing missing.
//! The rest of the program sees only this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::schema::{Engine, MetricsPort, Mode, Role};
use super::selector::SeriesSelector;
use crate::perf::{Architecture, DataSheet, Evidence, GivenLimits, Limits, PaperReplica, Parameters};

/// A policy without contradictions. Accelerators, classes, models and pools refer to each other by
/// their index in these lists; pools are sorted by namespace and name, models by namespace and name.
#[derive(Clone, Debug)]
pub struct Policy {
    /// SHA-256 of the documents' text, hexadecimal.
    pub fingerprint: String,
    pub currency: String,
    pub accelerators: Vec<Accelerator>,
    /// What holds besides the stock of each accelerator type; all of them at once.
    pub limits: Vec<FleetLimit>,
    pub schedules: Vec<Schedule>,
    /// Sorted by priority, most important first, then by name.
    pub classes: Vec<SloClass>,
    pub models: Vec<Model>,
    pub pools: Vec<Pool>,
    pub planner: Planner,
}

#[derive(Clone, Debug)]
pub struct Accelerator {
    pub name: String,
    /// Price of one accelerator per hour.
    pub price_per_hour: f64,
    /// Accelerators that can be had.
    pub stock: u32,
    pub sheet: DataSheet,
}

/// A limit on what all pools of some accelerator types use together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetLimit {
    /// As it is called in explanations, e.g. `budget`.
    pub name: String,
    pub scope: LimitScope,
    /// In the unit of the scope.
    pub most: f64,
    /// (accelerator, what one of them uses), in order of the accelerators.
    pub uses: Vec<(usize, f64)>,
}

/// Where a limit comes from and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitScope {
    /// Accelerators that there are.
    Stock,
    /// Accelerators that an account may use.
    Quota,
    /// Accelerators that are reserved.
    Reservation,
    /// Currency per hour.
    Budget,
    /// Watts, each accelerator at its highest draw.
    Power,
}

impl LimitScope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Quota => "quota",
            Self::Reservation => "reservation",
            Self::Budget => "budget",
            Self::Power => "power",
        }
    }

    /// An amount with its unit, e.g. `12 h100`, `4.5 USD/h`, `5.6 kW`.
    pub fn amount(self, amount: f64, accelerators: &str, currency: &str) -> String {
        // Sums of prices carry the binary rest of their parts.
        let shown = |amount: f64| (amount * 1e4).round() / 1e4;
        match self {
            Self::Stock | Self::Quota | Self::Reservation => format!("{} {accelerators}", shown(amount)),
            Self::Budget => format!("{} {currency}/h", shown(amount)),
            Self::Power => format!("{} kW", shown(amount / 1000.0)),
        }
    }
}

impl FleetLimit {
    /// What one accelerator of this type uses of it; 0 when it does not apply to them.
    pub fn amount(&self, accelerator: usize) -> f64 {
        self.uses.iter().find(|(a, _)| *a == accelerator).map_or(0.0, |(_, amount)| *amount)
    }

    /// An amount of it with its unit, e.g. `12 h100`, `4.5 USD/h`, `5.6 kW`.
    pub fn words(&self, amount: f64, policy: &Policy) -> String {
        let names: Vec<&str> = self.uses.iter().map(|(a, _)| policy.accelerators[*a].name.as_str()).collect();
        // A list of many names is longer than what is said about them.
        let accelerators = if names.len() > 2 { "accelerators".to_owned() } else { names.join(" or ") };
        self.scope.amount(amount, &accelerators, &policy.currency)
    }
}

/// What is kept ready whatever the load is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Floor {
    /// Index of the schedule it is bound to; always when `None`.
    pub schedule: Option<usize>,
    pub least: Least,
}

/// How much is kept ready.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Least {
    /// Replicas of the pool with this index, or of all pools of the model together.
    Replicas { pool: Option<usize>, replicas: u32 },
    /// Load of the class with this index, or of all classes together by their shares.
    Rate { class: Option<usize>, requests_per_second: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SloClass {
    pub name: String,
    /// Higher is more important.
    pub priority: i32,
    pub promise: Promise,
    /// Whether requests may wait up to half of their deadline for capacity that others leave.
    pub may_wait: bool,
}

/// What a class is promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// `quantile` (0..1) of all requests meet both targets. A target that is not given is infinite, in
    /// JSON `null`.
    Latency {
        quantile: f64,
        #[serde(with = "infinite_as_null")]
        ttft_seconds: f64,
        #[serde(with = "infinite_as_null")]
        itl_seconds: f64,
    },
    /// A request is finished within this time of its arrival.
    Deadline { seconds: f64 },
}

#[derive(Clone, Debug)]
pub struct Model {
    pub namespace: String,
    pub name: String,
    /// The label `model_name` of its servers.
    pub served_name: String,
    pub architecture: Option<Architecture>,
    /// (index of the class, share of the requests); the shares sum to 1.
    pub classes: Vec<(usize, f64)>,
    /// Indices of its pools.
    pub pools: Vec<usize>,
    pub floors: Vec<Floor>,
    /// (input tokens, output tokens) to assume until requests were measured.
    pub expected_shape: Option<(f64, f64)>,
    /// Annotations of the document; the demo reads its traffic from them.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub namespace: String,
    pub name: String,
    pub model: usize,
    pub accelerator: usize,
    pub accelerators_per_replica: u32,
    pub role: Role,
    pub engine: Engine,
    pub mode: Mode,
    pub min: u32,
    /// Most replicas: the smallest of the operator's limit and what each limit of the fleet allows the pool alone.
    pub max: u32,
    pub startup_seconds: f64,
    pub target: ScaleTarget,
    pub selector: SeriesSelector,
    /// Metrics pages given by the operator.
    pub scrape: Vec<String>,
    /// Port of the pods' metrics pages; the pod's annotation or the engine's usual one when `None`.
    pub metrics_port: Option<MetricsPort>,
    pub parameters: Parameters,
    pub evidence: Evidence,
    /// KV-cache capacity of one replica before the server reports its own, tokens.
    pub kv_tokens: f64,
    /// What the parameters are estimated from, when they are: they depend on the lengths of the requests.
    pub paper: Option<PaperReplica>,
    /// Share of a capacity that is kept in reserve because the figures may be wrong, 0..1.
    pub margin: f64,
    /// Limits before anything is known of the running servers: the operator's, else a profile's, else the engine's.
    pub limits: Limits,
    /// What of them the operator wrote: the servers' own arguments do not overrule it.
    pub limits_given: GivenLimits,
    /// Longest request that the servers take, tokens, where the operator or a profile says it.
    pub max_model_len: Option<u32>,
}

impl Policy {
    /// Accelerators of a type that can be had: its stock, or less where its own quota or reservation is smaller.
    pub fn can_be_had(&self, accelerator: usize) -> u32 {
        let counts = |l: &&FleetLimit| matches!(l.scope, LimitScope::Quota | LimitScope::Reservation);
        let own = self.limits.iter().filter(counts).filter(|l| l.uses == [(accelerator, 1.0)]);
        own.map(|l| l.most as u32).fold(self.accelerators[accelerator].stock, u32::min)
    }
}

impl Model {
    /// `namespace/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Pool {
    /// `namespace/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Price of one replica per hour.
    pub fn price_per_hour(&self, accelerators: &[Accelerator]) -> f64 {
        accelerators[self.accelerator].price_per_hour * f64::from(self.accelerators_per_replica)
    }
}

/// The object whose replicas are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScaleTarget {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// Planner settings in seconds and shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planner {
    pub interval_seconds: f64,
    pub max_age_seconds: f64,
    pub stale_after_seconds: f64,
    pub window_seconds: f64,
    /// 0..1.
    pub demand_quantile: f64,
    pub scale_down_dwell_seconds: f64,
    /// Start-up times of a pool for which a replica is kept that is no longer needed.
    pub scale_down_starts: f64,
    /// Part of a promise's error budget that replicas are loaded up to, 0..1.
    pub error_budget_use: f64,
    /// Whether the gateway can send requests to pools by their length.
    pub route_by_length: bool,
    pub max_step_up: Option<u32>,
    pub max_step_down: Option<u32>,
}

/// JSON has no infinity; a target that is not given travels as `null`.
mod infinite_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}
