//! KEDA's external scaler over gRPC (`externalscaler.ExternalScaler`), and `grpc.health.v1` beside it.
//!
//! Owns the protocol: which pool a ScaledObject means, who may ask for it, what is pushed to whom. Every answer
//! comes from one snapshot and waits for nothing. It may not know how a number was found, and it never says
//! `false` or 0 for lack of data: it says an error, on which KEDA keeps its replicas.

mod calls;
mod guard;
mod health;
mod pulse;
mod service;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use tonic::service::Routes;

pub(super) use calls::Calls;

use super::server::Http2;
use super::state::ServeState;
use proto::external_scaler_server::ExternalScalerServer;

/// KEDA's messages and service, compiled from `proto/`.
mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("externalscaler");
}

/// Name of the one metric, as HPA sees it behind KEDA's `s0-`. Safe in a URL path, because KEDA does not change it.
pub const METRIC: &str = "poolwright-desired-replicas";

/// Key of the trigger's metadata that names the pool.
pub const POOL_KEY: &str = "pool";

/// Largest message that is read, bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// HTTP/2 for KEDA: the operator sends all it has through one connection, pushed streams included, and a call
/// that found no room would wait for ever. A client that is gone, or reads nothing, does not answer a ping.
pub const HTTP2: Http2 =
    Http2 { streams: 50_000, window: Some(8 << 20), ping: Some((Duration::from_secs(30), Duration::from_secs(20))) };

/// Settings of the external scaler.
#[derive(Clone, Debug)]
pub struct KedaOptions {
    /// Only these namespaces are answered; `None` answers all.
    pub namespaces: Option<BTreeSet<String>>,
    /// Time between two `true` of a stream whose pool stays active. KEDA drops what comes too early for it.
    pub repeat: Duration,
    /// Streams open at once, of all clients.
    pub max_streams: usize,
}

impl Default for KedaOptions {
    fn default() -> Self {
        Self { namespaces: None, repeat: Duration::from_secs(10), max_streams: 20_000 }
    }
}

/// What KEDA calls. Starts the task that wakes the streams, so it must be called within a tokio runtime.
pub fn keda_router(state: ServeState, options: KedaOptions) -> Router {
    let calls = Arc::clone(state.keda_calls());
    calls.listen();
    let reporter = tonic_health::server::HealthReporter::new();
    let pulse = pulse::start(&state, options.repeat, reporter.clone());
    let health = health::service(reporter, state.readiness().closing());
    let scaler = service::Scaler::new(state, options, pulse);
    let scaler = ExternalScalerServer::new(scaler).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let router = Routes::new(scaler).add_service(health).into_axum_router();
    super::guarded(router.layer(middleware::from_fn_with_state(calls, calls::count)))
}
