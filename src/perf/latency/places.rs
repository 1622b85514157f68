//! How many requests are in execution, and how often every place is taken.
//!
//! Requests share an iteration equally, so their number is that of a processor-sharing queue: a birth-death chain
//! with the service rate of each batch, whatever the distribution of the answers. Two things make it wider than the
//! chain: arrivals in bursts, and prompts that stop everybody for a while. Both enter as a unit of more than one
//! request (Hayward's approximation).

use super::stage::Stage;

/// Requests in execution at one rate, queue unbounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Places {
    /// Mean number of requests in execution.
    pub batch: f64,
    pub variance: f64,
    /// Probability that an arrival finds every place taken.
    pub full: f64,
    /// Probability that nobody is there.
    pub idle: f64,
    /// Variance over mean of the arrivals during a request's life.
    pub index: f64,
}

/// Standard deviations around the mean within which states are counted.
const WIDTH: f64 = 5.0;
/// Probability of full places at which the bounded chain counts half.
const BOUND_COUNTS: f64 = 0.01;
/// States below the usual ones that are rarer than this do not count.
const NEGLIGIBLE: f64 = 1e-8;

/// Time in execution as a line over the number of requests there: `fixed + each x requests`, seconds.
#[derive(Clone, Copy)]
struct Line {
    fixed: f64,
    each: f64,
}

impl Stage {
    /// Mean number of requests in execution without chance, at most all places.
    pub(super) fn fluid(&self, rate: f64) -> f64 {
        let slack = (1.0 - rate * self.work).max(1e-6);
        let mut batch = (rate * self.steps * self.parameters.alpha_seconds / slack).min(self.places);
        // Experts bend the line a little; their price only grows with the batch, so this climbs to the answer.
        for _ in 0..if self.parameters.experts.all_seconds > 0.0 { 12 } else { 0 } {
            batch = (rate * (self.residence(batch) - batch * self.work) / slack).min(self.places);
        }
        batch
    }

    /// `carried` is time that a request spends in execution beyond what the chain knows, seconds; `busy` the share
    /// of the time in which prompts are computed.
    pub(super) fn places(&self, rate: f64, fluid: f64, carried: f64, busy: f64) -> Places {
        let slack = (1.0 - rate * self.work).max(0.02);
        let cv2 = self.traffic.output_cv * self.traffic.output_cv;
        let index = self.traffic.index_over(rate * self.residence(fluid) / slack);
        let bursts = 1.0 + (index - 1.0) * (0.5 + 0.5 / (1.0 + cv2));
        let stops = (1.0 - busy).powf(-self.prompt / self.work.max(f64::MIN_POSITIVE));
        let unit = (bursts * stops).clamp(0.1, self.places);
        let slope = self.residence(fluid + 0.5) - self.residence(fluid - 0.5);
        let line = Line { fixed: self.residence(fluid) - slope * fluid + carried, each: slope.max(0.0) };
        let width = WIDTH * (unit * (fluid + 1.0) / slack).sqrt() + 4.0 * unit + carried * rate;
        let (mut batch, mut variance, mut full, mut idle) = unbounded(rate, unit, &line);
        if self.places <= fluid + width {
            let load = (rate / self.rate_of_places()).min(1.0 - 1e-9);
            let bottom = (fluid.min(self.places) - width).max(0.0);
            let bound = bounded(rate, unit, &line, self.places, bottom, load);
            // The states of a chain that ends at a broken number lie between those of whole requests, which matters
            // where few are there; so it counts only as far as its end does.
            let part = bound.2 / (bound.2 + BOUND_COUNTS);
            let mix = |free: f64, bound: f64| free + part * (bound - free);
            batch = mix(batch.min(self.places), bound.0);
            variance = mix(variance.min(self.places * self.places), bound.1);
            idle = mix(idle, bound.3);
            full = bound.2;
            if self.crowding > 1.0 {
                let unit = (unit * self.crowding).min(self.places);
                full = bounded(rate, unit, &line, self.places, 0.0, load).2;
            }
        }
        Places { batch, variance, full, idle, index }
    }
}

/// (mean, variance, probability of no place, of nobody) with places for all: the chain over a line is a negative
/// binomial distribution.
fn unbounded(rate: f64, unit: f64, line: &Line) -> (f64, f64, f64, f64) {
    let load = (rate * line.each).min(1.0 - 1e-6);
    let mean = rate * (line.fixed + line.each * unit) / (1.0 - load);
    let idle = if load > 1e-9 {
        ((1.0 - load).ln() * (line.fixed / (line.each * unit) + 1.0)).exp()
    } else {
        (-rate * line.fixed / unit).exp()
    };
    (mean, unit * mean / (1.0 - load), 0.0, idle)
}

/// The same with the last of `places` serving an unbounded queue at `load`: states are added up from the last one
/// down to `bottom`, in steps of `unit`.
fn bounded(rate: f64, unit: f64, line: &Line, places: f64, bottom: f64, load: f64) -> (f64, f64, f64, f64) {
    let service = |n: f64| n / (rate * (line.fixed + line.each * n));
    let waiting = 1.0 / (1.0 - load);
    let steps = ((places - bottom) / unit).floor() as usize;
    let (mut weight, mut total) = (1.0, waiting);
    let (mut sum, mut squares) = (places * waiting, places * places * waiting);
    let mut n = places;
    for _ in 0..steps {
        let ratio = service(n);
        weight *= ratio;
        if ratio < 1.0 && weight < NEGLIGIBLE * total {
            return bounded_moments(sum, squares, total, waiting, 0.0);
        }
        n -= unit;
        total += weight;
        sum += weight * n;
        squares += weight * n * n;
    }
    let mut idle = 0.0;
    if bottom <= 0.0 {
        // What is left below is a part of a unit; the empty server is reached through it.
        let part = (n / unit).clamp(0.0, 1.0);
        let rest = weight * ((1.0 + service(unit)).powf(part) - 1.0);
        total += rest;
        idle = (rest + weight * (1.0 - part)) / total;
    }
    bounded_moments(sum, squares, total, waiting, idle)
}

fn bounded_moments(sum: f64, squares: f64, total: f64, waiting: f64, idle: f64) -> (f64, f64, f64, f64) {
    let mean = sum / total;
    (mean, (squares / total - mean * mean).max(0.0), waiting / total, idle)
}
