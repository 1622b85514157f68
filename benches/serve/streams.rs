//! KEDA at scale: 10,000 pools, 5,000 open streams and 1,500 calls per second against a server that has one thread,
//! over TLS, on one connection as KEDA's operator uses it, while the decision changes every two seconds.
//!
//! Latency counts from the moment a call was due, so a server that stalls cannot hide it. Memory is that of the
//! whole process, the client's half included.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use poolwright::control::{Binding, Clock, Decision, Latency, PoolDecision, Published, SolveReport, SystemClock};
use poolwright::observe::Quality;
use poolwright::perf::Evidence;
use poolwright::policy::Mode;
use poolwright::serve::{
    ClientCertificates, KEDA_HTTP2, KEDA_METRIC, KedaOptions, Listener, ServeState, StopTimes, Tls, keda_router,
    run as serve,
};
use proto::external_scaler_client::ExternalScalerClient;
use proto::{GetMetricsRequest, ScaledObjectRef};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::body::Body;

mod proto {
    #![allow(missing_docs, dead_code, clippy::all, clippy::pedantic)]
    tonic::include_proto!("externalscaler");
}

const POOLS: usize = 10_000;
const STREAMS: usize = 5_000;
const CALLS_PER_SECOND: u32 = 1_500;
const SPAN: Duration = Duration::from_secs(20);
const CHANGE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_millis(10);
const LIMIT_MIB: f64 = 256.0;

/// Measure and print.
pub fn run() {
    let published = Arc::new(ArcSwap::from_pointee(snapshot(0)));
    let tls = Tls::self_signed(&["localhost".into()], ClientCertificates::Ignored).expect("a plain name");
    let pem = tls.certificate_pem().expect("it is self-signed").to_owned();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let state = ServeState::new(published.clone(), Arc::new(SystemClock));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let router = keda_router(state.clone(), KedaOptions::default());
            let listener = Listener { socket, router, tls: Some(tls), http2: KEDA_HTTP2 };
            let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
            serve(vec![listener], state.readiness().clone(), std::future::pending(), times).await
        })
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(measure(address, &pem, published));
}

async fn measure(address: SocketAddr, pem: &str, published: Arc<ArcSwap<Published>>) {
    let client = connect(address, pem).await;
    let empty_mib = memory_mib();
    let pushed = Arc::new(AtomicU64::new(0));
    for index in 0..STREAMS {
        let (mut client, pushed) = (client.clone(), pushed.clone());
        let mut stream = client.stream_is_active(object(index)).await.expect("a stream").into_inner();
        tokio::spawn(async move {
            while let Ok(Some(_)) = stream.message().await {
                pushed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::spawn(async move {
        for round in 1.. {
            tokio::time::sleep(CHANGE).await;
            let next = tokio::task::spawn_blocking(move || snapshot(round)).await.expect("it does not panic");
            published.store(Arc::new(next));
        }
    });
    let mut latencies = calls(&client).await;
    latencies.sort_unstable();
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let mib = memory_mib();
    println!("KEDA: {POOLS} pools, {STREAMS} streams, {CALLS_PER_SECOND} calls/s for {SPAN:?}, one server thread, TLS");
    let answered = latencies.iter().filter(|latency| **latency < Duration::MAX).count();
    let said = pushed.load(Ordering::Relaxed);
    println!("  calls answered      {answered:>8}   of {}; streams said {said} times", latencies.len());
    println!("  latency p50         {:>8.3} ms", at(0.5));
    println!("  latency p99         {:>8.3} ms   limit {} ms", at(0.99), LIMIT.as_millis());
    println!("  latency p99.9       {:>8.3} ms   max {:.3} ms", at(0.999), at(1.0));
    println!("  memory, both ends   {mib:>8.1} MiB  limit {LIMIT_MIB} MiB (before the streams {empty_mib:.1} MiB)");
    if at(0.99) > LIMIT.as_secs_f64() * 1e3 || mib > LIMIT_MIB {
        println!("  BEYOND A LIMIT");
    }
}

/// The three calls of one query in turns, each when it is due; how long after that its answer came.
async fn calls(client: &ExternalScalerClient<Channel>) -> Vec<Duration> {
    let mut timer = tokio::time::interval(Duration::from_secs(1) / CALLS_PER_SECOND);
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = CALLS_PER_SECOND as usize * SPAN.as_secs() as usize;
    let mut running = Vec::with_capacity(total);
    for index in 0..total {
        let due = timer.tick().await;
        let mut client = client.clone();
        running.push(tokio::spawn(async move {
            let object = object(index * 7);
            let answered = match index % 3 {
                0 => client.get_metric_spec(object).await.is_ok(),
                1 => {
                    let metric_name = KEDA_METRIC.into();
                    client.get_metrics(GetMetricsRequest { scaled_object_ref: Some(object), metric_name }).await.is_ok()
                }
                _ => client.is_active(object).await.is_ok(),
            };
            answered.then(|| Instant::now().saturating_duration_since(due))
        }));
    }
    let mut latencies = Vec::with_capacity(total);
    for call in running {
        // A call without an answer took for ever.
        latencies.push(call.await.ok().flatten().unwrap_or(Duration::MAX));
    }
    latencies
}

async fn connect(address: SocketAddr, pem: &str) -> ExternalScalerClient<Channel> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(address).await.expect("it listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let name = ServerName::try_from("localhost").expect("a name");
    let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("a handshake");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
    tokio::spawn(connection);
    ExternalScalerClient::with_origin(Channel(sender), "https://localhost".parse().expect("a URI"))
}

/// One HTTP/2 connection.
#[derive(Clone)]
struct Channel(http2::SendRequest<Body>);

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

fn object(index: usize) -> ScaledObjectRef {
    let pool = pool_name(index % POOLS);
    let metadata = [("scalerAddress", "poolwright-keda.poolwright-system.svc:9443"), ("pool", &pool)];
    ScaledObjectRef {
        name: pool.clone(),
        namespace: "inference".into(),
        scaler_metadata: metadata.map(|(key, value)| (key.into(), value.into())).into(),
    }
}

fn pool_name(index: usize) -> String {
    format!("pool-{index:05}")
}

/// A tenth of the pools is idle, another tenth each round.
fn snapshot(round: usize) -> Published {
    let decision = Decision {
        at_seconds: SystemClock.now_seconds(),
        policy: "bench".into(),
        currency: "USD".into(),
        pools: (0..POOLS).map(|index| pool(index, if (index + round).is_multiple_of(10) { 0 } else { 3 })).collect(),
        classes: vec![],
        models: vec![],
        accelerators: vec![],
        solve: SolveReport { solver: "none".into(), work_units: 0, gap: 0.0, refused: 0 },
        current_cost_per_hour: 0.0,
        planned_cost_per_hour: 0.0,
        findings: vec![],
        source_error: None,
    };
    Published { decision: Some(Arc::new(decision)), ..Published::empty(3600.0) }
}

fn pool(index: usize, desired: u32) -> PoolDecision {
    let latency = || Latency { observed_seconds: None, predicted_seconds: None, target_seconds: None, quantile: None };
    PoolDecision {
        namespace: "inference".into(),
        pool: pool_name(index),
        model: "meta-llama/Llama-3.1-70B".into(),
        accelerator: "H100".into(),
        accelerators_per_replica: 4,
        mode: Mode::Act,
        desired: Some(desired),
        planned: Some(desired),
        ready: Some(desired),
        starting: Some(0),
        binding: Binding::Itl,
        reason: "ITL of interactive binds".into(),
        missing: vec![],
        quality: Quality::Fresh,
        input_age_seconds: Some(3.5),
        evidence: Evidence::Curve,
        arrival_rate: None,
        planned_rate: 44.5,
        replica_capacity: None,
        running: None,
        waiting: None,
        kv_usage: None,
        ttft: latency(),
        itl: latency(),
        ttft_histogram: None,
        itl_histogram: None,
        cost_per_hour: 12.0,
        cluster: None,
    }
}

/// Resident memory of this process; not a number where the kernel does not say.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
