//! Every page that a real vLLM printed is read completely, with exact values.

use poolwright::observe::exposition;
use poolwright::observe::snapshot::{Cumulative, ModelReading, read_page};

use crate::observe_support::fixture;

const PAGES: [&str; 6] = [
    "vllm-0.16.0-idle.prom",
    "vllm-0.16.0-busy.prom",
    "vllm-0.16.0-after-load.prom",
    "vllm-0.32.0-queued.prom",
    "vllm-0.32.0-after-load.prom",
    "vllm-0.32.0-behind-gateway.prom",
];

fn read(name: &str) -> ModelReading {
    let page = read_page(&fixture(name), 5.0);
    assert_eq!((page.bad_lines, page.models.len()), (0, 1), "{name}");
    page.models.into_iter().next().unwrap()
}

fn at_or_below(histogram: &Cumulative, bound: f64) -> f64 {
    histogram.counts[histogram.upper.iter().position(|u| *u == bound).unwrap()]
}

#[test]
fn no_line_of_a_real_page_is_bad() {
    for name in PAGES {
        let text = fixture(name);
        let page = exposition::parse(&text);
        let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).count();
        assert_eq!((page.samples.len(), page.bad_lines), (lines, 0), "{name}");
        assert!(lines > 300, "{name}");
    }
}

#[test]
fn every_field_is_found_on_every_real_page() {
    for name in PAGES {
        let reading = read(name);
        let s = &reading.snapshot;
        assert!(reading.refused.is_empty(), "{name}: {:?}", reading.refused);
        for field in [s.running, s.waiting, s.kv_usage, s.completions, s.prefix_hits, s.prefix_queries] {
            assert!(field.is_some(), "{name}");
        }
        assert_eq!(s.kv_capacity_tokens, Some(262_144.0), "{name}");
        assert!(s.started_seconds.is_some_and(|t| t > 1.79e9), "{name}");
        assert_eq!((s.at_seconds, s.ranks.iter().map(String::as_str).collect::<Vec<_>>()), (5.0, vec!["0"]), "{name}");
        let buckets: Vec<usize> =
            [&s.ttft, &s.itl, &s.input_tokens, &s.output_tokens].map(|h| h.as_ref().unwrap().upper.len()).to_vec();
        assert_eq!(buckets, vec![23, 20, 12, 12], "{name}");
        assert!([&s.ttft, &s.itl].iter().all(|h| *h.as_ref().unwrap().upper.last().unwrap() == f64::MAX), "{name}");
    }
}

#[test]
fn a_queued_server_says_so() {
    let ModelReading { model, snapshot: s, .. } = read("vllm-0.32.0-queued.prom");
    assert_eq!(model, "tiny");
    assert_eq!((s.running, s.waiting, s.in_flight()), (Some(20.0), Some(76.0), Some(96.0)));
    assert_eq!(s.kv_usage, Some(0.046_409_379_579_873_01));
    assert_eq!(s.completions, Some(170.0));
    assert_eq!((s.prefix_hits, s.prefix_queries), (Some(14_336.0), Some(53_760.0)));
    let ttft = s.ttft.unwrap();
    assert_eq!((ttft.count(), ttft.sum), (189.0, 84.922_050_476_074_22));
    assert_eq!((at_or_below(&ttft, 0.06), at_or_below(&ttft, 2.5), at_or_below(&ttft, f64::MAX)), (46.0, 185.0, 189.0));
    let itl = s.itl.unwrap();
    assert_eq!((itl.count(), itl.sum, at_or_below(&itl, 0.025)), (170.0, 2.999_397_619_714_250_7, 120.0));
    let (input, output) = (s.input_tokens.unwrap(), s.output_tokens.unwrap());
    assert_eq!((input.count(), input.sum, at_or_below(&input, 200.0)), (170.0, 43_520.0, 0.0));
    assert_eq!((output.count(), output.sum), (170.0, 10_880.0));
}

#[test]
fn an_older_server_says_the_same_in_its_words() {
    let s = read("vllm-0.16.0-busy.prom").snapshot;
    assert_eq!((s.running, s.waiting, s.completions), (Some(1.0), Some(0.0), Some(47.0)));
    assert_eq!(s.ttft.as_ref().map(Cumulative::count), Some(48.0));
    assert_eq!(s.itl.as_ref().map(|h| h.sum), Some(0.477_232_008_174_622_86));
    let idle = read("vllm-0.16.0-idle.prom").snapshot;
    assert_eq!((idle.running, idle.completions, idle.kv_usage), (Some(0.0), Some(0.0), Some(0.0)));
    assert_eq!(idle.ttft.as_ref().map(Cumulative::count), Some(0.0));
}

#[test]
fn older_names_are_understood_and_newer_ones_preferred() {
    let old = r#"
vllm:num_requests_running{model_name="m"} 1
vllm:num_requests_waiting{model_name="m"} 2
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:request_success{finished_reason="stop",model_name="m"} 3
vllm:request_success{finished_reason="length",model_name="m"} 4
vllm:gpu_prefix_cache_hits{model_name="m"} 5
vllm:gpu_prefix_cache_queries{model_name="m"} 10
vllm:time_per_output_token_seconds_bucket{le="0.1",model_name="m"} 7
vllm:time_per_output_token_seconds_bucket{le="+Inf",model_name="m"} 8
vllm:time_per_output_token_seconds_sum{model_name="m"} 1.5
vllm:time_per_output_token_seconds_count{model_name="m"} 8
"#;
    let s = read_page(old, 0.0).models.remove(0).snapshot;
    assert_eq!(
        (s.kv_usage, s.completions, s.prefix_hits, s.prefix_queries),
        (Some(0.25), Some(7.0), Some(5.0), Some(10.0))
    );
    assert_eq!(s.itl.map(|h| (h.count(), h.sum)), Some((8.0, 1.5)));

    let both = format!(
        "{old}vllm:kv_cache_usage_perc{{model_name=\"m\"}} 0.75\nvllm:request_success_total{{model_name=\"m\"}} 9\n"
    );
    let s = read_page(&both, 0.0).models.remove(0).snapshot;
    assert_eq!((s.kv_usage, s.completions), (Some(0.75), Some(9.0)));
}

#[test]
fn ranks_of_one_server_are_one_instance() {
    let page = r#"
vllm:num_requests_running{engine="0",model_name="m"} 3
vllm:num_requests_running{engine="1",model_name="m"} 5
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.6
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 10
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 20
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="100",kv_cache_size_tokens="None"} 1
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="100",kv_cache_size_tokens="2000"} 1
"#;
    let read = read_page(page, 0.0).models.remove(0).snapshot;
    assert_eq!((read.running, read.completions, read.ranks.len()), (Some(8.0), Some(30.0), 2));
    assert!((read.kv_usage.unwrap() - 0.4).abs() < 1e-12);
    assert_eq!(read.kv_capacity_tokens, Some(3600.0));
}

#[test]
fn what_no_counter_can_be_is_refused_and_the_rest_is_kept() {
    let page = r#"
vllm:num_requests_running{model_name="m"} 1
vllm:request_success_total{finished_reason="stop",model_name="m"} NaN
vllm:request_success_total{finished_reason="length",model_name="m"} 4
vllm:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 9
vllm:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 8
vllm:request_prompt_tokens_bucket{le="10",model_name="m"} -1
vllm:request_generation_tokens_bucket{le="ten",model_name="m"} 1
"#;
    let reading = read_page(page, 0.0).models.remove(0);
    assert_eq!(reading.refused.len(), 4, "{:?}", reading.refused);
    let s = reading.snapshot;
    assert_eq!(
        (s.running, s.completions, s.ttft, s.input_tokens, s.output_tokens),
        (Some(1.0), None, None, None, None)
    );
}

#[test]
fn a_page_of_something_else_has_no_model() {
    for text in ["", "<html><body>502 Bad Gateway</body></html>", "node_load1 0.5\n", "\u{0}\u{1}\u{fffd}{{{\"\\"] {
        assert!(read_page(text, 0.0).models.is_empty(), "{text}");
    }
}
