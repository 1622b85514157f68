//! What came of a run: plain numbers, in the order of the policy's classes, pools and accelerators.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a request was late, the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The server refused it, or it was lost with its replica.
    Failed,
    /// An idle replica of its pool would have been too slow for it.
    TooLong,
    /// It was thrown out of the KV memory and computed again.
    KvMemory,
    /// It came while replicas of its model were starting, or none was ready.
    ColdStart,
    /// It waited too long for its first token.
    Queue,
    /// Its tokens came too slowly.
    SlowTokens,
    /// Unfinished at the end of the run and too late already.
    Unfinished,
}

impl Cause {
    /// As it is told, for example `cold start`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TooLong => "too long",
            Self::KvMemory => "KV memory",
            Self::ColdStart => "cold start",
            Self::Queue => "queue",
            Self::SlowTokens => "slow tokens",
            Self::Unfinished => "unfinished",
        }
    }
}

/// One run of one scaling rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Name of the rule, as on the command line.
    pub rule: String,
    /// What it runs on, for example `h100` or `60 % h100, 40 % l40s`; empty when it chooses itself.
    pub hardware: String,
    /// Value of the setting that is swept; `None` where there is none.
    pub target: Option<f64>,
    pub seed: u64,
    /// Length of the run, seconds.
    pub seconds: f64,
    /// In the policy's currency.
    pub cost: f64,
    /// Hours of accelerators in use, by type: starting, ready and draining.
    pub accelerator_hours: BTreeMap<String, f64>,
    pub classes: Vec<ClassOutcome>,
    /// Changes of a scale target.
    pub actions: u64,
    /// Changes of one pool up and another of the same model down at the same time.
    pub type_changes: u64,
    /// Accelerator hours of replicas that were taken away before they were ready.
    pub wasted_start_hours: f64,
    /// Most requests that waited at once, at the gateway and in the servers.
    pub most_waiting: u64,
    /// One point a minute.
    pub minutes: Vec<MinutePoint>,
}

/// One SLO class of a run. Every request that arrived is met or late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassOutcome {
    pub class: String,
    /// What is promised to so many of its requests, 0..1; 1 for a deadline.
    pub quantile: f64,
    pub arrived: u64,
    pub met: u64,
    /// met / arrived; `None` when none arrived.
    pub attainment: Option<f64>,
    /// By hour of the run.
    pub hours: Vec<HourOutcome>,
    /// Share of the hours with at least 1,000 requests that kept the promise; `None` without such an hour.
    pub hours_kept: Option<f64>,
    /// Longest run of minutes with requests that each missed the promise, minutes.
    pub longest_violation_minutes: u32,
    pub late: BTreeMap<Cause, u64>,
    /// Time to first token, seconds.
    pub ttft: Spread,
    /// Mean time between a request's tokens, seconds.
    pub itl: Spread,
    /// Longest wait of a request that came when its model had no replica, seconds; `None` when none did.
    pub longest_wake_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourOutcome {
    pub arrived: u64,
    pub met: u64,
}

/// Percentiles of finished requests, seconds; 0 when none finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
}

/// The fleet at the end of a minute, and the requests that arrived in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MinutePoint {
    /// By class.
    pub arrived: Vec<u32>,
    /// Of them in time, by class.
    pub met: Vec<u32>,
    /// Replicas asked for, by pool.
    pub wanted: Vec<u32>,
    /// By pool.
    pub ready: Vec<u32>,
    pub cost_per_hour: f64,
    /// Changes of a scale target in the minute.
    pub actions: u32,
    /// Changes of one pool up and another of the same model down at the same time.
    pub type_changes: u32,
    /// Of the requests that arrived in it, those that were late.
    pub late: BTreeMap<Cause, u32>,
}
