//! How uneven requests are: in time and in length.

use serde::{Deserialize, Serialize};

/// Spread of arrivals and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Squared coefficient of variation of the times between arrivals; over long times also variance over mean of
    /// the number of arrivals. 1 for Poisson arrivals, 0 for a metronome.
    pub burstiness: f64,
    /// Standard deviation over mean of the prompt lengths.
    pub input_cv: f64,
    /// Standard deviation over mean of the answer lengths.
    pub output_cv: f64,
}

impl Default for Traffic {
    /// Poisson arrivals. Lengths spread half as much as those of public traces of conversation and code, whose
    /// coefficients are 0.9 to 1: demand is planned by ranges of lengths, within which they differ less.
    fn default() -> Self {
        Self { burstiness: 1.0, input_cv: 0.5, output_cv: 0.5 }
    }
}

/// Bounds of what is taken seriously.
const MOST_BURSTINESS: f64 = 1e3;
const MOST_CV: f64 = 3.0;

impl Traffic {
    /// Requests of equal length at random times.
    pub const EVEN: Self = Self { burstiness: 1.0, input_cv: 0.0, output_cv: 0.0 };

    /// The same within the bounds of the formulas; what is no number becomes the default.
    pub(in crate::perf) fn bounded(&self) -> Self {
        let or = |value: f64, default: f64, most: f64| if value.is_nan() { default } else { value.clamp(0.0, most) };
        let default = Self::default();
        Self {
            burstiness: or(self.burstiness, default.burstiness, MOST_BURSTINESS),
            input_cv: or(self.input_cv, default.input_cv, MOST_CV),
            output_cv: or(self.output_cv, default.output_cv, MOST_CV),
        }
    }

    /// Variance over mean of the number of arrivals within a time in which `count` are expected, seen from an
    /// arrival: gamma-distributed gaps, whose clusters are wider than a short time. Grows from 1 to the burstiness.
    pub(super) fn index_over(&self, count: f64) -> f64 {
        let burstiness = self.burstiness;
        if burstiness <= 1.0 {
            return burstiness;
        }
        if count.is_nan() || count <= 1e-9 {
            return 1.0;
        }
        let others = 1.0 / ((1.0 + burstiness / count).powf(1.0 / burstiness) - 1.0) - count;
        (1.0 + 2.0 * others).clamp(1.0, burstiness)
    }
}

/// Burstiness from the numbers of arrivals in equal stretches of time: variance over mean, the variance taken from
/// the differences of neighbours so that a slow trend does not count. `None` from fewer than eight stretches or
/// without arrivals.
pub fn dispersion(counts: &[f64]) -> Option<f64> {
    let usable = counts.len() >= 8 && counts.iter().all(|c| c.is_finite() && *c >= 0.0);
    let mean = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
    if !usable || mean <= 0.0 {
        return None;
    }
    let squares: f64 = counts.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    Some(squares / (2.0 * (counts.len() - 1) as f64 * mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispersion_is_that_of_the_counts_whatever_the_trend() {
        // A count that alternates by ± s around its mean m has s² / m x 2, as neighbours are never alike.
        let alternating: Vec<f64> = (0..100).map(|i| 10.0 + if i % 2 == 0 { 2.0 } else { -2.0 }).collect();
        assert!((dispersion(&alternating).unwrap() - 0.8).abs() < 1e-9);
        let trend: Vec<f64> = (0..200).map(|i| 10.0 + f64::from(i) / 10.0).collect();
        assert!(dispersion(&trend).unwrap() < 0.01);
        assert_eq!(dispersion(&[0.0; 20]), None);
        assert_eq!(dispersion(&[1.0, 2.0]), None);
        assert_eq!(dispersion(&[f64::NAN; 20]), None);
    }

    #[test]
    fn bursts_count_less_over_short_times() {
        let bursty = Traffic { burstiness: 16.0, ..Traffic::EVEN };
        let index: Vec<f64> = [0.0, 0.01, 0.1, 1.0, 10.0, 1e3, 1e5].iter().map(|n| bursty.index_over(*n)).collect();
        assert!(index.is_sorted(), "{index:?}");
        assert_eq!(index[0], 1.0);
        assert!((index[6] - 16.0).abs() < 0.1, "{index:?}");
        assert_eq!(Traffic::EVEN.index_over(5.0), 1.0);
        let broken = Traffic { burstiness: f64::NAN, input_cv: f64::INFINITY, output_cv: -1.0 }.bounded();
        assert_eq!(broken, Traffic { burstiness: 1.0, input_cv: MOST_CV, output_cv: 0.0 });
    }
}
