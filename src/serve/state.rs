//! What every handler shares: the published snapshot, the clock, readiness, and the prepared view of the
//! newest decision.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::credentials::Credentials;
use super::health::Readiness;
use super::keda::Calls;
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
            selector_required: false,
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

    /// Refuse external metric requests without a selector: HPA would add up all pools.
    #[must_use]
    pub fn with_selector_required(self, required: bool) -> Self {
        self.changed(|shared| shared.selector_required = required)
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
