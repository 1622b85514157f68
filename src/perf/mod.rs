//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.
//!
//! This room owns the performance model: from the figures of a replica ([`Parameters`], [`Limits`], KV
//! memory) to latencies at a quantile and to the highest rate within targets. It knows no policy, no
//! cluster, no clock.

mod architecture;
mod capacity;
mod curve;
mod hardware;
mod latency;
mod parameters;
mod queue;
mod roles;
mod roofline;

pub use architecture::{Architecture, NumberFormat, architecture, known_architectures};
pub use capacity::{Capacity, CapacityCache, Limit, Replica, Target, capacity, latency_at};
pub use curve::Curve;
pub use hardware::{DataSheet, data_sheet, known_accelerators};
pub use latency::{Moments, Part, Quantiles, Room, Stage, Traffic, Work, dispersion};
pub use parameters::{Evidence, Experts, Limits, Parameters, Shape};
pub use queue::{
    BestConcurrency, BirthDeath, Chain, Execution, Iteration, Linear, Means, Occupancy, Onset, Service, Sized,
    SteadyState, best_concurrency, onset, size,
};

pub use roles::{Link, PartCapacity, decode_capacity, prefill_capacity, split_latencies};
pub use roofline::{Estimate, EstimateError, estimate};
