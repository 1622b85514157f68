//! KEDA at scale: 10,000 pools, 5,000 open streams and 1,500 calls per second against a server that has one thread,
//! over TLS, on one connection as KEDA's operator uses it, while the decision changes every two seconds.
//!
//! Latency counts from the moment a call was due, so a server that stalls cannot hide it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use poolwright::serve::KEDA_METRIC;
use proto::external_scaler_client::ExternalScalerClient;
use proto::{GetMetricsRequest, ScaledObjectRef};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;
use tonic::body::Body;

use crate::client::{FrontProxy, NAME};
use crate::fleet;
use crate::load::{Figures, busy, header, row, verdict};
use crate::server::{Server, What};

mod proto {
    #![allow(missing_docs, dead_code, clippy::all, clippy::pedantic)]
    tonic::include_proto!("externalscaler");
}

const POOLS: usize = 10_000;
const STREAMS: usize = 5_000;
const CALLS_PER_SECOND: u32 = 1_500;
const SPAN: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_millis(10);
const LIMIT_MIB: f64 = 256.0;

/// Measure and print.
pub fn run() {
    println!();
    println!(
        "KEDA: {POOLS} pools, a new decision every 2 s, {CALLS_PER_SECOND} calls/s for {SPAN:?}; h2 over TLS, one \
         connection, one server thread; {}",
        busy()
    );
    println!("{}", header());
    let front = FrontProxy::new();
    // Without streams the same calls are the floor.
    for streams in [0, STREAMS] {
        let server = Server::start(What::Keda, POOLS, &front);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (figures, pushed, whys) = runtime.block_on(measure(&server, &front, streams));
        println!("{}", row(&format!("calls, {streams} streams open"), &figures, None));
        for (why, times) in whys {
            println!("  {times} calls were refused: {why}");
        }
        if streams > 0 {
            let memory = if figures.peak_mib < LIMIT_MIB { "kept" } else { "MISSED" };
            println!(" {}; memory < {LIMIT_MIB} MiB {memory}; {pushed} words pushed", verdict(&figures, LIMIT));
        }
    }
    println!("{}", busy());
}

/// Errors by what they say.
type Whys = BTreeMap<String, u64>;

async fn measure(server: &Server, front: &FrontProxy, streams: usize) -> (Figures, u64, Whys) {
    let client = connect(server, front).await;
    let pushed = Arc::new(AtomicU64::new(0));
    for index in 0..streams {
        let (mut client, pushed) = (client.clone(), pushed.clone());
        let mut stream = client.stream_is_active(object(index)).await.expect("a stream").into_inner();
        tokio::spawn(async move {
            while let Ok(Some(_)) = stream.message().await {
                pushed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (began, cpu) = (Instant::now(), server.cpu());
    let mut figures = Figures::default();
    let mut whys = Whys::new();
    for outcome in calls(&client).await {
        figures.count(outcome.as_ref().ok().copied());
        if let Err(why) = outcome {
            *whys.entry(why.to_string()).or_default() += 1;
        }
    }
    figures.cpu = (server.cpu() - cpu, began.elapsed());
    figures.peak_mib = server.peak_mib();
    (figures, pushed.load(Ordering::Relaxed), whys)
}

/// The three calls of one query in turns, each when it is due; how long after that its answer came.
async fn calls(client: &ExternalScalerClient<Channel>) -> Vec<Result<Duration, Status>> {
    let mut timer = tokio::time::interval(Duration::from_secs(1) / CALLS_PER_SECOND);
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = CALLS_PER_SECOND as usize * SPAN.as_secs() as usize;
    let mut running = Vec::with_capacity(total);
    for index in 0..total {
        let due = timer.tick().await;
        let mut client = client.clone();
        running.push(tokio::spawn(async move {
            let object = object(index * 7);
            match index % 3 {
                0 => client.get_metric_spec(object).await.map(|_| ()),
                1 => {
                    let metric_name = KEDA_METRIC.into();
                    let request = GetMetricsRequest { scaled_object_ref: Some(object), metric_name };
                    client.get_metrics(request).await.map(|_| ())
                }
                _ => client.is_active(object).await.map(|_| ()),
            }?;
            Ok(Instant::now().saturating_duration_since(due))
        }));
    }
    let mut outcomes = Vec::with_capacity(total);
    for call in running {
        outcomes.push(call.await.unwrap_or_else(|panic| Err(Status::unknown(panic.to_string()))));
    }
    outcomes
}

async fn connect(server: &Server, front: &FrontProxy) -> ExternalScalerClient<Channel> {
    let config = front.config(&server.certificate_pem);
    let socket = tokio::net::TcpStream::connect(server.address).await.expect("it listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let name = ServerName::try_from(NAME).expect("a name");
    let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("a handshake");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
    tokio::spawn(async move {
        if let Err(why) = connection.await {
            eprintln!("the connection ended: {why:?}");
        }
    });
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
    let pool = fleet::pool_name(index % POOLS);
    let metadata = [("scalerAddress", "poolwright-keda.poolwright-system.svc:9443"), ("pool", &pool)];
    ScaledObjectRef {
        name: pool.clone(),
        namespace: fleet::namespace(index % POOLS),
        scaler_metadata: metadata.map(|(key, value)| (key.into(), value.into())).into(),
    }
}
