//! Prompt and output lengths of a model's requests, kept in a few buckets.

use serde::{Deserialize, Serialize};

use crate::observe::Histogram;
use crate::perf::Shape;

/// Upper edges of the prompt-length buckets, tokens.
const EDGES: [f64; 3] = [1_000.0, 5_000.0, 20_000.0];
/// A bucket with less than this share of the requests joins the next one.
const SMALLEST_SHARE: f64 = 0.01;
/// Time after which a measured length counts half, seconds.
const HALF_LIFE_SECONDS: f64 = 600.0;
/// Requests needed before measured lengths are believed.
const ENOUGH: f64 = 30.0;
/// A mean length above this is a fault of the measurement, tokens.
const LONGEST: f64 = 10_000_000.0;
/// Lengths are rounded to steps of this size on a logarithmic scale, so that noise moves no plan.
const ROUNDING: f64 = 0.05;
/// Lengths assumed where neither the operator nor a measurement says anything, tokens.
const FALLBACK: Shape = Shape { input_tokens: 1_024.0, output_tokens: 256.0 };

/// A share of the requests with their mean lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Name for people: the range of prompt lengths.
    pub name: String,
    /// 0..1; the shares of all buckets sum to 1.
    pub share: f64,
    pub shape: Shape,
}

/// Running histograms of lengths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShapeMemory {
    input: Histogram,
    output: Histogram,
    at_seconds: f64,
}

impl ShapeMemory {
    /// Note the lengths measured over the last `window_seconds`; only the part since the last note counts.
    pub fn note(&mut self, at_seconds: f64, window_seconds: f64, input: &Histogram, output: &Histogram) {
        let elapsed = at_seconds - self.at_seconds;
        let usable = |h: &Histogram| h.count.is_finite() && h.mean().is_none_or(|m| (0.0..=LONGEST).contains(&m));
        if !(elapsed > 0.0 && window_seconds > 0.0 && usable(input) && usable(output)) {
            return;
        }
        let decay = 0.5_f64.powf(elapsed / HALF_LIFE_SECONDS);
        let part = (elapsed / window_seconds).min(1.0);
        for (mine, seen) in [(&mut self.input, input), (&mut self.output, output)] {
            mine.scale(decay);
            let mut seen = seen.clone();
            seen.scale(part);
            mine.add(&seen);
        }
        self.at_seconds = at_seconds;
    }

    /// True when enough requests were measured.
    pub fn is_known(&self) -> bool {
        self.input.count >= ENOUGH && self.output.count >= ENOUGH
    }

    /// Mean lengths: measured, or expected, or a fall-back.
    pub fn mean(&self, expected: Option<(f64, f64)>) -> Shape {
        match (self.is_known(), self.input.mean(), self.output.mean()) {
            (true, Some(input), Some(output)) => Shape { input_tokens: input.max(1.0), output_tokens: output.max(1.0) },
            _ => expected.map_or(FALLBACK, |(input_tokens, output_tokens)| Shape { input_tokens, output_tokens }),
        }
    }

    /// Buckets by prompt length. Output lengths are taken as independent of prompt lengths, because the
    /// servers report the marginals only.
    pub fn buckets(&self, expected: Option<(f64, f64)>) -> Vec<Bucket> {
        let mean = self.mean(expected);
        if !self.is_known() {
            return vec![Bucket { name: "all".into(), share: 1.0, shape: rounded(mean) }];
        }
        let mut parts = self.split();
        merge_small(&mut parts);
        let total: f64 = parts.iter().map(|p| p.count).sum();
        let estimate: f64 = parts.iter().map(|p| p.tokens).sum();
        let correction = if estimate > 0.0 { mean.input_tokens * total / estimate } else { 1.0 };
        parts
            .iter()
            .map(|p| Bucket {
                name: p.name.clone(),
                share: p.count / total,
                shape: rounded(Shape {
                    input_tokens: (correction * p.tokens / p.count).max(1.0),
                    output_tokens: mean.output_tokens,
                }),
            })
            .collect()
    }

    /// Count and estimated tokens of the prompts in each bucket: every histogram bucket counts as its
    /// geometric middle.
    fn split(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = (0..=EDGES.len()).map(Part::new).collect();
        let (mut low, mut below) = (0.0_f64, 0.0);
        for (&high, &cumulative) in self.input.upper.iter().zip(&self.input.cumulative) {
            let count = cumulative - below;
            if count > 0.0 {
                let top = if high >= f64::MAX { low * 2.0 } else { high };
                let middle = (low.max(1.0) * top.max(1.0)).sqrt();
                let part = EDGES.iter().position(|&edge| middle <= edge).unwrap_or(EDGES.len());
                parts[part].count += count;
                parts[part].tokens += count * middle;
            }
            low = high;
            below = cumulative;
        }
        parts
    }
}

struct Part {
    name: String,
    count: f64,
    tokens: f64,
}

impl Part {
    fn new(index: usize) -> Self {
        let thousand = |tokens: f64| format!("{}k", tokens / 1e3);
        let name = match index {
            0 => format!("<={}", thousand(EDGES[0])),
            i if i < EDGES.len() => format!("{}-{}", thousand(EDGES[i - 1]), thousand(EDGES[i])),
            i => format!(">{}", thousand(EDGES[i - 1])),
        };
        Self { name, count: 0.0, tokens: 0.0 }
    }
}

/// Buckets with almost no requests join their shorter neighbour (the first one its longer).
fn merge_small(parts: &mut Vec<Part>) {
    let total: f64 = parts.iter().map(|p| p.count).sum();
    while parts.len() > 1 {
        let Some(small) = parts.iter().position(|p| p.count < SMALLEST_SHARE * total) else { return };
        let part = parts.remove(small);
        let neighbour = small.saturating_sub(1);
        parts[neighbour].count += part.count;
        parts[neighbour].tokens += part.tokens;
    }
}

fn rounded(shape: Shape) -> Shape {
    let round = |tokens: f64| ((tokens.max(1.0).ln() / ROUNDING).round() * ROUNDING).exp();
    Shape { input_tokens: round(shape.input_tokens), output_tokens: round(shape.output_tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(counts: &[(f64, f64)], sum: f64) -> Histogram {
        let mut cumulative = 0.0;
        let (mut upper, mut values) = (vec![], vec![]);
        for (bound, count) in counts {
            cumulative += count;
            upper.push(*bound);
            values.push(cumulative);
        }
        upper.push(f64::MAX);
        values.push(cumulative);
        Histogram { upper, cumulative: values, sum, count: cumulative }
    }

    fn conversation() -> ShapeMemory {
        let mut m = ShapeMemory::default();
        let input =
            lengths(&[(500.0, 30.0), (1000.0, 20.0), (2000.0, 30.0), (5000.0, 19.0), (10000.0, 1.0)], 120_000.0);
        let output = lengths(&[(100.0, 40.0), (500.0, 60.0)], 21_000.0);
        m.note(60.0, 60.0, &input, &output);
        m
    }

    #[test]
    fn buckets_share_out_all_requests_and_keep_the_mean() {
        let buckets = conversation().buckets(None);
        assert_eq!(buckets.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["<=1k", "1k-5k", "5k-20k"]);
        assert!((buckets.iter().map(|b| b.share).sum::<f64>() - 1.0).abs() < 1e-12);
        let mean: f64 = buckets.iter().map(|b| b.share * b.shape.input_tokens).sum();
        assert!((mean / 1200.0 - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn too_few_requests_leave_the_expected_shape() {
        let mut m = ShapeMemory::default();
        m.note(60.0, 60.0, &lengths(&[(10.0, 2.0)], 20.0), &lengths(&[(10.0, 2.0)], 20.0));
        let buckets = m.buckets(Some((800.0, 100.0)));
        assert_eq!(buckets.len(), 1);
        assert!((buckets[0].shape.input_tokens / 800.0 - 1.0).abs() < ROUNDING);
        assert_eq!(m.mean(None), FALLBACK);
    }

    #[test]
    fn old_lengths_fade() {
        let mut m = conversation();
        let long = lengths(&[(20000.0, 100.0)], 1_500_000.0);
        let output = lengths(&[(500.0, 100.0)], 30_000.0);
        for step in 1..=60 {
            m.note(60.0 + 60.0 * f64::from(step), 60.0, &long, &output);
        }
        assert!(m.mean(None).input_tokens > 14_000.0);
    }

    #[test]
    fn overlapping_windows_count_once() {
        let mut m = ShapeMemory::default();
        let h = lengths(&[(1000.0, 40.0)], 20_000.0);
        for step in 1..=4 {
            m.note(1000.0 + 15.0 * f64::from(step), 60.0, &h, &h);
        }
        assert!(m.input.count < 40.0 + 40.0 * 3.0 * 0.25 + 1e-9);
    }
}
