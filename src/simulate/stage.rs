//! A whole run: the simulated fleet, the daemon proper, the HPA that follows it, and the static fleet
//! beside them, in lock-step.
//!
//! One step is one tick of the daemon: the world advances, the daemon scrapes it over HTTP, decides and
//! publishes, every HPA asks the external metrics API over HTTP, the scale targets change. Nothing in it
//! depends on how fast the machine is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Snapshot;
use super::fleet::{Fleet, FleetOptions};
use super::hpa::{HpaFollower, HpaSpec};
use super::http::{FleetServer, SharedFleet};
use super::router::RouteShares;
use super::scenario::{Scenario, TRACE_SECONDS};
use crate::control::{Daemon, DaemonParts, Decision, Detail, ManualClock, Sizing, State};
use crate::observe::{ScrapeOptions, ScrapeSource};
use crate::policy::{Mode, Policy};
use crate::serve::{Listener, ServeState, StopTimes};

/// Start of the simulated clock: Monday 2026-01-05 09:00 UTC.
const START_UNIX_SECONDS: f64 = 1_767_603_600.0;
/// Time between two looks of the HPA controller, seconds; not less than one tick.
const HPA_SYNC_SECONDS: f64 = 15.0;
/// First part of the trace that the initial fleet is sized for, seconds: as if the daemon had run before.
const FIRST_SECONDS: f64 = 300.0;
/// Time that requests still inside at the end of a run are given to finish, seconds.
const DRAIN_SECONDS: f64 = 1800.0;

/// How to set the stage.
#[derive(Clone, Debug)]
pub struct StageOptions {
    pub seed: u64,
    /// Every pool is slower or faster than the model says by up to this share.
    pub error: f64,
    /// Length of the run in simulated seconds, if it ends; the static fleet is sized for it.
    pub length_seconds: Option<f64>,
    /// Where the page, the JSON API, `/metrics` and the external metrics API listen.
    pub listen: SocketAddr,
}

/// A run.
pub struct Stage {
    policy: Arc<Policy>,
    fleet: SharedFleet,
    server: FleetServer,
    /// The same requests on a fleet of fixed size.
    fixed: Fleet,
    fixed_size: Sizing,
    daemon: Daemon,
    clock: Arc<ManualClock>,
    followers: Vec<HpaFollower>,
    demo: Arc<ArcSwapOption<serde_json::Value>>,
    address: SocketAddr,
    now_seconds: f64,
    speed: f64,
    changes: u64,
    synced_seconds: f64,
    _stop: DropGuard,
}

/// Where everything stands after a step.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Simulated seconds since the start.
    pub at_seconds: f64,
    pub decision: Option<Arc<Decision>>,
    pub fleet: Snapshot,
    pub fixed: Snapshot,
    pub fixed_cost_per_hour: f64,
}

/// The books of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub seed: u64,
    pub simulated_seconds: f64,
    pub currency: String,
    pub cost: f64,
    pub static_cost: f64,
    /// 1 - cost / static cost.
    pub saving: f64,
    /// Times HPA changed a scale target.
    pub scale_changes: u64,
    pub classes: Vec<ClassSummary>,
    pub pools: Vec<PoolSummary>,
}

/// One class at the end of a run. Every request that arrived is in `met` or in `missed`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassSummary {
    pub class: String,
    pub arrived: u64,
    pub met: u64,
    pub missed: u64,
    pub attainment: Option<f64>,
    /// The same for the static fleet.
    pub static_attainment: Option<f64>,
}

/// One pool at the end of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolSummary {
    pub pool: String,
    pub accelerator: String,
    pub replicas: u32,
    pub static_replicas: u32,
}

impl Stage {
    /// Set the stage: every pool acts, the fleet starts with what the planner asks for in the first minutes.
    ///
    /// # Errors
    /// An annotation of the policy is wrong, or a port cannot be opened.
    pub async fn new(mut policy: Policy, options: &StageOptions) -> Result<Self> {
        policy.pools.iter_mut().for_each(|p| p.mode = Mode::Act);
        let scenario = Scenario::new(&policy, options.seed)?;
        let length = options.length_seconds.unwrap_or(TRACE_SECONDS);
        let fixed_size = scenario.static_fleet(&policy, length)?;
        let first = scenario.static_fleet(&policy, FIRST_SECONDS.min(length))?;
        let fleet_options = FleetOptions {
            seed: options.seed,
            error: options.error,
            start_unix_seconds: START_UNIX_SECONDS,
            ..FleetOptions::default()
        };
        let mut fleet = Fleet::new(&policy, scenario.workloads(&policy)?, fleet_options);
        let mut fixed = Fleet::new(&policy, scenario.workloads(&policy)?, fleet_options);
        for pool in 0..policy.pools.len() {
            fleet.place_ready(pool, first.replicas[pool].max(policy.pools[pool].min));
            fixed.place_ready(pool, fixed_size.replicas[pool]);
        }
        let fleet = SharedFleet::new(fleet);
        let server = FleetServer::start(fleet.clone()).await.context("cannot serve the simulated fleet")?;
        let source =
            ScrapeSource::new(ScrapeOptions { discovery: vec![server.discovery_url()], ..ScrapeOptions::default() })?;
        let daemon = Daemon::new(DaemonParts {
            policy: policy.clone(),
            reload: None,
            source: Box::new(source),
            state: State::default(),
            store: None,
            journal: None,
            is_timed: false,
        });
        let clock = Arc::new(ManualClock::new(START_UNIX_SECONDS));
        let demo = Arc::new(ArcSwapOption::empty());
        let (address, stop) = serve(&daemon, Arc::clone(&clock), Arc::clone(&demo), options.listen)?;
        let followers = followers(&policy, address)?;
        let mut stage = Self {
            policy: Arc::new(policy),
            fleet,
            server,
            fixed,
            fixed_size,
            daemon,
            clock,
            followers,
            demo,
            address,
            now_seconds: 0.0,
            speed: 0.0,
            changes: 0,
            synced_seconds: 0.0,
            _stop: stop,
        };
        // A rate needs two readings: this is the first.
        stage.daemon.warm_up(START_UNIX_SECONDS).await;
        Ok(stage)
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Address of the page and of every interface.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the discovery of the simulated replicas.
    pub fn discovery_url(&self) -> String {
        self.server.discovery_url()
    }

    /// Speed to show on the page; it changes nothing.
    pub fn show_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    /// How much the decisions of the steps that follow say of their reasons.
    pub fn set_detail(&mut self, detail: Detail) {
        self.daemon.set_detail(detail);
    }

    /// One tick.
    ///
    /// # Errors
    /// A port of a new replica cannot be opened.
    pub async fn step(&mut self) -> Result<Scene> {
        self.now_seconds += self.policy.planner.interval_seconds;
        let now_unix = START_UNIX_SECONDS + self.now_seconds;
        self.fleet.lock().advance(self.now_seconds);
        self.fixed.advance(self.now_seconds);
        self.server.sync().context("cannot open a replica's port")?;
        self.clock.set(now_unix);
        let decision = self.daemon.tick(now_unix).await;
        if let Some(decision) = &decision {
            let shares = RouteShares::from_decision(&self.policy, decision);
            self.fleet.lock().set_routes(shares);
        }
        let due = self.now_seconds - self.synced_seconds >= HPA_SYNC_SECONDS - 1e-6;
        if due {
            self.synced_seconds = self.now_seconds;
        }
        for pool in (0..self.followers.len()).filter(|_| due) {
            let (status, spec) = self.fleet.lock().scale(pool);
            let wanted = self.followers[pool].sync(status, spec).await;
            if wanted != spec {
                self.changes += 1;
                self.fleet.lock().set_replicas(pool, wanted);
            }
        }
        self.server.sync().context("cannot open a replica's port")?;
        let scene = Scene {
            at_seconds: self.now_seconds,
            decision,
            fleet: self.fleet.lock().snapshot(),
            fixed: self.fixed.snapshot(),
            fixed_cost_per_hour: self.fixed_size.cost_per_hour,
        };
        self.demo.store(Some(Arc::new(self.page_data(&scene))));
        Ok(scene)
    }

    fn page_data(&self, scene: &Scene) -> serde_json::Value {
        let targets = |class: &str| {
            self.policy.classes.iter().find(|c| c.name == class).and_then(|c| match c.promise {
                crate::policy::Promise::Latency { quantile, .. } => Some(quantile),
                crate::policy::Promise::Deadline { .. } => None,
            })
        };
        let classes: Vec<serde_json::Value> = scene
            .fleet
            .classes
            .iter()
            .map(|c| {
                serde_json::json!({
                    "class": c.class, "attainment": c.attainment, "target": targets(&c.class),
                    "arrived": c.arrived, "met": c.met,
                })
            })
            .collect();
        serde_json::json!({
            "virtual_time_seconds": scene.at_seconds,
            "speed": self.speed,
            "classes": classes,
            "cost_so_far": scene.fleet.cost,
            "static_cost_so_far": scene.fixed.cost,
            "static_cost_per_hour": scene.fixed_cost_per_hour,
        })
    }

    /// End the run: arrivals stop, what is inside may finish, and the books are closed. Requests that are
    /// still not finished then count as missed.
    pub fn finish(self, seed: u64) -> Summary {
        let costs = (self.fleet.lock().snapshot().cost, self.fixed.snapshot().cost);
        let replicas: Vec<u32> = self.fleet.lock().snapshot().pools.iter().map(|p| p.spec).collect();
        let Self { policy, fleet, mut fixed, fixed_size, now_seconds, changes, .. } = self;
        let mut fleet = fleet.lock();
        for world in [&mut *fleet, &mut fixed] {
            world.stop_arrivals();
            world.advance(now_seconds + DRAIN_SECONDS);
        }
        let (ours, theirs) = (fleet.snapshot(), fixed.snapshot());
        let share = |met: u64, arrived: u64| (arrived > 0).then(|| met as f64 / arrived as f64);
        let classes = ours
            .classes
            .iter()
            .zip(&theirs.classes)
            .map(|(c, s)| ClassSummary {
                class: c.class.clone(),
                arrived: c.arrived,
                met: c.met,
                missed: c.arrived - c.met,
                attainment: share(c.met, c.arrived),
                static_attainment: share(s.met, s.arrived),
            })
            .collect();
        let pools = policy
            .pools
            .iter()
            .enumerate()
            .map(|(i, p)| PoolSummary {
                pool: p.id(),
                accelerator: policy.accelerators[p.accelerator].name.clone(),
                replicas: replicas[i],
                static_replicas: fixed_size.replicas[i],
            })
            .collect();
        Summary {
            seed,
            simulated_seconds: now_seconds,
            currency: policy.currency.clone(),
            cost: costs.0,
            static_cost: costs.1,
            saving: if costs.1 > 0.0 { 1.0 - costs.0 / costs.1 } else { 0.0 },
            scale_changes: changes,
            classes,
            pools,
        }
    }
}

/// Serve the daemon's snapshot on loopback until the guard is dropped.
fn serve(
    daemon: &Daemon,
    clock: Arc<ManualClock>,
    demo: Arc<ArcSwapOption<serde_json::Value>>,
    listen: SocketAddr,
) -> Result<(SocketAddr, DropGuard)> {
    let socket = std::net::TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let state = ServeState::new(daemon.published(), clock).with_demo(demo);
    let readiness = state.readiness().clone();
    let listener =
        Listener { socket, router: crate::serve::router(state), tls: None, http2: crate::serve::Http2::default() };
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let times = StopTimes { drain: std::time::Duration::ZERO, grace: std::time::Duration::from_secs(1) };
    tokio::spawn(async move {
        if let Err(error) = crate::serve::run(vec![listener], readiness, stopped, times).await {
            tracing::error!(%error, "the demo's web server ended");
        }
    });
    Ok((address, stop.drop_guard()))
}

fn followers(policy: &Policy, address: SocketAddr) -> Result<Vec<HpaFollower>> {
    let client = reqwest::Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
    Ok(policy
        .pools
        .iter()
        .map(|pool| {
            let spec = HpaSpec {
                namespace: pool.namespace.clone(),
                pool: pool.name.clone(),
                min: pool.min,
                max: pool.max,
                tolerance: 0.0,
            };
            HpaFollower::new(client.clone(), &format!("http://{address}"), spec)
        })
        .collect())
}
