//! The loop's body: look, decide, journal, remember, publish. The caller owns the timer, so that the
//! daemon, the demo and the tests run the same tick.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::task::JoinError;

use super::decide::{Search, decide_within};
use super::pace::Pace;
use super::published::{DaemonStatus, HistoryPoint, PolicyStatus, Published};
use super::{Decision, Detail, Journal, State, StateStore};
use crate::observe::{Observation, Source};
use crate::plan::{DEFAULT_UNITS, Effort};
use crate::policy::Policy;

/// Points of the chart: three hours at the default interval.
const HISTORY_POINTS: usize = 720;
/// Threads for planning at most: beyond these it gains little.
const MOST_THREADS: usize = 8;
/// The state is stored at least this often, and whenever a published number changes.
const SAVE_SECONDS: f64 = 60.0;

/// Answers whether the policy changed since the last question: `None` when not, an error when the edit is
/// refused.
pub type PolicyReload = Box<dyn FnMut() -> Option<Result<Policy, String>> + Send>;

/// What a daemon is made of.
pub struct DaemonParts {
    pub policy: Policy,
    pub reload: Option<PolicyReload>,
    pub source: Box<dyn Source>,
    pub state: State,
    pub store: Option<StateStore>,
    pub journal: Option<Journal>,
    /// Whether planning must end in time. A simulation has all the time it needs, so that it repeats.
    pub is_timed: bool,
}

/// The control loop without its timer.
pub struct Daemon {
    policy: Arc<Policy>,
    reload: Option<PolicyReload>,
    source: Box<dyn Source>,
    state: State,
    store: Option<StateStore>,
    journal: Option<Journal>,
    published: Arc<ArcSwap<Published>>,
    history: VecDeque<HistoryPoint>,
    policy_status: PolicyStatus,
    status: DaemonStatus,
    saved_at_seconds: f64,
    detail: Detail,
    pace: Pace,
    is_timed: bool,
}

impl Daemon {
    pub fn new(parts: DaemonParts) -> Self {
        let DaemonParts { policy, reload, source, state, store, journal, is_timed } = parts;
        let policy_status = PolicyStatus { fingerprint: policy.fingerprint.clone(), ..PolicyStatus::default() };
        let status = DaemonStatus { source: source.name().to_owned(), ..DaemonStatus::default() };
        let mut empty = Published::empty(policy.planner.max_age_seconds);
        empty.policy = policy_status.clone();
        empty.daemon = status.clone();
        Self {
            policy: Arc::new(policy),
            reload,
            source,
            state,
            store,
            journal,
            published: Arc::new(ArcSwap::from_pointee(empty)),
            history: VecDeque::new(),
            policy_status,
            status,
            saved_at_seconds: f64::NEG_INFINITY,
            detail: Detail::Brief,
            pace: Pace::default(),
            is_timed,
        }
    }

    /// The snapshot that the interfaces read.
    pub fn published(&self) -> Arc<ArcSwap<Published>> {
        Arc::clone(&self.published)
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// How much the decisions that follow say of their reasons.
    pub fn set_detail(&mut self, detail: Detail) {
        self.detail = detail;
    }

    /// Fill the demand history back from the source, as far as it remembers.
    pub async fn fill_back(&mut self, now_seconds: f64, span_seconds: f64) {
        let policy = Arc::clone(&self.policy);
        let history = self.source.history(&policy, now_seconds, span_seconds).await;
        for (model, points) in &history {
            tracing::info!(model, minutes = points.len(), "demand history filled back");
        }
        self.state.fill_back(history);
    }

    /// Look without deciding: a direct scrape needs a first reading before it has rates.
    pub async fn warm_up(&mut self, now_seconds: f64) {
        let policy = Arc::clone(&self.policy);
        let _ = self.source.observe(&policy, now_seconds).await;
    }

    /// One tick at `now_seconds`. Returns the decision, or `None` when the decision itself failed (a bug):
    /// the last one stays published until its age limit.
    pub async fn tick(&mut self, now_seconds: f64) -> Option<Arc<Decision>> {
        self.reload_policy();
        let policy = Arc::clone(&self.policy);
        let started = Instant::now();
        let observation = self.source.observe(&policy, now_seconds).await;
        self.status.observe_seconds = started.elapsed().as_secs_f64();
        self.status.ticks += 1;
        if let Some(error) = &observation.source_error {
            self.status.failed_observations += 1;
            tracing::warn!(error, "the fleet could not be observed; every number is held");
        }
        let started = Instant::now();
        let (decision, state, observation) = match self.decide_in_time(policy, observation, now_seconds).await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the decision failed; the last one stays until its age limit");
                self.publish(None);
                return None;
            }
        };
        self.status.decide_seconds = started.elapsed().as_secs_f64();
        self.status.refused_plans += u64::from(decision.solve.refused);
        self.pace.learn(decision.solve.work_units + decision.solve.reason_units, self.status.decide_seconds);
        let decision = Arc::new(decision);
        self.record(&observation, &decision);
        self.remember(state, now_seconds);
        self.note_history(&decision);
        self.publish(Some(Arc::clone(&decision)));
        Some(decision)
    }

    /// Decide on a thread of its own; the search is told to stop when its time is over.
    async fn decide_in_time(
        &mut self,
        policy: Arc<Policy>,
        observation: Observation,
        now_seconds: f64,
    ) -> Result<(Decision, State, Observation), JoinError> {
        let mut before = self.state.checkpoint();
        before.capacities = std::mem::take(&mut self.state.capacities);
        let detail = self.detail;
        let seconds = Pace::limit_seconds(policy.planner.interval_seconds);
        // Four plans at most are behind a decision.
        let units = if self.is_timed { self.pace.units(seconds / 4.0) } else { DEFAULT_UNITS };
        let is_timed = self.is_timed;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let job = tokio::task::spawn_blocking(move || {
            let effort = Effort { units, stop: Some(&seen), threads: threads(), ..Effort::default() };
            let search = Search { advised: effort, acting: effort, kept: effort, advised_kept: effort, detail };
            let (decision, state) = decide_within(&policy, &observation, before, now_seconds, &search);
            (decision, state, observation)
        });
        let late = tokio::time::sleep(Duration::from_secs_f64(seconds));
        tokio::pin!(job, late);
        tokio::select! {
            done = &mut job => done,
            () = &mut late, if is_timed => {
                stop.store(true, Ordering::Relaxed);
                job.await
            }
        }
    }

    fn reload_policy(&mut self) {
        let Some(answer) = self.reload.as_mut().and_then(|reload| reload()) else { return };
        match answer {
            Ok(policy) => {
                tracing::info!(fingerprint = policy.fingerprint, "policy reloaded");
                self.policy_status.fingerprint.clone_from(&policy.fingerprint);
                self.policy_status.error = None;
                self.policy_status.reloads += 1;
                let ids = |p: &Policy| p.pools.iter().map(crate::policy::Pool::id).collect::<Vec<_>>();
                if ids(&policy) != ids(&self.policy) {
                    // The points of the chart name pools by their place.
                    self.history.clear();
                }
                self.policy = Arc::new(policy);
            }
            Err(error) => {
                tracing::error!(error, "the edited policy is refused; the last good one stays");
                self.policy_status.error = Some(error);
                self.policy_status.rejected += 1;
            }
        }
    }

    fn record(&mut self, observation: &Observation, decision: &Decision) {
        let Some(journal) = self.journal.as_mut() else { return };
        if let Err(error) = journal.append(&self.state, observation, decision) {
            self.status.journal_errors += 1;
            tracing::warn!("{error:#}");
        }
    }

    fn remember(&mut self, state: State, now_seconds: f64) {
        let said = |s: &State| s.pools.values().map(|p| p.published).collect::<Vec<_>>();
        let changed = said(&self.state) != said(&state);
        self.state = state;
        if changed || now_seconds - self.saved_at_seconds >= SAVE_SECONDS {
            self.saved_at_seconds = now_seconds;
            self.save();
        }
    }

    /// Store the state now.
    pub fn save(&mut self) {
        let Some(store) = &self.store else { return };
        if let Err(error) = store.save(&self.state) {
            self.status.state_errors += 1;
            tracing::warn!("{error:#}");
        }
    }

    fn note_history(&mut self, decision: &Decision) {
        let count = |f: fn(&super::PoolDecision) -> Option<u32>| decision.pools.iter().filter_map(f).sum();
        self.history.push_back(HistoryPoint {
            at_seconds: decision.at_seconds,
            offered_rate: decision.models.iter().filter_map(|m| m.offered_rate).sum(),
            planned_rate: decision.models.iter().map(|m| m.planned_rate).sum(),
            ready: count(|p| p.ready),
            desired: count(|p| p.desired),
            cost_per_hour: decision.current_cost_per_hour,
            pools: decision.pools.iter().map(|p| p.desired.or(p.ready).unwrap_or(0)).collect(),
        });
        while self.history.len() > HISTORY_POINTS {
            self.history.pop_front();
        }
    }

    fn publish(&self, decision: Option<Arc<Decision>>) {
        let last = self.published.load();
        self.published.store(Arc::new(Published {
            decision: decision.or_else(|| last.decision.clone()),
            max_age_seconds: self.policy.planner.max_age_seconds,
            history: Arc::new(self.history.clone()),
            policy: self.policy_status.clone(),
            daemon: self.status.clone(),
        }));
    }
}

/// Threads that planning may use.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS))
}
