//! A replay: recorded traffic on a simulated fleet, scaled by our planner or by somebody else's rule.
//!
//! This room owns traces and what is made of them, the opponents, the books of a run and what is told of them.
//! Every scaling rule sees only what it would see in life: what the servers count, read every 15 seconds, and the
//! scale targets. It may know `policy`, `observe`'s judgement of readings, `control`'s decision and the simulated
//! fleet; no socket, no clock: a run depends on policy, traces, options and seed alone.

mod arrivals;
mod books;
mod comparison;
mod joined;
mod journal;
mod lengths;
mod opponents;
mod outcome;
mod play;
mod recording;
mod report;
mod run;
mod sweep;
mod traffic;
mod truth;
mod view;
mod workers;

pub use arrivals::{Arrivals, merge};
pub use comparison::{Comparison, Contest, PromiseWords};
pub use journal::{JournalTraffic, ModelTraffic};
pub use lengths::{LengthQuantiles, Lengths};
pub use opponents::{Hardware, Kind, Opponent, Order, ReplicaSeen, Seen, Setting, Truth, kind_named, kinds};
pub use outcome::{Cause, ClassOutcome, HourOutcome, MinutePoint, Outcome, Spread};
pub use play::{Play, PlayError};
pub use recording::{Client, ClientTrace, ClientWindow, RateStep, RateTrace, Recording, RequestTrace, WINDOW_SECONDS};
pub use report::{
    ActionSeries, ClassFigures, File, LatencyFigures, MOST_POINTS, Report, ReportError, RuleFigures, RuleSeries,
    SCHEMA, TryFigures,
};
pub use run::{Contestant, Faults, GiveUp, Loss, ModelError, RunOptions, STEP_SECONDS, first_fleet, run};
pub use sweep::{Stretch, Tries, fixed_splits, singles};
pub use traffic::Traffic;
pub use truth::truth;
pub use workers::in_parallel;
