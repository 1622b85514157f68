//! The JSON API: for KEDA's metrics-api scaler one pool's number, for people and programs the decision,
//! its history and the state of the daemon.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::encode::json_response;
use super::health;
use super::number::{self, NoNumber};
use super::state::{Current, ServeState};
use crate::control::{DaemonStatus, HistoryPoint, PolicyStatus, PoolDecision, Withheld};
use crate::observe::Quality;
use crate::observe::cluster::PoolCluster;
use crate::policy::Mode;

/// One pool, for people and for KEDA. `desired_replicas` is a number only where it may be followed.
#[derive(Serialize)]
struct PoolAnswer<'a> {
    namespace: &'a str,
    pool: &'a str,
    model: &'a str,
    accelerator: &'a str,
    mode: Mode,
    desired_replicas: Option<u32>,
    /// The same number for a pool that is not in mode `act`: not to be followed by a program.
    advised_replicas: Option<u32>,
    current_replicas: Option<u32>,
    ready_replicas: Option<u32>,
    starting_replicas: Option<u32>,
    /// Whether any replica is wanted.
    active: Option<bool>,
    /// Age of the decision, seconds.
    age_seconds: f64,
    binding: &'static str,
    reason: &'a str,
    missing: &'a [String],
    quality: Quality,
    input_age_seconds: Option<f64>,
    /// What the cluster says, where one is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a PoolCluster>,
}

impl<'a> PoolAnswer<'a> {
    fn new(pool: &'a PoolDecision, source_error: Option<&str>, age_seconds: f64) -> Self {
        let desired = number::of_pool(pool, source_error).ok();
        let current = match (pool.ready, pool.starting) {
            (None, None) => None,
            (ready, starting) => Some(ready.unwrap_or(0).saturating_add(starting.unwrap_or(0))),
        };
        Self {
            namespace: &pool.namespace,
            pool: &pool.pool,
            model: &pool.model,
            accelerator: &pool.accelerator,
            mode: pool.mode,
            desired_replicas: desired,
            advised_replicas: (pool.mode == Mode::Advise).then_some(pool.desired).flatten(),
            current_replicas: current,
            ready_replicas: pool.ready,
            starting_replicas: pool.starting,
            active: desired.map(|n| n > 0),
            age_seconds: (age_seconds * 10.0).round() / 10.0,
            binding: pool.binding.as_str(),
            reason: &pool.reason,
            missing: &pool.missing,
            quality: pool.quality,
            input_age_seconds: pool.input_age_seconds,
            cluster: pool.cluster.as_ref(),
        }
    }
}

#[derive(Serialize)]
struct PoolList<'a> {
    at_seconds: f64,
    pools: Vec<PoolAnswer<'a>>,
}

#[derive(Serialize)]
struct History<'a> {
    /// `namespace/name` of the pools, in the order of each point's `pools`.
    pools: Vec<String>,
    points: Vec<&'a HistoryPoint>,
}

#[derive(Serialize)]
struct StatusAnswer<'a> {
    version: &'static str,
    now_seconds: f64,
    decision_at_seconds: Option<f64>,
    decision_age_seconds: Option<f64>,
    max_age_seconds: f64,
    /// Why no number is given now.
    withheld: Option<String>,
    ready: bool,
    stopping: bool,
    /// Whether `/v1/demo` has something to show.
    demo: bool,
    /// Whether `/v1/cluster` has something to show.
    cluster: bool,
    policy: &'a PolicyStatus,
    daemon: &'a DaemonStatus,
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize)]
struct ErrorDetail {
    code: u16,
    /// Stable: `not-yet`, `stale`, `no-number`, `not-acting`, `not-found`, `unauthorized`.
    reason: &'static str,
    message: String,
}

pub fn routes(state: ServeState) -> Router {
    Router::new()
        .route("/v1/decision", get(decision))
        .route("/v1/pools", get(pools))
        .route("/v1/namespaces/{namespace}/pools/{pool}", get(pool))
        .route("/v1/history", get(history))
        .route("/v1/status", get(status))
        .route("/v1/demo", get(demo))
        .route("/v1/cluster", get(cluster))
        .with_state(state)
}

async fn decision(State(state): State<ServeState>) -> Response {
    match state.current() {
        Ok(current) => json_response(StatusCode::OK, current.view.json()),
        Err(why) => withheld(&why),
    }
}

async fn pools(State(state): State<ServeState>) -> Response {
    let Current { view, age_seconds } = match state.current() {
        Ok(current) => current,
        Err(why) => return withheld(&why),
    };
    let error = view.decision.source_error.as_deref();
    let pools = view.decision.pools.iter().map(|pool| PoolAnswer::new(pool, error, age_seconds)).collect();
    found(&PoolList { at_seconds: view.decision.at_seconds, pools })
}

async fn pool(State(state): State<ServeState>, path: Result<Path<(String, String)>, PathRejection>) -> Response {
    let Ok(Path((namespace, name))) = path else {
        return error(StatusCode::BAD_REQUEST, "not-found", "the path is not valid UTF-8".into());
    };
    let Current { view, age_seconds } = match state.current() {
        Ok(current) => current,
        Err(why) => return withheld(&why),
    };
    match number::of(&view, &namespace, &name) {
        Ok((pool, _)) => found(&PoolAnswer::new(pool, view.decision.source_error.as_deref(), age_seconds)),
        Err(why) => no_number(&why),
    }
}

async fn history(State(state): State<ServeState>) -> Response {
    let published = state.published();
    let pools =
        published.decision.iter().flat_map(|d| &d.pools).map(|p| format!("{}/{}", p.namespace, p.pool)).collect();
    found(&History { pools, points: published.history.iter().collect() })
}

async fn status(State(state): State<ServeState>) -> Response {
    let published = state.published();
    let now_seconds = state.now_seconds();
    let at_seconds = published.decision.as_ref().map(|d| d.at_seconds);
    found(&StatusAnswer {
        version: env!("CARGO_PKG_VERSION"),
        now_seconds,
        decision_at_seconds: at_seconds,
        decision_age_seconds: at_seconds.map(|at| (now_seconds - at).max(0.0)),
        max_age_seconds: published.max_age_seconds,
        withheld: published.current(now_seconds).err().map(|why| why.to_string()),
        ready: health::is_ready(&state),
        stopping: state.readiness().is_stopping(),
        demo: state.demo().is_some(),
        cluster: state.cluster().is_some(),
        policy: &published.policy,
        daemon: &published.daemon,
    })
}

async fn demo(State(state): State<ServeState>) -> Response {
    match state.demo() {
        Some(value) => found(&*value),
        None => error(StatusCode::NOT_FOUND, "not-found", "this is no demonstration".into()),
    }
}

async fn cluster(State(state): State<ServeState>) -> Response {
    match state.cluster() {
        Some(status) => found(&*status),
        None => error(StatusCode::NOT_FOUND, "not-found", "this daemon talks to no cluster".into()),
    }
}

fn found(value: &impl Serialize) -> Response {
    json_response(StatusCode::OK, serde_json::to_vec(value).unwrap_or_default())
}

fn no_number(why: &NoNumber) -> Response {
    let (code, reason) = match why {
        NoNumber::Withheld(why) => return withheld(why),
        NoNumber::Unknown { .. } => (StatusCode::NOT_FOUND, "not-found"),
        NoNumber::NotActing { .. } => (StatusCode::CONFLICT, "not-acting"),
        NoNumber::NotKnown { .. } | NoNumber::TooLarge { .. } | NoNumber::ZeroUnseen { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "no-number")
        }
    };
    error(code, reason, why.to_string())
}

fn withheld(why: &Withheld) -> Response {
    let reason = match why {
        Withheld::NotYet => "not-yet",
        Withheld::TooOld { .. } | Withheld::Ahead { .. } => "stale",
    };
    error(StatusCode::SERVICE_UNAVAILABLE, reason, why.to_string())
}

pub(super) fn error(code: StatusCode, reason: &'static str, message: String) -> Response {
    use axum::response::IntoResponse;
    let body = ErrorBody { error: ErrorDetail { code: code.as_u16(), reason, message } };
    (code, [("cache-control", "no-cache, private")], Json(body)).into_response()
}
