//! The simulated fleet over real HTTP on loopback: a metrics page per replica, discovery, and the few
//! series of the cluster's state. A starting replica owns its port but refuses connections, as a pod does.
//! A replica with an address of its own answers there, the others at free ports of 127.0.0.1.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::exposition::escape;
use super::fleet::{Fleet, ListedReplica, ReplicaId};

/// Content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Connections waiting for acceptance.
const BACKLOG: u32 = 128;

/// A fleet that handlers and the driver share. The lock is held for the length of one page or one
/// advance and never across an await, hence a plain mutex.
#[derive(Clone, Debug)]
pub struct SharedFleet(Arc<Mutex<Fleet>>);

impl SharedFleet {
    pub fn new(fleet: Fleet) -> Self {
        Self(Arc::new(Mutex::new(fleet)))
    }

    /// The fleet, for as long as the guard lives. A panic elsewhere does not take it away.
    pub fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses of the replicas' metrics pages.
type Addresses = Arc<Mutex<BTreeMap<ReplicaId, SocketAddr>>>;

/// The HTTP servers of a fleet; they stop when it is dropped.
#[derive(Debug)]
pub struct FleetServer {
    fleet: SharedFleet,
    address: SocketAddr,
    addresses: Addresses,
    replicas: BTreeMap<ReplicaId, Endpoint>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// The port of one replica.
#[derive(Debug)]
enum Endpoint {
    /// Bound, not listening: connections are refused.
    Starting(TcpSocket),
    /// Served until the guard is dropped.
    Serving { _stop: DropGuard },
}

#[derive(Clone)]
struct FleetState {
    fleet: SharedFleet,
    addresses: Addresses,
}

#[derive(Clone)]
struct ReplicaState {
    fleet: SharedFleet,
    id: ReplicaId,
}

impl FleetServer {
    /// Serve `/sd` and `/kube-state-metrics` on a free port of 127.0.0.1, and open the replicas' ports.
    ///
    /// # Errors
    /// A port cannot be opened.
    pub async fn start(fleet: SharedFleet) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let addresses = Addresses::default();
        let stop = CancellationToken::new();
        let state = FleetState { fleet: fleet.clone(), addresses: Arc::clone(&addresses) };
        let app =
            Router::new().route("/sd", get(discovery)).route("/kube-state-metrics", get(kube_state)).with_state(state);
        serve(listener, app, stop.child_token());
        let _stop_on_drop = stop.clone().drop_guard();
        let mut server = Self { fleet, address, addresses, replicas: BTreeMap::new(), stop, _stop_on_drop };
        server.sync()?;
        Ok(server)
    }

    /// Address of `/sd` and `/kube-state-metrics`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the Prometheus HTTP discovery.
    pub fn discovery_url(&self) -> String {
        format!("http://{}/sd", self.address)
    }

    /// Address of a replica's metrics page, also while it starts.
    pub fn replica_address(&self, id: ReplicaId) -> Option<SocketAddr> {
        lock(&self.addresses).get(&id).copied()
    }

    /// Bring the ports in line with the fleet: bound while starting, served when ready or draining,
    /// closed when gone. To be called in a Tokio runtime after every advance. A port that could not be
    /// opened is tried again by the next call.
    ///
    /// # Errors
    /// A port cannot be opened; the others are in line all the same.
    pub fn sync(&mut self) -> io::Result<()> {
        let listed = self.fleet.lock().replicas();
        self.replicas.retain(|id, _| listed.iter().any(|r| r.id == *id));
        lock(&self.addresses).retain(|id, _| listed.iter().any(|r| r.id == *id));
        let mut outcome = Ok(());
        for replica in &listed {
            outcome = outcome.and(self.sync_replica(replica));
        }
        outcome
    }

    fn sync_replica(&mut self, replica: &ListedReplica) -> io::Result<()> {
        let socket = match self.replicas.remove(&replica.id) {
            Some(endpoint @ Endpoint::Serving { .. }) => {
                self.replicas.insert(replica.id, endpoint);
                return Ok(());
            }
            Some(Endpoint::Starting(socket)) => socket,
            None => {
                let socket = bind(replica.address)?;
                lock(&self.addresses).insert(replica.id, socket.local_addr()?);
                socket
            }
        };
        let endpoint = if replica.serving {
            let stop = self.stop.child_token();
            let state = ReplicaState { fleet: self.fleet.clone(), id: replica.id };
            let app = Router::new().route("/metrics", get(metrics)).with_state(state);
            serve(socket.listen(BACKLOG)?, app, stop.clone());
            Endpoint::Serving { _stop: stop.drop_guard() }
        } else {
            Endpoint::Starting(socket)
        };
        self.replicas.insert(replica.id, endpoint);
        Ok(())
    }
}

/// A bound socket: at the given address, else at a free port.
fn bind(address: Option<SocketAddr>) -> io::Result<TcpSocket> {
    let socket = match address {
        Some(SocketAddr::V6(_)) => TcpSocket::new_v6()?,
        _ => TcpSocket::new_v4()?,
    };
    if address.is_some() {
        // the address of a pod that has just gone may be given to the next
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))?;
    Ok(socket)
}

fn lock(addresses: &Addresses) -> MutexGuard<'_, BTreeMap<ReplicaId, SocketAddr>> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    tokio::spawn(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "a server of the simulated fleet stopped");
        }
    });
}

async fn metrics(State(state): State<ReplicaState>) -> Response {
    let page = state.fleet.lock().metrics_page(state.id);
    match page {
        Some(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Starting and ready replicas in the form of Prometheus' `http_sd_config`. Replicas that were taken
/// away are left out, as pods that terminate are.
async fn discovery(State(state): State<FleetState>) -> Json<Value> {
    let replicas = state.fleet.lock().replicas();
    let addresses = lock(&state.addresses);
    let group = |r: &ListedReplica| {
        let target = addresses.get(&r.id)?.to_string();
        let labels = json!({"namespace": r.namespace, "pod": r.pod, "deployment": r.deployment});
        Some(json!({"targets": [target], "labels": labels}))
    };
    Json(replicas.iter().filter(|r| !r.draining).filter_map(group).collect())
}

/// The series of kube-state-metrics that tell how many replicas are wanted and ready.
async fn kube_state(State(state): State<FleetState>) -> Response {
    let mut spec = String::from(
        "# HELP kube_deployment_spec_replicas Number of desired pods for a deployment.\n\
         # TYPE kube_deployment_spec_replicas gauge\n",
    );
    let mut ready = String::from(
        "# HELP kube_deployment_status_replicas_ready The number of ready replicas per deployment.\n\
         # TYPE kube_deployment_status_replicas_ready gauge\n",
    );
    for (namespace, deployment, wanted, serving) in state.fleet.lock().deployments() {
        let labels = format!("{{namespace=\"{}\",deployment=\"{}\"}}", escape(namespace), escape(deployment));
        spec.push_str(&format!("kube_deployment_spec_replicas{labels} {wanted}\n"));
        ready.push_str(&format!("kube_deployment_status_replicas_ready{labels} {serving}\n"));
    }
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], spec + &ready).into_response()
}
