//! The API of a small fleet, for the targets that send it whole requests.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use poolwright::control::{
    Binding, DaemonStatus, Decision, Latency, ManualClock, PolicyStatus, PoolDecision, Published, SolveReport,
};
use poolwright::observe::Quality;
use poolwright::perf::Evidence;
use poolwright::policy::Mode;
use poolwright::serve::{Access, ServeState, api_router};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime without I/O needs nothing"));

static API: LazyLock<Router> = LazyLock::new(|| {
    let published = Published {
        decision: Some(Arc::new(decision())),
        max_age_seconds: 60.0,
        history: Arc::new(VecDeque::new()),
        policy: PolicyStatus::default(),
        daemon: DaemonStatus::default(),
    };
    let state = ServeState::new(Arc::new(ArcSwap::from_pointee(published)), Arc::new(ManualClock::new(4.0)));
    api_router(state, &Access::open())
});

/// What the API answers.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn content_type(&self) -> &str {
        self.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What holds of every answer: no redirect, nothing that went wrong here, a body that is what it says.
    pub fn check(&self) {
        let code = self.status.as_u16();
        assert!(!(300..400).contains(&code) && code < 500, "{code}");
        match self.content_type() {
            "application/vnd.kubernetes.protobuf" => assert!(self.body.starts_with(b"k8s\0")),
            "application/yaml" | "text/plain; charset=utf-8" => assert!(std::str::from_utf8(&self.body).is_ok()),
            json if json.starts_with("application/json") => {
                let value: serde_json::Value = serde_json::from_slice(&self.body).expect("a JSON body");
                assert!(value["kind"] != "Status" || value["code"] == code);
            }
            other => panic!("content type {other:?}"),
        }
    }
}

/// Send a request through all of the API; `None` where HTTP itself refuses it.
pub fn ask(path_and_query: &[u8], accept: Option<&[u8]>) -> Option<Answer> {
    let mut request = Request::get(path_and_query);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let request = request.body(Body::empty()).ok()?;
    RUNTIME.block_on(async {
        let response = API.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("bodies here are in memory");
        Some(Answer { status: parts.status, headers: parts.headers, body })
    })
}

fn decision() -> Decision {
    Decision {
        at_seconds: 0.0,
        policy: "fuzz".into(),
        currency: "USD".into(),
        pools: vec![pool("a"), pool("b"), pool("1e3")],
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

fn pool(name: &str) -> PoolDecision {
    let none = || Latency { observed_seconds: None, predicted_seconds: None, target_seconds: None, quantile: None };
    PoolDecision {
        namespace: "n".into(),
        pool: name.into(),
        model: "meta-llama/Llama-3.1-70B".into(),
        accelerator: "H100".into(),
        accelerators_per_replica: 1,
        mode: Mode::Act,
        desired: Some(21),
        planned: Some(21),
        ready: None,
        starting: None,
        binding: Binding::Itl,
        reason: String::new(),
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
