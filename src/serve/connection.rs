//! One connection: the handshake, HTTP/1.1 or HTTP/2 on it, and when it ends.
//!
//! A connection ends by itself when it was idle for too long, when an answer asks for it, or when the server
//! stops; requests that run are finished first, within the server's grace time. Who neither leaves nor reads is cut
//! off.

use std::collections::BTreeSet;
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
use super::server::Http2;
use super::tls::Tls;

/// Largest list of request headers, as Go's servers allow: groups of a user travel in headers, long
/// selectors in the path.
const MAX_HEADERS_BYTES: u32 = 1 << 20;
/// Largest number of headers of a request of HTTP/1.
const MAX_HEADERS: usize = 4096;

/// Streams a client may open and reset before they were looked at; beyond that the connection ends. Every
/// reset one costs work.
const MAX_PENDING_RESETS: usize = 20;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send the headers of a request.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(32);

/// How long a connection may stay open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a client may take to take leave; then the connection is cut. What it asks later is not waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to read a whole answer that was ready at once; then the connection is cut. A proxy
/// such as kube-apiserver gives up a slow client of its own long before.
const TAKE_TIMEOUT: Duration = Duration::from_secs(120);

/// What serves a connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub router: Router,
    pub tls: Option<Tls>,
    pub http2: Http2,
    /// Ends when the server stops.
    pub closing: CancellationToken,
}

impl Connection {
    /// Serve this socket until its end.
    pub async fn serve(self, socket: TcpStream, address: SocketAddr) {
        // Answers are small and wanted at once. Without it they are only later.
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return talk(socket, Service { router: self.router, address, peer: None }, self.http2, self.closing).await;
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
        talk(stream, Service { router: self.router, address, peer }, self.http2, self.closing).await;
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
        let mut running = Running::new(life);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.address));
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let mut response = self.router.oneshot(request).await?;
        if response.extensions_mut().remove::<CloseConnection>().is_some() {
            running.life.leave.notify_one();
        }
        // An answer without a known length is a stream, which may last.
        if hyper::body::Body::size_hint(response.body()).exact().is_some_and(|bytes| bytes > 0) {
            running.is_to_be_taken();
        }
        Ok(response.map(|body| Watched { body, _running: running }))
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Service,
    http2: Http2,
    closing: CancellationToken,
) {
    let life = Arc::new(Life::default());
    let builder = builder(http2);
    let handler = {
        let life = Arc::clone(&life);
        service_fn(move |request| service.clone().answer(request, Arc::clone(&life)))
    };
    // Without upgrades: nothing here speaks another protocol.
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handler));
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = %error, "a connection ended early");
                }
                return;
            }
            () = closing.cancelled(), if !life.is_leaving() => {}
            () = life.leave.notified(), if !life.is_leaving() => {}
            () = tokio::time::sleep_until(life.deadline()) => match life.state(Instant::now()) {
                State::Fine => continue,
                State::Idle => {}
                State::Over => return,
            },
        }
        life.take_leave();
        connection.as_mut().graceful_shutdown();
    }
}

fn builder(http2: Http2) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS_BYTES as usize)
        // A user's groups come one header each; only their size is limited, as elsewhere.
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS_BYTES)
        .max_concurrent_streams(http2.streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    if let Some(bytes) = http2.window {
        builder.http2().initial_connection_window_size(bytes);
    }
    if let Some((silence, answer)) = http2.ping {
        builder.http2().keep_alive_interval(silence).keep_alive_timeout(answer);
    }
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
    /// Requests that are waited for.
    running: usize,
    requested: bool,
    /// Last begin or end of a request that is waited for, or of the connection.
    since: Instant,
    /// When the client was asked to leave.
    leaving: Option<Instant>,
    /// Answers on their way: until when they have to be taken, and a number that keeps them apart.
    answers: BTreeSet<(Instant, u64)>,
    next_answer: u64,
}

/// What a look at a connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// Nothing was asked for so long that the client should leave.
    Idle,
    /// The client did not leave, or does not read: cut it off.
    Over,
}

impl Default for Inner {
    fn default() -> Self {
        let (leaving, answers) = (None, BTreeSet::new());
        Self { running: 0, requested: false, since: Instant::now(), leaving, answers, next_answer: 0 }
    }
}

impl Inner {
    /// When the connection is idle for too long, or has had time enough to leave.
    fn rest_ends(&self) -> Instant {
        match (self.running, self.leaving, self.requested) {
            (0, Some(since), _) => self.since.max(since) + LEAVE_TIMEOUT,
            (0, None, false) => self.since + HEADER_TIMEOUT,
            (0, None, true) => self.since + IDLE_TIMEOUT,
            // A request runs: the connection is not idle before that many seconds after its end.
            (_, Some(_), _) => Instant::now() + LEAVE_TIMEOUT,
            (_, None, _) => Instant::now() + IDLE_TIMEOUT,
        }
    }
}

impl Life {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_leave(&self) {
        self.with(|inner| inner.leaving = Some(Instant::now()));
    }

    fn is_leaving(&self) -> bool {
        self.with(|inner| inner.leaving.is_some())
    }

    /// When to look again.
    fn deadline(&self) -> Instant {
        self.with(|inner| {
            let rest = inner.rest_ends();
            // An answer may come to be taken in the meantime, which has more time than any rest.
            inner.answers.first().map_or(rest, |(until, _)| rest.min(*until))
        })
    }

    fn state(&self, now: Instant) -> State {
        self.with(|inner| {
            let rested = inner.running == 0 && inner.rest_ends() <= now;
            if inner.answers.first().is_some_and(|(until, _)| *until <= now) || (rested && inner.leaving.is_some()) {
                State::Over
            } else if rested {
                State::Idle
            } else {
                State::Fine
            }
        })
    }
}

/// One request, until the last byte of its answer or until its client is gone.
struct Running {
    life: Arc<Life>,
    /// Whether a stop waits for it. A client that does not leave, and asks on, is not waited for.
    counts: bool,
    answer: Option<(Instant, u64)>,
}

impl Running {
    fn new(life: Arc<Life>) -> Self {
        let counts = life.with(|inner| {
            let counts = inner.leaving.is_none_or(|since| since.elapsed() < LEAVE_TIMEOUT);
            inner.running += usize::from(counts);
            inner.requested = true;
            counts
        });
        Self { life, counts, answer: None }
    }

    /// The whole answer is ready; from now on it is the client that takes time.
    fn is_to_be_taken(&mut self) {
        self.answer = Some(self.life.with(|inner| {
            let answer = (Instant::now() + TAKE_TIMEOUT, inner.next_answer);
            inner.next_answer += 1;
            inner.answers.insert(answer);
            answer
        }));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.life.with(|inner| {
            if let Some(answer) = &self.answer {
                inner.answers.remove(answer);
            }
            if self.counts {
                inner.running = inner.running.saturating_sub(1);
                inner.since = Instant::now();
            }
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
