//! KEDA's operator for the tests: a gRPC client over a real socket, plain or TLS, and a running server.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use poolwright::serve::{Http2, KEDA_HTTP2, KedaOptions, Listener, StopTimes, Tls, keda_router, run};
use proto::external_scaler_client::ExternalScalerClient;
use proto::{GetMetricsRequest, ScaledObjectRef};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;

use crate::serve_support::Daemon;

/// Compiled for the tests alone: they do not use the daemon's own code.
pub mod proto {
    #![allow(missing_docs, dead_code, clippy::all, clippy::pedantic)]
    tonic::include_proto!("externalscaler");
}

/// Time that anything may take on a busy machine; nothing waits for it when it works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Channel(http2::SendRequest<Body>);

pub type Client = ExternalScalerClient<Channel>;

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

impl Channel {
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, hyper::Error> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub async fn plain(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await.unwrap()
    }

    /// Shake hands over TLS; with TLS 1.3 the server refuses a client only after that.
    pub async fn tls(address: SocketAddr, config: ClientConfig) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        Self::over(io).await.map_err(std::io::Error::other)
    }

    pub fn client(self) -> Client {
        ExternalScalerClient::with_origin(self, "http://localhost".parse().unwrap())
    }
}

/// The external scaler on a real socket.
pub struct Running {
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub fn start(daemon: &Daemon, options: KedaOptions, tls: Option<Tls>) -> Self {
        Self::serve(daemon, keda_router(daemon.state.clone(), options), tls, KEDA_HTTP2)
    }

    pub fn serve(daemon: &Daemon, router: Router, tls: Option<Tls>, http2: Http2) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let listeners = vec![Listener { socket, router, tls, http2 }];
        let times = StopTimes { drain: Duration::ZERO, grace: Duration::from_secs(3600) };
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run(listeners, daemon.state.readiness().clone(), shutdown, times));
        Self { address, stop, task }
    }

    pub async fn client(&self) -> Client {
        Channel::plain(self.address).await.client()
    }

    /// Ask for the stop and wait until it is done.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.expect("nothing holds up the stop").unwrap().unwrap();
    }
}

/// A ScaledObject of this namespace whose trigger names this pool.
pub fn object(namespace: &str, pool: &str) -> ScaledObjectRef {
    let metadata = [("scalerAddress", "poolwright-keda.poolwright-system.svc:9443"), ("pool", pool)];
    ScaledObjectRef {
        name: "any".into(),
        namespace: namespace.into(),
        scaler_metadata: metadata.map(|(key, value)| (key.into(), value.into())).into(),
    }
}

pub fn metrics(object: ScaledObjectRef, name: &str) -> GetMetricsRequest {
    GetMetricsRequest { scaled_object_ref: Some(object), metric_name: name.into() }
}

/// Look at `/metrics` until this series has this value.
pub async fn until(daemon: &Daemon, series: &str, value: u64) {
    let line = format!("{series} {value}");
    let started = Instant::now();
    loop {
        let page = daemon.get("/metrics").await.body;
        // A gauge is written with a fraction.
        if page.lines().any(|l| l == line || l == format!("{line}.0")) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "still no {line:?} in\n{page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
