//! All plays of a run together: its requests, their true rates, and what is said of them.

use super::arrivals::{Arrivals, merge};
use super::lengths::Lengths;
use super::opponents::Truth;
use super::play::{Play, PlayError};
use super::truth::truth;
use crate::policy::Policy;
use crate::simulate::fleet::RequestStream;

/// Traces as the traffic of a policy's models.
#[derive(Clone, Debug)]
pub struct Traffic {
    plays: Vec<Play>,
    /// Length of the run, seconds: whole minutes.
    seconds: f64,
    /// Unix time at which the run begins, seconds.
    start_seconds: f64,
}

impl Traffic {
    /// As long as the shortest of `plays`, in whole minutes.
    ///
    /// # Errors
    /// A figure of a play is out of range for the policy, or the plays have less than a minute in common.
    pub fn new(plays: Vec<Play>, policy: &Policy, start_seconds: f64) -> Result<Self, PlayError> {
        let shortest = plays.iter().map(Play::seconds).fold(f64::INFINITY, f64::min);
        let seconds = 60.0 * (shortest / 60.0 + 1e-9).floor();
        if !(seconds.is_finite() && seconds >= 60.0) {
            return Err(PlayError::Run(shortest));
        }
        for play in &plays {
            Arrivals::new(play, policy, 0)?;
        }
        Ok(Self { plays, seconds, start_seconds })
    }

    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The requests of a seed; none when a play does not fit this policy.
    pub fn requests(&self, policy: &Policy, seed: u64) -> Box<dyn RequestStream> {
        let end_seconds = self.seconds;
        // All plays were tried when they were taken in.
        let arrivals = self.plays.iter().filter_map(|play| Arrivals::new(play, policy, seed).ok()).collect();
        Box::new(Until { requests: merge(arrivals), end_seconds })
    }

    /// The true rates and lengths of a seed.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn truth(&self, policy: &Policy, seed: u64) -> Result<Truth, PlayError> {
        truth(&self.plays, policy, seed, self.start_seconds, self.seconds)
    }

    /// A line for each play.
    pub fn words(&self, policy: &Policy) -> Vec<String> {
        let line = |play: &Play| {
            let model = policy.models[play.model].id();
            let class = play.class.map(|c| format!(" ({})", policy.classes[c].name)).unwrap_or_default();
            let lengths = match &play.lengths {
                Lengths::Own => String::new(),
                Lengths::Drawn(trace) => format!(", lengths of {}", trace.name()),
                Lengths::Quantiles { .. } => ", lengths from quantiles".to_owned(),
            };
            format!(
                "{model}{class}: {} from {:.1} h for {:.1} h, times {:.4}{lengths}",
                play.recording.name(),
                (play.from_seconds - play.recording.begin_seconds()) / 3600.0,
                self.seconds / 3600.0,
                play.scale,
            )
        };
        self.plays.iter().map(line).collect()
    }
}

/// Requests up to a time.
#[derive(Debug)]
struct Until<S> {
    requests: S,
    end_seconds: f64,
}

impl<S: Iterator<Item = crate::simulate::Request>> Iterator for Until<S> {
    type Item = crate::simulate::Request;

    fn next(&mut self) -> Option<Self::Item> {
        self.requests.next().filter(|request| request.arrival_seconds < self.end_seconds)
    }
}
