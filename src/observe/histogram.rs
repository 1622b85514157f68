//! A cumulative histogram as Prometheus keeps it, reduced to what happened in a window.

use serde::{Deserialize, Serialize};

/// Increments of a cumulative histogram over one window.
///
/// `upper` ascends and ends with `+Inf` (written as `f64::MAX` in JSON-safe form); `cumulative[i]`
/// is the number of observations at or below `upper[i]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper bounds, ascending; the last one stands for infinity and is `f64::MAX`.
    pub upper: Vec<f64>,
    /// Observations at or below each bound, ascending.
    pub cumulative: Vec<f64>,
    /// Sum of the observed values.
    pub sum: f64,
    /// Number of observations.
    pub count: f64,
}

impl Histogram {
    pub fn is_empty(&self) -> bool {
        self.count <= 0.0
    }

    /// Mean of the observations, `None` when there are none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0 && self.sum.is_finite()).then(|| self.sum / self.count)
    }

    /// Value below which the share `q` (0..=1) of the observations lies, interpolated linearly inside
    /// a bucket as Prometheus' `histogram_quantile` does; the last finite bound when the quantile
    /// falls into the open bucket. `None` when there are no observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.is_empty() || self.upper.is_empty() {
            return None;
        }
        let total = *self.cumulative.last()?;
        if total <= 0.0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total;
        let index = self.cumulative.iter().position(|&c| c >= rank)?;
        let (low, below) = match index {
            0 => (0.0, 0.0),
            i => (self.upper[i - 1], self.cumulative[i - 1]),
        };
        let high = self.upper[index];
        if high >= f64::MAX {
            return Some(low);
        }
        let inside = self.cumulative[index] - below;
        if inside <= 0.0 {
            return Some(high);
        }
        Some(low + (high - low) * (rank - below) / inside)
    }

    /// Share of the observations at or below `value`, interpolated inside a bucket.
    pub fn share_at_or_below(&self, value: f64) -> Option<f64> {
        let total = *self.cumulative.last()?;
        if total <= 0.0 {
            return None;
        }
        let mut low = 0.0;
        let mut below = 0.0;
        for (&high, &cumulative) in self.upper.iter().zip(&self.cumulative) {
            if value < high {
                if high >= f64::MAX {
                    return Some(below / total);
                }
                let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
                return Some((below + part * (cumulative - below)) / total);
            }
            low = high;
            below = cumulative;
        }
        Some(1.0)
    }

    /// Add another histogram. Histograms with the same bounds add bucket by bucket; others are merged
    /// on the union of the bounds, each interpolated as a step function.
    pub fn add(&mut self, other: &Self) {
        if other.upper.is_empty() {
            return;
        }
        if self.upper.is_empty() {
            *self = other.clone();
            return;
        }
        if self.upper == other.upper {
            for (mine, theirs) in self.cumulative.iter_mut().zip(&other.cumulative) {
                *mine += theirs;
            }
        } else {
            let mut bounds: Vec<f64> = self.upper.iter().chain(&other.upper).copied().collect();
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            let cumulative = bounds.iter().map(|&b| self.step(b) + other.step(b)).collect();
            self.upper = bounds;
            self.cumulative = cumulative;
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    fn step(&self, bound: f64) -> f64 {
        match self.upper.partition_point(|&u| u <= bound) {
            0 => 0.0,
            n => self.cumulative[n - 1],
        }
    }

    /// Multiply every count by `factor` (decay of a running histogram).
    pub fn scale(&mut self, factor: f64) {
        for c in &mut self.cumulative {
            *c *= factor;
        }
        self.sum *= factor;
        self.count *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Histogram {
        Histogram {
            upper: vec![1.0, 2.0, 4.0, f64::MAX],
            cumulative: vec![10.0, 30.0, 40.0, 40.0],
            sum: 70.0,
            count: 40.0,
        }
    }

    #[test]
    fn quantile_interpolates_inside_a_bucket() {
        let h = example();
        assert_eq!(h.quantile(0.25), Some(1.0));
        assert_eq!(h.quantile(0.5), Some(1.5));
        assert_eq!(h.quantile(1.0), Some(4.0));
        assert_eq!(h.mean(), Some(1.75));
    }

    #[test]
    fn open_bucket_answers_with_the_last_finite_bound() {
        let h = Histogram { upper: vec![1.0, f64::MAX], cumulative: vec![1.0, 10.0], sum: 90.0, count: 10.0 };
        assert_eq!(h.quantile(0.99), Some(1.0));
        assert_eq!(h.share_at_or_below(5.0), Some(0.1));
    }

    #[test]
    fn share_is_the_inverse_of_the_quantile() {
        let h = example();
        for q in [0.1, 0.25, 0.4, 0.75, 0.9] {
            let v = h.quantile(q).unwrap();
            assert!((h.share_at_or_below(v).unwrap() - q).abs() < 1e-12);
        }
    }

    #[test]
    fn different_bounds_merge_without_losing_observations() {
        let mut a = example();
        let b = Histogram { upper: vec![3.0, f64::MAX], cumulative: vec![5.0, 6.0], sum: 15.0, count: 6.0 };
        a.add(&b);
        assert_eq!(a.upper, vec![1.0, 2.0, 3.0, 4.0, f64::MAX]);
        assert_eq!(a.cumulative, vec![10.0, 30.0, 35.0, 45.0, 46.0]);
        assert_eq!(a.count, 46.0);
    }

    #[test]
    fn empty_histogram_answers_nothing() {
        let h = Histogram::default();
        assert_eq!((h.quantile(0.5), h.mean(), h.share_at_or_below(1.0)), (None, None, None));
    }
}
