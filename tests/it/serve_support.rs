//! The one sample snapshot of the serving tests, and how they ask a router for it.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use poolwright::control::{
    AcceleratorUse, Binding, ClassDecision, DaemonStatus, Decision, HistoryPoint, Latency, LimitUse, ManualClock,
    ModelDecision, PolicyStatus, PoolDecision, Published, Route, SolveReport,
};
use poolwright::observe::{Finding, FindingKind, Quality};
use poolwright::perf::Evidence;
use poolwright::policy::{LimitScope, Mode, Promise};
use poolwright::serve::{ServeState, router};
use tower::ServiceExt;

/// 2026-11-22T13:00:00Z, the time of the sample decision.
pub const AT: f64 = 1_795_352_400.0;

/// Path of the external metrics API.
pub const EM: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// A pool in mode `act` that should run `desired` replicas of a 70B model.
pub fn pool(namespace: &str, name: &str, desired: u32) -> PoolDecision {
    PoolDecision {
        namespace: namespace.into(),
        pool: name.into(),
        model: "meta-llama/Llama-3.1-70B".into(),
        accelerator: "H100".into(),
        accelerators_per_replica: 4,
        mode: Mode::Act,
        desired: Some(desired),
        planned: Some(desired),
        ready: Some(20),
        starting: Some(1),
        binding: Binding::Itl,
        reason: "ITL of interactive binds".into(),
        missing: vec![],
        quality: Quality::Fresh,
        input_age_seconds: Some(3.5),
        evidence: Evidence::Curve,
        live: None,
        arrival_rate: Some(41.0),
        planned_rate: 44.5,
        replica_capacity: Some(2.2),
        capacity_stretch: None,
        running: Some(310.0),
        waiting: Some(0.0),
        kv_usage: Some(0.61),
        ttft: Latency {
            observed_seconds: Some(0.7),
            predicted_seconds: Some(0.8),
            target_seconds: Some(1.0),
            quantile: Some(0.99),
        },
        itl: Latency {
            observed_seconds: Some(0.031),
            predicted_seconds: Some(0.038),
            target_seconds: Some(0.04),
            quantile: Some(0.99),
        },
        ttft_histogram: None,
        itl_histogram: None,
        cluster: None,
        cost_per_hour: 12.0 * f64::from(desired),
        price_per_hour: Some(12.0),
        level: None,
        full_limits: vec![],
        runner_up: None,
        alternatives: vec![],
    }
}

/// A fleet of four pools in two namespaces: two act, one advises, one is off.
pub fn decision() -> Decision {
    let small = |name: &str, mode: Mode| PoolDecision {
        model: "small".into(),
        accelerator: "L4".into(),
        accelerators_per_replica: 1,
        mode,
        ..pool("inference", name, 3)
    };
    let off = PoolDecision { desired: None, planned: None, binding: Binding::Off, ..small("small-off", Mode::Off) };
    Decision {
        at_seconds: AT,
        policy: "f00d".into(),
        currency: "USD".into(),
        pools: vec![
            pool("inference", "llama-a100", 21),
            pool("inference", "llama-h100", 7),
            small("small-advised", Mode::Advise),
            off,
            pool("other", "llama-a100", 5),
        ],
        classes: vec![ClassDecision {
            class: "interactive".into(),
            priority: 100,
            promise: Promise::Latency { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: f64::INFINITY },
            demand_rate: 89.0,
            shortfall_rate: 0.0,
            attainment: Some(0.9951),
            infeasible: vec![],
            predicted: None,
        }],
        models: vec![ModelDecision {
            namespace: "inference".into(),
            name: "llama".into(),
            model: "meta-llama/Llama-3.1-70B".into(),
            offered_rate: Some(82.0),
            planned_rate: 89.0,
            horizon_seconds: 180.0,
            input_tokens: 1024.0,
            output_tokens: 215.0,
            routes: vec![Route {
                class: "interactive".into(),
                pool: "inference/llama-a100".into(),
                share: 0.75,
                rate: 66.7,
            }],
            weights: vec![],
        }],
        accelerators: vec![AcceleratorUse { accelerator: "H100".into(), stock: 160, in_use: 84, planned: 112 }],
        limits: vec![LimitUse {
            limit: "budget".into(),
            scope: LimitScope::Budget,
            most: 400.0,
            in_use: 300.5,
            planned: 396.0,
        }],
        solve: SolveReport { solver: "milp".into(), work_units: 1234, gap: 0.0, ..SolveReport::default() },
        current_cost_per_hour: 252.0,
        planned_cost_per_hour: 396.0,
        findings: vec![Finding {
            kind: FindingKind::UnmatchedSeries,
            subject: "pod=x".into(),
            message: "belongs to no pool".into(),
        }],
        analysis: None,
        source_error: None,
    }
}

/// A snapshot of one decision, served for a minute.
pub fn published(decision: Decision) -> Published {
    let point = HistoryPoint {
        at_seconds: AT,
        offered_rate: 82.0,
        planned_rate: 89.0,
        ready: 20,
        desired: 36,
        cost_per_hour: 396.0,
        pools: vec![21, 7, 3, 0, 5],
    };
    Published {
        decision: Some(Arc::new(decision)),
        max_age_seconds: 60.0,
        history: Arc::new(VecDeque::from([point])),
        policy: PolicyStatus { fingerprint: "f00d".into(), error: None, reloads: 2, rejected: 1 },
        daemon: DaemonStatus { ticks: 17, failed_observations: 1, source: "scrape".into(), ..DaemonStatus::default() },
    }
}

/// A router over a snapshot that tests may replace, at a time that tests may set.
pub struct Daemon {
    pub published: Arc<ArcSwap<Published>>,
    pub clock: Arc<ManualClock>,
    pub state: ServeState,
    pub router: Router,
}

impl Daemon {
    /// Serve this decision, four seconds after it was made.
    pub fn new(decision: Decision) -> Self {
        Self::of(published(decision), |state| state)
    }

    pub fn of(published: Published, settings: impl FnOnce(ServeState) -> ServeState) -> Self {
        let published = Arc::new(ArcSwap::from_pointee(published));
        let clock = Arc::new(ManualClock::new(AT + 4.0));
        let state = settings(ServeState::new(published.clone(), clock.clone()));
        let router = router(state.clone());
        Self { published, clock, state, router }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("test paths are valid URIs");
        let response = self.router.clone().oneshot(request).await.expect("a router never fails");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("bodies here are in memory");
        let text = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status, headers: parts.headers, body: text, bytes: body }
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// The body where it is no text.
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap_or("not text"))
    }

    /// Assert a Kubernetes `Status` error and return its message.
    pub fn status_error(&self, code: u16, reason: &str) -> String {
        assert_eq!(self.status.as_u16(), code, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        assert!(!self.headers.contains_key("retry-after"), "a client would sleep on it");
        let body = self.json();
        assert_eq!(
            (&body["kind"], &body["apiVersion"], &body["status"]),
            (&"Status".into(), &"v1".into(), &"Failure".into())
        );
        assert_eq!((&body["reason"], &body["code"]), (&reason.into(), &code.into()));
        body["message"].as_str().expect("a message").to_owned()
    }
}
