//! The peak minute of the next minutes, with an upper bound that calibrates itself.
//!
//! Simple summaries of the last minutes (`base`) are each raised by a quantile of what they got wrong over about
//! the last day (`errors`). Their bounds are mixed by the pinball loss they had, and the mix is moved until the share
//! of peaks it held is the one asked for (`learner`). This room owns the memory of past rates; it may know
//! observations, and it does not know replicas, plans or the clock.

mod base;
mod errors;
mod learner;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use base::Base;
use learner::Learner;

use crate::observe::RatePoint;

/// Length of one step of the history, seconds.
const STEP_SECONDS: f64 = 60.0;
/// Distance of two points beyond which nothing is known of what was between them, seconds.
const GAP_SECONDS: f64 = 150.0;
/// Minutes kept: one day of errors and what is needed to compute the first of them.
const KEEP: usize = 1440 + 64;
/// Errors needed before the own quantile is believed alone.
const ENOUGH: usize = 20;
/// Neighbours whose differences say how bursty arrivals are.
const DISPERSION_PAIRS: usize = 120;
/// Mean of the smallest nine tenths of squared normal variables: `P(chi2_3 <= q) / 0.9` with `P(chi2_1 <= q) = 0.9`.
const KEPT_SHARE: f64 = 0.623;
/// Horizons told apart, minutes; one between two counts as the longer.
const HORIZONS: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 45, 60];
/// Pairs of horizon and aim that are followed at once; the one not asked for the longest gives way.
const MOST_LEARNERS: usize = 4;

/// Offered load of one model in the past minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateMemory {
    /// One point a minute, oldest first.
    minutes: VecDeque<RatePoint>,
    /// Newest rate, measured less than a minute after the last point.
    newest: Option<RatePoint>,
    /// One for each pair of horizon and aim, the one asked for last at the end.
    #[serde(default)]
    learners: Vec<Learner>,
}

/// What to plan for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Requests per second.
    pub rate: f64,
    /// Summary of the last minutes that the bound starts from.
    pub base: Base,
    /// Its value, requests per second.
    pub base_rate: f64,
    /// Upper bound over base.
    pub factor: f64,
    /// Own errors the factor rests on.
    pub errors: usize,
    /// Whether these are too few and a prior stands in, in part or in full.
    #[serde(default)]
    pub prior: bool,
}

impl RateMemory {
    /// Note the offered rate at `at_seconds`; a time that does not advance is ignored.
    pub fn note(&mut self, at_seconds: f64, rate: f64) {
        if !(rate.is_finite() && rate >= 0.0 && at_seconds.is_finite()) {
            return;
        }
        if self.newest.is_some_and(|p| at_seconds <= p.at_seconds) {
            return;
        }
        let point = RatePoint { at_seconds, rate };
        self.newest = Some(point);
        let due = self.minutes.back().is_none_or(|last| at_seconds - last.at_seconds >= STEP_SECONDS - 0.5);
        if due {
            self.minutes.push_back(point);
            while self.minutes.len() > KEEP {
                self.minutes.pop_front();
            }
        }
    }

    /// Fill in minutes that somebody else remembers: before what is known and into its gaps. Points that
    /// overlap a known minute are dropped.
    pub fn fill_back(&mut self, mut points: Vec<RatePoint>) {
        points.retain(|p| p.rate.is_finite() && p.rate >= 0.0 && p.at_seconds.is_finite());
        points.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));
        points.dedup_by(|a, b| a.at_seconds - b.at_seconds < STEP_SECONDS - 0.5);
        let known = self.minutes.make_contiguous();
        points.retain(|p| {
            let next = known.partition_point(|k| k.at_seconds < p.at_seconds);
            let near =
                |k: Option<&RatePoint>| k.is_some_and(|k| (k.at_seconds - p.at_seconds).abs() < STEP_SECONDS - 0.5);
            !near(known.get(next)) && !near(next.checked_sub(1).and_then(|i| known.get(i)))
        });
        points.extend(known.iter());
        points.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));
        let from = points.len().saturating_sub(KEEP);
        self.minutes = points.drain(from..).collect();
        // What was learnt without these minutes is learnt anew with them.
        self.learners.clear();
    }

    /// Variance over mean of the numbers of arrivals within stretches of `window_seconds`, the time over which rates
    /// are measured, in the last two hours: 1 for Poisson arrivals. From the differences of neighbours, so that a
    /// trend does not count, without the largest ones, so that a jump does not. `None` until 20 were seen.
    pub fn dispersion(&self, window_seconds: f64) -> Option<f64> {
        // Windows that overlap are alike.
        let apart = (window_seconds / STEP_SECONDS).ceil().max(1.0) as usize;
        let mut squares: Vec<f64> = vec![];
        for run in self.runs() {
            let counts: Vec<f64> = run.iter().rev().step_by(apart).map(|rate| rate * window_seconds).collect();
            let of = |pair: &[f64]| (pair[1] - pair[0]).powi(2) / (pair[0] + pair[1]).max(1.0);
            squares.extend(counts.windows(2).map(of).rev());
        }
        squares.drain(..squares.len().saturating_sub(DISPERSION_PAIRS));
        if squares.len() < ENOUGH {
            return None;
        }
        squares.sort_by(f64::total_cmp);
        let kept = &squares[..squares.len() - squares.len() / 10];
        Some(kept.iter().sum::<f64>() / kept.len() as f64 / KEPT_SHARE)
    }

    /// Rates of the minutes that follow each other without a gap, oldest run first.
    fn runs(&self) -> Vec<Vec<f64>> {
        let mut runs: Vec<Vec<f64>> = vec![];
        let mut last = f64::NEG_INFINITY;
        for point in &self.minutes {
            match runs.last_mut() {
                Some(run) if point.at_seconds - last <= GAP_SECONDS => run.push(point.rate),
                _ => runs.push(vec![point.rate]),
            }
            last = point.at_seconds;
        }
        runs
    }

    /// What is remembered, newest first, the minute that is not over included.
    pub fn newest_first(&self) -> impl Iterator<Item = RatePoint> + '_ {
        let last = self.minutes.back().map_or(f64::NEG_INFINITY, |p| p.at_seconds);
        let begun = self.newest.filter(|p| p.at_seconds > last);
        begun.into_iter().chain(self.minutes.iter().rev().copied())
    }

    /// Minutes remembered.
    pub fn len(&self) -> usize {
        self.minutes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty() && self.newest.is_none()
    }

    /// Newest rate, requests per second.
    pub fn newest(&self) -> Option<f64> {
        self.newest.map(|p| p.rate)
    }

    /// Mean rate over the last `span_seconds`, requests per second.
    pub fn mean_over(&self, span_seconds: f64) -> Option<f64> {
        let newest = self.newest?;
        let from = newest.at_seconds - span_seconds;
        let (mut sum, mut count) = (0.0, 0.0);
        for p in self.minutes.iter().rev().take_while(|p| p.at_seconds > from + 0.5) {
            sum += p.rate;
            count += 1.0;
        }
        Some(if count > 0.0 { sum / count } else { newest.rate })
    }

    /// Upper bound of the peak minute over the next `horizon_seconds` at `quantile` (0..1); `None` before
    /// the first measurement. The first call for a horizon and quantile learns what is remembered, later calls
    /// only what came since.
    pub fn peak(&mut self, horizon_seconds: f64, quantile: f64) -> Option<Forecast> {
        let newest = self.newest?;
        let minutes = (horizon_seconds / STEP_SECONDS).ceil();
        let horizon = HORIZONS.into_iter().find(|h| *h as f64 >= minutes).unwrap_or(HORIZONS[HORIZONS.len() - 1]);
        let learner = match self.learners.iter().position(|l| l.horizon == horizon && l.quantile == quantile) {
            Some(known) => self.learners.remove(known),
            None => Learner::new(horizon, quantile),
        };
        if self.learners.len() >= MOST_LEARNERS {
            self.learners.remove(0);
        }
        self.learners.push(learner);
        let learner = self.learners.last_mut()?;
        learner.catch_up(&self.minutes);
        let begun = Some(newest).filter(|newest| newest.at_seconds > learner.at_seconds);
        let bound = learner.bound(&self.minutes, begun)?;
        let rate = bound.rate.max(newest.rate);
        Some(Forecast {
            rate,
            base: bound.base,
            base_rate: bound.base_rate,
            factor: if bound.base_rate > 0.0 { rate / bound.base_rate } else { 1.0 },
            errors: learner.count,
            prior: learner.count < ENOUGH,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(rates: &[f64]) -> RateMemory {
        let mut m = RateMemory::default();
        for (i, r) in rates.iter().enumerate() {
            m.note(60.0 * (i + 1) as f64, *r);
        }
        m
    }

    #[test]
    fn without_history_a_prior_stands_in_and_says_so() {
        let f = memory(&[10.0]).peak(300.0, 0.95).unwrap();
        assert_eq!((f.base_rate, f.errors), (10.0, 0));
        assert!((f.factor - 1.18).abs() < 0.01, "{f:?}");
        assert!(memory(&[]).peak(300.0, 0.95).is_none());
    }

    /// Rates over a minute whose counts are Poisson, each arrival standing for `batch` requests.
    fn arrivals(batch: f64, minutes: usize) -> Vec<f64> {
        use rand::SeedableRng;
        use rand_distr::{Distribution, Poisson};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let counts = Poisson::new(600.0 / batch).unwrap();
        (0..minutes).map(|_| batch * counts.sample(&mut rng) / 60.0).collect()
    }

    #[test]
    fn dispersion_tells_bursts_from_chance_trends_and_jumps() {
        let of = |rates: &[f64]| memory(rates).dispersion(60.0).unwrap();
        let (poisson, bursty) = (of(&arrivals(1.0, 121)), of(&arrivals(8.0, 121)));
        assert!((0.6..1.5).contains(&poisson), "{poisson}");
        assert!((5.0..12.0).contains(&bursty), "{bursty}");
        let jumps: Vec<f64> = arrivals(1.0, 121).iter().enumerate().map(|(i, r)| r * (1 + i / 60) as f64).collect();
        assert!(of(&jumps) < 3.0, "{}", of(&jumps));
        assert_eq!(memory(&[10.0; 10]).dispersion(60.0), None);
        // Windows of two minutes share a minute with the next point.
        let smooth: Vec<f64> = arrivals(1.0, 121).windows(2).map(|p| 0.5 * (p[0] + p[1])).collect();
        let two = memory(&smooth).dispersion(120.0).unwrap();
        assert!((0.5..1.7).contains(&two), "{two}");
    }

    #[test]
    fn a_steady_load_needs_no_reserve() {
        let f = memory(&[10.0; 120]).peak(300.0, 0.95).unwrap();
        assert_eq!((f.rate, f.factor), (10.0, 1.0));
    }

    #[test]
    fn the_bound_learns_how_much_this_load_jumps() {
        let jumpy: Vec<f64> = (0..200).map(|i| if i % 40 >= 38 { 16.0 } else { 10.0 }).collect();
        let f = memory(&jumpy).peak(300.0, 0.95).unwrap();
        assert!(f.rate >= 15.9, "{f:?}");
    }

    #[test]
    fn after_a_jump_the_new_level_is_not_multiplied_by_it() {
        let jumped: Vec<f64> = (0..90).map(|i| if i < 80 { 5.0 } else { 60.0 }).collect();
        let f = memory(&jumped).peak(180.0, 0.95).unwrap();
        assert!(f.rate < 125.0, "{f:?}");
    }

    #[test]
    fn a_falling_load_is_not_held_at_its_old_peak() {
        let falling: Vec<f64> = (0..200).map(|i| 40.0 - 0.1 * f64::from(i)).collect();
        let f = memory(&falling).peak(180.0, 0.95).unwrap();
        assert!(f.rate < 21.0, "{f:?}");
    }

    #[test]
    fn covers_the_stated_share_of_a_noisy_day() {
        let mut seed = 7u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as f64 / f64::from(1u32 << 31)
        };
        let series: Vec<f64> = (0..3000).map(|i| 20.0 + 8.0 * (f64::from(i) / 229.0).sin() + 4.0 * noise()).collect();
        let (mut held, mut total) = (0u32, 0u32);
        for now in (1500..2900).step_by(7) {
            let f = memory(&series[now - 1500..now]).peak(300.0, 0.95).unwrap();
            let peak = series[now..now + 5].iter().copied().fold(0.0, f64::max);
            held += u32::from(peak <= f.rate);
            total += 1;
        }
        let coverage = f64::from(held) / f64::from(total);
        assert!((0.90..=0.99).contains(&coverage), "coverage {coverage}");
    }

    #[test]
    fn nonsense_is_ignored_and_memory_is_bounded() {
        let mut m = memory(&[5.0; 10]);
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            m.note(10_000.0, bad);
        }
        m.note(1.0, 99.0);
        assert_eq!(m.newest(), Some(5.0));
        assert!(memory(&vec![1.0; 5000]).len() <= KEEP);
    }

    #[test]
    fn history_is_filled_in_before_what_is_known_only() {
        let mut m = memory(&[5.0, 6.0]);
        m.fill_back(vec![
            RatePoint { at_seconds: -60.0, rate: 1.0 },
            RatePoint { at_seconds: 0.0, rate: 2.0 },
            RatePoint { at_seconds: 60.0, rate: 99.0 },
            RatePoint { at_seconds: -120.0, rate: f64::NAN },
        ]);
        assert_eq!(m.minutes.iter().map(|p| p.rate).collect::<Vec<_>>(), vec![1.0, 2.0, 5.0, 6.0]);
    }

    #[test]
    fn gaps_are_filled_in_and_what_was_before_a_gap_is_not_now() {
        let mut m = memory(&[50.0; 30]);
        m.note(60.0 * 500.0, 5.0);
        let f = m.peak(180.0, 0.95).unwrap();
        assert!(f.rate < 10.0, "eight hours ago is not the last quarter of an hour: {f:?}");
        m.fill_back((31..500).map(|i| RatePoint { at_seconds: 60.0 * f64::from(i), rate: 5.0 }).collect());
        assert_eq!(m.runs().len(), 1);
        assert_eq!(m.len(), 500);
    }

    #[test]
    fn mean_over_a_span_uses_the_minutes_inside_it() {
        let m = memory(&[2.0, 4.0, 6.0, 8.0]);
        assert_eq!(m.mean_over(120.0), Some(7.0));
        assert_eq!(m.mean_over(1e9), Some(5.0));
    }
}
