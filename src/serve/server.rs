//! Listeners: HTTP/1.1 and HTTP/2, plain or TLS, and the orderly stop of all of them.

use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use futures::future::{join_all, try_join_all};

use super::health::Readiness;
use super::tls::Tls;

/// Largest list of request headers, as Go's servers allow: groups of a user travel in headers, long
/// selectors in the path.
const MAX_HEADERS_BYTES: u32 = 1 << 20;

/// How long a client may take to send the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);

/// Time between two looks at the certificate files.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// One socket and what answers on it.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    pub router: Router,
    pub tls: Option<Tls>,
    pub http2: Http2,
}

/// HTTP/2 of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Requests in flight on one connection.
    pub streams: u32,
    /// Bytes of one connection's requests that may wait to be read; `None` is the library's own measure. The count of
    /// small messages that may wait grows with it, and a client beyond that is sent away.
    pub window: Option<u32>,
    /// Ask a silent client for a sign of life after the first of these, and close its connection when there is none
    /// within the second.
    pub ping: Option<(Duration, Duration)>,
}

impl Default for Http2 {
    /// The aggregator sends all through few connections, and looks after them itself.
    fn default() -> Self {
        Self { streams: 1000, window: None, ping: None }
    }
}

/// How long an orderly stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimes {
    /// Time between "not ready" and closing the sockets, in which a cluster's load balancers learn of it.
    pub drain: Duration,
    /// Time for running requests to finish after that.
    pub grace: Duration,
}

/// Serve until `shutdown` ends, then stop: not ready at once, sockets closed after the drain time,
/// running requests finished within the grace time.
///
/// # Errors
/// A socket cannot be used; the others are then closed too.
pub async fn run(
    listeners: Vec<Listener>,
    readiness: Readiness,
    shutdown: impl Future<Output = ()>,
    times: StopTimes,
) -> io::Result<()> {
    let certificates: Vec<Tls> = listeners.iter().filter_map(|l| l.tls.clone()).collect();
    let handles: Vec<Handle<SocketAddr>> = listeners.iter().map(|_| Handle::new()).collect();
    let servers = listeners.into_iter().zip(&handles).map(|(listener, handle)| serve(listener, handle.clone()));
    let stop = async {
        shutdown.await;
        readiness.stop();
        tokio::time::sleep(times.drain).await;
        readiness.close();
        for handle in &handles {
            handle.graceful_shutdown(Some(times.grace));
        }
        pending::<()>().await;
    };
    tokio::select! {
        result = try_join_all(servers) => result.map(|_| ()),
        () = stop => Ok(()),
        () = watch_certificates(certificates) => Ok(()),
    }
}

/// Small answers leave at once (no delay): those in two writes would wait 40 ms for the client's acknowledgement.
async fn serve(listener: Listener, handle: Handle<SocketAddr>) -> io::Result<()> {
    let service = listener.router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener.socket)?.handle(handle).first_request_timeout(HEADER_TIMEOUT);
    match listener.tls {
        None => limited(server.acceptor(NoDelayAcceptor::new()), listener.http2).serve(service).await,
        Some(tls) => {
            let acceptor = axum_server::tls_rustls::RustlsAcceptor::new(tls.config()).acceptor(NoDelayAcceptor::new());
            limited(server.acceptor(acceptor), listener.http2).serve(service).await
        }
    }
}

fn limited<A>(mut server: axum_server::Server<SocketAddr, A>, http2: Http2) -> axum_server::Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADERS_BYTES as usize);
    builder.http2().max_header_list_size(MAX_HEADERS_BYTES).max_concurrent_streams(http2.streams);
    if let Some(bytes) = http2.window {
        builder.http2().initial_connection_window_size(bytes);
    }
    if let Some((silence, answer)) = http2.ping {
        builder.http2().keep_alive_interval(silence).keep_alive_timeout(answer);
    }
    server
}

/// Look at the certificate files for ever.
async fn watch_certificates(certificates: Vec<Tls>) {
    join_all(certificates.into_iter().map(async |tls| {
        loop {
            tokio::time::sleep(CERTIFICATE_INTERVAL).await;
            match tls.reload_if_changed() {
                Ok(true) => tracing::info!(?tls, "new serving certificate taken over"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the serving certificate changed and is not usable, the old one stays")
                }
            }
        }
    }))
    .await;
    pending::<()>().await;
}
