//! Who hears it: the external metrics API for HPA, the JSON API for KEDA and programs, the web page, the
//! daemon's own `/metrics`, and health.
//!
//! This room reads one immutable [`Published`](crate::control::Published) snapshot and a clock; it never
//! decides and never computes a number of its own. What it may not give (nothing decided yet, too old, a
//! pool that is not in mode `act`) it refuses; it never gives an old or a partial answer.

pub mod auth;
mod connection;
mod discovery;
mod external;
mod families;
mod health;
mod json;
mod label;
mod metrics;
mod negotiate;
mod options;
mod page;
mod path;
mod selector;
mod server;
mod state;
mod status;
mod tls;
mod view;

use axum::Router;
use tower_http::catch_panic::CatchPanicLayer;

pub use auth::Access;
pub use discovery::{GROUP, GROUP_VERSION, Metric};
pub use health::{Health, Readiness};
pub use label::selectable;
pub use selector::{Selector, SelectorError};
pub use server::{Listener, StopTimes, run};
pub use state::ServeState;
pub use tls::{Authorities, ClientCertificates, Tls, TlsError};

/// What kube-apiserver and kubelet call: the external metrics API, `/version` and health, for those whom `access`
/// admits.
pub fn api_router(state: ServeState, access: &Access) -> Router {
    guarded(access.protect(health::routes(state.clone()).merge(external::routes(state))))
}

/// What people, Prometheus and KEDA call: the page, the JSON API, `/metrics` and health.
pub fn web_router(state: ServeState) -> Router {
    guarded(health::routes(state.clone()).merge(web(state)))
}

/// Both on one listener, for everybody.
pub fn router(state: ServeState) -> Router {
    guarded(health::routes(state.clone()).merge(web(state.clone())).merge(external::routes(state)))
}

fn web(state: ServeState) -> Router {
    page::routes().merge(json::routes(state.clone())).merge(metrics::routes(state))
}

/// A panic in one request answers 500 and leaves the others alone.
fn guarded(router: Router) -> Router {
    router.layer(CatchPanicLayer::new())
}
