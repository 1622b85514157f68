//! What is going on in the fleet at one moment: plain data, the only input of a decision besides the
//! policy. Everything here can be journaled and replayed.

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use super::cluster::PoolCluster;
use super::{Histogram, Quality, Signal};

/// One complete look at the fleet. `pools` has one entry per pool of the policy, in the policy's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Unix time of the look, seconds.
    pub at_seconds: f64,
    /// Whether the source as a whole answered; `None` means it did.
    pub source_error: Option<String>,
    pub pools: Vec<PoolObservation>,
    /// What the source noticed that a person should know: series that fit no pool or two, values
    /// refused as implausible, instances that did not answer.
    pub findings: Vec<Finding>,
}

/// What is known of one pool. Rates are per second over the observation window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolObservation {
    /// `namespace/name` of the pool, so that a journaled observation explains itself.
    pub pool: String,
    /// Live instances that serve.
    pub ready: Signal<u32>,
    /// Instances that are wanted and listed but have not served yet.
    pub starting: Signal<u32>,
    /// Listed instances that served before and did not answer this time.
    pub silent: u32,
    /// Offered load: arrivals per second, late and unfinished requests included.
    pub arrival_rate: Signal<f64>,
    /// Finished requests per second.
    pub completion_rate: Signal<f64>,
    /// Requests in execution, summed over the pool.
    pub running: Signal<f64>,
    /// Requests waiting, summed over the pool.
    pub waiting: Signal<f64>,
    /// KV-cache use, 0..=1, mean over the pool's instances.
    pub kv_usage: Signal<f64>,
    /// KV-cache capacity of one replica as the server reports it, tokens.
    pub kv_capacity_tokens: Signal<f64>,
    /// Share of prompt tokens found in the prefix cache, 0..=1.
    pub prefix_hit_ratio: Signal<f64>,
    /// Time to first token over the window, seconds.
    pub ttft: Signal<Histogram>,
    /// Per-request mean time per output token over the window, seconds.
    pub itl: Signal<Histogram>,
    /// Prompt lengths of the requests finished in the window, tokens.
    pub input_tokens: Signal<Histogram>,
    /// Output lengths of the requests finished in the window, tokens.
    pub output_tokens: Signal<Histogram>,
    /// What the cluster itself says, where one is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<PoolCluster>,
}

impl PoolObservation {
    /// Quality of what a decision to shrink needs: the number of replicas and the offered load.
    pub fn quality(&self) -> Quality {
        self.ready.quality.max(self.arrival_rate.quality)
    }
}

/// Arrival rate of one model in one past minute, used to fill the demand history back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePoint {
    /// Unix time at the end of the minute, seconds.
    pub at_seconds: f64,
    /// Requests per second.
    pub rate: f64,
}

/// Something a person should know about the data. Its JSON has the severity too, which follows from the kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// Pool, instance or series the finding is about.
    pub subject: String,
    /// One sentence: what is wrong and what would be right.
    pub message: String,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 4)?;
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("severity", &self.kind.severity())?;
        fields.serialize_field("subject", &self.subject)?;
        fields.serialize_field("message", &self.message)?;
        fields.end()
    }
}

/// Stable names of findings, also used as metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The whole source did not answer, or answered an error.
    SourceFailed,
    /// One instance did not answer.
    InstanceSilent,
    /// A series belongs to no pool of the policy.
    UnmatchedSeries,
    /// A series fits more than one pool.
    AmbiguousSeries,
    /// Two series claim to be the same instance of the same pool.
    DuplicateSeries,
    /// A value outside its possible range was thrown away.
    Implausible,
    /// A counter went backwards: the server restarted.
    CounterReset,
    /// A pool has no series at all.
    NoSeries,
    /// The time stamps of the source and of this machine differ too much.
    ClockSkew,
    /// A part of the cluster's state cannot be read, or has not arrived.
    ClusterUnreadable,
    /// The scale target of a pool does not exist.
    TargetMissing,
    /// Pods that no node takes.
    Unschedulable,
    /// Nothing scales an acting pool's target.
    NoScaler,
    /// Several scalers scale one target.
    TwoScalers,
    /// A scaler does not take the published number as it is: another metric, another type of target.
    ScalerMetric,
    /// A scaler gets no pool's number, another pool's, or a sum.
    ScalerSelector,
    /// A scaler ignores small changes.
    ScalerTolerance,
    /// A scaler's limits cut numbers that the policy allows.
    ScalerLimits,
    /// A scaler follows late or in several steps.
    ScalerBehavior,
    /// A scaler listens to others too.
    ScalerOtherMetrics,
    /// A ScaledObject does something of its own when there is no number.
    ScalerFallback,
    /// A ScaledObject is paused.
    ScalerPaused,
    /// A scaler itself says that it does not scale.
    ScalerCondition,
    /// A scaler waits for a number that the pool's mode does not give.
    ScalerWaits,
    /// A scaler does what this version of the server lets it do, and that is not all.
    ScalerServer,
    /// Servers are further from their performance figures than the evidence for these allows.
    ModelDrift,
    /// One request of the greatest length does not fit into a server's KV memory.
    KvTooSmall,
    /// A limit of the policy is exceeded by what has to run, or a floor cannot be reached.
    LimitConflict,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know; nothing has to be done.
    Info,
    /// A number may be off, or late.
    Warning,
    /// A pool is not known or not scaled as decided.
    Error,
}

impl FindingKind {
    /// Name used in metric labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceFailed => "source-failed",
            Self::InstanceSilent => "instance-silent",
            Self::UnmatchedSeries => "unmatched-series",
            Self::AmbiguousSeries => "ambiguous-series",
            Self::DuplicateSeries => "duplicate-series",
            Self::Implausible => "implausible",
            Self::CounterReset => "counter-reset",
            Self::NoSeries => "no-series",
            Self::ClockSkew => "clock-skew",
            Self::ClusterUnreadable => "cluster-unreadable",
            Self::TargetMissing => "target-missing",
            Self::Unschedulable => "unschedulable",
            Self::NoScaler => "no-scaler",
            Self::TwoScalers => "two-scalers",
            Self::ScalerMetric => "scaler-metric",
            Self::ScalerSelector => "scaler-selector",
            Self::ScalerTolerance => "scaler-tolerance",
            Self::ScalerLimits => "scaler-limits",
            Self::ScalerBehavior => "scaler-behavior",
            Self::ScalerOtherMetrics => "scaler-other-metrics",
            Self::ScalerFallback => "scaler-fallback",
            Self::ScalerPaused => "scaler-paused",
            Self::ScalerCondition => "scaler-condition",
            Self::ScalerWaits => "scaler-waits",
            Self::ScalerServer => "scaler-server",
            Self::ModelDrift => "model-drift",
            Self::KvTooSmall => "kv-too-small",
            Self::LimitConflict => "limit-conflict",
        }
    }

    pub fn severity(self) -> Severity {
        match self {
            Self::ScalerWaits | Self::ScalerServer | Self::CounterReset => Severity::Info,
            Self::InstanceSilent
            | Self::UnmatchedSeries
            | Self::DuplicateSeries
            | Self::Implausible
            | Self::ClockSkew
            | Self::Unschedulable
            | Self::ModelDrift
            | Self::KvTooSmall
            | Self::LimitConflict
            | Self::ScalerTolerance
            | Self::ScalerLimits
            | Self::ScalerBehavior
            | Self::ScalerFallback
            | Self::ScalerPaused => Severity::Warning,
            Self::SourceFailed
            | Self::AmbiguousSeries
            | Self::NoSeries
            | Self::ClusterUnreadable
            | Self::TargetMissing
            | Self::NoScaler
            | Self::TwoScalers
            | Self::ScalerMetric
            | Self::ScalerSelector
            | Self::ScalerOtherMetrics
            | Self::ScalerCondition => Severity::Error,
        }
    }
}
