//! What one rule got wrong, as a histogram that forgets. Knows nothing of rates or time.

use serde::{Deserialize, Serialize};

/// Width of a bin, natural logarithm of peak over base.
const WIDTH: f64 = 0.01;
/// Bins to each side of "as high as the base".
const SIDE: i32 = 400;
/// Weight of the newest error at which all are made smaller, so that they stay finite.
const RESCALE: f64 = 1e9;

/// Errors by bin, `from` the lowest bin there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Errors {
    from: i32,
    weights: VecDequeOfWeights,
    total: f64,
    /// Weight of the newest error.
    newest: f64,
}

type VecDequeOfWeights = std::collections::VecDeque<f64>;

impl Errors {
    /// Note that the peak was `ratio` times the base; what was before counts `1 / growth` as much from now on.
    pub fn note(&mut self, ratio: f64, growth: f64) {
        let bin = ((ratio.max(1e-9).ln() / WIDTH).round() as i32).clamp(-SIDE, SIDE);
        self.newest = if self.newest > 0.0 { self.newest * growth } else { 1.0 };
        if self.weights.is_empty() {
            self.from = bin;
        }
        while bin < self.from {
            self.weights.push_front(0.0);
            self.from -= 1;
        }
        while bin >= self.from + self.weights.len() as i32 {
            self.weights.push_back(0.0);
        }
        if let Some(weight) = self.weights.get_mut((bin - self.from) as usize) {
            *weight += self.newest;
        }
        self.total += self.newest;
        if self.newest > RESCALE {
            self.rescale();
        }
    }

    fn rescale(&mut self) {
        for weight in &mut self.weights {
            *weight /= self.newest;
            // Less than a thousandth of one error is forgotten.
            if *weight < 1e-3 {
                *weight = 0.0;
            }
        }
        self.newest = 1.0;
        while self.weights.front() == Some(&0.0) {
            self.weights.pop_front();
            self.from += 1;
        }
        while self.weights.back() == Some(&0.0) {
            self.weights.pop_back();
        }
        self.total = self.weights.iter().sum();
    }

    /// Peak over base that the share `q` of the errors does not exceed; 1 without any.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut above = (1.0 - q) * self.total;
        // Walks down from the top; the mass of a bin is at its middle, between the middles it is spread evenly.
        let mut upper: Option<(i32, f64)> = None;
        for (i, weight) in self.weights.iter().enumerate().rev().filter(|(_, w)| **w > 0.0) {
            let bin = self.from + i as i32;
            let half = 0.5 * weight;
            if let Some((up, up_half)) = upper {
                let between = up_half + half;
                if above < between {
                    let share = (above / between).clamp(0.0, 1.0);
                    return ((f64::from(up) + share * f64::from(bin - up)) * WIDTH).exp();
                }
                above -= between;
            } else {
                if above < half {
                    return (f64::from(bin) * WIDTH).exp();
                }
                above -= half;
            }
            upper = Some((bin, half));
        }
        upper.map_or(1.0, |(bin, _)| (f64::from(bin) * WIDTH).exp())
    }
}
