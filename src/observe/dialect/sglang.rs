//! SGLang, started with `--enable-metrics`; lengths of requests also need `--collect-tokens-histogram`.

use super::{Capacity, Dialect, Kind, Measure, Series};

/// SGLang: the names of today, then older ones.
///
/// Schedulers print gauges, the front end prints counters and histograms, and the two do not have the same labels.
/// Every process of a tensor- or pipeline-parallel group may print the gauges of the whole group, and with request
/// priorities there is a series for each besides that for all.
pub static SGLANG: Dialect = Dialect {
    name: "sglang",
    prefix: "sglang:",
    model_label: "model_name",
    rank_label: "dp_rank",
    split_labels: &["engine_type", "is_streaming", "cache_source"],
    copy_labels: &["tp_rank", "pp_rank", "moe_ep_rank", "priority", "pid"],
    port: 30000,
    page: "/metrics",
    capacity: Capacity::Value,
    series: &[
        Series { measure: Measure::Running, kind: Kind::GaugeSum, names: &["sglang:num_running_reqs"] },
        Series { measure: Measure::Waiting, kind: Kind::GaugeSum, names: &["sglang:num_queue_reqs"] },
        Series { measure: Measure::KvUsage, kind: Kind::GaugeMean, names: &["sglang:token_usage"] },
        Series { measure: Measure::KvCapacity, kind: Kind::GaugeSum, names: &["sglang:max_total_num_tokens"] },
        Series { measure: Measure::Completions, kind: Kind::Counter, names: &["sglang:num_requests_total"] },
        Series { measure: Measure::PrefixHits, kind: Kind::Counter, names: &["sglang:cached_tokens_total"] },
        Series { measure: Measure::PrefixQueries, kind: Kind::Counter, names: &["sglang:prompt_tokens_total"] },
        Series { measure: Measure::Ttft, kind: Kind::Histogram, names: &["sglang:time_to_first_token_seconds"] },
        Series {
            measure: Measure::Itl,
            kind: Kind::Histogram,
            // Older versions print the mean of a request, newer ones only the gaps between single tokens.
            names: &["sglang:time_per_output_token_seconds", "sglang:inter_token_latency_seconds"],
        },
        Series { measure: Measure::InputTokens, kind: Kind::Histogram, names: &["sglang:prompt_tokens_histogram"] },
        Series {
            measure: Measure::OutputTokens,
            kind: Kind::Histogram,
            names: &["sglang:generation_tokens_histogram"],
        },
    ],
};
