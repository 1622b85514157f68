//! Arrivals by rate: renewal processes whose rate follows a staircase.
//!
//! It owns the gaps between requests. Time is stretched by the rate, so that one gap may span many minutes and no
//! minute shows where it begins. Each process is stationary from its first moment on and again where its rhythm
//! changes: the mean of what comes in any stretch is the rate, exactly.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, StandardNormal};

use super::order::Timed;
use crate::simulate::replay::play::Play;
use crate::simulate::replay::recording::{ClientTrace, RateTrace, Recording, WINDOW_SECONDS};

/// A stretch of the run with one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate::replay) struct Step {
    /// End, seconds since the start of the run; it begins where the one before it ends.
    pub until_seconds: f64,
    /// Mean, requests per second.
    pub rate: f64,
    /// Squared coefficient of variation of the gaps; `None` leaves the rhythm as it was.
    pub squared_cv: Option<f64>,
}

/// The staircases of a play, one for every process in it; none for a list of requests.
pub(in crate::simulate::replay) fn staircases(play: &Play, seed: u64) -> Vec<Vec<Step>> {
    match &*play.recording {
        Recording::Requests(_) => vec![],
        Recording::Rates(rates) => vec![of_rates(play, rates, seed)],
        Recording::Clients(clients) => of_clients(play, clients),
    }
}

fn of_rates(play: &Play, trace: &RateTrace, seed: u64) -> Vec<Step> {
    let mut rng = play.stream(seed, "rates", 0);
    let ends = trace.steps().iter().skip(1).map(|s| s.at_seconds).chain([trace.end_seconds()]);
    let mut steps = vec![];
    for (step, end) in trace.steps().iter().zip(ends) {
        // drawn before the play begins too: a minute of the recording has the same noise wherever it begins
        let noise: f64 = if step.sigma > 0.0 { StandardNormal.sample(&mut rng) } else { 0.0 };
        if end > play.from_seconds && step.at_seconds < play.to_seconds {
            steps.push(Step {
                until_seconds: end.min(play.to_seconds) - play.from_seconds,
                rate: play.scale * (step.rate + step.sigma * noise).max(0.0),
                squared_cv: Some(play.burstiness),
            });
        }
    }
    steps
}

fn of_clients(play: &Play, trace: &ClientTrace) -> Vec<Vec<Step>> {
    let mut all = vec![];
    for client in trace.clients() {
        let mut steps = vec![];
        let mut covered = play.from_seconds;
        for window in &client.windows {
            let (begin, end) = (window.at_seconds, (window.at_seconds + WINDOW_SECONDS).min(play.to_seconds));
            if end <= play.from_seconds || begin >= play.to_seconds {
                continue;
            }
            if begin > covered {
                steps.push(Step { until_seconds: begin - play.from_seconds, rate: 0.0, squared_cv: None });
            }
            let squared_cv = Some(window.cv * window.cv);
            steps.push(Step { until_seconds: end - play.from_seconds, rate: play.scale * window.rate, squared_cv });
            covered = end;
        }
        all.push(steps);
    }
    all
}

/// Law of the gaps, in units of their mean: Gamma with the shape 1 / CV².
#[derive(Clone, Copy, Debug)]
struct Gaps {
    squared_cv: f64,
    gap: Gamma<f64>,
    /// The gap in which a moment picked at random lies: long ones are met more often.
    met: Gamma<f64>,
}

impl Gaps {
    fn new(squared_cv: f64) -> Self {
        let gamma = |shape| Gamma::new(shape, squared_cv).expect("plays and clients bound the squared CV above 0");
        Self { squared_cv, gap: gamma(1.0 / squared_cv), met: gamma(1.0 / squared_cv + 1.0) }
    }

    fn next(&self, rng: &mut ChaCha8Rng) -> f64 {
        self.gap.sample(rng)
    }

    /// What is left of the gap at a moment picked at random (the forward recurrence time of renewal theory).
    fn rest(&self, rng: &mut ChaCha8Rng) -> f64 {
        let part: f64 = rng.random();
        part * self.met.sample(rng)
    }
}

/// Moment of an arrival, seconds since the start of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub f64);

impl Timed for Moment {
    fn at_seconds(&self) -> f64 {
        self.0
    }
}

/// One renewal process.
#[derive(Debug)]
pub(super) struct Rhythm {
    rng: ChaCha8Rng,
    steps: Vec<Step>,
    step: usize,
    now_seconds: f64,
    gaps: Option<Gaps>,
    /// Expected requests until the next one.
    left: f64,
}

impl Rhythm {
    pub fn new(steps: Vec<Step>, rng: ChaCha8Rng) -> Self {
        Self { rng, steps, step: 0, now_seconds: 0.0, gaps: None, left: 0.0 }
    }
}

impl Iterator for Rhythm {
    type Item = Moment;

    fn next(&mut self) -> Option<Moment> {
        loop {
            let step = *self.steps.get(self.step)?;
            let gaps = match (self.gaps, step.squared_cv) {
                (Some(gaps), None) => gaps,
                (Some(gaps), Some(squared_cv)) if gaps.squared_cv == squared_cv => gaps,
                (None, None) => {
                    self.now_seconds = step.until_seconds;
                    self.step += 1;
                    continue;
                }
                (_, Some(squared_cv)) => {
                    // A gap of the old rhythm may be longer than all of the new window: it is not carried over.
                    let gaps = Gaps::new(squared_cv);
                    self.left = gaps.rest(&mut self.rng);
                    *self.gaps.insert(gaps)
                }
            };
            let room = (step.until_seconds - self.now_seconds) * step.rate;
            if self.left < room {
                let at = self.now_seconds + self.left / step.rate;
                self.now_seconds = at.min(step.until_seconds.next_down());
                self.left = gaps.next(&mut self.rng);
                return Some(Moment(self.now_seconds));
            }
            self.left -= room;
            self.now_seconds = step.until_seconds;
            self.step += 1;
        }
    }
}
