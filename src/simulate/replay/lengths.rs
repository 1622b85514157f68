//! Prompt and answer lengths of requests whose recording does not say them.
//!
//! It owns how lengths are drawn: pairs out of a list of requests, or each by itself from published quantiles. It
//! does not know when requests come.

use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::simulate::Trace;
use crate::simulate::lengths::LengthCounts;
use crate::simulate::trace::MAX_TOKENS;

/// Shares at which the pieces of a curve meet.
const SHARES: [f64; 5] = [0.0, 0.5, 0.9, 0.99, 1.0];
/// Bends tried; straight is 1.
const BENDS: (f64, f64) = (0.02, 50.0);
/// Points of a piece at which its mean is taken.
const POINTS: u32 = 500;
/// Halvings of the range of bends: finer than lengths are rounded.
const HALVINGS: u32 = 40;
/// Lengths of which the true distribution is counted.
const SAMPLES: u32 = 10_000;

/// Where lengths come from.
#[derive(Clone, Debug)]
pub enum Lengths {
    /// The recording's own; lists of requests only.
    Own,
    /// Pairs of a prompt and an answer, drawn evenly from a list.
    Drawn(Arc<Trace>),
    /// Prompts and answers by their quantiles, independent of each other.
    Quantiles { input: LengthQuantiles, output: LengthQuantiles },
}

/// What is published of a distribution of lengths, tokens. Ascending from 1; the mean must be one that some
/// distribution with these quantiles has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthQuantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub mean: f64,
}

const fn quantiles(p50: f64, p90: f64, p99: f64, mean: f64) -> LengthQuantiles {
    LengthQuantiles { p50, p90, p99, mean }
}

/// Prompts and answers of services without published lists, computed from the token histograms of the ServeGen
/// clients (arXiv 2505.09999), weighted by requests.
const KNOWN: [(&str, LengthQuantiles, LengthQuantiles); 4] = [
    ("servegen-m-large", quantiles(601.0, 2371.0, 5452.0, 914.0), quantiles(53.0, 461.0, 872.0, 155.0)),
    ("servegen-m-mid", quantiles(173.0, 645.0, 2583.0, 307.0), quantiles(34.0, 95.0, 397.0, 51.0)),
    ("servegen-m-small", quantiles(40.0, 322.0, 1478.0, 120.0), quantiles(3.0, 44.0, 142.0, 15.0)),
    ("servegen-deepseek-r1", quantiles(208.0, 2092.0, 23423.0, 1268.0), quantiles(792.0, 3432.0, 12607.0, 1527.0)),
];

impl Lengths {
    /// The published lengths of a service by name, one of [`Self::known_names`].
    pub fn known(name: &str) -> Option<Self> {
        let (_, input, output) = *KNOWN.iter().find(|(known, ..)| *known == name)?;
        Some(Self::Quantiles { input, output })
    }

    /// Names for [`Self::known`].
    pub fn known_names() -> [&'static str; 4] {
        KNOWN.map(|(name, ..)| name)
    }

    pub(super) fn law(&self) -> Result<LengthLaw, String> {
        match self {
            Self::Own => Ok(LengthLaw::Own),
            Self::Drawn(trace) => Ok(LengthLaw::Drawn(Arc::clone(trace))),
            Self::Quantiles { input, output } => {
                let side =
                    |side: &str, of: &LengthQuantiles| of.curve().map_err(|what| format!("{side} lengths: {what}"));
                Ok(LengthLaw::Curves(side("input", input)?, side("output", output)?))
            }
        }
    }
}

/// Lengths ready to be drawn.
#[derive(Clone, Debug)]
pub(super) enum LengthLaw {
    Own,
    Drawn(Arc<Trace>),
    Curves(Curve, Curve),
}

impl LengthLaw {
    /// Draw a prompt and an answer; `None` when the recording says them.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<(u32, u32)> {
        match self {
            Self::Own => None,
            Self::Drawn(trace) => {
                let row = trace.rows()[rng.random_range(0..trace.rows().len())];
                Some((row.input_tokens, row.output_tokens))
            }
            Self::Curves(input, output) => {
                let (first, second) = (rng.random(), rng.random());
                Some((input.tokens(first), output.tokens(second)))
            }
        }
    }

    /// The distribution of both lengths for one request; `None` when the recording says them.
    pub fn counts(&self) -> Option<(LengthCounts, LengthCounts)> {
        let mut counts = (LengthCounts::default(), LengthCounts::default());
        match self {
            Self::Own => return None,
            Self::Drawn(trace) => {
                let weight = 1.0 / trace.rows().len() as f64;
                for row in trace.rows() {
                    counts.0.add(f64::from(row.input_tokens), weight);
                    counts.1.add(f64::from(row.output_tokens), weight);
                }
            }
            Self::Curves(input, output) => {
                let weight = 1.0 / f64::from(SAMPLES);
                for share in (0..SAMPLES).map(|i| (f64::from(i) + 0.5) / f64::from(SAMPLES)) {
                    counts.0.add(f64::from(input.tokens(share)), weight);
                    counts.1.add(f64::from(output.tokens(share)), weight);
                }
            }
        }
        Some(counts)
    }
}

/// Length by the share of requests that are shorter. Between the quantiles the logarithm of the length rises along a
/// power of the share: straight for a `bend` of 1, later and steeper above. All pieces have the same bend, the one
/// that gives the mean. The shortest is as far below p50 as p90 is above it, the longest as far above p99 as that is
/// above p90, on the logarithmic scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve {
    /// Logarithms of the lengths at [`SHARES`].
    logarithms: [f64; SHARES.len()],
    bend: f64,
}

impl Curve {
    /// Length below which this share (0..1) of the requests is, at least 1.
    pub fn tokens(&self, share: f64) -> u32 {
        let piece = SHARES[1..SHARES.len() - 1].partition_point(|&s| s <= share);
        let inside = (share - SHARES[piece]) / (SHARES[piece + 1] - SHARES[piece]);
        (self.length(piece, inside).round() as u32).clamp(1, MAX_TOKENS)
    }

    fn length(&self, piece: usize, inside: f64) -> f64 {
        let (from, to) = (self.logarithms[piece], self.logarithms[piece + 1]);
        (from + (to - from) * inside.powf(self.bend)).exp()
    }

    fn mean(&self) -> f64 {
        let piece_mean = |piece| {
            let at = |i: u32| self.length(piece, (f64::from(i) + 0.5) / f64::from(POINTS));
            (0..POINTS).map(at).sum::<f64>() / f64::from(POINTS)
        };
        (0..SHARES.len() - 1).map(|piece| (SHARES[piece + 1] - SHARES[piece]) * piece_mean(piece)).sum()
    }
}

impl LengthQuantiles {
    /// The nearest ones that some distribution has: counted in buckets, quantiles and mean need not fit each other.
    pub(super) fn possible(self) -> Self {
        let most = f64::from(MAX_TOKENS);
        let p50 = self.p50.clamp(1.0, most);
        let p90 = self.p90.clamp(p50, most);
        let p99 = self.p99.clamp(p90, most);
        let (least, most) = Self { p50, p90, p99, ..self }.means();
        Self { p50, p90, p99, mean: self.mean.clamp(least.min(most), most.max(least)) }
    }

    /// Least and greatest mean with these quantiles.
    fn means(self) -> (f64, f64) {
        let with = self.bent();
        (with(BENDS.1).mean(), with(BENDS.0).mean())
    }

    /// The curve through the quantiles by its bend.
    fn bent(self) -> impl Fn(f64) -> Curve {
        let Self { p50, p90, p99, .. } = self;
        let ends = ((p50 / p90 * p50).max(1.0), (p99 / p90 * p99).min(f64::from(MAX_TOKENS)));
        let logarithms = [ends.0, p50, p90, p99, ends.1].map(f64::ln);
        move |bend: f64| Curve { logarithms, bend }
    }

    fn curve(self) -> Result<Curve, String> {
        let Self { p50, p90, p99, mean } = self;
        let is_ascending = 1.0 <= p50 && p50 <= p90 && p90 <= p99 && p99 <= f64::from(MAX_TOKENS);
        if !is_ascending {
            return Err(format!("p50 {p50}, p90 {p90}, p99 {p99}, expected ascending numbers from 1 to {MAX_TOKENS}"));
        }
        let with = self.bent();
        // The mean falls as the bend grows.
        let (least, most) = self.means();
        // Equal quantiles leave one mean only, which the sum over the pieces meets but for its last digits.
        let slack = 1e-9 * mean;
        if !(least - slack <= mean && mean <= most + slack) {
            return Err(format!("mean {mean}, expected {least:.0} to {most:.0} with p50 {p50}, p90 {p90}, p99 {p99}"));
        }
        let (mut low, mut high) = (BENDS.0.ln(), BENDS.1.ln());
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if with(middle.exp()).mean() > mean { low = middle } else { high = middle }
        }
        Ok(with(f64::midpoint(low, high).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::seed;

    #[test]
    fn known_lengths_have_their_quantiles_and_means() {
        for name in Lengths::known_names() {
            let Some(Lengths::Quantiles { input, output }) = Lengths::known(name) else { panic!("{name}") };
            for (given, curve) in [(input, input.curve().unwrap()), (output, output.curve().unwrap())] {
                let found = [0.5, 0.9, 0.99].map(|share| f64::from(curve.tokens(share)));
                assert_eq!(found, [given.p50, given.p90, given.p99], "{name}");
                assert!((curve.mean() / given.mean - 1.0).abs() < 1e-6, "{name} {curve:?}: {}", curve.mean());
                assert!(curve.tokens(0.0) >= 1 && f64::from(curve.tokens(1.0)) > given.p99);
            }
        }
        assert!(Lengths::known("m-huge").is_none());
    }

    #[test]
    fn drawn_lengths_follow_the_quantiles() {
        let law = Lengths::known("servegen-m-large").unwrap().law().unwrap();
        let mut rng = seed::rng(1, "test", 0);
        let mut drawn: Vec<(u32, u32)> = (0..100_000).map(|_| law.draw(&mut rng).unwrap()).collect();
        let mean = drawn.iter().map(|d| f64::from(d.0)).sum::<f64>() / 1e5;
        assert!((mean / 914.0 - 1.0).abs() < 0.02, "{mean}");
        drawn.sort_unstable();
        assert!((f64::from(drawn[90_000].0) / 2371.0 - 1.0).abs() < 0.05, "{:?}", drawn[90_000]);
        let counted = law.counts().unwrap().1.histogram().mean().unwrap();
        assert!((counted / 155.0 - 1.0).abs() < 0.01, "{counted}");
    }

    #[test]
    fn pairs_are_drawn_together() {
        let trace = Trace::parse("t", b"t_s,input_tokens,output_tokens\n0,10,1\n1,20,2\n").unwrap();
        let law = Lengths::Drawn(Arc::new(trace)).law().unwrap();
        let mut rng = seed::rng(1, "test", 0);
        let drawn: Vec<(u32, u32)> = (0..1000).map(|_| law.draw(&mut rng).unwrap()).collect();
        assert!(drawn.iter().all(|d| *d == (10, 1) || *d == (20, 2)));
        let first = drawn.iter().filter(|d| d.0 == 10).count();
        assert!((430..570).contains(&first), "{first}");
    }

    #[test]
    fn impossible_quantiles_are_refused() {
        let law = |input| Lengths::Quantiles { input, output: KNOWN[0].2 }.law().unwrap_err();
        assert_eq!(
            law(quantiles(100.0, 90.0, 200.0, 100.0)),
            "input lengths: p50 100, p90 90, p99 200, expected ascending numbers from 1 to 10000000"
        );
        assert!(law(quantiles(f64::NAN, 90.0, 200.0, 100.0)).starts_with("input lengths: p50 NaN"));
        let mean = law(quantiles(100.0, 200.0, 400.0, 900.0));
        assert_eq!(mean, "input lengths: mean 900, expected 88 to 172 with p50 100, p90 200, p99 400");
        assert_eq!(quantiles(7.0, 7.0, 7.0, 7.0).curve().unwrap().tokens(0.3), 7);
    }
}
