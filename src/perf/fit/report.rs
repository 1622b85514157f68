//! The result of a fit: parameters, where they hold, how wrong they are, and every point judged.

use serde::Serialize;

use super::super::{Limits, Parameters, Shape};
use super::check::{self, Warning};
use super::cliff::{self, KvBounds};
use super::closed::Theta;
use super::cross::{self, CrossValidation, ErrorSummary};
use super::point::{Latency, Load, Origin, Point, shapes};
use super::predict::{NAMES, Predictor};
use super::solve::LEAST_SPREAD;
use super::{Fitted, Options, USUAL_BUDGET, parameters, rows, select};

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// The parameters are fitted to it.
    Fitted,
    /// In the fit, with little weight: it lies far from all others.
    Wild,
    /// Beyond max-num-seqs or the KV memory that were given.
    BeyondLimit,
    /// Its TTFT is a queue: it bounds the KV memory and nothing else.
    QueueDominated,
    /// Fewer requests were served than sent.
    Overloaded,
}

/// From the smallest to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Span {
    pub from: f64,
    pub to: f64,
}

impl Span {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        values.fold(None, |span: Option<Self>, v| {
            Some(span.map_or(Self { from: v, to: v }, |s| Self { from: s.from.min(v), to: s.to.max(v) }))
        })
    }

    /// Within the span, or beyond it by no more than `factor`.
    pub fn covers(&self, value: f64, factor: f64) -> bool {
        value >= self.from / factor && value <= self.to * factor
    }
}

/// What the fitted points cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Validity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<Span>,
    /// KV tokens in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<Span>,
}

/// Relative spread of a parameter: 0.1 is about 10 % either way, one standard deviation. `None` where it was not
/// fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead: Option<f64>,
}

/// One point, measured and predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    pub origin: Origin,
    pub load: Load,
    pub input_tokens: f64,
    pub output_tokens: f64,
    /// Index into the shapes of the fit.
    pub shape: usize,
    #[serde(rename = "use")]
    pub used: Use,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl: Option<Latency>,
    /// As if nothing but the token budget bound the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_ttft_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_itl_seconds: Option<f64>,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    pub parameters: Parameters,
    pub spread: Spread,
    /// Limits the points were understood with.
    pub limits: Limits,
    pub kv: KvBounds,
    pub validity: Validity,
    /// Errors on the points that were fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_error: Option<ErrorSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_error: Option<ErrorSummary>,
    /// Errors on points that were left out; `None` when there are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_validation: Option<CrossValidation>,
    /// How much worse the worst direction of the parameters is seen than the best.
    pub condition: f64,
    /// Relative standard deviation of a predicted time.
    pub relative_spread: f64,
    pub warnings: Vec<Warning>,
    /// Shapes among the points; lengths within 3 % are one.
    pub shapes: Vec<Shape>,
    pub points: Vec<Judged>,
}

/// A mean absolute error is this part of a standard deviation.
const MEAN_OF_DEVIATION: f64 = 0.8;
/// Spread that is stated when there are too few points to validate, on top of the misfit.
const UNTESTED_FACTOR: f64 = 2.0;

pub fn report(
    points: &[Point],
    predictors: &[Predictor],
    mut uses: Vec<Use>,
    options: &Options,
    fitted: Fitted,
) -> Fit {
    let theta = fitted.solution.theta;
    check::mark_wild(points, predictors, &fitted.solution, &mut uses);
    let chosen: Vec<usize> = (0..points.len()).filter(|i| matches!(uses[*i], Use::Fitted | Use::Wild)).collect();
    let rows = rows(points, predictors, &chosen);
    let (ttft, itl) = cross::errors(&rows, &theta);
    let found = parameters(&theta, options.prior.as_ref());
    let kv = cliff::bounds(points, &uses, &found, &select::unbounded_server(options));
    let cross_validation = cross::validate(points, predictors, &chosen, &fitted);
    let own: Vec<f64> = ttft.iter().chain(&itl).copied().collect();
    let own = own.iter().sum::<f64>() / own.len().max(1) as f64;
    let mean = cross_validation.as_ref().map_or(UNTESTED_FACTOR * own, |c| c.mean);
    let validity = validity(points, &chosen);
    let warnings = check::warnings(&check::Findings {
        points,
        predictors,
        uses: &uses,
        options,
        fitted: &fitted,
        validity: &validity,
        kv: &kv,
    });
    let (shapes, of) = shapes(points);
    let judge = |i: usize| judged(&points[i], &predictors[i], uses[i], of[i], &theta);
    Fit {
        parameters: found,
        spread: spread(&fitted, &rows),
        limits: Limits {
            max_num_seqs: options.max_num_seqs.unwrap_or(Limits::default().max_num_seqs),
            max_num_batched_tokens: options.max_num_batched_tokens.unwrap_or(USUAL_BUDGET),
        },
        kv,
        validity,
        ttft_error: ErrorSummary::of(ttft),
        itl_error: ErrorSummary::of(itl),
        cross_validation,
        condition: fitted.sight.condition,
        relative_spread: (mean / MEAN_OF_DEVIATION).max(LEAST_SPREAD),
        warnings,
        shapes,
        points: (0..points.len()).map(judge).collect(),
    }
}

fn judged(point: &Point, predictor: &Predictor, used: Use, shape: usize, theta: &Theta) -> Judged {
    let means = predictor.means(theta);
    Judged {
        origin: point.origin.clone(),
        load: point.load,
        input_tokens: point.shape.input_tokens,
        output_tokens: point.shape.output_tokens,
        shape,
        used,
        ttft: point.ttft,
        itl: point.itl,
        predicted_ttft_seconds: (!matches!(point.load, Load::Decode { .. })).then_some(means.ttft_seconds),
        predicted_itl_seconds: means.itl_seconds,
    }
}

fn spread(fitted: &Fitted, rows: &[super::Row]) -> Spread {
    let problem = super::Problem { rows, known: &fitted.known, freedom: fitted.freedom.clone() };
    let Some(values) = problem.parameter_spreads(&fitted.solution) else { return Spread::default() };
    let of = |name: &str| {
        let column = fitted.freedom.free.iter().position(|i| NAMES[*i] == name)?;
        values.get(column).copied().filter(|v| v.is_finite())
    };
    Spread {
        alpha: of("alpha"),
        beta: of("beta"),
        decode: of("decode"),
        gamma: of("gamma"),
        experts: of("experts"),
        attention: of("attention"),
        overhead: of("overhead"),
    }
}

fn validity(points: &[Point], chosen: &[usize]) -> Validity {
    let of = |value: fn(&Point) -> Option<f64>| Span::of(chosen.iter().filter_map(|i| value(&points[*i])));
    Validity {
        concurrency: of(|p| match p.load {
            Load::Closed { concurrency } => Some(f64::from(concurrency)),
            Load::Decode { batch } => Some(batch),
            Load::Open { .. } => None,
        }),
        rate_per_second: of(|p| match p.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed { .. } | Load::Decode { .. } => None,
        }),
        input_tokens: of(|p| Some(p.shape.input_tokens)),
        output_tokens: of(|p| (!matches!(p.load, Load::Decode { .. })).then_some(p.shape.output_tokens)),
        kv_tokens: of(|p| p.kv_demand().map(|d| d.0)),
    }
}
