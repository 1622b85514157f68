//! The Prometheus source: one query per signal for the whole fleet, all at once.
//!
//! Owns which queries are sent and what their failure means; the text is `promql`'s, the wire `prom_client`'s,
//! the meaning `prom_readings`'. Works with everything that speaks Prometheus' HTTP API (Thanos, Mimir).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use futures::StreamExt;

use super::cluster::ClusterView;
use super::dialect::{self, Dialect};
use super::http::HttpAccess;
use super::prom_client::{Answer, Credentials, PromClient};
use super::prom_readings::{Answers, Memory, replicas};
use super::promql::{Queries, Query, Topic};
use super::reading::{Meta, Reading};
use super::{BoxFuture, Finding, FindingKind, Observation, RatePoint, Source, assemble};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// Queries under way at the same time: enough to be quick, too few to be a burden.
const CONCURRENCY: usize = 8;

/// Clocks that differ by less agree, seconds; an HTTP date has whole seconds.
const SKEW_TOLERANCE_SECONDS: f64 = 5.0;

/// Distance of the points of the demand history, seconds.
const STEP_SECONDS: f64 = 60.0;

/// Points asked for at once; Prometheus refuses more than 11,000.
const MAX_POINTS: i64 = 10_000;

/// Longest history that is asked for, seconds.
const MAX_SPAN_SECONDS: f64 = 400.0 * 86_400.0;

/// Which Prometheus, and how to reach it.
#[derive(Clone, Debug, Default)]
pub struct PrometheusOptions {
    /// Base address, with a path where the server has one: what `/api/v1/query` is appended to.
    pub url: String,
    /// TLS, credentials, headers, time limit of one query.
    pub access: HttpAccess,
}

/// Asks Prometheus.
#[derive(Debug)]
pub struct PrometheusSource {
    client: PromClient,
    /// By name of the engine.
    memories: BTreeMap<&'static str, Memory>,
    cluster: Option<ClusterView>,
}

impl PrometheusSource {
    /// # Errors
    /// The address, a certificate, a key or a password file cannot be used.
    pub fn new(options: PrometheusOptions) -> Result<Self> {
        let client = PromClient::new(&options.url, options.access)?;
        Ok(Self { client, memories: BTreeMap::new(), cluster: None })
    }

    /// With the cluster's own word about replicas and pods.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Option<ClusterView>) -> Self {
        self.cluster = cluster;
        self
    }

    async fn look(&mut self, policy: &Policy, now_seconds: f64) -> Observation {
        let mut meta = Meta::default();
        let mut readings = Vec::new();
        match self.client.credentials() {
            Ok(credentials) => {
                for dialect in dialects(policy) {
                    let answers = self.ask(policy, dialect, now_seconds, &credentials).await;
                    match self.read(policy, dialect, answers, now_seconds, &mut meta) {
                        Ok(of_dialect) => readings.extend(of_dialect),
                        Err(error) => meta.source_error = Some(error),
                    }
                }
            }
            Err(error) => meta.source_error = Some(format!("{error:#}")),
        }
        // Asked last: pods that became ready while the queries ran are better known than not.
        meta.cluster = self.cluster.as_ref().map(|cluster| cluster.state(policy, now_seconds));
        assemble(policy, readings, meta, now_seconds)
    }

    async fn ask(
        &self,
        policy: &Policy,
        dialect: &'static Dialect,
        now_seconds: f64,
        credentials: &Credentials,
    ) -> Vec<(Query, Result<Answer, String>)> {
        let client = &self.client;
        let queries = Queries::new(policy, dialect).all();
        let ask = |query: Query| async move {
            let answer = client.instant(&query.text, now_seconds, credentials).await;
            (query, answer)
        };
        futures::stream::iter(queries.into_iter().map(ask)).buffered(CONCURRENCY).collect().await
    }

    /// Readings of one dialect; an error when Prometheus could not say what is alive.
    fn read(
        &mut self,
        policy: &Policy,
        dialect: &'static Dialect,
        answers: Vec<(Query, Result<Answer, String>)>,
        now_seconds: f64,
        meta: &mut Meta,
    ) -> Result<Vec<Reading>, String> {
        let mut read = Answers::default();
        let mut warnings = BTreeSet::new();
        let mut failed = None;
        for (query, answer) in answers {
            match answer {
                Ok(answer) => {
                    warnings.extend(answer.warnings.iter().filter(|w| is_partial(w)).cloned());
                    read.0.insert(query.topic, answer);
                }
                Err(error) if query.topic == Topic::Live => failed = Some(error),
                Err(error) => meta.findings.push(source_failed(&format!("query {:?}", query.topic), error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        for warning in warnings {
            meta.partial = true;
            meta.findings.push(source_failed("prometheus", format!("the answer is partial: {warning}")));
        }
        let server = read.0.get(&Topic::Live).and_then(|a| a.server_seconds);
        let behind_seconds = server.map_or(0.0, |server| server - now_seconds);
        let mut skew_seconds = 0.0;
        if behind_seconds.abs() > SKEW_TOLERANCE_SECONDS {
            skew_seconds = f64::max(behind_seconds, 0.0);
            let side = if behind_seconds > 0.0 { "behind" } else { "ahead of" };
            let message = format!(
                "this machine's clock is {:.0} s {side} Prometheus'; synchronise the clocks",
                behind_seconds.abs()
            );
            meta.findings.push(Finding { kind: FindingKind::ClockSkew, subject: "prometheus".into(), message });
        }
        meta.replicas.extend(replicas(policy, &read, now_seconds));
        let memory = self.memories.entry(dialect.name).or_default();
        Ok(memory.look(policy, dialect, &read, now_seconds, skew_seconds))
    }

    async fn past(&self, policy: &Policy, now_seconds: f64, span_seconds: f64) -> BTreeMap<String, Vec<RatePoint>> {
        let mut history: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
        let credentials = match self.client.credentials() {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the demand history cannot be read");
                return BTreeMap::new();
            }
        };
        for dialect in dialects(policy) {
            let query = Queries::new(policy, dialect).history(STEP_SECONDS);
            for (start, end) in chunks(now_seconds, span_seconds) {
                match self.client.range(&query, start, end, STEP_SECONDS, &credentials).await {
                    Ok(answer) => add_history(policy, dialect, &answer, &mut history),
                    Err(error) => tracing::warn!(error, start, end, "a part of the demand history cannot be read"),
                }
            }
        }
        #[allow(clippy::cast_precision_loss)] // Seconds since 1970 are far below 2^53.
        let point = |(at, rate): (i64, f64)| RatePoint { at_seconds: at as f64, rate };
        history.into_iter().map(|(model, points)| (model, points.into_iter().map(point).collect())).collect()
    }
}

impl Source for PrometheusSource {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn observe<'a>(&'a mut self, policy: &'a Arc<Policy>, now_seconds: f64) -> BoxFuture<'a, Observation> {
        Box::pin(self.look(policy, now_seconds))
    }

    fn history<'a>(
        &'a mut self,
        policy: &'a Arc<Policy>,
        now_seconds: f64,
        span_seconds: f64,
    ) -> BoxFuture<'a, BTreeMap<String, Vec<RatePoint>>> {
        Box::pin(self.past(policy, now_seconds, span_seconds))
    }
}

/// The dialects of the policy's engines, each once.
fn dialects(policy: &Policy) -> Vec<&'static Dialect> {
    let by_name: BTreeMap<&str, &'static Dialect> =
        policy.pools.iter().map(|pool| dialect::of(pool.engine)).map(|d| (d.name, d)).collect();
    by_name.into_values().collect()
}

fn source_failed(subject: &str, message: String) -> Finding {
    Finding { kind: FindingKind::SourceFailed, subject: subject.to_owned(), message }
}

/// A warning that data is missing, not one about the form of a query.
fn is_partial(warning: &str) -> bool {
    !warning.starts_with("PromQL")
}

/// Whole minutes of the past in pieces that Prometheus answers, oldest first (Unix seconds, both ends included).
fn chunks(now_seconds: f64, span_seconds: f64) -> Vec<(i64, i64)> {
    if !(span_seconds >= STEP_SECONDS && now_seconds.is_finite()) {
        return Vec::new();
    }
    #[allow(clippy::cast_possible_truncation)] // Seconds since 1970 and a bounded span.
    let (step, now, span) = (STEP_SECONDS as i64, now_seconds as i64, span_seconds.min(MAX_SPAN_SECONDS) as i64);
    let last = now.div_euclid(step) * step;
    let mut start = last - (span / step - 1) * step;
    let mut pieces = Vec::new();
    while start <= last {
        let end = last.min(start + (MAX_POINTS - 1) * step);
        pieces.push((start, end));
        start = end + step;
    }
    pieces
}

fn add_history(policy: &Policy, dialect: &Dialect, answer: &Answer, to: &mut BTreeMap<String, BTreeMap<i64, f64>>) {
    for series in &answer.series {
        let label = |name: &str| series.labels.get(name).map(String::as_str);
        let model = policy.models.iter().find(|model| {
            label(NAMESPACE_LABEL) == Some(model.namespace.as_str())
                && label(dialect.model_label) == Some(model.served_name.as_str())
        });
        let Some(model) = model else { continue };
        let points = to.entry(format!("{}/{}", model.namespace, model.name)).or_default();
        for (time, rate) in series.samples.iter().filter(|(_, rate)| rate.is_finite() && rate.abs() < 1e9) {
            #[allow(clippy::cast_possible_truncation)] // A Unix time.
            points.insert(time.round() as i64, rate.max(0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_is_asked_for_in_pieces_without_gap_or_overlap() {
        let now = 1_800_000_030.0;
        let pieces = chunks(now, 30.0 * 86_400.0);
        let points: i64 = pieces.iter().map(|(start, end)| (end - start) / 60 + 1).sum();
        assert_eq!(points, 30 * 24 * 60);
        assert!(pieces.iter().all(|(start, end)| (end - start) / 60 < 11_000));
        assert!(pieces.windows(2).all(|w| w[1].0 == w[0].1 + 60));
        assert_eq!(pieces.last().unwrap().1, 1_800_000_000);
        assert_eq!(chunks(now, 120.0), vec![(1_799_999_940, 1_800_000_000)]);
        assert!(chunks(now, 0.0).is_empty() && chunks(f64::NAN, 600.0).is_empty());
    }
}
