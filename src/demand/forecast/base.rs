//! Summaries of the last minutes that a bound can start from, carried on minute by minute. Knows nothing of errors.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::observe::RatePoint;

/// Minutes the longest look back needs.
const LOOK_BACK: usize = 60;
/// Minutes of a day.
const DAY: usize = 1440;
/// Half the width over which yesterday is smoothed, minutes.
const SEASON_HALF: usize = 7;
/// Share of yesterday's change that is expected again.
const SEASON_SHARE: f64 = 0.9;
/// Smoothing of level and trend, and how much of the trend is left a minute later.
const HOLT: (f64, f64, f64) = (0.1, 0.02, 0.98);
/// Typical deviations beyond which a minute does not belong to the level before it.
const FAR: f64 = 5.0;
/// Minutes in a row, all on the same side, that make a level change.
const FAR_MINUTES: u32 = 3;
/// Seconds by which a minute of yesterday may miss its place.
const SEASON_SLACK: f64 = 90.0;

/// A summary of the last minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Highest of the last 5 minutes.
    Max5,
    /// Highest of the last 15 minutes.
    Max15,
    /// Highest of the last hour.
    Max60,
    /// Mean of the last 5 minutes.
    Mean5,
    /// Exponentially weighted means, 0.1, 0.2 and 0.3 for the newest minute.
    Ewma1,
    Ewma2,
    Ewma3,
    /// Level and damped trend at the middle of the horizon.
    Trend,
    /// Mean and twice the spread about it, both exponentially weighted.
    Spread,
    /// Mean and the change that the same time of yesterday saw.
    Season,
}

impl Base {
    /// In the order in which they are preferred when nothing tells them apart.
    pub(super) const ALL: [Self; 10] = [
        Self::Max15,
        Self::Max5,
        Self::Max60,
        Self::Mean5,
        Self::Ewma1,
        Self::Ewma2,
        Self::Ewma3,
        Self::Trend,
        Self::Spread,
        Self::Season,
    ];
}

/// Number of bases.
pub(super) const BASES: usize = Base::ALL.len();

/// What is carried from minute to minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Levels {
    /// Minutes since the last gap.
    pub run: usize,
    means: [f64; 3],
    level: f64,
    trend: f64,
    /// Mean absolute difference of a minute from the mean of those before.
    deviation: f64,
    /// Exponentially weighted variance of a minute about the mean of those before.
    variance: f64,
    /// Minutes in a row above (positive) or below (negative) what belongs to the level, and their sum.
    far: i32,
    far_sum: f64,
}

impl Levels {
    /// The next minute of the run.
    pub fn step(&mut self, rate: f64) {
        self.run += 1;
        if self.run == 1 {
            *self = Self { run: 1, means: [rate; 3], level: rate, ..Self::default() };
            return;
        }
        let off = rate - self.means[1];
        if self.jumped(rate, off) {
            return;
        }
        // A minute that is far off says little of the spread: either it is alone, or the level changes.
        let limit = if self.run > 20 { FAR * self.deviation } else { f64::INFINITY };
        let weight = (1.0 / self.run as f64).max(0.05);
        self.variance += weight * (off.abs().min(limit).powi(2) - self.variance);
        self.deviation += weight * (off.abs().min(limit) - self.deviation);
        for (mean, alpha) in self.means.iter_mut().zip([0.1, 0.2, 0.3]) {
            *mean += f64::max(alpha, 1.0 / self.run as f64) * (rate - *mean);
        }
        let (alpha, beta, damp) = HOLT;
        let before = self.level;
        let ahead = before + damp * self.trend;
        self.level = ahead + f64::max(alpha, 1.0 / self.run as f64) * (rate - ahead);
        if self.run > 10 {
            self.trend = damp * self.trend + beta * (self.level - before - damp * self.trend);
        }
    }

    /// Whether `rate` completes a level change, which is then taken over at once.
    fn jumped(&mut self, rate: f64, off: f64) -> bool {
        let side = if self.run <= 20 || off.abs() <= FAR * self.deviation { 0 } else { off.signum() as i32 };
        if side == 0 || side * self.far < 0 {
            self.far = 0;
            self.far_sum = 0.0;
        }
        if side == 0 {
            return false;
        }
        self.far += side;
        self.far_sum += rate;
        if self.far.unsigned_abs() < FAR_MINUTES {
            return false;
        }
        let level = self.far_sum / f64::from(FAR_MINUTES);
        *self = Self { means: [level; 3], level, trend: 0.0, far: 0, far_sum: 0.0, ..self.clone() };
        true
    }

    /// Every base after the minute `minutes[at]`, to which these levels belong, for a peak within `horizon` minutes.
    /// `begun` is the rate of a minute that is not over and to which the levels belong already.
    pub fn bases(&self, minutes: &VecDeque<RatePoint>, at: usize, begun: Option<f64>, horizon: usize) -> [f64; BASES] {
        let known = self.run.saturating_sub(usize::from(begun.is_some())).min(LOOK_BACK).min(at + 1);
        let mut last = [0.0; 3];
        let (mut highest, mut sum, mut count) = (0.0f64, 0.0, 0.0);
        let newest_first = begun.into_iter().chain((0..known).map(|back| minutes[at - back].rate));
        for (back, rate) in newest_first.enumerate() {
            highest = highest.max(rate);
            if back < 5 {
                sum += rate;
                count += 1.0;
                last[0] = highest;
            }
            if back < 15 {
                last[1] = highest;
            }
            last[2] = highest;
        }
        let [max5, max15, max60] = last;
        let damp = HOLT.2;
        let steps = 0.5 * (horizon + 1) as f64;
        let trend = self.trend * damp * (1.0 - damp.powf(steps)) / (1.0 - damp);
        let season = if self.run >= DAY { yesterday(minutes, at, horizon) } else { None };
        let floor = 0.2 * self.means[1];
        [
            max15,
            max5,
            max60,
            sum / f64::max(count, 1.0),
            self.means[0],
            self.means[1],
            self.means[2],
            (self.level + trend).max(floor),
            self.means[1] + 2.0 * self.variance.sqrt(),
            (self.means[1] + SEASON_SHARE * season.unwrap_or(0.0)).max(floor),
        ]
    }
}

/// By how much the load rose within `horizon` minutes at this time of yesterday.
fn yesterday(minutes: &VecDeque<RatePoint>, at: usize, horizon: usize) -> Option<f64> {
    let now = minutes.get(at)?.at_seconds;
    let then = at.checked_sub(DAY + 1)?;
    if (now - minutes.get(then)?.at_seconds - 60.0 * (DAY + 1) as f64).abs() > SEASON_SLACK {
        return None;
    }
    let smooth = |centre: usize| {
        let (from, to) = (centre.saturating_sub(SEASON_HALF), (centre + SEASON_HALF).min(at));
        (from..=to).map(|i| minutes[i].rate).sum::<f64>() / (to - from + 1) as f64
    };
    let start = smooth(then + 1);
    Some((smooth(then + 1 + horizon.div_ceil(2)).max(smooth(then + 1 + horizon))) - start)
}
