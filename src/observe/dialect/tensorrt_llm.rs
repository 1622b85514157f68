//! TensorRT-LLM's own server, `trtllm-serve`, with `return_perf_metrics: true` in its options.

use super::{Capacity, Dialect, Kind, Measure, Series};

/// TensorRT-LLM: its page is not at the usual path, where it prints JSON.
///
/// It prints no lengths of requests, so the policy's expected shape is used. It counts prefix-cache hits in blocks
/// that were found and blocks that were not, which are no hits and look-ups of tokens; they are not read. With a
/// cache in host memory the default KV-cache manager counts the host's blocks too.
pub static TENSORRT_LLM: Dialect = Dialect {
    name: "tensorrt-llm",
    prefix: "trtllm_",
    model_label: "model_name",
    // It has one process that prints metrics.
    rank_label: "dp_rank",
    split_labels: &["engine_type", "finished_reason"],
    copy_labels: &["pid"],
    port: 8000,
    page: "/prometheus/metrics",
    capacity: Capacity::Product,
    series: &[
        Series { measure: Measure::Running, kind: Kind::GaugeSum, names: &["trtllm_num_requests_running"] },
        Series { measure: Measure::Waiting, kind: Kind::GaugeSum, names: &["trtllm_num_requests_waiting"] },
        Series { measure: Measure::KvUsage, kind: Kind::GaugeMean, names: &["trtllm_kv_cache_utilization"] },
        Series { measure: Measure::KvBlocks, kind: Kind::GaugeSum, names: &["trtllm_kv_cache_max_blocks"] },
        Series { measure: Measure::KvBlockTokens, kind: Kind::GaugeMean, names: &["trtllm_kv_cache_tokens_per_block"] },
        Series { measure: Measure::Completions, kind: Kind::Counter, names: &["trtllm_request_success_total"] },
        Series { measure: Measure::Ttft, kind: Kind::Histogram, names: &["trtllm_time_to_first_token_seconds"] },
        Series { measure: Measure::Itl, kind: Kind::Histogram, names: &["trtllm_time_per_output_token_seconds"] },
    ],
};
