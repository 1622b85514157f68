//! How a bound is judged: played over every minute of a series, beside the published rules.

mod rules;
pub mod series;

use std::time::Instant;

use poolwright::demand::RateMemory;

use rules::{peaks, pinball};
use series::Series;

/// Loss over that of the best published rule that is allowed.
const MOST_LOSS: f64 = 1.03;
/// Share of peaks that the bound has to hold, %.
const COVERAGE: std::ops::RangeInclusive<f64> = 93.0..=97.0;

/// How a rule did.
#[derive(Clone, Copy)]
pub struct Score {
    pub loss: f64,
    pub coverage: f64,
    pub over: f64,
    pub change: f64,
}

/// Every rule on one series and horizon.
pub struct Contest {
    pub ours: Score,
    pub others: Vec<(&'static str, Score)>,
    /// What our own bounds took.
    pub seconds: f64,
}

impl Contest {
    /// Plays every rule; `horizon` in minutes.
    pub fn play(series: &Series, horizon: usize, quantile: f64) -> Self {
        let judged = |bounds: &[f64]| score(series, bounds, horizon, quantile);
        let started = Instant::now();
        let ours = ours(&series.rates, horizon, quantile);
        let seconds = started.elapsed().as_secs_f64();
        let rules = rules::all(&series.rates, horizon, quantile);
        let others = rules.iter().map(|(name, bounds)| (*name, judged(bounds))).collect();
        Self { ours: judged(&ours), others, seconds }
    }

    /// The rule with the least loss.
    pub fn best(&self) -> Option<(&'static str, Score)> {
        let known = self.others.iter().filter(|(_, s)| s.loss.is_finite());
        known.min_by(|a, b| a.1.loss.total_cmp(&b.1.loss)).copied()
    }

    /// Whether the loss is, and whether the coverage is within the marks.
    pub fn met(&self) -> (bool, bool) {
        let loss = self.best().is_some_and(|(_, best)| self.ours.loss <= MOST_LOSS * best.loss);
        (loss, COVERAGE.contains(&self.ours.coverage))
    }
}

/// The project's own bound after every minute.
fn ours(rates: &[f64], horizon: usize, quantile: f64) -> Vec<f64> {
    let mut memory = RateMemory::default();
    rates
        .iter()
        .enumerate()
        .map(|(minute, rate)| {
            memory.note(60.0 * (minute + 1) as f64, *rate);
            memory.peak(60.0 * horizon as f64, quantile).map_or(f64::NAN, |f| f.rate)
        })
        .collect()
}

fn score(series: &Series, bounds: &[f64], horizon: usize, quantile: f64) -> Score {
    let peaks = peaks(&series.rates, horizon);
    let origins = series.warm_up..peaks.len();
    let count = origins.len() as f64;
    let mean = series.rates[series.warm_up..].iter().sum::<f64>() / (series.rates.len() - series.warm_up) as f64;
    let sum = |of: &dyn Fn(usize) -> f64| 100.0 * origins.clone().map(of).sum::<f64>() / count;
    Score {
        loss: sum(&|at| pinball(quantile, peaks[at], bounds[at])) / mean,
        coverage: sum(&|at| f64::from(u8::from(peaks[at] <= bounds[at]))),
        over: sum(&|at| bounds[at]) / sum(&|at| peaks[at]) * 100.0 - 100.0,
        change: sum(&|at| (bounds[at] - bounds[at - 1]).abs()) / mean,
    }
}
