//! Finds windows in which a pool was steady, and lets its calibration learn from them.

use serde::{Deserialize, Serialize};

use super::learn::PoolKnown;
use crate::control::State;
use crate::observe::{Finding, FindingKind, Observation, PoolObservation, Quality, Signal};
use crate::perf::live::{Calibration, Prior, Sample};
use crate::perf::{Evidence, Parameters, Shape};
use crate::policy::{Policy, Pool};
use crate::safety::Knowledge;

/// Arrivals and completions of a steady pool differ by no more than this share.
const STEADY: f64 = 0.25;
/// KV use from which requests are thrown out and computed again: times say nothing of the server then.
const FULL: f64 = 0.9;
/// Queued requests per replica from which the time to first token is waiting.
const QUEUED: f64 = 0.5;
/// Spread with which a corrected pool counts as known from life.
const KNOWN: f64 = 0.09;

/// What is remembered of a pool's correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveMemory {
    pub calibration: Calibration,
    /// Replicas that were ready, and since when there are as many, seconds.
    ready: u32,
    since_seconds: f64,
}

/// Learn from this observation; says whose figures are wrong.
pub(super) fn calibrate(
    policy: &Policy,
    observation: &Observation,
    pools: &[PoolKnown],
    state: &mut State,
    now_seconds: f64,
) -> Vec<Finding> {
    let mut findings = vec![];
    for ((pool, known), seen) in policy.pools.iter().zip(pools).zip(&observation.pools) {
        let hit = state.pools.get(&pool.id()).and_then(|m| m.prefix_hit_ratio).unwrap_or(0.0);
        let prior = Prior::of(pool.evidence);
        let fresh = || LiveMemory {
            calibration: Calibration::new(pool.parameters, prior),
            ready: 0,
            since_seconds: now_seconds,
        };
        let memory = state.live.entry(pool.id()).or_insert_with(fresh);
        if !memory.calibration.fits(&pool.parameters, prior) {
            *memory = fresh();
        }
        let window = policy.planner.window_seconds;
        if is_steady(memory, known, window, now_seconds)
            && let Some(sample) = sample(pool, known, seen, hit)
        {
            let last = memory.calibration.last_seconds();
            // Windows that overlap would count the same requests twice.
            if last.is_none_or(|last| sample.at_seconds >= last + window) {
                memory.calibration.observe(&sample);
            }
        }
        findings.extend(drift(pool, &memory.calibration));
    }
    findings
}

/// As many replicas as a window ago, all of them ready and seen.
fn is_steady(memory: &mut LiveMemory, known: &PoolKnown, window_seconds: f64, now_seconds: f64) -> bool {
    let ready = known.ready.unwrap_or(0);
    let whole = known.knowledge == Knowledge::Full && known.starting == Some(0) && ready > 0;
    if !whole || ready != memory.ready || now_seconds < memory.since_seconds {
        (memory.ready, memory.since_seconds) = (if whole { ready } else { 0 }, now_seconds);
    }
    whole && now_seconds - memory.since_seconds >= window_seconds
}

/// The window as one replica saw it; `None` when it says nothing about the server.
fn sample(pool: &Pool, known: &PoolKnown, seen: &PoolObservation, prefix_hit_ratio: f64) -> Option<Sample> {
    let replicas = f64::from(known.ready?);
    let arrivals = fresh(&seen.arrival_rate)?;
    let completions = fresh(&seen.completion_rate)?;
    let (itl, ttft) = (seen.itl.trusted()?, seen.ttft.trusted()?);
    let (input, output) = (seen.input_tokens.trusted()?, seen.output_tokens.trusted()?);
    let full = fresh(&seen.kv_usage).is_some_and(|used| *used > FULL);
    if *arrivals <= 0.0 || (arrivals - completions).abs() > STEADY * arrivals || full {
        return None;
    }
    let queued = seen.waiting.trusted().is_none_or(|waiting| *waiting > QUEUED * replicas);
    Some(Sample {
        at_seconds: seen.itl.at_seconds,
        rate: completions / replicas,
        requests: itl.count,
        shape: Shape { input_tokens: input.mean()?, output_tokens: output.mean()? },
        prefix_hit_ratio: prefix_hit_ratio.clamp(0.0, 0.95),
        limits: pool.limits,
        itl_seconds: itl.mean()?,
        ttft_seconds: ttft.mean().filter(|_| !queued),
    })
}

/// Measured now and not at rest.
fn fresh<T>(signal: &Signal<T>) -> Option<&T> {
    signal.value.as_ref().filter(|_| signal.quality == Quality::Fresh)
}

fn drift(pool: &Pool, calibration: &Calibration) -> Option<Finding> {
    let drift = calibration.drift()?;
    let message = format!(
        "its servers need {:.2} times the time per token that their figures say, more than {} evidence is ever off \
         ({:.2} times, either way); check accelerator, model, formats and `parallelism` in the policy, or measure the \
         server and give it a profile; the number follows what is seen meanwhile",
        drift.factor,
        pool.evidence.as_str(),
        drift.allowed
    );
    Some(Finding { kind: FindingKind::ModelDrift, subject: pool.id(), message })
}

/// Parameters and rung of a pool after what was seen of it; `base` is the rung without.
pub(super) fn corrected(pool: &Pool, base: Evidence, state: &State) -> (Parameters, Evidence) {
    let fits = |memory: &&LiveMemory| memory.calibration.fits(&pool.parameters, Prior::of(pool.evidence));
    match state.live.get(&pool.id()).filter(fits) {
        Some(memory) if memory.calibration.windows() > 0 => {
            let known = memory.calibration.spread().is_some_and(|spread| spread <= KNOWN);
            (memory.calibration.corrected(), if known { Evidence::Live } else { base })
        }
        _ => (pool.parameters, base),
    }
}
