//! The policy as an operator writes it: Kubernetes-style documents, the same structs that a custom
//! resource definition will carry. Nothing here is checked across fields; see `resolve`.

mod floors;
mod hardware;
mod performance;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Duration;
pub use crate::perf::NumberFormat;
use crate::perf::{EngineFamily, Limits};
pub use floors::{FloorSpec, ScheduleSpec, Weekday};
pub use hardware::{AcceleratorSpec, LimitSpec};
pub use performance::{EstimateSpec, ExpertsSpec, ParallelismSpec, ParametersSpec, PerformanceSpec};

/// `apiVersion` of every policy document.
pub const API_VERSION: &str = "poolwright.dev/v1alpha1";

/// Name and namespace of a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the object: lower case letters, digits, `-` and `.`.
    pub name: String,
    /// Namespace of the object; `default` when absent. A Fleet has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Kubernetes labels, kept but not used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes annotations, kept but not used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A policy document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Document {
    /// The hardware, the promises and how carefully to plan. Exactly one per policy.
    Fleet(FleetDocument),
    /// One served model and the pools that can serve it.
    ServedModel(ServedModelDocument),
}

/// `kind: Fleet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetDocument {
    /// `poolwright.dev/v1alpha1`.
    pub api_version: String,
    pub metadata: Metadata,
    pub spec: FleetSpec,
}

/// `kind: ServedModel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedModelDocument {
    /// `poolwright.dev/v1alpha1`.
    pub api_version: String,
    pub metadata: Metadata,
    pub spec: ServedModelSpec,
}

/// Hardware, promises, planner settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetSpec {
    /// Currency of all prices, as it should be printed.
    #[serde(default = "default_currency")]
    pub currency: String,
    /// The accelerator types of the fleet.
    pub accelerators: Vec<AcceleratorSpec>,
    /// The promises.
    pub classes: Vec<ClassSpec>,
    /// Limits on several accelerator types together; all that apply hold at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitSpec>,
    /// Most that all replicas together may cost per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub budget_per_hour: Option<f64>,
    /// Most power that the accelerators of all replicas together may draw, kilowatts, each at its highest draw.
    #[serde(default, rename = "powerKW", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub power_kw: Option<f64>,
    /// Hours of the week that floors of the models refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleSpec>,
    /// How to plan; every value has a default.
    #[serde(default)]
    pub planner: PlannerSpec,
}

fn default_currency() -> String {
    "USD".into()
}

/// One promise: latency targets at a percentile, or a deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassSpec {
    /// Name used by the models.
    pub name: String,
    /// Importance: a higher number is served first when there is not enough.
    #[serde(default)]
    pub priority: i32,
    /// Share of the requests, in percent, that must meet both targets; between 0 and 100, both excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// Target of the time to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Duration>,
    /// Target of a request's mean time per output token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itl: Option<Duration>,
    /// For batch work: the time within which a request must be finished. Excludes `ttft` and `itl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Only with a deadline: requests may wait up to half of it for capacity that others leave, and replicas are
    /// started for them only when the deadline asks for it. They wait in a gateway's or the servers' queues, which
    /// must not hold up requests of other classes.
    #[serde(default)]
    pub may_wait: bool,
}

/// How carefully to plan. The defaults are meant to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PlannerSpec {
    /// Time between two decisions.
    pub interval: Duration,
    /// Age beyond which a decision is no longer served: the answer is then an error.
    pub max_age: Duration,
    /// Age beyond which a measurement counts as stale.
    pub stale_after: Duration,
    /// Window over which rates and latencies are measured.
    pub window: Duration,
    /// Quantile of the peak over the start-up time that is planned for, percent.
    #[schemars(range(min = 50.0, max = 99.99))]
    pub demand_quantile: f64,
    /// A smaller number is published only after it was enough for this long, or for the pool's start-up
    /// time where that is longer.
    pub scale_down_dwell: Duration,
    /// What is no longer needed is given back after so many start-up times of its pool, once it is not likely to be
    /// needed again within as long: keeping it until then costs about what having it back would. Cheaper
    /// hardware takes over on the same terms. 0 waits for `scaleDownDwell` only.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub scale_down_starts: f64,
    /// Part of the requests that a class's percentile lets be late which may be used up, percent: while fewer are late
    /// near the load that is planned for, replicas are given more than their figures say, in small steps. 0 never
    /// gives them more.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub error_budget_use: f64,
    /// The gateway sends requests to pools by their length as the plan says. When it does not, every pool
    /// of a class gets the same mix of lengths.
    pub route_by_length: bool,
    /// Most replicas added to one pool by one decision; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_step_up: Option<u32>,
    /// Most replicas removed from one pool by one decision; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_step_down: Option<u32>,
}

impl Default for PlannerSpec {
    fn default() -> Self {
        Self {
            interval: Duration::from_seconds(15.0),
            max_age: Duration::from_seconds(60.0),
            stale_after: Duration::from_seconds(60.0),
            window: Duration::from_seconds(60.0),
            demand_quantile: 75.0,
            scale_down_dwell: Duration::from_seconds(120.0),
            scale_down_starts: 5.0,
            error_budget_use: 25.0,
            route_by_length: false,
            max_step_up: None,
            max_step_down: None,
        }
    }
}

/// One served model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServedModelSpec {
    /// Model name as the servers report it in the label `model_name`.
    pub model: String,
    /// Architecture: a name of the built-in catalogue, the figures, or the model's own `config.json`. Taken from
    /// the model name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<ArchitectureSpec>,
    /// Where the demand is read.
    #[serde(default)]
    pub demand: DemandSpec,
    /// The promises given to this model's requests and the share of each.
    pub classes: Vec<ClassShareSpec>,
    /// The pools that can serve it.
    pub pools: Vec<PoolSpec>,
    /// What is kept ready whatever the load is: always, or during the hours of a schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<FloorSpec>,
}

/// A catalogue name, the figures or a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ArchitectureSpec {
    /// A name of the built-in catalogue, e.g. `llama-3.1-70b`.
    Named(String),
    /// The figures of a dense transformer.
    Given(ArchitectureFigures),
    /// The model's `config.json`.
    Config(ArchitectureConfig),
}

/// A model's published configuration: paths below the folder of the policy file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchitectureConfig {
    /// The model's `config.json`.
    pub config: String,
    /// Its `hf_quant_config.json`, if it has one. When absent, a file of that name beside the configuration is
    /// taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<String>,
}

/// The figures of a dense transformer with grouped-query attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchitectureFigures {
    /// All parameters, billions.
    pub parameters_billion: f64,
    /// Parameters used per token, billions; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_parameters_billion: Option<f64>,
    pub layers: u32,
    pub hidden_size: u32,
    pub kv_heads: u32,
    pub head_size: u32,
}

/// Where the demand of a model is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DemandSpec {
    /// `engine`: arrivals as the model servers see them.
    pub source: DemandSource,
    /// Expected prompt and output lengths, used until enough requests were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<ShapeSpec>,
}

/// Which component counts the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DemandSource {
    /// The model servers: completions plus the growth of their queues.
    #[default]
    Engine,
}

/// Mean lengths of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShapeSpec {
    /// Mean prompt length, tokens.
    #[schemars(range(min = 1.0))]
    pub input_tokens: f64,
    /// Mean output length, tokens.
    #[schemars(range(min = 1.0))]
    pub output_tokens: f64,
}

/// The share of a model's requests that belongs to a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassShareSpec {
    /// Name of a class of the Fleet.
    pub name: String,
    /// Share of the requests, 0..=1; the rest, divided equally, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: Option<f64>,
}

/// Identical replicas behind one scale target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Name of the pool, unique in its namespace; also the name of its scale target unless given.
    pub name: String,
    /// Name of an accelerator of the Fleet.
    pub accelerator: String,
    /// Accelerators one replica uses.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub accelerators_per_replica: u32,
    /// How they share the model; used for estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<ParallelismSpec>,
    #[serde(default)]
    pub role: Role,
    #[serde(default)]
    pub engine: Engine,
    #[serde(default)]
    pub mode: Mode,
    /// Fewest replicas.
    #[serde(default)]
    pub min: u32,
    /// Most replicas; the stock decides when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Time from "one more replica wanted" to "it serves".
    #[serde(default = "default_startup")]
    pub startup_time: Duration,
    /// The object whose replicas are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSpec>,
    /// Which metric series belong to this pool; derived from the scale target when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesSpec>,
    /// Addresses of the replicas' metrics pages, for direct scrape without discovery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scrape: Vec<String>,
    /// Port on which the pods print `/metrics`, for direct scrape in a cluster: a number or the name of a container
    /// port. The pod's annotation `prometheus.io/port`, else the engine's usual port (SGLang: 30000, others: 8000) when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_port: Option<MetricsPort>,
    /// What one replica can do; estimated from accelerator and architecture when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceSpec>,
    /// Limits the server was started with.
    #[serde(default)]
    pub limits: LimitsSpec,
}

fn one() -> u32 {
    1
}

fn default_startup() -> Duration {
    Duration::from_seconds(240.0)
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MetricsPort {
    /// Its number.
    Number(#[schemars(range(min = 1))] u16),
    /// Its name in the pod's template.
    Name(String),
}

/// Part of the work a replica does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    #[default]
    Both,
    Prefill,
    Decode,
}

/// Model server software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// vLLM.
    #[default]
    Vllm,
    /// SGLang, started with `--enable-metrics` and `--collect-tokens-histogram`.
    Sglang,
    /// TensorRT-LLM's own server, `trtllm-serve`.
    TensorrtLlm,
}

impl Engine {
    /// The engine as the performance model knows it.
    pub fn family(self) -> EngineFamily {
        match self {
            Self::Vllm => EngineFamily::Vllm,
            Self::Sglang => EngineFamily::Sglang,
            Self::TensorrtLlm => EngineFamily::TensorrtLlm,
        }
    }
}

/// What is done with the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Watched only.
    Off,
    /// Computed, explained and exported under a shadow name.
    #[default]
    Advise,
    /// Published to HPA and KEDA.
    Act,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Advise => "advise",
            Self::Act => "act",
        }
    }
}

/// The object whose replicas are set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    #[serde(default = "default_target_api")]
    pub api_version: String,
    #[serde(default = "default_target_kind")]
    pub kind: String,
    /// Name of the object; the pool's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn default_target_api() -> String {
    "apps/v1".into()
}

fn default_target_kind() -> String {
    "Deployment".into()
}

/// Conditions on the labels of a series; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SeriesSpec {
    /// The label must have exactly this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub equals: BTreeMap<String, String>,
    /// The whole label value must match this regular expression.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, String>,
}

/// Limits the server was started with; the engine's own defaults when absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// `--max-num-seqs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_num_seqs: Option<u32>,
    /// `--max-num-batched-tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_num_batched_tokens: Option<u32>,
    /// `--max-model-len`: longest request, prompt and output together, tokens. Longer ones are planned as if they
    /// were this long, because the server refuses or cuts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_model_len: Option<u32>,
}

impl LimitsSpec {
    /// What is given, and `default` for the rest.
    pub fn or(&self, default: &Limits) -> Limits {
        Limits {
            max_num_seqs: self.max_num_seqs.unwrap_or(default.max_num_seqs),
            max_num_batched_tokens: self.max_num_batched_tokens.unwrap_or(default.max_num_batched_tokens),
        }
    }
}
