//! What to run: replicas per pool and the share of each demand cell sent to each pool. Pure.
//!
//! This room owns the optimisation problem, its solvers and the independent check of every answer. It
//! knows cells, pools, prices, stock and capacities as numbers; it knows no policy text, no observation,
//! no clock. The objective is lexicographic: (1) load not served within its target, most important class
//! first, (2) cost per hour including the cost of starting replicas, (3) order of names.

mod greedy;
mod milp;
mod problem;
mod solve;
mod verify;

pub use problem::{Cell, Flow, Plan, PoolOption, Problem, Serve, Solution};
pub use solve::{Budget, solve};
pub use verify::{Violation, verify};
