//! The peak minute of the next minutes, with an upper bound that calibrates itself.
//!
//! A base is a simple summary of the last minutes (their highest, their mean). Its bound is the base times
//! a quantile of what this very rule got wrong over the last day (peak of the following minutes / base):
//! on the public LLM traces that keeps 92-96 % coverage without tuning, where fixed factors swing from 71
//! to 100 %. Among the bases the one with the least pinball loss over the same day is used.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::observe::RatePoint;

/// Length of one step of the history, seconds.
const STEP_SECONDS: f64 = 60.0;
/// Minutes that a base looks back at most.
const LOOK_BACK: usize = 15;
/// Minutes a base needs before its error counts: the first minutes of a service are its start, not its load.
const SETTLED: usize = 5;
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
/// Upper bound over base that is assumed until then, per root minute of horizon: at five minutes 1.18, the
/// size of the 95th percentile for the conversation traces.
const PRIOR_PER_ROOT_MINUTE: f64 = 0.08;

/// A summary of the last minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Highest of the last 15 minutes.
    Max15,
    Max5,
    Max3,
    /// Mean of the last 5 minutes.
    Mean5,
    Mean3,
}

impl Base {
    /// In the order in which they are preferred when nothing tells them apart.
    const ALL: [Self; 5] = [Self::Max5, Self::Max15, Self::Max3, Self::Mean5, Self::Mean3];

    /// The summary of `rates`, of which the last is the newest; 0 without any.
    fn of(self, rates: &[f64]) -> f64 {
        let (minutes, mean) = match self {
            Self::Max15 => (LOOK_BACK, false),
            Self::Max5 => (5, false),
            Self::Max3 => (3, false),
            Self::Mean5 => (5, true),
            Self::Mean3 => (3, true),
        };
        let last = &rates[rates.len().saturating_sub(minutes)..];
        match mean {
            false => last.iter().copied().fold(0.0, f64::max),
            true => last.iter().sum::<f64>() / last.len().max(1) as f64,
        }
    }
}

/// Offered load of one model in the past minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateMemory {
    /// One point a minute, oldest first.
    minutes: VecDeque<RatePoint>,
    /// Newest rate, measured less than a minute after the last point.
    newest: Option<RatePoint>,
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
    /// Own errors the factor rests on; fewer than 20 means that a prior stands in.
    pub errors: usize,
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
    /// the first measurement.
    pub fn peak(&self, horizon_seconds: f64, quantile: f64) -> Option<Forecast> {
        let newest = self.newest?;
        let horizon = (horizon_seconds / STEP_SECONDS).ceil().clamp(1.0, 60.0) as usize;
        let runs = self.runs();
        let peaks: Vec<Vec<f64>> = runs.iter().map(|run| peaks(run, horizon)).collect();
        let judged = Base::ALL.map(|base| Judged::new(base, &runs, &peaks, horizon, quantile));
        // Only minutes that lead up to now say where the load is; older ones say how much it jumps.
        let last = self.minutes.back().map_or(f64::NEG_INFINITY, |p| p.at_seconds);
        let mut rates =
            runs.into_iter().next_back().filter(|_| newest.at_seconds - last <= GAP_SECONDS).unwrap_or_default();
        // The newest measurement overlaps the last minute; it may be higher already.
        if newest.at_seconds > last {
            rates.push(newest.rate);
        }
        let [default, ..] = &judged;
        let best = judged
            .iter()
            .filter(|j| j.errors >= ENOUGH)
            .fold(default, |best, next| if best.errors < ENOUGH || next.loss < best.loss { next } else { best });
        let base_rate = best.base.of(&rates);
        let rate = best.bound(base_rate).max(newest.rate);
        Some(Forecast {
            rate,
            base: best.base,
            base_rate,
            factor: if base_rate > 0.0 { rate / base_rate } else { 1.0 },
            errors: best.errors,
        })
    }
}

/// Highest of the `horizon` minutes after each minute, as far as they are over.
fn peaks(rates: &[f64], horizon: usize) -> Vec<f64> {
    (0..rates.len().saturating_sub(horizon))
        .map(|origin| rates[origin + 1..=origin + horizon].iter().copied().fold(0.0, f64::max))
        .collect()
}

/// One base with what it got wrong.
struct Judged {
    base: Base,
    /// Quantile of peak / base, and of peak - base: the smaller bound of the two holds. After a jump the
    /// ratio alone would multiply the new level by the whole jump, the difference alone would add an old
    /// high level's swing to a low one.
    ratio: f64,
    difference: f64,
    prior: f64,
    errors: usize,
    /// Mean pinball loss of the bound over the past, requests per second.
    loss: f64,
}

impl Judged {
    fn new(base: Base, runs: &[Vec<f64>], peaks: &[Vec<f64>], horizon: usize, quantile: f64) -> Self {
        let past: Vec<(f64, f64)> = runs
            .iter()
            .zip(peaks)
            .flat_map(|(rates, peaks)| {
                (SETTLED - 1..peaks.len().max(SETTLED - 1)).map(move |o| (base.of(&rates[..=o]), peaks[o]))
            })
            .filter(|(value, _)| *value > 0.0)
            .collect();
        let mut ratios: Vec<f64> = past.iter().map(|(value, peak)| peak / value).collect();
        let mut differences: Vec<f64> = past.iter().map(|(value, peak)| peak - value).collect();
        let mut judged = Self {
            base,
            ratio: upper_quantile(&mut ratios, quantile).unwrap_or(1.0),
            difference: upper_quantile(&mut differences, quantile).unwrap_or(0.0),
            prior: 1.0 + PRIOR_PER_ROOT_MINUTE * (horizon as f64).sqrt(),
            errors: past.len(),
            loss: 0.0,
        };
        let pinball = |(value, peak): &(f64, f64)| {
            let short = peak - judged.bound(*value);
            if short > 0.0 { quantile * short } else { (quantile - 1.0) * short }
        };
        judged.loss = past.iter().map(pinball).sum::<f64>() / past.len().max(1) as f64;
        judged
    }

    /// Upper bound of the peak after a base of `value`; the fewer errors it rests on, the more the prior counts.
    fn bound(&self, value: f64) -> f64 {
        let own = (value * self.ratio).min(value + self.difference);
        let weight = (self.errors as f64 / ENOUGH as f64).min(1.0);
        (weight * own + (1.0 - weight) * value * self.prior).max(value)
    }
}

/// Empirical quantile of the next value: the smallest that at least the share `q` of n + 1 values, the
/// next one included, lies at or below (split conformal prediction).
fn upper_quantile(values: &mut [f64], q: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let rank = (((values.len() + 1) as f64 * q).ceil() as usize).clamp(1, values.len());
    let (_, value, _) = values.select_nth_unstable_by(rank - 1, f64::total_cmp);
    Some(*value)
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
