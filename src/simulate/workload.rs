//! A trace played for one model: several shifted copies of it, merged into one stream of requests in
//! time order that never ends. Nothing is held in memory but the trace and about a second of requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::seed;
use super::trace::Trace;
use crate::policy::Policy;

/// Most copies of one trace played at once.
const MAX_COPIES: f64 = 10_000.0;

/// One request on its way through the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Number of the request in the run, given on arrival.
    pub id: u64,
    /// Index of the model in the policy.
    pub model: usize,
    /// Index of the SLO class in the policy.
    pub class: usize,
    /// Priority of the class; higher is served first.
    pub priority: i32,
    /// Arrival at the gateway, seconds since the start of the run.
    pub arrival_seconds: f64,
    pub input_tokens: u32,
    pub output_tokens: u32,
}

/// How a trace is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// Requests of the trace, multiplied; may be a fraction.
    pub scale: f64,
    /// The curve of the rate runs this many times faster, at unchanged requests per second.
    pub compress: f64,
    /// Where in the trace to begin, seconds.
    pub start_seconds: f64,
    /// Every copy is shifted by its own offset of up to this much, seconds of the trace.
    pub offset_seconds: f64,
    /// Every request is shifted by up to this much, seconds.
    pub jitter_seconds: f64,
    pub seed: u64,
}

impl Default for Replay {
    fn default() -> Self {
        Self { scale: 1.0, compress: 1.0, start_seconds: 0.0, offset_seconds: 30.0, jitter_seconds: 1.0, seed: 0 }
    }
}

/// Why a workload cannot be played.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    #[error("{field} of the replay is {value}, expected {expected}")]
    Replay { field: &'static str, value: f64, expected: &'static str },
    #[error("the policy has no model number {0}")]
    NoModel(usize),
}

/// The requests of one model, an endless iterator in the order of arrival.
#[derive(Debug)]
pub struct Workload {
    trace: Arc<Trace>,
    model: usize,
    classes: Vec<ClassShare>,
    replay: Replay,
    copies: Vec<Copy>,
    /// Drawn but not yet due: earlier requests may still be drawn. Keyed by the bits of the arrival
    /// time, which ascend with the time as it is never negative, then by the order of drawing.
    pending: BinaryHeap<Reverse<(u64, u64, Drawn)>>,
    drawn: u64,
}

#[derive(Clone, Copy, Debug)]
struct ClassShare {
    class: usize,
    priority: i32,
    /// Sum of the shares up to and including this class.
    cumulative: f64,
}

/// One shifted copy of the trace.
#[derive(Debug)]
struct Copy {
    rng: ChaCha8Rng,
    /// Share of the trace's requests that this copy plays.
    share: f64,
    /// Trace time of the start of the current round, seconds after the start of the run.
    round_start_seconds: f64,
    next_row: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Drawn {
    class: usize,
    priority: i32,
    input_tokens: u32,
    output_tokens: u32,
}

impl Workload {
    /// Play `trace` for the model number `model` of `policy`; the classes are drawn by the model's shares.
    ///
    /// # Errors
    /// A figure of the replay is out of range, or there is no such model.
    pub fn new(trace: Arc<Trace>, model: usize, policy: &Policy, replay: Replay) -> Result<Self, WorkloadError> {
        check(&replay)?;
        let shares = &policy.models.get(model).ok_or(WorkloadError::NoModel(model))?.classes;
        let mut cumulative = 0.0;
        let classes = shares
            .iter()
            .filter_map(|&(class, share)| {
                cumulative += share;
                policy.classes.get(class).map(|c| ClassShare { class, priority: c.priority, cumulative })
            })
            .collect();
        let copies = copies(&trace, model, &replay);
        Ok(Self { trace, model, classes, replay, copies, pending: BinaryHeap::new(), drawn: 0 })
    }

    /// Index of the model whose requests these are.
    pub fn model(&self) -> usize {
        self.model
    }

    /// Arrival of the next request of `copy` before its jitter, seconds since the start of the run.
    fn next_base_seconds(&self, copy: &Copy) -> f64 {
        let row = &self.trace.rows()[copy.next_row];
        (copy.round_start_seconds + row.at_seconds) / self.replay.compress
    }

    /// The copy whose next request comes first, and when.
    fn frontier(&self) -> Option<(usize, f64)> {
        let times = self.copies.iter().enumerate().map(|(i, copy)| (i, self.next_base_seconds(copy)));
        times.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn draw(&mut self, index: usize, base_seconds: f64) {
        let copy = &mut self.copies[index];
        let row = self.trace.rows()[copy.next_row];
        copy.next_row += 1;
        if copy.next_row == self.trace.rows().len() {
            copy.next_row = 0;
            copy.round_start_seconds += self.trace.period_seconds();
        }
        // always three draws, so that the share of one copy does not shift the numbers of its requests
        let (keep, shift, pick): (f64, f64, f64) = (copy.rng.random(), copy.rng.random(), copy.rng.random());
        if keep >= copy.share {
            return;
        }
        let chosen = self.classes.iter().find(|c| pick < c.cumulative).or(self.classes.last());
        let Some(&ClassShare { class, priority, .. }) = chosen else { return };
        let at = base_seconds + self.replay.jitter_seconds * (2.0 * shift - 1.0);
        let at = if at > 0.0 { at } else { 0.0 };
        let drawn = Drawn { class, priority, input_tokens: row.input_tokens, output_tokens: row.output_tokens };
        self.pending.push(Reverse((at.to_bits(), self.drawn, drawn)));
        self.drawn += 1;
    }
}

impl Iterator for Workload {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        if self.classes.is_empty() {
            return None;
        }
        loop {
            let (copy, base_seconds) = self.frontier()?;
            if let Some(Reverse((bits, _, _))) = self.pending.peek()
                && f64::from_bits(*bits) <= base_seconds - self.replay.jitter_seconds
            {
                break;
            }
            self.draw(copy, base_seconds);
        }
        let Reverse((bits, _, drawn)) = self.pending.pop()?;
        Some(Request {
            id: 0,
            model: self.model,
            class: drawn.class,
            priority: drawn.priority,
            arrival_seconds: f64::from_bits(bits),
            input_tokens: drawn.input_tokens,
            output_tokens: drawn.output_tokens,
        })
    }
}

fn check(replay: &Replay) -> Result<(), WorkloadError> {
    let refuse = |field, value, expected| Err(WorkloadError::Replay { field, value, expected });
    if !(replay.compress.is_finite() && replay.compress >= 1.0) {
        return refuse("compress", replay.compress, "1 or more");
    }
    if !(replay.scale > 0.0 && replay.scale / replay.compress <= MAX_COPIES) {
        return refuse("scale", replay.scale, "more than 0 and at most 10000");
    }
    for (field, value) in [
        ("start_seconds", replay.start_seconds),
        ("offset_seconds", replay.offset_seconds),
        ("jitter_seconds", replay.jitter_seconds),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return refuse(field, value, "0 or more");
        }
    }
    Ok(())
}

/// Whole copies and one that plays the fraction, each placed so that it is in full course when the run starts.
fn copies(trace: &Trace, model: usize, replay: &Replay) -> Vec<Copy> {
    let multiplicity = replay.scale / replay.compress;
    let period = trace.period_seconds();
    let whole = multiplicity.floor() as u64;
    let fraction = multiplicity - multiplicity.floor();
    let shares = (0..whole).map(|_| 1.0).chain((fraction > 1e-9).then_some(fraction));
    shares
        .enumerate()
        .map(|(index, share)| {
            let mut rng = seed::rng(replay.seed, &format!("trace copy of model {model}"), index as u64);
            let offset = replay.offset_seconds * (2.0 * rng.random::<f64>() - 1.0);
            let round = ((replay.start_seconds - offset) / period).floor();
            let inside_seconds = replay.start_seconds - offset - round * period;
            let first = trace.rows().partition_point(|r| r.at_seconds < inside_seconds);
            let (rounds_done, next_row) = if first == trace.rows().len() { (1.0, 0) } else { (0.0, first) };
            Copy { rng, share, round_start_seconds: rounds_done * period - inside_seconds, next_row }
        })
        .collect()
}
