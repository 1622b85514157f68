//! Arrivals from a list of requests: the list itself, thinned, or with shifted copies.
//!
//! It owns which rows come when. Copies go round: what a shift moves over the end of the recording comes at its
//! begin. Nothing is held but the list and the requests of one tick of a coarse clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::order::{InOrder, Timed};
use crate::simulate::Trace;
use crate::simulate::replay::play::Play;
use crate::simulate::replay::recording::RequestTrace;

/// Copies beside the first are shifted by up to this much either way, seconds.
const SHIFT_SECONDS: f64 = 30.0;
/// A last copy with a smaller share is rounding of the scale.
const LEAST_SHARE: f64 = 1e-9;

/// A row of the list at the time it comes.
#[derive(Clone, Copy, Debug)]
struct Coming {
    /// Seconds since the first time that is looked at, never negative.
    at_seconds: f64,
    row: usize,
}

impl Timed for Coming {
    fn at_seconds(&self) -> f64 {
        self.at_seconds
    }
}

/// One copy of the list.
#[derive(Debug)]
struct Copy {
    trace: Arc<Trace>,
    rng: ChaCha8Rng,
    /// Share of the rows that are kept.
    share: f64,
    /// Begin of the current round; times count from the first one looked at.
    round_seconds: f64,
    row: usize,
    until_seconds: f64,
}

impl Copy {
    /// The copy from the moment `begin_seconds` of the list on, for `until_seconds`.
    fn new(trace: &Arc<Trace>, begin_seconds: f64, until_seconds: f64, share: f64, rng: ChaCha8Rng) -> Self {
        let period = trace.period_seconds();
        let inside = begin_seconds.rem_euclid(period);
        let row = trace.rows().partition_point(|r| r.at_seconds < inside);
        Self { trace: Arc::clone(trace), rng, share, round_seconds: -inside, row, until_seconds }
    }
}

impl Iterator for Copy {
    type Item = Coming;

    fn next(&mut self) -> Option<Coming> {
        loop {
            if self.row == self.trace.rows().len() {
                self.row = 0;
                self.round_seconds += self.trace.period_seconds();
            }
            let row = self.row;
            let at_seconds = (self.round_seconds + self.trace.rows()[row].at_seconds).max(0.0);
            if at_seconds >= self.until_seconds {
                return None;
            }
            self.row += 1;
            if self.share >= 1.0 || self.rng.random::<f64>() < self.share {
                return Some(Coming { at_seconds, row });
            }
        }
    }
}

/// A list being played.
#[derive(Debug)]
pub(super) struct List {
    copies: InOrder<Copy>,
    trace: Arc<Trace>,
    jitter: ChaCha8Rng,
    /// Every request comes up to this much later, seconds; the run begins as much after what is looked at.
    jitter_seconds: f64,
    seconds: f64,
    /// Drawn but perhaps not the next, by the bits of the time and the order of drawing.
    pending: BinaryHeap<Reverse<(u64, u64, usize)>>,
    drawn: u64,
}

impl List {
    pub fn new(play: &Play, list: &RequestTrace, seed: u64) -> Self {
        let trace = list.trace();
        let jitter_seconds = list.quantum_seconds();
        let whole = play.scale.floor();
        let fraction = play.scale - whole;
        let shares = (0..whole as u64).map(|_| 1.0).chain((fraction > LEAST_SHARE).then_some(fraction));
        let copies = shares.enumerate().map(|(number, share)| {
            let mut rng = play.stream(seed, "copies", number as u64);
            let shift = if number == 0 { 0.0 } else { SHIFT_SECONDS * (2.0 * rng.random::<f64>() - 1.0) };
            let begin = play.from_seconds - jitter_seconds - shift;
            Copy::new(trace, begin, play.seconds() + jitter_seconds, share, rng)
        });
        Self {
            copies: InOrder::new(copies.collect()),
            trace: Arc::clone(trace),
            jitter: play.stream(seed, "jitter", 0),
            jitter_seconds,
            seconds: play.seconds(),
            pending: BinaryHeap::new(),
            drawn: 0,
        }
    }

    /// Time since the start of the run and row of the next request.
    pub fn next(&mut self) -> Option<(f64, usize)> {
        if self.jitter_seconds <= 0.0 {
            return self.copies.next().map(|coming| (coming.at_seconds, coming.row));
        }
        loop {
            let due = self.pending.peek().map(|Reverse((bits, ..))| f64::from_bits(*bits));
            // whatever is drawn later comes later than this
            if let Some(due) = due.filter(|&due| self.copies.next_seconds().is_none_or(|next| due <= next)) {
                let row = self.pending.pop().map(|Reverse((.., row))| row)?;
                let at = due - self.jitter_seconds;
                if (0.0..self.seconds).contains(&at) {
                    return Some((at, row));
                }
                continue;
            }
            let Coming { at_seconds, row } = self.copies.next()?;
            let at = at_seconds + self.jitter_seconds * self.jitter.random::<f64>();
            self.pending.push(Reverse((at.to_bits(), self.drawn, row)));
            self.drawn += 1;
        }
    }

    /// Lengths of a row.
    pub fn lengths(&self, row: usize) -> (u32, u32) {
        let row = self.trace.rows()[row];
        (row.input_tokens, row.output_tokens)
    }
}
