//! Which points a fit may use: those beyond a limit of the server show its limit and not its speed.

use super::closed::{Server, Theta};
use super::point::{Load, Point};
use super::predict::Predictor;
use super::report::Use;
use super::{Limits, Options, USUAL_BUDGET};

/// A TTFT beyond this many times the predicted one without queueing, and beyond [`QUEUE_SECONDS`], is a queue.
const QUEUE_FACTOR: f64 = 3.0;
const QUEUE_SECONDS: f64 = 2.0;
/// Share of the sent requests that must be served for an open loop to tell about speed.
const SERVED: f64 = 0.9;

/// The server as if nothing but its token budget bound it.
pub fn unbounded_server(options: &Options) -> Server {
    Server {
        limits: Limits {
            max_num_seqs: u32::MAX,
            max_num_batched_tokens: options.max_num_batched_tokens.unwrap_or(USUAL_BUDGET).max(1),
        },
        kv_tokens: f64::INFINITY,
        left_out: options.prior.map_or(0.0, |p| p.parameters.experts.left_out),
    }
}

/// The server as it is taken to be for open loops.
pub fn bounded_server(options: &Options) -> Server {
    let mut server = unbounded_server(options);
    server.limits.max_num_seqs = options.max_num_seqs.unwrap_or(Limits::default().max_num_seqs).max(1);
    server.kv_tokens = options.kv_tokens.unwrap_or(f64::INFINITY);
    server
}

/// First look: limits that were given, and what was served.
pub fn by_limits(points: &[Point], options: &Options) -> Vec<Use> {
    points
        .iter()
        .map(|point| match point.load {
            Load::Closed { concurrency } if options.max_num_seqs.is_some_and(|most| concurrency > most) => {
                Use::BeyondLimit
            }
            Load::Open { rate, .. } if point.served_rate().is_some_and(|served| served < SERVED * rate) => {
                Use::Overloaded
            }
            _ => match (point.kv_demand(), options.kv_tokens) {
                (Some((_, full)), Some(kv)) if full > kv => Use::BeyondLimit,
                _ => Use::Fitted,
            },
        })
        .collect()
}

/// Second look, with parameters: what took far longer than the work itself.
pub fn by_queueing(points: &[Point], predictors: &[Predictor], theta: &Theta, uses: &mut [Use]) {
    for ((point, predictor), how) in points.iter().zip(predictors).zip(uses) {
        if !matches!(*how, Use::Fitted | Use::QueueDominated) || !matches!(point.load, Load::Closed { .. }) {
            continue;
        }
        let Some(ttft) = point.ttft else { continue };
        let queued =
            ttft.mean_seconds > QUEUE_SECONDS && ttft.mean_seconds > QUEUE_FACTOR * predictor.means(theta).ttft_seconds;
        *how = if queued { Use::QueueDominated } else { Use::Fitted };
    }
}

/// What a further measurement would have to vary.
pub fn missing_variation(points: &[Point], chosen: &[usize]) -> &'static str {
    let differs = |of: fn(&Point) -> f64| {
        let values = chosen.iter().map(|i| of(&points[*i]));
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        high > 1.5 * low
    };
    let load = differs(|p| p.load.size());
    let shape = differs(|p| p.shape.input_tokens) || differs(|p| p.shape.output_tokens);
    match (load, shape) {
        (false, false) => "concurrency and another prompt length",
        (false, true) => "concurrency",
        (true, false) => "prompt length",
        (true, true) => "load of another shape",
    }
}
