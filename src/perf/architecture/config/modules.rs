//! Names of the linear layers of a checkpoint, and the patterns by which quantisation files choose them.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::ConfigError;

/// Largest program that one pattern may become, bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// Most patterns that are read; real files name each projection of each layer.
const MOST_PATTERNS: usize = 20_000;
/// What stands before the names of a language model, alone or inside a multimodal one.
const PREFIXES: [&str; 3] = ["", "language_model.", "model.language_"];

/// Names of the projections, in the order of the parameters they belong to; alternatives are different
/// families' names of one matrix, the first that fits decides.
pub const PROJECTIONS: [&[&str]; 6] = [
    &[
        "self_attn.q_proj",
        "self_attn.q_a_proj",
        "self_attn.qkv_proj",
        "linear_attn.in_proj_qkvz",
        "linear_attn.in_proj_qkv",
    ],
    &["self_attn.q_b_proj"],
    &["self_attn.kv_a_proj_with_mqa", "self_attn.k_proj", "self_attn.qkv_proj"],
    &["self_attn.kv_b_proj"],
    &["self_attn.o_proj", "linear_attn.out_proj"],
    &["self_attn.indexer.wq_b", "self_attn.indexer.wk"],
];
pub const DENSE: &[&str] =
    &["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "feed_forward.gate_proj", "mlp.gate_up_proj"];
pub const EXPERTS: &[&str] = &[
    "mlp.experts.0.gate_proj",
    "block_sparse_moe.experts.0.w1",
    "feed_forward.experts.gate_up_proj",
    "mlp.experts.gate_up_proj",
    "feed_forward.experts.0.gate_proj",
];
pub const SHARED_EXPERTS: &[&str] =
    &["mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "feed_forward.shared_expert.gate_proj"];

/// Patterns of module names.
#[derive(Debug, Default)]
pub struct Patterns {
    all: Vec<Regex>,
}

impl Patterns {
    /// `re:...` is a regular expression from the start of the name; anything else is a name, whole or a run of
    /// its parts between dots, in which `*` stands for anything.
    pub fn read(field: &str, list: &[Value]) -> Result<Self, ConfigError> {
        if list.len() > MOST_PATTERNS {
            let wanted = format!("is the number of its entries; more than {MOST_PATTERNS} are not read");
            return Err(ConfigError::wrong(field, &list.len().into(), wanted));
        }
        let mut patterns = Self::default();
        let mut names = Vec::new();
        for entry in list {
            let Value::String(text) = entry else {
                return Err(ConfigError::wrong(field, entry, "must be names or patterns of modules"));
            };
            match text.strip_prefix("re:") {
                Some(expression) => patterns.all.push(compiled(field, entry, &format!("^(?:{expression})"))?),
                None => names.push(regex::escape(text).replace(r"\*", ".*")),
            }
        }
        // Many names in one program are quicker than one program each.
        for some in names.chunks(64) {
            let field_value = Value::from(list.len());
            patterns.all.push(compiled(field, &field_value, &format!(r"(?:^|\.)(?:{})(?:\.|$)", some.join("|")))?);
        }
        Ok(patterns)
    }

    pub fn is_match(&self, module: &str) -> bool {
        PREFIXES.iter().any(|prefix| {
            let name = format!("{prefix}{module}");
            self.all.iter().any(|pattern| pattern.is_match(&name))
        })
    }

    /// True when one of the names of a matrix in a layer is chosen.
    pub fn choose(&self, layer: u32, names: &[&str]) -> bool {
        names.iter().any(|name| self.is_match(&format!("model.layers.{layer}.{name}")))
    }
}

fn compiled(field: &str, entry: &Value, expression: &str) -> Result<Regex, ConfigError> {
    let built = RegexBuilder::new(expression).size_limit(LARGEST_PATTERN).build();
    built.map_err(|_| ConfigError::wrong(field, entry, "is no regular expression that is understood"))
}
