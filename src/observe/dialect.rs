//! Which metric of an engine carries which measure: tables, one per engine, newest names first.
//!
//! Both sources read the same table: the direct scrape looks names up while it reads a page, the Prometheus source
//! writes its queries from it. A new engine is a new table; nothing here computes.

mod sglang;
mod tensorrt_llm;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::policy::Engine;
pub use sglang::SGLANG;
pub use tensorrt_llm::TENSORRT_LLM;

/// What a series tells, independent of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Requests in execution.
    Running,
    /// Requests waiting.
    Waiting,
    /// KV-cache use, 0..=1.
    KvUsage,
    /// KV-cache capacity, tokens.
    KvCapacity,
    /// KV-cache capacity, blocks.
    KvBlocks,
    /// Tokens of one block of the KV cache.
    KvBlockTokens,
    /// Finished requests, whatever the reason.
    Completions,
    /// Prompt tokens found in the prefix cache.
    PrefixHits,
    /// Prompt tokens looked up in the prefix cache.
    PrefixQueries,
    /// Time to first token, seconds.
    Ttft,
    /// Mean time per output token of a request, seconds.
    Itl,
    /// Prompt length, tokens.
    InputTokens,
    /// Output length, tokens.
    OutputTokens,
}

impl Measure {
    /// Name for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running requests",
            Self::Waiting => "waiting requests",
            Self::KvUsage => "KV-cache usage",
            Self::KvCapacity => "KV-cache capacity",
            Self::KvBlocks => "KV-cache blocks",
            Self::KvBlockTokens => "tokens per KV-cache block",
            Self::Completions => "finished requests",
            Self::PrefixHits => "prefix cache hits",
            Self::PrefixQueries => "prefix cache queries",
            Self::Ttft => "time to first token",
            Self::Itl => "time per output token",
            Self::InputTokens => "prompt tokens",
            Self::OutputTokens => "output tokens",
        }
    }
}

/// How the value is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Added over the ranks of one instance.
    GaugeSum,
    /// Averaged over the ranks of one instance.
    GaugeMean,
    /// Added over the ranks and all other labels.
    Counter,
    /// `_bucket`, `_sum`, `_count`.
    Histogram,
    /// The value stands in labels; see [`Capacity`].
    Info,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    pub measure: Measure,
    pub kind: Kind,
    /// Metric names, the preferred one first; of a histogram the name without its suffix.
    pub names: &'static [&'static str],
}

/// Where the KV-cache capacity in tokens stands.
#[derive(Clone, Copy, Debug)]
pub enum Capacity {
    /// In labels of an info series.
    Labels {
        /// The capacity itself, where the engine says it.
        tokens: &'static str,
        /// Otherwise the product of these two.
        blocks: &'static str,
        block_tokens: &'static str,
    },
    /// It is the value of [`Measure::KvCapacity`].
    Value,
    /// It is [`Measure::KvBlocks`] times [`Measure::KvBlockTokens`].
    Product,
}

impl Capacity {
    /// Capacity in tokens from the labels of one info series, `None` when they do not say.
    pub fn tokens<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Option<f64> {
        let Self::Labels { tokens, blocks, block_tokens } = self else { return None };
        let number = |name: &str| label(name)?.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
        number(tokens).or_else(|| Some(number(blocks)? * number(block_tokens)?))
    }
}

/// The metrics of one engine.
#[derive(Debug)]
pub struct Dialect {
    /// Name for messages and for the memory of a source.
    pub name: &'static str,
    /// What all its metrics begin with.
    pub prefix: &'static str,
    /// Label that names the served model.
    pub model_label: &'static str,
    /// Label that names a data-parallel rank inside one instance.
    pub rank_label: &'static str,
    /// Labels besides the rank that split one instance's counter, or that not all of its metrics have.
    pub split_labels: &'static [&'static str],
    /// Labels of gauges that several processes of one rank print, each of them the same or a part: the greatest
    /// counts.
    pub copy_labels: &'static [&'static str],
    /// Usual port and path of the metrics page.
    pub port: u16,
    pub page: &'static str,
    pub capacity: Capacity,
    pub series: &'static [Series],
}

impl Dialect {
    /// The table's line for a measure.
    pub fn series(&self, measure: Measure) -> Option<&'static Series> {
        self.series.iter().find(|s| s.measure == measure)
    }
}

/// vLLM: the names of the V1 engine, then those of older versions.
pub static VLLM: Dialect = Dialect {
    name: "vllm",
    prefix: "vllm:",
    model_label: "model_name",
    rank_label: "engine",
    split_labels: &["finished_reason"],
    copy_labels: &[],
    port: 8000,
    page: "/metrics",
    capacity: Capacity::Labels { tokens: "kv_cache_size_tokens", blocks: "num_gpu_blocks", block_tokens: "block_size" },
    series: &[
        Series { measure: Measure::Running, kind: Kind::GaugeSum, names: &["vllm:num_requests_running"] },
        Series { measure: Measure::Waiting, kind: Kind::GaugeSum, names: &["vllm:num_requests_waiting"] },
        Series {
            measure: Measure::KvUsage,
            kind: Kind::GaugeMean,
            names: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        },
        Series { measure: Measure::KvCapacity, kind: Kind::Info, names: &["vllm:cache_config_info"] },
        Series {
            measure: Measure::Completions,
            kind: Kind::Counter,
            names: &["vllm:request_success_total", "vllm:request_success"],
        },
        Series {
            measure: Measure::PrefixHits,
            kind: Kind::Counter,
            names: &[
                "vllm:prefix_cache_hits_total",
                "vllm:prefix_cache_hits",
                "vllm:gpu_prefix_cache_hits_total",
                "vllm:gpu_prefix_cache_hits",
            ],
        },
        Series {
            measure: Measure::PrefixQueries,
            kind: Kind::Counter,
            names: &[
                "vllm:prefix_cache_queries_total",
                "vllm:prefix_cache_queries",
                "vllm:gpu_prefix_cache_queries_total",
                "vllm:gpu_prefix_cache_queries",
            ],
        },
        Series { measure: Measure::Ttft, kind: Kind::Histogram, names: &["vllm:time_to_first_token_seconds"] },
        Series {
            measure: Measure::Itl,
            kind: Kind::Histogram,
            // Only the first is a mean per request; the others are gaps between single tokens, the best there is
            // from a server that does not print it.
            names: &[
                "vllm:request_time_per_output_token_seconds",
                "vllm:inter_token_latency_seconds",
                "vllm:time_per_output_token_seconds",
            ],
        },
        Series { measure: Measure::InputTokens, kind: Kind::Histogram, names: &["vllm:request_prompt_tokens"] },
        Series { measure: Measure::OutputTokens, kind: Kind::Histogram, names: &["vllm:request_generation_tokens"] },
    ],
};

/// Every dialect that is read.
pub static DIALECTS: &[&Dialect] = &[&VLLM, &SGLANG, &TENSORRT_LLM];

/// The dialect of an engine.
pub fn of(engine: Engine) -> &'static Dialect {
    match engine {
        Engine::Vllm => &VLLM,
        Engine::Sglang => &SGLANG,
        Engine::TensorrtLlm => &TENSORRT_LLM,
    }
}

/// Start time of the process (Unix seconds), printed by the client libraries of all engines that have one process.
pub const PROCESS_START: &str = "process_start_time_seconds";

/// Part of a histogram, or the whole of any other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Bucket,
    Sum,
    Count,
}

/// What a metric name means.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub dialect: &'static Dialect,
    pub series: &'static Series,
    /// Place of the name in the list of preferred names.
    pub preference: usize,
    pub part: Part,
}

static SLOTS: LazyLock<HashMap<String, Slot>> = LazyLock::new(|| {
    let mut slots = HashMap::new();
    for dialect in DIALECTS {
        for series in dialect.series {
            for (preference, name) in series.names.iter().enumerate() {
                let slot = |part| Slot { dialect, series, preference, part };
                if series.kind == Kind::Histogram {
                    slots.insert(format!("{name}_bucket"), slot(Part::Bucket));
                    slots.insert(format!("{name}_sum"), slot(Part::Sum));
                    slots.insert(format!("{name}_count"), slot(Part::Count));
                } else {
                    slots.insert((*name).to_owned(), slot(Part::Whole));
                }
            }
        }
    }
    slots
});

/// What a metric name means in any dialect; `None` for a metric that is not read.
pub fn slot(name: &str) -> Option<Slot> {
    SLOTS.get(name).copied()
}
