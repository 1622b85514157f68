//! A stand-in for the kubelets and the scheduler: every pod goes to one node that does not exist, gets an address
//! of loopback, is Running and Ready after its start-up time, and is gone after its stop time once deleted.
//!
//! Pods are bound to a node because kube-apiserver removes an unbound pod the moment it is deleted: without the
//! binding nobody would ever see a terminating pod. The two times are annotations of the pod, in seconds. A test
//! may put servers into the pods instead, which then say how long they start and when they are empty.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const STARTUP_SECONDS: &str = "stand-in.test/startup-seconds";
pub const STOP_SECONDS: &str = "stand-in.test/stop-seconds";
const NODE: &str = "stand-in";

/// Longest time that kube-apiserver may be away while a pod needs it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two tries, and between two looks whether a server is empty.
const PAUSE: Duration = Duration::from_millis(200);
/// Grace period of a pod that names none.
const GRACE_SECONDS: i64 = 30;

/// What runs in the pods. Pods that are no server's are not its business; calls may be repeated.
pub trait Servers: Send + Sync {
    /// A pod got its address. How long it starts; `None` for a pod that is not known here.
    fn created(&self, pod: &Pod, address: Ipv4Addr) -> Option<Duration>;
    /// Its start-up time is over.
    fn ready(&self, pod: &Pod);
    /// It is to end.
    fn stopping(&self, pod: &Pod);
    /// Whether nothing is inside any more.
    fn is_empty(&self, pod: &Pod) -> bool;
    /// It exists no longer.
    fn gone(&self, pod: &Pod);
}

type Hosted = Arc<OnceLock<Arc<dyn Servers>>>;

pub struct Kubelet {
    task: JoinHandle<()>,
    servers: Hosted,
}

impl Kubelet {
    pub async fn start(client: Client) -> Self {
        let node = json!({"metadata": {"name": NODE}});
        let node: Node = serde_json::from_value(node).expect("a node needs a name only");
        let nodes: Api<Node> = Api::all(client.clone());
        nodes.create(&PostParams::default(), &node).await.expect("the admin may create a node");
        let servers = Hosted::default();
        Self { task: tokio::spawn(watch(client, servers.clone())), servers }
    }

    /// Run these in the pods from now on.
    pub fn host(&self, servers: Arc<dyn Servers>) {
        assert!(self.servers.set(servers).is_ok(), "one test of a run has servers");
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The pods whose start and whose end are already being taken care of, by uid.
#[derive(Default)]
struct Known {
    started: BTreeSet<String>,
    ending: BTreeSet<String>,
}

async fn watch(client: Client, servers: Hosted) {
    let mut known = Known::default();
    let mut addresses = 1u32;
    let mut events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => pod,
            Ok(Event::Delete(pod)) => {
                if let Some(servers) = servers.get() {
                    servers.gone(&pod);
                }
                continue;
            }
            // kube-apiserver is away: the watcher comes back by itself.
            Ok(_) | Err(_) => continue,
        };
        let uid = pod.uid().unwrap_or_default();
        let servers = servers.get().cloned();
        if pod.metadata.deletion_timestamp.is_some() {
            if known.ending.insert(uid) {
                tokio::spawn(end(client.clone(), pod, servers));
            }
        } else if known.started.insert(uid) {
            addresses += 1;
            tokio::spawn(run(client.clone(), pod, address(addresses), servers));
        }
    }
}

/// Addresses 127.1.0.2 and on: loopback, and nobody else's.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number)
}

async fn run(client: Client, pod: Pod, address: Ipv4Addr, servers: Option<Arc<dyn Servers>>) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": NODE},
    });
    // A pod that is gone before it ran needs no care: every error here is that.
    let (pods, name, binding) = (&pods, name.as_str(), &binding);
    let bound: Option<Value> =
        persist(|| async move { pods.create_subresource("binding", name, &PostParams::default(), binding).await })
            .await;
    if bound.is_none() {
        return;
    }
    let startup = servers.as_ref().and_then(|s| s.created(&pod, address));
    let starting = json!({"status": {"phase": "Pending", "podIP": address, "podIPs": [{"ip": address}]}});
    write_status(pods, name, starting).await;
    tokio::time::sleep(startup.unwrap_or_else(|| seconds(&pod, STARTUP_SECONDS))).await;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    if let Some(servers) = &servers {
        servers.ready(&pod);
    }
    let ready = json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}});
    write_status(pods, name, ready).await;
}

async fn write_status(pods: &Api<Pod>, name: &str, status: Value) {
    let patch = &Patch::Merge(status);
    persist(|| async move { pods.patch_status(name, &PatchParams::default(), patch).await }).await;
}

async fn end(client: Client, pod: Pod, servers: Option<Arc<dyn Servers>>) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    tokio::time::sleep(seconds(&pod, STOP_SECONDS)).await;
    if let Some(servers) = &servers {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(GRACE_SECONDS);
        let over = Instant::now() + Duration::from_secs(grace.unsigned_abs());
        servers.stopping(&pod);
        while !servers.is_empty(&pod) && Instant::now() < over {
            tokio::time::sleep(PAUSE).await;
        }
        servers.gone(&pod);
    }
    let (pods, name) = (&pods, &pod.name_any());
    persist(|| async move { pods.delete(name, &DeleteParams::default().grace_period(0)).await }).await;
}

/// Try until kube-apiserver has answered; `None` when the answer is no.
async fn persist<T, F: Future<Output = kube::Result<T>>>(attempt: impl Fn() -> F) -> Option<T> {
    let over = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Some(done),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => return None,
            Err(_) if Instant::now() > over => return None,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn seconds(pod: &Pod, annotation: &str) -> Duration {
    let text = pod.annotations().get(annotation).map_or("0", String::as_str);
    Duration::from_secs_f64(text.parse().unwrap_or_else(|_| panic!("{annotation}: {text} is no number of seconds")))
}
