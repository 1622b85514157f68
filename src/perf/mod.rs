//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.

mod parameters;

pub use parameters::{Evidence, Limits, Parameters, Shape};

/// Placeholder until the data sheets land.
#[derive(Clone, Debug)]
pub struct DataSheet;
/// Placeholder until the architectures land.
#[derive(Clone, Debug)]
pub struct Architecture;
