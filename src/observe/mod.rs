//! What is going on: model servers and Prometheus, read into one [`Observation`].
//!
//! This room owns the reading of metrics: sources, dialects, series selection, plausibility, freshness.
//! It may know the policy (which series belong to which pool) and nothing else; it never decides. Its
//! data types ([`Signal`], [`Histogram`], [`Observation`]) are plain and are used by every later room.

mod histogram;
mod observation;
mod signal;
mod source;

pub use histogram::Histogram;
pub use observation::{Finding, FindingKind, Observation, PoolObservation, RatePoint};
pub use signal::{Quality, Signal};
pub use source::{BoxFuture, Source};
