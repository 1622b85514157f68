//! The KV cliff: between the last load without a queue and the first with one lies the KV capacity. Points on either
//! side bound it; nothing is smoothed across.

use serde::Serialize;

use super::super::Parameters;
use super::closed::{Server, Theta};
use super::point::{Load, Point};
use super::predict::{Predictor, to_array};
use super::report::Use;

/// What the points say about the KV capacity, tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KvBounds {
    /// So much was in use without a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// So much would have been in use where requests queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// The capacity that explains the points with a queue best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<f64>,
}

/// Candidates tried between the bounds.
const CANDIDATES: usize = 48;

/// Bounds from the points, given which of them queued.
pub fn bounds(points: &[Point], uses: &[Use], parameters: &Parameters, server: &Server) -> KvBounds {
    let demand = |point: &Point| match point.load {
        Load::Closed { .. } | Load::Decode { .. } => point.kv_demand(),
        Load::Open { .. } => None,
    };
    let of = |wanted: &[Use]| {
        let pairs = points.iter().zip(uses).filter(|(_, u)| wanted.contains(u));
        pairs.filter_map(|(p, _)| demand(p)).collect::<Vec<_>>()
    };
    let at_least = of(&[Use::Fitted, Use::Wild]).iter().map(|d| d.0).reduce(f64::max);
    let queued: Vec<&Point> =
        points.iter().zip(uses).filter(|(_, u)| **u == Use::QueueDominated).map(|(p, _)| p).collect();
    let below = queued.iter().filter_map(|p| p.kv_demand()).map(|d| d.1).reduce(f64::min);
    let (Some(low), Some(high)) = (at_least, below) else {
        return KvBounds { at_least, below, estimate: None };
    };
    if low >= high {
        // No capacity explains both: something else than memory bounds the batch.
        return KvBounds { at_least, below, estimate: None };
    }
    let theta = to_array(parameters);
    let candidates = (0..=CANDIDATES).map(|i| low * (high / low).powf(i as f64 / CANDIDATES as f64));
    let miss = |kv: f64| -> f64 {
        let server = Server { kv_tokens: kv, ..*server };
        queued.iter().map(|p| misfit(p, &Predictor::new(p, &server), &theta)).sum()
    };
    let scored: Vec<(f64, f64)> = candidates.map(|kv| (kv, miss(kv))).collect();
    let best = scored.iter().map(|s| s.1).fold(f64::INFINITY, f64::min);
    // Several capacities may do equally well; the smallest promises least.
    let estimate = scored.iter().find(|s| s.1 <= best + 1e-9).map(|s| s.0);
    KvBounds { at_least, below, estimate }
}

fn misfit(point: &Point, predictor: &Predictor, theta: &Theta) -> f64 {
    let means = predictor.means(theta);
    let ratio = |predicted: f64, measured: f64| (predicted / measured).ln().abs().min(2.0);
    let itl = point.itl.zip(means.itl_seconds).map_or(0.0, |(m, p)| ratio(p, m.mean_seconds));
    let ttft = point.ttft.map_or(0.0, |m| ratio(means.ttft_seconds, m.mean_seconds));
    itl + 0.5 * ttft
}
