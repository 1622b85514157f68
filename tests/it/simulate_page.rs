use std::collections::{BTreeMap, BTreeSet};

use poolwright::simulate::FleetOptions;
use regex::Regex;

use crate::simulate_policy::{FAST, conversation, policy};

/// A page of vLLM 0.32.0, run for this project.
const REAL: &str = include_str!("../fixtures/engine-metrics/vllm-0.32.0-after-load.prom");

/// One series as far as it does not depend on the model and its figures: name, label names, `le`.
type Key = (String, Vec<String>, Option<String>);

fn series(page: &str) -> Vec<(Key, f64)> {
    let label = Regex::new(r#"([a-z_A-Z]+)="((?:[^"\\]|\\.)*)""#).unwrap();
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels: BTreeMap<_, _> = label.captures_iter(labels).map(|c| (c[1].to_owned(), c[2].to_owned())).collect();
        let le = labels.get("le").cloned();
        ((name.to_owned(), labels.into_keys().collect(), le), value.parse().unwrap())
    };
    page.lines().filter(|l| !l.starts_with('#')).map(parse).collect()
}

/// The simulated page after ten minutes of load.
fn simulated() -> String {
    let policy = policy();
    let options = FleetOptions { start_unix_seconds: 1.7e9, ..FleetOptions::default() };
    let mut fleet = poolwright::simulate::Fleet::new(&policy, vec![conversation(&policy, 1.0, 1)], options);
    fleet.advance(600.0);
    let replica = fleet.replicas().into_iter().find(|r| r.pool == FAST).unwrap();
    fleet.metrics_page(replica.id).unwrap()
}

#[test]
fn names_labels_and_buckets_are_those_of_the_real_server() {
    let keys = |page: &str| series(page).into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
    let (real, ours) = (keys(REAL), keys(&simulated()));
    assert_eq!(real.difference(&ours).collect::<Vec<_>>(), Vec::<&Key>::new(), "missing");
    assert_eq!(ours.difference(&real).collect::<Vec<_>>(), Vec::<&Key>::new(), "invented");
    assert_eq!(series(REAL).len(), series(&simulated()).len(), "as many series");
}

#[test]
fn help_and_type_lines_are_those_of_the_real_server() {
    let metadata = |page: &str| page.lines().filter(|l| l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(metadata(REAL), metadata(&simulated()));
}

#[test]
fn the_figures_agree_with_each_other() {
    let page = simulated();
    let values: BTreeMap<Key, f64> = series(&page).into_iter().collect();
    let value = |name: &str, le: Option<&str>| {
        let found = values.iter().find(|((n, _, l), _)| n == name && l.as_deref() == le);
        *found.unwrap_or_else(|| panic!("{name}")).1
    };
    let finished = value("http_requests_total", None);
    assert!(finished > 1000.0);
    for histogram in ["e2e_request_latency_seconds", "request_queue_time_seconds", "request_prompt_tokens"] {
        assert_eq!(value(&format!("vllm:{histogram}_count"), None), finished);
        assert_eq!(value(&format!("vllm:{histogram}_bucket"), Some("+Inf")), finished);
    }
    let running = value("vllm:num_requests_running", None) + value("vllm:num_requests_waiting", None);
    assert!(value("vllm:time_to_first_token_seconds_count", None) <= finished + running);
    assert!(value("vllm:generation_tokens_total", None) >= value("vllm:request_generation_tokens_sum", None));
    assert!((0.0..=1.0).contains(&value("vllm:kv_cache_usage_perc", None)));
}

#[test]
fn the_server_reports_its_memory() {
    let page = simulated();
    let line = page.lines().find(|l| l.starts_with("vllm:cache_config_info{")).unwrap();
    for label in [r#",num_gpu_blocks="25000""#, r#",block_size="16""#, r#",kv_cache_size_tokens="400000""#] {
        assert!(line.contains(label), "{label} in {line}");
    }
    assert!(page.contains(r#"model_name="meta-llama/Llama-3.1-70B-Instruct""#));
    assert!(page.contains("process_start_time_seconds 1.7e+09\n"));
    assert!(!page.contains('@') && !page.contains("tiny"));
}
