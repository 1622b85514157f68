//! What will come: offered load, its shapes, and the load to plan for over the start-up time. Pure.
//!
//! This room owns the memory of past demand and every forecast made from it. It may know observations
//! and the policy's classes; it does not know replicas, prices or plans.

mod backlog;
mod forecast;
mod shapes;

pub use backlog::{Patience, due_rate};
pub use forecast::{Base, Forecast, RateMemory};
pub use shapes::{Bucket, ShapeMemory};
