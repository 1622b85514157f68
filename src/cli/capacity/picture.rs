//! `poolwright capacity --plot`: latency over load, a colour per shape, with the targets and the rates within them.

use super::subject::{Subject, Tier};
use crate::perf::{Curve, Quantiles, Shape, Traffic};
use crate::plot::{Entry, Guide, Mark, Panel, Picture, Series};

/// Replicas of one picture.
pub(super) const MOST_SUBJECTS: usize = 8;
/// Loads at which a line is computed, and the ends of it as shares of the full rate.
const STEPS: usize = 60;
const ENDS: (f64, f64) = (0.02, 0.97);
/// Colour of the targets.
const GREY: usize = 6;

/// One replica, the shapes and the tiers to draw.
pub(super) struct Scene<'s> {
    pub subject: &'s Subject,
    pub shapes: &'s [Shape],
    pub tiers: &'s [Tier],
}

/// Which latency a panel shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Ttft,
    Itl,
}

impl Which {
    fn of(self, seen: &Quantiles) -> f64 {
        if self == Self::Ttft { seen.ttft_seconds } else { seen.itl_seconds }
    }

    fn target(self, tier: &Tier) -> f64 {
        if self == Self::Ttft { tier.target.ttft_seconds } else { tier.target.itl_seconds }
    }
}

/// The picture; `percentile` is drawn where a tier has none of its own.
pub(super) fn picture(scenes: &[Scene<'_>], traffic: &Traffic, percentile: f64) -> Picture {
    let mut panels = vec![];
    let mut shapes: Vec<Shape> = vec![];
    for scene in scenes {
        for shape in scene.shapes {
            if !shapes.contains(shape) {
                shapes.push(*shape);
            }
        }
    }
    for scene in scenes {
        for which in [Which::Ttft, Which::Itl] {
            panels.extend(panel(scene, &shapes, traffic, percentile / 100.0, which));
        }
    }
    let name = |s: &Shape| format!("{} in, {} out", s.input_tokens, s.output_tokens);
    let entry = |(i, s): (usize, &Shape)| Entry { name: name(s), mark: Some(Mark::Line), colour: Some(of_shape(i)) };
    let mut legend: Vec<Entry> = shapes.iter().enumerate().map(entry).collect();
    if scenes.iter().any(|s| s.tiers.iter().any(|t| t.target.ttft_seconds.min(t.target.itl_seconds).is_finite())) {
        legend.push(Entry { name: "target".to_owned(), mark: Some(Mark::Line), colour: Some(GREY) });
    }
    Picture {
        title: "Latency of one replica over its load; dashed: the rate within the targets".to_owned(),
        panels,
        legend,
        ..Picture::default()
    }
}

/// The colour of the targets is no shape's.
fn of_shape(index: usize) -> usize {
    if index < GREY { index } else { index + 1 }
}

/// `None` when no shape fits the replica.
fn panel(scene: &Scene<'_>, shapes: &[Shape], traffic: &Traffic, usual: f64, which: Which) -> Option<Panel> {
    let promised = scene.tiers.iter().find(|t| which.target(t).is_finite());
    let quantile = promised.map_or(usual, |t| t.target.quantile);
    let (mut series, mut guides) = (vec![], vec![]);
    for shape in scene.shapes {
        let subject = scene.subject;
        let curve = subject.takes(shape).then(|| Curve::new(&subject.at(shape), shape, traffic)).flatten();
        let Some(curve) = curve else { continue };
        let colour = of_shape(shapes.iter().position(|s| s == shape).unwrap_or(0));
        series.push(Series { points: line(&curve, quantile, which), mark: Mark::Line, colour });
        for tier in scene.tiers {
            let found = curve.capacity(&tier.target);
            if found.rate > 0.0 {
                guides.push(Guide { at: found.rate, label: tier.name.clone(), colour });
            }
        }
    }
    let xs = series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let (low, high) = xs.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), x| (l.min(x), h.max(x)));
    if high <= 0.0 {
        return None;
    }
    for tier in scene.tiers.iter().filter(|t| which.target(t).is_finite()) {
        let y = 1e3 * which.target(tier);
        series.push(Series { points: vec![(low, y), (high, y)], mark: Mark::Line, colour: GREY });
    }
    let what = if which == Which::Ttft { "TTFT" } else { "ITL" };
    Some(Panel {
        title: format!("{}: {what} p{}", scene.subject.name, 100.0 * quantile),
        x: "requests per second".to_owned(),
        y: "ms".to_owned(),
        series,
        guides,
        ..Panel::default()
    })
}

fn line(curve: &Curve, quantile: f64, which: Which) -> Vec<(f64, f64)> {
    let load = |i: usize| ENDS.0 * (ENDS.1 / ENDS.0).powf(i as f64 / STEPS as f64);
    let rates = (0..=STEPS).map(|i| load(i) * curve.full_rate());
    rates.filter_map(|rate| Some((rate, 1e3 * which.of(&curve.latencies(rate, quantile)?)))).collect()
}
