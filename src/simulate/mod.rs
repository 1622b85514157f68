//! A fleet that exists only in this process: engines, pools, gateway, request traces, real HTTP.
//!
//! This room owns the simulated world: what a replica does with requests, when it is ready, what it
//! prints on its metrics page and how HPA would follow the published number. It takes its truth from the
//! policy's performance parameters plus a seeded error, so that prediction and reality differ as they do
//! in life. It may know `policy`, `perf` and the decision's routes; it never plans. Time is a parameter:
//! seconds since the start of the run. Same policy, same traces, same seed: same requests, to the bit.

mod account;
mod engine;
mod exposition;
mod fleet;
mod hpa;
mod http;
mod lengths;
mod live;
mod meters;
mod pool;
mod record;
pub mod replay;
mod router;
mod scenario;
mod seed;
mod stage;
mod trace;
mod windows;
mod workload;

pub use account::{ClassSnapshot, MinuteLoad, PoolSnapshot, Snapshot};
pub use engine::{Completion, Engine, EngineSpec};
pub use fleet::{Fleet, FleetOptions, ListedReplica, PodError, ReplicaId, RequestStream};
pub use hpa::{HpaFollower, HpaSpec, HpaTarget, HpaTolerance, hpa_desired, hpa_recommendation, parse_quantity_milli};
pub use http::{FleetServer, SharedFleet};
pub use live::LiveFleet;
pub use record::{Followed, Moves, Pace, Record, Side, Violation};
pub use router::RouteShares;
pub use scenario::{Scenario, ScenarioError, TRACE_SECONDS};
pub use stage::{ClassSummary, PoolSummary, Scene, Stage, StageOptions, Summary};
pub use trace::{Trace, TraceError, TraceRow};
pub use windows::{ClassService, Served, Window};
pub use workload::{Replay, Request, Workload, WorkloadError};
