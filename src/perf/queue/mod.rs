//! Means of one replica as a birth-death chain whose service rate depends on the batch: the formulas of the
//! published performance models, reproduced exactly, and sizing for mean latencies with them.
//!
//! Two generations: [`Linear`] (one iteration per prompt) and [`Service`] (prompts in chunks of the token budget).
//! This room knows no percentiles, memory or evidence: those are in `latency` and `capacity`.

mod birth_death;
mod iteration;
mod linear;
mod sizing;
mod steady;

pub use birth_death::{BirthDeath, Occupancy};
pub use iteration::{Iteration, Service};
pub use linear::Linear;
pub use sizing::{BestConcurrency, Means, Onset, Sized, best_concurrency, onset, size};
pub use steady::{Chain, Execution, SteadyState};
