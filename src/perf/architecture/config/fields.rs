//! Fields of a configuration, read with a memory of what was read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::ConfigError;

/// Largest number that any dimension may have.
const LARGEST: u32 = 10_000_000;
/// Most layers, experts and heads: more would be a mistake, and lists are walked layer by layer.
const MOST_LAYERS: u32 = 2_000;

/// The fields of the language model.
pub struct Fields<'c> {
    /// Before a field's name in messages.
    place: &'static str,
    map: &'c Map<String, Value>,
    /// Around the language model of a multimodal one.
    outer: Option<&'c Map<String, Value>>,
    read: RefCell<BTreeSet<String>>,
}

impl<'c> Fields<'c> {
    pub fn new(map: &'c Map<String, Value>) -> Self {
        Self { place: "", map, outer: None, read: RefCell::default() }
    }

    pub fn inside(place: &'static str, map: &'c Map<String, Value>, outer: &'c Map<String, Value>) -> Self {
        Self { place, map, outer: Some(outer), read: RefCell::default() }
    }

    /// A field; `null` is none.
    pub fn get(&self, name: &str) -> Option<&'c Value> {
        self.read.borrow_mut().insert(name.to_owned());
        self.map.get(name).filter(|v| !v.is_null())
    }

    /// A field of the language model, or else of what is around it.
    pub fn get_or_outer(&self, name: &str) -> Option<&'c Value> {
        self.get(name).or_else(|| self.outer?.get(name).filter(|v| !v.is_null()))
    }

    pub fn wrong(&self, name: &str, value: &Value, wanted: impl Into<String>) -> ConfigError {
        ConfigError::wrong(format!("{}{name}", self.place), value, wanted)
    }

    pub fn missing(&self, name: &str, wanted: impl Into<String>) -> ConfigError {
        ConfigError::missing(format!("{}{name}", self.place), wanted)
    }

    /// A whole number; 0 is one.
    pub fn count(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        self.number(name, 0, LARGEST)
    }

    /// A whole number above zero.
    pub fn positive(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        self.number(name, 1, LARGEST)
    }

    pub fn required(&self, name: &str) -> Result<u32, ConfigError> {
        self.positive(name)?.ok_or_else(|| self.missing(name, "must be a whole number greater than zero"))
    }

    /// The number of layers, bounded because lists of layers are walked.
    pub fn layers(&self, name: &str) -> Result<u32, ConfigError> {
        let wanted = format!("must be a whole number from 1 to {MOST_LAYERS}");
        self.number(name, 1, MOST_LAYERS)?.ok_or_else(|| self.missing(name, wanted))
    }

    /// The first of several names that is there; all of them count as read.
    pub fn first_present(&self, names: &[&str]) -> Result<Option<u32>, ConfigError> {
        let mut found = None;
        for name in names {
            found = found.or(self.positive(name)?);
        }
        Ok(found)
    }

    pub fn first_of(&self, names: &[&str]) -> Result<u32, ConfigError> {
        self.first_present(names)?.ok_or_else(|| self.missing(names[0], "must be a whole number greater than zero"))
    }

    fn number(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
        whole
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (least..=most).contains(n))
            .map(Some)
            .ok_or_else(|| self.wrong(name, value, format!("must be a whole number from {least} to {most}")))
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.as_flag(name, self.get(name))
    }

    pub fn flag_or_outer(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.as_flag(name, self.get_or_outer(name))
    }

    fn as_flag(&self, name: &str, value: Option<&Value>) -> Result<Option<bool>, ConfigError> {
        match value {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(name, other, "must be true or false")),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&'c str>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, other, "must be a text")),
        }
    }

    pub fn list(&self, name: &str) -> Result<Option<&'c [Value]>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(name, other, "must be a list")),
        }
    }

    /// Refuses fields that nobody read and whose names speak of what the figures depend on.
    pub fn refuse_what_was_not_understood(&self) -> Result<(), ConfigError> {
        let read = self.read.borrow();
        let strange = self.map.iter().find(|(name, value)| {
            !read.contains(*name) && !is_switched_off(value) && !is_harmless(name) && matters(name)
        });
        strange.map_or(Ok(()), |(name, value)| {
            let wanted = "is not understood and could change memory or arithmetic; give the figures of this \
                          model instead (`spec.architecture`)";
            Err(self.wrong(name, value, wanted))
        })
    }
}

/// `null`, `false`, 0 and nothing switch a feature off.
fn is_switched_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Words in the name of a field that the figures may depend on.
const WORDS_THAT_MATTER: &[&str] = &[
    "adapter",
    "altup",
    "attention",
    "attn",
    "block",
    "blocks",
    "channels",
    "chunk",
    "compress",
    "compressed",
    "compression",
    "conv",
    "cross",
    "dconv",
    "decoder",
    "depth",
    "dim",
    "dims",
    "embed",
    "embd",
    "encoder",
    "engram",
    "expand",
    "expert",
    "experts",
    "ff",
    "ffn",
    "full",
    "gate",
    "gated",
    "global",
    "group",
    "groups",
    "hc",
    "head",
    "heads",
    "hidden",
    "hybrid",
    "hyper",
    "index",
    "indexer",
    "inner",
    "intermediate",
    "interval",
    "kda",
    "kernel",
    "key",
    "kv",
    "latent",
    "laurel",
    "layer",
    "layers",
    "linear",
    "local",
    "lora",
    "mamba",
    "memory",
    "mhc",
    "mla",
    "mlp",
    "modules",
    "moe",
    "pattern",
    "ple",
    "projection",
    "query",
    "rank",
    "recurrent",
    "retention",
    "rnn",
    "share",
    "shared",
    "sharing",
    "shortcut",
    "size",
    "sliding",
    "sparse",
    "sparsity",
    "ssm",
    "state",
    "states",
    "swa",
    "sublayers",
    "tie",
    "tied",
    "topk",
    "types",
    "value",
    "vocab",
    "width",
    "window",
    "zero",
];

fn matters(name: &str) -> bool {
    name.to_ascii_lowercase().split(['_', '-', '.', ' ']).any(|word| {
        let bare = word.trim_end_matches(|c: char| c.is_ascii_digit());
        WORDS_THAT_MATTER.contains(&bare)
    })
}

/// Fields that speak of such things and change none of the figures.
const HARMLESS: &[&str] = &[
    "add_cross_attention",
    "attention_bias",
    "attention_dropout",
    "attention_multiplier",
    "attention_out_bias",
    "attention_probs_dropout_prob",
    "attn_dropout",
    "attn_dropout_prob",
    "attn_factor",
    "attn_implementation",
    "attn_logit_softcapping",
    "attn_pdrop",
    "attn_scale",
    "attn_temperature_tuning",
    "aux_loss_alpha",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "embd_pdrop",
    "embedding_dropout",
    "embedding_initializer_range",
    "embedding_multiplier",
    "encoder_no_repeat_ngram_size",
    "ep_size",
    "expert_dropout",
    "feed_forward_dropout",
    "ffn_dropout",
    "final_logit_softcapping",
    "floor_scale",
    "for_llm_compressor",
    "full_attn_mod",
    "gradient_checkpointing",
    "head_bias",
    "head_dtype",
    "hidden_act",
    "hidden_activation",
    "hidden_dropout",
    "hidden_dropout_prob",
    "indexer_rope_interleave",
    "initial_context_length",
    "input_jitter_noise",
    "interleaved_rope",
    "is_decoder",
    "is_encoder_decoder",
    "key_bias",
    "layer_norm_bias",
    "layer_norm_elementwise_affine",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_norm_type",
    "layernorm_epsilon",
    "lm_head_bias",
    "logits_to_keep",
    "max_window_layers",
    "mlp_bias",
    "mlp_dropout",
    "mlp_type",
    "moe_aux_loss_coeff",
    "moe_routed_scaling_factor",
    "moe_router_dtype",
    "moe_router_enable_expert_bias",
    "moe_router_topk_scaling_factor",
    "moe_router_use_sigmoid",
    "mtp_num_hidden_layers",
    "mtp_num_layers",
    "mtp_transformer_layers",
    "mtp_use_dedicated_embeddings",
    "n_group",
    "neuron_chunk_size",
    "no_repeat_ngram_size",
    "no_rope_layer_interval",
    "no_rope_layers",
    "norm_after_embedding",
    "norm_topk_prob",
    "num_beam_groups",
    "num_expert_group",
    "num_ln_in_parallel_attn",
    "num_mtp_modules",
    "num_nextn_predict_layers",
    "order_of_interleaved_layers",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_vocab_size_multiple_of",
    "parallel_attn",
    "partial_rotary_factor",
    "pooler_hidden_act",
    "pretraining_tp",
    "qk_layernorm",
    "qk_norm_type",
    "qkv_bias",
    "query_pre_attn_scalar",
    "resid_pdrop",
    "residual_dropout",
    "residual_multiplier",
    "rope_interleave",
    "rope_local_base_freq",
    "rotary_dim",
    "rotary_emb_base",
    "routed_scaling_factor",
    "router_aux_loss_coef",
    "router_aux_loss_factor",
    "router_jitter_noise",
    "scale_attn_weights",
    "scale_depth",
    "scale_emb",
    "sep_token_id",
    "shared_moe_mode",
    "sliding_window_size",
    "swiglu_limit",
    "temperature_tuning",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "top_k",
    "topk_group",
    "topk_method",
    "type_vocab_size",
    "use_attention_sinks",
    "use_bidirectional_attention",
    "use_cache",
    "use_embedding_sharing",
    "use_flash_attn",
    "use_gate_bias",
    "use_gated_activation",
    "use_mem_eff_attn",
    "use_memory_efficient_attention",
    "use_parallel_block",
    "z_loss_coefficient",
];

/// Ends and beginnings of the same.
fn is_harmless(name: &str) -> bool {
    const ENDS: &[&str] = &[
        "_token_id",
        "_token_index",
        "_dropout",
        "_pdrop",
        "_dropout_prob",
        "_eps",
        "_coef",
        "_loss",
        "_init",
        "_std",
    ];
    const BEGINNINGS: &[&str] =
        &["_", "rope_", "vision_", "image_", "video_", "audio_", "output_", "mm_", "layernorm_"];
    HARMLESS.contains(&name)
        || ENDS.iter().any(|end| name.ends_with(end))
        || BEGINNINGS.iter().any(|start| name.starts_with(start))
}
