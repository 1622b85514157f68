//! Policies, metrics pages and time for the tests of `observe`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use poolwright::observe::{Finding, FindingKind, Observation, PoolObservation};
use poolwright::perf::{Evidence, GivenLimits, Limits, Parameters};
use poolwright::policy::{Condition, Engine, Mode, Model, Planner, Policy, Pool, Role, ScaleTarget, SeriesSelector};

/// A moment for all tests, Unix seconds.
pub const NOW: f64 = 1_800_000_000.0;

/// Model that all pools serve unless they say otherwise.
pub const MODEL: &str = "tiny";

/// A pool `inference/<name>` whose pods are called `<name>-<anything>`.
pub fn pool(name: &str) -> Pool {
    Pool {
        namespace: "inference".into(),
        name: name.into(),
        model: 0,
        accelerator: 0,
        accelerators_per_replica: 1,
        role: Role::Both,
        engine: Engine::Vllm,
        mode: Mode::Act,
        min: 0,
        max: 10,
        startup_seconds: 60.0,
        target: ScaleTarget { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
        selector: SeriesSelector {
            namespace: "inference".into(),
            model_name: MODEL.into(),
            conditions: BTreeMap::from([("pod".to_owned(), Condition::matches(&format!("{name}-.+")).unwrap())]),
            derived: true,
        },
        scrape: Vec::new(),
        metrics_port: None,
        parameters: Parameters::uniform(0.01, 1e-5, 1e-8),
        evidence: Evidence::Curve,
        kv_tokens: 1e5,
        paper: None,
        margin: 0.08,
        limits: Limits::default(),
        limits_given: GivenLimits::default(),
        max_model_len: None,
    }
}

/// A policy with these pools; window and age limit 60 s.
pub fn policy(pools: Vec<Pool>) -> Arc<Policy> {
    let model = Model {
        namespace: "inference".into(),
        name: "tiny-model".into(),
        served_name: MODEL.into(),
        architecture: None,
        classes: Vec::new(),
        pools: (0..pools.len()).collect(),
        floors: Vec::new(),
        expected_shape: None,
        annotations: BTreeMap::new(),
    };
    Arc::new(Policy {
        fingerprint: "test".into(),
        currency: "USD".into(),
        // Nothing here looks at prices or data sheets.
        accelerators: Vec::new(),
        limits: Vec::new(),
        schedules: Vec::new(),
        classes: Vec::new(),
        models: vec![model],
        pools,
        planner: Planner {
            interval_seconds: 15.0,
            max_age_seconds: 60.0,
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
    })
}

/// A metrics page of the fixtures.
pub fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/engine-metrics/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// State of a small server, printed as vLLM does.
#[derive(Clone, Debug)]
pub struct Server {
    pub running: f64,
    pub waiting: f64,
    pub kv_usage: f64,
    pub finished: f64,
    pub started: Option<f64>,
}

impl Default for Server {
    fn default() -> Self {
        Self { running: 0.0, waiting: 0.0, kv_usage: 0.0, finished: 0.0, started: None }
    }
}

impl Server {
    pub fn busy(finished: f64) -> Self {
        Self { running: 4.0, waiting: 1.0, kv_usage: 0.5, finished, started: None }
    }

    /// The page; every finished request took 0.2 s to its first token and 20 ms per further one, 100 tokens in, 10 out.
    pub fn page(&self) -> String {
        let l = format!("engine=\"0\",model_name=\"{MODEL}\"");
        let n = self.finished;
        let mut page = String::new();
        let _ = writeln!(page, "vllm:num_requests_running{{{l}}} {}", self.running);
        let _ = writeln!(page, "vllm:num_requests_waiting{{{l}}} {}", self.waiting);
        let _ = writeln!(page, "vllm:kv_cache_usage_perc{{{l}}} {}", self.kv_usage);
        let _ = writeln!(page, "vllm:request_success_total{{{l},finished_reason=\"stop\"}} {n}");
        let _ = writeln!(page, "vllm:request_success_total{{{l},finished_reason=\"abort\"}} 0");
        for (name, value, bounds) in [
            ("time_to_first_token_seconds", 0.2, ["0.1", "0.25", "1.0"]),
            ("request_time_per_output_token_seconds", 0.02, ["0.01", "0.025", "0.05"]),
            ("request_prompt_tokens", 100.0, ["50", "100", "200"]),
            ("request_generation_tokens", 10.0, ["5", "10", "20"]),
        ] {
            for bound in bounds {
                let count = if bound.parse::<f64>().unwrap() >= value { n } else { 0.0 };
                let _ = writeln!(page, "vllm:{name}_bucket{{{l},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(page, "vllm:{name}_bucket{{{l},le=\"+Inf\"}} {n}");
            let _ = writeln!(page, "vllm:{name}_count{{{l}}} {n}\nvllm:{name}_sum{{{l}}} {}", n * value);
        }
        let _ = writeln!(page, "vllm:cache_config_info{{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"1000\"}} 1");
        if let Some(started) = self.started {
            let _ = writeln!(page, "process_start_time_seconds {started}");
        }
        page
    }
}

pub fn seen<'a>(observation: &'a Observation, pool: &str) -> &'a PoolObservation {
    let id = format!("inference/{pool}");
    observation.pools.iter().find(|p| p.pool == id).unwrap()
}

pub fn findings(observation: &Observation, kind: FindingKind) -> Vec<&Finding> {
    observation.findings.iter().filter(|f| f.kind == kind).collect()
}

pub fn kinds(observation: &Observation) -> Vec<FindingKind> {
    let mut kinds: Vec<FindingKind> = observation.findings.iter().map(|f| f.kind).collect();
    kinds.dedup();
    kinds
}

#[track_caller]
pub fn close(actual: Option<f64>, expected: f64) {
    let actual = actual.expect("a value");
    assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{actual} is not {expected}");
}
