//! Listeners: sockets, how many connections they take, and the orderly stop of all of them.

use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures::future::{join_all, try_join_all};
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::health::Readiness;
use super::tls::Tls;

/// Connections of one listener; more wait in the system's queue. Idle ones end by themselves.
const MAX_CONNECTIONS: usize = 16_384;

/// How many parts of the open files that the process may have one listener takes at most: a flood on one of them
/// then leaves some to the others, and to what the daemon itself opens.
const FILE_PARTS: u64 = 4;

/// Rest after a failure to take a connection, e.g. for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time between two words about such failures.
const ACCEPT_WORDS: Duration = Duration::from_secs(10);

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
    /// The aggregator sends all through few connections.
    fn default() -> Self {
        Self { streams: 1000, window: None, ping: Some((Duration::from_secs(30), Duration::from_secs(15))) }
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
    let closing = CancellationToken::new();
    let servers = listeners.into_iter().map(|listener| serve(listener, closing.clone(), times.grace));
    let stop = async {
        shutdown.await;
        readiness.stop();
        tokio::time::sleep(times.drain).await;
        closing.cancel();
        readiness.close();
        pending::<()>().await;
    };
    tokio::select! {
        result = try_join_all(servers) => result.map(|_| ()),
        () = stop => Ok(()),
        () = watch_certificates(certificates) => Ok(()),
    }
}

/// Take connections until `closing`, then let those that are open finish within `grace`. Ends all of them when
/// it is dropped.
async fn serve(listener: Listener, closing: CancellationToken, grace: Duration) -> io::Result<()> {
    let Listener { socket, router, tls, http2 } = listener;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let connection = Connection { router, tls, http2, closing: closing.clone() };
    let places = Arc::new(Semaphore::new(most_connections()));
    let mut open = JoinSet::new();
    let said = Mutex::new(None);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (accept(&socket, &said).await, place)
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(ended) = open.join_next(), if !open.is_empty() => report(ended),
            ((stream, address), place) = next => {
                let connection = connection.clone();
                open.spawn(async move {
                    let _place = place;
                    connection.serve(stream, address).await;
                });
            }
        }
    }
    // From here on the system refuses who comes new.
    drop(socket);
    let all = async {
        while let Some(ended) = open.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!("requests still ran at the end of the grace time and are cut off");
    }
    Ok(())
}

/// Connections that one listener may have without taking all open files of the process.
fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.map(|files| files / FILE_PARTS);
    files.and_then(|files| usize::try_from(files).ok()).map_or(MAX_CONNECTIONS, |most| most.clamp(1, MAX_CONNECTIONS))
}

/// The next connection; `said` is when a failure was last spoken of.
async fn accept(socket: &tokio::net::TcpListener, said: &Mutex<Option<Instant>>) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            // Its client is gone already; the next one may be there.
            Err(error) if is_of_client(&error) => tracing::debug!(%error, "a connection ended before it was taken"),
            Err(error) => {
                let silent = {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let silent = said.is_some_and(|at| at.elapsed() < ACCEPT_WORDS);
                    if !silent {
                        *said = Some(Instant::now());
                    }
                    silent
                };
                if !silent {
                    tracing::warn!(%error, "connections cannot be taken");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that ended in a panic harms no other; it is said.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
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
