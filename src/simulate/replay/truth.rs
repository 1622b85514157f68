//! What will really arrive, minute by minute: for rules that know the future and for books of forecasts.
//!
//! It owns how rates and lengths are told from plays. Of rates and clients it tells the mean that was set, not the
//! count that chance made of it; of lists of requests it tells the count.

use super::arrivals::{Arrivals, staircases};
use super::lengths::LengthLaw;
use super::opponents::Truth;
use super::play::{Play, PlayError};
use super::recording::Recording;
use crate::control::GivenDemand;
use crate::demand::{Bucket, ShapeMemory};
use crate::policy::{Model, Policy};
use crate::simulate::lengths::LengthCounts;

/// Longest run: a year, seconds.
const LONGEST_SECONDS: f64 = 31_622_400.0;
/// Requests as which a known distribution of lengths is noted: enough to be believed.
const BELIEVED: f64 = 1_000.0;

/// The truth of a run of `seconds` that begins at the Unix time `start_seconds`, for these plays with this seed.
///
/// Rates of a minute are means over the part of it that lies in the run, requests per second. Lengths are put into
/// the planner's buckets: those of the minute where they are drawn, and those of the last minutes, as the planner
/// remembers them, where the list has its own.
///
/// # Errors
/// A figure of a play or the length of the run is out of range.
pub fn truth(plays: &[Play], policy: &Policy, seed: u64, start_seconds: f64, seconds: f64) -> Result<Truth, PlayError> {
    if !(seconds > 0.0 && seconds <= LONGEST_SECONDS) {
        return Err(PlayError::Run(seconds));
    }
    let minutes = (seconds / 60.0).ceil() as usize;
    let mut models: Vec<Tally> = policy.models.iter().map(|model| Tally::new(model.classes.len(), minutes)).collect();
    for play in plays {
        let lengths = play.check(policy)?;
        models[play.model].add(play, policy, &lengths, seed, seconds)?;
    }
    let mut told: Vec<_> = models.iter().zip(&policy.models).map(|(tally, m)| tally.buckets(m).into_iter()).collect();
    let minutes = (0..minutes).map(|minute| {
        let span_seconds = (seconds - 60.0 * minute as f64).min(60.0);
        let demand =
            |((tally, model), buckets): ((&Tally, &Model), &mut std::vec::IntoIter<Vec<Bucket>>)| GivenDemand {
                classes: model
                    .classes
                    .iter()
                    .zip(&tally.requests[minute])
                    .map(|((c, _), n)| (*c, n / span_seconds))
                    .collect(),
                buckets: buckets.next().unwrap_or_default(),
            };
        models.iter().zip(&policy.models).zip(&mut told).map(demand).collect()
    });
    Ok(Truth { start_seconds, minutes: minutes.collect() })
}

/// What arrives for one model.
struct Tally {
    /// Requests by minute and class of the model.
    requests: Vec<Vec<f64>>,
    /// Prompt and answer lengths by minute.
    lengths: Vec<(LengthCounts, LengthCounts)>,
    /// Whether some lengths are counted requests: few of them say little.
    is_counted: bool,
}

impl Tally {
    fn new(classes: usize, minutes: usize) -> Self {
        Self {
            requests: vec![vec![0.0; classes]; minutes],
            lengths: vec![Default::default(); minutes],
            is_counted: false,
        }
    }

    fn add(&mut self, play: &Play, policy: &Policy, law: &LengthLaw, seed: u64, seconds: f64) -> Result<(), PlayError> {
        let known = law.counts();
        self.is_counted |= known.is_none();
        let mut totals = vec![0.0; self.requests.len()];
        if matches!(*play.recording, Recording::Requests(_)) {
            let classes = &policy.models[play.model].classes;
            for request in Arrivals::new(play, policy, seed)?.take_while(|r| r.arrival_seconds < seconds) {
                let minute = (request.arrival_seconds / 60.0) as usize;
                let Some(class) = classes.iter().position(|(c, _)| *c == request.class) else { continue };
                totals[minute] += 1.0;
                self.requests[minute][class] += 1.0;
                if known.is_none() {
                    self.lengths[minute].0.add(f64::from(request.input_tokens), 1.0);
                    self.lengths[minute].1.add(f64::from(request.output_tokens), 1.0);
                }
            }
        } else {
            expect(play, seed, seconds, &mut totals);
            let shares = play.shares(policy);
            for (requests, total) in self.requests.iter_mut().zip(&totals) {
                requests.iter_mut().zip(&shares).for_each(|(mine, share)| *mine += share * total);
            }
        }
        if let Some((input, output)) = known {
            for (lengths, total) in self.lengths.iter_mut().zip(totals) {
                lengths.0.add_scaled(&input, total);
                lengths.1.add_scaled(&output, total);
            }
        }
        Ok(())
    }

    /// Buckets of every minute. A minute without requests has those of the one before it, and before the first
    /// request those of the first.
    fn buckets(&self, model: &Model) -> Vec<Vec<Bucket>> {
        let mut memory = ShapeMemory::default();
        let mut told: Vec<Vec<Bucket>> = vec![];
        let mut is_first = true;
        for (minute, (input, output)) in self.lengths.iter().enumerate() {
            let (mut input, mut output) = (input.histogram(), output.histogram());
            if !self.is_counted && input.count > 0.0 {
                memory = ShapeMemory::default();
                input.scale(BELIEVED / input.count);
                output.scale(BELIEVED / output.count);
            }
            let is_new = input.count > 0.0;
            if is_new || self.is_counted {
                memory.note(60.0 * (minute + 1) as f64, 60.0, &input, &output);
            }
            let buckets = match told.last() {
                Some(before) if !is_new => before.clone(),
                _ => memory.buckets(model.expected_shape),
            };
            if is_new && is_first {
                told.fill(buckets.clone());
                is_first = false;
            }
            told.push(buckets);
        }
        told
    }
}

/// Expected requests of every minute, added to `totals`: the staircases, integrated.
fn expect(play: &Play, seed: u64, seconds: f64, totals: &mut [f64]) {
    for steps in staircases(play, seed) {
        let mut from = 0.0_f64;
        for step in steps {
            let until = step.until_seconds.min(seconds);
            while from < until {
                let minute = (from / 60.0) as usize;
                let end = (60.0 * (minute + 1) as f64).min(until);
                if let Some(total) = totals.get_mut(minute) {
                    *total += step.rate * (end - from);
                }
                from = end;
            }
        }
    }
}
