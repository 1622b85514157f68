//! Kinds of attention: the bytes they remember per token or per request and the arithmetic they do.

use serde::Serialize;

use super::format::NumberFormat;

/// Layers with the same kind of attention.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AttentionGroup {
    pub layers: u32,
    pub kind: AttentionKind,
}

/// What a layer remembers of the tokens before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionKind {
    /// A key and a value per KV head: multi-head, grouped-query and multi-query attention.
    Grouped {
        kv_heads: u32,
        /// Elements of one head.
        head_size: u32,
        /// Only so many tokens back are seen and kept.
        window: Option<u32>,
    },
    /// One compressed vector for all heads (MLA).
    Latent {
        /// Elements of the compressed vector.
        rank: u32,
        /// Elements of the key that carry the position.
        rope: u32,
        /// Elements of a head's key without position, once uncompressed.
        nope: u32,
        /// Elements of a head's value, once uncompressed.
        value: u32,
        index: Option<SparseIndex>,
    },
    /// A state of constant size per request: linear attention, gated delta nets.
    Linear {
        /// Bytes of one layer's state of one request, convolution included.
        state_bytes: f64,
        /// Heads among which accelerators can divide it.
        heads: u32,
    },
}

/// A small second cache that picks the tokens which attention reads (DeepSeek sparse attention).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SparseIndex {
    pub heads: u32,
    /// Elements of the index key that is kept per token.
    pub size: u32,
    /// Most tokens that attention reads.
    pub top_tokens: u32,
}

impl SparseIndex {
    /// Numbers that share one scale.
    const BLOCK: f64 = 128.0;

    /// Bytes per token: always 8-bit numbers with a 32-bit scale per block, whatever the KV cache is.
    pub fn bytes_per_token(&self) -> f64 {
        let size = f64::from(self.size);
        size + 4.0 * (size / Self::BLOCK).ceil()
    }
}

impl AttentionKind {
    /// Cache bytes of one layer that one more token adds while no window is full.
    pub fn bytes_per_token(&self, format: NumberFormat) -> f64 {
        match self {
            Self::Grouped { kv_heads, head_size, .. } => {
                2.0 * f64::from(*kv_heads) * f64::from(*head_size) * format.bytes()
            }
            Self::Latent { rank, rope, index, .. } => {
                let index = index.map_or(0.0, |i| i.bytes_per_token());
                (f64::from(*rank) + f64::from(*rope)) * format.bytes() + index
            }
            Self::Linear { .. } => 0.0,
        }
    }

    /// Cache bytes of one layer for a request with so many tokens.
    pub fn kept_bytes(&self, context: f64, format: NumberFormat) -> f64 {
        match self {
            Self::Grouped { window, .. } => within(context, *window) * self.bytes_per_token(format),
            Self::Latent { .. } => context * self.bytes_per_token(format),
            Self::Linear { state_bytes, .. } => *state_bytes,
        }
    }

    /// Cache bytes of one layer that decoding one token reads: of a sparse layer the index of all tokens and
    /// the keys of those it picks.
    pub fn read_bytes(&self, context: f64, format: NumberFormat) -> f64 {
        match self {
            Self::Latent { rank, rope, index: Some(index), .. } => {
                let key = (f64::from(*rank) + f64::from(*rope)) * format.bytes();
                context * index.bytes_per_token() + within(context, Some(index.top_tokens)) * key
            }
            _ => self.kept_bytes(context, format),
        }
    }

    /// Among how many accelerators under tensor parallelism one token's cache is divided; what is more
    /// holds copies.
    pub fn divided_among(&self, tensor: u32) -> f64 {
        let most = match self {
            Self::Grouped { kv_heads, .. } => *kv_heads,
            Self::Latent { .. } => 1,
            Self::Linear { heads, .. } => *heads,
        };
        f64::from(tensor.min(most).max(1))
    }

    /// FLOPs of one layer to decode one token after `context` tokens, projections left out. Latent attention
    /// works on the compressed vectors here.
    pub fn decode_flops(&self, query_heads: u32, context: f64) -> f64 {
        let heads = f64::from(query_heads);
        match self {
            Self::Grouped { head_size, window, .. } => 4.0 * heads * f64::from(*head_size) * within(context, *window),
            Self::Latent { rank, rope, index, .. } => {
                let each = 2.0 * heads * (2.0 * f64::from(*rank) + f64::from(*rope));
                each * within(context, index.map(|i| i.top_tokens)) + index_flops(*index) * context
            }
            Self::Linear { state_bytes, .. } => state_flops(*state_bytes),
        }
    }

    /// FLOPs of one layer to compute `tokens` tokens of a prompt of which `cached` tokens came before. Latent
    /// attention uncompresses keys and values here.
    pub fn prompt_flops(&self, query_heads: u32, cached: f64, tokens: f64) -> f64 {
        let heads = f64::from(query_heads);
        match self {
            Self::Grouped { head_size, window, .. } => {
                4.0 * heads * f64::from(*head_size) * pairs(cached, tokens, *window)
            }
            Self::Latent { rope, nope, value, index, .. } => {
                let each = 2.0 * heads * (f64::from(*nope) + f64::from(*rope) + f64::from(*value));
                each * pairs(cached, tokens, index.map(|i| i.top_tokens))
                    + index_flops(*index) * pairs(cached, tokens, None)
            }
            Self::Linear { state_bytes, .. } => state_flops(*state_bytes) * tokens,
        }
    }
}

/// FLOPs per token and token before it that choosing takes.
fn index_flops(index: Option<SparseIndex>) -> f64 {
    index.map_or(0.0, |i| 2.0 * f64::from(i.heads) * f64::from(i.size))
}

/// Decay, read-out, update and query touch each element of the state once per token: a multiplication and an
/// addition each. States are mostly 32-bit.
fn state_flops(state_bytes: f64) -> f64 {
    8.0 * state_bytes / 4.0
}

fn within(context: f64, window: Option<u32>) -> f64 {
    window.map_or(context, |w| context.min(f64::from(w)))
}

/// Pairs of a new token and a token that it sees: the sum of `min(position, window)` over the new tokens.
fn pairs(cached: f64, tokens: f64, window: Option<u32>) -> f64 {
    let end = cached + tokens;
    let all = |to: f64| to * to / 2.0;
    let Some(window) = window.map(f64::from) else {
        return all(end) - all(cached);
    };
    let growing = all(end.min(window)) - all(cached.min(window));
    growing + (end - cached.max(window)).max(0.0) * window
}
