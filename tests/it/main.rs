//! All integration tests in one binary, one file per subject.

/// The external metrics API: discovery, data path, errors.
mod serve_external;
/// Health and the JSON API.
mod serve_json;
/// The daemon's own metrics.
mod serve_metrics;
/// The selector parser against an independent evaluator.
mod serve_selector;
/// Listeners, certificates, the orderly stop.
mod serve_server;
/// A published snapshot to serve, and how to ask for it.
mod serve_support;
