//! The published rules for an upper bound, and what this project did before.

use std::collections::VecDeque;

const DAY: usize = 1440;

/// A rule's bound after every minute; `NAN` where it has none.
pub fn all(rates: &[f64], horizon: usize, quantile: f64) -> Vec<(&'static str, Vec<f64>)> {
    let max15 = highest(rates, 15);
    let max60 = highest(rates, 60);
    let ewma = smoothed(rates, 0.2);
    let seasonal = seasonal(rates, &ewma, horizon);
    let scaled = |factor: f64| ewma.iter().map(|v| factor * v).collect();
    vec![
        ("max15 x own errors", corrected(rates, &max15, horizon, quantile)),
        ("EWMA 0.2 x own errors", corrected(rates, &ewma, horizon, quantile)),
        ("EWMA + season x own errors", corrected(rates, &seasonal, horizon, quantile)),
        ("max15", max15),
        ("max60", max60),
        ("1.3 x EWMA", scaled(1.3)),
        ("1.5 x EWMA", scaled(1.5)),
        ("in-sample best of five", best_of_five(rates, horizon, quantile)),
    ]
}

/// Highest of the `horizon` minutes after each minute, as far as they are over.
pub fn peaks(rates: &[f64], horizon: usize) -> Vec<f64> {
    (0..rates.len().saturating_sub(horizon))
        .map(|at| rates[at + 1..=at + horizon].iter().copied().fold(0.0, f64::max))
        .collect()
}

fn window(rates: &[f64], at: usize, minutes: usize) -> &[f64] {
    &rates[(at + 1).saturating_sub(minutes)..=at]
}

fn highest(rates: &[f64], minutes: usize) -> Vec<f64> {
    (0..rates.len()).map(|at| window(rates, at, minutes).iter().copied().fold(0.0, f64::max)).collect()
}

fn mean(rates: &[f64], minutes: usize) -> Vec<f64> {
    let of = |last: &[f64]| last.iter().sum::<f64>() / last.len() as f64;
    (0..rates.len()).map(|at| of(window(rates, at, minutes))).collect()
}

fn smoothed(rates: &[f64], alpha: f64) -> Vec<f64> {
    let mut level = rates[0];
    rates
        .iter()
        .map(|rate| {
            level += alpha * (rate - level);
            level
        })
        .collect()
}

/// The smoothed rate and nine tenths of what yesterday's smoothed rate rose within the horizon.
fn seasonal(rates: &[f64], ewma: &[f64], horizon: usize) -> Vec<f64> {
    let around = |centre: usize| {
        let span = &rates[centre.saturating_sub(7)..(centre + 8).min(rates.len())];
        span.iter().sum::<f64>() / span.len() as f64
    };
    (0..rates.len())
        .map(|at| match at.checked_sub(DAY) {
            Some(then) => (ewma[at] + 0.9 * (around(then + horizon) - around(then))).max(0.1 * ewma[at]),
            None => ewma[at],
        })
        .collect()
}

/// The base times the quantile of peak over base in the day before.
fn corrected(rates: &[f64], base: &[f64], horizon: usize, quantile: f64) -> Vec<f64> {
    let peaks = peaks(rates, horizon);
    let mut known: VecDeque<f64> = VecDeque::new();
    let mut sorted: Vec<f64> = vec![];
    (0..rates.len())
        .map(|at| {
            if let Some(origin) = at.checked_sub(horizon)
                && base[origin] > 0.0
            {
                let error = peaks[origin] / base[origin];
                known.push_back(error);
                sorted.insert(sorted.partition_point(|e| *e < error), error);
                if known.len() > DAY
                    && let Some(old) = known.pop_front()
                {
                    sorted.remove(sorted.partition_point(|e| *e < old));
                }
            }
            let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
            let place = quantile * last as f64;
            let (low, share) = (place as usize, place.fract());
            base[at] * (sorted[low] + share * (sorted[(low + 1).min(last)] - sorted[low]))
        })
        .collect()
}

/// Of five bases the one whose bound would have lost least over the day before, had it been known.
fn best_of_five(rates: &[f64], horizon: usize, quantile: f64) -> Vec<f64> {
    let bases = [highest(rates, 5), highest(rates, 15), highest(rates, 3), mean(rates, 5), mean(rates, 3)];
    let peaks = peaks(rates, horizon);
    let upper = |values: &mut [f64]| {
        let rank = (((values.len() + 1) as f64 * quantile).ceil() as usize).clamp(1, values.len());
        *values.select_nth_unstable_by(rank - 1, f64::total_cmp).1
    };
    (0..rates.len())
        .map(|at| {
            let to = (at + 1).saturating_sub(horizon);
            let from = to.saturating_sub(DAY + 40).max(4);
            if to < from + 20 {
                return f64::NAN;
            }
            let of = |base: &Vec<f64>| {
                let ratio = upper(&mut (from..to).map(|o| peaks[o] / base[o].max(1e-9)).collect::<Vec<_>>());
                let rise = upper(&mut (from..to).map(|o| peaks[o] - base[o]).collect::<Vec<_>>());
                let bound = |v: f64| (v * ratio).min(v + rise).max(v);
                let loss: f64 = (from..to).map(|o| pinball(quantile, peaks[o], bound(base[o]))).sum();
                (loss, bound(base[at]).max(rates[at]))
            };
            bases.iter().map(of).fold((f64::INFINITY, 0.0), |a, b| if b.0 < a.0 { b } else { a }).1
        })
        .collect()
}

/// Loss of having said `bound` when `peak` came.
pub fn pinball(quantile: f64, peak: f64, bound: f64) -> f64 {
    let short = peak - bound;
    if short > 0.0 { quantile * short } else { (quantile - 1.0) * short }
}
