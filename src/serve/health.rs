//! `/healthz`, `/livez`, `/readyz` in the form kubelet and kubectl know.
//!
//! Alive means the process answers. Ready means in addition that a decision was made since the start and
//! that the stop has not begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::state::ServeState;
use super::status::text_response;

/// Ends readiness when the stop begins.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// From now on the process is not ready. Cannot be taken back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// How one part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// It works, but somebody should look; says why.
    Worrying(&'static str),
    Failed,
}

impl From<bool> for Health {
    fn from(good: bool) -> Self {
        if good { Self::Good } else { Self::Failed }
    }
}

/// A named part of readiness that is looked at on every request.
#[derive(Clone)]
pub(super) struct Check {
    name: &'static str,
    look: Arc<dyn Fn() -> Health + Send + Sync>,
}

impl Check {
    pub fn new(name: &'static str, look: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        Self { name, look: Arc::new(look) }
    }
}

/// A check's result.
struct Part {
    name: &'static str,
    health: Health,
}

pub fn routes(state: ServeState) -> Router {
    Router::new()
        .route("/healthz", get(|query: RawQuery| async move { report("healthz", &alive(), query) }))
        .route("/livez", get(|query: RawQuery| async move { report("livez", &alive(), query) }))
        .route("/readyz", get(readyz))
        .with_state(state)
}

fn alive() -> Vec<Part> {
    vec![Part { name: "ping", health: Health::Good }]
}

async fn readyz(State(state): State<ServeState>, query: RawQuery) -> Response {
    report("readyz", &ready(&state), query)
}

fn ready(state: &ServeState) -> Vec<Part> {
    let mut parts = alive();
    parts.push(Part { name: "first-decision", health: state.published().decision.is_some().into() });
    parts.push(Part { name: "shutdown", health: (!state.readiness().is_stopping()).into() });
    parts.extend(state.checks().iter().map(|check| Part { name: check.name, health: (check.look)() }));
    parts
}

/// Whether `/readyz` would answer 200.
pub(super) fn is_ready(state: &ServeState) -> bool {
    ready(state).iter().all(|part| part.health != Health::Failed)
}

fn report(endpoint: &str, parts: &[Part], RawQuery(query): RawQuery) -> Response {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let excluded = |name: &str| query.iter().any(|(key, value)| key == "exclude" && value == name);
    let verbose = query.iter().any(|(key, _)| key == "verbose");
    let mut lines = String::new();
    let mut failed = false;
    for Part { name, health } in parts {
        lines += &match (excluded(name), *health) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, Health::Good) => format!("[+]{name} ok\n"),
            (false, Health::Worrying(why)) => format!("[+]{name} ok: {why}\n"),
            (false, Health::Failed) => {
                failed = true;
                format!("[-]{name} failed: reason withheld\n")
            }
        };
    }
    if failed {
        text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    } else if verbose {
        text_response(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        text_response(StatusCode::OK, "ok")
    }
}
