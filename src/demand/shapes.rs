//! Prompt and output lengths of a model's requests, kept in a few buckets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::observe::Histogram;
use crate::perf::Shape;

/// Upper edges of the prompt-length buckets, tokens.
const INPUT_EDGES: [f64; 3] = [1_000.0, 5_000.0, 20_000.0];
/// Upper edge of the short answers, tokens: over few tokens one foreign prompt moves the mean time per token.
const OUTPUT_EDGES: [f64; 1] = [50.0];
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
    /// Lengths given last, by bucket.
    #[serde(default)]
    given: BTreeMap<String, Shape>,
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

    /// Buckets by prompt and output length. The two are taken as independent, because the servers report
    /// the marginals only. Lengths stay as they were given last until they have changed by a whole step.
    pub fn buckets(&mut self, expected: Option<(f64, f64)>) -> Vec<Bucket> {
        let mean = self.mean(expected);
        if !self.is_known() {
            return vec![Bucket { name: "all".into(), share: 1.0, shape: rounded(mean) }];
        }
        let had = |is_it: &dyn Fn(&str, &str) -> bool| {
            self.given.keys().filter_map(|name| name.split_once('/')).any(|(input, output)| is_it(input, output))
        };
        let inputs = parts(&self.input, &INPUT_EDGES, mean.input_tokens, |name| had(&|input, _| input == name));
        let outputs = parts(&self.output, &OUTPUT_EDGES, mean.output_tokens, |name| had(&|_, output| output == name));
        let mut buckets = vec![];
        for input in &inputs {
            for output in &outputs {
                buckets.push(Bucket {
                    name: format!("{}/{}", input.name, output.name),
                    share: input.share * output.share,
                    shape: Shape { input_tokens: input.mean, output_tokens: output.mean },
                });
            }
        }
        for bucket in &mut buckets {
            bucket.shape = steady(bucket.shape, self.given.get(&bucket.name));
        }
        self.given = buckets.iter().map(|b| (b.name.clone(), b.shape)).collect();
        buckets
    }
}

/// One range of lengths.
struct Part {
    name: String,
    share: f64,
    mean: f64,
}

/// Share and mean length of each range of a histogram. Every histogram bucket counts as its geometric
/// middle; the means are then scaled so that together they give the measured one. Ranges with almost no
/// requests join their shorter neighbour (the first one its longer); one that was `had` before stays until it has half
/// as many.
fn parts(histogram: &Histogram, edges: &[f64], mean: f64, had: impl Fn(&str) -> bool) -> Vec<Part> {
    let mut ranges: Vec<(usize, f64, f64)> = (0..=edges.len()).map(|i| (i, 0.0, 0.0)).collect();
    let (mut low, mut below) = (0.0_f64, 0.0);
    for (&high, &cumulative) in histogram.upper.iter().zip(&histogram.cumulative) {
        let count = cumulative - below;
        if count > 0.0 {
            let top = if high >= f64::MAX { low * 2.0 } else { high };
            let middle = (low.max(1.0) * top.max(1.0)).sqrt();
            let range = edges.iter().position(|&edge| middle <= edge).unwrap_or(edges.len());
            ranges[range].1 += count;
            ranges[range].2 += count * middle;
        }
        low = high;
        below = cumulative;
    }
    let total: f64 = ranges.iter().map(|r| r.1).sum();
    while ranges.len() > 1 {
        let least = |index: usize| SMALLEST_SHARE * if had(&range_name(index, edges)) { 0.5 } else { 1.0 };
        let Some(small) = ranges.iter().position(|r| r.1 < least(r.0) * total) else { break };
        let (_, count, tokens) = ranges.remove(small);
        let neighbour = &mut ranges[small.saturating_sub(1)];
        neighbour.1 += count;
        neighbour.2 += tokens;
    }
    let estimate: f64 = ranges.iter().map(|r| r.2).sum();
    let correction = if estimate > 0.0 { mean * total / estimate } else { 1.0 };
    let part = |&(index, count, tokens): &(usize, f64, f64)| Part {
        name: range_name(index, edges),
        share: count / total,
        mean: (correction * tokens / count).max(1.0),
    };
    ranges.iter().map(part).collect()
}

fn range_name(index: usize, edges: &[f64]) -> String {
    let short = |tokens: f64| if tokens < 1e3 { format!("{tokens}") } else { format!("{}k", tokens / 1e3) };
    match index {
        0 => format!("<={}", short(edges[0])),
        i if i < edges.len() => format!("{}-{}", short(edges[i - 1]), short(edges[i])),
        i => format!(">{}", short(edges[i - 1])),
    }
}

/// The lengths given last as long as `new` ones are within a step of them, else the new ones, rounded.
fn steady(new: Shape, last: Option<&Shape>) -> Shape {
    let is_near = |a: f64, b: f64| (a / b).ln().abs() < ROUNDING;
    let near =
        |last: &&Shape| is_near(new.input_tokens, last.input_tokens) && is_near(new.output_tokens, last.output_tokens);
    last.filter(near).copied().unwrap_or_else(|| rounded(new))
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
        let output = lengths(&[(50.0, 0.0), (100.0, 40.0), (500.0, 60.0)], 21_000.0);
        m.note(60.0, 60.0, &input, &output);
        m
    }

    #[test]
    fn buckets_share_out_all_requests_and_keep_the_mean() {
        let buckets = conversation().buckets(None);
        assert_eq!(
            buckets.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
            ["<=1k/>50", "1k-5k/>50", "5k-20k/>50"]
        );
        assert!((buckets.iter().map(|b| b.share).sum::<f64>() - 1.0).abs() < 1e-12);
        let mean: f64 = buckets.iter().map(|b| b.share * b.shape.input_tokens).sum();
        assert!((mean / 1200.0 - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn short_answers_are_kept_apart() {
        let mut m = ShapeMemory::default();
        let input = lengths(&[(1000.0, 100.0)], 70_000.0);
        m.note(60.0, 60.0, &input, &lengths(&[(20.0, 30.0), (500.0, 70.0)], 21_400.0));
        let buckets = m.buckets(None);
        assert_eq!(buckets.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["<=1k/<=50", "<=1k/>50"]);
        assert!(buckets[0].shape.output_tokens < 50.0 && buckets[1].shape.output_tokens > 200.0, "{buckets:?}");
        let mean: f64 = buckets.iter().map(|b| b.share * b.shape.output_tokens).sum();
        assert!((mean / 214.0 - 1.0).abs() < 0.05, "{mean}");
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
