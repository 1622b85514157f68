//! The figures that describe one replica.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::roofline::EngineFamily;

/// One engine iteration costs `alpha + beta x prompt tokens computed + decode x tokens decoded + gamma x KV tokens
/// read`, and the reading of the experts that its tokens choose. With `decode = beta`, no experts and plain prompts
/// this is the performance model of llm-inferno/queue-analysis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Fixed time of an iteration, seconds: reading the weights that every token needs, launching kernels.
    pub alpha_seconds: f64,
    /// Time per prompt token computed, seconds.
    pub beta_seconds_per_token: f64,
    /// Time per token decoded, seconds.
    pub decode_seconds_per_token: f64,
    /// Time per KV token read, seconds.
    pub gamma_seconds_per_token: f64,
    /// Weights that only some tokens need.
    pub experts: Experts,
    /// What a prompt costs beyond `beta` a token.
    #[serde(default)]
    pub prompts: Prompts,
}

/// What a prompt costs beyond a time per token. Both are zero where the measurements do not show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompts {
    /// Time per pair of tokens of which one attends to the other, seconds: long prompts cost more a token.
    pub attention_seconds_per_pair: f64,
    /// Time of a request before its first token in which the engine does other work, seconds: the connection, the
    /// tokeniser, the scheduler's inbox. Part of the TTFT; takes no capacity.
    pub overhead_seconds: f64,
}

impl Prompts {
    /// Time of the attention of `computed` tokens that end a prompt of `length` tokens, the part before them being
    /// there already, seconds.
    pub fn attention_seconds(&self, length: f64, computed: f64) -> f64 {
        self.attention_seconds_per_pair * computed * (length - 0.5 * computed).max(0.0)
    }

    fn slowed(&self, factor: f64) -> Self {
        Self {
            attention_seconds_per_pair: self.attention_seconds_per_pair * factor,
            overhead_seconds: self.overhead_seconds * factor,
        }
    }
}

/// Reading the weights of a mixture of experts: a small batch reads few of them, a large one reads all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Experts {
    /// Time to read all of them, seconds; 0 for a dense model.
    pub all_seconds: f64,
    /// Share of them that one token leaves out, 0..1: `1 - k/E` with k of E experts per token.
    pub left_out: f64,
}

impl Experts {
    /// Time to read those that `tokens` tokens choose, each on its own, seconds.
    pub fn seconds(&self, tokens: f64) -> f64 {
        if self.all_seconds == 0.0 { 0.0 } else { self.all_seconds * (1.0 - self.left_out.powf(tokens.max(0.0))) }
    }
}

impl Parameters {
    /// Parameters of a dense model whose tokens cost the same in prompt and answer; seconds.
    pub fn uniform(alpha_seconds: f64, beta_seconds_per_token: f64, gamma_seconds_per_token: f64) -> Self {
        Self {
            alpha_seconds,
            beta_seconds_per_token,
            decode_seconds_per_token: beta_seconds_per_token,
            gamma_seconds_per_token,
            experts: Experts::default(),
            prompts: Prompts::default(),
        }
    }

    /// Time of one iteration that computes and reads these tokens, seconds.
    pub fn iteration_seconds(&self, prompt_tokens: f64, decoded_tokens: f64, kv_tokens: f64) -> f64 {
        self.alpha_seconds
            + self.beta_seconds_per_token * prompt_tokens
            + self.decode_seconds_per_token * decoded_tokens
            + self.gamma_seconds_per_token * kv_tokens
            + self.experts.seconds(prompt_tokens + decoded_tokens)
    }

    /// The same for prompts of `length` tokens of which the last `computed` are computed, all else being a time per
    /// token: their attention is part of `beta`.
    pub fn for_prompts(&self, length: f64, computed: f64) -> Self {
        let attention = self.prompts.attention_seconds(length, computed) / computed.max(1.0);
        Self {
            beta_seconds_per_token: self.beta_seconds_per_token + attention,
            prompts: Prompts { attention_seconds_per_pair: 0.0, ..self.prompts },
            ..*self
        }
    }

    /// The same, changed by the factors that lead from `before` to `after`.
    pub fn changed_as(&self, before: &Self, after: &Self) -> Self {
        let by = |value: f64, before: f64, after: f64| if before > 0.0 { value * after / before } else { value };
        let all_seconds = by(self.experts.all_seconds, before.experts.all_seconds, after.experts.all_seconds);
        Self {
            alpha_seconds: by(self.alpha_seconds, before.alpha_seconds, after.alpha_seconds),
            beta_seconds_per_token: by(
                self.beta_seconds_per_token,
                before.beta_seconds_per_token,
                after.beta_seconds_per_token,
            ),
            decode_seconds_per_token: by(
                self.decode_seconds_per_token,
                before.decode_seconds_per_token,
                after.decode_seconds_per_token,
            ),
            gamma_seconds_per_token: by(
                self.gamma_seconds_per_token,
                before.gamma_seconds_per_token,
                after.gamma_seconds_per_token,
            ),
            experts: Experts { all_seconds, ..self.experts },
            prompts: self.prompts.slowed(by(1.0, before.beta_seconds_per_token, after.beta_seconds_per_token)),
        }
    }

    /// True when every figure is finite and not negative and an iteration takes time at all.
    pub fn is_usable(&self) -> bool {
        let all = [
            self.alpha_seconds,
            self.beta_seconds_per_token,
            self.decode_seconds_per_token,
            self.gamma_seconds_per_token,
            self.experts.all_seconds,
            self.prompts.attention_seconds_per_pair,
            self.prompts.overhead_seconds,
        ];
        let left_out = (0.0..=1.0).contains(&self.experts.left_out);
        left_out && all.iter().all(|v| v.is_finite() && *v >= 0.0) && all[..5].iter().any(|v| *v > 0.0)
    }

    /// The same server, `factor` times slower.
    pub fn slowed(&self, factor: f64) -> Self {
        Self {
            alpha_seconds: self.alpha_seconds * factor,
            beta_seconds_per_token: self.beta_seconds_per_token * factor,
            decode_seconds_per_token: self.decode_seconds_per_token * factor,
            gamma_seconds_per_token: self.gamma_seconds_per_token * factor,
            experts: Experts { all_seconds: self.experts.all_seconds * factor, ..self.experts },
            prompts: self.prompts.slowed(factor),
        }
    }
}

/// Limits a server was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Highest number of requests in execution (`--max-num-seqs`).
    pub max_num_seqs: u32,
    /// Token budget of one iteration (`--max-num-batched-tokens`).
    pub max_num_batched_tokens: u32,
}

impl Default for Limits {
    /// The defaults of `vllm serve` on data-centre accelerators since 0.10.
    fn default() -> Self {
        Self { max_num_seqs: 256, max_num_batched_tokens: 8192 }
    }
}

impl Limits {
    /// The engine's own choice on data-centre accelerators.
    pub fn of(engine: EngineFamily) -> Self {
        match engine {
            // SGLang takes 2,048 to 4,096 requests by its memory and chunks of 8,192 tokens on 80 GB.
            EngineFamily::Sglang | EngineFamily::TensorrtLlm => {
                Self { max_num_seqs: 2048, max_num_batched_tokens: 8192 }
            }
            EngineFamily::Vllm | EngineFamily::Other => Self::default(),
        }
    }
}

/// Limits of a server as far as somebody has said them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GivenLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_seqs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_batched_tokens: Option<u32>,
    /// Longest request, prompt and output, tokens (`--max-model-len`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
}

impl GivenLimits {
    /// What is not said here, as `other` says it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_num_seqs: self.max_num_seqs.or(other.max_num_seqs),
            max_num_batched_tokens: self.max_num_batched_tokens.or(other.max_num_batched_tokens),
            max_model_len: self.max_model_len.or(other.max_model_len),
        }
    }
}

/// What a capacity is based on; each rung narrows the one above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Data sheet and architecture only.
    OutsideIn,
    /// The server's own report of its limits.
    Range,
    /// Measured or given parameters.
    Curve,
    /// Corrected by live observations.
    Live,
}

impl Evidence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutsideIn => "outside-in",
            Self::Range => "range",
            Self::Curve => "curve",
            Self::Live => "live",
        }
    }

    /// Share of the capacity that is kept in reserve because the model may be wrong by that much:
    /// the spread of the additive roofline on measured points is 15 %, that of fitted parameters 8 %.
    pub fn safety_margin(self) -> f64 {
        match self {
            Self::OutsideIn | Self::Range => 0.15,
            Self::Curve => 0.08,
            Self::Live => 0.05,
        }
    }
}

/// Mean prompt and output length of the requests of a cell, tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    pub input_tokens: f64,
    pub output_tokens: f64,
}
