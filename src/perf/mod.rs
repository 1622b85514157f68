//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.
//!
//! This room owns the performance model: from the figures of a replica ([`Parameters`], [`Limits`], KV
//! memory) to latencies at a quantile and to the highest rate within targets. It knows no policy, no
//! cluster, no clock.

pub mod accuracy;
mod architecture;
mod capacity;
mod curve;
pub mod fit;
mod hardware;
mod latency;
pub mod live;
mod log_fit;
mod parameters;
mod queue;
mod roles;
mod roofline;

pub use architecture::{
    Architecture, AttentionGroup, AttentionKind, ConfigError, GivenFigures, Mixture, NumberFormat, Parallelism, Parts,
    ReadBytes, SparseIndex, Stored, architecture, known_architectures, stored_format_of,
};
pub use capacity::{Capacity, CapacityCache, Limit, Replica, Target, capacity, latency_at};
pub use curve::Curve;
pub use hardware::{DataSheet, Generation, data_sheet, known_accelerators};
pub use latency::{Moments, Part, Quantiles, Room, Stage, Traffic, Work, dispersion};
pub use parameters::{Evidence, Experts, GivenLimits, Limits, Parameters, Prompts, Shape};
pub use queue::{
    BestConcurrency, BirthDeath, Chain, Execution, Iteration, Linear, Means, Occupancy, Onset, Service, Sized,
    SteadyState, best_concurrency, onset, size,
};

pub use roles::{Link, PartCapacity, decode_capacity, prefill_capacity, split_latencies};
pub use roofline::{
    ClosedLoop, Constants, Deployment, EngineFamily, Estimate, EstimateError, Latency, Load, Memory, PaperReplica,
    Roofline, Spread, Spreads, estimate,
};
