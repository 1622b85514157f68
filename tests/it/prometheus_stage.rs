//! The stage of the tests with a real Prometheus: a simulated fleet in wall-clock time under a constant
//! load, a Prometheus that scrapes it, the daemon that asks this Prometheus and is scraped in turn.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use poolwright::control::{Clock, Daemon, DaemonParts, State, SystemClock};
use poolwright::observe::{
    HttpAccess, Observation, PrometheusOptions, PrometheusSource, ScrapeOptions, ScrapeSource, Source,
};
use poolwright::policy::{Policy, load};
use poolwright::serve::{Http2, Listener, ServeState, StopTimes, router};
use poolwright::simulate::{Fleet, FleetOptions, LiveFleet, Replay, Trace, Workload};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::prometheus_support::Prometheus;

/// Pools that have replicas, and how many.
const REPLICAS: [(&str, u32); 3] = [("chat-h100", 6), ("code-l40s", 4), ("neighbour-l40s", 1)];
/// Models that get requests: how many a second, mean prompt and answer length in tokens.
const LOAD: [(&str, f64, u32, u32); 2] = [("chat", 20.0, 700, 120), ("code", 20.0, 1500, 30)];

/// Path of the stage's policy, for the program.
pub fn policy_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus/policy.yaml")
}

/// The same policy with one more model, as the fleet really is.
pub fn policy_with_neighbour() -> String {
    let neighbour = policy_path().with_file_name("neighbour.yaml");
    std::fs::read_to_string(policy_path()).unwrap() + &std::fs::read_to_string(neighbour).unwrap()
}

/// Everything running.
pub struct LiveStage {
    pub policy: Arc<Policy>,
    pub prometheus: Prometheus,
    pub daemon: Daemon,
    /// Reads the servers' pages directly.
    scrape: ScrapeSource,
    /// Asks Prometheus.
    prom: PrometheusSource,
    fleet: LiveFleet,
    _web: DropGuard,
}

impl LiveStage {
    pub async fn start() -> Self {
        let policy = Arc::new(load(&policy_path()).unwrap());
        let fleet = fleet().await;
        let web = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let prometheus = Prometheus::start(jobs(&fleet, web.local_addr().unwrap())).await;
        let daemon = Daemon::new(DaemonParts {
            policy: policy.as_ref().clone(),
            reload: None,
            source: Box::new(source(&prometheus)),
            state: State::default(),
            store: None,
            journal: None,
            is_timed: false,
        });
        let options = ScrapeOptions { discovery: vec![fleet.discovery_url()], ..ScrapeOptions::default() };
        let scrape = ScrapeSource::new(options).unwrap();
        let (prom, web) = (source(&prometheus), serve(&daemon, web));
        Self { policy, prometheus, daemon, scrape, prom, fleet, _web: web }
    }

    /// Let `seconds` of the world go by while the daemon ticks and the direct scrape reads along.
    pub async fn run(&mut self, seconds: u64) {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while tokio::time::Instant::now() < end {
            let now_seconds = SystemClock.now_seconds();
            self.daemon.tick(now_seconds).await;
            self.scrape.observe(&self.policy, now_seconds).await;
            tokio::time::sleep(Duration::from_secs(5).min(end - tokio::time::Instant::now())).await;
        }
    }

    /// Ask for more replicas of a pool, as an autoscaler would.
    pub fn grow(&self, pool: &str, replicas: u32) {
        let index = self.policy.pools.iter().position(|p| p.name == pool).unwrap();
        self.fleet.fleet().lock().set_replicas(index, replicas);
    }

    /// Look at the fleet from both sources at the same instant: direct, by Prometheus, and when.
    pub async fn look(&mut self) -> (Observation, Observation, f64) {
        let now_seconds = SystemClock.now_seconds();
        let (direct, prometheus) =
            tokio::join!(self.scrape.observe(&self.policy, now_seconds), self.prom.observe(&self.policy, now_seconds));
        (direct, prometheus, now_seconds)
    }
}

fn source(prometheus: &Prometheus) -> PrometheusSource {
    PrometheusSource::new(PrometheusOptions { url: prometheus.url().to_owned(), access: HttpAccess::default() })
        .unwrap()
}

/// The fleet with a neighbour that no policy of the daemon's knows; the pools that have no replicas stand at zero.
async fn fleet() -> LiveFleet {
    let policy = poolwright::policy::from_text("live.yaml", &policy_with_neighbour()).unwrap();
    let workload = |&(name, rate, input, output): &(&str, f64, u32, u32)| {
        let model = policy.models.iter().position(|m| m.name == name).unwrap();
        let replay = Replay { seed: 7, ..Replay::default() };
        Workload::new(Arc::new(steady(rate, input, output)), model, &policy, replay).unwrap()
    };
    let workloads = LOAD.iter().map(workload).collect();
    let options = FleetOptions { seed: 7, start_unix_seconds: SystemClock.now_seconds(), ..FleetOptions::default() };
    let mut fleet = Fleet::new(&policy, workloads, options);
    for (name, replicas) in REPLICAS {
        fleet.place_ready(policy.pools.iter().position(|p| p.name == name).unwrap(), replicas);
    }
    LiveFleet::start(fleet).await.unwrap()
}

/// Ten minutes of requests at one rate, with lengths around a mean.
fn steady(rate: f64, input: u32, output: u32) -> Trace {
    let row = |i: u32| {
        let about = |mean: u32, step: u32| mean / 2 + mean * (i * step % 11) / 10;
        format!("{},{},{}\n", f64::from(i) / rate, about(input, 3), about(output, 7))
    };
    let rows: String = (0..(600.0 * rate) as u32).map(row).collect();
    Trace::parse("steady", format!("t_s,input_tokens,output_tokens\n{rows}").as_bytes()).unwrap()
}

/// Scrape jobs for the model servers, the cluster's state and the daemon.
fn jobs(fleet: &LiveFleet, daemon: SocketAddr) -> serde_json::Value {
    json!([
        {"job_name": "model-servers", "http_sd_configs": [{"url": fleet.discovery_url(), "refresh_interval": "1s"}]},
        {
            "job_name": "kube-state-metrics", "metrics_path": "/kube-state-metrics", "honor_labels": true,
            "static_configs": [{"targets": [fleet.address().to_string()]}],
        },
        {"job_name": "poolwright", "honor_labels": true, "static_configs": [{"targets": [daemon.to_string()]}]},
    ])
}

/// Serve the daemon's interfaces until the guard is dropped.
fn serve(daemon: &Daemon, socket: std::net::TcpListener) -> DropGuard {
    socket.set_nonblocking(true).unwrap();
    let state = ServeState::new(daemon.published(), Arc::new(SystemClock));
    let readiness = state.readiness().clone();
    let listener = Listener { socket, router: router(state), tls: None, http2: Http2::default() };
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
    tokio::spawn(poolwright::serve::run(vec![listener], readiness, stopped, times));
    stop.drop_guard()
}
