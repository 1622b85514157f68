//! What the operator wants: schema, loading, validation, hot reload. No network.
//!
//! This room owns the policy documents from YAML text to [`Policy`], the resolved form without
//! contradictions that the rest of the program sees. It may know the data sheets and architectures of
//! `perf` (to resolve names) and nothing of what is going on in the fleet.

mod change;
mod document;
mod load;
mod names;
mod node;
mod problem;
pub mod profile;
mod report;
mod resolve;
pub mod resolved;
pub mod schedule;
pub mod schema;
pub mod selector;
mod shape;
pub mod units;

pub use change::Change;
pub use load::{Watcher, files, from_text, load, load_with};
pub use problem::{PolicyErrors, Problem, did_you_mean, listed};
pub use profile::profile as read_profile;
pub use report::{check_report, json_schema};
pub use resolved::{
    Accelerator, FleetLimit, Floor, Least, LimitScope, Model, Planner, Policy, Pool, Promise, ScaleTarget, SloClass,
};
pub use schedule::{Schedule, Zone};
pub use schema::{Engine, MetricsPort, Mode, Role};
pub use selector::{Condition, NAMESPACE_LABEL, SeriesSelector};
