//! A stand-in for the model servers: for every pod of a namespace a metrics page at the pod's own address, whose
//! counters grow as a vLLM's would under a given load. The load is shared by all pods.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::Router;
use axum::routing::get;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// A real page after 170 requests.
const PAGE: &str = include_str!("../../fixtures/engine-metrics/vllm-0.32.0-queued.prom");
const REQUESTS: f64 = 170.0;

#[derive(Default)]
struct Load {
    /// Requests per second, of all pods.
    rate: f64,
    /// Requests of each pod so far.
    served: BTreeMap<String, f64>,
    since: Option<Instant>,
}

impl Load {
    /// Let the time since the last call pass.
    fn pass(&mut self) {
        let now = Instant::now();
        let seconds = self.since.map_or(0.0, |since| (now - since).as_secs_f64());
        self.since = Some(now);
        let share = self.rate / self.served.len().max(1) as f64;
        self.served.values_mut().for_each(|requests| *requests += share * seconds);
    }

    fn page(&mut self, pod: &str, model: &str) -> String {
        self.pass();
        let factor = self.served.get(pod).copied().unwrap_or(0.0) / REQUESTS;
        let mut page = String::new();
        for line in PAGE.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let name = series.split('{').next().unwrap_or(series);
            let series = series.replace("model_name=\"tiny\"", &format!("model_name=\"{model}\""));
            let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
            let value: f64 = value.parse().expect("a sample's value is a number");
            let value = match name {
                "vllm:num_requests_waiting" | "vllm:num_requests_waiting_by_reason" => 0.0,
                "vllm:num_requests_running" => self.rate.min(20.0),
                _ if counts => (value * factor).floor(),
                _ => value,
            };
            writeln!(page, "{series} {value}").expect("a text can be written to");
        }
        page
    }
}

pub struct Engines {
    load: Arc<Mutex<Load>>,
    task: JoinHandle<()>,
}

impl Engines {
    /// Serve a page at this port of the address of every pod of the namespace.
    pub fn start(client: Client, namespace: &str, model: &'static str, port: u16) -> Self {
        let load = Arc::<Mutex<Load>>::default();
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let task = tokio::spawn(follow(pods, load.clone(), model, port));
        Self { load, task }
    }

    /// Requests per second from now on, of all pods together.
    pub fn set_rate(&self, rate: f64) {
        let mut load = lock(&self.load);
        load.pass();
        load.rate = rate;
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(load: &Mutex<Load>) -> MutexGuard<'_, Load> {
    load.lock().expect("nobody panics with the lock")
}

async fn follow(pods: Api<Pod>, load: Arc<Mutex<Load>>, model: &'static str, port: u16) {
    let mut servers = BTreeMap::new();
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let name = pod.name_any();
                let address = pod.status.and_then(|s| s.pod_ip).and_then(|ip| ip.parse::<IpAddr>().ok());
                let Some(address) = address.filter(|_| !servers.contains_key(&name)) else { continue };
                let socket = TcpListener::bind((address, port)).await.expect("the address is this machine's");
                let (shared, pod) = (load.clone(), name.clone());
                let page = move || std::future::ready(lock(&shared).page(&pod, model));
                let router = Router::new().route("/metrics", get(page));
                let server = async move { axum::serve(socket, router).await };
                servers.insert(name.clone(), AbortOnDropHandle::new(tokio::spawn(server)));
                let mut load = lock(&load);
                load.pass();
                load.served.insert(name, 0.0);
            }
            Ok(Event::Delete(pod)) => {
                servers.remove(&pod.name_any());
                let mut load = lock(&load);
                load.pass();
                load.served.remove(&pod.name_any());
            }
            Ok(_) | Err(_) => {}
        }
    }
}
