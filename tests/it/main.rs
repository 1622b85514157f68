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
