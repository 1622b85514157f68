//! A stand-in for the kubelets and the scheduler: every pod goes to one node that does not exist, gets an address
//! of loopback, is Running and Ready after its start-up time, and is gone after its stop time once deleted.
//!
//! Pods are bound to a node because kube-apiserver removes an unbound pod the moment it is deleted: without the
//! binding nobody would ever see a terminating pod. The two times are annotations of the pod, in seconds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

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

pub struct Kubelet {
    task: JoinHandle<()>,
}

impl Kubelet {
    pub async fn start(client: Client) -> Self {
        let node = json!({"metadata": {"name": NODE}});
        let node: Node = serde_json::from_value(node).expect("a node needs a name only");
        let nodes: Api<Node> = Api::all(client.clone());
        nodes.create(&PostParams::default(), &node).await.expect("the admin may create a node");
        Self { task: tokio::spawn(watch(client)) }
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

async fn watch(client: Client) {
    let mut known = Known::default();
    let mut addresses = 1u32;
    let mut events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => pod,
            // kube-apiserver is away: the watcher comes back by itself.
            Ok(_) | Err(_) => continue,
        };
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            if known.ending.insert(uid) {
                tokio::spawn(end(client.clone(), pod));
            }
        } else if known.started.insert(uid) {
            addresses += 1;
            tokio::spawn(run(client.clone(), pod, address(addresses)));
        }
    }
}

/// Addresses 127.1.0.2 and on: loopback, and nobody else's.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number)
}

async fn run(client: Client, pod: Pod, address: Ipv4Addr) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": NODE},
    });
    // A pod that is gone before it ran needs no care: every error here is that.
    let bound: Result<Value, _> = pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    if bound.is_err() {
        return;
    }
    let starting = json!({"status": {"phase": "Pending", "podIP": address, "podIPs": [{"ip": address}]}});
    let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(starting)).await;
    tokio::time::sleep(seconds(&pod, STARTUP_SECONDS)).await;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    let ready = json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}});
    let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready)).await;
}

async fn end(client: Client, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    tokio::time::sleep(seconds(&pod, STOP_SECONDS)).await;
    let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
}

fn seconds(pod: &Pod, annotation: &str) -> Duration {
    let text = pod.annotations().get(annotation).map_or("0", String::as_str);
    Duration::from_secs_f64(text.parse().unwrap_or_else(|_| panic!("{annotation}: {text} is no number of seconds")))
}
