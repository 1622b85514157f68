//! The loop and what it remembers: `decide()`, the tick, state that survives a restart, the journal.
//!
//! `decide` is the pure function in the middle. Everything else in this room is the shell around it: it
//! asks a source for an observation, calls `decide`, journals, stores state and publishes one snapshot.

mod clock;
mod daemon;
mod decide;
mod decision;
mod journal;
mod pace;
mod published;
mod reasons;
mod replay;
mod state;
mod store;

pub use clock::{Clock, ManualClock, SystemClock};
pub use daemon::{Daemon, DaemonParts, PolicyReload};
pub use decide::{
    Detail, GivenDemand, LiveMemory, Search, Sizing, decide, decide_within, problem_for, problem_of, size,
};
pub use decision::{
    AcceleratorUse, Binding, ClassDecision, Decision, Latency, LimitUse, LiveCorrection, ModelDecision, PoolDecision,
    Route, SolveReport,
};
pub use journal::{Entry, Journal, JournalLimits, read as read_journal};
pub use pace::units_per_second;
pub use published::{DaemonStatus, HistoryPoint, PolicyStatus, Published, Withheld};
pub use reasons::{
    AcceleratorValue, Analysis, CapacityChange, Focus, Gain, LatencyTarget, OperatingLevel, OtherChoice, OtherPlan,
    PoolWeight, Prediction, PriorityRate, Relaxation, ReplicaChange,
};
pub use replay::{JournalTick, Moment, each_tick, moment};
pub use state::{ModelMemory, PlannerMemory, STATE_VERSION, State};
pub use store::StateStore;
