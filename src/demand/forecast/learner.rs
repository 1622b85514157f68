//! One bound that calibrates itself: for one horizon and one aim, fed minute by minute.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::base::{BASES, Base, Levels};
use super::errors::Errors;
use super::{ENOUGH, GAP_SECONDS};
use crate::observe::RatePoint;

/// Minutes a base needs before its error counts: the first minutes of a service are its start, not its load.
const SETTLED: usize = 5;
/// Minutes after which an error counts 1/e.
const ERROR_MINUTES: f64 = 1000.0;
/// Minutes after which a loss counts 1/e.
const LOSS_MINUTES: f64 = 720.0;
/// How sharply less loss is preferred: weights are `exp(-SHARPNESS * (loss / least - 1))`.
const SHARPNESS: f64 = 30.0;
/// Step of the coverage correction after an error, in typical errors.
const CORRECTION_STEP: f64 = 0.01;
/// Most that the coverage correction moves the bound, natural logarithm.
const MOST_CORRECTION: f64 = 0.7;
/// Upper bound over base that is assumed before there are errors, per root minute of horizon.
const PRIOR_PER_ROOT_MINUTE: f64 = 0.08;

/// What was said at one minute and is not yet known to be right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    bases: [f64; BASES],
    bounds: [f64; BASES],
    /// The bound that was published.
    bound: f64,
    /// Highest minute since.
    peak: f64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Learner {
    pub horizon: usize,
    pub quantile: f64,
    /// The last minute that was learnt.
    pub at_seconds: f64,
    levels: Levels,
    said: VecDeque<Said>,
    errors: [Errors; BASES],
    /// Discounted pinball loss of each base.
    losses: [f64; BASES],
    /// Errors known.
    pub count: usize,
    /// Highest rise of a peak over the first base, requests per second; forgotten like the errors. After a jump, ratios
    /// alone would multiply the new level by the whole jump.
    rise: f64,
    /// Logarithm by which the mix is raised.
    correction: f64,
    /// Typical error of the published bound, natural logarithm.
    typical: f64,
}

/// What a learner says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub rate: f64,
    pub base: Base,
    pub base_rate: f64,
}

impl Learner {
    pub fn new(horizon: usize, quantile: f64) -> Self {
        Self {
            horizon,
            quantile,
            at_seconds: f64::NEG_INFINITY,
            levels: Levels::default(),
            said: VecDeque::new(),
            errors: Default::default(),
            losses: [0.0; BASES],
            count: 0,
            rise: 0.0,
            correction: 0.0,
            typical: 0.0,
        }
    }

    /// Learn the minutes that came since.
    pub fn catch_up(&mut self, minutes: &VecDeque<RatePoint>) {
        let from = minutes.partition_point(|p| p.at_seconds <= self.at_seconds);
        for at in from..minutes.len() {
            self.step(minutes, at);
        }
    }

    fn step(&mut self, minutes: &VecDeque<RatePoint>, at: usize) {
        let RatePoint { at_seconds, rate } = minutes[at];
        if at_seconds - self.at_seconds > GAP_SECONDS {
            self.said.clear();
            self.levels = Levels::default();
        }
        self.at_seconds = at_seconds;
        for said in &mut self.said {
            said.peak = said.peak.max(rate);
        }
        if self.said.len() >= self.horizon
            && let Some(said) = self.said.pop_front()
        {
            self.judge(&said);
        }
        self.levels.step(rate);
        if self.levels.run >= SETTLED {
            let bases = self.levels.bases(minutes, at, None, self.horizon);
            let bounds = self.bounds(&bases);
            let bound = self.capped(self.mix(&bounds), &bases).max(rate);
            self.said.push_back(Said { bases, bounds, bound, peak: 0.0 });
        }
    }

    /// Learn from what was said a horizon ago.
    fn judge(&mut self, said: &Said) {
        if said.bases[0] <= 0.0 {
            return;
        }
        self.count += 1;
        self.rise = (self.rise * (-1.0 / ERROR_MINUTES).exp()).max(said.peak - said.bases[0]);
        let growth = (1.0 / ERROR_MINUTES).exp();
        let keep = 1.0 - (1.0 / self.count as f64).max(1.0 / LOSS_MINUTES);
        for i in 0..BASES {
            let loss = pinball(self.quantile, said.peak, said.bounds[i]);
            self.losses[i] = keep * self.losses[i] + (1.0 - keep) * loss;
            if said.bases[i] > 0.0 {
                self.errors[i].note(said.peak / said.bases[i], growth);
            }
        }
        if self.count < ENOUGH || said.bound <= 0.0 || said.peak <= 0.0 {
            return;
        }
        let miss = (said.peak / said.bound).ln();
        let step = (1.0 / (self.count - ENOUGH + 1) as f64).max(0.005);
        self.typical += step * (miss.abs().min(1.0) - self.typical);
        let side = if miss > 0.0 { self.quantile } else { self.quantile - 1.0 };
        self.correction =
            (self.correction + CORRECTION_STEP * self.typical * side).clamp(-MOST_CORRECTION, MOST_CORRECTION);
    }

    fn bounds(&self, bases: &[f64; BASES]) -> [f64; BASES] {
        let prior = 1.0 + PRIOR_PER_ROOT_MINUTE * (self.horizon as f64).sqrt();
        let own = (self.count as f64 / ENOUGH as f64).min(1.0);
        let mut bounds = *bases;
        for (bound, errors) in bounds.iter_mut().zip(&self.errors) {
            let factor = if own > 0.0 { errors.quantile(self.quantile) } else { prior };
            *bound *= own * factor + (1.0 - own) * prior;
        }
        bounds
    }

    fn weights(&self) -> [f64; BASES] {
        let least = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        if self.count < ENOUGH {
            let mut first = [0.0; BASES];
            first[0] = 1.0;
            return first;
        }
        self.losses.map(|loss| {
            if least > 0.0 { (-SHARPNESS * (loss / least - 1.0)).exp() } else { f64::from(u8::from(loss <= least)) }
        })
    }

    fn mix(&self, bounds: &[f64; BASES]) -> f64 {
        let weights = self.weights();
        let sum: f64 = weights.iter().sum();
        let mean: f64 = weights.iter().zip(bounds).map(|(w, b)| w * b).sum::<f64>() / sum;
        mean * self.correction.exp()
    }

    /// No higher than any rise that was seen would take it, once some were.
    fn capped(&self, bound: f64, bases: &[f64; BASES]) -> f64 {
        let highest = bases.iter().copied().fold(0.0, f64::max);
        if self.count < ENOUGH { bound } else { bound.min(highest + self.rise) }
    }

    /// The bound now. `begun`: a rate measured since the last minute; it overlaps that one, and bounds are learnt from
    /// whole minutes, so it counts only where there is no other.
    pub fn bound(&self, minutes: &VecDeque<RatePoint>, begun: Option<RatePoint>) -> Option<Bound> {
        let last = minutes.len().checked_sub(1)?;
        let mut levels = self.levels.clone();
        let is_alone = |begun: &RatePoint| levels.run == 0 || begun.at_seconds - self.at_seconds > GAP_SECONDS;
        let alone = begun.filter(is_alone);
        if let Some(begun) = alone {
            levels = Levels::default();
            levels.step(begun.rate);
        }
        let bases = levels.bases(minutes, last, alone.map(|begun| begun.rate), self.horizon);
        let weights = self.weights();
        let best = (0..BASES).fold(0, |best, i| if weights[i] > weights[best] { i } else { best });
        let rate = self.capped(self.mix(&self.bounds(&bases)), &bases);
        Some(Bound { rate, base: Base::ALL[best], base_rate: bases[best] })
    }
}

/// Loss of having said `bound` when `peak` came.
fn pinball(quantile: f64, peak: f64, bound: f64) -> f64 {
    let short = peak - bound;
    if short > 0.0 { quantile * short } else { (quantile - 1.0) * short }
}
