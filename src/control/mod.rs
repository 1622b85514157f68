//! The loop and what it remembers: `decide()`, the tick, state that survives a restart, the journal.
//!
//! `decide` is the pure function in the middle. Everything else in this room is the shell around it: it
//! asks a source for an observation, calls `decide`, journals, stores state and publishes one snapshot.

mod clock;
mod decision;
mod published;

pub use clock::{Clock, ManualClock, SystemClock};
pub use decision::{
    AcceleratorUse, Binding, ClassDecision, Decision, Latency, ModelDecision, PoolDecision, Route, SolveReport,
};
pub use published::{DaemonStatus, HistoryPoint, PolicyStatus, Published, Withheld};
