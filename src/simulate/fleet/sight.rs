//! What can be read off a fleet without a network: its replicas' engines, its gateway.

use super::super::engine::EngineSpec;
use super::super::pool::{Pool, Replica};
use super::super::workload::Request;
use super::Fleet;

impl Fleet {
    /// What the servers of a pool really do, error included.
    pub fn truth(&self, pool: usize) -> Option<&EngineSpec> {
        self.pools.get(pool).map(Pool::spec)
    }

    /// Every replica with the index of its pool.
    pub(in crate::simulate) fn all(&self) -> impl Iterator<Item = (usize, &Replica)> {
        self.pools.iter().enumerate().flat_map(|(index, pool)| pool.replicas.iter().map(move |r| (index, r)))
    }

    pub(in crate::simulate) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Requests that no server has yet.
    pub(in crate::simulate) fn at_gateway(&self) -> impl Iterator<Item = &Request> {
        self.gateway.iter().flat_map(|queue| queue.values())
    }
}
