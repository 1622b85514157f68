//! One connection: the handshake, HTTP/1.1 or HTTP/2 on it, and when it ends.
//!
//! A connection ends by itself when it was idle for too long, when an answer asks for it, or when the server
//! stops; requests that run are always finished first, within the server's grace time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::{Error, Router};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::auth::{CloseConnection, PeerCertificates};
use super::tls::Tls;

/// Largest list of request headers, as Go's servers allow: groups of a user travel in headers, long
/// selectors in the path.
const MAX_HEADERS_BYTES: u32 = 1 << 20;

/// Requests in flight on one HTTP/2 connection: the aggregator sends all through few connections.
const MAX_STREAMS: u32 = 1000;

/// Streams a client may open and reset before they were looked at; beyond that the connection ends. Every
/// reset one costs work.
const MAX_PENDING_RESETS: usize = 20;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send the headers of a request.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(32);

/// How long a connection may stay open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a client may take to take leave; then the connection is cut.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent HTTP/2 peer is asked for a sign of life so often, and has so long to give one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What serves a connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub router: Router,
    pub tls: Option<Tls>,
    /// Ends when the server stops.
    pub closing: CancellationToken,
}

impl Connection {
    /// Serve this socket until its end.
    pub async fn serve(self, socket: TcpStream, address: SocketAddr) {
        // Answers are small and wanted at once. Without it they are only later.
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return talk(socket, Service { router: self.router, address, peer: None }, self.closing).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.config()).accept(socket));
        let stream = tokio::select! {
            () = self.closing.cancelled() => return,
            accepted = handshake => match accepted {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, %address, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
            },
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let peer = PeerCertificates::new(chain).map(Arc::new);
        talk(stream, Service { router: self.router, address, peer }, self.closing).await;
    }
}

/// What every request of a connection shares.
#[derive(Clone)]
struct Service {
    router: Router,
    address: SocketAddr,
    peer: Option<Arc<PeerCertificates>>,
}

impl Service {
    async fn answer(self, request: Request<Incoming>, life: Arc<Life>) -> Result<Response<Watched>, Infallible> {
        let running = Running::new(life);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.address));
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let mut response = self.router.oneshot(request).await?;
        if response.extensions_mut().remove::<CloseConnection>().is_some() {
            running.life.leave.notify_one();
        }
        Ok(response.map(|body| Watched { body, _running: running }))
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, service: Service, closing: CancellationToken) {
    let life = Arc::new(Life::default());
    let builder = builder();
    let handler = {
        let life = Arc::clone(&life);
        service_fn(move |request| service.clone().answer(request, Arc::clone(&life)))
    };
    // Without upgrades: nothing here speaks another protocol.
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handler));
    let mut leaving = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = %error, "a connection ended early");
                }
                return;
            }
            () = closing.cancelled(), if !leaving => {}
            () = life.leave.notified(), if !leaving => {}
            () = tokio::time::sleep_until(life.deadline(leaving)) => {
                if !life.is_over(leaving) {
                    continue;
                }
                if leaving {
                    return;
                }
            }
        }
        leaving = true;
        life.touch();
        connection.as_mut().graceful_shutdown();
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What goes on on a connection.
#[derive(Default)]
struct Life {
    inner: Mutex<Inner>,
    /// An answer asks for the end.
    leave: Notify,
}

struct Inner {
    running: usize,
    requested: bool,
    /// Last begin or end of a request, or of the connection.
    since: Instant,
}

impl Default for Inner {
    fn default() -> Self {
        Self { running: 0, requested: false, since: Instant::now() }
    }
}

impl Life {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn touch(&self) {
        self.with(|inner| inner.since = Instant::now());
    }

    /// When to look again whether the connection is idle for too long.
    fn deadline(&self, leaving: bool) -> Instant {
        self.with(|inner| match (inner.running, leaving, inner.requested) {
            (0, true, _) => inner.since + LEAVE_TIMEOUT,
            (0, false, false) => inner.since + HEADER_TIMEOUT,
            (0, false, true) => inner.since + IDLE_TIMEOUT,
            // A request runs: the connection is not idle before that many seconds after its end.
            (_, true, _) => Instant::now() + LEAVE_TIMEOUT,
            (_, false, _) => Instant::now() + IDLE_TIMEOUT,
        })
    }

    fn is_over(&self, leaving: bool) -> bool {
        self.with(|inner| inner.running == 0) && self.deadline(leaving) <= Instant::now()
    }
}

/// One request, until the last byte of its answer or until its client is gone.
struct Running {
    life: Arc<Life>,
}

impl Running {
    fn new(life: Arc<Life>) -> Self {
        life.with(|inner| {
            inner.running += 1;
            inner.requested = true;
        });
        Self { life }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.life.with(|inner| {
            inner.running = inner.running.saturating_sub(1);
            inner.since = Instant::now();
        });
    }
}

/// A body whose request runs until it is dropped.
struct Watched {
    body: Body,
    _running: Running,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
