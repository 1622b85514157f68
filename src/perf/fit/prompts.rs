//! Do the points show what a prompt costs beyond a time per token? Attention within a long prompt and the time before
//! the engine sees a request are fitted only where prompts of several lengths were measured, where both can be told
//! from the rest, and where the times to the first token come out clearly better with them.

use super::closed::Theta;
use super::guard;
use super::point::{Load, Point};
use super::predict::NAMES;
use super::solve::{Freedom, Kind, Problem, Row, median};
use super::{Fitted, Known};

/// Indices of attention and overhead, the fuller description first.
const MORE: [&[usize]; 3] = [&[5, 6], &[5], &[6]];
const ATTENTION: usize = 5;
const OVERHEAD: usize = 6;
/// Lengths that differ by less are one.
const APART: f64 = 1.5;
/// Least number of prompt lengths: with two, a line goes through both.
const LENGTHS: usize = 3;
/// Misfit of the TTFT that is left, part of the one before, and by how much it has to be smaller at least.
const BETTER: f64 = 0.75;
const WORTH: f64 = 0.02;
/// First guesses: part of a prompt's time that is attention or overhead.
const GUESSES: [f64; 2] = [0.02, 0.2];

/// A better fit with more parameters, if the points carry one.
pub fn extended(
    points: &[Point],
    chosen: &[usize],
    rows: &[Row<'_>],
    known: &[Known],
    plain: &Fitted,
) -> Option<Fitted> {
    let lengths = lengths(points, chosen);
    let longest = *lengths.last().filter(|_| lengths.len() >= LENGTHS)?;
    let before = misfit(rows, &plain.solution.theta);
    MORE.iter().find_map(|more| {
        let mut free = plain.freedom.free.clone();
        free.extend_from_slice(more);
        let freedom = Freedom { free, tied: plain.freedom.tied };
        let problem = Problem { rows, known, freedom: freedom.clone() };
        let solution = problem.solve(&starts(&plain.solution.theta, more, longest))?;
        let sight = guard::look(&problem, &solution.theta);
        let after = misfit(rows, &solution.theta);
        let seen = sight.is_clear() && more.iter().all(|i| !sight.invisible.contains(&NAMES[*i]));
        let better = after <= BETTER * before && before - after >= WORTH;
        (seen && better).then(|| Fitted {
            solution,
            freedom,
            known: known.to_vec(),
            sight,
            decode_unseen: plain.decode_unseen,
        })
    })
}

/// Prompt lengths whose TTFT was measured, rising.
fn lengths(points: &[Point], chosen: &[usize]) -> Vec<f64> {
    let measured = chosen.iter().map(|i| &points[*i]);
    let measured = measured.filter(|p| p.ttft.is_some() && matches!(p.load, Load::Closed { .. }));
    let mut all: Vec<f64> = measured.map(|p| p.shape.input_tokens).collect();
    all.sort_by(f64::total_cmp);
    all.dedup_by(|next, kept| *next < APART * *kept);
    all
}

/// Median size of the TTFT residuals: a wild point is no reason for a parameter.
fn misfit(rows: &[Row<'_>], theta: &Theta) -> f64 {
    let sizes = rows.iter().filter(|r| r.kind == Kind::Ttft).map(|r| r.residual(theta).abs());
    median(sizes.collect()).unwrap_or(0.0)
}

fn starts(plain: &Theta, more: &[usize], longest: f64) -> Vec<Theta> {
    GUESSES
        .iter()
        .map(|part| {
            let mut theta = *plain;
            for index in more {
                theta[*index] = match *index {
                    ATTENTION => 2.0 * part * plain[1] / longest,
                    OVERHEAD => part * plain[0],
                    _ => theta[*index],
                };
            }
            theta
        })
        .collect()
}
