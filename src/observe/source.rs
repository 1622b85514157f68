//! Where observations come from.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Observation, RatePoint};
use crate::policy::Policy;

/// A boxed future, so that the daemon can hold either source.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source of observations. It never fails as a whole: what could not be read is marked missing or
/// stale in the observation, and `source_error` says why.
pub trait Source: Send {
    /// `prometheus` or `scrape`.
    fn name(&self) -> &'static str;

    /// Look at the fleet once, at `now_seconds` (Unix time).
    fn observe<'a>(&'a mut self, policy: &'a Arc<Policy>, now_seconds: f64) -> BoxFuture<'a, Observation>;

    /// Arrival rates of the past minutes by model (`namespace/name`), oldest first, as far as the source
    /// remembers; empty where it does not.
    fn history<'a>(
        &'a mut self,
        policy: &'a Arc<Policy>,
        now_seconds: f64,
        span_seconds: f64,
    ) -> BoxFuture<'a, BTreeMap<String, Vec<RatePoint>>>;
}
