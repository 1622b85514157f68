//! poolwright's interfaces, as the daemon serves them, over numbers that a test sets.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use k8s_openapi::ByteString;
use poolwright::cluster::{ClusterReviews, ClusterTrust, Connection, Patience, connect};
use poolwright::control::{Binding, Clock, Decision, Latency, PoolDecision, Published, SolveReport, SystemClock};
use poolwright::observe::Quality;
use poolwright::perf::Evidence;
use poolwright::policy::Mode;
use poolwright::serve::auth::Limits;
use poolwright::serve::{
    Access, ClientCertificates, Http2, KEDA_HTTP2, KedaOptions, Listener, ServeState, StopTimes, Tls, api_router,
    keda_router, run, web_router,
};
use tokio::runtime::{Builder, Runtime};

use super::process::free_port;
use super::{NAMESPACE, SERVICE};

/// Far longer than the tests: a decision is too old only where a test says so.
const MAX_AGE_SECONDS: f64 = 86_400.0;

/// What is said of one pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Say {
    Number(u32),
    /// In mode `act` without any number: an error for whoever asks.
    Unknown,
    /// A number that is only advised: an empty list for whoever asks.
    Advised(u32),
}

/// Requests for the value of each pool since the start, by `namespace/pool`.
type Reads = Arc<Mutex<BTreeMap<String, u64>>>;

pub struct Server {
    pub api_port: u16,
    pub web_port: u16,
    /// Where KEDA's external scaler is, once it is served.
    pub keda_port: u16,
    published: Arc<ArcSwap<Published>>,
    said: BTreeMap<(String, String), Say>,
    reads: Reads,
    tls: Tls,
    /// Of the external scaler; `None` while there is none.
    keda_tls: Option<Tls>,
    /// Who it is towards the cluster.
    kubeconfig: PathBuf,
    /// `None` while it is killed.
    runtime: Option<Runtime>,
}

impl Server {
    /// Serve with the checks that the cluster makes, asking it as the user of this kubeconfig.
    pub fn start(kubeconfig: PathBuf) -> Self {
        let host = format!("{SERVICE}.{NAMESPACE}.svc");
        let tls = Tls::self_signed(&[host], ClientCertificates::Unjudged).expect("a certificate can be made");
        let mut server = Self {
            api_port: free_port(),
            web_port: free_port(),
            keda_port: free_port(),
            published: Arc::new(ArcSwap::from_pointee(Published::empty(MAX_AGE_SECONDS))),
            said: BTreeMap::new(),
            reads: Reads::default(),
            tls,
            keda_tls: None,
            kubeconfig,
            runtime: None,
        };
        server.restart();
        server
    }

    /// What the APIService needs to trust it, base64 of PEM.
    pub fn ca_bundle(&self) -> String {
        let text =
            serde_json::to_value(ByteString(self.certificate_pem().as_bytes().to_vec())).expect("bytes can be written");
        text.as_str().expect("bytes are written as a string").to_owned()
    }

    /// The same certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        self.tls.certificate_pem().expect("the certificate is self-signed")
    }

    /// Say this of a pool from now on; all else stays as it is.
    pub fn say(&mut self, namespace: &str, pool: &str, say: Say) {
        self.said.insert((namespace.into(), pool.into()), say);
        self.publish(SystemClock.now_seconds());
    }

    /// Serve what is said as a decision that is too old to be served.
    pub fn stop_deciding(&self) {
        self.publish(SystemClock.now_seconds() - MAX_AGE_SECONDS - 5.0);
    }

    fn publish(&self, at_seconds: f64) {
        let pools = self.said.iter().map(|((namespace, name), say)| pool(namespace, name, *say)).collect();
        let decision = decision(at_seconds, pools);
        let empty = Published::empty(MAX_AGE_SECONDS);
        self.published.store(Arc::new(Published { decision: Some(Arc::new(decision)), ..empty }));
    }

    /// How often the pool's value was asked for.
    pub fn reads(&self, namespace: &str, pool: &str) -> u64 {
        let reads = self.reads.lock().expect("nobody panics with the lock");
        reads.get(&format!("{namespace}/{pool}")).copied().unwrap_or(0)
    }

    /// Serve KEDA's external scaler too, from now on.
    pub fn serve_keda(&mut self, tls: Tls) {
        self.keda_tls = Some(tls);
        self.kill();
        self.restart();
    }

    /// End it as a crash would: connections break.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Serve (again) at the same ports, with the same certificate and what was said last.
    pub fn restart(&mut self) {
        let (api, web) = (bind(self.api_port), bind(self.web_port));
        let (published, reads, tls) = (self.published.clone(), self.reads.clone(), self.tls.clone());
        let kubeconfig = self.kubeconfig.clone();
        let keda = self.keda_tls.clone().map(|tls| (bind(self.keda_port), tls));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        // The client of the cluster is made in there, so that it ends with the rest.
        runtime.spawn(async move {
            let trust = Arc::new(ClusterTrust::default());
            let access = delegated(kubeconfig, trust.clone()).await;
            let state = ServeState::new(published, Arc::new(SystemClock));
            let state = state.with_check("authentication-trust", move || trust.health());
            let readiness = state.readiness().clone();
            let http2 = Http2::default();
            let api_router = counted(api_router(state.clone(), &access), reads);
            let mut listeners = vec![
                Listener { socket: api, router: api_router, tls: Some(tls), http2 },
                Listener { socket: web, router: web_router(state.clone()), tls: None, http2 },
            ];
            if let Some((socket, tls)) = keda {
                let router = keda_router(state, KedaOptions::default());
                listeners.push(Listener { socket, router, tls: Some(tls), http2: KEDA_HTTP2 });
            }
            let times = StopTimes { drain: Duration::ZERO, grace: Duration::from_secs(1) };
            run(listeners, readiness, std::future::pending(), times).await
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The cluster says who is who and who may do what.
async fn delegated(kubeconfig: PathBuf, trust: Arc<ClusterTrust>) -> Access {
    let connection = Connection::Kubeconfig { file: Some(kubeconfig), context: None };
    let client = connect(&connection).await.expect("the harness wrote the kubeconfig");
    let following = client.clone();
    let followed = trust.clone();
    tokio::spawn(async move { followed.follow(following).await });
    let reviews = Arc::new(ClusterReviews::new(client, Patience::default()));
    Access::delegated(trust, reviews, Arc::new(SystemClock), Limits::default())
}

/// The port may still be held for a moment by a server that was just killed.
fn bind(port: u16) -> TcpListener {
    let mut tries = 0;
    let socket = loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) if tries == 100 => panic!("port {port}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
        tries += 1;
    };
    socket.set_nonblocking(true).expect("a socket can be made non-blocking");
    socket
}

/// Count the requests for values by namespace and pool.
fn counted(router: Router, reads: Reads) -> Router {
    router.layer(map_request(move |request: Request| {
        if let Some(pool) = pool_asked_for(&request) {
            *reads.lock().expect("nobody panics with the lock").entry(pool).or_default() += 1;
        }
        std::future::ready(request)
    }))
}

fn pool_asked_for(request: &Request) -> Option<String> {
    let (_, rest) = request.uri().path().split_once("/namespaces/")?;
    let (namespace, _) = rest.split_once('/')?;
    let mut query = form_urlencoded::parse(request.uri().query()?.as_bytes());
    let (_, selector) = query.find(|(key, _)| key == "labelSelector")?;
    let (_, pool) = selector.split_once('=')?;
    Some(format!("{namespace}/{pool}"))
}

fn decision(at_seconds: f64, pools: Vec<PoolDecision>) -> Decision {
    Decision {
        at_seconds,
        policy: "test".into(),
        currency: "USD".into(),
        pools,
        classes: vec![],
        models: vec![],
        accelerators: vec![],
        limits: vec![],
        solve: SolveReport::default(),
        current_cost_per_hour: 0.0,
        planned_cost_per_hour: 0.0,
        findings: vec![],
        analysis: None,
        source_error: None,
    }
}

fn pool(namespace: &str, name: &str, say: Say) -> PoolDecision {
    let (mode, desired) = match say {
        Say::Number(number) => (Mode::Act, Some(number)),
        Say::Unknown => (Mode::Act, None),
        Say::Advised(number) => (Mode::Advise, Some(number)),
    };
    PoolDecision {
        namespace: namespace.into(),
        pool: name.into(),
        model: "small".into(),
        accelerator: "L4".into(),
        accelerators_per_replica: 1,
        mode,
        desired,
        planned: desired,
        ready: None,
        starting: None,
        binding: Binding::Throughput,
        reason: "a test says so".into(),
        missing: vec![],
        quality: Quality::Fresh,
        input_age_seconds: Some(1.0),
        evidence: Evidence::Curve,
        live: None,
        arrival_rate: None,
        planned_rate: 0.0,
        replica_capacity: None,
        capacity_stretch: None,
        running: None,
        waiting: None,
        kv_usage: None,
        cluster: None,
        ttft: Latency::default(),
        itl: Latency::default(),
        ttft_histogram: None,
        itl_histogram: None,
        cost_per_hour: 0.0,
        price_per_hour: None,
        level: None,
        full_limits: vec![],
        runner_up: None,
        alternatives: vec![],
    }
}
