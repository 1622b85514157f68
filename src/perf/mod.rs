//! What one replica can do: iteration time, KV memory, queueing, capacity. Pure.

mod architecture;
mod hardware;
mod parameters;
mod roofline;

pub use architecture::{Architecture, NumberFormat, architecture, known_architectures};
pub use hardware::{DataSheet, data_sheet, known_accelerators};
pub use parameters::{Evidence, Limits, Parameters, Shape};
pub use roofline::{Estimate, EstimateError, estimate};
