//! The built-in catalogue of open models, after the dimensions in their published `config.json` files.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::Architecture;
use super::attention::SparseIndex;
use super::dimensions::{Attention, Dense, Dimensions, ExpertLayers};
use super::format::{NumberFormat, Parts, Stored};
use super::names::{ALIASES, key, stored_format_of, words};

/// The architecture of a model by any usual name: the organisation, `-Instruct`, `-FP8`, version dates
/// and the like do not matter (`meta-llama/Llama-3.1-70B-Instruct` is `llama-3.1-70b`). Stored as the name
/// says, or else as its publisher stores it.
pub fn architecture(model: &str) -> Option<Architecture> {
    let words = words(model);
    let same = |name: &str| key(&words) == key(&super::names::words(name));
    let name = ALIASES.iter().find(|(alias, _)| same(alias)).map(|(_, name)| *name);
    let entry = CATALOGUE.iter().find(|e| name.map_or_else(|| same(e.name), |n| n == e.name))?;
    let built = entry.architecture();
    Some(match stored_format_of(model) {
        Some(format) => built.stored_as(format),
        None => built,
    })
}

/// Names of the built-in architectures, in the order of the catalogue.
pub fn known_architectures() -> Vec<&'static str> {
    CATALOGUE.iter().map(|e| e.name).collect()
}

static CATALOGUE: LazyLock<Vec<Entry>> =
    LazyLock::new(|| [dense_models(), mixtures(), latent_models(), hybrid_models()].into_iter().flatten().collect());

/// One model.
struct Entry {
    name: &'static str,
    dimensions: Dimensions,
    /// How its publisher stores it.
    formats: Parts<Stored>,
}

impl Entry {
    fn architecture(&self) -> Architecture {
        self.dimensions.architecture(Cow::Borrowed(self.name)).with_formats(self.formats)
    }

    fn stored(self, formats: Parts<Stored>) -> Self {
        Self { formats, ..self }
    }

    /// All but `full` layers see `window` tokens only.
    fn windowed(mut self, full: u32, window: u32) -> Self {
        if let [(layers, Attention::Grouped { kv_heads, head_size, gated, .. })] = self.dimensions.attention[..] {
            let of = |window| Attention::Grouped { kv_heads, head_size, window, gated };
            self.dimensions.attention = vec![(layers - full, of(Some(window))), (full, of(None))];
        }
        self
    }

    /// The first or every other `layers` layers have a dense block of this width instead of experts.
    fn dense_layers(mut self, layers: u32, width: u32) -> Self {
        self.dimensions.dense = Some(Dense { layers, width, matrices: 3 });
        if let Some(experts) = &mut self.dimensions.experts {
            experts.layers -= layers;
        }
        self
    }

    /// An expert of this width that every token uses.
    fn shared(mut self, width: u64) -> Self {
        if let Some(experts) = &mut self.dimensions.experts {
            experts.shared_width = width;
        }
        self
    }
}

/// Columns: layers, hidden size, query heads, KV heads, head size, width of the feed-forward block,
/// vocabulary.
type Columns = [u32; 7];

fn dense(name: &'static str, columns: Columns, tied: bool) -> Entry {
    let [layers, hidden_size, query_heads, kv_heads, head_size, width, vocabulary] = columns;
    let attention = Attention::Grouped { kv_heads, head_size, window: None, gated: false };
    Entry {
        name,
        dimensions: Dimensions {
            hidden_size,
            query_heads,
            vocabulary,
            tied,
            attention: vec![(layers, attention)],
            dense: Some(Dense { layers, width, matrices: 3 }),
            experts: None,
        },
        formats: Parts::linear_layers(NumberFormat::Bf16),
    }
}

/// The width is that of one expert; `(experts of a layer, experts per token)`.
fn mixture(name: &'static str, columns: Columns, (experts, per_token): (u32, u32)) -> Entry {
    let entry = dense(name, columns, false);
    let [layers, .., width, _] = columns;
    let experts = Some(ExpertLayers { layers, experts, per_token, width, shared_width: 0 });
    Entry { dimensions: Dimensions { dense: None, experts, ..entry.dimensions }, ..entry }
}

/// 16-bit but for the routed experts.
fn experts_only(experts: impl Into<Stored>) -> Parts<Stored> {
    Parts { experts: experts.into(), ..Parts::linear_layers(NumberFormat::Bf16) }
}

#[rustfmt::skip]
fn dense_models() -> Vec<Entry> {
    vec![
        dense("llama-2-7b",         [32,  4096,  32, 32, 128, 11008,  32000], false),
        dense("llama-2-13b",        [40,  5120,  40, 40, 128, 13824,  32000], false),
        dense("llama-2-70b",        [80,  8192,  64,  8, 128, 28672,  32000], false),
        dense("llama-3.1-8b",       [32,  4096,  32,  8, 128, 14336, 128256], false),
        dense("llama-3.1-70b",      [80,  8192,  64,  8, 128, 28672, 128256], false),
        dense("llama-3.1-405b",    [126, 16384, 128,  8, 128, 53248, 128256], false),
        dense("llama-3.2-1b",       [16,  2048,  32,  8,  64,  8192, 128256], true),
        dense("llama-3.2-3b",       [28,  3072,  24,  8, 128,  8192, 128256], true),
        dense("qwen2.5-0.5b",       [24,   896,  14,  2,  64,  4864, 151936], true),
        dense("qwen2.5-1.5b",       [28,  1536,  12,  2, 128,  8960, 151936], true),
        dense("qwen2.5-3b",         [36,  2048,  16,  2, 128, 11008, 151936], true),
        dense("qwen2.5-7b",         [28,  3584,  28,  4, 128, 18944, 152064], false),
        dense("qwen2.5-14b",        [48,  5120,  40,  8, 128, 13824, 152064], false),
        dense("qwen2.5-32b",        [64,  5120,  40,  8, 128, 27648, 152064], false),
        dense("qwen2.5-72b",        [80,  8192,  64,  8, 128, 29568, 152064], false),
        dense("qwen3-0.6b",         [28,  1024,  16,  8, 128,  3072, 151936], true),
        dense("qwen3-1.7b",         [28,  2048,  16,  8, 128,  6144, 151936], true),
        dense("qwen3-4b",           [36,  2560,  32,  8, 128,  9728, 151936], true),
        dense("qwen3-8b",           [36,  4096,  32,  8, 128, 12288, 151936], false),
        dense("qwen3-14b",          [40,  5120,  40,  8, 128, 17408, 151936], false),
        dense("qwen3-32b",          [64,  5120,  64,  8, 128, 25600, 151936], false),
        dense("mistral-7b",         [32,  4096,  32,  8, 128, 14336,  32768], false),
        dense("mistral-nemo-12b",   [40,  5120,  32,  8, 128, 14336, 131072], false),
        dense("mistral-small-24b",  [40,  5120,  32,  8, 128, 32768, 131072], false),
        dense("mistral-large-123b", [88, 12288,  96,  8, 128, 28672,  32768], false),
        dense("gemma-7b",           [28,  3072,  16, 16, 256, 24576, 256000], true),
        dense("gemma-2-2b",         [26,  2304,   8,  4, 256,  9216, 256000], true).windowed(13, 4096),
        dense("gemma-2-9b",         [42,  3584,  16,  8, 256, 14336, 256000], true).windowed(21, 4096),
        dense("gemma-2-27b",        [46,  4608,  32, 16, 128, 36864, 256000], true).windowed(23, 4096),
        dense("gemma-3-1b",         [26,  1152,   4,  1, 256,  6912, 262144], true).windowed(4, 512),
        dense("gemma-3-4b",         [34,  2560,   8,  4, 256, 10240, 262208], true).windowed(5, 1024),
        dense("gemma-3-12b",        [48,  3840,  16,  8, 256, 15360, 262208], true).windowed(8, 1024),
        dense("gemma-3-27b",        [62,  5376,  32, 16, 128, 21504, 262208], true).windowed(10, 1024),
        dense("phi-4",              [40,  5120,  40, 10, 128, 17920, 100352], false),
        dense("phi-4-mini",         [32,  3072,  24,  8, 128,  8192, 200064], true),
        dense("glm-4-9b",           [40,  4096,  32,  2, 128, 13696, 151552], false),
        dense("glm-4-32b",          [61,  6144,  48,  2, 128, 23040, 151552], false),
        dense("yi-6b",              [32,  4096,  32,  4, 128, 11008,  64000], false),
        dense("yi-1.5-9b",          [48,  4096,  32,  4, 128, 11008,  64000], false),
        dense("yi-34b",             [60,  7168,  56,  8, 128, 20480,  64000], false),
        dense("internlm2.5-7b",     [32,  4096,  32,  8, 128, 14336,  92544], false),
        dense("internlm2.5-20b",    [48,  6144,  48,  8, 128, 16384,  92544], false),
        dense("olmo-2-7b",          [32,  4096,  32, 32, 128, 11008, 100352], false),
        dense("olmo-2-13b",         [40,  5120,  40, 40, 128, 13824, 100352], false),
        dense("olmo-2-32b",         [64,  5120,  40,  8, 128, 27648, 100352], false),
        dense("granite-3.1-8b",     [40,  4096,  32,  8, 128, 12800,  49155], true),
        dense("command-r-35b",      [40,  8192,  64, 64, 128, 22528, 256000], true),
        dense("command-r-plus-104b",[64, 12288,  96,  8, 128, 33792, 256000], true),
    ]
}

#[rustfmt::skip]
fn mixtures() -> Vec<Entry> {
    let fp8 = Parts::linear_layers(NumberFormat::Fp8);
    let mxfp4 = experts_only(NumberFormat::Mxfp4);
    vec![
        mixture("mixtral-8x7b",          [32, 4096, 32, 8, 128, 14336,  32000], (8, 2)),
        mixture("mixtral-8x22b",         [56, 6144, 48, 8, 128, 16384,  32768], (8, 2)),
        mixture("qwen2-57b-a14b",        [28, 3584, 28, 4, 128,  2560, 151936], (64, 8)).shared(20480),
        mixture("qwen3-30b-a3b",         [48, 2048, 32, 4, 128,   768, 151936], (128, 8)),
        mixture("qwen3-235b-a22b",       [94, 4096, 64, 4, 128,  1536, 151936], (128, 8)),
        mixture("qwen3-coder-480b-a35b", [62, 6144, 96, 8, 128,  2560, 151936], (160, 8)),
        mixture("gpt-oss-20b",           [24, 2880, 64, 8,  64,  2880, 201088], (32, 4)).windowed(12, 128).stored(mxfp4),
        mixture("gpt-oss-120b",          [36, 2880, 64, 8,  64,  2880, 201088], (128, 4)).windowed(18, 128).stored(mxfp4),
        mixture("glm-4.5-air",           [46, 4096, 96, 8, 128,  1408, 151552], (128, 8)).shared(1408).dense_layers(1, 10944),
        mixture("glm-4.5",               [92, 5120, 96, 8, 128,  1536, 151552], (160, 8)).shared(1536).dense_layers(3, 12288),
        mixture("minimax-m2",            [62, 3072, 48, 8, 128,  1536, 200064], (256, 8)).stored(fp8),
        mixture("llama-4-scout-17b-16e", [48, 5120, 40, 8, 128, 8192, 202048], (16, 1)).shared(8192).windowed(12, 8192),
        mixture("llama-4-maverick-17b-128e", [48, 5120, 40, 8, 128, 8192, 202048], (128, 1))
            .shared(8192).dense_layers(24, 16384).windowed(12, 8192),
    ]
}

/// Columns: layers, hidden size, query heads, width of an expert, vocabulary, experts, experts per token;
/// width of all shared experts, dense first layers, their width.
fn latent(name: &'static str, columns: [u32; 7], shared: u64, first: (u32, u32), attention: Attention) -> Entry {
    let [layers, hidden_size, query_heads, width, vocabulary, experts, per_token] = columns;
    let base = mixture(name, [layers, hidden_size, query_heads, 1, 1, width, vocabulary], (experts, per_token));
    let dimensions = Dimensions { attention: vec![(layers, attention)], ..base.dimensions };
    Entry { dimensions, ..base }.shared(shared).dense_layers(first.0, first.1)
}

#[rustfmt::skip]
fn latent_models() -> Vec<Entry> {
    let deepseek = |query_rank, index| Attention::Latent { query_rank, rank: 512, rope: 64, nope: 128, value: 128, index };
    let v3 = deepseek(Some(1536), None);
    let index = |heads| Some(SparseIndex { heads, size: 128, top_tokens: 2048 });
    let glm = Attention::Latent { query_rank: Some(2048), rank: 512, rope: 64, nope: 192, value: 256, index: index(32) };
    let fp8 = Parts::linear_layers(NumberFormat::Fp8);
    // Symmetric, a 16-bit scale per 32 numbers.
    let int4 = experts_only(Stored { format: NumberFormat::Int4, bytes: 0.5 + 2.0 / 32.0 });
    vec![
        latent("deepseek-v2-lite", [27, 2048,  16, 1408, 102400,  64, 6], 2 * 1408, (1, 10944), deepseek(None, None)),
        latent("deepseek-v2",      [60, 5120, 128, 1536, 102400, 160, 6], 2 * 1536, (1, 12288), v3),
        latent("deepseek-v3",      [61, 7168, 128, 2048, 129280, 256, 8], 2048, (3, 18432), v3).stored(fp8),
        latent("deepseek-v3.2",    [61, 7168, 128, 2048, 129280, 256, 8], 2048, (3, 18432), deepseek(Some(1536), index(64))).stored(fp8),
        latent("kimi-k2",          [61, 7168,  64, 2048, 163840, 384, 8], 2048, (1, 18432), v3).stored(fp8),
        latent("kimi-k2.5",        [61, 7168,  64, 2048, 163840, 384, 8], 2048, (1, 18432), v3).stored(int4),
        latent("glm-5",            [78, 6144,  64, 2048, 154880, 256, 8], 2048, (3, 12288), glm),
    ]
}

/// One layer in four attends to all tokens, the others keep a state.
fn hybrid(entry: Entry, value_heads: u32) -> Entry {
    let mut entry = entry;
    if let [(layers, Attention::Grouped { kv_heads, head_size, window, .. })] = entry.dimensions.attention[..] {
        let full = Attention::Grouped { kv_heads, head_size, window, gated: true };
        let delta = Attention::GatedDelta {
            key_heads: 16,
            value_heads,
            key_size: 128,
            value_size: 128,
            kernel: 4,
            state_number_bytes: 4.0,
        };
        entry.dimensions.attention = vec![(layers - layers / 4, delta), (layers / 4, full)];
    }
    entry
}

#[rustfmt::skip]
fn hybrid_models() -> Vec<Entry> {
    vec![
        hybrid(mixture("qwen3-next-80b-a3b", [48, 2048, 16, 2, 256,  512, 151936], (512, 10)).shared(512), 32),
        hybrid(mixture("qwen3.5-397b-a17b",  [60, 4096, 32, 2, 256, 1024, 248320], (512, 10)).shared(1024), 64),
    ]
}
