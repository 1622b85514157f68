//! What every handler shares: the published snapshot, the clock, readiness, and the prepared view of the
//! newest decision.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::auth::AccessReport;
use super::health::{Check, Health, Readiness};
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
    selector_required: bool,
    checks: Vec<Check>,
    access: Option<AccessReport>,
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
            selector_required: false,
            checks: Vec::new(),
            access: None,
            view: Arc::default(),
        }))
    }

    /// Serve this value, when there is one, at `/v1/demo`.
    #[must_use]
    pub fn with_demo(self, demo: Arc<ArcSwapOption<serde_json::Value>>) -> Self {
        self.changed(|shared| shared.demo = demo)
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

    /// The snapshot of this moment. One request takes it once.
    pub(super) fn published(&self) -> Arc<Published> {
        self.0.published.load_full()
    }

    pub(super) fn demo(&self) -> Option<Arc<serde_json::Value>> {
        self.0.demo.load_full()
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
