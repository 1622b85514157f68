//! How the dimensions of a family of models are read from its fields.

use serde_json::{Map, Value};

use super::ConfigError;
use super::fields::Fields;
use super::layers::{self, ExpertRule, Layer, Windows};
use super::table::{FAMILIES, WRAPPERS};
use crate::perf::architecture::attention::SparseIndex;
use crate::perf::architecture::dimensions::{Attention, Dense, Dimensions, ExpertLayers};

/// How one `model_type` is read.
#[derive(Clone, Copy)]
pub struct Family {
    pub model_type: &'static str,
    /// Values of `architectures` that mean this family.
    pub classes: &'static [&'static str],
    pub attention: AttentionRule,
    pub windows: Windows,
    pub experts: Option<ExpertNames>,
    /// Matrices of a feed-forward block.
    pub matrices: u32,
    /// What an absent field means; `None`: it has to be there.
    pub defaults: Defaults,
}

#[derive(Clone, Copy)]
pub struct Defaults {
    pub tied: bool,
    /// `None`: the hidden size is divided among the heads.
    pub head_size: Option<u32>,
    pub query_heads: Option<u32>,
    pub kv_heads: KvHeads,
    pub vocabulary: Option<u32>,
}

#[derive(Clone, Copy)]
pub enum KvHeads {
    Required,
    AsQueryHeads,
    Fixed(u32),
}

#[derive(Clone, Copy)]
pub enum AttentionRule {
    Grouped,
    /// Grouped, with the switches of Falcon.
    Falcon,
    Latent,
    /// Gated attention in some layers, gated delta nets in the others.
    Hybrid,
}

/// Names of the fields of a mixture of experts.
#[derive(Clone, Copy)]
pub struct ExpertNames {
    pub count: &'static [&'static str],
    pub width: &'static str,
    pub dense_width: &'static str,
    pub shared: Shared,
    pub layers: ExpertRule,
}

#[derive(Clone, Copy)]
pub enum Shared {
    None,
    /// A field with their width.
    Width(&'static str),
    /// A field with their number; each is as wide as a routed expert.
    Count(&'static str),
}

/// Refuses what surrounds a language model in ways nobody knows.
pub fn is_known_wrapper(outer: &Map<String, Value>) -> Result<(), ConfigError> {
    let wanted = || format!("no multimodal model that is known; known are {}", WRAPPERS.join(", "));
    match outer.get("model_type") {
        Some(Value::String(name)) if WRAPPERS.contains(&name.as_str()) => Ok(()),
        Some(other) => Err(ConfigError::wrong("model_type", other, format!("is {}", wanted()))),
        None => Err(ConfigError::missing(
            "model_type",
            format!("with a `text_config` it names the multimodal model; there is {}", wanted()),
        )),
    }
}

impl Family {
    /// The family that `model_type` and `architectures` name.
    pub fn of(fields: &Fields) -> Result<&'static Self, ConfigError> {
        let class = match fields.list("architectures")?.and_then(<[Value]>::first) {
            Some(Value::String(class)) => Some(class.as_str()),
            Some(other) => return Err(fields.wrong("architectures", other, "must be a list of class names")),
            None => None,
        };
        let Some(model_type) = fields.text("model_type")? else {
            let class = class.ok_or_else(|| fields.missing("model_type", "it says how the model is built"))?;
            let found = FAMILIES.iter().find(|f| f.classes.contains(&class));
            return found.ok_or_else(|| fields.wrong("architectures", &class.into(), unknown()));
        };
        let family = FAMILIES.iter().find(|f| f.model_type == model_type);
        let family = family.ok_or_else(|| fields.wrong("model_type", &model_type.into(), unknown()))?;
        match class {
            Some(class) if !family.classes.is_empty() && !family.classes.contains(&class) => {
                let wanted = format!("is not how `{model_type}` is served; known is {}", family.classes.join(", "));
                Err(fields.wrong("architectures", &class.into(), wanted))
            }
            _ => Ok(family),
        }
    }

    pub fn dimensions(&self, fields: &Fields) -> Result<Dimensions, ConfigError> {
        let layers = fields.layers("num_hidden_layers")?;
        let hidden_size = fields.required("hidden_size")?;
        let query_heads = match (fields.positive("num_attention_heads")?, self.defaults.query_heads) {
            (Some(given), _) | (None, Some(given)) => given,
            (None, None) => fields.required("num_attention_heads")?,
        };
        let vocabulary = match (fields.positive("vocab_size")?, self.defaults.vocabulary) {
            (Some(given), _) | (None, Some(given)) => given,
            (None, None) => fields.required("vocab_size")?,
        };
        let (dense, experts) = self.feed_forward(fields, layers, hidden_size)?;
        Ok(Dimensions {
            hidden_size,
            query_heads,
            vocabulary,
            tied: fields.flag_or_outer("tie_word_embeddings")?.unwrap_or(self.defaults.tied),
            attention: self.attention(fields, layers, hidden_size, query_heads)?,
            dense,
            experts,
        })
    }

    fn attention(
        &self,
        fields: &Fields,
        layers: u32,
        hidden: u32,
        heads: u32,
    ) -> Result<Vec<(u32, Attention)>, ConfigError> {
        match self.attention {
            AttentionRule::Latent => Ok(vec![(layers, latent(fields)?)]),
            AttentionRule::Hybrid => {
                let gated = fields.flag("attn_output_gate")?.unwrap_or(true);
                let full = self.grouped(fields, hidden, heads, gated)?;
                let delta = gated_delta(fields)?;
                let kinds = layers::hybrid(fields, layers)?;
                let of_delta = kinds.iter().filter(|k| **k == Layer::Linear).count() as u32;
                Ok([(of_delta, delta), (layers - of_delta, full)].into_iter().filter(|(n, _)| *n > 0).collect())
            }
            AttentionRule::Grouped | AttentionRule::Falcon => {
                let full = self.grouped(fields, hidden, heads, false)?;
                layers::windowed(fields, layers, self.windows)?
                    .into_iter()
                    .map(|(n, window)| Ok((n, with_window(full, window))))
                    .collect()
            }
        }
    }

    fn grouped(&self, fields: &Fields, hidden: u32, heads: u32, gated: bool) -> Result<Attention, ConfigError> {
        let head_size = match (fields.positive("head_dim")?, self.defaults.head_size) {
            (Some(given), _) | (None, Some(given)) => given,
            (None, None) if hidden.is_multiple_of(heads) => hidden / heads,
            (None, None) => {
                let wanted = format!("is no divisor of `hidden_size` {hidden}, and there is no `head_dim`");
                return Err(fields.wrong("num_attention_heads", &heads.into(), wanted));
            }
        };
        let kv_heads = if matches!(self.attention, AttentionRule::Falcon) {
            falcon_kv_heads(fields, heads)?
        } else {
            match (fields.positive("num_key_value_heads")?, self.defaults.kv_heads) {
                (Some(given), _) | (None, KvHeads::Fixed(given)) => given,
                (None, KvHeads::AsQueryHeads) => heads,
                (None, KvHeads::Required) => fields.required("num_key_value_heads")?,
            }
        };
        if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
            let wanted = format!("must divide `num_attention_heads`, which is {heads}");
            return Err(fields.wrong("num_key_value_heads", &kv_heads.into(), wanted));
        }
        Ok(Attention::Grouped { kv_heads, head_size, window: None, gated })
    }

    fn feed_forward(
        &self,
        fields: &Fields,
        layers: u32,
        hidden: u32,
    ) -> Result<(Option<Dense>, Option<ExpertLayers>), ConfigError> {
        let matrices = self.matrices;
        let Some(names) = self.experts else {
            let width = match (self.attention, fields.positive("intermediate_size")?) {
                (_, Some(width)) => width,
                (AttentionRule::Falcon, None) => {
                    fields.positive("ffn_hidden_size")?.unwrap_or(hidden.saturating_mul(4))
                }
                _ => fields.required("intermediate_size")?,
            };
            return Ok((Some(Dense { layers, width, matrices }), None));
        };
        let with_experts = layers::with_experts(fields, layers, names.layers)?;
        let experts = names.read(fields, with_experts)?;
        // Read even where no layer uses it.
        let width = fields.positive(names.dense_width)?;
        let dense = match layers - with_experts {
            0 => None,
            layers => {
                let width = width
                    .ok_or_else(|| fields.missing(names.dense_width, format!("{layers} layers have no experts")))?;
                Some(Dense { layers, width, matrices })
            }
        };
        Ok((dense, experts))
    }
}

impl ExpertNames {
    fn read(&self, fields: &Fields, layers: u32) -> Result<Option<ExpertLayers>, ConfigError> {
        let experts = fields.first_of(self.count)?;
        let per_token = fields.first_of(&["num_experts_per_tok", "experts_per_token"])?;
        if per_token > experts {
            let wanted = format!("a token cannot use more than the {experts} experts there are");
            return Err(fields.wrong("num_experts_per_tok", &per_token.into(), wanted));
        }
        let width = fields.required(self.width)?;
        let shared_width = match self.shared {
            Shared::None => 0,
            Shared::Width(name) => u64::from(fields.count(name)?.unwrap_or(0)),
            Shared::Count(name) => u64::from(fields.count(name)?.unwrap_or(0)) * u64::from(width),
        };
        Ok((layers > 0).then_some(ExpertLayers { layers, experts, per_token, width, shared_width }))
    }
}

fn unknown() -> String {
    let known: Vec<&str> = FAMILIES.iter().map(|f| f.model_type).collect();
    format!("is not known; give the figures (`spec.architecture`), or a model of {}", known.join(", "))
}

fn with_window(attention: Attention, window: Option<u32>) -> Attention {
    match attention {
        Attention::Grouped { kv_heads, head_size, gated, .. } => {
            Attention::Grouped { kv_heads, head_size, window, gated }
        }
        other => other,
    }
}

fn falcon_kv_heads(fields: &Fields, heads: u32) -> Result<u32, ConfigError> {
    let new = fields.flag("new_decoder_architecture")?.unwrap_or(false);
    let one = fields.flag("multi_query")?.unwrap_or(true);
    let given = fields.first_present(&["num_kv_heads", "n_head_kv"])?;
    Ok(match (new, one) {
        (true, _) => given.unwrap_or(heads),
        (false, true) => 1,
        (false, false) => heads,
    })
}

fn latent(fields: &Fields) -> Result<Attention, ConfigError> {
    let (rope, nope) = (fields.required("qk_rope_head_dim")?, fields.required("qk_nope_head_dim")?);
    if let Some(both) = fields.positive("qk_head_dim")?.filter(|both| *both != rope.saturating_add(nope)) {
        let wanted = format!("must be the sum of `qk_nope_head_dim` {nope} and `qk_rope_head_dim` {rope}");
        return Err(fields.wrong("qk_head_dim", &both.into(), wanted));
    }
    // Written for other programs; latent attention has no such heads.
    for name in ["head_dim", "num_key_value_heads"] {
        fields.get(name);
    }
    let index = match fields.positive("index_topk")? {
        None => None,
        Some(top_tokens) => Some(SparseIndex {
            heads: fields.required("index_n_heads")?,
            size: fields.required("index_head_dim")?,
            top_tokens,
        }),
    };
    Ok(Attention::Latent {
        query_rank: fields.positive("q_lora_rank")?,
        rank: fields.required("kv_lora_rank")?,
        rope,
        nope,
        value: fields.required("v_head_dim")?,
        index,
    })
}

fn gated_delta(fields: &Fields) -> Result<Attention, ConfigError> {
    let state_number_bytes = match fields.text("mamba_ssm_dtype")? {
        None | Some("float32") => 4.0,
        Some("bfloat16" | "float16") => 2.0,
        Some(other) => {
            return Err(fields.wrong("mamba_ssm_dtype", &other.into(), "must be float32, bfloat16 or float16"));
        }
    };
    Ok(Attention::GatedDelta {
        key_heads: fields.required("linear_num_key_heads")?,
        value_heads: fields.required("linear_num_value_heads")?,
        key_size: fields.required("linear_key_head_dim")?,
        value_size: fields.required("linear_value_head_dim")?,
        kernel: fields.required("linear_conv_kernel_dim")?,
        state_number_bytes,
    })
}
