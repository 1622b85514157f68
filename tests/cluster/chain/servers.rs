//! Simulated model servers in the pods that the Deployments' controller creates: each has its pod's address.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use poolwright::policy::Policy;
use poolwright::simulate::SharedFleet;

use crate::harness::kubelet::Servers;

/// Label of a pod with the name of its Deployment.
pub const LABEL: &str = "app";

pub struct Engines {
    policy: Policy,
    fleet: SharedFleet,
    /// The same for all; their addresses differ.
    port: u16,
    /// Pods of the fleet's first moment are there at once.
    slow: AtomicBool,
}

impl Engines {
    pub fn new(policy: Policy, fleet: SharedFleet, port: u16) -> Arc<Self> {
        Arc::new(Self { policy, fleet, port, slow: AtomicBool::new(false) })
    }

    /// From now on a pod takes its pool's start-up time.
    pub fn start_slowly(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    fn pool(&self, pod: &Pod) -> Option<usize> {
        let (namespace, app) = (pod.namespace()?, pod.labels().get(LABEL)?);
        self.policy.pools.iter().position(|p| p.namespace == namespace && p.target.name == *app)
    }
}

/// What the fleet refuses was said before: a watch that begins again repeats itself.
impl Servers for Engines {
    fn created(&self, pod: &Pod, address: Ipv4Addr) -> Option<Duration> {
        let pool = self.pool(pod)?;
        let _ = self.fleet.lock().add_pod(pool, &pod.name_any(), Some((address, self.port).into()));
        let slow = self.slow.load(Ordering::Relaxed);
        Some(Duration::from_secs_f64(if slow { self.policy.pools[pool].startup_seconds } else { 0.0 }))
    }

    fn ready(&self, pod: &Pod) {
        let _ = self.fleet.lock().pod_ready(&pod.namespace().unwrap_or_default(), &pod.name_any());
    }

    fn stopping(&self, pod: &Pod) {
        let _ = self.fleet.lock().drain_pod(&pod.namespace().unwrap_or_default(), &pod.name_any());
    }

    fn is_empty(&self, pod: &Pod) -> bool {
        let inside = self.fleet.lock().pod_outstanding(&pod.namespace().unwrap_or_default(), &pod.name_any());
        inside.unwrap_or(0) == 0
    }

    fn gone(&self, pod: &Pod) {
        let _ = self.fleet.lock().remove_pod(&pod.namespace().unwrap_or_default(), &pod.name_any());
    }
}
