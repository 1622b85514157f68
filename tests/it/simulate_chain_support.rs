//! The whole chain in virtual time: a fleet of pods that a model of a cluster creates and deletes, the
//! daemon proper, and HPA's arithmetic between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use poolwright::control::{Daemon, DaemonParts, Decision, State};
use poolwright::observe::{BoxFuture, Observation, RatePoint, ScrapeOptions, ScrapeSource, Source};
use poolwright::policy::{Policy, load};
use poolwright::simulate::{
    ClassService, Fleet, FleetOptions, FleetServer, Record, Scenario, SharedFleet, Side, Window, hpa_desired,
};

/// Time between two looks of HPA, seconds.
pub const SYNC_SECONDS: u32 = 2;
/// Longest time that a deleted pod may take to finish, seconds.
const GRACE_SECONDS: f64 = 60.0;
/// Time that requests still inside at the end are given to finish, seconds.
const DRAIN_SECONDS: f64 = 600.0;
const START_UNIX_SECONDS: f64 = 1_767_603_600.0;
/// Minutes of demand that the daemon remembers from before.
const REMEMBERED_MINUTES: usize = 60;

pub fn policy_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cluster/policy.yaml")
}

/// A pod as its node sees it.
struct Pod {
    name: String,
    ready_seconds: f64,
    ready: bool,
    /// Since when its deletion is asked for.
    deleted_seconds: Option<f64>,
}

/// One pool's scale target with its pods.
struct Target {
    spec: u32,
    pods: Vec<Pod>,
    created: u32,
}

/// The run; one step is one second.
pub struct Chain {
    pub policy: Policy,
    pub fleet: SharedFleet,
    pub record: Record,
    server: FleetServer,
    daemon: Daemon,
    targets: Vec<Target>,
    /// Port of every pod; each has an address of its own.
    port: u16,
    blind: Arc<AtomicBool>,
    second: u32,
}

/// A source that somebody may take away.
struct Blindable {
    inner: ScrapeSource,
    blind: Arc<AtomicBool>,
}

impl Source for Blindable {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn observe<'a>(&'a mut self, policy: &'a Arc<Policy>, now_seconds: f64) -> BoxFuture<'a, Observation> {
        if !self.blind.load(Ordering::Relaxed) {
            return self.inner.observe(policy, now_seconds);
        }
        let source_error = Some("the source is gone".to_owned());
        let nothing = Observation { at_seconds: now_seconds, source_error, pools: vec![], findings: vec![] };
        Box::pin(std::future::ready(nothing))
    }

    fn history<'a>(
        &'a mut self,
        policy: &'a Arc<Policy>,
        now_seconds: f64,
        span_seconds: f64,
    ) -> BoxFuture<'a, BTreeMap<String, Vec<RatePoint>>> {
        self.inner.history(policy, now_seconds, span_seconds)
    }
}

impl Chain {
    /// A fleet whose pods were ready before the first request came, as many as the first minutes need.
    pub async fn start(seed: u64) -> Self {
        let policy = load(&policy_path()).unwrap();
        let scenario = Scenario::new(&policy, seed).unwrap();
        let options =
            FleetOptions { seed, keep_completions: true, start_unix_seconds: START_UNIX_SECONDS, ..Default::default() };
        let shared = SharedFleet::new(Fleet::external(&policy, scenario.workloads(&policy).unwrap(), options));
        let first = scenario.static_fleet(&policy, 60.0).unwrap().replicas;
        let targets = policy.pools.iter().map(|_| Target { spec: 0, pods: vec![], created: 0 }).collect();
        let server = FleetServer::start(shared.clone()).await.unwrap();
        let options = ScrapeOptions { discovery: vec![server.discovery_url()], ..Default::default() };
        let blind = Arc::new(AtomicBool::new(false));
        let source = Blindable { inner: ScrapeSource::new(options).unwrap(), blind: Arc::clone(&blind) };
        let mut state = State::default();
        state.fill_back(scenario.history(&policy, START_UNIX_SECONDS, REMEMBERED_MINUTES).unwrap());
        let parts = DaemonParts {
            policy: policy.clone(),
            reload: None,
            source: Box::new(source),
            state,
            store: None,
            journal: None,
            is_timed: false,
        };
        let daemon = Daemon::new(parts);
        let free = std::net::TcpListener::bind((Ipv4Addr::new(127, 41, 0, 1), 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let record = Record::default();
        let mut chain = Self { policy, fleet: shared, record, server, daemon, targets, port, blind, second: 0 };
        for (pool, replicas) in first.into_iter().enumerate() {
            chain.scale(pool, replicas.max(chain.policy.pools[pool].min));
            chain.targets[pool].pods.iter_mut().for_each(|p| p.ready_seconds = 0.0);
        }
        chain.kubelet();
        chain.server.sync().unwrap();
        chain.daemon.warm_up(START_UNIX_SECONDS).await;
        chain
    }

    /// Let `seconds` go by.
    pub async fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.second += 1;
            self.fleet.lock().advance(f64::from(self.second));
            self.kubelet();
            if f64::from(self.second) % self.policy.planner.interval_seconds == 0.0 {
                self.tick().await;
            }
            if self.second.is_multiple_of(SYNC_SECONDS) {
                self.sync();
            }
        }
    }

    /// Let `seconds` go by while the daemon sees nothing.
    pub async fn blind(&mut self, seconds: u32) -> Window {
        let from_seconds = f64::from(self.second);
        self.blind.store(true, Ordering::Relaxed);
        self.run(seconds).await;
        self.blind.store(false, Ordering::Relaxed);
        Window { from_seconds, to_seconds: f64::from(self.second) }
    }

    async fn tick(&mut self) {
        self.server.sync().unwrap();
        let at_seconds = f64::from(self.second);
        let decision = self.daemon.tick(START_UNIX_SECONDS + at_seconds).await.unwrap();
        for pool in &decision.pools {
            let id = format!("{}/{}", pool.namespace, pool.pool);
            let fresh = decision.source_error.is_none() && pool.missing.is_empty();
            self.record.published(&id, at_seconds, pool.published(), fresh);
        }
    }

    /// Every HPA looks once.
    fn sync(&mut self) {
        let at_seconds = f64::from(self.second);
        for index in 0..self.targets.len() {
            let (pool, spec) = (&self.policy.pools[index], self.targets[index].spec);
            let Some(number) = self.number(index) else { continue };
            let desired = hpa_desired(spec, spec, i64::from(number) * 1000, 0.0, pool.min, pool.max);
            let id = pool.id();
            self.record.seen(&id, Side::Desired, at_seconds, desired);
            self.record.seen(&id, Side::Spec, at_seconds, desired);
            self.scale(index, desired);
        }
    }

    /// The number that the daemon answers with now.
    fn number(&self, pool: usize) -> Option<u32> {
        let published = self.daemon.published().load_full();
        let now_seconds = START_UNIX_SECONDS + f64::from(self.second);
        let decision: &Decision = published.current(now_seconds).ok()?;
        decision.pools[pool].published()
    }

    /// What the controller of a Deployment does: create what is missing, delete those that are not ready
    /// first, then the newest.
    fn scale(&mut self, pool: usize, replicas: u32) {
        let now_seconds = f64::from(self.second);
        let Target { spec, pods, created } = &mut self.targets[pool];
        let config = &self.policy.pools[pool];
        *spec = replicas;
        let mut fleet = self.fleet.lock();
        let live = |pods: &[Pod]| pods.iter().filter(|p| p.deleted_seconds.is_none()).count();
        while live(pods) < replicas as usize {
            let name = format!("{}-5d4f8c7b6-{created:0>5}", config.name);
            let address = SocketAddr::from((Ipv4Addr::new(127, 41, pool as u8, 1 + (*created % 250) as u8), self.port));
            fleet.add_pod(pool, &name, Some(address)).unwrap();
            let ready_seconds = now_seconds + config.startup_seconds;
            pods.push(Pod { name, ready_seconds, ready: false, deleted_seconds: None });
            *created += 1;
        }
        while live(pods) > replicas as usize {
            let candidates = pods.iter_mut().filter(|p| p.deleted_seconds.is_none());
            let victim = candidates.rev().min_by_key(|p| p.ready).unwrap();
            victim.deleted_seconds = Some(now_seconds);
            fleet.drain_pod(&config.namespace, &victim.name).unwrap();
        }
    }

    /// What the kubelet does: servers come up after the start-up time, and go when they are empty.
    fn kubelet(&mut self) {
        let now_seconds = f64::from(self.second);
        let mut fleet = self.fleet.lock();
        for (pool, target) in self.policy.pools.iter().zip(&mut self.targets) {
            target.pods.retain_mut(|pod| match pod.deleted_seconds {
                Some(since) => {
                    let empty = fleet.pod_outstanding(&pool.namespace, &pod.name) == Some(0);
                    let over = empty || now_seconds - since >= GRACE_SECONDS;
                    if over {
                        fleet.remove_pod(&pool.namespace, &pod.name).unwrap();
                    }
                    !over
                }
                None => {
                    if !pod.ready && pod.ready_seconds <= now_seconds {
                        fleet.pod_ready(&pool.namespace, &pod.name).unwrap();
                        pod.ready = true;
                    }
                    true
                }
            });
        }
    }

    /// No request comes any more; those inside may finish. Says how every class was served and the cost of
    /// the run up to now.
    pub fn finish(&mut self) -> (Vec<ClassService>, f64) {
        let mut fleet = self.fleet.lock();
        let cost = fleet.snapshot().cost;
        fleet.stop_arrivals();
        let now_seconds = fleet.now_seconds();
        fleet.advance(now_seconds + DRAIN_SECONDS);
        (fleet.service(&[]), cost)
    }
}
