//! What a model is made of, as far as its speed and memory depend on it: parameters by part, how each part
//! is stored, what attention remembers. From a published `config.json` or from the catalogue of open models.
//! It knows no hardware.

mod attention;
mod catalogue;
mod config;
mod dimensions;
mod format;
mod names;
mod parallel;

use std::borrow::Cow;

use serde::Serialize;

pub use attention::{AttentionGroup, AttentionKind, SparseIndex};
pub use catalogue::{architecture, known_architectures};
pub use config::ConfigError;
pub use format::{NumberFormat, Parts, Stored};
pub use names::stored_format_of;
pub use parallel::Parallelism;

/// Figures of one transformer, as its checkpoint is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Architecture {
    pub name: Cow<'static, str>,
    /// Layers that are served; those that only predict further tokens are not.
    pub layers: u32,
    pub hidden_size: u32,
    /// Query heads of an attention layer.
    pub query_heads: u32,
    /// The layers by what they remember; linear attention apart.
    pub attention: Vec<AttentionGroup>,
    /// Parameters of each part.
    pub parameters: Parts<f64>,
    /// The output layer shares the input embedding.
    pub tied: bool,
    /// `None` in a dense model.
    pub mixture: Option<Mixture>,
    /// How each part is stored.
    pub formats: Parts<Stored>,
    /// How the checkpoint wants the KV cache stored.
    pub kv_format: NumberFormat,
}

/// Routing of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mixture {
    /// Routed experts of one layer. Not whole where only the ratio is known.
    pub experts: f64,
    /// Routed experts that one token uses.
    pub per_token: f64,
    /// Layers that have experts.
    pub layers: u32,
}

impl Mixture {
    /// Share of the routed experts that one token leaves out, 0..1.
    pub fn left_out(&self) -> f64 {
        (1.0 - self.per_token / self.experts).clamp(0.0, 1.0)
    }
}

/// Weights that one accelerator reads in one iteration, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReadBytes {
    /// Whatever the batch is.
    pub always: f64,
    /// Of all routed experts; a small batch reads a part of them.
    pub experts: f64,
}

/// Figures of a model whose parts nobody told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GivenFigures {
    pub parameters: f64,
    /// Parameters used per token; equal to `parameters` in a dense model.
    pub active_parameters: f64,
    pub layers: u32,
    pub hidden_size: u32,
    pub kv_heads: u32,
    pub head_size: u32,
}

impl Architecture {
    /// From summary figures. A mixture of experts is taken for one without shared parts: right for one token
    /// and for many, a few percent too slow between.
    pub fn from_figures(name: impl Into<Cow<'static, str>>, figures: &GivenFigures) -> Self {
        let GivenFigures { parameters, active_parameters, layers, hidden_size, kv_heads, head_size } = *figures;
        let is_dense = active_parameters == parameters;
        let parts = if is_dense {
            Parts { dense: parameters, ..Parts::default() }
        } else {
            Parts { experts: parameters, ..Parts::default() }
        };
        let kind = AttentionKind::Grouped { kv_heads, head_size, window: None };
        Self {
            name: name.into(),
            layers,
            hidden_size,
            query_heads: hidden_size.checked_div(head_size).unwrap_or(0).max(kv_heads),
            attention: vec![AttentionGroup { layers, kind }],
            parameters: parts,
            tied: false,
            mixture: (!is_dense).then_some(Mixture { experts: parameters, per_token: active_parameters, layers }),
            formats: Parts::linear_layers(NumberFormat::Bf16),
            kv_format: NumberFormat::Bf16,
        }
    }

    /// All parameters.
    pub fn total_parameters(&self) -> f64 {
        self.parameters.sum()
    }

    /// Parameters used per token, the looked-up embedding included: the published "active" number of most
    /// models. Equal to [`Self::total_parameters`] in a dense model.
    pub fn active_parameters(&self) -> f64 {
        let left_out = self.mixture.map_or(0.0, |m| m.left_out());
        self.total_parameters() - left_out * self.parameters.experts
    }

    /// Parameters that take part in the arithmetic of one token.
    pub fn computed_parameters(&self) -> f64 {
        self.computed_by_part().sum()
    }

    /// The same by part: of the experts those that one token uses. An embedding that is only looked up
    /// counts nothing, a tied one is multiplied as output layer.
    pub fn computed_by_part(&self) -> Parts<f64> {
        let used = 1.0 - self.mixture.map_or(0.0, |m| m.left_out());
        Parts {
            experts: self.parameters.experts * used,
            embeddings: if self.tied { self.parameters.embeddings } else { 0.0 },
            ..self.parameters
        }
    }

    /// Parameters that an iteration over `tokens` tokens reads: each token picks its experts on its own.
    pub fn read_parameters(&self, tokens: f64) -> f64 {
        let parts = self.read_by_part();
        let left_out = self.mixture.map_or(0.0, |m| m.left_out().powf(tokens.max(0.0)));
        parts.sum() - parts.experts * left_out
    }

    /// All that can be read in one iteration.
    fn read_by_part(&self) -> Parts<f64> {
        Parts { embeddings: if self.tied { self.parameters.embeddings } else { 0.0 }, ..self.parameters }
    }

    /// Bytes of each part of the weights.
    pub fn weight_bytes_by_part(&self) -> Parts<f64> {
        self.parameters.zip(&self.formats, |count, stored| count * stored.bytes)
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> f64 {
        self.weight_bytes_by_part().sum()
    }

    /// Bytes of the weights on each accelerator: routed experts are divided among all, the rest is copied to
    /// every group of attention data parallelism. (The small matrices that tensor parallelism copies are
    /// counted as divided.)
    pub fn weight_bytes_each(&self, parallel: &Parallelism) -> f64 {
        let bytes = self.weight_bytes_by_part();
        Self::each(bytes.sum() - bytes.experts, bytes.experts, parallel).iter().sum()
    }

    /// Bytes of the weights that each accelerator reads in one iteration.
    pub fn read_bytes_each(&self, parallel: &Parallelism) -> ReadBytes {
        let bytes = self.read_by_part().zip(&self.formats, |count, stored| count * stored.bytes);
        let [always, experts] = Self::each(bytes.sum() - bytes.experts, bytes.experts, parallel);
        ReadBytes { always, experts }
    }

    /// A replica's share of one accelerator: of what data parallelism copies, and of the routed experts.
    fn each(copied: f64, experts: f64, parallel: &Parallelism) -> [f64; 2] {
        let [tensor, pipeline, data] =
            [parallel.tensor, parallel.pipeline, parallel.attention_data].map(|n| f64::from(n.max(1)));
        [copied / (tensor * pipeline), experts / (tensor * pipeline * data)]
    }

    /// The same model with the linear layers stored in `format`; embeddings, output layer and router stay
    /// 16-bit. Four-bit checkpoints leave latent attention wide, and `mxfp4` is used for experts only. A model
    /// that is stored in this format already stays as it is.
    #[must_use]
    pub fn stored_as(&self, format: NumberFormat) -> Self {
        if format == self.stored_format() {
            return self.clone();
        }
        let mut formats = Parts::linear_layers(format);
        let latent = self.attention.iter().any(|g| matches!(g.kind, AttentionKind::Latent { .. }));
        if format.is_four_bit() && latent {
            formats.attention = NumberFormat::Bf16.into();
        }
        if format == NumberFormat::Mxfp4 && self.mixture.is_some() {
            formats = Parts { experts: format.into(), ..Parts::linear_layers(NumberFormat::Bf16) };
        }
        self.clone().with_formats(formats)
    }

    /// Stored like this; parts that the model does not have count as 16-bit.
    fn with_formats(self, formats: Parts<Stored>) -> Self {
        let wide = NumberFormat::Bf16.into();
        let formats = self.parameters.zip(&formats, |count, stored| if count > 0.0 { stored } else { wide });
        Self { formats, ..self }
    }

    /// The format of most of the weights.
    pub fn stored_format(&self) -> NumberFormat {
        let of = |format| {
            let counted = self.parameters.zip(&self.formats, |n, s| if s.format == format { n } else { 0.0 });
            counted.sum()
        };
        NumberFormat::ALL.into_iter().max_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap_or_default()
    }

    /// KV-cache bytes that one more token takes, over all accelerators, while no sliding window is full.
    pub fn kv_bytes_per_token(&self, format: NumberFormat) -> f64 {
        self.over_layers(|kind| kind.bytes_per_token(format))
    }

    /// Part of [`Self::kv_bytes_per_token`] that each of `tensor` accelerators holds: heads are split until
    /// each accelerator has one, then copied; latent attention is copied at once.
    pub fn kv_bytes_per_token_each(&self, format: NumberFormat, tensor: u32) -> f64 {
        self.over_layers(|kind| kind.bytes_per_token(format) / kind.divided_among(tensor))
    }

    /// Cache bytes of one request with so many tokens, over all accelerators: sliding windows keep their last
    /// tokens, linear attention its state.
    pub fn kv_bytes(&self, context_tokens: f64, format: NumberFormat) -> f64 {
        self.over_layers(|kind| kind.kept_bytes(context_tokens, format))
    }

    /// Part of [`Self::kv_bytes`] on each accelerator that serves the request: those of one group of
    /// attention data parallelism. The other groups hold nothing of it.
    pub fn kv_bytes_each(&self, context_tokens: f64, format: NumberFormat, parallel: &Parallelism) -> f64 {
        let each =
            self.over_layers(|kind| kind.kept_bytes(context_tokens, format) / kind.divided_among(parallel.tensor));
        each / f64::from(parallel.pipeline.max(1))
    }

    /// Cache bytes that each of those accelerators reads to decode one token of the request.
    pub fn kv_read_bytes_each(&self, context_tokens: f64, format: NumberFormat, parallel: &Parallelism) -> f64 {
        let each =
            self.over_layers(|kind| kind.read_bytes(context_tokens, format) / kind.divided_among(parallel.tensor));
        each / f64::from(parallel.pipeline.max(1))
    }

    /// Bytes per request that do not grow with its tokens: the states of linear attention.
    pub fn state_bytes(&self) -> f64 {
        self.kv_bytes(0.0, NumberFormat::Bf16)
    }

    /// FLOPs of attention to decode one token after `context_tokens`, without the projections.
    pub fn decode_attention_flops(&self, context_tokens: f64) -> f64 {
        self.over_layers(|kind| kind.decode_flops(self.query_heads, context_tokens))
    }

    /// FLOPs of attention to compute `tokens` of a prompt after `cached` tokens that are in the cache.
    pub fn prompt_attention_flops(&self, cached: f64, tokens: f64) -> f64 {
        self.over_layers(|kind| kind.prompt_flops(self.query_heads, cached, tokens))
    }

    fn over_layers(&self, each: impl Fn(&AttentionKind) -> f64) -> f64 {
        self.attention.iter().map(|group| f64::from(group.layers) * each(&group.kind)).sum()
    }

    /// True when every figure that the estimates need is finite and positive.
    pub fn is_usable(&self) -> bool {
        let parts = self.parameters.values().iter().all(|p| p.is_finite() && *p >= 0.0);
        let bytes = self.formats.values().iter().all(|s| s.bytes.is_finite() && s.bytes > 0.0);
        let routing = self.mixture.is_none_or(|m| m.per_token > 0.0 && m.per_token <= m.experts && m.layers > 0);
        let cache = self.kv_bytes(1.0, self.kv_format);
        self.layers > 0
            && self.hidden_size > 0
            && parts
            && bytes
            && routing
            && cache.is_finite()
            && cache > 0.0
            && self.computed_parameters() > 0.0
    }
}

#[cfg(test)]
mod tests;
