//! What one replica can do, as an operator writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NumberFormat;
use crate::perf::{Experts, Parameters, Prompts};
use crate::policy::units::Duration;

/// What one replica can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PerformanceSpec {
    /// Measured or fitted parameters of one iteration.
    #[serde(rename = "parameters")]
    Parameters(ParametersSpec),
    /// A profile file: a path below the folder of the policy file.
    #[serde(rename = "profile")]
    Profile(String),
    /// Estimated from data sheet and architecture.
    #[serde(rename = "estimate")]
    Estimate(EstimateSpec),
}

/// One iteration costs `alpha + beta x prompt tokens + decode x decoded tokens + gamma x KV tokens read`, the attention
/// within its prompts, and the reading of the experts that its tokens choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParametersSpec {
    /// Fixed time of an iteration.
    pub alpha: Duration,
    /// Time per prompt token computed.
    pub beta: Duration,
    /// Time per token decoded; `beta` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<Duration>,
    /// Time per KV token read.
    pub gamma: Duration,
    /// Time per pair of prompt tokens of which one attends to the other; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Duration>,
    /// Time of a request before its first token that takes nothing from others, such as the tokeniser's; none when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Duration>,
    /// Reading the experts of a mixture; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsSpec>,
    /// KV-cache capacity of one replica, tokens; the server's own report overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
}

/// Weights that only some tokens need: a small batch reads few of them, a large one all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpertsSpec {
    /// Time to read all of them.
    pub all: Duration,
    /// Share of them that one token leaves out: 1 - k/E with k of E experts per token.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub left_out: f64,
}

impl ParametersSpec {
    /// In the units of the program.
    pub fn parameters(&self) -> Parameters {
        let beta = self.beta.seconds();
        Parameters {
            decode_seconds_per_token: self.decode.map_or(beta, Duration::seconds),
            experts: self
                .experts
                .as_ref()
                .map_or_else(Experts::default, |e| Experts { all_seconds: e.all.seconds(), left_out: e.left_out }),
            prompts: Prompts {
                attention_seconds_per_pair: self.attention.map_or(0.0, Duration::seconds),
                overhead_seconds: self.overhead.map_or(0.0, Duration::seconds),
            },
            ..Parameters::uniform(self.alpha.seconds(), beta, self.gamma.seconds())
        }
    }

    /// As an operator would write it; what says nothing is left out.
    pub fn from_parameters(p: &Parameters, kv_tokens: Option<u64>) -> Self {
        let unless_zero = |seconds: f64| (seconds > 0.0).then(|| Duration::from_seconds(seconds));
        let own_decode = (p.decode_seconds_per_token / p.beta_seconds_per_token - 1.0).abs() > 1e-9;
        Self {
            alpha: Duration::from_seconds(p.alpha_seconds),
            beta: Duration::from_seconds(p.beta_seconds_per_token),
            decode: own_decode.then(|| Duration::from_seconds(p.decode_seconds_per_token)),
            gamma: Duration::from_seconds(p.gamma_seconds_per_token),
            attention: unless_zero(p.prompts.attention_seconds_per_pair),
            overhead: unless_zero(p.prompts.overhead_seconds),
            experts: (p.experts.all_seconds > 0.0).then(|| ExpertsSpec {
                all: Duration::from_seconds(p.experts.all_seconds),
                left_out: p.experts.left_out,
            }),
            kv_tokens,
        }
    }
}

/// How the weights and the KV cache are stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EstimateSpec {
    /// Number format of the weights; as the checkpoint is stored when absent: what its configuration says, or the
    /// end of the model's name (`-FP8`, `-AWQ`), or its publisher's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<NumberFormat>,
    /// Number format of the KV cache; as the checkpoint wants it when absent, mostly `bf16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<NumberFormat>,
}

/// How the accelerators of a replica share the model; they all divide every layer when nothing is said. The product
/// of `tensor`, `pipeline` and `data` is the replica's number of accelerators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ParallelismSpec {
    /// Accelerators that divide each layer (`--tensor-parallel-size`); what the others leave when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub tensor: Option<u32>,
    /// Stages of layers (`--pipeline-parallel-size`), 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub pipeline: Option<u32>,
    /// Groups that each attend to requests of their own (`--data-parallel-size` within a replica), 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub data: Option<u32>,
    /// Whole experts are distributed instead of divided (`--enable-expert-parallel`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experts: bool,
}
