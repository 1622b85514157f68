//! Mixtures of shifted gamma distributions: tails and quantiles of latencies from their first two moments.
//!
//! A latency is a sum of waits. Each way it can go (the server is free, prompts are before it, the batch is full)
//! is one part with its probability, its least value, mean and variance; the gamma distribution between is read
//! through the cube-root normal approximation of Wilson and Hilferty, so that a tail is a few operations. The
//! module knows no server.

/// One way a latency can go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    pub probability: f64,
    /// Least value.
    pub least: f64,
    /// Mean, at least `least`.
    pub mean: f64,
    pub variance: f64,
}

/// Largest skew, a gamma distribution of shape 0.3: beyond, the cube-root approximation has no sense.
const MOST_SKEW: f64 = 0.61;
const LEAST_SKEW: f64 = 1e-7;

impl Part {
    /// A third of standard deviation over mean of what is above the least value.
    fn skew(&self) -> f64 {
        let above = (self.mean - self.least).max(f64::MIN_POSITIVE);
        (self.variance.max(0.0).sqrt() / (3.0 * above)).clamp(LEAST_SKEW, MOST_SKEW)
    }

    /// Value at the standard normal quantile `z`, with a skew of at most `most`.
    fn at(&self, z: f64, most: f64) -> f64 {
        let x = self.skew().min(most);
        self.least + (self.mean - self.least).max(0.0) * (1.0 - x * x + z * x).max(0.0).powi(3)
    }

    /// Probability of more than `value`, with a skew of at most `most`.
    fn above(&self, value: f64, most: f64) -> f64 {
        let above = self.mean - self.least;
        if value <= self.least {
            return 1.0;
        }
        if above <= 0.0 {
            return 0.0;
        }
        let x = self.skew().min(most.max(LEAST_SKEW));
        normal_tail((cube_root((value - self.least) / above) - 1.0) / x + x)
    }
}

/// Skew that any quantile is read with; a prediction of a median is to be near it, not above it.
const READ_SKEW: f64 = 0.3;

/// Skew up to which the quantile at `z` grows with the variance. A skewed distribution has much in its tail and
/// less below, so that beyond this skew a larger variance would make the quantile smaller; a plan that counts with
/// less skew is on the safe side and grows with all that makes latencies worse.
pub fn growing_skew(z: f64) -> f64 {
    (0.5 * z).max(0.0)
}

/// Cube root of a positive number within 1e-12: a third of the exponent as the first guess, then Halley's rule. The
/// standard one is exact to the last bit and takes a fifth of all the time that capacities take.
fn cube_root(x: f64) -> f64 {
    let mut y = f64::from_bits(x.to_bits() / 3 + 0x2a9f_7893_782d_a1ce);
    for _ in 0..2 {
        let cube = y * y * y;
        y *= (cube + 2.0 * x) / (2.0 * cube + x);
    }
    y
}

/// Probability that a standard normal variable is above `z`, within 1e-7: Abramowitz and Stegun 26.2.17.
fn normal_tail(z: f64) -> f64 {
    const DENSITY: f64 = 0.398_942_280_401_432_7;
    let x = z.abs();
    if x > 38.0 {
        return if z > 0.0 { 0.0 } else { 1.0 };
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let polynomial =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = DENSITY * (-0.5 * x * x).exp() * polynomial;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

/// Relative precision of the quantile of a mixture, and most steps towards it.
const PRECISION: f64 = 5e-4;
const STEPS: usize = 40;
/// Parts less probable than this share of the tail do not count in the search's first bracket.
const SMALLEST: f64 = 1e-3;

/// Probability that the mixture is above `value`, its parts of a skew of at most `most_skew`.
pub fn above(parts: &[Part], value: f64, most_skew: f64) -> f64 {
    parts.iter().filter(|p| p.probability > 0.0).map(|p| p.probability * p.above(value, most_skew)).sum()
}

/// Value that the mixture exceeds with probability `1 - quantile`; `z` is the normal quantile of the same.
pub fn quantile(parts: &[Part], quantile: f64, z: f64) -> f64 {
    let tail = 1.0 - quantile;
    let most = growing_skew(z).max(READ_SKEW);
    let counted = parts.iter().filter(|p| p.probability > SMALLEST * tail);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for part in counted {
        let at = part.at(z, most);
        (low, high) = (low.min(at), high.max(at));
    }
    // False position with the Illinois rule, over the logarithm of the tail.
    let excess = |value: f64| (above(parts, value, most) / tail).max(1e-9).ln();
    let (mut over, mut under, mut last) = (excess(low), excess(high), 0);
    if over <= 0.0 {
        return low;
    }
    for step in 0..STEPS {
        if high - low <= PRECISION * high {
            break;
        }
        let part = if step % 4 == 3 || under >= 0.0 { 0.5 } else { (over / (over - under)).clamp(0.02, 0.98) };
        let middle = low + part * (high - low);
        let value = excess(middle);
        if value > 0.0 {
            (low, over) = (middle, value);
            under *= if last == 1 { 0.5 } else { 1.0 };
            last = 1;
        } else {
            (high, under) = (middle, value);
            over *= if last == -1 { 0.5 } else { 1.0 };
            last = -1;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Gamma, Normal};

    use super::*;

    #[test]
    fn a_single_part_is_a_gamma_distribution() {
        for (mean, variance) in [(1.0, 1.0), (2.0, 0.5), (0.5, 0.4), (3.0, 0.01)] {
            let part = Part { probability: 1.0, least: 1.0, mean: 1.0 + mean, variance };
            let exact = Gamma::new(mean * mean / variance, mean / variance).unwrap();
            for q in [0.5, 0.9, 0.95, 0.99] {
                if q < 0.9 && part.skew() > READ_SKEW {
                    continue;
                }
                let z = Normal::standard().inverse_cdf(q);
                let got = quantile(&[part], q, z) - 1.0;
                let wanted = exact.inverse_cdf(q);
                let most = 0.03;
                assert!((got / wanted - 1.0).abs() < most, "{mean} {variance} {q}: {got} against {wanted}");
            }
        }
    }

    #[test]
    fn a_rare_part_makes_the_tail_only() {
        let usual = Part { probability: 0.97, least: 0.0, mean: 1.0, variance: 0.01 };
        let rare = Part { probability: 0.03, least: 5.0, mean: 10.0, variance: 25.0 };
        let z = |q| Normal::standard().inverse_cdf(q);
        let at = |q| quantile(&[usual, rare], q, z(q));
        assert!(at(0.5) < 1.1 && at(0.95) < 1.3, "{} {}", at(0.5), at(0.95));
        // P(above) = 0.01 of all is a third of the rare part.
        assert!((rare.above(at(0.99), 1.0) - 1.0 / 3.0).abs() < 1e-2, "{}", at(0.99));
        assert!((above(&[usual, rare], at(0.99), 1.0) - 0.01).abs() < 3e-4);
    }

    #[test]
    fn with_bounded_skew_the_tail_grows_with_the_variance() {
        for q in [0.5, 0.7, 0.9, 0.99] {
            let most = growing_skew(Normal::standard().inverse_cdf(q));
            let value = |variance: f64| {
                let part = Part { probability: 1.0, least: 0.0, mean: 1.0, variance };
                let tail = |v: &f64| above(&[part], *v, most) <= 1.0 - q;
                (0..10_000).map(|i| f64::from(i) / 500.0).find(tail).unwrap()
            };
            let values: Vec<f64> = [0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0].map(value).to_vec();
            assert!(values.is_sorted(), "{q}: {values:?}");
        }
    }

    #[test]
    fn the_cube_root_is_one() {
        for x in [1e-12, 0.001, 0.3, 1.0, 7.0, 1e6, 1e15] {
            let root = cube_root(x);
            assert!((root * root * root / x - 1.0).abs() < 1e-11, "{x}");
        }
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, tail) in [(0.0, 0.5), (1.644_854, 0.05), (-2.326_348, 0.99), (3.090_232, 0.001), (50.0, 0.0)] {
            assert!((normal_tail(z) - tail).abs() < 1e-6, "{z}");
        }
    }
}
