//! The PromQL of one look, written from the dialect table: one query per signal for the whole fleet.
//!
//! Pure text. Counters and the gauges that arrivals need are asked for as raw samples of the window, because
//! `rate()` extrapolates to the window's edges and forgets what a new series counted before its first sample; the
//! same arithmetic as for the direct scrape then runs over them. Histograms, of which only the form matters, are
//! added up by the server.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::dialect::{Capacity, Dialect, Measure, PROCESS_START};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// Raw samples are asked for over this multiple of the window, so that two are found even when scrapes are as rare
/// as the window is long.
pub const RAW_SPAN: f64 = 2.1;

/// Label by which a histogram query marks the sum of the values.
pub const SUM_MARK: &str = "sum";

/// Metrics of kube-state-metrics that tell replica counts.
pub const REPLICA_METRICS: &[&str] = &[
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_ready",
    "kube_statefulset_replicas",
    "kube_statefulset_status_replicas_ready",
];

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Time of the newest sample of every live instance.
    Live,
    /// Raw samples of the window.
    Raw(Measure),
    /// Value now.
    Now(Measure),
    /// Increments of a histogram over the window by group.
    Histogram(Measure),
    /// Increments of a counter over the window by group.
    Increase(Measure),
    /// Replica counts of the scale targets.
    Replicas,
    /// Whether a target answered its last scrape.
    Up,
    /// Start time of the processes.
    Started,
}

/// One query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub topic: Topic,
    pub text: String,
}

/// Labels that tell the pools of this policy apart.
pub fn group_labels(policy: &Policy, dialect: &Dialect) -> Vec<String> {
    let mut labels: BTreeSet<&str> = BTreeSet::from([NAMESPACE_LABEL, dialect.model_label]);
    labels.extend(policy.pools.iter().flat_map(|pool| pool.selector.label_names()));
    labels.into_iter().map(str::to_owned).collect()
}

/// A PromQL duration.
fn duration(seconds: f64) -> String {
    format!("{}ms", (seconds * 1000.0).round().max(1.0))
}

/// A PromQL string that matches one of `values`, each taken literally.
fn alternatives<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<String> = values.into_iter().map(regex::escape).collect();
    quoted(&values.join("|"))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Replica counts of the pools' scale targets. The empty alternative lets a series pass that has no such label.
fn replicas(policy: &Policy) -> String {
    let names = |kind: &str| {
        let named = policy.pools.iter().filter(|p| p.target.kind == kind).map(|p| p.target.name.as_str());
        alternatives(named.chain([""]).collect::<BTreeSet<_>>())
    };
    let metrics = alternatives(REPLICA_METRICS.iter().copied());
    format!("{{__name__=~{metrics},deployment=~{},statefulset=~{}}}", names("Deployment"), names("StatefulSet"))
}

/// Writes the queries of one dialect.
pub struct Queries<'a> {
    dialect: &'a Dialect,
    /// Matchers that keep the answers to the namespaces of the policy.
    scope: String,
    /// Label list of the groups.
    groups: String,
    /// The query for replica counts.
    replicas: String,
    window_seconds: f64,
}

impl<'a> Queries<'a> {
    pub fn new(policy: &Policy, dialect: &'a Dialect) -> Self {
        let namespaces: BTreeSet<&str> = policy.pools.iter().map(|p| p.selector.namespace.as_str()).collect();
        Self {
            dialect,
            scope: format!("{NAMESPACE_LABEL}=~{}", alternatives(namespaces)),
            groups: group_labels(policy, dialect).join(","),
            replicas: replicas(policy),
            window_seconds: policy.planner.window_seconds,
        }
    }

    /// All queries of one look.
    pub fn all(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        let mut add = |topic, text: Option<String>| queries.extend(text.map(|text| Query { topic, text }));
        add(Topic::Live, self.names(Measure::Running).map(|n| format!("timestamp({}{{{}}})", n[0], self.scope)));
        for measure in [Measure::Completions, Measure::Running, Measure::Waiting] {
            add(Topic::Raw(measure), self.raw(measure));
        }
        add(Topic::Now(Measure::KvUsage), self.first_of(Measure::KvUsage, |n| format!("{n}{{{}}}", self.scope)));
        add(Topic::Now(Measure::KvCapacity), self.capacity());
        for measure in [Measure::Ttft, Measure::Itl, Measure::InputTokens, Measure::OutputTokens] {
            add(Topic::Histogram(measure), self.histogram(measure));
        }
        for measure in [Measure::PrefixHits, Measure::PrefixQueries] {
            add(Topic::Increase(measure), self.first_of(measure, |n| self.increase(n, "")));
        }
        add(Topic::Replicas, Some(self.replicas.clone()));
        add(Topic::Up, Some(format!("up{{{}}}", self.scope)));
        add(Topic::Started, Some(format!("{PROCESS_START}{{{}}}", self.scope)));
        queries
    }

    /// Arrival rate by namespace and model over the minute before each point: finished requests plus growth of the
    /// requests inside the servers.
    pub fn history(&self, step_seconds: f64) -> String {
        // Two scrapes must lie in the range, at the usual 30 s and with one missed.
        let range = duration((2.0 * step_seconds).max(self.window_seconds));
        let seconds = (2.0 * step_seconds).max(self.window_seconds);
        let by = format!("{NAMESPACE_LABEL},{}", self.dialect.model_label);
        let rate = |n: &str| format!("sum by ({by}) (rate({n}{{{}}}[{range}]))", self.scope);
        let growth = |measure| {
            let delta = |n: &str| format!("sum by ({by}) (delta({n}{{{}}}[{range}]))", self.scope);
            self.first_of(measure, delta).unwrap_or_default()
        };
        let completions = self.first_of(Measure::Completions, rate).unwrap_or_default();
        let (running, waiting) = (growth(Measure::Running), growth(Measure::Waiting));
        format!("({completions}) + (({running}) + ({waiting})) / {seconds}")
    }

    fn names(&self, measure: Measure) -> Option<&'static [&'static str]> {
        self.dialect.series(measure).map(|s| s.names).filter(|names| !names.is_empty())
    }

    /// The first name that has data, group by group.
    fn first_of(&self, measure: Measure, one: impl Fn(&str) -> String) -> Option<String> {
        let texts: Vec<String> = self.names(measure)?.iter().map(|name| one(name)).collect();
        Some(texts.join(" or "))
    }

    fn raw(&self, measure: Measure) -> Option<String> {
        let names = self.names(measure)?;
        let range = duration(RAW_SPAN * self.window_seconds);
        Some(match names {
            [one] => format!("{one}{{{}}}[{range}]", self.scope),
            several => {
                format!("{{__name__=~{},{}}}[{range}]", alternatives(several.iter().copied()), self.scope)
            }
        })
    }

    fn capacity(&self) -> Option<String> {
        let (rank, scope) = (self.dialect.rank_label, &self.scope);
        match self.dialect.capacity {
            Capacity::Labels { tokens, blocks, block_tokens } => self.first_of(Measure::KvCapacity, |name| {
                format!(
                    "max by (namespace,pod,instance,job,{rank},{tokens},{blocks},{block_tokens}) ({name}{{{scope}}})"
                )
            }),
            Capacity::Value => self.first_of(Measure::KvCapacity, |name| format!("{name}{{{scope}}}")),
            Capacity::Product => {
                let (blocks, tokens) = (self.names(Measure::KvBlocks)?, self.names(Measure::KvBlockTokens)?);
                Some(format!("{}{{{scope}}} * {}{{{scope}}}", blocks[0], tokens[0]))
            }
        }
    }

    fn increase(&self, name: &str, further_label: &str) -> String {
        let Self { groups, scope, .. } = self;
        format!("sum by ({groups}{further_label}) (increase({name}{{{scope}}}[{}]))", duration(self.window_seconds))
    }

    /// Buckets and, marked by its `le`, the sum: one query for the whole histogram.
    fn histogram(&self, measure: Measure) -> Option<String> {
        let mut text = self.first_of(measure, |name| self.increase(&format!("{name}_bucket"), ",le"))?;
        let sums = self.first_of(measure, |name| self.increase(&format!("{name}_sum"), ""))?;
        let _ = write!(text, " or label_replace({sums}, \"le\", \"{SUM_MARK}\", \"\", \"\")");
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::dialect::VLLM;

    fn queries() -> Queries<'static> {
        Queries {
            dialect: &VLLM,
            scope: format!("namespace=~{}", alternatives(["a.b", "c\"d"])),
            groups: "model_name,namespace,pod".into(),
            replicas: String::new(),
            window_seconds: 60.0,
        }
    }

    #[test]
    fn values_are_taken_literally() {
        assert_eq!(queries().scope, r#"namespace=~"a\\.b|c\"d""#);
    }

    #[test]
    fn every_measure_is_asked_for_once_with_all_its_names() {
        let all = queries().all();
        let topics: BTreeSet<Topic> = all.iter().map(|q| q.topic).collect();
        assert_eq!((all.len(), topics.len()), (15, 15));
        let text = |topic| all.iter().find(|q| q.topic == topic).unwrap().text.as_str();
        assert_eq!(
            text(Topic::Raw(Measure::Completions)),
            r#"{__name__=~"vllm:request_success_total|vllm:request_success",namespace=~"a\\.b|c\"d"}[126000ms]"#
        );
        assert!(text(Topic::Live).starts_with("timestamp(vllm:num_requests_running{"));
        let itl = text(Topic::Histogram(Measure::Itl));
        assert!(
            itl.contains("sum by (model_name,namespace,pod,le) (increase(vllm:inter_token_latency_seconds_bucket{")
        );
        assert!(itl.ends_with(r#", "le", "sum", "", "")"#));
    }
}
