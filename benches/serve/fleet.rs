//! A fleet of any size as the loop would have published it a moment ago.

use std::sync::Arc;

use poolwright::control::{Binding, Clock, Decision, Latency, PoolDecision, Published, SolveReport, SystemClock};
use poolwright::observe::Quality;
use poolwright::perf::Evidence;
use poolwright::policy::Mode;

/// Namespaces, each with its share of the pools.
const NAMESPACES: usize = 10;

pub fn namespace(index: usize) -> String {
    format!("team-{}", index % NAMESPACES)
}

pub fn pool_name(index: usize) -> String {
    format!("pool-{index:05}")
}

/// A tenth of the pools is idle, another tenth each round. Good for an hour.
pub fn published(pools: usize, round: usize) -> Published {
    let decision = Decision {
        at_seconds: SystemClock.now_seconds(),
        policy: "bench".into(),
        currency: "USD".into(),
        pools: (0..pools).map(|index| pool(index, if (index + round).is_multiple_of(10) { 0 } else { 21 })).collect(),
        classes: vec![],
        models: vec![],
        accelerators: vec![],
        limits: vec![],
        solve: SolveReport { solver: "milp".into(), ..SolveReport::default() },
        current_cost_per_hour: 0.0,
        planned_cost_per_hour: 0.0,
        findings: vec![],
        analysis: None,
        source_error: None,
    };
    Published { decision: Some(Arc::new(decision)), ..Published::empty(3600.0) }
}

fn pool(index: usize, desired: u32) -> PoolDecision {
    let none = || Latency { observed_seconds: None, predicted_seconds: None, target_seconds: None, quantile: None };
    PoolDecision {
        namespace: namespace(index),
        pool: pool_name(index),
        model: "meta-llama/Llama-3.1-70B".into(),
        accelerator: "H100".into(),
        accelerators_per_replica: 4,
        mode: Mode::Act,
        desired: Some(desired),
        planned: Some(desired),
        ready: Some(desired),
        starting: Some(0),
        binding: Binding::Itl,
        reason: "ITL of interactive binds".into(),
        missing: vec![],
        quality: Quality::Fresh,
        input_age_seconds: Some(3.5),
        evidence: Evidence::Curve,
        live: None,
        arrival_rate: None,
        planned_rate: 44.5,
        replica_capacity: None,
        capacity_stretch: None,
        running: None,
        waiting: None,
        kv_usage: None,
        ttft: none(),
        itl: none(),
        ttft_histogram: None,
        itl_histogram: None,
        cost_per_hour: 12.0,
        cluster: None,
        price_per_hour: None,
        level: None,
        full_limits: vec![],
        runner_up: None,
        alternatives: vec![],
    }
}
