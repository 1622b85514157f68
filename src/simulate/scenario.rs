//! Which traffic a policy's models get, and the fleet that would be bought for its peak.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lengths::LengthCounts;
use super::trace::{Trace, TraceError};
use super::workload::{Replay, Workload, WorkloadError};
use crate::control::{GivenDemand, Sizing, State, size};
use crate::demand::ShapeMemory;
use crate::observe::RatePoint;
use crate::policy::units::Duration;
use crate::policy::{Model, Policy, Promise};

/// Annotation of a ServedModel: `conversation` or `code`.
pub const TRACE_ANNOTATION: &str = "poolwright.dev/demo-trace";
/// Annotation of a ServedModel: how many times the trace's requests are played at once.
pub const SCALE_ANNOTATION: &str = "poolwright.dev/demo-scale";
/// Annotation of a ServedModel: how many times faster the curve of the rate runs, at unchanged requests per
/// second.
pub const COMPRESS_ANNOTATION: &str = "poolwright.dev/demo-compress";
/// Annotation of a ServedModel: where in the trace the run begins, such as `20m`.
pub const START_ANNOTATION: &str = "poolwright.dev/demo-start";

/// Length of both traces, and of the window that a static fleet is sized for, seconds.
pub const TRACE_SECONDS: f64 = 3600.0;
/// Models that play the same trace begin this much apart, seconds of the trace.
const STAGGER_SECONDS: f64 = 420.0;
/// Scales tried, largest first, for a policy that names none.
const SCALES: [f64; 12] = [16.0, 12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.03];
/// Part of the trace that the scale is fitted to, seconds; it holds the highest minutes of both traces.
const FIT_SECONDS: f64 = 2400.0;
/// Share of the whole stock's price that the peak of a policy without scales may cost.
const STOCK_SHARE: f64 = 0.6;

/// The traffic of a run.
#[derive(Debug)]
pub struct Scenario {
    plays: Vec<Play>,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Play {
    trace: Arc<Trace>,
    model: usize,
    scale: f64,
    compress: f64,
    start_seconds: f64,
}

/// Why a policy cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("model {model}: annotation {annotation} is `{value}`, expected {expected}")]
    Annotation { model: String, annotation: &'static str, value: String, expected: &'static str },
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

impl Scenario {
    /// Traffic for every model: what its annotations say, else the code trace for models with deadlines
    /// only and the conversation trace for the others, scaled to the stock.
    ///
    /// # Errors
    /// An annotation is wrong.
    pub fn new(policy: &Policy, seed: u64) -> Result<Self, ScenarioError> {
        let traces = [Arc::new(Trace::conversation()?), Arc::new(Trace::code()?)];
        let mut played = [0u32; 2];
        let mut plays = vec![];
        let mut any_given = false;
        for (model, resolved) in policy.models.iter().enumerate() {
            let batch_only =
                resolved.classes.iter().all(|&(c, _)| matches!(policy.classes[c].promise, Promise::Deadline { .. }));
            let which = match resolved.annotations.get(TRACE_ANNOTATION).map(String::as_str) {
                None => usize::from(batch_only),
                Some("conversation") => 0,
                Some("code") => 1,
                Some(other) => {
                    return Err(wrong(resolved.id(), TRACE_ANNOTATION, other, "`conversation` or `code`"));
                }
            };
            let scale = number(resolved, SCALE_ANNOTATION, 0.0, "a number above 0 and up to 1000")?;
            let compress = number(resolved, COMPRESS_ANNOTATION, 1.0, "a number from 1 to 1000")?;
            any_given |= scale.is_some();
            let staggered_seconds = f64::from(played[which]) * STAGGER_SECONDS;
            played[which] += 1;
            plays.push(Play {
                trace: Arc::clone(&traces[which]),
                model,
                scale: scale.unwrap_or(1.0),
                compress: compress.unwrap_or(1.0),
                start_seconds: start_seconds(resolved)?.unwrap_or(staggered_seconds),
            });
        }
        let mut scenario = Self { plays, seed };
        if !any_given {
            scenario.fit_to_stock(policy)?;
        }
        Ok(scenario)
    }

    /// The largest scale whose peak stays within a share of the stock.
    fn fit_to_stock(&mut self, policy: &Policy) -> Result<(), ScenarioError> {
        let whole: f64 = policy.accelerators.iter().map(|a| a.price_per_hour * f64::from(a.stock)).sum();
        let once = self.static_fleet(policy, FIT_SECONDS)?;
        // The cost grows about as the load does; the guess is then checked and lowered where it is too much.
        let guess = STOCK_SHARE * whole / once.cost_per_hour.max(f64::MIN_POSITIVE);
        for scale in SCALES.into_iter().filter(|s| *s <= guess.max(SCALES[SCALES.len() - 1])) {
            self.plays.iter_mut().for_each(|p| p.scale = scale);
            let peak = self.static_fleet(policy, FIT_SECONDS)?;
            if peak.shortfall_rate <= 0.0 && peak.cost_per_hour <= STOCK_SHARE * whole {
                break;
            }
        }
        Ok(())
    }

    /// The requests, as endless iterators.
    ///
    /// # Errors
    /// A scale is out of range.
    pub fn workloads(&self, policy: &Policy) -> Result<Vec<Workload>, ScenarioError> {
        self.plays.iter().map(|play| self.workload(play, policy, play.start_seconds)).collect()
    }

    fn workload(&self, play: &Play, policy: &Policy, start_seconds: f64) -> Result<Workload, ScenarioError> {
        let replay =
            Replay { scale: play.scale, compress: play.compress, start_seconds, seed: self.seed, ..Replay::default() };
        Ok(Workload::new(Arc::clone(&play.trace), play.model, policy, replay)?)
    }

    /// The demand of the `minutes` before a run that starts at this Unix time, by model: what a daemon would
    /// remember that ran before. The trace went round as it will go on.
    ///
    /// # Errors
    /// A scale is out of range.
    pub fn history(
        &self,
        policy: &Policy,
        start_unix_seconds: f64,
        minutes: usize,
    ) -> Result<BTreeMap<String, Vec<RatePoint>>, ScenarioError> {
        let seconds = 60.0 * minutes as f64;
        let mut history = BTreeMap::new();
        for play in &self.plays {
            let back = (play.start_seconds - seconds * play.compress).rem_euclid(play.trace.period_seconds());
            let mut counts = vec![0.0; minutes];
            for request in self.workload(play, policy, back)?.take_while(|r| r.arrival_seconds < seconds) {
                if let Some(count) = counts.get_mut((request.arrival_seconds / 60.0) as usize) {
                    *count += 1.0;
                }
            }
            let point = |(minute, count): (usize, &f64)| RatePoint {
                at_seconds: start_unix_seconds - seconds + 60.0 * (minute + 1) as f64,
                rate: count / 60.0,
            };
            history.insert(policy.models[play.model].id(), counts.iter().enumerate().map(point).collect());
        }
        Ok(history)
    }

    /// What the planner would buy for the busiest minute of the first `seconds`: it is asked for every
    /// minute, with the true rates of that minute, the lengths as the daemon remembers them and no reserve
    /// for what may come; the dearest answer is the static fleet. Batch work is averaged over half its
    /// deadline, as in the daemon.
    ///
    /// # Errors
    /// A scale is out of range.
    pub fn static_fleet(&self, policy: &Policy, seconds: f64) -> Result<Sizing, ScenarioError> {
        let length = (seconds / 60.0).ceil().max(1.0) as usize;
        let demand = self.true_demand(policy, length)?;
        let mut state = State::default();
        let mut shapes = vec![ShapeMemory::default(); policy.models.len()];
        let mut dearest: Option<Sizing> = None;
        for minute in 0..length {
            let demands: Vec<GivenDemand> = demand
                .iter()
                .enumerate()
                .map(|(m, demand)| {
                    let (input, output) = &demand.lengths[minute];
                    let at = 60.0 * (minute + 1) as f64;
                    shapes[m].note(at, 60.0, &input.histogram(), &output.histogram());
                    GivenDemand {
                        classes: class_rates(policy, m, &demand.counts, minute),
                        buckets: shapes[m].buckets(policy.models[m].expected_shape),
                    }
                })
                .collect();
            let sizing = size(policy, &demands, &mut state);
            if dearest.as_ref().is_none_or(|d| sizing.cost_per_hour > d.cost_per_hour) {
                dearest = Some(sizing);
            }
        }
        Ok(dearest.unwrap_or(Sizing { replicas: vec![0; policy.pools.len()], cost_per_hour: 0.0, shortfall_rate: 0.0 }))
    }

    /// What really arrives in the first `minutes`, by model.
    fn true_demand(&self, policy: &Policy, minutes: usize) -> Result<Vec<TrueDemand>, ScenarioError> {
        let seconds = 60.0 * minutes as f64;
        let mut demands = vec![];
        for workload in self.workloads(policy)? {
            let model = &policy.models[workload.model()];
            let mut demand = TrueDemand {
                counts: vec![vec![0.0; minutes]; model.classes.len()],
                lengths: vec![Default::default(); minutes],
            };
            for request in workload.take_while(|r| r.arrival_seconds < seconds) {
                let minute = ((request.arrival_seconds / 60.0) as usize).min(minutes - 1);
                let class = model.classes.iter().position(|(c, _)| *c == request.class).unwrap_or(0);
                demand.counts[class][minute] += 1.0;
                demand.lengths[minute].0.add(f64::from(request.input_tokens), 1.0);
                demand.lengths[minute].1.add(f64::from(request.output_tokens), 1.0);
            }
            demands.push(demand);
        }
        Ok(demands)
    }
}

/// What really arrives for one model.
struct TrueDemand {
    /// Requests by class of the model and minute.
    counts: Vec<Vec<f64>>,
    /// Prompt and output lengths by minute.
    lengths: Vec<(LengthCounts, LengthCounts)>,
}

fn wrong(model: String, annotation: &'static str, value: &str, expected: &'static str) -> ScenarioError {
    ScenarioError::Annotation { model, annotation, value: value.to_owned(), expected }
}

/// The number that an annotation gives, above 0, at least `least` and at most 1000.
fn number(
    model: &Model,
    annotation: &'static str,
    least: f64,
    expected: &'static str,
) -> Result<Option<f64>, ScenarioError> {
    let Some(text) = model.annotations.get(annotation) else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number >= least && number <= 1000.0 => Ok(Some(number)),
        _ => Err(wrong(model.id(), annotation, text, expected)),
    }
}

/// Where in the trace the model's annotation lets the run begin.
fn start_seconds(model: &Model) -> Result<Option<f64>, ScenarioError> {
    let Some(text) = model.annotations.get(START_ANNOTATION) else { return Ok(None) };
    match text.parse::<Duration>() {
        Ok(start) => Ok(Some(start.seconds())),
        Err(_) => Err(wrong(model.id(), START_ANNOTATION, text, "a duration such as `20m`")),
    }
}

/// Requests per second of each class of the model in one minute.
fn class_rates(policy: &Policy, model: usize, counts: &[Vec<f64>], minute: usize) -> Vec<(usize, f64)> {
    policy.models[model]
        .classes
        .iter()
        .zip(counts)
        .map(|(&(class, _), counts)| {
            let span = match policy.classes[class].promise {
                Promise::Latency { .. } => 1,
                Promise::Deadline { seconds } => ((seconds / 2.0 / 60.0).round() as usize).max(1),
            };
            let from = (minute + 1).saturating_sub(span);
            let window = &counts[from..=minute];
            (class, window.iter().sum::<f64>() / (60.0 * window.len() as f64))
        })
        .collect()
}
