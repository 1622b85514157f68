//! What a few points of a group change: multipliers of groups of terms, held near 1 by a prior, so that
//! points say only what they know and a wild one does little.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::fitting::is_queue_dominated;
use super::subject::Subject;
use crate::perf::log_fit::{LogFit, Row, modelled};
use crate::perf::roofline::{Latency, Term};

/// Terms that are multiplied together: eight points cannot tell more apart.
const TOGETHER: [&[Term]; 8] = [
    &[Term::Weights],
    &[Term::Experts],
    &[Term::Kv],
    &[Term::Compute, Term::ExpertCompute, Term::Attention, Term::Token],
    &[Term::Communication, Term::ExpertCommunication],
    &[Term::Layer, Term::ExpertLayer, Term::LatentLayer, Term::SharedExpertLayer, Term::Iteration],
    &[Term::SplitLayer, Term::DoublingLayer],
    &[Term::Request],
];
/// Deviation of the logarithm of a multiplier, and of the one common to all terms.
const PRIOR: f64 = 0.4;
const COMMON_PRIOR: f64 = 0.4;
const SCALE: f64 = 0.05;
const FIRST_TOKEN_PARTS: usize = 4;
const FIRST_TOKEN_PRIOR: f64 = 0.6;
const FIRST_TOKEN_SCALE: f64 = 0.15;

/// Multipliers found from points of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    iteration: Vec<f64>,
    first_token: Vec<f64>,
}

impl Calibration {
    /// From points with their predictions.
    pub fn new(points: &[(&Subject, &Latency)]) -> Self {
        let told: Vec<(f64, Vec<f64>)> =
            points.iter().map(|(subject, latency)| (subject.tpot_seconds.ln(), together(latency))).collect();
        let iteration = solve(&told, &links(TOGETHER.len()), PRIOR, SCALE);
        // Points that queued for memory tell nothing of the first token.
        let told: Vec<(f64, Vec<f64>)> = points
            .iter()
            .filter(|(subject, latency)| !is_queue_dominated(subject.ttft_seconds, latency.ttft_seconds()))
            .map(|(subject, latency)| (subject.ttft_seconds.ln(), latency.first_token.to_vec()))
            .collect();
        let first_token = solve(&told, &links(FIRST_TOKEN_PARTS), FIRST_TOKEN_PRIOR, FIRST_TOKEN_SCALE);
        Self { iteration, first_token }
    }

    /// From `count` rows drawn by `seed`; also the places of the others, without copies of those drawn.
    pub fn of_some(rows: &[(&Subject, &Latency)], count: usize, seed: u64) -> (Self, Vec<usize>) {
        let name = rows.first().map(|(s, _)| s.group.to_string()).unwrap_or_default();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ fnv(&name)));
        let (drawn, mut rest) = (order[..count.min(rows.len())].to_vec(), order[count.min(rows.len())..].to_vec());
        rest.sort_unstable();
        rest.retain(|i| !drawn.iter().any(|d| is_copy(rows[*d].0, rows[*i].0)));
        let points: Vec<(&Subject, &Latency)> = drawn.iter().map(|i| rows[*i]).collect();
        (Self::new(&points), rest)
    }

    /// Time per output token and to the first one, seconds.
    pub fn apply(&self, latency: &Latency) -> (f64, f64) {
        let tpot = modelled(&together(latency), &links(TOGETHER.len()), &self.iteration);
        let ttft = modelled(&latency.first_token, &links(FIRST_TOKEN_PARTS), &self.first_token);
        (tpot, ttft)
    }
}

fn together(latency: &Latency) -> Vec<f64> {
    TOGETHER.iter().map(|terms| terms.iter().map(|t| latency.iteration[*t as usize]).sum()).collect()
}

/// One parameter for each term and one for all.
fn links(terms: usize) -> Vec<Vec<usize>> {
    (0..terms).map(|term| vec![term, terms]).collect()
}

fn solve(told: &[(f64, Vec<f64>)], links: &[Vec<usize>], prior: f64, scale: f64) -> Vec<f64> {
    let rows = told.iter().map(|(measured, terms)| Row { terms, measured: *measured, weight: 1.0, links }).collect();
    let mut priors = vec![prior; links.len()];
    priors.push(COMMON_PRIOR);
    let start = vec![0.0; priors.len()];
    LogFit { rows, priors, scale }.solve(&start)
}

/// The same measurement once more: some files repeat rows.
fn is_copy(a: &Subject, b: &Subject) -> bool {
    a.closed_loop == b.closed_loop
        && a.parallel == b.parallel
        && a.tpot_seconds == b.tpot_seconds
        && a.ttft_seconds == b.ttft_seconds
}

/// FNV-1a, so that each group draws its own points whatever other groups there are.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
