//! The picture of a fit: latency over load, measured and predicted, a colour per shape.

use crate::perf::Limits;
use crate::perf::fit::{Fit, Judged, Load, Point, Predicted, Use, predict};
use crate::plot::{Entry, Guide, Mark, Panel, Picture, Series};

/// Shapes that get a colour; those with most points.
const SHAPES: usize = 8;
/// Loads at which a line is computed.
const STEPS: usize = 40;

/// What the loads of a panel are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Closed,
    Open,
    Decode,
}

fn kind(load: Load) -> Kind {
    match load {
        Load::Closed { .. } => Kind::Closed,
        Load::Open { .. } => Kind::Open,
        Load::Decode { .. } => Kind::Decode,
    }
}

/// The picture of `fit`; `points` are those it was made from, in the same order.
pub fn picture(fit: &Fit, points: &[Point], kv_tokens: Option<u64>, max_num_seqs: Option<u32>) -> Picture {
    let (shapes, more) = shapes(fit);
    let kv = kv_tokens.map(|t| t as f64);
    let limits = Limits { max_num_seqs: max_num_seqs.unwrap_or(u32::MAX), ..fit.limits };
    let mut panels = Vec::new();
    for (kind, x) in
        [(Kind::Closed, "requests at a time"), (Kind::Open, "requests per second"), (Kind::Decode, "requests decoding")]
    {
        let scene = Scene { fit, points, kind, x, shapes: &shapes, limits, kv: kv.unwrap_or(f64::INFINITY) };
        panels.extend(scene.panel("time to first token, mean", "ms", true));
        panels.extend(scene.panel("time between tokens, mean", "ms", false));
    }
    let unused = fit.points.iter().any(|p| !matches!(p.used, Use::Fitted | Use::Wild));
    Picture { title: title(fit, more), panels, legend: legend(fit, &shapes, unused), ..Picture::default() }
}

fn title(fit: &Fit, more: usize) -> String {
    let used = fit.points.iter().filter(|p| matches!(p.used, Use::Fitted | Use::Wild)).count();
    let rest = if more > 0 { format!(" ({more} further shapes not drawn)") } else { String::new() };
    format!(
        "{used} of {} points fitted, a predicted time is good to ±{:.0} %{rest}",
        fit.points.len(),
        100.0 * fit.relative_spread
    )
}

/// Indices of the shapes that get a colour, in order of their lengths, and how many get none.
fn shapes(fit: &Fit) -> (Vec<usize>, usize) {
    let any_request = fit.points.iter().any(|p| kind(p.load) != Kind::Decode);
    let drawn = |p: &&Judged| !any_request || kind(p.load) != Kind::Decode;
    let count = |shape: usize| fit.points.iter().filter(drawn).filter(|p| p.shape == shape).count();
    let mut all: Vec<usize> = (0..fit.shapes.len()).filter(|s| count(*s) > 0).collect();
    let total = all.len();
    all.sort_by_key(|s| std::cmp::Reverse(count(*s)));
    all.truncate(SHAPES);
    let lengths = |s: &usize| (fit.shapes[*s].input_tokens, fit.shapes[*s].output_tokens);
    all.sort_by(|a, b| lengths(a).partial_cmp(&lengths(b)).unwrap_or(std::cmp::Ordering::Equal));
    (all, total.saturating_sub(SHAPES))
}

fn legend(fit: &Fit, shapes: &[usize], unused: bool) -> Vec<Entry> {
    let name = |s: &usize| format!("{:.0} in, {:.0} out", fit.shapes[*s].input_tokens, fit.shapes[*s].output_tokens);
    let entry = |(i, s): (usize, &usize)| Entry { name: name(s), mark: None, colour: Some(i) };
    let mut entries: Vec<Entry> = shapes.iter().enumerate().map(entry).collect();
    let plain = |name: &str, mark| Entry { name: name.to_owned(), mark: Some(mark), colour: None };
    entries.push(plain("measured", Mark::Dots));
    if unused {
        entries.push(plain("measured, not fitted", Mark::Rings));
    }
    entries.push(plain("predicted", Mark::Line));
    entries
}

struct Scene<'f> {
    fit: &'f Fit,
    points: &'f [Point],
    kind: Kind,
    x: &'static str,
    shapes: &'f [usize],
    limits: Limits,
    kv: f64,
}

impl Scene<'_> {
    /// `None` when nothing of this kind was measured.
    fn panel(&self, title: &str, unit: &str, ttft: bool) -> Option<Panel> {
        let mut series = Vec::new();
        let mut guides = Vec::new();
        for (colour, shape) in self.shapes.iter().enumerate() {
            let here = |p: &&Judged| p.shape == *shape && kind(p.load) == self.kind;
            let of = |used: bool| -> Vec<(f64, f64)> {
                let points = self.fit.points.iter().filter(here);
                let points = points.filter(|p| matches!(p.used, Use::Fitted | Use::Wild) == used);
                points
                    .filter_map(|p| {
                        let latency = if ttft { p.ttft } else { p.itl };
                        Some((p.load.size(), 1e3 * latency?.mean_seconds))
                    })
                    .collect()
            };
            let (used, unused) = (of(true), of(false));
            if used.is_empty() && unused.is_empty() {
                continue;
            }
            series.push(Series { points: self.line(*shape, ttft), mark: Mark::Line, colour });
            series.push(Series { points: used, mark: Mark::Dots, colour });
            series.push(Series { points: unused, mark: Mark::Rings, colour });
            let each = self.fit.shapes[*shape].input_tokens + self.fit.shapes[*shape].output_tokens / 2.0;
            if self.kind == Kind::Closed && self.kv.is_finite() {
                guides.push(Guide { at: self.kv / each, label: "KV memory full".to_owned(), colour });
            }
        }
        if series.iter().all(|s| s.mark == Mark::Line || s.points.is_empty()) {
            return None;
        }
        Some(Panel {
            title: title.to_owned(),
            x: self.x.to_owned(),
            y: unit.to_owned(),
            series,
            guides,
            ..Panel::default()
        })
    }

    /// Predictions from the smallest to the largest load that was measured with this shape.
    fn line(&self, shape: usize, ttft: bool) -> Vec<(f64, f64)> {
        let of_shape = self.fit.points.iter().zip(self.points);
        let same: Vec<&Point> =
            of_shape.filter(|(p, _)| p.shape == shape && kind(p.load) == self.kind).map(|(_, p)| p).collect();
        let nearest = |load: f64| {
            let far = |p: &&&Point| (p.load.size() / load).ln().abs();
            same.iter().min_by(|a, b| far(a).total_cmp(&far(b)))
        };
        let sizes = || same.iter().map(|p| p.load.size());
        let (low, high) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(0.0, f64::max));
        let mut loads: Vec<f64> = (0..=STEPS).map(|i| low * (high / low).powf(i as f64 / STEPS as f64)).collect();
        if self.kind == Kind::Closed {
            loads.iter_mut().for_each(|l| *l = l.round());
            loads.dedup();
        }
        loads.iter().filter_map(|l| Some((*l, 1e3 * self.at(nearest(*l)?, *l, ttft)?))).collect()
    }

    /// With as many requests per client as the nearest measurement had: a short run begins with everybody at once.
    fn at(&self, model: &Point, size: f64, ttft: bool) -> Option<f64> {
        let load = match model.load {
            Load::Closed { .. } => Load::Closed { concurrency: size as u32 },
            Load::Open { burstiness, .. } => Load::Open { rate: size, burstiness },
            Load::Decode { .. } => Load::Decode { batch: size },
        };
        let per_client = model.completed.map(|n| (n as f64 / model.load.size()).max(1.0));
        let completed = per_client.filter(|_| self.kind == Kind::Closed).map(|n| (n * size) as u64);
        let point = Point { load, completed, ..model.clone() };
        let Predicted { ttft: first, itl, .. } = predict(&point, &self.fit.parameters, self.limits, self.kv)?;
        if ttft { Some(first.mean_seconds) } else { Some(itl?.mean_seconds) }
    }
}
