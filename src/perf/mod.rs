//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.
//!
//! This room owns the performance model: from the figures of a replica ([`Parameters`], [`Limits`], KV
//! memory) to latencies at a quantile and to the highest rate within targets. It knows no policy, no
//! cluster, no clock.

mod architecture;
mod capacity;
mod hardware;
mod iteration;
pub mod live;
mod parameters;
mod queue;
mod roofline;

pub use architecture::{Architecture, NumberFormat, architecture, known_architectures};
pub use capacity::{Capacity, CapacityCache, Limit, Replica, Target, capacity, latency_at};
pub use hardware::{DataSheet, data_sheet, known_accelerators};
pub use iteration::{Iteration, Service};
pub use parameters::{Evidence, Experts, Limits, Parameters, Shape};
pub use queue::{Chain, Quantiles, SteadyState};

pub use roofline::{Estimate, EstimateError, estimate};
