//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.
//!
//! This room owns the performance model: from the figures of a replica ([`Parameters`], [`Limits`], KV
//! memory) to latencies at a quantile and to the highest rate within targets. It knows no policy, no
//! cluster, no clock.

mod capacity;
mod iteration;
mod parameters;
mod queue;

pub use capacity::{Capacity, CapacityCache, Limit, Replica, Target, capacity, latency_at};
pub use iteration::{Iteration, Service};
pub use parameters::{Evidence, Limits, Parameters, Shape};
pub use queue::{Chain, Quantiles, SteadyState};

/// Placeholder until the data sheets land.
#[derive(Clone, Debug)]
pub struct DataSheet;
/// Placeholder until the architectures land.
#[derive(Clone, Debug)]
pub struct Architecture;
