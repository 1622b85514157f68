//! From the answers of Prometheus to readings: joins the series of one instance and decides what lives.
//!
//! No network and no query text. An instance lives when its series is in the instant answer (Prometheus ends the
//! series of a target that fails or disappears); `up` tells a target that fails from one that is gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::Histogram;
use super::dialect::{Capacity, Dialect, Kind, Measure};
use super::plausible::{self, MAX_INCREASE, Refusal};
use super::prom_client::{Answer, Series, max_without, sum_without};
use super::promql::{RAW_SPAN, SUM_MARK, Topic};
use super::reading::{INSTANCE_LABEL, Labels, POD_LABEL, Reading, ReplicaEvidence, State};
use super::snapshot::{Snapshot, cumulative};
use super::window::{Ring, Window};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// The name of the metric, where a query keeps it.
const NAME_LABEL: &str = "__name__";

/// Labels that identify a scrape target over all its metrics.
const TARGET_LABELS: [&str; 4] = [NAMESPACE_LABEL, POD_LABEL, INSTANCE_LABEL, "job"];

type TargetKey = [String; 4];

fn target_key(labels: &Labels) -> TargetKey {
    TARGET_LABELS.map(|name| labels.get(name).cloned().unwrap_or_default())
}

fn without(labels: &Labels, names: &[&str]) -> Labels {
    labels.iter().filter(|(n, _)| !names.contains(&n.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// The answers of one look, by topic.
#[derive(Debug, Default)]
pub struct Answers(pub BTreeMap<Topic, Answer>);

impl Answers {
    fn series(&self, topic: Topic) -> &[Series] {
        self.0.get(&topic).map_or(&[], |answer| answer.series.as_slice())
    }

    /// Series of a gauge, those that repeat another left out.
    fn originals(&self, dialect: &Dialect, topic: Topic) -> Cow<'_, [Series]> {
        let all = self.series(topic);
        if dialect.copy_labels.is_empty() {
            return Cow::Borrowed(all);
        }
        let originals = max_without(all, dialect.copy_labels).into_iter();
        originals.map(|(labels, samples)| Series { labels, samples }).collect()
    }

    /// Newest value of each target.
    fn by_target(&self, topic: Topic) -> BTreeMap<TargetKey, f64> {
        self.series(topic).iter().filter_map(|s| Some((target_key(&s.labels), s.last()?.1))).collect()
    }
}

/// An instance that was seen alive.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Time of its last sample.
    last_seconds: f64,
    /// Time of its first sample, when it started while it was watched.
    birth_seconds: Option<f64>,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Memory {
    first_look_seconds: Option<f64>,
    known: BTreeMap<Labels, Known>,
}

/// An instance that prints series now.
struct Alive {
    at_seconds: f64,
    ranks: BTreeSet<String>,
}

impl Memory {
    /// Make the readings of one look. `skew_seconds`: how far this machine's clock is behind the server's.
    pub fn look(
        &mut self,
        policy: &Policy,
        dialect: &Dialect,
        answers: &Answers,
        now_seconds: f64,
        skew_seconds: f64,
    ) -> Vec<Reading> {
        let first_look = *self.first_look_seconds.get_or_insert(now_seconds);
        let started = answers.by_target(Topic::Started);
        let mut histories = histories(dialect, answers, &started);
        let alive = alive(dialect, answers);
        let length_seconds = policy.planner.window_seconds;
        let origin_seconds = histories
            .values()
            .filter_map(|history| history.snapshots.first())
            .map(|s| s.at_seconds)
            .fold(now_seconds, f64::min);
        let window = Window { now_seconds, length_seconds, origin_seconds };

        let kv_usage = kv_usage(dialect, answers);
        let kv_capacity = kv_capacity(dialect, answers);
        let alive_targets: BTreeSet<TargetKey> = alive.keys().map(target_key).collect();

        let mut readings = Vec::new();
        for (labels, one) in &alive {
            let History { snapshots, refused } = histories.remove(labels).unwrap_or_default();
            let key = target_key(labels);
            let born = self.meet(labels, one, &snapshots, started.get(&key).copied(), first_look, &window);
            let newest = snapshots.last().cloned().unwrap_or_default();
            let ring = Ring::of(snapshots, born);
            readings.push(Reading {
                at_seconds: one.at_seconds - skew_seconds,
                ranks: one.ranks.clone(),
                running: newest.running,
                waiting: newest.waiting,
                kv_usage: kv_usage.get(labels).copied(),
                kv_capacity_tokens: kv_capacity.get(&key).copied(),
                increments: ring.increments(&window, true),
                refused: refused.into_iter().collect(),
                labels: labels.clone(),
                ..Reading::default()
            });
        }
        self.ended(&alive_targets, answers, histories, &window, skew_seconds, &mut readings);
        readings.extend(self.starting(policy, answers, &alive_targets, now_seconds));
        readings.extend(groups(answers, now_seconds));
        readings
    }

    /// Series that ended: the target fails (silent), or it is not there any more (gone). Where `up` is not kept,
    /// nobody can tell, and an instance is silent until its samples have left the range.
    fn ended(
        &mut self,
        alive: &BTreeSet<TargetKey>,
        answers: &Answers,
        mut histories: BTreeMap<Labels, History>,
        window: &Window,
        skew_seconds: f64,
        readings: &mut Vec<Reading>,
    ) {
        let up = answers.by_target(Topic::Up);
        let up_is_kept =
            answers.0.contains_key(&Topic::Up) && (alive.is_empty() || alive.iter().any(|t| up.contains_key(t)));
        let range_start = window.now_seconds - RAW_SPAN * window.length_seconds;
        self.known.retain(|labels, known| {
            let key = target_key(labels);
            let listed = up.contains_key(&key) || (!up_is_kept && known.last_seconds >= range_start);
            if listed && !alive.contains(&key) {
                let last = Snapshot { at_seconds: known.last_seconds, ..Snapshot::default() };
                let history = histories.entry(labels.clone()).or_default();
                if history.snapshots.is_empty() {
                    history.snapshots.push(last);
                }
            }
            listed || known.last_seconds >= range_start
        });
        for (labels, History { snapshots, .. }) in histories {
            let key = target_key(&labels);
            let silent = (up.contains_key(&key) || !up_is_kept) && !alive.contains(&key);
            let ring = Ring::of(snapshots, false);
            let Some(last) = ring.last().map(|s| s.at_seconds) else { continue };
            let in_window = last > window.start_seconds();
            if !silent && !in_window {
                continue;
            }
            readings.push(Reading {
                state: if silent { State::Silent } else { State::Gone },
                at_seconds: last - skew_seconds,
                increments: if in_window { ring.increments(window, false) } else { None },
                error: silent.then(|| "Prometheus could not scrape it, or its series ended".to_owned()),
                labels,
                ..Reading::default()
            });
        }
    }

    /// Remember a live instance; the answer is whether its first snapshot counts from zero.
    fn meet(
        &mut self,
        labels: &Labels,
        alive: &Alive,
        snapshots: &[Snapshot],
        started: Option<f64>,
        first_look: f64,
        window: &Window,
    ) -> bool {
        let first = snapshots.first().map(|s| s.at_seconds);
        let started = started.filter(|s| *s <= window.now_seconds && first.is_some_and(|first| *s <= first));
        let range_start = window.now_seconds - RAW_SPAN * window.length_seconds;
        let is_new = !self.known.contains_key(labels);
        let known = self.known.entry(labels.clone()).or_insert(Known { last_seconds: 0.0, birth_seconds: None });
        known.last_seconds = alive.at_seconds;
        if is_new && started.is_some_and(|s| s > first_look) {
            known.birth_seconds = first;
        }
        started.is_some_and(|s| s > range_start) || (first.is_some() && known.birth_seconds == first)
    }

    /// Targets that fail and were never seen alive. Only a pool with conditions of its own can claim them: they
    /// have no model label yet, and any workload has an `up`.
    fn starting(
        &self,
        policy: &Policy,
        answers: &Answers,
        alive: &BTreeSet<TargetKey>,
        now_seconds: f64,
    ) -> Vec<Reading> {
        let known: BTreeSet<TargetKey> = self.known.keys().map(target_key).collect();
        let claimed = |labels: &Labels| {
            policy.pools.iter().any(|p| !p.selector.conditions.is_empty() && p.selector.selects(labels))
        };
        let failing = answers.series(Topic::Up).iter().filter(|s| s.last().is_some_and(|(_, value)| value == 0.0));
        failing
            .map(|s| without(&s.labels, &[NAME_LABEL]))
            .filter(|labels| {
                let key = target_key(labels);
                !alive.contains(&key) && !known.contains(&key) && claimed(labels)
            })
            .map(|labels| Reading { labels, state: State::Starting, at_seconds: now_seconds, ..Reading::default() })
            .collect()
    }
}

/// Labels that tell parts of one instance apart, not instances.
fn parts(dialect: &Dialect) -> Vec<&'static str> {
    [NAME_LABEL, dialect.rank_label].into_iter().chain(dialect.split_labels.iter().copied()).collect()
}

/// Series of a measure by instance: ranks and splits added up, the preferred metric name where there are several.
fn by_instance(dialect: &Dialect, answers: &Answers, measure: Measure) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    let drop = parts(dialect);
    let Some(series) = dialect.series(measure) else { return BTreeMap::new() };
    let all = match series.kind {
        Kind::GaugeSum | Kind::GaugeMean => answers.originals(dialect, Topic::Raw(measure)),
        _ => Cow::Borrowed(answers.series(Topic::Raw(measure))),
    };
    let mut result = BTreeMap::new();
    for name in series.names {
        let named = all.iter().filter(|s| s.labels.get(NAME_LABEL).is_none_or(|n| n == name));
        for (labels, samples) in sum_without(named, &drop) {
            result.entry(labels).or_insert(samples);
        }
    }
    result
}

/// The raw samples of one instance.
#[derive(Default)]
struct History {
    /// Oldest first.
    snapshots: Vec<Snapshot>,
    /// A counter that cannot be.
    refused: Option<Refusal>,
}

impl From<BTreeMap<i64, Snapshot>> for History {
    fn from(by_time: BTreeMap<i64, Snapshot>) -> Self {
        let mut history = Self { snapshots: by_time.into_values().collect(), refused: None };
        for snapshot in &mut history.snapshots {
            if let Some(value) = snapshot.completions
                && let Err(refusal) = plausible::counter(Measure::Completions, value)
            {
                snapshot.completions = None;
                history.refused = Some(refusal);
            }
        }
        history
    }
}

/// The snapshots of every instance in the raw answers.
fn histories(dialect: &Dialect, answers: &Answers, started: &BTreeMap<TargetKey, f64>) -> BTreeMap<Labels, History> {
    #[allow(clippy::cast_possible_truncation)] // Milliseconds since 1970 fit.
    let millis = |seconds: f64| (seconds * 1000.0).round() as i64;
    let mut all: BTreeMap<Labels, BTreeMap<i64, Snapshot>> = BTreeMap::new();
    for measure in [Measure::Completions, Measure::Running, Measure::Waiting] {
        for (labels, samples) in by_instance(dialect, answers, measure) {
            let started_seconds = started.get(&target_key(&labels)).copied();
            let instance = all.entry(labels).or_default();
            for (time, value) in samples.into_iter().filter(|(time, _)| time.is_finite()) {
                let snapshot = instance.entry(millis(time)).or_default();
                snapshot.at_seconds = time;
                snapshot.started_seconds = started_seconds;
                match measure {
                    Measure::Completions => snapshot.completions = Some(value),
                    Measure::Running => snapshot.running = Some(value),
                    _ => snapshot.waiting = Some(value),
                }
            }
        }
    }
    all.into_iter().map(|(labels, by_time)| (labels, by_time.into())).collect()
}

fn alive(dialect: &Dialect, answers: &Answers) -> BTreeMap<Labels, Alive> {
    let mut alive: BTreeMap<Labels, Alive> = BTreeMap::new();
    for series in answers.originals(dialect, Topic::Live).iter() {
        let Some((_, time)) = series.last().filter(|(_, time)| time.is_finite()) else { continue };
        let one = alive
            .entry(without(&series.labels, &parts(dialect)))
            .or_insert_with(|| Alive { at_seconds: time, ranks: BTreeSet::new() });
        one.at_seconds = one.at_seconds.min(time);
        one.ranks.extend(series.labels.get(dialect.rank_label).cloned());
    }
    alive
}

/// Mean over the ranks of each instance.
fn kv_usage(dialect: &Dialect, answers: &Answers) -> BTreeMap<Labels, f64> {
    let mut sums: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
    for series in answers.originals(dialect, Topic::Now(Measure::KvUsage)).iter() {
        let Some((_, value)) = series.last() else { continue };
        let sum = sums.entry(without(&series.labels, &parts(dialect))).or_default();
        *sum = (sum.0 + value, sum.1 + 1.0);
    }
    sums.into_iter().map(|(labels, (sum, n))| (labels, sum / n)).collect()
}

/// Sum over the ranks of each target.
fn kv_capacity(dialect: &Dialect, answers: &Answers) -> BTreeMap<TargetKey, f64> {
    let mut sums = BTreeMap::new();
    for series in answers.originals(dialect, Topic::Now(Measure::KvCapacity)).iter() {
        let tokens = match dialect.capacity {
            Capacity::Labels { .. } => dialect.capacity.tokens(|name| series.labels.get(name).map(String::as_str)),
            Capacity::Value | Capacity::Product => series.last().map(|(_, value)| value),
        };
        if let Some(tokens) = tokens {
            *sums.entry(target_key(&series.labels)).or_insert(0.0) += tokens;
        }
    }
    sums
}

/// Histograms and ratios, added up by the server over groups of labels.
fn groups(answers: &Answers, now_seconds: f64) -> Vec<Reading> {
    let mut groups: BTreeMap<Labels, Reading> = BTreeMap::new();
    for measure in [Measure::Ttft, Measure::Itl, Measure::InputTokens, Measure::OutputTokens] {
        let mut parts: BTreeMap<Labels, (Vec<(f64, f64)>, f64)> = BTreeMap::new();
        for series in answers.series(Topic::Histogram(measure)) {
            let (Some(le), Some((_, value))) = (series.labels.get("le"), series.last()) else { continue };
            let part = parts.entry(without(&series.labels, &["le"])).or_default();
            match le.as_str() {
                SUM_MARK => part.1 = value,
                le => part.0.extend(le.parse::<f64>().ok().map(|le| (le.min(f64::MAX), value))),
            }
        }
        for (labels, (buckets, sum)) in parts {
            let reading = groups.entry(labels).or_default();
            let histogram = histogram(measure, buckets, sum).map_err(|refusal| reading.refused.push(refusal)).ok();
            let distributions = &mut reading.distributions;
            match measure {
                Measure::Ttft => distributions.ttft = histogram,
                Measure::Itl => distributions.itl = histogram,
                Measure::InputTokens => distributions.input_tokens = histogram,
                _ => distributions.output_tokens = histogram,
            }
        }
    }
    for measure in [Measure::PrefixHits, Measure::PrefixQueries] {
        for series in answers.series(Topic::Increase(measure)) {
            let value = series.last().map(|(_, value)| value).filter(|v| v.is_finite() && *v >= 0.0);
            let distributions = &mut groups.entry(series.labels.clone()).or_default().distributions;
            match measure {
                Measure::PrefixHits => distributions.prefix_hits = value,
                _ => distributions.prefix_queries = value,
            }
        }
    }
    let finish = |(labels, reading)| Reading { labels, state: State::Group, at_seconds: now_seconds, ..reading };
    groups.into_iter().map(finish).collect()
}

fn histogram(measure: Measure, buckets: Vec<(f64, f64)>, sum: f64) -> Result<Histogram, Refusal> {
    let possible = |v: f64| (0.0..=MAX_INCREASE).contains(&v);
    if let Some((_, bad)) = buckets.iter().find(|(_, count)| !possible(*count)) {
        return Err(Refusal { measure, percent: None, why: format!("a bucket that grew by {bad:?} cannot be") });
    }
    if !sum.is_finite() || sum < 0.0 {
        return Err(Refusal { measure, percent: None, why: format!("a sum that grew by {sum:?} cannot be") });
    }
    let read = cumulative(measure, buckets, sum, None)?;
    let count = read.count();
    Ok(Histogram { upper: read.upper.to_vec(), cumulative: read.counts.into_vec(), sum, count })
}

/// Replica counts of the pools' scale targets, as kube-state-metrics reports them.
pub fn replicas(policy: &Policy, answers: &Answers, now_seconds: f64) -> BTreeMap<usize, ReplicaEvidence> {
    let mut wanted: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    let mut ready = wanted.clone();
    for series in answers.series(Topic::Replicas) {
        let label = |name: &str| series.labels.get(name).map(String::as_str).filter(|v| !v.is_empty());
        // Without `honor_labels` the object's namespace stands in `exported_namespace`.
        let namespace = label("exported_namespace").or_else(|| label(NAMESPACE_LABEL));
        let object =
            label("deployment").map(|n| ("Deployment", n)).or_else(|| label("statefulset").map(|n| ("StatefulSet", n)));
        let count = series.last().and_then(|(_, value)| count(value));
        let (Some(namespace), Some((kind, name)), Some(count), Some(metric)) =
            (namespace, object, count, label(NAME_LABEL))
        else {
            continue;
        };
        let counts = if metric.ends_with("_ready") { &mut ready } else { &mut wanted };
        counts.insert((namespace, kind, name), count);
    }
    let evidence = |pool: &crate::policy::Pool| {
        let key = (pool.namespace.as_str(), pool.target.kind.as_str(), pool.target.name.as_str());
        let (wanted, ready) = (wanted.get(&key).copied(), ready.get(&key).copied());
        (wanted.is_some() || ready.is_some()).then_some(ReplicaEvidence {
            wanted,
            ready,
            at_seconds: now_seconds,
            watched: false,
        })
    };
    policy.pools.iter().enumerate().filter_map(|(index, pool)| Some((index, evidence(pool)?))).collect()
}

fn count(value: f64) -> Option<u32> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked in the same line.
    (0.0..=1e6).contains(&value).then_some(value.round() as u32)
}
