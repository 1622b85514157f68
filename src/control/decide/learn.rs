//! From an observation to what is known of every pool and model; the memories are brought up to date.

use std::collections::BTreeMap;

use super::calibrate::calibrate;
use super::floors::{self, Ahead, Floor};
use super::hold;
use super::limits;
use super::size::GivenDemand;
use crate::control::State;
use crate::control::decision::LiveCorrection;
use crate::demand::{Bucket, Forecast, Patience, due_rate};
use crate::observe::{Finding, Histogram, Observation, PoolObservation, Quality};
use crate::perf::{Shape, Traffic};
use crate::policy::{Mode, Model, Policy, Promise};
use crate::safety::{Knowledge, PoolMemory};

/// Lag between a decision and the start of a replica, besides the daemon's own interval: HPA's sync.
const FOLLOW_SECONDS: f64 = 15.0;
/// Time within which a queue of interactive requests is to be worked off, seconds.
const DRAIN_SECONDS: f64 = 60.0;
/// Above these a number is a fault of the measurement, whatever let it through: requests per second of one
/// pool, requests in its queues, tokens of one replica's KV memory.
const MOST_RATE: f64 = 1e6;
const MOST_WAITING: f64 = 1e7;
const MOST_KV_TOKENS: f64 = 1e11;
/// Weight of a new prefix-cache measurement.
const HIT_WEIGHT: f64 = 0.1;
/// Load that is always planned for, so that one replica stays, requests per second.
pub(super) const LEAST_RATE: f64 = 1e-3;
/// Steps in which the hit ratio enters the plan, so that noise moves nothing.
const HIT_STEP: f64 = 0.05;

/// Doublings by which burstiness has to change before the plan takes notice: what a few windows say of it is rough.
const BURSTINESS_STEP: f64 = 1.0;
/// Burstiness that is planned for at most: beyond, it is a load that jumps, which is the forecast's to see.
const MOST_BURSTINESS: f64 = 16.0;

/// What is known after this observation.
pub(super) struct Known {
    pub pools: Vec<PoolKnown>,
    pub models: Vec<ModelKnown>,
    /// What was learnt that a person should know.
    pub findings: Vec<Finding>,
    /// Unix time, seconds.
    pub now_seconds: f64,
}

pub(super) struct PoolKnown {
    pub knowledge: Knowledge,
    pub ready: Option<u32>,
    pub starting: Option<u32>,
    /// Ready and starting.
    pub current: Option<u32>,
    /// Replicas that were asked for, where they do not come.
    pub withheld: Option<u32>,
    /// Names of the signals that are not fresh.
    pub missing: Vec<String>,
    /// What the servers made of the pool's figures.
    pub live: Option<LiveCorrection>,
    /// Fewest replicas now.
    pub floor: Floor,
}

pub(super) struct ModelKnown {
    /// Offered load as far as it is visible, requests per second.
    pub offered: Option<f64>,
    /// Demand of each class of the model: (class index, requests per second to plan for).
    pub classes: Vec<(usize, f64)>,
    /// What of each class's demand may wait, on top of it, requests per second.
    pub waits: Vec<f64>,
    /// The floor that the demand was raised to, in words.
    pub raised: Option<String>,
    /// Fewest replicas of all pools together now.
    pub floor: Floor,
    pub forecast: Option<Forecast>,
    /// What has to be served for as long as giving back has to pay, as a multiple of `classes`; at least 1.
    pub lasting: f64,
    pub horizon_seconds: f64,
    pub buckets: Vec<Bucket>,
    pub mean: Shape,
    /// As one replica sees it.
    pub traffic: Traffic,
    knowledge: Knowledge,
}

impl PoolKnown {
    /// A pool that has no replica yet.
    pub fn empty() -> Self {
        Self {
            knowledge: Knowledge::Full,
            ready: Some(0),
            starting: Some(0),
            current: Some(0),
            missing: vec![],
            withheld: None,
            live: None,
            floor: Floor::default(),
        }
    }
}

impl ModelKnown {
    /// A model whose demand is given.
    pub fn given(demand: &GivenDemand, floor: Floor) -> Self {
        let shares = || demand.buckets.iter().map(|b| (b.share, b.shape));
        Self {
            offered: None,
            classes: demand.classes.clone(),
            waits: vec![],
            raised: None,
            floor,
            forecast: None,
            lasting: 1.0,
            horizon_seconds: 0.0,
            buckets: demand.buckets.clone(),
            mean: Shape {
                input_tokens: shares().map(|(share, shape)| share * shape.input_tokens).sum(),
                output_tokens: shares().map(|(share, shape)| share * shape.output_tokens).sum(),
            },
            traffic: Traffic::default(),
            knowledge: Knowledge::Full,
        }
    }

    /// True when a plan can be made: some demand was ever measured, and something is visible now.
    pub fn plannable(&self) -> bool {
        self.forecast.is_some() && self.knowledge != Knowledge::None
    }

    /// Requests per second to plan for, all classes.
    pub fn planned_rate(&self) -> f64 {
        self.classes.iter().map(|(_, rate)| rate).sum()
    }
}

pub(super) fn learn(policy: &Policy, observation: &Observation, state: &mut State, now_seconds: f64) -> Known {
    let absent = PoolObservation::default();
    let seen = |p: usize| observation.pools.get(p).unwrap_or(&absent);
    let mut pools: Vec<PoolKnown> = (0..policy.pools.len())
        .map(|p| {
            let memory = state.pools.entry(policy.pools[p].id()).or_default();
            learn_replica(memory, seen(p));
            let asked = memory.published.filter(|_| memory.withheld.is_none());
            let mut known = know_pool(seen(p), asked, observation.source_error.is_some());
            known.withheld = memory.withheld.and(memory.published);
            let nothing_said = !memory.seen || memory.published.is_none();
            if policy.pools[p].mode == Mode::Act && nothing_said && target_is_unknown(seen(p)) {
                known.current = None;
            }
            known.floor = floors::of_pool(policy, p, ahead(policy, policy.pools[p].startup_seconds, now_seconds));
            known
        })
        .collect();
    let models = policy
        .models
        .iter()
        .map(|model| {
            // Load that is not seen on one pool is missing in the sum, so the whole model is only partly known.
            let mut knowledge = model.pools.iter().map(|&p| &pools[p]).fold(Knowledge::Full, weakest);
            if nobody_could_serve(model, &pools, policy, state) {
                knowledge = Knowledge::Partial;
            }
            for &p in &model.pools {
                pools[p].knowledge = pools[p].knowledge.at_most(knowledge);
            }
            let parts: Vec<&PoolObservation> = model.pools.iter().map(|&p| seen(p)).collect();
            let replicas = model.pools.iter().filter_map(|&p| pools[p].ready).sum();
            let traffic = traffic(state, model, policy.planner.window_seconds, replicas);
            ModelKnown { traffic, ..learn_model(policy, model, &parts, knowledge, state, now_seconds) }
        })
        .collect();
    let mut findings = calibrate(policy, observation, &mut pools, state, now_seconds);
    findings.extend(limits::findings(policy, state));
    Known { pools, models, findings, now_seconds }
}

/// What takes so long to start has to be asked for as early.
fn ahead(policy: &Policy, startup_seconds: f64, now_seconds: f64) -> Ahead {
    let lead_seconds = startup_seconds + policy.planner.interval_seconds + FOLLOW_SECONDS;
    Ahead { now_seconds: Some(now_seconds), lead_seconds }
}

/// A cluster is watched, and does not say how many replicas the target asks for. What answers may be less than
/// what runs, so it is no base for the first number: said to HPA, it would shrink the pool.
fn target_is_unknown(seen: &PoolObservation) -> bool {
    seen.cluster.as_ref().is_some_and(|cluster| cluster.wanted.is_none())
}

/// True when a model has no ready replica although some are wanted: no load is seen then because nobody can
/// serve it, which is no evidence of idleness.
fn nobody_could_serve(model: &Model, pools: &[PoolKnown], policy: &Policy, state: &State) -> bool {
    let wanted = |p: usize| {
        let said = state.pools.get(&policy.pools[p].id()).and_then(|m| m.published);
        said.unwrap_or(0) > 0 || pools[p].starting.unwrap_or(0) > 0
    };
    model.pools.iter().all(|&p| pools[p].ready == Some(0)) && model.pools.iter().any(|&p| wanted(p))
}

/// A pool about which nothing is known makes its model partly known: the others still may grow.
fn weakest(so_far: Knowledge, pool: &PoolKnown) -> Knowledge {
    match (so_far, pool.knowledge) {
        (Knowledge::Full, Knowledge::Full) => Knowledge::Full,
        _ => Knowledge::Partial,
    }
}

fn know_pool(seen: &PoolObservation, published: Option<u32>, source_failed: bool) -> PoolKnown {
    let ready = seen.ready.value;
    let starting = seen.starting.value.or_else(|| {
        // What was asked for and is not there yet is taken to be starting, once.
        ready.zip(published).map(|(ready, wanted)| wanted.saturating_sub(ready))
    });
    let named = [
        ("replicas", seen.ready.quality),
        ("arrival rate", seen.arrival_rate.quality),
        ("ttft", seen.ttft.quality),
        ("itl", seen.itl.quality),
        ("kv use", seen.kv_usage.quality),
    ];
    let idle = ready == Some(0);
    let missing: Vec<String> = named
        .iter()
        .filter(|(name, quality)| *quality > Quality::ConfirmedIdle && !(idle && *name != "replicas"))
        .map(|(name, quality)| {
            let word = if *quality == Quality::Stale { "stale" } else { "missing" };
            format!("{name} {word}")
        })
        .collect();
    let missing = match seen.silent {
        0 => missing,
        n => missing.into_iter().chain([format!("{n} replicas silent")]).collect(),
    };
    let replicas_known = seen.ready.trusted().is_some();
    let load_known = seen.arrival_rate.trusted().is_some_and(|r| (0.0..=MOST_RATE).contains(r));
    let knowledge = match (source_failed, replicas_known, load_known) {
        (true, ..) => Knowledge::None,
        (false, true, true) if seen.silent == 0 => Knowledge::Full,
        (false, false, false) if seen.ready.value.is_none() && seen.arrival_rate.value.is_none() => Knowledge::None,
        _ => Knowledge::Partial,
    };
    // A silent replica is one that runs, until somebody says that it does not.
    let current = ready.map(|r| r + starting.unwrap_or(0) + seen.silent);
    PoolKnown { knowledge, ready, starting, current, missing, withheld: None, live: None, floor: Floor::default() }
}

/// What the servers report of themselves.
fn learn_replica(memory: &mut PoolMemory, seen: &PoolObservation) {
    if let Some(tokens) = seen.kv_capacity_tokens.trusted().copied().filter(|t| (1.0..=MOST_KV_TOKENS).contains(t)) {
        memory.kv_tokens = Some(tokens);
    }
    // Nothing known of the pods changes nothing; pods that say nothing any more do.
    if let Some(limits) = seen.cluster.as_ref().and_then(|cluster| cluster.limits) {
        memory.limits = limits;
    }
    if let Some(hit) = seen.prefix_hit_ratio.trusted().copied().filter(|h| (0.0..=1.0).contains(h)) {
        let before = memory.prefix_hit_ratio.unwrap_or(hit);
        memory.prefix_hit_ratio = Some(before + HIT_WEIGHT * (hit - before));
    }
}

/// The hit ratio that a plan counts on: rounded down.
pub(super) fn planned_hit_ratio(measured: Option<f64>) -> f64 {
    measured.map_or(0.0, |hit| (hit / HIT_STEP).floor() * HIT_STEP)
}

/// The longest start-up time among the pools in use: any of them may be the one that has to grow. When
/// none is in use, among all.
fn slowest_start(policy: &Policy, model: &Model, memories: &BTreeMap<String, PoolMemory>) -> f64 {
    let used = |p: &usize| memories.get(&policy.pools[*p].id()).is_some_and(|m| m.published.unwrap_or(0) > 0);
    let longest =
        |pools: &mut dyn Iterator<Item = &usize>| pools.map(|&p| policy.pools[p].startup_seconds).reduce(f64::max);
    longest(&mut model.pools.iter().filter(|p| used(p))).or_else(|| longest(&mut model.pools.iter())).unwrap_or(0.0)
}

/// How uneven the requests are that each of `replicas` sees. A random part of a stream is less bursty than the whole:
/// of its variance beyond that of a Poisson stream, one replica of n sees 1/n.
fn traffic(state: &mut State, model: &Model, window_seconds: f64, replicas: u32) -> Traffic {
    let Some(memory) = state.models.get_mut(&model.id()) else { return Traffic::default() };
    let whole = memory.rates.dispersion(window_seconds).unwrap_or(1.0);
    let part = 1.0 + (whole - 1.0).max(0.0) / f64::from(replicas.max(1));
    let (doublings, last) = (part.log2(), memory.burstiness.unwrap_or(1.0).max(1.0).log2());
    // Up at the next whole doubling, down only when it is far below the last.
    let stays = (last - 0.5 * BURSTINESS_STEP..last + BURSTINESS_STEP).contains(&doublings);
    let doublings = if stays { last } else { (doublings / BURSTINESS_STEP).floor().max(0.0) * BURSTINESS_STEP };
    let burstiness = doublings.exp2().min(MOST_BURSTINESS);
    memory.burstiness = Some(burstiness);
    Traffic { burstiness, ..Traffic::default() }
}

fn learn_model(
    policy: &Policy,
    model: &Model,
    parts: &[&PoolObservation],
    knowledge: Knowledge,
    state: &mut State,
    now_seconds: f64,
) -> ModelKnown {
    let State { models, pools: memories, .. } = state;
    let memory = models.entry(model.id()).or_default();
    let rates: Vec<f64> =
        parts.iter().filter_map(|p| p.arrival_rate.value).filter(|r| (0.0..=MOST_RATE).contains(r)).collect();
    let offered = (!rates.is_empty()).then(|| rates.iter().sum::<f64>());
    let at = parts.iter().map(|p| p.arrival_rate.at_seconds).fold(0.0, f64::max).min(now_seconds);
    if let Some(rate) = offered {
        // A partial sum is a lower bound: it may raise what is remembered, never lower it.
        let partial = knowledge != Knowledge::Full;
        if !partial || memory.rates.newest().is_none_or(|newest| rate > newest) {
            memory.rates.note(at, rate);
        }
    }
    let (mut input, mut output) = (Histogram::default(), Histogram::default());
    for part in parts {
        if let (Some(i), Some(o)) = (part.input_tokens.trusted(), part.output_tokens.trusted()) {
            input.add(i);
            output.add(o);
        }
    }
    memory.shapes.note(at, policy.planner.window_seconds, &input, &output);
    let startup_seconds = slowest_start(policy, model, memories);
    let ahead = ahead(policy, startup_seconds, now_seconds);
    let horizon_seconds = ahead.lead_seconds;
    let forecast = memory.rates.peak(horizon_seconds, policy.planner.demand_quantile);
    let lasting = hold::lasting_share(policy, &mut memory.rates, forecast, startup_seconds);
    let waiting: f64 = parts.iter().filter_map(|p| p.waiting.value).filter(|w| (0.0..=MOST_WAITING).contains(w)).sum();
    let planned: Vec<(usize, f64, f64)> = model
        .classes
        .iter()
        .map(|&(class, share)| {
            let (rate, wait) = match (&policy.classes[class].promise, forecast) {
                (_, None) => (0.0, 0.0),
                (Promise::Latency { .. }, Some(f)) => (f.rate + waiting / DRAIN_SECONDS, 0.0),
                (Promise::Deadline { seconds }, Some(f)) => {
                    // Batch work may wait: half the deadline smooths its arrivals and works off its queue.
                    let span = (seconds / 2.0).max(policy.planner.window_seconds);
                    let smooth = memory.rates.mean_over(span).unwrap_or(f.base_rate) + waiting / span;
                    let patience = Patience {
                        allowed_seconds: seconds / 2.0,
                        delay_seconds: horizon_seconds,
                        least_seconds: policy.planner.window_seconds,
                    };
                    // The other half of the deadline is for what this does not know: bursts, failures, service.
                    let due = policy.classes[class].may_wait.then(|| due_rate(&memory.rates, at, waiting, patience));
                    match due.flatten() {
                        Some(due) => (due, (smooth - due).max(0.0)),
                        None => (smooth, 0.0),
                    }
                }
            };
            // Demand is seen on the servers only: a model without any replica could never be woken again.
            let rate = if forecast.is_some() { rate.max(LEAST_RATE) } else { rate };
            (class, rate * share, wait * share)
        })
        .collect();
    let mut classes: Vec<(usize, f64)> = planned.iter().map(|(class, rate, _)| (*class, *rate)).collect();
    let raised = forecast.and_then(|_| floors::raise(policy, model, &mut classes, ahead));
    ModelKnown {
        offered,
        classes,
        waits: planned.iter().map(|(.., wait)| *wait).collect(),
        raised,
        floor: floors::of_model(policy, model, ahead),
        forecast,
        lasting,
        horizon_seconds,
        buckets: memory.shapes.buckets(model.expected_shape),
        mean: memory.shapes.mean(model.expected_shape),
        traffic: Traffic::default(),
        knowledge: if parts.iter().all(|p| p.ready.value.is_none() && p.arrival_rate.value.is_none()) {
            Knowledge::None
        } else {
            knowledge
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::from_text;

    const POLICY: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  accelerators: [{name: h100, type: H100, pricePerHour: 3, stock: 8}]
  classes: [{name: chat, percentile: 99, ttft: 2s, itl: 80ms}]
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: m, namespace: n}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: chat}]
  pools: [{name: p, accelerator: h100}]
";

    /// Each of many replicas sees less of the bursts than one that sees all.
    #[test]
    fn bursts_are_planned_for_and_split_among_replicas() {
        let policy = from_text("p.yaml", POLICY).unwrap();
        let model = &policy.models[0];
        let mut state = State::default();
        let planned = |state: &State, replicas| traffic(&mut state.clone(), model, 60.0, replicas).burstiness;
        assert_eq!(planned(&state, 1), 1.0, "nothing was seen");
        let memory = state.models.entry(model.id()).or_default();
        // Counts of 600 that differ by about 98 from one minute to the next: as if requests came eight at a time.
        for minute in 0..100u32 {
            let off = f64::from((minute * 7) % 11) - 5.0;
            memory.rates.note(60.0 * f64::from(minute + 1), (600.0 + 22.0 * off) / 60.0);
        }
        let (one, four, many) = (planned(&state, 1), planned(&state, 4), planned(&state, 40));
        assert!(
            (4.0..=MOST_BURSTINESS).contains(&one) && four < one && four >= 2.0 && many == 1.0,
            "{one} {four} {many}"
        );
    }
}
