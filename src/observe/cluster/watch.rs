//! The watches: one per kind and namespace, started and stopped as the policy says, mended when they break.
//!
//! A watch that fails is a finding, never a stop. What it knew stays, and counts until it is too old.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::once::{fact, server_minor};
use super::resolve::{absent, field_selector, is_optional, problem, resolve};
use super::shelf::{ClusterSnapshot, Fact, Shelf, WatchKey};
use super::state::ClusterState;
use crate::policy::Policy;

/// Longest life of one watch request, seconds. A connection that died without a word is noticed a little later.
const WATCH_SECONDS: u32 = 50;
/// How often it is asked whether an API exists now that did not.
const RECHECK: Duration = Duration::from_secs(180);
/// How often the server's version is asked: it may be upgraded.
const VERSION: Duration = Duration::from_secs(3600);

/// Where the cluster's state comes from.
#[derive(Clone, Debug)]
pub enum ClusterView {
    Watch(ClusterWatch),
    Once(Arc<ClusterSnapshot>),
}

impl ClusterView {
    /// The state of the policy's pools as far as it is known at `now_seconds` (Unix time).
    pub fn state(&self, policy: &Policy, now_seconds: f64) -> ClusterState {
        match self {
            Self::Watch(watch) => watch.state(policy, now_seconds),
            Self::Once(snapshot) => snapshot.judge(policy, now_seconds),
        }
    }
}

/// Follows the cluster's state. Clones share it; the watches end with the last one.
#[derive(Clone)]
pub struct ClusterWatch(Arc<Inner>);

struct Inner {
    client: Client,
    shared: Arc<Shared>,
    tasks: Mutex<BTreeMap<WatchKey, AbortOnDropHandle<()>>>,
    _version: AbortOnDropHandle<()>,
}

struct Shared {
    snapshot: Mutex<ClusterSnapshot>,
    changes: watch::Sender<u64>,
}

impl fmt::Debug for ClusterWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterWatch").field(&self.0.shared.lock().shelves.len()).finish()
    }
}

/// Nothing is left half done when a holder panics, so what is there is right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClusterWatch {
    /// Begin to watch what the policy's pools need. To be called in a runtime.
    pub fn start(client: Client, policy: &Policy) -> Self {
        let shared = Arc::new(Shared { snapshot: Mutex::default(), changes: watch::channel(0).0 });
        let version = tokio::spawn(ask_version(client.clone(), Arc::clone(&shared)));
        let version = AbortOnDropHandle::new(version);
        let this = Self(Arc::new(Inner { client, shared, tasks: Mutex::default(), _version: version }));
        this.cover(policy);
        this
    }

    /// Start and stop watches so that they are those of this policy.
    fn cover(&self, policy: &Policy) {
        let keys = WatchKey::all(policy);
        let mut tasks = lock(&self.0.tasks);
        if tasks.keys().eq(&keys) {
            return;
        }
        tasks.retain(|key, _| keys.contains(key));
        self.0.shared.lock().shelves.retain(|key, _| keys.contains(key));
        let new: BTreeSet<WatchKey> = keys.into_iter().filter(|key| !tasks.contains_key(key)).collect();
        for key in new {
            self.0.shared.lock().shelves.insert(key.clone(), Shelf::default());
            let task = tokio::spawn(keep_watching(self.0.client.clone(), Arc::clone(&self.0.shared), key.clone()));
            tasks.insert(key, AbortOnDropHandle::new(task));
        }
    }

    /// The state of the policy's pools, at `now_seconds` (Unix time). A policy with other targets is watched from
    /// now on.
    pub fn state(&self, policy: &Policy, now_seconds: f64) -> ClusterState {
        self.cover(policy);
        self.snapshot(now_seconds).judge(policy, now_seconds)
    }

    /// Everything that was read so far. Lists that are being followed are taken to be right at `now_seconds`.
    pub fn snapshot(&self, now_seconds: f64) -> ClusterSnapshot {
        let mut snapshot = self.0.shared.lock();
        for shelf in snapshot.shelves.values_mut().filter(|shelf| shelf.healthy) {
            shelf.good_seconds = Some(now_seconds);
        }
        snapshot.clone()
    }

    /// Wait until every list was read once or refused, at most this long. False when some was neither.
    pub async fn settled(&self, limit: Duration) -> bool {
        let mut changes = self.changes();
        let settled = async {
            loop {
                let waits = |shelf: &Shelf| !shelf.synced && shelf.problem.is_none();
                if !self.0.shared.lock().shelves.values().any(waits) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// A counter that changes with everything that is read.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.shared.changes.subscribe()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ClusterSnapshot> {
        lock(&self.snapshot)
    }

    /// Change a list, if it is still wanted.
    fn change(&self, key: &WatchKey, change: impl FnOnce(&mut Shelf)) {
        if let Some(shelf) = self.lock().shelves.get_mut(key) {
            change(shelf);
        }
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}

async fn ask_version(client: Client, shared: Arc<Shared>) {
    let mut backoff = DefaultBackoff::default();
    loop {
        let minor = server_minor(&client).await;
        if minor.is_some() {
            shared.lock().server_minor = minor;
            shared.changes.send_modify(|n| *n = n.wrapping_add(1));
        }
        tokio::time::sleep(if minor.is_some() { VERSION } else { pause(&mut backoff) }).await;
    }
}

fn pause(backoff: &mut DefaultBackoff) -> Duration {
    backoff.next().unwrap_or(Duration::from_secs(30))
}

/// Why a watch ended.
enum End {
    /// The API does not exist.
    Absent,
    /// What was known is too old for the server: it is read anew.
    Expired,
    Failed(kube::Error),
    Odd(String),
}

async fn keep_watching(client: Client, shared: Arc<Shared>, key: WatchKey) {
    let mut backoff = DefaultBackoff::default();
    loop {
        let wait = match watch_once(&client, &shared, &key).await {
            End::Absent if is_optional(&key) => {
                shared.change(&key, |shelf| {
                    *shelf = Shelf { synced: true, healthy: true, ..Shelf::default() };
                });
                RECHECK
            }
            End::Absent => {
                fail(&shared, &key, absent(&key));
                pause(&mut backoff)
            }
            End::Expired => {
                shared.change(&key, |shelf| shelf.healthy = false);
                pause(&mut backoff)
            }
            End::Failed(error) => {
                fail(&shared, &key, problem(&key, &error));
                pause(&mut backoff)
            }
            End::Odd(text) => {
                fail(&shared, &key, text);
                pause(&mut backoff)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn fail(shared: &Shared, key: &WatchKey, problem: String) {
    shared.change(key, |shelf| {
        if shelf.problem.as_ref() != Some(&problem) {
            tracing::warn!(list = %key, problem, "the cluster's state is not known");
        }
        shelf.healthy = false;
        shelf.problem = Some(problem);
    });
}

async fn watch_once(client: &Client, shared: &Shared, key: &WatchKey) -> End {
    let api = match resolve(client, key).await {
        Ok(Some(api)) => api,
        Ok(None) => return End::Absent,
        Err(error) => return End::Failed(error),
    };
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.field_selector = field_selector(key);
    let mut events = std::pin::pin!(watcher::watcher(api.clone(), config));
    let mut reader = Reader { api, key, first: BTreeMap::new(), seen: BTreeMap::new() };
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return End::Odd("the watch ended; it is begun again".to_owned()),
            Err(error) => return ended(error),
        };
        if let Err(error) = reader.take(event, shared).await {
            return End::Failed(error);
        }
    }
}

fn ended(error: watcher::Error) -> End {
    match error {
        watcher::Error::WatchError(status) if status.code == 410 => End::Expired,
        watcher::Error::WatchError(status) => End::Failed(kube::Error::Api(status)),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => End::Failed(error),
        watcher::Error::NoResourceVersion => End::Odd("its list cannot be watched".to_owned()),
    }
}

/// Takes in the events of one watch.
struct Reader<'a> {
    api: Api<DynamicObject>,
    key: &'a WatchKey,
    /// Objects of a list that is not complete yet.
    first: BTreeMap<String, Arc<Fact>>,
    /// Generation and status of objects whose scale was read, by name.
    seen: BTreeMap<String, (Option<i64>, Value)>,
}

impl Reader<'_> {
    async fn take(&mut self, event: Event<DynamicObject>, shared: &Shared) -> Result<(), kube::Error> {
        match event {
            Event::Init => {
                self.first.clear();
                self.seen.clear();
            }
            Event::InitApply(object) => {
                if let (Some(name), Some(fact)) = (object.metadata.name.clone(), self.read(&object).await?) {
                    self.first.insert(name, Arc::new(fact));
                }
            }
            Event::InitDone => {
                let objects = Arc::new(std::mem::take(&mut self.first));
                shared.change(self.key, |shelf| {
                    if shelf.problem.is_some() {
                        tracing::info!(list = %self.key, "the cluster's state is known again");
                    }
                    *shelf = Shelf { objects, synced: true, healthy: true, ..Shelf::default() };
                });
            }
            Event::Apply(object) => {
                if let (Some(name), Some(fact)) = (object.metadata.name.clone(), self.read(&object).await?) {
                    shared.change(self.key, |shelf| {
                        Arc::make_mut(&mut shelf.objects).insert(name, Arc::new(fact));
                    });
                }
            }
            Event::Delete(object) => {
                let name = object.metadata.name.unwrap_or_default();
                self.seen.remove(&name);
                shared.change(self.key, |shelf| {
                    Arc::make_mut(&mut shelf.objects).remove(&name);
                });
            }
        }
        Ok(())
    }

    /// What is kept of an object; nothing when nothing that matters changed.
    async fn read(&mut self, object: &DynamicObject) -> Result<Option<Fact>, kube::Error> {
        if field_selector(self.key).is_some() {
            let name = object.metadata.name.clone().unwrap_or_default();
            let stamp = (object.metadata.generation, object.data.get("status").cloned().unwrap_or_default());
            if self.seen.get(&name) == Some(&stamp) {
                return Ok(None);
            }
            let fact = fact(&self.api, self.key, object).await?;
            self.seen.insert(name, stamp);
            return Ok(fact);
        }
        fact(&self.api, self.key, object).await
    }
}
