//! From measured points to the parameters of a replica, and what is known of their worth. Pure.
//!
//! This room owns the fit: points of any benchmark ([`Point`], [`read`]), what parameters predict for them, robust
//! fitting, the guard against parameters that the points cannot tell apart, the bounds that a KV cliff sets, and the
//! judgement of the result. It opens no file and knows no policy.

mod check;
mod cliff;
mod closed;
mod cross;
mod guard;
pub mod guess;
mod point;
mod predict;
mod prompts;
pub mod read;
mod report;
mod select;
mod solve;

use super::{Experts, Limits, Parameters};
use closed::{SIZE, Theta};
use guard::Sight;
use predict::{Predictor, from_array, to_array};
use solve::{Freedom, Kind, Known, Problem, Row, Solution};

pub use check::{Warning, WarningKind};
pub use cliff::KvBounds;
pub use cross::{CrossValidation, ErrorSummary};
pub use point::{Latency, Load, Origin, Point};
pub use predict::{Predicted, predict};
pub use report::{Fit, Judged, Span, Spread, Use, Validity};

/// What is known before the first point is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    pub parameters: Parameters,
    /// Standard deviation of the logarithm of each of them: 0.4 is about a factor of 1.5 either way.
    pub spread: f64,
}

/// How to fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `--max-num-seqs` of the server; unbounded when not known.
    pub max_num_seqs: Option<u32>,
    /// `--max-num-batched-tokens`; the engines' usual 8192 when not known.
    pub max_num_batched_tokens: Option<u32>,
    /// KV-cache capacity that the server reports, tokens.
    pub kv_tokens: Option<f64>,
    pub prior: Option<Prior>,
    /// Shapes and loads somebody means to ask about: (load, input, output).
    pub asked: Vec<(f64, f64, f64)>,
}

/// Why there is no fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    #[error("there is no point to fit")]
    NoPoints,
    #[error("{origin}: {fault}")]
    BadPoint { origin: Origin, fault: String },
    #[error(
        "all {0} points lie beyond what the server takes at once (max-num-seqs, KV memory, or more requests than it \
         can serve): measure at a lower load"
    )]
    OnlyOverload(usize),
    #[error(
        "the points cannot tell the parameters apart: {direction} changes no predicted time (condition number \
         {condition:.0e}, at most 1e3 is of use); measure another {missing}, or give --model and --accelerator"
    )]
    Unidentifiable { condition: f64, direction: String, missing: &'static str },
    #[error("no parameters come near the points")]
    NoConvergence,
}

/// Token budget when nobody says.
const USUAL_BUDGET: u32 = 8192;
/// How far a decoded token is taken to differ from a prompt token before the points say so: a factor of seven.
const DECODE_LIKE_PROMPT: f64 = 2.0;
/// Rounds in which points that turn out to be dominated by queueing are put aside.
const QUEUE_ROUNDS: usize = 3;

/// Fits parameters to `points`.
///
/// # Errors
/// See [`FitError`].
pub fn fit(points: &[Point], options: &Options) -> Result<Fit, FitError> {
    if points.is_empty() {
        return Err(FitError::NoPoints);
    }
    for point in points {
        if let Some(fault) = point.fault() {
            return Err(FitError::BadPoint { origin: point.origin.clone(), fault });
        }
    }
    let (open, bounded) = (select::unbounded_server(options), select::bounded_server(options));
    let server = |p: &Point| if matches!(p.load, Load::Open { .. }) { &bounded } else { &open };
    let predictors: Vec<Predictor> = points.iter().map(|p| Predictor::new(p, server(p))).collect();
    let mut uses = select::by_limits(points, options);
    let mut fitted = None;
    for _ in 0..QUEUE_ROUNDS {
        let round = fit_selected(points, &predictors, &uses, options)?;
        let before = uses.clone();
        select::by_queueing(points, &predictors, &round.solution.theta, &mut uses);
        let settled = uses == before;
        fitted = Some(round);
        if settled {
            break;
        }
    }
    let fitted = fitted.ok_or(FitError::NoConvergence)?;
    Ok(report::report(points, &predictors, uses, options, fitted))
}

/// A solution and how it came about.
struct Fitted {
    solution: Solution,
    freedom: Freedom,
    known: Vec<Known>,
    sight: Sight,
    /// Whether decoded tokens were left free at first and could not be told apart.
    decode_unseen: bool,
}

fn fit_selected(
    points: &[Point],
    predictors: &[Predictor],
    uses: &[Use],
    options: &Options,
) -> Result<Fitted, FitError> {
    let chosen: Vec<usize> = (0..points.len()).filter(|i| uses[*i] == Use::Fitted).collect();
    let rows = rows(points, predictors, &chosen);
    if rows.is_empty() {
        return Err(FitError::OnlyOverload(points.len()));
    }
    let starts = starts(points, &chosen, options.prior.as_ref());
    let prior = options.prior.map(|p| (to_array(&p.parameters), p.spread));
    let mut free: Vec<usize> = vec![0, 1, 2, 3];
    if prior.is_some_and(|(theta, _)| theta[4] > 0.0) {
        free.push(4);
    }
    let mut freedom = Freedom { free, tied: false };
    let mut decode_unseen = false;
    loop {
        let known = known(prior.as_ref(), &freedom);
        let problem = Problem { rows: &rows, known: &known, freedom: freedom.clone() };
        let solution = problem.solve(&starts).ok_or(FitError::NoConvergence)?;
        let sight = guard::look(&problem, &solution.theta);
        if sight.is_clear() || prior.is_some() {
            let plain = Fitted { solution, freedom, known: known.clone(), sight, decode_unseen };
            // An estimate has the attention of its prompts in beta.
            let more = if prior.is_none() { prompts::extended(points, &chosen, &rows, &known, &plain) } else { None };
            return Ok(more.unwrap_or(plain));
        }
        if freedom.tied {
            return Err(FitError::Unidentifiable {
                condition: sight.condition,
                direction: sight.in_words(),
                missing: select::missing_variation(points, &chosen),
            });
        }
        freedom = Freedom { free: vec![0, 1, 3], tied: true };
        decode_unseen = true;
    }
}

/// Measured times of the chosen points. The response time counts only where nothing finer was measured.
fn rows<'p>(points: &[Point], predictors: &'p [Predictor], chosen: &[usize]) -> Vec<Row<'p>> {
    let mut rows = Vec::new();
    for &index in chosen {
        let point = &points[index];
        let mut add = |kind, measured| {
            rows.push(Row {
                predictor: &predictors[index],
                kind,
                measured,
                output_tokens: point.shape.output_tokens,
                point: index,
            });
        };
        if let Some(ttft) = point.ttft.filter(|_| !matches!(point.load, Load::Decode { .. })) {
            add(Kind::Ttft, ttft.mean_seconds);
        }
        if let Some(itl) = point.itl.filter(|_| point.shape.output_tokens > 1.0) {
            add(Kind::Itl, itl.mean_seconds);
        } else if let Some(response) = point.response_seconds {
            add(Kind::Response, response);
        }
    }
    rows
}

/// The prior as rows, and that a decoded token costs about what a prompt token costs.
fn known(prior: Option<&(Theta, f64)>, freedom: &Freedom) -> Vec<Known> {
    let mut known = Vec::new();
    if freedom.free.contains(&2) {
        known.push(Known { of: [0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0], value: 0.0, spread: DECODE_LIKE_PROMPT });
    }
    if let Some((theta, spread)) = prior {
        for index in freedom.free.iter().filter(|i| theta[**i] > 0.0) {
            let mut of = [0.0; SIZE];
            of[*index] = 1.0;
            known.push(Known { of, value: theta[*index].ln(), spread: *spread });
        }
    }
    known
}

/// Where the fits begin: the prior, and what the least loaded point says under several sizes of gamma.
fn starts(points: &[Point], chosen: &[usize], prior: Option<&Prior>) -> Vec<Theta> {
    let mut starts: Vec<Theta> = prior.iter().map(|p| to_array(&p.parameters)).collect();
    let experts = prior.map_or(0.0, |p| p.parameters.experts.all_seconds);
    let least = |of: fn(&Point) -> Option<Latency>| {
        let with = chosen.iter().filter_map(|i| Some((&points[*i], of(&points[*i])?.mean_seconds)));
        with.min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let response = chosen.iter().filter_map(|i| {
        let p = &points[*i];
        Some(p.response_seconds? / p.shape.output_tokens.max(1.0))
    });
    let itl = least(|p| p.itl).map_or_else(|| response.fold(f64::NAN, f64::min), |(_, itl)| itl);
    let ttft = least(|p| p.ttft.filter(|_| !matches!(p.load, Load::Decode { .. })));
    let itl = if itl.is_finite() { itl } else { ttft.map_or(0.01, |(_, t)| 0.2 * t) };
    let (shape, ttft) = match ttft {
        Some((point, ttft)) => (point.shape, ttft),
        None => (points[chosen[0]].shape, 2.0 * itl),
    };
    for gamma in [1e-7, 3e-6, 3e-5].map(|part| part * itl) {
        let (alpha, beta, gamma) = guess::anchored(ttft, itl, shape.input_tokens.max(2.0), shape.output_tokens, gamma);
        let (alpha, beta) = (alpha.max(0.1 * itl), if beta > 0.0 { beta } else { 1e-3 * itl });
        starts.push([alpha, beta, beta, gamma, experts, 0.0, 0.0]);
        starts.push([alpha, beta, 0.3 * beta, gamma, experts, 0.0, 0.0]);
    }
    starts
}

fn parameters(theta: &Theta, prior: Option<&Prior>) -> Parameters {
    from_array(theta, prior.map_or(Experts::default(), |p| p.parameters.experts).left_out)
}

#[cfg(test)]
mod tests;
