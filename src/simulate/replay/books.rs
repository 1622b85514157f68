//! The books of a run: every request that arrived is met or late, and who is late has a cause.
//!
//! Owns the counting; knows promises and finished requests, nothing of rules.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::outcome::{Cause, ClassOutcome, HourOutcome, MinutePoint, Spread};
use crate::perf::{Limits, Parameters};
use crate::policy::{Policy, Promise};
use crate::simulate::account::is_met;
use crate::simulate::{Completion, Fleet, Request};

/// Requests in an hour from which on the hour is judged alone.
const HOUR_COUNTS_FROM: u64 = 1000;
/// Digits that latencies are kept with, and their unit.
const DIGITS: u8 = 3;
const PER_SECOND: f64 = 1e6;
const DAY_MICROSECONDS: u64 = 86_400_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Books {
    classes: Vec<Class>,
    minutes: Vec<MinutePoint>,
    /// What the model's replicas were doing when a step of the run began, by step and model.
    states: Vec<Vec<ModelState>>,
    step_seconds: f64,
    /// What servers of each pool do at best.
    pools: Vec<(Parameters, Limits, f64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ModelState {
    pub starting: bool,
    pub ready: bool,
}

#[derive(Debug)]
struct Class {
    name: String,
    promise: Promise,
    arrived: u64,
    met: u64,
    hours: Vec<HourOutcome>,
    late: BTreeMap<Cause, u64>,
    ttft: Histogram<u64>,
    itl: Histogram<u64>,
    longest_wake_seconds: Option<f64>,
}

impl Books {
    pub fn new(policy: &Policy, fleet: &Fleet, step_seconds: f64) -> Self {
        let class = |c: &crate::policy::SloClass| Class {
            name: c.name.clone(),
            promise: c.promise,
            arrived: 0,
            met: 0,
            hours: vec![],
            late: BTreeMap::new(),
            ttft: latencies(),
            itl: latencies(),
            longest_wake_seconds: None,
        };
        let servers = fleet.pools().iter().map(|p| {
            let spec = p.spec();
            (spec.parameters, spec.limits, spec.prefix_hit_ratio)
        });
        Self {
            classes: policy.classes.iter().map(class).collect(),
            minutes: vec![],
            states: vec![],
            step_seconds,
            pools: servers.collect(),
        }
    }

    /// A step begins; the models' replicas are in these states.
    pub fn begin_step(&mut self, states: Vec<ModelState>) {
        self.states.push(states);
    }

    /// A minute of the run is over.
    pub fn end_minute(&mut self, minute: usize, point: MinutePoint) {
        self.minute(minute);
        let at = &mut self.minutes[minute];
        let (arrived, met, late) =
            (std::mem::take(&mut at.arrived), std::mem::take(&mut at.met), std::mem::take(&mut at.late));
        *at = MinutePoint { arrived, met, late, ..point };
    }

    fn minute(&mut self, minute: usize) -> &mut MinutePoint {
        let classes = self.classes.len();
        if self.minutes.len() <= minute {
            let empty = || MinutePoint { arrived: vec![0; classes], met: vec![0; classes], ..MinutePoint::default() };
            self.minutes.resize_with(minute + 1, empty);
        }
        &mut self.minutes[minute]
    }

    /// A request left the fleet.
    pub fn finished(&mut self, completion: &Completion) {
        let class = completion.request.class;
        let Some(promise) = self.classes.get(class).map(|c| c.promise) else { return };
        let met = completion.ttft_seconds.is_some_and(|ttft| is_met(&promise, completion, ttft));
        let cause = (!met).then(|| self.cause(&promise, completion));
        self.count(&completion.request, met, cause);
        let state = self.state(&completion.request);
        let class = &mut self.classes[class];
        let micros = |seconds: f64| (seconds * PER_SECOND).round().max(1.0) as u64;
        if let Some(ttft) = completion.ttft_seconds {
            class.ttft.saturating_record(micros(ttft));
            if !state.ready {
                class.longest_wake_seconds = Some(class.longest_wake_seconds.unwrap_or(0.0).max(ttft));
            }
        }
        if let Some(itl) = completion.itl_seconds {
            class.itl.saturating_record(micros(itl));
        }
    }

    /// A request is unfinished at the end of the run, long after the last arrival.
    pub fn unfinished(&mut self, request: &Request) {
        if request.class < self.classes.len() {
            self.count(request, false, Some(Cause::Unfinished));
        }
    }

    /// Requests of all classes that were late so far.
    pub fn late(&self) -> u64 {
        self.classes.iter().map(|class| class.arrived - class.met).sum()
    }

    fn count(&mut self, request: &Request, met: bool, cause: Option<Cause>) {
        let minute = (request.arrival_seconds / 60.0) as usize;
        let point = self.minute(minute);
        point.arrived[request.class] += 1;
        point.met[request.class] += u32::from(met);
        if let Some(cause) = cause {
            *point.late.entry(cause).or_default() += 1;
        }
        let class = &mut self.classes[request.class];
        class.arrived += 1;
        class.met += u64::from(met);
        let hour = minute / 60;
        if class.hours.len() <= hour {
            class.hours.resize(hour + 1, HourOutcome::default());
        }
        class.hours[hour].arrived += 1;
        class.hours[hour].met += u64::from(met);
        if let Some(cause) = cause {
            *class.late.entry(cause).or_default() += 1;
        }
    }

    fn state(&self, request: &Request) -> ModelState {
        let step = (request.arrival_seconds / self.step_seconds) as usize;
        let states = self.states.get(step).or(self.states.last());
        states.and_then(|s| s.get(request.model)).copied().unwrap_or_default()
    }

    fn cause(&self, promise: &Promise, completion: &Completion) -> Cause {
        let Some(ttft) = completion.ttft_seconds else { return Cause::Failed };
        let (ttft_target, itl_target) = match *promise {
            Promise::Latency { ttft_seconds, itl_seconds, .. } => (ttft_seconds, itl_seconds),
            Promise::Deadline { .. } => (f64::INFINITY, f64::INFINITY),
        };
        let best = completion.pool.and_then(|p| self.pools.get(p)).map(|server| alone(server, &completion.request));
        if best.is_some_and(|(ttft, itl)| ttft > ttft_target || itl > itl_target) {
            return Cause::TooLong;
        }
        let state = self.state(&completion.request);
        match () {
            () if completion.preemptions > 0 => Cause::KvMemory,
            () if state.starting || !state.ready => Cause::ColdStart,
            () if ttft > ttft_target || itl_target.is_infinite() => Cause::Queue,
            () => Cause::SlowTokens,
        }
    }

    /// What is told of the classes, and the minutes.
    pub fn close(self) -> (Vec<ClassOutcome>, Vec<MinutePoint>) {
        let Self { classes, minutes, .. } = self;
        let outcome = |(index, class): (usize, Class)| class.close(index, &minutes);
        (classes.into_iter().enumerate().map(outcome).collect(), minutes)
    }
}

impl Class {
    fn close(self, index: usize, minutes: &[MinutePoint]) -> ClassOutcome {
        let quantile = match self.promise {
            Promise::Latency { quantile, .. } => quantile,
            Promise::Deadline { .. } => 1.0,
        };
        let kept = |arrived: u64, met: u64| met as f64 >= quantile * arrived as f64;
        let hours_kept = hours_kept(&self.hours, quantile);
        let (mut run, mut longest) = (0, 0);
        for point in minutes.iter().filter(|point| point.arrived[index] > 0) {
            let is_kept = kept(u64::from(point.arrived[index]), u64::from(point.met[index]));
            run = if is_kept { 0 } else { run + 1 };
            longest = longest.max(run);
        }
        ClassOutcome {
            class: self.name,
            quantile,
            arrived: self.arrived,
            met: self.met,
            attainment: (self.arrived > 0).then(|| self.met as f64 / self.arrived as f64),
            hours: self.hours,
            hours_kept,
            longest_violation_minutes: longest,
            late: self.late,
            ttft: spread(&self.ttft),
            itl: spread(&self.itl),
            longest_wake_seconds: self.longest_wake_seconds,
        }
    }
}

/// Share of the hours with enough requests in which this share of them was met; `None` without such an hour.
pub(super) fn hours_kept(hours: &[HourOutcome], quantile: f64) -> Option<f64> {
    let judged: Vec<&HourOutcome> = hours.iter().filter(|hour| hour.arrived >= HOUR_COUNTS_FROM).collect();
    let kept = judged.iter().filter(|hour| hour.met as f64 >= quantile * hour.arrived as f64).count();
    (!judged.is_empty()).then(|| kept as f64 / judged.len() as f64)
}

/// Up to a day, in microseconds; what takes longer counts as a day. The bounds are fixed: a histogram that grows by
/// itself does not do so when values are recorded with saturation.
fn latencies() -> Histogram<u64> {
    // The constructor refuses only digits above 5 and bounds that are closer than a factor of 2.
    Histogram::new_with_bounds(1, DAY_MICROSECONDS, DIGITS).unwrap_or_else(|_| unreachable!("the bounds are allowed"))
}

fn spread(latencies: &Histogram<u64>) -> Spread {
    let at = |q: f64| latencies.value_at_quantile(q) as f64 / PER_SECOND;
    if latencies.is_empty() {
        return Spread::default();
    }
    Spread { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999) }
}

/// TTFT and ITL of a request that a server has to itself, seconds.
fn alone((parameters, limits, hit): &(Parameters, Limits, f64), request: &Request) -> (f64, f64) {
    let prompt = f64::from(request.input_tokens);
    let most = f64::from(limits.max_num_batched_tokens.max(1));
    let (mut done, mut ttft) = ((prompt * hit).floor(), 0.0);
    while done < prompt {
        let chunk = (prompt - done).min(most);
        done += chunk;
        ttft += parameters.iteration_seconds(chunk, 0.0, done);
    }
    let context = prompt + f64::from(request.output_tokens) / 2.0;
    let itl = if request.output_tokens > 1 { parameters.iteration_seconds(0.0, 1.0, context) } else { 0.0 };
    (ttft, itl)
}
