//! Integration tests, one binary.

/// One simulated replica against the performance model.
mod simulate_engine;
/// Pools, stock, routing, accounts and determinism of the simulated fleet.
mod simulate_fleet;
/// A simulated fleet over real HTTP: pages, discovery, readiness, the HPA follower.
mod simulate_http;
/// The simulated metrics page against a real server's.
mod simulate_page;
/// The policy that the tests of the simulated fleet share.
mod simulate_policy;
/// Traces played as workloads.
mod simulate_workload;

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
