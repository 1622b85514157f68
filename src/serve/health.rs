//! `/healthz`, `/livez`, `/readyz` in the form kubelet and kubectl know.
//!
//! Alive means the process answers. Ready means in addition that the stop has not begun and that every
//! check that another part registered holds (its trust is loaded, its certificate is there). Neither
//! depends on data: a pool without a number is answered with an error of its own, and an API server that
//! is taken out of its Service because Prometheus is down would block discovery and namespace deletion in
//! the whole cluster. Whether a decision was made yet is shown in the verbose form and never counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::encode::text_response;
use super::state::ServeState;

/// What other parts say of the process: their checks, and that the stop has begun.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
    checks: Arc<Mutex<Vec<(&'static str, CheckHandle)>>>,
}

/// One registered check. It fails until it is set; clones are the same check.
#[derive(Clone, Debug, Default)]
pub struct CheckHandle(Arc<AtomicBool>);

impl CheckHandle {
    /// From now on the check holds or not.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::SeqCst);
    }

    pub fn holds(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Readiness {
    /// The check of this name, a line of `/readyz?verbose`; made, and failing, when there is none yet.
    /// For what the process needs to answer at all, never for data.
    pub fn check(&self, name: &'static str) -> CheckHandle {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = checks.iter().find(|(known, _)| *known == name) {
            return known.clone();
        }
        let handle = CheckHandle::default();
        checks.push((name, handle.clone()));
        handle
    }

    /// From now on the process is not ready. Cannot be taken back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn lines(&self) -> Vec<Check> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let registered = checks.iter().map(|(name, handle)| Check::new(name, handle.holds()));
        registered.chain([Check::new("shutdown", !self.is_stopping())]).collect()
    }
}

struct Check {
    name: &'static str,
    ok: bool,
    /// False for what is only shown.
    counts: bool,
}

impl Check {
    fn new(name: &'static str, ok: bool) -> Self {
        Self { name, ok, counts: true }
    }
}

pub fn routes(state: ServeState) -> Router {
    Router::new()
        .route("/healthz", get(|query: RawQuery| async move { report("healthz", &alive(), query) }))
        .route("/livez", get(|query: RawQuery| async move { report("livez", &alive(), query) }))
        .route("/readyz", get(readyz))
        .with_state(state)
}

fn alive() -> Vec<Check> {
    vec![Check::new("ping", true)]
}

async fn readyz(State(state): State<ServeState>, query: RawQuery) -> Response {
    report("readyz", &ready(&state), query)
}

fn ready(state: &ServeState) -> Vec<Check> {
    let mut checks = alive();
    checks.push(Check { name: "first-decision", ok: state.published().decision.is_some(), counts: false });
    checks.extend(state.readiness().lines());
    checks
}

/// Whether `/readyz` would answer 200.
pub(super) fn is_ready(state: &ServeState) -> bool {
    ready(state).iter().all(|check| check.ok || !check.counts)
}

fn report(endpoint: &str, checks: &[Check], RawQuery(query): RawQuery) -> Response {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let excluded = |name: &str| query.iter().any(|(key, value)| key == "exclude" && value == name);
    let verbose = query.iter().any(|(key, _)| key == "verbose");
    let mut lines = String::new();
    let mut failed = false;
    for Check { name, ok, counts } in checks {
        lines += &match (excluded(name), *ok, *counts) {
            (true, ..) => format!("[+]{name} excluded: ok\n"),
            (false, true, _) => format!("[+]{name} ok\n"),
            (false, false, false) => format!("[+]{name} not yet: ok\n"),
            (false, false, true) => {
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
