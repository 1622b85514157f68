//! What is going on: model servers and Prometheus, read into one [`Observation`].
//!
//! This room owns the reading of metrics (sources, dialects, series selection, plausibility, freshness) and of the
//! cluster's own state (scale targets, pods, scalers).
//! It may know the policy (which series belong to which pool) and nothing else; it never decides. Its
//! data types ([`Signal`], [`Histogram`], [`Observation`]) are plain and are used by every later room.

mod assemble;
mod assign;
pub mod cluster;
pub mod dialect;
mod discovery;
pub mod exposition;
mod fleet;
mod histogram;
mod http;
mod observation;
mod pages;
mod plausible;
mod prom_client;
mod prom_readings;
mod prometheus;
mod promql;
mod reading;
mod scrape;
mod signal;
pub mod snapshot;
mod source;
mod window;

pub use assemble::assemble;
pub use histogram::Histogram;
pub use http::HttpAccess;
pub use observation::{Finding, FindingKind, Observation, PoolObservation, RatePoint, Severity};
pub use pages::{Pages, ReplicaPage};
pub use plausible::Refusal;
pub use prometheus::{PrometheusOptions, PrometheusSource};
pub use reading::{Findings, Labels, Meta, Reading, ReplicaEvidence, State};
pub use scrape::{ScrapeOptions, ScrapeSource};
pub use signal::{Quality, Signal};
pub use source::{BoxFuture, Source};
pub use window::{Distributions, Increments, Ring, Window};
