//! Finds windows in which a pool was steady, and lets its calibration learn from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::learn::PoolKnown;
use super::limits::limits_of;
use crate::control::State;
use crate::control::decision::LiveCorrection;
use crate::observe::{Finding, FindingKind, Histogram, Observation, PoolObservation, Quality, Signal};
use crate::perf::live::{Calibration, Experience, Prior, Sample, Seen};
use crate::perf::{Evidence, Limits, Replica, Shape};
use crate::policy::{Policy, Pool};

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
    /// What its replicas carried in time.
    #[serde(default)]
    pub experience: Experience,
    /// Replicas that were ready, and since when there are as many, seconds.
    ready: u32,
    since_seconds: f64,
}

impl LiveMemory {
    fn new(pool: &Pool, now_seconds: f64) -> Self {
        let calibration = Calibration::new(pool.parameters, Prior::of(pool.evidence));
        Self { calibration, experience: Experience::default(), ready: 0, since_seconds: now_seconds }
    }

    /// Whether this is about the figures that the pool has now.
    fn fits(&self, pool: &Pool) -> bool {
        self.calibration.fits(&pool.parameters, Prior::of(pool.evidence)) && self.since_seconds.is_finite()
    }
}

/// Stored corrections, those left out that this version cannot read: they are learnt again within minutes, and the
/// rest of the state is not.
pub(in crate::control) fn readable<'de, D: Deserializer<'de>>(
    stored: D,
) -> Result<BTreeMap<String, LiveMemory>, D::Error> {
    let stored = BTreeMap::<String, serde_json::Value>::deserialize(stored)?;
    Ok(stored.into_iter().filter_map(|(id, memory)| Some((id, serde_json::from_value(memory).ok()?))).collect())
}

/// Learn from this observation; says whose figures are wrong.
pub(super) fn calibrate(
    policy: &Policy,
    observation: &Observation,
    pools: &mut [PoolKnown],
    state: &mut State,
    now_seconds: f64,
) -> Vec<Finding> {
    let mut findings = vec![];
    let absent = PoolObservation::default();
    for (p, (pool, known)) in policy.pools.iter().zip(pools).enumerate() {
        let seen = observation.pools.get(p).unwrap_or(&absent);
        let remembered = state.pools.get(&pool.id());
        let hit = remembered.and_then(|m| m.prefix_hit_ratio).unwrap_or(0.0);
        let limits = limits_of(pool, remembered).limits;
        let memory = state.live.entry(pool.id()).or_insert_with(|| LiveMemory::new(pool, now_seconds));
        if !memory.fits(pool) {
            *memory = LiveMemory::new(pool, now_seconds);
        }
        memory.calibration.pass(now_seconds);
        let window = policy.planner.window_seconds;
        let rate = known.ready.filter(|ready| *ready > 0).zip(fresh(&seen.arrival_rate));
        let rate = rate.map(|(ready, rate)| rate / f64::from(ready));
        let whole = observation.source_error.is_none() && is_whole(seen, known);
        let steady = is_steady(memory, known.ready.filter(|_| whole), window, now_seconds);
        let all_seen = observation.source_error.is_none() && seen.silent == 0;
        if let Some(window) = rate.filter(|_| all_seen).and_then(|rate| lived(&memory.experience, seen, rate, window)) {
            memory.experience.observe(&window, policy.planner.error_budget_use);
        }
        if steady && let Some(sample) = sample(pool, known, seen, hit, limits) {
            let last = memory.calibration.last_seconds();
            // Windows that overlap would count the same requests twice.
            if last.is_none_or(|last| sample.at_seconds >= last + window) {
                memory.calibration.observe(&sample);
            }
        }
        findings.extend(drift(pool, &memory.calibration));
        known.live = correction(&memory.calibration);
    }
    findings
}

/// The correction as it is shown; `None` while there is none.
fn correction(calibration: &Calibration) -> Option<LiveCorrection> {
    let rounded = |factor: f64| (factor * 1e3).round() / 1e3;
    let factors = calibration.factors();
    (calibration.windows() > 0).then(|| LiveCorrection {
        iteration: rounded(factors.iteration),
        tokens: rounded(factors.tokens),
        kv: rounded(factors.kv),
        itl: rounded(calibration.factor()),
        spread: 0.0,
        windows: calibration.windows(),
        drift: calibration.drift().is_some(),
    })
}

/// Every replica is ready and seen; what other pools of the model do is no matter.
fn is_whole(seen: &PoolObservation, known: &PoolKnown) -> bool {
    fresh(&seen.ready).is_some_and(|ready| *ready > 0) && seen.silent == 0 && known.starting == Some(0)
}

/// As many replicas as a window ago; `ready` is `None` while not all of them are ready and seen.
fn is_steady(memory: &mut LiveMemory, ready: Option<u32>, window_seconds: f64, now_seconds: f64) -> bool {
    let count = ready.unwrap_or(0);
    if ready.is_none() || count != memory.ready || now_seconds < memory.since_seconds {
        (memory.ready, memory.since_seconds) = (count, now_seconds);
    }
    ready.is_some() && now_seconds - memory.since_seconds >= window_seconds
}

/// The window as one replica saw it; `None` when it says nothing about the server.
fn sample(
    pool: &Pool,
    known: &PoolKnown,
    seen: &PoolObservation,
    prefix_hit_ratio: f64,
    limits: Limits,
) -> Option<Sample> {
    let replicas = f64::from(known.ready?);
    let arrivals = fresh(&seen.arrival_rate)?;
    let completions = fresh(&seen.completion_rate)?;
    let (itl, ttft) = (seen.itl.trusted()?, seen.ttft.trusted()?);
    let (input, output) = (seen.input_tokens.trusted()?, seen.output_tokens.trusted()?);
    let full = fresh(&seen.kv_usage).is_some_and(|used| *used > FULL);
    if *arrivals <= 0.0 || (arrivals - completions).abs() > STEADY * arrivals || full {
        return None;
    }
    let shape = Shape { input_tokens: input.mean()?, output_tokens: output.mean()? };
    let prefix_hit_ratio = prefix_hit_ratio.clamp(0.0, 0.95);
    let here = pool.paper.as_ref().map_or(pool.parameters, |paper| paper.parameters(&shape));
    let queued = seen.waiting.trusted().is_none_or(|waiting| *waiting > QUEUED * replicas);
    Some(Sample {
        at_seconds: seen.itl.at_seconds,
        rate: completions / replicas,
        requests: itl.count,
        shape,
        prefix_hit_ratio,
        limits,
        usual: pool.parameters,
        here: here.for_prompts(shape.input_tokens, shape.input_tokens * (1.0 - prefix_hit_ratio)),
        itl_seconds: itl.mean()?,
        ttft_seconds: ttft.mean().filter(|_| !queued),
    })
}

/// The window's requests, `rate` of them a second on each replica, and how many were late. The servers report both
/// latencies apart, so those late by one and those late by the other count as different ones. Inside a bucket
/// observations are taken to be spread evenly, which counts too many as late where they become fewer towards its end.
fn lived(experience: &Experience, seen: &PoolObservation, rate: f64, window_seconds: f64) -> Option<Seen> {
    let targets = experience.targets()?;
    let (ttft, itl) = (seen.ttft.trusted()?, seen.itl.trusted()?);
    let beyond = |histogram: &Histogram, target: Option<f64>| match target {
        Some(target) => Some(1.0 - histogram.share_at_or_below(target)?),
        None => Some(0.0),
    };
    let late = beyond(ttft, targets.0)? + beyond(itl, targets.1)?;
    Some(Seen { at_seconds: seen.itl.at_seconds, window_seconds, rate, requests: ttft.count.max(itl.count), late })
}

/// Measured now and not at rest.
fn fresh<T>(signal: &Signal<T>) -> Option<&T> {
    signal.value.as_ref().filter(|_| signal.quality == Quality::Fresh)
}

fn drift(pool: &Pool, calibration: &Calibration) -> Option<Finding> {
    let drift = calibration.drift()?;
    let whose = if pool.evidence >= Evidence::Curve { "profile" } else { "estimate" };
    let message = format!(
        "measured ITL is {:.2}x what its {whose} says, more than {} evidence may be off ({:.2}x, either way): check \
         accelerator, model, weight format and `parallelism` in the policy, or measure the server, run `poolwright \
         fit` on the points and give the pool the new profile; the plan follows what is measured meanwhile",
        drift.factor,
        pool.evidence.as_str(),
        drift.allowed,
    );
    Some(Finding { kind: FindingKind::ModelDrift, subject: pool.id(), message })
}

/// A replica after what was seen of its pool: the parameters that its servers showed, the reserve that is still
/// needed, and the rung.
pub(super) fn corrected(pool: &Pool, replica: Replica, state: &State) -> Replica {
    let memory = state.live.get(&pool.id()).filter(|memory| memory.fits(pool));
    let Some(calibration) = memory.map(|m| &m.calibration).filter(|c| c.windows() > 0) else { return replica };
    let is_known = calibration.spread().is_some_and(|spread| spread <= KNOWN);
    Replica {
        parameters: calibration.corrected(),
        spread: calibration.reserve(replica.spread),
        evidence: if is_known { Evidence::Live } else { replica.evidence },
        ..replica
    }
}
