//! Pods that somebody else creates, makes ready and deletes: a cluster, played by these calls.
//!
//! Requests, engines, gateway and books are those of every other fleet. Only the beginning and the end of
//! a replica come from outside, and the stock is not asked: the cluster guards it. A pod costs money from
//! its creation until it is removed, whatever it does.

use std::net::SocketAddr;

use super::super::pool::Phase;
use super::super::windows::{ClassService, Window, service};
use super::super::workload::Workload;
use super::{Fleet, FleetOptions, ReplicaId};
use crate::policy::Policy;

/// Why a word about a pod is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    #[error("this fleet starts its replicas itself")]
    NotExternal,
    #[error("the policy has no pool number {0}")]
    NoPool(usize),
    #[error("pod {0} exists already")]
    Exists(String),
    #[error("there is no pod {0}")]
    Unknown(String),
    #[error("pod {0} is not starting")]
    NotStarting(String),
}

impl Fleet {
    /// A fleet of the policy's pools without a single pod, at time 0: pods come with [`add_pod`](Self::add_pod).
    pub fn external(policy: &Policy, workloads: Vec<Workload>, options: FleetOptions) -> Self {
        Self { external: true, ..Self::empty(policy, workloads, options) }
    }

    /// A pod was created now: it costs money and starts, for as long as it takes. Its page will be served
    /// at `address`, or at a free port of 127.0.0.1.
    ///
    /// # Errors
    /// The fleet is not external, there is no such pool, or the namespace has a pod of this name.
    pub fn add_pod(&mut self, pool: usize, pod: &str, address: Option<SocketAddr>) -> Result<ReplicaId, PodError> {
        if !self.external {
            return Err(PodError::NotExternal);
        }
        let namespace = self.pools.get(pool).ok_or(PodError::NoPool(pool))?.namespace.clone();
        if self.find(&namespace, pod).is_ok() {
            return Err(PodError::Exists(format!("{namespace}/{pod}")));
        }
        let id = self.next_id();
        self.pools[pool].add(id, pod, address, self.now_seconds);
        Ok(id)
    }

    /// The pod's server came up now, with nothing inside and all counters at zero. What waits at the gateway
    /// for its model is sent on.
    ///
    /// # Errors
    /// There is no such pod, or it is ready already or on its way out.
    pub fn pod_ready(&mut self, namespace: &str, pod: &str) -> Result<(), PodError> {
        let (pool, position) = self.find(namespace, pod)?;
        if !matches!(self.pools[pool].replicas[position].phase, Phase::Starting { .. }) {
            return Err(PodError::NotStarting(format!("{namespace}/{pod}")));
        }
        let engine = self.pools[pool].fresh_engine(pod, self.now_seconds);
        let replica = &mut self.pools[pool].replicas[position];
        replica.engine = engine;
        replica.phase = Phase::Ready;
        self.serve_waiting(self.pools[pool].model);
        Ok(())
    }

    /// The pod's deletion was asked for: it gets no more requests, finishes what it has and answers until it
    /// is removed. A second call changes nothing.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn drain_pod(&mut self, namespace: &str, pod: &str) -> Result<(), PodError> {
        let (pool, position) = self.find(namespace, pod)?;
        let since_seconds = self.now_seconds;
        let replica = &mut self.pools[pool].replicas[position];
        if !matches!(replica.phase, Phase::Draining { .. }) {
            replica.phase = Phase::Draining { since_seconds, served: replica.phase == Phase::Ready };
        }
        self.pools[pool].wanted = self.pools[pool].live();
        Ok(())
    }

    /// The pod is gone now. Its requests that are not finished fail, as at a server that was killed: they
    /// count as missed and nobody sends them again. To lose none, drain it and wait until
    /// [`pod_outstanding`](Self::pod_outstanding) is 0.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn remove_pod(&mut self, namespace: &str, pod: &str) -> Result<(), PodError> {
        let (pool, position) = self.find(namespace, pod)?;
        self.advance_pool(pool);
        self.kill(pool, position);
        self.pools[pool].wanted = self.pools[pool].live();
        Ok(())
    }

    /// Requests inside a pod now; `None` when there is no such pod.
    pub fn pod_outstanding(&self, namespace: &str, pod: &str) -> Option<usize> {
        let (pool, position) = self.find(namespace, pod).ok()?;
        Some(self.pools[pool].replicas[position].engine.outstanding())
    }

    /// How every class was served, requests that arrived inside a window counted apart. It knows the
    /// requests that finished since completions were last taken, and needs `keep_completions`.
    pub fn service(&self, windows: &[Window]) -> Vec<ClassService> {
        let inside = self.pools.iter().flat_map(|p| &p.replicas).flat_map(|r| r.engine.unfinished());
        let outside = self.gateway.iter().flat_map(|q| q.values()).map(|r| (r, None));
        service(self.ledger.promises(), &self.completions, inside.chain(outside), self.now_seconds, windows)
    }

    /// Pool and position of a pod; an own fleet's replicas are not for others to move.
    fn find(&self, namespace: &str, pod: &str) -> Result<(usize, usize), PodError> {
        if !self.external {
            return Err(PodError::NotExternal);
        }
        let of_namespace = self.pools.iter().enumerate().filter(|(_, p)| p.namespace == namespace);
        let mut found = of_namespace.filter_map(|(i, p)| Some((i, p.replicas.iter().position(|r| r.pod == pod)?)));
        found.next().ok_or_else(|| PodError::Unknown(format!("{namespace}/{pod}")))
    }
}
