//! What every handler shares: the published snapshot, the clock, readiness, and the prepared view of the
//! newest decision.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::auth::AccessReport;
use super::cluster::ClusterStatus;
use super::credentials::Credentials;
use super::health::{Check, Health, Readiness};
use super::keda::Calls;
use super::tls::Tls;
use super::upstream::Upstream;
use super::view::View;
use crate::control::{Clock, Decision, Published, Withheld};

/// Shared by all routes; cloning is cheap.
#[derive(Clone)]
pub struct ServeState(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    published: Arc<ArcSwap<Published>>,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    demo: Arc<ArcSwapOption<serde_json::Value>>,
    cluster: Option<Arc<ArcSwap<ClusterStatus>>>,
    upstream: Option<Arc<Upstream>>,
    certificates: Vec<(&'static str, Tls)>,
    selector_required: bool,
    checks: Vec<Check>,
    access: Option<AccessReport>,
    credentials: Option<Credentials>,
    keda_calls: Arc<Calls>,
    view: Arc<ArcSwapOption<View>>,
}

impl fmt::Debug for ServeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeState").finish_non_exhaustive()
    }
}

impl ServeState {
    pub fn new(published: Arc<ArcSwap<Published>>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            published,
            clock,
            readiness: Readiness::default(),
            demo: Arc::default(),
            cluster: None,
            upstream: None,
            certificates: Vec::new(),
            selector_required: false,
            checks: Vec::new(),
            access: None,
            credentials: None,
            keda_calls: Arc::default(),
            view: Arc::default(),
        }))
    }

    /// Serve this value, when there is one, at `/v1/demo`.
    #[must_use]
    pub fn with_demo(self, demo: Arc<ArcSwapOption<serde_json::Value>>) -> Self {
        self.changed(|shared| shared.demo = demo)
    }

    /// Show how the daemon stands in its cluster, at `/v1/cluster` and in the metrics.
    #[must_use]
    pub fn with_cluster(self, cluster: Arc<ArcSwap<ClusterStatus>>) -> Self {
        self.changed(|shared| shared.cluster = Some(cluster))
    }

    /// Pass external metrics that are not ours on to this server.
    #[must_use]
    pub fn with_upstream(self, upstream: Upstream) -> Self {
        self.changed(|shared| shared.upstream = Some(Arc::new(upstream)))
    }

    /// Watch the end of this listener's certificate: readiness ends before it, and a metric counts down.
    #[must_use]
    pub fn with_certificate(self, listener: &'static str, tls: Tls) -> Self {
        self.changed(|shared| shared.certificates.push((listener, tls)))
    }

    /// Refuse external metric requests without a selector: HPA would add up all pools.
    #[must_use]
    pub fn with_selector_required(self, required: bool) -> Self {
        self.changed(|shared| shared.selector_required = required)
    }

    /// Let this check, by this name, take part in `/readyz`.
    #[must_use]
    pub fn with_check(self, name: &'static str, check: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        self.changed(|shared| shared.checks.push(Check::new(name, check)))
    }

    /// Show what the checks of the aggregated API came to on `/metrics`.
    #[must_use]
    pub fn with_access_report(self, report: Option<AccessReport>) -> Self {
        self.changed(|shared| shared.access = report)
    }

    /// Ask who reads the JSON API for one of these.
    #[must_use]
    pub fn with_credentials(self, credentials: Option<Credentials>) -> Self {
        self.changed(|shared| shared.credentials = credentials)
    }

    fn changed(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.0);
        change(&mut shared);
        Self(Arc::new(shared))
    }

    /// The handle that ends readiness.
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    pub(super) fn checks(&self) -> &[Check] {
        &self.0.checks
    }

    pub(super) fn access(&self) -> Option<&AccessReport> {
        self.0.access.as_ref()
    }

    pub(super) fn now_seconds(&self) -> f64 {
        self.0.clock.now_seconds()
    }

    pub(super) fn selector_required(&self) -> bool {
        self.0.selector_required
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.0.credentials.as_ref()
    }

    pub(super) fn keda_calls(&self) -> &Arc<Calls> {
        &self.0.keda_calls
    }

    /// The snapshot of this moment. One request takes it once.
    pub(super) fn published(&self) -> Arc<Published> {
        self.0.published.load_full()
    }

    pub(super) fn demo(&self) -> Option<Arc<serde_json::Value>> {
        self.0.demo.load_full()
    }

    pub(super) fn cluster(&self) -> Option<Arc<ClusterStatus>> {
        self.0.cluster.as_ref().map(|c| c.load_full())
    }

    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.0.upstream.as_ref()
    }

    /// Listeners and their certificates.
    pub(super) fn certificates(&self) -> &[(&'static str, Tls)] {
        &self.0.certificates
    }

    /// The decision, prepared for answering, if it is young enough.
    pub(super) fn current(&self) -> Result<Current, Withheld> {
        let published = self.published();
        let now_seconds = self.now_seconds();
        published.current(now_seconds)?;
        let decision = published.decision.as_ref().ok_or(Withheld::NotYet)?;
        Ok(Current { age_seconds: (now_seconds - decision.at_seconds).max(0.0), view: self.view(decision) })
    }

    /// The view of exactly this decision. Two requests that meet a new decision at once may both build
    /// it; either result is right.
    fn view(&self, decision: &Arc<Decision>) -> Arc<View> {
        let cached = self.0.view.load();
        if let Some(view) = &*cached
            && Arc::ptr_eq(&view.decision, decision)
        {
            return Arc::clone(view);
        }
        let view = Arc::new(View::new(Arc::clone(decision)));
        self.0.view.store(Some(Arc::clone(&view)));
        view
    }
}

/// A decision that may be served.
pub(super) struct Current {
    pub view: Arc<View>,
    pub age_seconds: f64,
}
