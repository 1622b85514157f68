//! The whole chain, everything real but the accelerators: simulated vLLM servers in the pods that the Deployment
//! controller makes, a real Prometheus that scrapes them, poolwright as it is installed, and the real HPA.
//!
//! First a load that goes up and down, then the faults, one after the other, under the same load. It prints a
//! line every ten seconds and a report at the end. CLUSTER_DEMO_SECONDS is the length of the first part.

mod faults;
mod programs;
mod report;
mod servers;
mod witness;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use poolwright::control::{Clock, State, StateStore, SystemClock};
use poolwright::policy::{Policy, Pool, Promise, load};
use poolwright::simulate::{Fleet, FleetOptions, LiveFleet, Pace, PoolSnapshot, Scenario, Window};
use serde_json::{Value, json};

use self::programs::{Installed, Program};
use self::report::Demands;
use self::servers::Engines;
use self::witness::Witness;
use crate::harness::World;
use crate::harness::controlplane::HPA_SYNC;
use crate::harness::process::free_port;
use crate::harness::wait::{SOON, until};

const SEED: u64 = 7;
/// Namespace of the policy's pools.
const NAMESPACE: &str = "fleet";
/// Minutes of demand that poolwright remembers from before.
const REMEMBERED_MINUTES: usize = 60;
/// Length of the part without faults where nobody says another, seconds.
const LENGTH_SECONDS: f64 = 600.0;
const STATUS: Duration = Duration::from_secs(10);
/// For observing, deciding and answering, on top of HPA's sync, seconds.
const SLACK_SECONDS: f64 = 1.5;

pub const PACE: Pace = Pace { sync_seconds: HPA_SYNC.as_secs_f64(), slack_seconds: SLACK_SECONDS };

/// A run.
struct Chain {
    policy: Policy,
    scenario: Scenario,
    live: LiveFleet,
    witness: Witness,
    prometheus: Program,
    poolwright: Program,
    installed: Installed,
    /// Where something was stopped on purpose, up to when all was well again.
    windows: Vec<Window>,
    /// What must not have happened.
    problems: Vec<String>,
    /// What was measured, in words.
    figures: Vec<String>,
    status: Instant,
}

pub async fn everything_is_real_but_the_gpu(world: &mut World) {
    if !programs::prometheus_is_installed() {
        println!("\n*** THE WHOLE CHAIN IS SKIPPED: prometheus is not installed; `apt-get install prometheus`\n");
        return;
    }
    let length = std::env::var("CLUSTER_DEMO_SECONDS").ok().map(|text| text.parse::<f64>());
    let length = length.unwrap_or(Ok(LENGTH_SECONDS)).expect("CLUSTER_DEMO_SECONDS is a number of seconds");
    let (wall, cpu) = (Instant::now(), world.plane.cpu_seconds());
    // Its registration goes to poolwright itself.
    world.server.kill();
    let mut chain = Chain::start(world).await;
    let loaded_seconds = chain.witness.now();
    chain.run(length).await;
    chain.judge_standing();
    chain.faults(world, length).await;
    chain.run(30.0).await;
    let control_plane = world.plane.cpu_seconds() - cpu;
    let demands = Demands::of(length);
    let problems = chain.report(&demands, loaded_seconds, wall.elapsed().as_secs_f64(), control_plane);
    world.forget_namespace(NAMESPACE);
    world.register();
    world.server.restart();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn policy_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cluster/policy.yaml")
}

impl Chain {
    /// All there and following, and the first requests on their way.
    async fn start(world: &World) -> Self {
        let policy = load(&policy_path()).expect("the fixture is a policy");
        let scenario = Scenario::new(&policy, SEED).expect("the fixture says what to play");
        let start_unix_seconds = SystemClock.now_seconds();
        let options =
            FleetOptions { seed: SEED, keep_completions: true, start_unix_seconds, ..FleetOptions::default() };
        let live = LiveFleet::start(Fleet::external(&policy, vec![], options)).await.expect("ports are free");
        let port = free_port();
        let engines = Engines::new(policy.clone(), live.fleet().clone(), port);
        world.kubelet.host(engines.clone());
        world.namespace(NAMESPACE);
        let first = first_replicas(&policy, &scenario);
        world.kubectl.apply(&deployments(&policy, &first, port).to_string());
        let prometheus = programs::prometheus(world, live.discovery_url()).await;
        let pods = first.iter().sum::<u32>() as usize;
        until("Prometheus has all pods", SOON, async || {
            let seen = programs::series(&prometheus, "sum_over_time(up[20s]) >= 3").await;
            if seen == pods { Ok(()) } else { Err(format!("{seen} of {pods} are scraped")) }
        })
        .await;
        engines.start_slowly();
        let installed = Installed::apply(world, &policy_path());
        remember(&scenario, &policy, &installed.state);
        let workloads = scenario.workloads(&policy).expect("the fixture's scales are in range");
        live.fleet().lock().start_arrivals(workloads);
        let poolwright = installed.start(world, &prometheus);
        let witness = Witness::start(&world.client, NAMESPACE, poolwright.url("/v1/decision"), start_unix_seconds);
        let mut chain = Self {
            policy,
            scenario,
            live,
            witness,
            prometheus,
            poolwright,
            installed,
            windows: vec![],
            problems: vec![],
            figures: vec![],
            status: Instant::now(),
        };
        chain.begin(world).await;
        chain
    }

    /// Until the HPAs follow.
    async fn begin(&mut self, world: &World) {
        self.poolwright.answers("/readyz").await;
        until("the external metrics API is available", Duration::from_secs(90), async || {
            let seen = world.api_service_condition().await;
            if seen.starts_with("True") { Ok(()) } else { Err(seen) }
        })
        .await;
        self.installed.follow(world);
        self.settled("the start", 60.0, false).await;
        let now = self.witness.now();
        self.windows.push(Window { from_seconds: 0.0, to_seconds: now });
        println!("  the HPAs follow after {now:.0} s");
    }

    /// poolwright sees the cluster with the rights it has, and finds nothing wrong with who follows it.
    fn judge_standing(&mut self) {
        let decision = self.witness.seen().decision.clone();
        for pool in decision.iter().flat_map(|d| &d.pools) {
            let scaler = pool.cluster.as_ref().and_then(|c| c.scaler.as_ref());
            if !scaler.is_some_and(|s| s.follows && s.problems.is_empty()) {
                self.problems.push(format!("poolwright says that {} is not followed: {:?}", pool.pool, pool.cluster));
            }
        }
    }

    /// Let `seconds` go by.
    async fn run(&mut self, seconds: f64) {
        let over = self.witness.now() + seconds;
        while self.witness.now() < over {
            self.pause().await;
        }
    }

    /// A moment, with a line of status now and then.
    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if self.status.elapsed() >= STATUS {
            self.status = Instant::now();
            println!("{}", self.status_line());
        }
    }

    /// Wait until every number is decided from fresh data and has arrived, and, where wanted, every pod is ready
    /// and nobody waits for one. Says how long it took, seconds.
    async fn settled(&mut self, after: &str, limit_seconds: f64, with_pods: bool) -> f64 {
        let from = self.witness.now();
        loop {
            let followed = self.witness.seen().is_followed();
            if followed && (!with_pods || self.is_served()) {
                return self.witness.now() - from;
            }
            if self.witness.now() - from > limit_seconds {
                let line = self.status_line();
                self.problems.push(format!("not well again {limit_seconds:.0} s after {after}: {line}"));
                return limit_seconds;
            }
            self.pause().await;
        }
    }

    /// Whether every pod that is asked for serves, and nobody waits longer than is promised. A fleet that is not
    /// larger than it has to be always has somebody who waits.
    fn is_served(&self) -> bool {
        let snapshot = self.live.fleet().lock().snapshot();
        let quiet = |(pool, now): (&Pool, &PoolSnapshot)| {
            now.starting == 0 && now.longest_wait_seconds < self.promised_seconds(pool)
        };
        snapshot.gateway_waiting == 0 && self.policy.pools.iter().zip(&snapshot.pools).all(quiet)
    }

    /// Longest time to the first token that the classes of a pool are promised, seconds.
    fn promised_seconds(&self, pool: &Pool) -> f64 {
        let classes = &self.policy.models[pool.model].classes;
        let promised = classes.iter().map(|&(class, _)| match self.policy.classes[class].promise {
            Promise::Latency { ttft_seconds, .. } => ttft_seconds,
            Promise::Deadline { .. } => f64::INFINITY,
        });
        promised.fold(f64::INFINITY, f64::min)
    }
}

/// What the first minute needs, one at least: an HPA does not wake a target that somebody else put to 0.
fn first_replicas(policy: &Policy, scenario: &Scenario) -> Vec<u32> {
    let sizing = scenario.static_fleet(policy, 60.0).expect("the fixture's scales are in range");
    sizing.replicas.iter().zip(&policy.pools).map(|(&n, pool)| n.max(pool.min).max(1)).collect()
}

fn deployments(policy: &Policy, replicas: &[u32], port: u16) -> Value {
    let deployment = |(pool, replicas): (&Pool, &u32)| {
        let labels = json!({servers::LABEL: pool.target.name});
        let container = json!({"name": "vllm", "image": "none", "ports": [{"name": "http", "containerPort": port}]});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": pool.target.name, "namespace": pool.namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 60, "containers": [container]},
                },
            },
        })
    };
    let items: Vec<Value> = policy.pools.iter().zip(replicas).map(deployment).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// poolwright ran before: it knows an hour of demand.
fn remember(scenario: &Scenario, policy: &Policy, folder: &Path) {
    let mut state = State::default();
    let history = scenario.history(policy, SystemClock.now_seconds(), REMEMBERED_MINUTES);
    state.fill_back(history.expect("the fixture's scales are in range"));
    let store = StateStore::open(folder).expect("a folder can be made");
    store.save(&state).expect("a file can be written");
}
