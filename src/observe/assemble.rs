//! From readings to the observation: the one place where measured becomes known, and where doubt is written down.
//!
//! Both sources end here, so that they cannot judge differently. Pure: readings, policy and time in, observation
//! out. The rules: a value outside its range is not used; a part of the instances is `stale`, not less; zero
//! needs evidence.

use std::collections::BTreeSet;

use super::assign::{Assigned, assign};
use super::cluster::{self, PoolCluster, PoolState};
use super::dialect::Measure;
use super::plausible::{self, Refusal};
use super::reading::{Findings, Meta, Reading, ReplicaEvidence, State};
use super::window::Distributions;
use super::{FindingKind, Histogram, Observation, PoolObservation, Quality, Signal};
use crate::policy::{Policy, Pool};

/// Share of the window that must have been watched before standstill counts as idleness.
const IDLE_COVERAGE: f64 = 0.7;

/// Sample times may lead the clock by this much, seconds.
const SKEW_TOLERANCE_SECONDS: f64 = 2.0;

/// Samples older than this are not late: one of the two clocks is wrong.
const SKEW_AGE_SECONDS: f64 = 600.0;

/// Judge the readings of one look.
pub fn assemble(policy: &Policy, readings: Vec<Reading>, meta: Meta, now_seconds: f64) -> Observation {
    let of_cluster = meta.cluster.iter().flat_map(|state| &state.findings);
    let mut findings: Findings = meta.findings.iter().chain(of_cluster).cloned().collect();
    let known = |index: usize| meta.cluster.as_ref().and_then(|state| state.pools.get(index));
    let missing = |(index, pool): (usize, &Pool)| PoolObservation {
        pool: pool.id(),
        cluster: known(index).map(|known| known.report.clone()),
        ..PoolObservation::default()
    };
    let pools = if let Some(error) = &meta.source_error {
        findings.add(FindingKind::SourceFailed, "source", error.clone());
        policy.pools.iter().enumerate().map(missing).collect()
    } else {
        let readings = match &meta.cluster {
            Some(state) => cluster::settle(policy, state, readings),
            None => readings,
        };
        let Assigned { pools, doubtful } = assign(policy, readings, meta.cluster.as_ref(), &mut findings);
        let judge = |(index, readings): (usize, Vec<Reading>)| {
            let look = Look {
                policy,
                pool: &policy.pools[index],
                readings: &readings,
                evidence: known(index).and_then(|k| k.evidence).or_else(|| meta.replicas.get(&index).copied()),
                cluster: meta.cluster.as_ref().map(|_| known(index)),
                listing_complete: meta.listing_complete && !doubtful.contains(&index),
                meta: &meta,
                now_seconds,
            };
            let observation = look.observe(&mut findings);
            PoolObservation { cluster: known(index).map(|known| reported(known, &meta, index)), ..observation }
        };
        pools.into_iter().enumerate().map(judge).collect()
    };
    Observation { at_seconds: now_seconds, source_error: meta.source_error, pools, findings: findings.finish() }
}

/// What the cluster says; a metric about it stands in for what is wanted.
fn reported(known: &PoolState, meta: &Meta, index: usize) -> PoolCluster {
    let wanted = known.report.wanted.or_else(|| meta.replicas.get(&index)?.wanted);
    PoolCluster { wanted, ..known.report.clone() }
}

/// Everything about one pool.
struct Look<'a> {
    policy: &'a Policy,
    pool: &'a Pool,
    readings: &'a [Reading],
    evidence: Option<ReplicaEvidence>,
    /// What a watched cluster says of the pool: `None` without a cluster, `Some(None)` when it says nothing.
    cluster: Option<Option<&'a PoolState>>,
    listing_complete: bool,
    meta: &'a Meta,
    now_seconds: f64,
}

/// The instances of a pool and how far they can be trusted.
struct Standing {
    ready: u32,
    starting: u32,
    silent: u32,
    /// Time of the oldest reading used.
    at_seconds: f64,
    /// Something is missing or too old: values are those of a part of the pool.
    partial: bool,
}

impl Standing {
    /// Metrics about the cluster lag behind the pods: they may add to what was seen, not take away.
    fn compare(&mut self, evidence: &ReplicaEvidence) {
        let ready_there = evidence.ready.unwrap_or(self.ready);
        self.silent = self.silent.max(ready_there.saturating_sub(self.ready));
        self.partial |= ready_there > self.ready;
        if let Some(wanted) = evidence.wanted {
            self.starting = wanted.saturating_sub(self.ready.max(ready_there));
        }
    }

    /// The cluster's own word: ready, silent and starting replicas add up to those that are wanted. Surge of a
    /// rolling update is no capacity, it goes; what is wanted and not ready is starting, once.
    fn count(&mut self, evidence: &ReplicaEvidence) {
        // Of surge pods that serve unmeasured, the load is missing.
        self.partial |= evidence.ready.is_some_and(|ready| ready > self.ready);
        let most = evidence.wanted.unwrap_or(u32::MAX);
        let ready_there = evidence.ready.unwrap_or(self.ready.saturating_add(self.silent)).min(most);
        self.ready = self.ready.min(ready_there);
        self.silent = ready_there - self.ready;
        self.partial |= self.silent > 0;
        if let Some(wanted) = evidence.wanted {
            self.starting = wanted - ready_there;
        }
    }
}

impl Look<'_> {
    fn observe(&self, findings: &mut Findings) -> PoolObservation {
        let standing = self.standing(findings);
        let anybody = self.readings.iter().any(|r| matches!(r.state, State::Live | State::Silent));
        if standing.ready == 0 && standing.silent == 0 && !(anybody && standing.partial) {
            return self.without_instances(&standing, findings);
        }
        if !anybody {
            let message =
                format!("the cluster counts {} ready replicas, but no series of them was found", standing.silent);
            findings.add(FindingKind::NoSeries, self.pool.id(), message);
        }
        let quality = if standing.partial { Quality::Stale } else { Quality::Fresh };
        let at = standing.at_seconds;
        let signal = |value: Option<f64>, complete: bool| match value {
            Some(value) if complete => Signal { value: Some(value), at_seconds: at, quality },
            Some(value) => Signal::stale(value, at),
            None => Signal::missing(),
        };
        let (running, running_complete) = self.gauge(Measure::Running, |r| r.running, findings);
        let (waiting, waiting_complete) = self.gauge(Measure::Waiting, |r| r.waiting, findings);
        let (kv_usage, kv_complete) = self.gauge(Measure::KvUsage, |r| r.kv_usage, findings);
        let (arrivals, arrivals_complete) = self.rate(|i| i.arrivals);
        let (completions, completions_complete) = self.rate(|i| Some(i.completions));
        let mut observation = PoolObservation {
            pool: self.pool.id(),
            ready: if standing.ready == 0 && !self.fresh_evidence().is_some_and(|e| e.watched) {
                Signal::missing()
            } else {
                Signal { value: Some(standing.ready), at_seconds: at, quality }
            },
            starting: Signal { value: Some(standing.starting), at_seconds: at, quality },
            silent: standing.silent,
            arrival_rate: signal(arrivals.map(|rate| rate.max(0.0)), arrivals_complete),
            completion_rate: signal(completions, completions_complete),
            running: signal(running.as_ref().map(|v| v.iter().sum()), running_complete),
            waiting: signal(waiting.as_ref().map(|v| v.iter().sum()), waiting_complete),
            kv_usage: signal(kv_usage.as_ref().and_then(|v| mean(v)), kv_complete),
            kv_capacity_tokens: signal(self.kv_capacity(findings), true),
            ..PoolObservation::default()
        };
        self.distributions(&mut observation, at, quality, findings);
        if !standing.partial && self.idle(&observation) {
            observation.arrival_rate = Signal::idle(0.0, at);
            observation.completion_rate = Signal::idle(0.0, at);
            observation.running = Signal::idle(0.0, at);
            observation.waiting = Signal::idle(0.0, at);
        }
        observation
    }

    fn of(&self, state: State) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |r| r.state == state)
    }

    /// Count instances (ranks of one instance once) and judge their age.
    fn standing(&self, findings: &mut Findings) -> Standing {
        let here = |state| self.of(state).filter(|r| !r.leaving);
        let count = |state| here(state).map(Reading::identity).collect::<BTreeSet<_>>().len();
        let [ready, starting, silent] =
            [State::Live, State::Starting, State::Silent].map(|state| u32::try_from(count(state)).unwrap_or(u32::MAX));
        for reading in self.of(State::Silent) {
            let why = reading.error.as_deref().unwrap_or("it is listed and answered before");
            let message = format!("did not answer: {why}; pool {} is known in part only", self.pool.id());
            findings.add(FindingKind::InstanceSilent, reading.identity(), message);
        }
        for reading in self.readings.iter().filter(|r| r.increments.as_ref().is_some_and(|i| i.restarted)) {
            let message = "a counter went back: the server restarted; counted from zero since then";
            findings.add(FindingKind::CounterReset, reading.identity(), message);
        }
        self.refusals(findings);
        let stale_after = self.policy.planner.stale_after_seconds;
        let oldest =
            here(State::Live).map(|r| self.age(r, findings)).fold(None, |a, b| Some(f64::max(a.unwrap_or(b), b)));
        let late = oldest.is_some_and(|age| age > stale_after);
        let mut standing = Standing {
            ready,
            starting,
            silent,
            at_seconds: self.now_seconds - oldest.unwrap_or(0.0),
            partial: silent > 0 || late || self.meta.partial || self.is_held(),
        };
        if oldest.is_none() {
            // Nobody answered: what is known is as old as the last answer of the silent ones.
            let newest = self.of(State::Silent).map(|r| r.at_seconds).fold(f64::NEG_INFINITY, f64::max);
            standing.at_seconds = if newest.is_finite() { newest.min(self.now_seconds) } else { self.now_seconds };
        }
        match self.fresh_evidence() {
            Some(evidence) if evidence.watched => standing.count(&evidence),
            Some(evidence) => standing.compare(&evidence),
            None => {}
        }
        standing
    }

    /// A cluster is watched, and says nothing of this pool now.
    fn is_held(&self) -> bool {
        self.cluster.is_some() && !self.fresh_evidence().is_some_and(|e| e.watched)
    }

    /// Seconds since the sample of a reading; a time in the future counts as just as far in the past.
    fn age(&self, reading: &Reading, findings: &mut Findings) -> f64 {
        let age = self.now_seconds - reading.at_seconds;
        if age < -SKEW_TOLERANCE_SECONDS || age.abs() > SKEW_AGE_SECONDS || !age.is_finite() {
            let direction = if age < 0.0 { "ahead of" } else { "behind" };
            let message =
                format!("its samples are {:.0} s {direction} this machine's clock; synchronise the clocks", age.abs());
            findings.add(FindingKind::ClockSkew, reading.identity(), message);
        }
        if age.is_finite() { age.abs() } else { f64::MAX }
    }

    fn fresh_evidence(&self) -> Option<ReplicaEvidence> {
        let limit = self.policy.planner.stale_after_seconds;
        self.evidence.filter(|e| (self.now_seconds - e.at_seconds).abs() <= limit)
    }

    /// No instance answers and none has answered: zero needs evidence.
    fn without_instances(&self, standing: &Standing, findings: &mut Findings) -> PoolObservation {
        let id = self.pool.id();
        let now = self.now_seconds;
        let mut observation = PoolObservation { pool: id.clone(), ..PoolObservation::default() };
        let from_cluster = self.fresh_evidence().and_then(|e| e.ready) == Some(0);
        let from_listing = self.listing_complete && (standing.starting == 0 || self.meta.at_zero.contains(&id));
        if (from_cluster || from_listing) && !standing.partial {
            observation.ready = Signal::fresh(0, now);
            observation.starting = Signal::fresh(standing.starting, now);
            // The last instance may have gone within the window: what it was asked for is still demand.
            let sum = |rate: (Option<f64>, bool)| rate.0.filter(|r| *r > 0.0);
            let measured = |rate: Option<f64>| rate.map_or(Signal::idle(0.0, now), |rate| Signal::fresh(rate, now));
            observation.arrival_rate = measured(sum(self.rate(|i| i.arrivals)));
            observation.completion_rate = measured(sum(self.rate(|i| Some(i.completions))));
            observation.running = Signal::idle(0.0, now);
            observation.waiting = Signal::idle(0.0, now);
            return observation;
        }
        let message = if standing.starting > 0 {
            observation.starting = Signal::fresh(standing.starting, now);
            format!("{} listed instances have never answered; whether they serve is unknown", standing.starting)
        } else {
            "no series of this pool was found and nothing proves that it has no replica; \
             check namespace, model name and `series` conditions"
                .to_owned()
        };
        findings.add(FindingKind::NoSeries, id, message);
        observation
    }

    /// Plausible values of a gauge over the live instances, and whether all had one.
    fn gauge(
        &self,
        measure: Measure,
        of: impl Fn(&Reading) -> Option<f64>,
        findings: &mut Findings,
    ) -> (Option<Vec<f64>>, bool) {
        let mut complete = true;
        let mut values = Vec::new();
        for reading in self.of(State::Live).filter(|r| !self.has_left(r)) {
            match of(reading).map(|value| plausible::gauge(measure, value)) {
                Some(Ok(value)) => values.push(value),
                Some(Err(refusal)) => {
                    complete = false;
                    refused(reading, &refusal, findings);
                }
                None => complete = false,
            }
        }
        ((!values.is_empty()).then_some(values), complete)
    }

    /// Rate per second summed over the instances, and whether every live one has it.
    fn rate(&self, of: impl Fn(&super::window::Increments) -> Option<f64>) -> (Option<f64>, bool) {
        let mut complete = true;
        let mut total = None;
        for reading in self.readings.iter().filter(|r| !matches!(r.state, State::Group | State::Starting)) {
            let usable = reading.increments.as_ref().filter(|i| !i.absurd && i.span_seconds > 0.0);
            let rate = usable.and_then(|i| Some(of(i)? / i.span_seconds)).filter(|r| r.is_finite());
            match rate {
                Some(rate) => *total.get_or_insert(0.0) += rate,
                None => complete &= reading.state != State::Live || self.has_left(reading),
            }
        }
        (total, complete)
    }

    /// The cluster says that the instance goes, and its samples have ended: a Prometheus that was killed repeats the
    /// last ones for minutes. Nobody sends it anything any more.
    fn has_left(&self, reading: &Reading) -> bool {
        let age = self.now_seconds - reading.at_seconds;
        reading.leaving && age > self.policy.planner.stale_after_seconds
    }

    /// Smallest capacity over the instances, ranks of one instance added up.
    fn kv_capacity(&self, findings: &mut Findings) -> Option<f64> {
        let mut by_instance = std::collections::BTreeMap::<String, f64>::new();
        for reading in self.of(State::Live) {
            match reading.kv_capacity_tokens.map(|value| plausible::gauge(Measure::KvCapacity, value)) {
                Some(Ok(tokens)) => *by_instance.entry(reading.identity()).or_default() += tokens,
                Some(Err(refusal)) => refused(reading, &refusal, findings),
                None => {}
            }
        }
        by_instance.into_values().min_by(f64::total_cmp)
    }

    fn distributions(&self, to: &mut PoolObservation, at: f64, quality: Quality, findings: &mut Findings) {
        let merged = |of: fn(&Distributions) -> Option<&Histogram>| {
            let mut all = self.readings.iter().filter_map(|r| of(&r.distributions));
            let mut total = all.next()?.clone();
            all.for_each(|histogram| total.add(histogram));
            Some(total)
        };
        let signal = |value: Option<Histogram>| match value {
            Some(histogram) => Signal { value: Some(histogram), at_seconds: at, quality },
            None => Signal::missing(),
        };
        to.ttft = signal(merged(|d| d.ttft.as_ref()));
        to.itl = signal(merged(|d| d.itl.as_ref()));
        to.input_tokens = signal(merged(|d| d.input_tokens.as_ref()));
        to.output_tokens = signal(merged(|d| d.output_tokens.as_ref()));
        let sum =
            |of: fn(&Distributions) -> Option<f64>| self.readings.iter().filter_map(|r| of(&r.distributions)).sum();
        let (hits, queries): (f64, f64) = (sum(|d| d.prefix_hits), sum(|d| d.prefix_queries));
        if queries > 0.0 {
            if (0.0..=queries * 1.001).contains(&hits) {
                to.prefix_hit_ratio = Signal { value: Some((hits / queries).min(1.0)), at_seconds: at, quality };
            } else {
                let message = format!("{hits} prefix cache hits in {queries} look-ups cannot be");
                findings.add(FindingKind::Implausible, self.pool.id(), message);
            }
        }
    }

    /// Every live instance was watched for most of the window, and nothing moved.
    fn idle(&self, observation: &PoolObservation) -> bool {
        let enough = IDLE_COVERAGE * self.policy.planner.window_seconds;
        let still = |r: &Reading| match &r.increments {
            Some(i) => !i.moved && !i.absurd && i.span_seconds >= enough,
            None => r.state != State::Live,
        };
        let zero = |signal: &Signal<f64>| signal.trusted() == Some(&0.0);
        zero(&observation.arrival_rate)
            && zero(&observation.running)
            && zero(&observation.waiting)
            && self.readings.iter().filter(|r| !matches!(r.state, State::Group | State::Starting)).all(still)
    }

    fn refusals(&self, findings: &mut Findings) {
        for reading in self.readings {
            for refusal in &reading.refused {
                refused(reading, refusal, findings);
            }
            if reading.increments.as_ref().is_some_and(|i| i.absurd) {
                let message = "its counters grew by more than any server can serve; its rates are not used";
                findings.add(FindingKind::Implausible, reading.identity(), message);
            }
        }
    }
}

fn refused(reading: &Reading, refusal: &Refusal, findings: &mut Findings) {
    let identity = reading.identity();
    let message = refusal.sentence(&identity);
    findings.add(FindingKind::Implausible, format!("{identity} {}", refusal.measure.as_str()), message);
}

fn mean(values: &[f64]) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // Instances, not astronomy.
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
