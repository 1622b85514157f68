//! Multipliers of a sum of times, found from measured sums: a robust maximum a posteriori fit.
//!
//! A time is modelled as the sum of terms, each multiplied by `exp` of the sum of its parameters. Parameters
//! have normal priors around 0; errors are judged by their logarithm, with the pseudo-Huber loss, so that a
//! few wild points pull with a bounded force. Levenberg-Marquardt from a given start. It knows nothing of
//! what the terms mean.

/// One measured sum.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The terms at parameters 0; not negative, their sum positive.
    pub terms: &'a [f64],
    /// Logarithm of the measured sum.
    pub measured: f64,
    /// Counts as so many points.
    pub weight: f64,
    /// For each term the parameters in its multiplier.
    pub links: &'a [Vec<usize>],
}

/// What is to be fitted.
#[derive(Clone, Debug)]
pub struct LogFit<'a> {
    pub rows: Vec<Row<'a>>,
    /// Standard deviation of each parameter around 0.
    pub priors: Vec<f64>,
    /// Error of the logarithm from which on points lose force.
    pub scale: f64,
}

const MOST_STEPS: usize = 60;
const PRECISION: f64 = 1e-8;

/// The modelled sum of a row.
pub fn modelled(terms: &[f64], links: &[Vec<usize>], parameters: &[f64]) -> f64 {
    terms.iter().zip(links).map(|(term, of)| term * of.iter().map(|i| parameters[*i]).sum::<f64>().exp()).sum()
}

impl LogFit<'_> {
    /// The parameters of the least loss that is reached from `start`.
    pub fn solve(&self, start: &[f64]) -> Vec<f64> {
        let mut at = start.to_vec();
        let mut loss = self.loss(&at);
        let mut damping = 1e-3;
        for _ in 0..MOST_STEPS {
            let (curvature, gradient) = self.quadratic(&at);
            let Some((next, better)) = self.step(&at, loss, &curvature, &gradient, &mut damping) else { break };
            let gain = loss - better;
            (at, loss) = (next, better);
            if gain <= PRECISION * loss {
                break;
            }
        }
        at
    }

    /// The next point of a smaller loss; `None` when there is none in reach.
    fn step(
        &self,
        at: &[f64],
        loss: f64,
        curvature: &[Vec<f64>],
        gradient: &[f64],
        damping: &mut f64,
    ) -> Option<(Vec<f64>, f64)> {
        while *damping < 1e8 {
            let mut damped = curvature.to_vec();
            for (i, row) in damped.iter_mut().enumerate() {
                row[i] *= 1.0 + *damping;
            }
            if let Some(step) = solve_positive(damped, gradient) {
                let next: Vec<f64> = at.iter().zip(&step).map(|(a, s)| a - s).collect();
                let better = self.loss(&next);
                if better <= loss {
                    *damping = (*damping / 4.0).max(1e-9);
                    return Some((next, better));
                }
            }
            *damping *= 4.0;
        }
        None
    }

    fn loss(&self, at: &[f64]) -> f64 {
        let fit: f64 = self
            .rows
            .iter()
            .map(|row| {
                let z = (modelled(row.terms, row.links, at).ln() - row.measured) / self.scale;
                row.weight * ((1.0 + z * z).sqrt() - 1.0)
            })
            .sum();
        let prior: f64 = at.iter().zip(&self.priors).map(|(p, sd)| (p / sd).powi(2)).sum();
        let total = fit + prior / 2.0;
        if total.is_finite() { total } else { f64::INFINITY }
    }

    /// Curvature and gradient of the loss.
    fn quadratic(&self, at: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
        let n = at.len();
        let mut curvature = vec![vec![0.0; n]; n];
        let mut gradient = vec![0.0; n];
        let mut slope = vec![0.0; n];
        let mut touched = Vec::with_capacity(n);
        for row in &self.rows {
            let sum = modelled(row.terms, row.links, at);
            for (term, of) in row.terms.iter().zip(row.links) {
                let share = term * of.iter().map(|i| at[*i]).sum::<f64>().exp() / sum;
                for i in of {
                    if slope[*i] == 0.0 && share != 0.0 {
                        touched.push(*i);
                    }
                    slope[*i] += share;
                }
            }
            let z = (sum.ln() - row.measured) / self.scale;
            let force = row.weight / (1.0 + z * z).sqrt();
            for i in &touched {
                gradient[*i] += force * z * slope[*i] / self.scale;
                let row_i = force * slope[*i] / (self.scale * self.scale);
                for j in &touched {
                    curvature[*i][*j] += row_i * slope[*j];
                }
            }
            for i in touched.drain(..) {
                slope[i] = 0.0;
            }
        }
        for (i, sd) in self.priors.iter().enumerate() {
            curvature[i][i] += 1.0 / (sd * sd);
            gradient[i] += at[i] / (sd * sd);
        }
        (curvature, gradient)
    }
}

/// Solves `matrix x = right` for a symmetric positive matrix by Cholesky's factors; `None` when it is not positive.
fn solve_positive(mut matrix: Vec<Vec<f64>>, right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - known;
            matrix[i][j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / matrix[j][j],
            };
        }
    }
    let mut x = right.to_vec();
    for i in 0..n {
        let known: f64 = (0..i).map(|k| matrix[i][k] * x[k]).sum();
        x[i] = (x[i] - known) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[k][i] * x[k]).sum();
        x[i] = (x[i] - known) / matrix[i][i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_positive_system_is_solved_and_another_is_refused() {
        let x = solve_positive(vec![vec![4.0, 2.0], vec![2.0, 3.0]], &[8.0, 8.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-12, "{x:?}");
        assert_eq!(solve_positive(vec![vec![1.0, 2.0], vec![2.0, 1.0]], &[1.0, 1.0]), None);
    }

    /// Times `2 + 0.5 x`, told as terms (1, x).
    fn points() -> Vec<[f64; 2]> {
        (1..=20).map(|x| [1.0, f64::from(x)]).collect()
    }

    fn fit(measured: impl Fn(usize, f64) -> f64, prior: f64) -> Vec<f64> {
        let (points, links) = (points(), vec![vec![0], vec![1]]);
        let rows = points
            .iter()
            .enumerate()
            .map(|(i, terms)| Row {
                terms,
                measured: measured(i, 2.0 + 0.5 * terms[1]).ln(),
                weight: 1.0,
                links: &links,
            })
            .collect();
        let found = LogFit { rows, priors: vec![prior; 2], scale: 0.05 }.solve(&[0.0, 0.0]);
        found.iter().map(|p| p.exp()).collect()
    }

    #[test]
    fn exact_points_are_met_and_wild_ones_do_not_matter() {
        let exact = fit(|_, t| t, 10.0);
        assert!((exact[0] - 2.0).abs() < 1e-3 && (exact[1] - 0.5).abs() < 1e-4, "{exact:?}");
        let wild = fit(|i, t| if i % 7 == 3 { 10.0 * t } else { t }, 10.0);
        assert!((wild[0] / 2.0 - 1.0).abs() < 0.05 && (wild[1] / 0.5 - 1.0).abs() < 0.05, "{wild:?}");
    }

    #[test]
    fn without_points_the_prior_stays() {
        let found = LogFit { rows: vec![], priors: vec![0.3; 2], scale: 0.1 }.solve(&[0.2, -0.1]);
        assert!(found.iter().all(|p| p.abs() < 1e-6), "{found:?}");
    }
}
