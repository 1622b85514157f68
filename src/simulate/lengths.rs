//! Counts of prompt or answer lengths, as the model servers' histograms would show them.
//!
//! It owns the bounds and nothing else: it does not know where lengths come from.

use crate::observe::Histogram;

/// Upper bounds of the histograms from which shapes are read; those of the model servers.
const BOUNDS: [f64; 16] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];

/// Counts of lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::simulate) struct LengthCounts {
    counts: [f64; BOUNDS.len() + 1],
    sum: f64,
}

impl LengthCounts {
    /// Count `weight` requests of this length.
    pub fn add(&mut self, tokens: f64, weight: f64) {
        self.counts[BOUNDS.partition_point(|&bound| bound < tokens)] += weight;
        self.sum += weight * tokens;
    }

    /// Add the counts of another, each `factor` times.
    pub fn add_scaled(&mut self, other: &Self, factor: f64) {
        for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
            *mine += factor * others;
        }
        self.sum += factor * other.sum;
    }

    pub fn histogram(&self) -> Histogram {
        let mut count = 0.0;
        let cumulative = self
            .counts
            .iter()
            .map(|c| {
                count += c;
                count
            })
            .collect();
        let upper = BOUNDS.iter().copied().chain([f64::MAX]).collect();
        Histogram { upper, cumulative, sum: self.sum, count }
    }
}
