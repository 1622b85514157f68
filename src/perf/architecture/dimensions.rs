//! From published dimensions (the fields of a `config.json`) to parameters: every matrix is counted. Norms,
//! biases and convolutions are below 0.1 % and left out, multi-token-prediction layers are not served.

use std::borrow::Cow;

use super::attention::{AttentionGroup, AttentionKind, SparseIndex};
use super::format::{NumberFormat, Parts};
use super::{Architecture, Mixture};

/// Dimensions of one model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dimensions {
    pub hidden_size: u32,
    pub query_heads: u32,
    pub vocabulary: u32,
    /// The output layer shares the input embedding.
    pub tied: bool,
    /// Layers of each kind; they sum to the layers of the model.
    pub attention: Vec<(u32, Attention)>,
    pub dense: Option<Dense>,
    pub experts: Option<ExpertLayers>,
}

/// Attention with what its weights depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attention {
    Grouped {
        kv_heads: u32,
        head_size: u32,
        window: Option<u32>,
        /// The query projection makes a gate of the same size too.
        gated: bool,
    },
    Latent {
        /// Rank of the query projection; one full matrix when absent.
        query_rank: Option<u32>,
        rank: u32,
        rope: u32,
        nope: u32,
        value: u32,
        index: Option<SparseIndex>,
    },
    GatedDelta {
        key_heads: u32,
        value_heads: u32,
        key_size: u32,
        value_size: u32,
        kernel: u32,
        /// Bytes of one number of the state.
        state_number_bytes: f64,
    },
}

/// Feed-forward blocks without experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dense {
    pub layers: u32,
    pub width: u32,
    /// 3 with a gate (SwiGLU, GeGLU), 2 without.
    pub matrices: u32,
}

/// Feed-forward blocks with experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ExpertLayers {
    pub layers: u32,
    pub experts: u32,
    pub per_token: u32,
    /// Width of one expert.
    pub width: u32,
    /// Width of what every token uses, of all shared experts together; 0 = none.
    pub shared_width: u64,
}

impl Dimensions {
    pub fn layers(&self) -> u32 {
        self.attention.iter().fold(0, |sum, (layers, _)| sum.saturating_add(*layers))
    }

    pub fn architecture(&self, name: Cow<'static, str>) -> Architecture {
        Architecture {
            name,
            layers: self.layers(),
            hidden_size: self.hidden_size,
            query_heads: self.query_heads,
            attention: self
                .attention
                .iter()
                .map(|(layers, a)| AttentionGroup { layers: *layers, kind: a.kind() })
                .collect(),
            parameters: self.parameters(),
            tied: self.tied,
            mixture: self.experts.map(|e| Mixture {
                experts: f64::from(e.experts),
                per_token: f64::from(e.per_token),
                layers: e.layers,
            }),
            formats: Parts::linear_layers(NumberFormat::Bf16),
            kv_format: NumberFormat::Bf16,
        }
    }

    fn parameters(&self) -> Parts<f64> {
        let hidden = f64::from(self.hidden_size);
        let embedding = f64::from(self.vocabulary) * hidden;
        let attention = self
            .attention
            .iter()
            .map(|(layers, a)| f64::from(*layers) * a.matrices(hidden, f64::from(self.query_heads)).iter().sum::<f64>())
            .sum();
        let mut parts = Parts {
            attention,
            dense: self
                .dense
                .map_or(0.0, |d| [d.layers, d.matrices, d.width].into_iter().map(f64::from).product::<f64>() * hidden),
            embeddings: embedding,
            output: if self.tied { 0.0 } else { embedding },
            ..Parts::default()
        };
        if let Some(e) = self.experts {
            let layers = f64::from(e.layers);
            parts.experts = layers * f64::from(e.experts) * 3.0 * hidden * f64::from(e.width);
            parts.shared_experts = layers * 3.0 * hidden * e.shared_width as f64;
            parts.router = layers * hidden * f64::from(e.experts);
        }
        parts
    }
}

/// The projections of one attention layer, parameters of each. [`PROJECTIONS`] names them.
pub(super) type Projections = [f64; 6];

impl Attention {
    fn kind(&self) -> AttentionKind {
        match *self {
            Self::Grouped { kv_heads, head_size, window, .. } => AttentionKind::Grouped { kv_heads, head_size, window },
            Self::Latent { rank, rope, nope, value, index, .. } => {
                AttentionKind::Latent { rank, rope, nope, value, index }
            }
            Self::GatedDelta { key_heads, value_heads, key_size, value_size, kernel, state_number_bytes } => {
                let [kh, vh, ks, vs] = [key_heads, value_heads, key_size, value_size].map(f64::from);
                let channels = 2.0 * kh * ks + vh * vs;
                let convolution = channels * f64::from(kernel.saturating_sub(1)) * NumberFormat::Bf16.bytes();
                AttentionKind::Linear { state_bytes: vh * ks * vs * state_number_bytes + convolution, heads: key_heads }
            }
        }
    }

    /// Parameters of (queries in, queries up, keys and values in, keys and values up, output, index).
    pub fn matrices(&self, hidden: f64, heads: f64) -> Projections {
        match *self {
            Self::Grouped { kv_heads, head_size, gated, .. } => {
                let head = f64::from(head_size);
                let query = hidden * heads * head * if gated { 2.0 } else { 1.0 };
                [query, 0.0, 2.0 * hidden * f64::from(kv_heads) * head, 0.0, hidden * heads * head, 0.0]
            }
            Self::Latent { query_rank, rank, rope, nope, value, index } => {
                let [rank, rope, nope, value] = [rank, rope, nope, value].map(f64::from);
                let (down, up) = match query_rank.map(f64::from) {
                    Some(query) => (hidden * query, query * heads * (nope + rope)),
                    None => (0.0, hidden * heads * (nope + rope)),
                };
                let read_by_index = query_rank.map_or(hidden, f64::from);
                let index = index.map_or(0.0, |i| {
                    let (count, size) = (f64::from(i.heads), f64::from(i.size));
                    read_by_index * count * size + hidden * size + hidden * count
                });
                [down, up, hidden * (rank + rope), rank * heads * (nope + value), heads * value * hidden, index]
            }
            Self::GatedDelta { key_heads, value_heads, key_size, value_size, .. } => {
                let [kh, vh, ks, vs] = [key_heads, value_heads, key_size, value_size].map(f64::from);
                // Queries, keys, values and the output gate; decay and strength, one number per value head.
                let inner = hidden * (2.0 * kh * ks + 2.0 * vh * vs + 2.0 * vh);
                [inner, 0.0, 0.0, 0.0, vh * vs * hidden, 0.0]
            }
        }
    }
}
