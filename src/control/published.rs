//! The one immutable snapshot that every interface reads.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Decision;
use crate::policy::Mode;

/// What the interfaces may say. Replaced as a whole; never changed.
#[derive(Clone, Debug)]
pub struct Published {
    /// The newest decision; `None` before the first one.
    pub decision: Option<Arc<Decision>>,
    /// Age beyond which the decision is no longer served, seconds.
    pub max_age_seconds: f64,
    /// Short history for the chart, oldest first.
    pub history: Arc<VecDeque<HistoryPoint>>,
    pub policy: PolicyStatus,
    pub daemon: DaemonStatus,
}

/// State of the loaded policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    pub fingerprint: String,
    /// Why the newest edit was refused; the policy above is the last good one.
    pub error: Option<String>,
    pub reloads: u64,
    pub rejected: u64,
}

/// Counters of the loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DaemonStatus {
    pub ticks: u64,
    pub failed_observations: u64,
    /// Duration of the last decision and of the last observation, wall-clock seconds.
    pub decide_seconds: f64,
    /// Answers of a solver that the independent check refused and replaced.
    pub refused_plans: u64,
    pub observe_seconds: f64,
    pub journal_errors: u64,
    pub state_errors: u64,
    /// Where the data comes from, for the page: `prometheus` or `scrape`.
    pub source: String,
}

/// One point of the chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    pub at_seconds: f64,
    /// Offered load of the whole fleet, requests per second.
    pub offered_rate: f64,
    /// Load planned for, requests per second.
    pub planned_rate: f64,
    pub ready: u32,
    pub desired: u32,
    pub cost_per_hour: f64,
    /// Desired replicas of every pool, in the decision's order.
    pub pools: Vec<u32>,
}

/// A decision may be this much ahead of the clock, seconds: clocks are corrected a little all the time.
const AHEAD_SECONDS: f64 = 5.0;

/// Why a number cannot be given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Withheld {
    #[error("no decision was made yet: the daemon has not observed the fleet since it started")]
    NotYet,
    #[error("the decision is {ahead_seconds:.0}s ahead of the clock, which was set back")]
    Ahead { ahead_seconds: f64 },
    #[error("the decision is {age_seconds:.0}s old, limit {limit_seconds:.0}s")]
    TooOld { age_seconds: f64, limit_seconds: f64 },
}

impl Published {
    /// Nothing decided yet.
    pub fn empty(max_age_seconds: f64) -> Self {
        Self {
            decision: None,
            max_age_seconds,
            history: Arc::default(),
            policy: PolicyStatus::default(),
            daemon: DaemonStatus::default(),
        }
    }

    /// The decision, if it is young enough to be served.
    ///
    /// # Errors
    /// There is none yet, or it is older than its limit.
    pub fn current(&self, now_seconds: f64) -> Result<&Decision, Withheld> {
        let decision = self.decision.as_deref().ok_or(Withheld::NotYet)?;
        let age_seconds = now_seconds - decision.at_seconds;
        if age_seconds < -AHEAD_SECONDS {
            return Err(Withheld::Ahead { ahead_seconds: -age_seconds });
        }
        // Written so that an age that is no number is too old.
        if !age_seconds.le(&self.max_age_seconds) {
            return Err(Withheld::TooOld { age_seconds, limit_seconds: self.max_age_seconds });
        }
        Ok(decision)
    }
}

impl super::PoolDecision {
    /// The number for HPA and KEDA: only a pool in mode `act` has one.
    pub fn published(&self) -> Option<u32> {
        (self.mode == Mode::Act).then_some(self.desired).flatten()
    }
}
