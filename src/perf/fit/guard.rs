//! Can the points tell the parameters apart? The condition number of the change of the residuals with the logarithms
//! of the parameters says by how much a direction is better seen than another; where it is beyond a bound, the worst
//! direction is named instead of a number that means nothing.

use nalgebra::DMatrix;

use super::closed::Theta;
use super::predict::NAMES;
use super::solve::Problem;

/// Condition number beyond which nothing is said about a direction.
pub const WORST_CONDITION: f64 = 1000.0;
/// Part of some measured time that a parameter must make up before its direction is judged.
const VISIBLE: f64 = 0.1;

/// How well the parameters can be told apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    pub condition: f64,
    /// Parameters that move along the direction that is seen worst, the first moves most; signed.
    pub direction: Vec<(&'static str, f64)>,
    /// Parameters that make up less than a hundredth of every measured time.
    pub invisible: Vec<&'static str>,
}

impl Sight {
    pub fn is_clear(&self) -> bool {
        self.condition <= WORST_CONDITION
    }

    /// The direction in words: `alpha up with beta down`.
    pub fn in_words(&self) -> String {
        let lead = self.direction.first().map_or(1.0, |d| d.1);
        let word = |(name, weight): &(&str, f64)| format!("{name} {}", if weight * lead > 0.0 { "up" } else { "down" });
        self.direction.iter().map(word).collect::<Vec<_>>().join(" with ")
    }
}

/// Judges the points of a problem around `theta`.
///
/// A parameter that is too small to matter at the best fit would look unidentifiable although the points say
/// something of it, namely that it is small; it is therefore judged at a size at which it matters.
pub fn look(problem: &Problem, theta: &Theta) -> Sight {
    let mut theta = *theta;
    let share = |column: usize, jacobian: &DMatrix<f64>| jacobian.column(column).amax();
    let first = problem.jacobian(&theta);
    let mut invisible = Vec::new();
    for (column, index) in problem.freedom.free.iter().enumerate() {
        let seen = share(column, &first);
        if seen < 0.01 {
            invisible.push(NAMES[*index]);
        }
        if seen < VISIBLE {
            theta[*index] *= VISIBLE / seen.max(1e-12);
        }
    }
    let jacobian = problem.jacobian(&theta);
    let n = problem.freedom.free.len();
    // Too few rows leave directions that no row sees: rows of zeros make the decomposition say so.
    let padded = jacobian.clone().resize_vertically(jacobian.nrows().max(n), 0.0);
    let svd = padded.svd(false, true);
    let (low, high) = (svd.singular_values.min(), svd.singular_values.max());
    let condition = if low > high * 1e-18 { high / low } else { f64::INFINITY };
    let worst = svd.singular_values.imin();
    let mut direction: Vec<(&'static str, f64)> = Vec::new();
    if let Some(v) = svd.v_t {
        direction = (0..n).map(|j| (NAMES[problem.freedom.free[j]], v[(worst, j)])).collect();
        direction.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        direction.retain(|d| d.1.abs() > 0.25);
    }
    Sight { condition, direction, invisible }
}
