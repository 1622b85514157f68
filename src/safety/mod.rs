//! What may be said: the rules between a plan and a published number. Pure.
//!
//! This room owns holding on missing data, limits, dwell, step sizes and the order of steps. It knows
//! one pool's numbers and what was said before; it knows nothing of prices, latencies or forecasts.

mod memory;
mod order;
mod rules;
mod waste;

pub use memory::PoolMemory;
pub use order::{Move, keep_serving};
pub use rules::{Inputs, Knowledge, Rule, Verdict, judge};
pub use waste::Waste;
