//! Whoever looks at the chain from outside all the time: what poolwright says, what HPA desires, what the scale
//! targets are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use poolwright::control::{Clock, Decision, SystemClock};
use poolwright::simulate::{Record, Side};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// Time between two questions to poolwright.
const PAUSE: Duration = Duration::from_millis(250);

/// What was seen so far.
#[derive(Default)]
pub struct Seen {
    pub record: Record,
    /// What poolwright says now; `None` while it says nothing.
    pub decision: Option<Decision>,
    /// Decisions seen.
    pub ticks: u64,
    /// Questions without an answer.
    pub silences: u64,
    /// Newest of each pool.
    pub desired: BTreeMap<String, u32>,
    pub spec: BTreeMap<String, u32>,
    /// Time from a decision with another number to the scale target, seconds.
    pub delays: Vec<f64>,
    /// Numbers on their way to the scale target, with the time of the decision.
    travelling: BTreeMap<String, (u32, f64)>,
}

impl Seen {
    /// Newest published number of every pool.
    pub fn published(&self) -> BTreeMap<String, Option<u32>> {
        let pools = self.decision.iter().flat_map(|d| &d.pools);
        pools.map(|p| (format!("{}/{}", p.namespace, p.pool), p.published())).collect()
    }

    /// Whether every number is decided from fresh data and has arrived.
    pub fn is_followed(&self) -> bool {
        let fresh = self.decision.as_ref().is_some_and(|d| {
            d.source_error.is_none() && d.pools.iter().all(|p| p.missing.is_empty() && p.desired.is_some())
        });
        let arrived = |(pool, number): (&String, &Option<u32>)| {
            number.is_some() && self.desired.get(pool) == number.as_ref() && self.spec.get(pool) == number.as_ref()
        };
        fresh && self.published().iter().all(arrived)
    }

    fn decided(&mut self, decision: Decision, at_seconds: f64) {
        for pool in &decision.pools {
            let id = format!("{}/{}", pool.namespace, pool.pool);
            let fresh = decision.source_error.is_none() && pool.missing.is_empty();
            self.record.published(&id, at_seconds, pool.published(), fresh);
            match pool.published() {
                Some(number) if self.spec.get(&id) != Some(&number) => {
                    let travelling = self.travelling.entry(id).or_insert((number, at_seconds));
                    if travelling.0 != number {
                        *travelling = (number, at_seconds);
                    }
                }
                _ => {
                    self.travelling.remove(&id);
                }
            }
        }
        self.ticks += 1;
        self.decision = Some(decision);
    }

    /// poolwright gives no numbers any more.
    fn silent(&mut self, at_seconds: f64) {
        self.silences += 1;
        let pools: Vec<String> = self.published().into_keys().collect();
        for pool in pools {
            self.record.published(&pool, at_seconds, None, false);
        }
        self.decision = None;
    }

    fn saw(&mut self, side: Side, pool: String, at_seconds: f64, replicas: u32) {
        let newest = if side == Side::Spec { &mut self.spec } else { &mut self.desired };
        newest.insert(pool.clone(), replicas);
        if side == Side::Spec
            && let Some((number, from_seconds)) = self.travelling.get(&pool).copied()
            && number == replicas
        {
            self.delays.push(at_seconds - from_seconds);
            self.travelling.remove(&pool);
        }
        self.record.seen(&pool, side, at_seconds, replicas);
    }
}

/// The tasks that look; they end when this is dropped.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    /// Unix time of the start of the run, seconds.
    start_seconds: f64,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Witness {
    /// Watch HPAs and Deployments of the namespace, and ask poolwright at `url`, `/v1/decision` of it.
    pub fn start(client: &Client, namespace: &str, url: String, start_seconds: f64) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let tasks = vec![
            tokio::spawn(watch(client, namespace, seen.clone(), start_seconds, |hpa: &HorizontalPodAutoscaler| {
                let desired = hpa.status.as_ref().map(|s| s.desired_replicas);
                // Before its first look it says nothing.
                desired
                    .filter(|_| hpa.status.as_ref().is_some_and(|s| s.conditions.is_some()))
                    .map(|n| (Side::Desired, n))
            })),
            tokio::spawn(watch(client, namespace, seen.clone(), start_seconds, |deployment: &Deployment| {
                Some((Side::Spec, deployment.spec.as_ref()?.replicas.unwrap_or(1)))
            })),
            tokio::spawn(ask(url, seen.clone(), start_seconds)),
        ];
        Self { seen, start_seconds, tasks }
    }

    /// What was seen, for as long as the guard lives. Never twice in one statement.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Seconds since the start of the run.
    pub fn now(&self) -> f64 {
        SystemClock.now_seconds() - self.start_seconds
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch<K>(
    client: &Client,
    namespace: &str,
    seen: Arc<Mutex<Seen>>,
    start_seconds: f64,
    side: impl Fn(&K) -> Option<(Side, i32)> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    async move {
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
            let Some((side, replicas)) = side(&object) else { continue };
            let pool = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            let at_seconds = SystemClock.now_seconds() - start_seconds;
            lock(&seen).saw(side, pool, at_seconds, u32::try_from(replicas).unwrap_or(0));
        }
    }
}

async fn ask(url: String, seen: Arc<Mutex<Seen>>, start_seconds: f64) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client");
    let mut newest = 0.0;
    loop {
        tokio::time::sleep(PAUSE).await;
        let decision = decision(&client, &url).await;
        let mut seen = lock(&seen);
        match decision {
            Some(decision) if decision.at_seconds != newest => {
                newest = decision.at_seconds;
                seen.decided(decision, newest - start_seconds);
            }
            Some(_) => {}
            None => seen.silent(SystemClock.now_seconds() - start_seconds),
        }
    }
}

async fn decision(client: &reqwest::Client, url: &str) -> Option<Decision> {
    let answer = client.get(url).send().await.ok()?.error_for_status().ok()?;
    // A decision that cannot be read must not pass for silence.
    Some(serde_json::from_slice(&answer.bytes().await.ok()?).expect("/v1/decision is a decision"))
}
