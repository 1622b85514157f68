//! A measured value that knows how old it is and how far it can be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a signal can be trusted. The order is from best to worst evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Measured within the age limit.
    Fresh,
    /// Measured within the age limit, and positively known to be at rest: every live instance
    /// answered, none has a running or waiting request, and no counter moved in the window.
    ConfirmedIdle,
    /// Measured, but longer ago than the age limit allows, or on only part of the instances.
    Stale,
    /// Never measured, refused as implausible, or lost.
    Missing,
}

/// One measured value with the time of its measurement and its quality.
///
/// A missing signal has no value; the planner must not read an absent value as zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal<T> {
    pub value: Option<T>,
    /// Unix time of the measurement, seconds.
    pub at_seconds: f64,
    pub quality: Quality,
}

impl<T> Signal<T> {
    pub fn fresh(value: T, at_seconds: f64) -> Self {
        Self { value: Some(value), at_seconds, quality: Quality::Fresh }
    }

    pub fn idle(value: T, at_seconds: f64) -> Self {
        Self { value: Some(value), at_seconds, quality: Quality::ConfirmedIdle }
    }

    pub fn stale(value: T, at_seconds: f64) -> Self {
        Self { value: Some(value), at_seconds, quality: Quality::Stale }
    }

    pub fn missing() -> Self {
        Self { value: None, at_seconds: 0.0, quality: Quality::Missing }
    }

    /// The value, if it may be used to *reduce* something: fresh or confirmed idle.
    pub fn trusted(&self) -> Option<&T> {
        match self.quality {
            Quality::Fresh | Quality::ConfirmedIdle => self.value.as_ref(),
            Quality::Stale | Quality::Missing => None,
        }
    }

    /// Seconds since the measurement, never negative (clocks may be skewed).
    pub fn age_seconds(&self, now_seconds: f64) -> Option<f64> {
        self.value.as_ref().map(|_| (now_seconds - self.at_seconds).max(0.0))
    }
}

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self::missing()
    }
}
