//! How wrong the fit is on points it has not seen: one shape left out after the other, or one part of the points.

use serde::Serialize;

use super::closed::Theta;
use super::guard;
use super::point::{Point, shapes};
use super::solve::{Kind, Problem, Row, median};
use super::{Fitted, Predictor, rows};

/// Parts when all points have one shape.
const FOLDS: usize = 5;

/// Sizes of relative errors, 0.1 is 10 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorSummary {
    pub count: usize,
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
}

impl ErrorSummary {
    /// `None` without any error.
    pub fn of(mut errors: Vec<f64>) -> Option<Self> {
        errors.sort_by(f64::total_cmp);
        let last = errors.len().checked_sub(1)?;
        Some(Self {
            count: errors.len(),
            mean: errors.iter().sum::<f64>() / errors.len() as f64,
            p90: errors[(0.9 * last as f64).round() as usize],
            median: median(errors)?,
        })
    }
}

/// Errors on points that were left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrossValidation {
    /// What was left out at a time.
    pub method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<ErrorSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl: Option<ErrorSummary>,
    /// Mean relative error over both.
    pub mean: f64,
}

/// Relative errors of `rows` at `theta`: TTFT, then ITL and response times.
pub fn errors(rows: &[Row], theta: &Theta) -> (Vec<f64>, Vec<f64>) {
    let size = |r: &Row| (r.log_predicted(theta).exp() / r.measured - 1.0).abs();
    let (ttft, itl): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|r| r.kind == Kind::Ttft);
    (ttft.into_iter().map(size).collect(), itl.into_iter().map(size).collect())
}

/// `None` when the rest of the points cannot carry a fit.
pub fn validate(
    points: &[Point],
    predictors: &[Predictor],
    chosen: &[usize],
    fitted: &Fitted,
) -> Option<CrossValidation> {
    let (shapes, of) = shapes(points);
    let by_shape = |n: usize| -> Vec<usize> { chosen.iter().filter(|i| of[**i] == n).copied().collect() };
    let by_turn = |n: usize| -> Vec<usize> { chosen.iter().skip(n).step_by(FOLDS).copied().collect() };
    let parts: Vec<Vec<usize>> = (0..shapes.len()).map(by_shape).filter(|p| !p.is_empty()).collect();
    if parts.len() > 1
        && let Some(done) = run(points, predictors, chosen, fitted, &parts, "one shape left out")
    {
        return Some(done);
    }
    let parts: Vec<Vec<usize>> = (0..FOLDS.min(chosen.len())).map(by_turn).collect();
    let method = if chosen.len() > FOLDS { "a fifth of the points left out" } else { "one point left out" };
    run(points, predictors, chosen, fitted, &parts, method)
}

fn run(
    points: &[Point],
    predictors: &[Predictor],
    chosen: &[usize],
    fitted: &Fitted,
    parts: &[Vec<usize>],
    method: &str,
) -> Option<CrossValidation> {
    let (mut ttft, mut itl) = (Vec::new(), Vec::new());
    let mut judged = 0;
    for part in parts {
        let rest: Vec<usize> = chosen.iter().filter(|i| !part.contains(i)).copied().collect();
        let kept = rows(points, predictors, &rest);
        if kept.is_empty() {
            continue;
        }
        let problem = Problem { rows: &kept, known: &fitted.known, freedom: fitted.freedom.clone() };
        let Some(solution) = problem.solve(&[fitted.solution.theta]) else { continue };
        let anchored = fitted.known.len() > 1;
        if !anchored && !guard::look(&problem, &solution.theta).is_clear() {
            continue;
        }
        judged += 1;
        let (t, i) = errors(&rows(points, predictors, part), &solution.theta);
        ttft.extend(t);
        itl.extend(i);
    }
    if 2 * judged < parts.len() || judged == 0 {
        return None;
    }
    let all = ttft.len() + itl.len();
    let mean = ttft.iter().chain(&itl).sum::<f64>() / all.max(1) as f64;
    Some(CrossValidation { method: method.to_owned(), ttft: ErrorSummary::of(ttft), itl: ErrorSummary::of(itl), mean })
}
