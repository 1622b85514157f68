use std::collections::BTreeMap;
use std::sync::Arc;

use poolwright::perf::{Architecture, DataSheet, Evidence, GivenLimits, Limits, Parameters, data_sheet};
use poolwright::policy::{
    Accelerator, Condition, Engine, Mode, Model, Planner, Policy, Pool, Promise, Role, ScaleTarget, SeriesSelector,
    SloClass,
};
use poolwright::simulate::{Fleet, FleetOptions, Replay, Trace, Workload};

pub const INTERACTIVE: usize = 0;
pub const BATCH: usize = 1;
pub const FAST: usize = 0;
pub const SLOW: usize = 1;

fn sheet() -> DataSheet {
    data_sheet("H100").expect("H100 is a built-in data sheet")
}

fn architecture() -> Option<Architecture> {
    None
}

/// One model, a fast pool of 4 accelerators per replica (stock 16, start-up 120 s, minimum 1) and a slow
/// pool of one (stock 8, start-up 60 s), an interactive class and a batch class.
pub fn policy() -> Policy {
    let accelerator =
        |name: &str, price_per_hour, stock| Accelerator { name: name.into(), price_per_hour, stock, sheet: sheet() };
    let class = |name: &str, priority, promise| SloClass { name: name.into(), priority, promise, may_wait: false };
    let latency = Promise::Latency { quantile: 0.99, ttft_seconds: 2.0, itl_seconds: 0.05 };
    let figures = Parameters::uniform;
    Policy {
        fingerprint: "test".into(),
        currency: "USD".into(),
        accelerators: vec![accelerator("H100", 4.0, 16), accelerator("L40S", 1.0, 8)],
        limits: vec![],
        schedules: vec![],
        classes: vec![class("interactive", 10, latency), class("batch", 0, Promise::Deadline { seconds: 600.0 })],
        models: vec![Model {
            namespace: "inference".into(),
            name: "llama".into(),
            served_name: "meta-llama/Llama-3.1-70B-Instruct".into(),
            architecture: architecture(),
            classes: vec![(INTERACTIVE, 0.75), (BATCH, 0.25)],
            pools: vec![FAST, SLOW],
            floors: vec![],
            expected_shape: Some((1155.0, 211.0)),
            annotations: BTreeMap::new(),
        }],
        pools: vec![
            pool("llama-h100", FAST, 4, 120.0, 1, figures(0.012, 2.5e-5, 3e-8), 400_000.0),
            pool("llama-l40s", SLOW, 1, 60.0, 0, figures(0.024, 8e-5, 1e-7), 60_000.0),
        ],
        planner: Planner {
            interval_seconds: 15.0,
            max_age_seconds: 90.0,
            stale_after_seconds: 60.0,
            window_seconds: 60.0,
            demand_quantile: 0.95,
            scale_down_dwell_seconds: 120.0,
            scale_down_starts: 4.0,
            error_budget_use: 0.0,
            route_by_length: false,
            max_step_up: None,
            max_step_down: None,
        },
    }
}

fn pool(name: &str, accelerator: usize, size: u32, startup: f64, min: u32, figures: Parameters, kv: f64) -> Pool {
    let pods = Condition::matches(&format!("{name}-[0-9a-z]+-[0-9a-z]{{5}}")).unwrap();
    Pool {
        namespace: "inference".into(),
        name: name.into(),
        model: 0,
        accelerator,
        accelerators_per_replica: size,
        role: Role::Both,
        engine: Engine::Vllm,
        mode: Mode::Act,
        min,
        max: 4,
        startup_seconds: startup,
        target: ScaleTarget { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
        selector: SeriesSelector {
            namespace: "inference".into(),
            model_name: "meta-llama/Llama-3.1-70B-Instruct".into(),
            conditions: BTreeMap::from([("pod".to_owned(), pods)]),
            derived: false,
        },
        scrape: Vec::new(),
        metrics_port: None,
        parameters: figures,
        evidence: Evidence::Curve,
        kv_tokens: kv,
        paper: None,
        margin: 0.08,
        limits: Limits::default(),
        limits_given: GivenLimits::default(),
        max_model_len: None,
    }
}

/// The conversation hour for the policy's model.
pub fn conversation(policy: &Policy, scale: f64, seed: u64) -> Workload {
    let trace = Arc::new(Trace::conversation().unwrap());
    Workload::new(trace, 0, policy, Replay { scale, seed, ..Replay::default() }).unwrap()
}

/// A fleet of the policy with the conversation hour.
pub fn fleet(scale: f64, seed: u64) -> Fleet {
    let policy = policy();
    let workload = conversation(&policy, scale, seed);
    Fleet::new(&policy, vec![workload], FleetOptions { seed, keep_completions: true, ..FleetOptions::default() })
}
