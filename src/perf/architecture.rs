//! What a model is made of, as far as its speed and memory depend on it: parameters read and computed
//! per token, layers, KV heads. A catalogue of open models built from their published dimensions, found
//! by the names people serve them under. It knows no hardware.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    #[default]
    Bf16,
    Fp8,
    Int4,
}

impl NumberFormat {
    /// Bytes of one number. Four-bit formats carry a 16-bit scale and a zero point per 128 numbers.
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
            Self::Int4 => 0.5 + 2.5 / 128.0,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4",
        }
    }
}

/// Figures of one transformer with grouped-query attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Architecture {
    pub name: Cow<'static, str>,
    /// All parameters.
    pub parameters: f64,
    /// Parameters used per token; equal to `parameters` in a dense model.
    pub active_parameters: f64,
    /// Parameters of the input embedding that are looked up, not read and multiplied, per token; 0 when
    /// the output layer shares them.
    pub embedding_parameters: f64,
    pub layers: u32,
    pub hidden_size: u32,
    pub kv_heads: u32,
    /// Elements of one attention head.
    pub head_size: u32,
}

impl Architecture {
    /// KV-cache bytes of one token over all accelerators: a key and a value per layer and KV head.
    pub fn kv_bytes_per_token(&self, format: NumberFormat) -> f64 {
        2.0 * f64::from(self.layers) * f64::from(self.kv_heads) * f64::from(self.head_size) * format.bytes()
    }

    /// Part of [`Self::kv_bytes_per_token`] that each of `accelerators` holds: heads are split until each
    /// accelerator has one, then copied.
    pub fn kv_bytes_per_token_each(&self, format: NumberFormat, accelerators: u32) -> f64 {
        self.kv_bytes_per_token(format) / f64::from(accelerators.min(self.kv_heads).max(1))
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self, format: NumberFormat) -> f64 {
        self.parameters * format.bytes()
    }

    /// Parameters that take part in the arithmetic of one token.
    pub fn computed_parameters(&self) -> f64 {
        (self.active_parameters - self.embedding_parameters).max(0.0)
    }

    /// True when every figure that the estimates need is finite and positive.
    pub fn is_usable(&self) -> bool {
        let counts = [self.layers, self.hidden_size, self.kv_heads, self.head_size];
        counts.iter().all(|c| *c > 0)
            && [self.parameters, self.active_parameters].iter().all(|p| p.is_finite() && *p > 0.0)
            && self.active_parameters <= self.parameters
            && self.embedding_parameters >= 0.0
            && self.computed_parameters() > 0.0
    }
}

/// Published dimensions of a model (fields of its `config.json`).
struct Dimensions {
    name: &'static str,
    layers: u32,
    hidden_size: u32,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    /// Width of the gated feed-forward block, of one expert in a mixture.
    intermediate_size: u32,
    vocabulary: u32,
    /// The output layer shares the input embedding.
    tied: bool,
    /// (experts per layer, experts per token); (1, 1) is dense.
    experts: (u32, u32),
}

/// Columns: name, layers, hidden, heads, KV heads, head size, intermediate, vocabulary, tied, experts.
/// Source: the models' published `config.json` files.
#[rustfmt::skip]
const CATALOGUE: &[Dimensions] = &[
    dense("llama-2-7b",         32,  4096,  32, 32, 128, 11008,  32000, false),
    dense("llama-2-13b",        40,  5120,  40, 40, 128, 13824,  32000, false),
    dense("llama-2-70b",        80,  8192,  64,  8, 128, 28672,  32000, false),
    dense("llama-3.1-8b",       32,  4096,  32,  8, 128, 14336, 128256, false),
    dense("llama-3.1-70b",      80,  8192,  64,  8, 128, 28672, 128256, false),
    dense("llama-3.1-405b",    126, 16384, 128,  8, 128, 53248, 128256, false),
    dense("llama-3.2-1b",       16,  2048,  32,  8,  64,  8192, 128256, true),
    dense("llama-3.2-3b",       28,  3072,  24,  8, 128,  8192, 128256, true),
    dense("qwen2.5-0.5b",       24,   896,  14,  2,  64,  4864, 151936, true),
    dense("qwen2.5-1.5b",       28,  1536,  12,  2, 128,  8960, 151936, true),
    dense("qwen2.5-3b",         36,  2048,  16,  2, 128, 11008, 151936, true),
    dense("qwen2.5-7b",         28,  3584,  28,  4, 128, 18944, 152064, false),
    dense("qwen2.5-14b",        48,  5120,  40,  8, 128, 13824, 152064, false),
    dense("qwen2.5-32b",        64,  5120,  40,  8, 128, 27648, 152064, false),
    dense("qwen2.5-72b",        80,  8192,  64,  8, 128, 29568, 152064, false),
    dense("qwen3-0.6b",         28,  1024,  16,  8, 128,  3072, 151936, true),
    dense("qwen3-1.7b",         28,  2048,  16,  8, 128,  6144, 151936, true),
    dense("qwen3-4b",           36,  2560,  32,  8, 128,  9728, 151936, true),
    dense("qwen3-8b",           36,  4096,  32,  8, 128, 12288, 151936, false),
    dense("qwen3-14b",          40,  5120,  40,  8, 128, 17408, 151936, false),
    dense("qwen3-32b",          64,  5120,  64,  8, 128, 25600, 151936, false),
    dense("mistral-7b",         32,  4096,  32,  8, 128, 14336,  32768, false),
    dense("mistral-nemo-12b",   40,  5120,  32,  8, 128, 14336, 131072, false),
    dense("mistral-small-24b",  40,  5120,  32,  8, 128, 32768, 131072, false),
    dense("mistral-large-123b", 88, 12288,  96,  8, 128, 28672,  32768, false),
    dense("gemma-7b",           28,  3072,  16, 16, 256, 24576, 256000, true),
    dense("gemma-2-9b",         42,  3584,  16,  8, 256, 14336, 256000, true),
    dense("gemma-2-27b",        46,  4608,  32, 16, 128, 36864, 256000, true),
    dense("phi-4",              40,  5120,  40, 10, 128, 17920, 100352, false),
    mixture("mixtral-8x7b",     32,  4096,  32,  8, 128, 14336,  32000, (8, 2)),
    mixture("mixtral-8x22b",    56,  6144,  48,  8, 128, 16384,  32768, (8, 2)),
    mixture("qwen3-30b-a3b",    48,  2048,  32,  4, 128,   768, 151936, (128, 8)),
    mixture("qwen3-235b-a22b",  94,  4096,  64,  4, 128,  1536, 151936, (128, 8)),
];

/// Other names of the same dimensions.
const ALIASES: &[(&str, &str)] = &[
    ("llama-3-8b", "llama-3.1-8b"),
    ("llama-3-70b", "llama-3.1-70b"),
    ("llama-3.3-70b", "llama-3.1-70b"),
    ("llama-70b", "llama-3.1-70b"),
    ("llama-8b", "llama-3.1-8b"),
    ("qwq-32b", "qwen2.5-32b"),
    ("deepseek-r1-distill-llama-8b", "llama-3.1-8b"),
    ("deepseek-r1-distill-llama-70b", "llama-3.1-70b"),
    ("deepseek-r1-distill-qwen-1.5b", "qwen2.5-1.5b"),
    ("deepseek-r1-distill-qwen-7b", "qwen2.5-7b"),
    ("deepseek-r1-distill-qwen-14b", "qwen2.5-14b"),
    ("deepseek-r1-distill-qwen-32b", "qwen2.5-32b"),
    ("mistral-nemo", "mistral-nemo-12b"),
    ("mistral-large", "mistral-large-123b"),
    ("mistral-small-3.1-24b", "mistral-small-24b"),
    ("mistral-small-3.2-24b", "mistral-small-24b"),
];

/// Ends of a model name that say how it was tuned or stored, not how it is built.
const SUFFIXES: &[&str] = &[
    "instruct",
    "chat",
    "it",
    "hf",
    "base",
    "preview",
    "reasoning",
    "turbo",
    "fp8",
    "fp8dynamic",
    "dynamic",
    "bf16",
    "awq",
    "gptq",
    "int4",
    "int8",
    "nvfp4",
    "fp4",
    "bnb",
    "4bit",
    "8bit",
    "w4a16",
    "w8a8",
    "w8a16",
    "fp8kv",
    "kv",
    "quantized",
    "quantized.w4a16",
    "quantized.w8a8",
    "v0.1",
    "v0.2",
    "v0.3",
    "2407",
    "2409",
    "2411",
    "2501",
    "2503",
    "2506",
    "2507",
    "2512",
    "thinking",
];

/// Words inside a name that decide nothing.
const NOISE: &[&str] = &["meta", "coder", "math"];

#[allow(clippy::too_many_arguments)] // a table, one call per line
const fn dense(
    name: &'static str,
    layers: u32,
    hidden_size: u32,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    intermediate_size: u32,
    vocabulary: u32,
    tied: bool,
) -> Dimensions {
    Dimensions {
        name,
        layers,
        hidden_size,
        heads,
        kv_heads,
        head_size,
        intermediate_size,
        vocabulary,
        tied,
        experts: (1, 1),
    }
}

#[allow(clippy::too_many_arguments)] // a table, one call per line
const fn mixture(
    name: &'static str,
    layers: u32,
    hidden_size: u32,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    intermediate_size: u32,
    vocabulary: u32,
    experts: (u32, u32),
) -> Dimensions {
    Dimensions {
        experts,
        ..dense(name, layers, hidden_size, heads, kv_heads, head_size, intermediate_size, vocabulary, false)
    }
}

impl Dimensions {
    /// Counts the parameters: query, key, value and output projections, three feed-forward matrices per
    /// expert, the router, embeddings. Norms and biases are below 0.1 % and left out.
    fn architecture(&self) -> Architecture {
        let [layers, hidden, heads, kv_heads, head, width] =
            [self.layers, self.hidden_size, self.heads, self.kv_heads, self.head_size, self.intermediate_size]
                .map(f64::from);
        let (experts, per_token) = (f64::from(self.experts.0), f64::from(self.experts.1));
        let attention = hidden * head * (2.0 * heads + 2.0 * kv_heads);
        let expert = 3.0 * hidden * width;
        let router = if experts > 1.0 { hidden * experts } else { 0.0 };
        let embedding = f64::from(self.vocabulary) * hidden;
        let (outside, looked_up) = if self.tied { (embedding, 0.0) } else { (2.0 * embedding, embedding) };
        Architecture {
            name: Cow::Borrowed(self.name),
            parameters: outside + layers * (attention + router + experts * expert),
            active_parameters: outside + layers * (attention + router + per_token * expert),
            embedding_parameters: looked_up,
            layers: self.layers,
            hidden_size: self.hidden_size,
            kv_heads: self.kv_heads,
            head_size: self.head_size,
        }
    }
}

/// The architecture of a model by any usual name: the organisation, `-Instruct`, `-FP8`, version dates
/// and the like do not matter (`meta-llama/Llama-3.1-70B-Instruct` is `llama-3.1-70b`).
pub fn architecture(model: &str) -> Option<Architecture> {
    let words = words(model);
    let same = |name: &str| key(&words) == key(&self::words(name));
    let name = ALIASES.iter().find(|(alias, _)| same(alias)).map(|(_, name)| *name);
    CATALOGUE.iter().find(|d| name.map_or_else(|| same(d.name), |n| n == d.name)).map(Dimensions::architecture)
}

/// Names of the built-in architectures, in the order of the catalogue.
pub fn known_architectures() -> Vec<&'static str> {
    CATALOGUE.iter().map(|d| d.name).collect()
}

/// The words of a name that say which architecture it is.
fn words(model: &str) -> Vec<String> {
    let last = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let mut words: Vec<String> =
        last.split(['-', '_', ' ']).filter(|w| !w.is_empty() && !NOISE.contains(w)).map(str::to_owned).collect();
    while words.len() > 1 && words.last().is_some_and(|w| SUFFIXES.contains(&w.as_str())) {
        words.pop();
    }
    words
}

/// Compared without dashes, since `Llama3.1-8B` and `Llama-3.1-8B` are both written.
fn key(words: &[String]) -> String {
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn billions(model: &str) -> (f64, f64) {
        let a = architecture(model).unwrap_or_else(|| panic!("{model} must be known"));
        assert!(a.is_usable(), "{model}");
        (a.parameters / 1e9, a.active_parameters / 1e9)
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (model, total, active) in [
            ("llama-3.1-8b", 8.03, 8.03),
            ("llama-3.1-70b", 70.55, 70.55),
            ("llama-3.1-405b", 405.85, 405.85),
            ("llama-3.2-1b", 1.236, 1.236),
            ("llama-3.2-3b", 3.21, 3.21),
            ("qwen2.5-7b", 7.62, 7.62),
            ("qwen2.5-14b", 14.77, 14.77),
            ("qwen2.5-32b", 32.76, 32.76),
            ("qwen2.5-72b", 72.71, 72.71),
            ("qwen3-0.6b", 0.596, 0.596),
            ("qwen3-4b", 4.02, 4.02),
            ("qwen3-8b", 8.19, 8.19),
            ("qwen3-14b", 14.77, 14.77),
            ("qwen3-32b", 32.76, 32.76),
            ("mistral-7b", 7.25, 7.25),
            ("mistral-nemo", 12.25, 12.25),
            ("mistral-small-24b", 23.57, 23.57),
            ("mistral-large", 122.6, 122.6),
            ("gemma-7b", 8.54, 8.54),
            ("gemma-2-9b", 9.24, 9.24),
            ("gemma-2-27b", 27.23, 27.23),
            ("phi-4", 14.66, 14.66),
            ("mixtral-8x7b", 46.7, 12.88),
            ("mixtral-8x22b", 140.6, 39.1),
            ("qwen3-30b-a3b", 30.53, 3.35),
            ("qwen3-235b-a22b", 235.1, 22.2),
        ] {
            let found = billions(model);
            assert!((found.0 / total - 1.0).abs() < 0.005, "{model}: {} instead of {total}", found.0);
            assert!((found.1 / active - 1.0).abs() < 0.01, "{model}: {} active instead of {active}", found.1);
        }
    }

    #[test]
    fn served_names_find_their_architecture() {
        for (served, name) in [
            ("meta-llama/Llama-3.1-70B-Instruct", "llama-3.1-70b"),
            ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
            ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
            ("neuralmagic/Meta-Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
            ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "llama-3.1-70b"),
            ("Qwen/Qwen2.5-14B-Instruct-AWQ", "qwen2.5-14b"),
            ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b"),
            ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
            ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b"),
            ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "qwen2.5-14b"),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
            ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
            ("google/gemma-2-9b-it", "gemma-2-9b"),
            ("microsoft/phi-4", "phi-4"),
            ("llama3.1_8b", "llama-3.1-8b"),
        ] {
            assert_eq!(architecture(served).map_or(String::new(), |a| a.name.into_owned()), name, "{served}");
        }
        for unknown in
            ["", "/", "deepseek-ai/DeepSeek-R1", "qwen-14b", "llama", "gpt-oss-120b", "instruct", "llama-3.1-71b"]
        {
            assert_eq!(architecture(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_catalogue_name_finds_itself() {
        for name in known_architectures() {
            assert_eq!(architecture(name).unwrap().name, name);
        }
    }

    #[test]
    fn kv_bytes_per_token() {
        let small = architecture("llama-3.1-8b").unwrap();
        let large = architecture("llama-3.1-70b").unwrap();
        assert_eq!(small.kv_bytes_per_token(NumberFormat::Bf16), 131_072.0);
        assert_eq!(large.kv_bytes_per_token(NumberFormat::Bf16), 327_680.0);
        assert_eq!(large.kv_bytes_per_token(NumberFormat::Fp8), 163_840.0);
        assert_eq!(large.kv_bytes_per_token_each(NumberFormat::Bf16, 4), 81_920.0);
        assert_eq!(large.kv_bytes_per_token_each(NumberFormat::Bf16, 16), 40_960.0);
    }
}
