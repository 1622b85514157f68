//! Other engines than vLLM: what their pages say, by direct scrape and by Prometheus.

use poolwright::observe::snapshot::{Cumulative, read_page};
use poolwright::observe::{PoolObservation, PrometheusOptions, PrometheusSource, Quality, Source, dialect, exposition};
use poolwright::policy::{Engine, Pool, from_text};

use crate::observe_fake_prometheus::{FakePrometheus, target};
use crate::observe_limits::POLICY;
use crate::observe_support::{NOW, close, fixture, policy, pool};

const SGLANG: &str = "sglang-0.5-busy.prom";
const TENSORRT_LLM: &str = "trtllm-serve-1.3-busy.prom";

#[test]
fn a_page_of_sglang_counts_every_rank_once() {
    let page = read_page(&fixture(SGLANG), NOW);
    let [read] = &page.models[..] else { panic!("{page:?}") };
    assert!(read.refused.is_empty() && page.bad_lines == 0, "{page:?}");
    let s = &read.snapshot;
    assert_eq!((read.model.as_str(), s.ranks.len()), ("tiny", 2));
    assert_eq!((s.running, s.waiting, s.kv_usage), (Some(13.0), Some(3.0), Some(0.5)));
    assert_eq!((s.kv_capacity_tokens, s.completions), (Some(400_000.0), Some(100.0)));
    assert_eq!((s.prefix_hits, s.prefix_queries), (Some(5000.0), Some(20_000.0)));
    let of = |histogram: &Option<Cumulative>| histogram.as_ref().map(|h| (h.count(), h.sum));
    assert_eq!((of(&s.ttft), of(&s.itl)), (Some((90.0, 36.0)), Some((5900.0, 118.0))));
    assert_eq!((of(&s.input_tokens), of(&s.output_tokens)), (Some((100.0, 20_000.0)), Some((100.0, 6000.0))));
}

#[test]
fn a_page_of_tensorrt_llm_has_its_capacity_in_blocks() {
    let page = read_page(&fixture(TENSORRT_LLM), NOW);
    let [read] = &page.models[..] else { panic!("{page:?}") };
    let s = &read.snapshot;
    assert!(read.refused.is_empty() && page.bad_lines == 0, "{page:?}");
    assert_eq!((s.running, s.waiting, s.kv_usage), (Some(12.0), Some(4.0), Some(0.375)));
    assert_eq!((s.kv_capacity_tokens, s.completions), (Some(19_960.0 * 32.0), Some(80.0)));
    assert_eq!(s.ttft.as_ref().map(|h| (h.count(), h.sum)), Some((80.0, 16.0)));
    assert_eq!(s.itl.as_ref().map(|h| (h.count(), h.sum)), Some((80.0, 1.2)));
    // It prints neither lengths nor hits in tokens.
    assert!(s.input_tokens.is_none() && s.prefix_hits.is_none());
    // One half of the capacity is none.
    let half: String = fixture(TENSORRT_LLM)
        .lines()
        .filter(|l| !l.contains("tokens_per_block"))
        .fold(String::new(), |page, line| page + line + "\n");
    assert_eq!(read_page(&half, NOW).models[0].snapshot.kv_capacity_tokens, None);
}

/// Counters of these engines appear with the first request.
#[test]
fn a_server_that_did_nothing_yet_has_finished_nothing() {
    let gauges = |running: u32| {
        format!("sglang:num_running_reqs{{model_name=\"m\"}} {running}\nsglang:num_queue_reqs{{model_name=\"m\"}} 0\n")
    };
    let finished = |page: &str| read_page(page, NOW).models[0].snapshot.completions;
    assert_eq!(finished(&gauges(0)), Some(0.0));
    assert_eq!(finished(&gauges(1)), None, "whatever it is called, something is being done");
    let first = "sglang:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"+Inf\"} 3\n";
    assert_eq!(finished(&(gauges(0) + first)), None, "requests were served and are not counted");
}

fn of(engine: Engine) -> Pool {
    Pool { engine, ..pool("a") }
}

/// The fixture as a Prometheus has it after 90 s in which every counter grew by a tenth per scrape.
async fn by_prometheus(name: &str, engine: Engine) -> PoolObservation {
    let fake = FakePrometheus::start().await;
    let text = fixture(name);
    for sample in exposition::parse(&text).samples {
        let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(n, v)| (*n, v.as_ref())).collect();
        let counts = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| sample.name.ends_with(end));
        let at = |i: i32| {
            let share = if counts { 1.0 - 0.1 * f64::from(i) } else { 1.0 };
            (NOW - 5.0 - 15.0 * f64::from(i), sample.value * share)
        };
        fake.add(sample.name, target("a-1", &labels), &(0..6).rev().map(at).collect::<Vec<_>>());
    }
    fake.add("up", target("a-1", &[]), &[(NOW - 5.0, 1.0)]);
    let url = format!("{}/prom", fake.server.uri());
    let mut source = PrometheusSource::new(PrometheusOptions { url, ..PrometheusOptions::default() }).unwrap();
    let observation = source.observe(&policy(vec![of(engine)]), NOW).await;
    assert_eq!(observation.findings, Vec::new());
    observation.pools.into_iter().next().unwrap()
}

#[tokio::test]
async fn prometheus_says_the_same_of_both() {
    let a = by_prometheus(SGLANG, Engine::Sglang).await;
    assert_eq!((a.ready.value, a.ready.quality), (Some(1), Quality::Fresh));
    assert_eq!((a.running.value, a.waiting.value), (Some(13.0), Some(3.0)));
    assert_eq!((a.kv_usage.value, a.kv_capacity_tokens.value), (Some(0.5), Some(400_000.0)));
    // A tenth of 100 requests every 15 s.
    close(a.completion_rate.value, 10.0 / 15.0);
    close(a.prefix_hit_ratio.value, 0.25);
    assert_eq!(a.input_tokens.value.as_ref().and_then(poolwright::observe::Histogram::mean), Some(200.0));

    let a = by_prometheus(TENSORRT_LLM, Engine::TensorrtLlm).await;
    assert_eq!((a.ready.value, a.ready.quality), (Some(1), Quality::Fresh));
    assert_eq!((a.running.value, a.waiting.value), (Some(12.0), Some(4.0)));
    assert_eq!((a.kv_usage.value, a.kv_capacity_tokens.value), (Some(0.375), Some(638_720.0)));
    close(a.completion_rate.value, 8.0 / 15.0);
    close(a.ttft.value.as_ref().and_then(poolwright::observe::Histogram::mean), 0.2);
}

#[test]
fn a_policy_names_the_engine_and_gets_its_own_limits() {
    let with = |engine: &str| from_text("p.yaml", &POLICY.replace("engine: vllm", &format!("engine: {engine}")));
    for (name, engine, sequences, port) in [
        ("vllm", Engine::Vllm, 256, 8000),
        ("sglang", Engine::Sglang, 2048, 30000),
        ("tensorrt-llm", Engine::TensorrtLlm, 2048, 8000),
    ] {
        let pool = &with(name).unwrap().pools[0];
        assert_eq!((pool.engine, pool.limits.max_num_seqs), (engine, sequences));
        assert_eq!((dialect::of(engine).port, engine.family().as_str(), dialect::of(engine).name), (port, name, name));
    }
    let refused = with("tgi").unwrap_err().to_string();
    assert!(refused.contains("tgi"), "{refused}");
}
