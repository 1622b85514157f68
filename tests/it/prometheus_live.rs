//! A real Prometheus between the fleet and the daemon. One stage runs for all parts, since each needs a full
//! window of wall-clock time behind it.

use std::collections::BTreeMap;
use std::process::Output;

use poolwright::control::{Binding, Clock, Decision, State, SystemClock, decide};
use poolwright::observe::{Observation, Quality};
use serde_json::Value;

use crate::prometheus_files::{alert_expressions, dashboard_expressions, metrics};
use crate::prometheus_stage::{LiveStage, policy_path, policy_with_neighbour};
use crate::prometheus_support::{Prometheus, installed, poolwright, text_of};

/// Wall-clock time before the sources are compared: the window and the fleet's first seconds.
const WARM_UP_SECONDS: u64 = 76;
/// A replica is added after this time, so that it becomes ready inside the window.
const GROWTH_SECONDS: u64 = 35;
/// Arrival rates of the two sources may differ by this share.
const RATE_TOLERANCE: f64 = 0.03;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_between_fleet_and_daemon() {
    if !installed() {
        return;
    }
    let mut stage = LiveStage::start().await;
    stage.run(GROWTH_SECONDS).await;
    stage.grow("code-l40s", 5);
    stage.run(WARM_UP_SECONDS - GROWTH_SECONDS).await;
    the_plans_are_the_same(&mut stage).await;
    every_query_returns_data(&stage.prometheus).await;
    the_dry_run_reads_it(stage.prometheus.url()).await;
    its_death_holds_every_number(&mut stage).await;
}

async fn the_plans_are_the_same(stage: &mut LiveStage) {
    let (direct, prometheus, now_seconds) = stage.look().await;
    let decided = |observation: &Observation| decide(&stage.policy, observation, State::default(), now_seconds).0;
    let (by_scrape, by_prometheus) = (decided(&direct), decided(&prometheus));
    for (a, b) in by_scrape.pools.iter().zip(&by_prometheus.pools) {
        let both = format!("direct: {a:#?}\nprometheus: {b:#?}");
        assert_eq!((a.desired, a.planned), (b.desired, b.planned), "{both}");
        assert_eq!((a.ready, a.starting, a.quality), (b.ready, b.starting, b.quality), "{both}");
        let (x, y) = (a.arrival_rate.unwrap(), b.arrival_rate.unwrap());
        assert!((x - y).abs() <= RATE_TOLERANCE * x.max(y), "{}: {x} req/s direct, {y} req/s by prometheus", a.pool);
    }
    let total: f64 = by_prometheus.pools.iter().filter_map(|p| p.arrival_rate).sum();
    assert!((36.0..44.0).contains(&total), "{total} req/s of the 40 req/s that are offered");
    for pool in by_prometheus.pools.iter().filter(|p| p.pool.ends_with("a100")) {
        assert_eq!((pool.ready, pool.starting, pool.arrival_rate), (Some(0), Some(0), Some(0.0)), "{pool:#?}");
        assert!(pool.quality <= Quality::ConfirmedIdle && pool.missing.is_empty(), "{pool:#?}");
    }
    assert_eq!(by_prometheus.pools.iter().map(|p| p.ready.unwrap()).collect::<Vec<_>>(), [0, 6, 0, 5]);
    for pool in by_prometheus.pools.iter().filter(|p| !p.pool.ends_with("a100")) {
        assert!(pool.desired.is_some_and(|n| n >= 2), "too little load for a comparison: {pool:#?}");
    }
}

async fn every_query_returns_data(prometheus: &Prometheus) {
    let mut wrong = vec![];
    for expression in dashboard_expressions() {
        match prometheus.query(&expression.text).await {
            Ok(series) if series.is_empty() => {
                wrong.push(format!("{} returns nothing: {}", expression.place, expression.text))
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{}: {error}", expression.place)),
        }
    }
    for expression in alert_expressions() {
        if let Err(error) = prometheus.query(&expression.text).await {
            wrong.push(format!("{}: {error}", expression.place));
        }
        for metric in metrics(&expression.text) {
            let series = prometheus.query(&metric).await.unwrap();
            if series.is_empty() {
                wrong.push(format!("{}: no series {metric}", expression.place));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Standard output of a run that ended well.
fn printed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", text_of(output));
    std::str::from_utf8(&output.stdout).unwrap()
}

async fn the_dry_run_reads_it(url: &str) {
    let policy = policy_path();
    let plan = async |output: &str| {
        poolwright(&["plan", "--policy", policy.to_str().unwrap(), "--prometheus", url, "-o", output]).await
    };
    let (table, json, yaml) = (plan("table").await, plan("json").await, plan("yaml").await);
    let table = printed(&table);
    let decisions: [Decision; 2] =
        [serde_json::from_str(printed(&json)).unwrap(), serde_saphyr::from_str(printed(&yaml)).unwrap()];
    for decision in &decisions {
        assert_eq!(decision.pools.len(), 4);
        for pool in &decision.pools {
            assert!(pool.desired.is_some() && pool.missing.is_empty(), "{pool:#?}");
            assert!(table.contains(&pool.pool), "{} is not in\n{table}", pool.pool);
        }
    }
    let wanted = |d: &Decision| d.pools.iter().map(|p| (p.pool.clone(), p.desired)).collect::<BTreeMap<_, _>>();
    assert_eq!(wanted(&decisions[0]), wanted(&decisions[1]));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ghost.yaml");
    std::fs::write(
        &file,
        policy_with_neighbour().replace("neighbour", "ghost").replace("mistralai/Mistral-7B", "nobody/serves-this"),
    )
    .unwrap();
    let held = poolwright(&["plan", "--policy", file.to_str().unwrap(), "--prometheus", url, "-o", "json"]).await;
    assert_eq!(held.status.code(), Some(3), "a pool without data is held: {}", text_of(&held));
    let decision: Value = serde_json::from_slice(&held.stdout).unwrap();
    let ghost = &decision["pools"][4];
    assert_eq!((&ghost["desired"], &ghost["binding"]), (&Value::Null, &"hold".into()), "{ghost}");
}

async fn its_death_holds_every_number(stage: &mut LiveStage) {
    let before = stage.daemon.tick(SystemClock.now_seconds()).await.unwrap();
    stage.prometheus.kill();
    for _ in 0..3 {
        let after = stage.daemon.tick(SystemClock.now_seconds()).await.unwrap();
        let why = after.source_error.as_deref().unwrap();
        assert!(why.contains(stage.prometheus.url()) && !why.contains('\n'), "{why}");
        for (old, new) in before.pools.iter().zip(&after.pools) {
            assert_eq!((new.desired, new.binding), (old.desired, Binding::Hold), "{new:#?}");
            let kept = format!("kept at {}", old.desired.unwrap());
            assert!(new.reason.contains("replicas missing") && new.reason.contains(&kept), "{}", new.reason);
        }
        assert!(stage.daemon.published().load().current(SystemClock.now_seconds()).is_ok(), "held numbers are served");
    }
}
