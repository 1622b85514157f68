//! Listeners: sockets, how many connections they take, and the orderly stop of all of them.

use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::{join_all, try_join_all};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::health::Readiness;
use super::tls::Tls;

/// Connections of one listener; more wait in the system's queue. Idle ones end by themselves.
const MAX_CONNECTIONS: usize = 16_384;

/// Rest after a failure to take a connection, e.g. for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time between two looks at the certificate files.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// One socket and what answers on it.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    pub router: Router,
    pub tls: Option<Tls>,
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
    listener.socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(listener.socket)?;
    let connection = Connection { router: listener.router, tls: listener.tls, closing: closing.clone() };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (accept(&socket).await, place)
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

async fn accept(socket: &tokio::net::TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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
