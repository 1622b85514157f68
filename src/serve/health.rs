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
use tokio_util::sync::CancellationToken;

use super::state::ServeState;
use super::status::text_response;

/// Ends readiness when the stop begins.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
    closing: CancellationToken,
}

impl Readiness {
    /// From now on the process is not ready. Cannot be taken back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The listeners close: answers without an end are to end now.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Cancelled when the listeners close.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }
}

struct Check {
    name: &'static str,
    ok: bool,
}

pub fn routes(state: ServeState) -> Router {
    Router::new()
        .route("/healthz", get(|query: RawQuery| async move { report("healthz", &alive(), query) }))
        .route("/livez", get(|query: RawQuery| async move { report("livez", &alive(), query) }))
        .route("/readyz", get(readyz))
        .with_state(state)
}

fn alive() -> Vec<Check> {
    vec![Check { name: "ping", ok: true }]
}

async fn readyz(State(state): State<ServeState>, query: RawQuery) -> Response {
    report("readyz", &ready(&state), query)
}

fn ready(state: &ServeState) -> Vec<Check> {
    let mut checks = alive();
    checks.push(Check { name: "first-decision", ok: state.published().decision.is_some() });
    checks.push(Check { name: "shutdown", ok: !state.readiness().is_stopping() });
    checks
}

/// Whether `/readyz` would answer 200.
pub(super) fn is_ready(state: &ServeState) -> bool {
    ready(state).iter().all(|check| check.ok)
}

fn report(endpoint: &str, checks: &[Check], RawQuery(query): RawQuery) -> Response {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let excluded = |name: &str| query.iter().any(|(key, value)| key == "exclude" && value == name);
    let verbose = query.iter().any(|(key, _)| key == "verbose");
    let mut lines = String::new();
    let mut failed = false;
    for Check { name, ok } in checks {
        lines += &match (excluded(name), *ok) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => {
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
