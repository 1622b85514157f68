//! The daemon's own metrics, read back by a small strict parser.

use std::collections::BTreeMap;

use axum::http::Method;
use poolwright::control::{Decision, Published};

use crate::serve_support::{AT, Daemon, decision, pool};

/// Series (name and labels, as written) with their values; panics on anything that is no exposition.
fn parse(body: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut described = String::new();
    assert!(body.ends_with("# EOF\n"));
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.ends_with('.'), "{line}");
            described = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(&described), "{line} does not follow its help");
            continue;
        }
        if line == "# EOF" {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(name.starts_with(&described), "{line} does not belong to {described}");
        assert!(series.insert(name.to_owned(), value.parse().expect("a number")).is_none(), "{name} twice");
    }
    series
}

async fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    parse(&daemon.get("/metrics").await.body)
}

#[tokio::test]
async fn a_decision_is_exposed() {
    let series = scrape(&Daemon::new(decision())).await;
    let model = "meta-llama/Llama-3.1-70B";
    for (name, value) in [
        (format!("poolwright_desired_replicas{{namespace=\"inference\",pool=\"llama-a100\",model=\"{model}\"}}"), 21.0),
        (
            "wva_desired_replicas{namespace=\"inference\",variant_name=\"llama-h100\",accelerator_type=\"H100\"}"
                .into(),
            7.0,
        ),
        ("poolwright_advised_replicas{namespace=\"inference\",pool=\"small-advised\",model=\"small\"}".into(), 3.0),
        (
            format!(
                "poolwright_current_replicas{{namespace=\"other\",pool=\"llama-a100\",model=\"{model}\",state=\"starting\"}}"
            ),
            1.0,
        ),
        (
            format!(
                "poolwright_input_quality{{namespace=\"other\",pool=\"llama-a100\",model=\"{model}\",quality=\"fresh\"}}"
            ),
            1.0,
        ),
        (
            format!("poolwright_itl_predicted_seconds{{namespace=\"other\",pool=\"llama-a100\",model=\"{model}\"}}"),
            0.038,
        ),
        ("poolwright_planned_cost_per_hour{currency=\"USD\"}".into(), 396.0),
        ("poolwright_class_attainment_ratio{class=\"interactive\"}".into(), 0.9951),
        ("poolwright_class_target_ratio{class=\"interactive\"}".into(), 0.99),
        ("poolwright_accelerator_planned{accelerator=\"H100\"}".into(), 112.0),
        ("poolwright_limit_most{limit=\"budget\",scope=\"budget\"}".into(), 400.0),
        ("poolwright_limit_in_use{limit=\"budget\",scope=\"budget\"}".into(), 300.5),
        ("poolwright_limit_planned{limit=\"budget\",scope=\"budget\"}".into(), 396.0),
        ("poolwright_findings{kind=\"unmatched-series\"}".into(), 1.0),
        (
            format!(
                "poolwright_route_share_ratio{{namespace=\"inference\",model=\"{model}\",class=\"interactive\",pool=\"llama-a100\"}}"
            ),
            0.75,
        ),
        ("poolwright_decision_age_seconds".into(), 4.0),
        ("poolwright_decision_stale".into(), 0.0),
        ("poolwright_ticks_total".into(), 17.0),
        ("poolwright_policy_error".into(), 0.0),
        ("poolwright_solver_work_units".into(), 1234.0),
    ] {
        assert_eq!(series.get(&name), Some(&value), "{name}");
    }
    let named = |name: &str, pool: &str| series.keys().any(|k| k.starts_with(name) && k.contains(pool));
    assert!(!named("poolwright_desired_replicas", "small-") && !named("wva_desired_replicas", "small-"));
    assert!(!named("poolwright_advised_replicas", "llama") && !named("poolwright_advised_replicas", "small-off"));
}

#[tokio::test]
async fn what_is_stale_or_unknown_disappears() {
    let daemon = Daemon::new(decision());
    daemon.clock.set(AT + 61.0);
    let empty = Daemon::of(Published::empty(60.0), |state| state);
    for series in [scrape(&daemon).await, scrape(&empty).await] {
        assert!(!series.keys().any(|k| k.contains("_replicas") || k.contains("cost") || k.contains("attainment")));
        assert_eq!(series["poolwright_decision_stale"], 1.0);
        assert!(series.contains_key("poolwright_ticks_total"));
    }
    assert_eq!(scrape(&daemon).await["poolwright_decision_age_seconds"], 61.0);
    assert!(!scrape(&empty).await.contains_key("poolwright_decision_age_seconds"));
}

#[tokio::test]
async fn label_values_are_escaped_and_values_that_are_no_numbers_left_out() {
    let mut strange = pool("n", "p", 1);
    strange.model = "a\"b\\c\nd".into();
    strange.kv_usage = Some(f64::NAN);
    strange.ttft.target_seconds = Some(f64::INFINITY);
    let series = scrape(&Daemon::new(Decision { pools: vec![strange], ..decision() })).await;
    assert_eq!(series["poolwright_desired_replicas{namespace=\"n\",pool=\"p\",model=\"a\\\"b\\\\c\\nd\"}"], 1.0);
    assert!(!series.keys().any(|k| k.starts_with("poolwright_kv_usage") || k.starts_with("poolwright_ttft_target")));
}

#[tokio::test]
async fn the_media_type_follows_the_scraper() {
    let daemon = Daemon::new(decision());
    assert!(daemon.get("/metrics").await.header("content-type").starts_with("text/plain; version=0.0.4"));
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";
    let answer = daemon.ask(Method::GET, "/metrics", &[("accept", prometheus)]).await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
}
