//! Robust least squares on the logarithms of the parameters.
//!
//! A residual is the logarithm of predicted over measured time, so that twice as long and half as long weigh the
//! same. Huber's loss keeps a few wild points from pulling, TTFT and ITL each are weighed by their own spread, and
//! what is known beforehand comes in as further rows. Damped Gauss-Newton steps from several fixed beginnings; the
//! best end wins. No chance anywhere: the same points give the same bits.

use nalgebra::{DMatrix, DVector};

use super::closed::Theta;
use super::predict::Predictor;

/// Residuals beyond this many spreads count linearly.
const HUBER: f64 = 1.345;
/// Smallest spread of a kind of residual: measurements are not repeated better than this.
pub const LEAST_SPREAD: f64 = 0.03;
const MOST_STEPS: usize = 60;
/// Rounds of fit and new spread.
const ROUNDS: usize = 4;
/// Spread of every kind of residual in the first round.
const FIRST_SPREAD: f64 = 0.15;
/// Beginnings that are followed to the end.
const FOLLOWED: usize = 2;
/// Smallest step and smallest relative gain that are worth another one.
const LEAST_STEP: f64 = 1e-8;
const LEAST_GAIN: f64 = 1e-10;
/// Step of the central differences in the logarithm of a parameter.
const STEP: f64 = 1e-3;
/// Range of every parameter, ln seconds.
const RANGE: (f64, f64) = (-34.0, 5.0);

/// What a residual is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ttft,
    Itl,
    Response,
}

/// One measured time.
#[derive(Clone, Debug)]
pub struct Row<'p> {
    pub predictor: &'p Predictor,
    pub kind: Kind,
    pub measured: f64,
    pub output_tokens: f64,
    /// Index of the point.
    pub point: usize,
}

impl Row<'_> {
    /// Logarithm of the predicted time.
    pub fn log_predicted(&self, theta: &Theta) -> f64 {
        let means = self.predictor.means(theta);
        let itl = means.itl_seconds.unwrap_or(means.ttft_seconds);
        let value = match self.kind {
            Kind::Ttft => means.ttft_seconds,
            Kind::Itl => itl,
            Kind::Response => means.ttft_seconds + (self.output_tokens - 1.0).max(0.0) * itl,
        };
        value.max(1e-300).ln()
    }

    pub fn residual(&self, theta: &Theta) -> f64 {
        (self.log_predicted(theta) - self.measured.ln()).clamp(-20.0, 20.0)
    }
}

/// Something known beforehand: a weighted sum of log parameters and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    pub of: Theta,
    pub value: f64,
    pub spread: f64,
}

/// Which parameters move.
#[derive(Clone, Debug, PartialEq)]
pub struct Freedom {
    /// Indices of those that are fitted.
    pub free: Vec<usize>,
    /// A decoded token costs what a prompt token costs.
    pub tied: bool,
}

impl Freedom {
    fn spread_out(&self, base: &Theta, x: &DVector<f64>) -> Theta {
        let mut theta = *base;
        for (value, index) in x.iter().zip(&self.free) {
            theta[*index] = value.exp();
        }
        if self.tied {
            theta[2] = theta[1];
        }
        theta
    }
}

/// The end of a fit.
#[derive(Clone, Debug)]
pub struct Solution {
    pub theta: Theta,
    /// Loss, lower is better.
    pub loss: f64,
    /// Spread of TTFT, ITL and response residuals.
    pub spreads: [f64; 3],
}

pub struct Problem<'r> {
    pub rows: &'r [Row<'r>],
    pub known: &'r [Known],
    pub freedom: Freedom,
}

impl Problem<'_> {
    /// The best of the fits from all beginnings. Only those that look best after one round are followed to the end.
    pub fn solve(&self, starts: &[Theta]) -> Option<Solution> {
        let tied = |start: &Theta| {
            let mut theta = *start;
            if self.freedom.tied {
                theta[2] = theta[1];
            }
            theta
        };
        let mut ends: Vec<(Theta, f64)> =
            starts.iter().filter_map(|s| self.descend(tied(s), &[FIRST_SPREAD; 3])).collect();
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        ends.truncate(FOLLOWED);
        let ends = ends.into_iter().filter_map(|(theta, _)| self.refine(theta));
        ends.min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// Weighs the kinds of residuals by their own spread and fits again.
    fn refine(&self, mut theta: Theta) -> Option<Solution> {
        let mut spreads = self.spreads(&theta);
        for _ in 1..ROUNDS {
            (theta, _) = self.descend(theta, &spreads)?;
            spreads = self.spreads(&theta);
        }
        // Losses under different spreads cannot be compared: the winner is chosen on one scale.
        let loss = self.rows.iter().map(|r| huber(r.residual(&theta) / FIRST_SPREAD).0).sum();
        Some(Solution { theta, loss, spreads })
    }

    /// 1.48 times the median size of the residuals, per kind.
    fn spreads(&self, theta: &Theta) -> [f64; 3] {
        [Kind::Ttft, Kind::Itl, Kind::Response].map(|kind| {
            let of_kind = self.rows.iter().filter(|r| r.kind == kind);
            let sizes: Vec<f64> = of_kind.map(|r| r.residual(theta).abs()).collect();
            (1.4826 * median(sizes).unwrap_or(0.0)).clamp(LEAST_SPREAD, 0.5)
        })
    }

    fn descend(&self, start: Theta, spreads: &[f64; 3]) -> Option<(Theta, f64)> {
        let free = &self.freedom.free;
        let mut x = DVector::from_iterator(free.len(), free.iter().map(|i| start[*i].max(1e-15).ln()));
        let mut damping = 1e-2;
        let mut loss = self.loss(&start, &x, spreads);
        for _ in 0..MOST_STEPS {
            let (matrix, gradient) = self.normal_equations(&start, &x, spreads);
            let mut moved = false;
            while damping < 1e12 {
                let mut damped = matrix.clone();
                for i in 0..free.len() {
                    damped[(i, i)] += damping * matrix[(i, i)].max(1e-9);
                }
                let step = damped.cholesky().map(|c| c.solve(&gradient));
                let Some(step) = step.filter(|s| s.iter().all(|v| v.is_finite())) else {
                    damping *= 8.0;
                    continue;
                };
                let next = (&x - step.map(|v| v.clamp(-2.0, 2.0))).map(|v| v.clamp(RANGE.0, RANGE.1));
                let next_loss = self.loss(&start, &next, spreads);
                if next_loss < loss {
                    moved = (&next - &x).amax() > LEAST_STEP && loss - next_loss > LEAST_GAIN * loss;
                    (x, loss) = (next, next_loss);
                    damping = (damping / 6.0).max(1e-10);
                    break;
                }
                damping *= 4.0;
            }
            if !moved {
                break;
            }
            damping = damping.min(1e6);
        }
        loss.is_finite().then(|| (self.freedom.spread_out(&start, &x), loss))
    }

    fn loss(&self, base: &Theta, x: &DVector<f64>, spreads: &[f64; 3]) -> f64 {
        let theta = self.freedom.spread_out(base, x);
        let measured: f64 = self.rows.iter().map(|r| huber(r.residual(&theta) / spreads[r.kind as usize]).0).sum();
        measured + self.known.iter().map(|k| 0.5 * k.miss(&theta).powi(2)).sum::<f64>()
    }

    fn normal_equations(&self, base: &Theta, x: &DVector<f64>, spreads: &[f64; 3]) -> (DMatrix<f64>, DVector<f64>) {
        let theta = self.freedom.spread_out(base, x);
        let jacobian = self.jacobian(&theta);
        let n = self.freedom.free.len();
        let (mut matrix, mut gradient) = (DMatrix::zeros(n, n), DVector::zeros(n));
        for (row, slopes) in self.rows.iter().zip(jacobian.row_iter()) {
            let spread = spreads[row.kind as usize];
            let r = row.residual(&theta) / spread;
            let weight = huber(r).1;
            let slopes = slopes.transpose() / spread;
            matrix += weight * &slopes * slopes.transpose();
            gradient += weight * r * slopes;
        }
        for known in self.known {
            let slopes = self.known_slopes(known);
            matrix += &slopes * slopes.transpose();
            gradient += known.miss(&theta) * slopes;
        }
        (matrix, gradient)
    }

    fn known_slopes(&self, known: &Known) -> DVector<f64> {
        let free = &self.freedom.free;
        DVector::from_iterator(
            free.len(),
            free.iter().map(|i| {
                let tied = if self.freedom.tied && *i == 1 { known.of[2] } else { 0.0 };
                (known.of[*i] + tied) / known.spread
            }),
        )
    }

    /// Change of every residual with the logarithm of every free parameter.
    pub fn jacobian(&self, theta: &Theta) -> DMatrix<f64> {
        let free = &self.freedom.free;
        let mut jacobian = DMatrix::zeros(self.rows.len(), free.len());
        for (column, index) in free.iter().enumerate() {
            let moved = |by: f64| {
                let mut theta = *theta;
                theta[*index] *= by.exp();
                if self.freedom.tied {
                    theta[2] = theta[1];
                }
                theta
            };
            let (up, down) = (moved(STEP), moved(-STEP));
            for (i, row) in self.rows.iter().enumerate() {
                jacobian[(i, column)] = (row.log_predicted(&up) - row.log_predicted(&down)) / (2.0 * STEP);
            }
        }
        jacobian
    }

    /// Spread of the logarithm of every free parameter.
    pub fn parameter_spreads(&self, solution: &Solution) -> Option<Vec<f64>> {
        let base = solution.theta;
        let free = &self.freedom.free;
        let x = DVector::from_iterator(free.len(), free.iter().map(|i| base[*i].max(1e-15).ln()));
        let (matrix, _) = self.normal_equations(&base, &x, &solution.spreads);
        let inverse = matrix.try_inverse()?;
        Some((0..free.len()).map(|i| inverse[(i, i)].max(0.0).sqrt()).collect())
    }
}

impl Known {
    fn miss(&self, theta: &Theta) -> f64 {
        let sum: f64 = self.of.iter().zip(theta).filter(|(w, _)| **w != 0.0).map(|(w, t)| w * t.max(1e-15).ln()).sum();
        (sum - self.value) / self.spread
    }
}

/// Huber's loss and the weight of the residual.
fn huber(r: f64) -> (f64, f64) {
    let size = r.abs();
    if size <= HUBER { (0.5 * r * r, 1.0) } else { (HUBER * (size - 0.5 * HUBER), HUBER / size) }
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some(0.5 * (values[n / 2 - 1] + values[n / 2])),
    }
}
