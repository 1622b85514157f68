//! What is played: a stretch of a recording as the traffic of one model.
//!
//! It owns the figures of a play, their bounds and the random streams that belong to it. It draws no request.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::lengths::{LengthLaw, Lengths};
use super::recording::Recording;
use crate::policy::Policy;
use crate::simulate::seed;

/// Bounds of the squared coefficient of variation of the times between requests.
const BURSTINESS: (f64, f64) = (1e-4, 1e6);
/// Most copies of a list of requests played at once.
const MOST_COPIES: f64 = 10_000.0;
/// Highest factor on rates.
const MOST_SCALE: f64 = 1e6;
/// Longest play: a year, seconds.
const LONGEST_SECONDS: f64 = 31_622_400.0;

/// A stretch of a recording, played as the traffic of one model from the start of the run.
#[derive(Clone, Debug)]
pub struct Play {
    pub recording: Arc<Recording>,
    /// Index in the policy.
    pub model: usize,
    /// Index of the class in the policy, one of the model's; drawn by the model's shares when `None`.
    pub class: Option<usize>,
    pub lengths: Lengths,
    /// Multiplies the rate, above 0. Of a list of requests each is kept with this probability below 1; above 1,
    /// shifted copies are played.
    pub scale: f64,
    /// Squared coefficient of variation of the times between requests inside a minute, 0.0001..=1000000; 1 is a
    /// Poisson process. Of rates only: lists have their times, clients a rhythm of their own.
    pub burstiness: f64,
    /// Where in the recording to begin, seconds on its clock.
    pub from_seconds: f64,
    /// Where in the recording to end, seconds on its clock.
    pub to_seconds: f64,
}

/// Why a play is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlayError {
    #[error("playing {recording}: {field} is {value}, expected {expected}")]
    Figure { recording: String, field: &'static str, value: f64, expected: String },
    #[error("playing {recording}: the policy has no model number {model}, expected less than {models}")]
    Model { recording: String, model: usize, models: usize },
    #[error("playing {recording}: class number {class} is none of model {model}, expected one of {expected}")]
    Class { recording: String, class: usize, model: String, expected: String },
    #[error("playing {recording}: it holds no lengths of its own, expected a list of requests or quantiles for them")]
    OwnLengths { recording: String },
    #[error("playing {recording}: {what}")]
    Lengths { recording: String, what: String },
    #[error("the run has {0} seconds, expected more than 0 and at most 31622400")]
    Run(f64),
}

impl Play {
    /// The whole recording at its own rate: lengths of its own for a list, drawn from `lengths` otherwise.
    pub fn whole(recording: Arc<Recording>, model: usize, lengths: Lengths) -> Self {
        let (from_seconds, to_seconds) = (recording.begin_seconds(), recording.end_seconds());
        Self { recording, model, class: None, lengths, scale: 1.0, burstiness: 1.0, from_seconds, to_seconds }
    }

    /// How long it lasts, seconds.
    pub fn seconds(&self) -> f64 {
        self.to_seconds - self.from_seconds
    }

    /// Whether all its figures are right; the lengths ready to be drawn.
    pub(super) fn check(&self, policy: &Policy) -> Result<LengthLaw, PlayError> {
        let recording = self.recording.name().to_owned();
        let refuse = |field, value, expected: String| {
            Err(PlayError::Figure { recording: recording.clone(), field, value, expected })
        };
        let is_list = matches!(*self.recording, Recording::Requests(_));
        let most = if is_list { MOST_COPIES } else { MOST_SCALE };
        if !(self.scale > 0.0 && self.scale <= most) {
            return refuse("scale", self.scale, format!("more than 0 and at most {most}"));
        }
        if !(BURSTINESS.0..=BURSTINESS.1).contains(&self.burstiness) {
            return refuse("burstiness", self.burstiness, format!("{} to {}", BURSTINESS.0, BURSTINESS.1));
        }
        let (begin, end) = (self.recording.begin_seconds(), self.recording.end_seconds());
        if !(self.from_seconds >= begin && self.from_seconds < end) {
            return refuse("from_seconds", self.from_seconds, format!("{begin} to less than {end}"));
        }
        let end = end.min(self.from_seconds + LONGEST_SECONDS);
        if !(self.to_seconds > self.from_seconds && self.to_seconds <= end) {
            let expected = format!("more than {} and at most {end}", self.from_seconds);
            return refuse("to_seconds", self.to_seconds, expected);
        }
        self.check_class(policy)?;
        if matches!(self.lengths, Lengths::Own) && !is_list {
            return Err(PlayError::OwnLengths { recording });
        }
        self.lengths.law().map_err(|what| PlayError::Lengths { recording, what })
    }

    fn check_class(&self, policy: &Policy) -> Result<(), PlayError> {
        let recording = self.recording.name().to_owned();
        let Some(model) = policy.models.get(self.model) else {
            return Err(PlayError::Model { recording, model: self.model, models: policy.models.len() });
        };
        match self.class {
            Some(class) if !model.classes.iter().any(|(c, _)| *c == class) => {
                let expected = model.classes.iter().map(|(c, _)| c.to_string()).collect::<Vec<_>>().join(", ");
                Err(PlayError::Class { recording, class, model: model.id(), expected })
            }
            _ => Ok(()),
        }
    }

    /// Share of each class of the model (in the model's order) in this play.
    pub(super) fn shares(&self, policy: &Policy) -> Vec<f64> {
        let classes = &policy.models[self.model].classes;
        classes.iter().map(|&(c, share)| self.class.map_or(share, |fixed| f64::from(u8::from(fixed == c)))).collect()
    }

    /// A random stream of this play that depends on nothing but the recording, who gets it and the seed. The folder
    /// of the file does not count: the same run comes out on every machine.
    pub(super) fn stream(&self, seed: u64, what: &str, index: u64) -> ChaCha8Rng {
        let file = self.recording.name().rsplit(['/', '\\']).next().unwrap_or_default();
        let column = match &*self.recording {
            Recording::Rates(rates) => rates.column().unwrap_or_default(),
            _ => "",
        };
        let class = self.class.map_or("drawn".to_owned(), |class| class.to_string());
        seed::rng(seed, &format!("{what} of {file} {column} for model {} class {class}", self.model), index)
    }
}
