//! Lists of one item, as 30,000 HPAs would ask for them: 2,000 a second, every one for another pool.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::get;
use poolwright::control::{
    Binding, DaemonStatus, Decision, Latency, PolicyStatus, PoolDecision, Published, SolveReport, SystemClock,
};
use poolwright::observe::Quality;
use poolwright::perf::Evidence;
use poolwright::policy::Mode;
use poolwright::serve::{Access, ServeState, api_router};

use crate::support::{Load, Server, header, load, row};

const RATE: u32 = 2_000;
const WARM_UP: Duration = Duration::from_secs(2);
const DURATION: Duration = Duration::from_secs(10);
/// Largest 99th percentile that is good enough.
const LIMIT_P99: Duration = Duration::from_millis(2);

const FLOOR: &str = "/floor";
const HEADERS: [(&str, &str); 2] = [("accept", "application/vnd.kubernetes.protobuf, */*"), ("user-agent", "bench")];

pub fn run() {
    println!("lists of one item, {RATE} requests/s, h2 over TLS, server on one thread; limit p99 < {LIMIT_P99:?}");
    println!("{}", header());
    for pools in [100, 10_000] {
        let server = Server::start(router(pools).route(FLOOR, get(async || "ok")));
        let of_pool = |index: usize| {
            let pool = index.wrapping_mul(7_919) % pools;
            format!(
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/n{}/poolwright_desired_replicas?labelSelector=pool%3Dp{pool}",
                pool % 10
            )
        };
        let json = &[("accept", "application/json"), HEADERS[1]];
        let run = |path: &dyn Fn(usize) -> String, headers| {
            load(&server, &Load { rate: RATE, warm_up: WARM_UP, duration: DURATION, path, headers })
        };
        let floor = run(&|_| FLOOR.to_owned(), &HEADERS);
        println!("{}", row(&format!("bare route, {pools} pools held"), &floor, None));
        println!("{}", row(&format!("list, protobuf, {pools} pools"), &run(&of_pool, &HEADERS), Some(LIMIT_P99)));
        println!("{}", row(&format!("list, JSON, {pools} pools"), &run(&of_pool, json), Some(LIMIT_P99)));
    }
}

/// The API of a fleet whose decision is of this moment and stays good for the whole run.
///
/// This is the one place where access is decided: everybody may ask, as somebody may whose authorization
/// is cached.
fn router(pools: usize) -> Router {
    let published = Published {
        decision: Some(Arc::new(decision(pools))),
        max_age_seconds: 3600.0,
        history: Arc::new(VecDeque::new()),
        policy: PolicyStatus::default(),
        daemon: DaemonStatus::default(),
    };
    api_router(ServeState::new(Arc::new(ArcSwap::from_pointee(published)), Arc::new(SystemClock)), &Access::open())
}

fn decision(pools: usize) -> Decision {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |age| age.as_secs_f64());
    Decision {
        at_seconds: now,
        policy: "bench".into(),
        currency: "USD".into(),
        pools: (0..pools).map(pool).collect(),
        classes: vec![],
        models: vec![],
        accelerators: vec![],
        solve: SolveReport { solver: "milp".into(), work_units: 0, gap: 0.0, refused: 0 },
        current_cost_per_hour: 0.0,
        planned_cost_per_hour: 0.0,
        findings: vec![],
        source_error: None,
    }
}

fn pool(index: usize) -> PoolDecision {
    let none = || Latency { observed_seconds: None, predicted_seconds: None, target_seconds: None, quantile: None };
    PoolDecision {
        namespace: format!("n{}", index % 10),
        pool: format!("p{index}"),
        model: format!("org/model-{index}"),
        accelerator: "H100".into(),
        accelerators_per_replica: 1,
        mode: Mode::Act,
        desired: Some(21),
        planned: Some(21),
        ready: Some(20),
        starting: Some(1),
        binding: Binding::Itl,
        reason: "ITL binds".into(),
        missing: vec![],
        quality: Quality::Fresh,
        input_age_seconds: None,
        evidence: Evidence::Curve,
        arrival_rate: None,
        planned_rate: 0.0,
        replica_capacity: None,
        running: None,
        waiting: None,
        kv_usage: None,
        ttft: none(),
        itl: none(),
        ttft_histogram: None,
        itl_histogram: None,
        cost_per_hour: 1.0,
        cluster: None,
    }
}
