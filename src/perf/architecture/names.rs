//! Names that people serve models under, and the words in them that say which model it is.

use super::format::NumberFormat;

/// Other names of the same dimensions.
pub(super) const ALIASES: &[(&str, &str)] = &[
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
    ("qwen2-0.5b", "qwen2.5-0.5b"),
    ("qwen2-1.5b", "qwen2.5-1.5b"),
    ("qwen2-7b", "qwen2.5-7b"),
    ("qwen2-72b", "qwen2.5-72b"),
    ("qwen3-next", "qwen3-next-80b-a3b"),
    ("deepseek-r1-0528-qwen3-8b", "qwen3-8b"),
    ("deepseek-v2.5", "deepseek-v2"),
    ("deepseek-v2-lite-16b", "deepseek-v2-lite"),
    ("deepseek-v3.1", "deepseek-v3"),
    ("deepseek-v3.1-terminus", "deepseek-v3"),
    ("deepseek-r1", "deepseek-v3"),
    ("deepseek-v3.2-exp", "deepseek-v3.2"),
    ("deepseek-v3.2-speciale", "deepseek-v3.2"),
    ("glm-4.6", "glm-4.5"),
    ("minimax-m2.1", "minimax-m2"),
    ("minimax-m2.5", "minimax-m2"),
    ("llama-4-scout", "llama-4-scout-17b-16e"),
    ("llama-4-maverick", "llama-4-maverick-17b-128e"),
    ("magistral-small", "mistral-small-24b"),
    ("devstral-small", "mistral-small-24b"),
    ("yi-9b", "yi-1.5-9b"),
    ("yi-1.5-34b", "yi-34b"),
    ("yi-1.5-6b", "yi-6b"),
    ("granite-3.2-8b", "granite-3.1-8b"),
    ("granite-3.3-8b", "granite-3.1-8b"),
    ("phi-4-mini-3.8b", "phi-4-mini"),
    ("olmo-2-1124-7b", "olmo-2-7b"),
    ("olmo-2-1124-13b", "olmo-2-13b"),
    ("olmo-2-0325-32b", "olmo-2-32b"),
    ("c4ai-command-r-v01", "command-r-35b"),
    ("c4ai-command-r-plus", "command-r-plus-104b"),
    ("command-r-plus", "command-r-plus-104b"),
];

/// Ends of a model name that say how it was tuned.
const TUNED: &[&str] = &[
    "instruct",
    "chat",
    "it",
    "hf",
    "base",
    "preview",
    "reasoning",
    "turbo",
    "dynamic",
    "bnb",
    "quantized",
    "kv",
    "v0.1",
    "v0.2",
    "v0.3",
    "thinking",
    "autoround",
    "eagle3",
];

/// Ends that say how it is stored.
const STORED: &[(&str, NumberFormat)] = &[
    ("bf16", NumberFormat::Bf16),
    ("fp16", NumberFormat::Bf16),
    ("fp8", NumberFormat::Fp8),
    ("fp8dynamic", NumberFormat::Fp8),
    ("fp8kv", NumberFormat::Fp8),
    ("w8a8", NumberFormat::Int8),
    ("quantized.w8a8", NumberFormat::Int8),
    ("w8a16", NumberFormat::Int8),
    ("int8", NumberFormat::Int8),
    ("8bit", NumberFormat::Int8),
    ("awq", NumberFormat::Int4),
    ("gptq", NumberFormat::Int4),
    ("int4", NumberFormat::Int4),
    ("4bit", NumberFormat::Int4),
    ("w4a16", NumberFormat::Int4),
    ("quantized.w4a16", NumberFormat::Int4),
    ("nvfp4", NumberFormat::Nvfp4),
    ("fp4", NumberFormat::Nvfp4),
    ("mxfp4", NumberFormat::Mxfp4),
];

/// Names whose end says more than how the model was tuned: this one is stored like the other.
const WHOLE: &[(&str, &str)] = &[("kimi-k2-thinking", "kimi-k2.5")];

/// Words inside a name that decide nothing.
const NOISE: &[&str] = &["meta", "coder", "math"];

/// The words of a name that say which architecture it is.
pub(super) fn words(model: &str) -> Vec<String> {
    split(model).0
}

/// How a checkpoint is stored, as far as its name says: `nvidia/Llama-3.1-8B-Instruct-FP8` is `fp8`.
pub fn stored_format_of(model: &str) -> Option<NumberFormat> {
    split(model).1
}

/// The words that name the model, and the format among those after them. `GPTQ-Int8` is what its last word
/// says.
fn split(model: &str) -> (Vec<String>, Option<NumberFormat>) {
    let last = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = WHOLE.iter().find(|(whole, _)| *whole == last).map_or(last.as_str(), |(_, other)| other);
    let mut words: Vec<String> =
        name.split(['-', '_', ' ']).filter(|w| !w.is_empty() && !NOISE.contains(w)).map(str::to_owned).collect();
    let mut format = None;
    while let [.., before, word] = &words[..] {
        let of = |word: &str| STORED.iter().find(|(name, _)| *name == word).map(|(_, format)| *format);
        // The second version of a stored form, not of the model.
        let is_version = word == "v2" && of(before).is_some();
        let found = of(word);
        if found.is_none() && !is_version && !TUNED.contains(&word.as_str()) && !is_date(word) {
            break;
        }
        format = format.or(found);
        words.pop();
    }
    (words, format)
}

/// `2507`, `0528`: year and month, or month and day.
fn is_date(word: &str) -> bool {
    word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit())
}

/// Compared without dashes, since `Llama3.1-8B` and `Llama-3.1-8B` are both written.
pub(super) fn key(words: &[String]) -> String {
    words.concat()
}
