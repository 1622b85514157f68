//! Names that people serve models under, and the words in them that say which model it is.

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

/// The words of a name that say which architecture it is.
pub(super) fn words(model: &str) -> Vec<String> {
    let last = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let mut words: Vec<String> =
        last.split(['-', '_', ' ']).filter(|w| !w.is_empty() && !NOISE.contains(w)).map(str::to_owned).collect();
    while words.len() > 1 && words.last().is_some_and(|w| SUFFIXES.contains(&w.as_str())) {
        words.pop();
    }
    words
}

/// Compared without dashes, since `Llama3.1-8B` and `Llama-3.1-8B` are both written.
pub(super) fn key(words: &[String]) -> String {
    words.concat()
}
