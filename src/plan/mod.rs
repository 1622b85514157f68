//! What to run: replicas per pool and the share of each demand cell sent to each pool. Pure.
//!
//! This room owns the optimisation problem, its solvers and the independent check of every answer. It
//! knows cells, pools, prices, limits and capacities as numbers; it knows no policy text, no observation,
//! no clock. The objective is lexicographic: (1) load not served within its target, most important class
//! first, (2) cost per hour including the cost of starting replicas, (3) order of names.

pub mod analysis;
mod block;
mod choose;
mod effort;
mod fleet;
mod generate;
mod greedy;
mod gub;
#[cfg(feature = "highs")]
pub mod highs;
pub mod instance;
mod joint;
mod large;
mod memory;
mod milp;
mod parts;
pub mod peers;
mod polish;
mod problem;
#[cfg(test)]
pub(crate) mod samples;
mod search;
mod solve;
mod verify;

pub use effort::{DEFAULT_UNITS, Effort};
pub use memory::Memory;
pub use problem::{
    Cell, Conflict, Flow, Limit, LimitKind, Objective, Plan, PoolOption, Problem, Serve, Solution, Stage,
};
pub use solve::{priced, solve, solve_again, solve_from};
pub use verify::{Violation, verify};
