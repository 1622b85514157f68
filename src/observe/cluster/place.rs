//! What the cluster knows about the pods behind readings: whose they are, and whether they are going.

use super::state::ClusterState;
use crate::observe::reading::{POD_LABEL, Reading, State};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// Bring readings in line with the pods of the cluster. A pod that was asked to go is no capacity, and its silence
/// is no loss; one that is not there any more neither. Silence of any other pod stays silence.
pub fn settle(policy: &Policy, state: &ClusterState, readings: Vec<Reading>) -> Vec<Reading> {
    let settle = |mut reading: Reading| {
        if !is_leaving(policy, state, &reading) {
            return Some(reading);
        }
        match reading.state {
            State::Live => reading.leaving = true,
            State::Silent => reading.state = State::Gone,
            State::Starting => return None,
            State::Gone | State::Group => {}
        }
        Some(reading)
    };
    readings.into_iter().filter_map(settle).collect()
}

fn is_leaving(policy: &Policy, state: &ClusterState, reading: &Reading) -> bool {
    let (Some(namespace), Some(pod)) = (reading.label(NAMESPACE_LABEL), reading.label(POD_LABEL)) else {
        return false;
    };
    let Some(pods) = state.pods.get(namespace) else { return false };
    if let Some(place) = pods.get(pod) {
        return place.leaving;
    }
    // Nobody knows this pod. Only where the label surely names pods of a known target it is one that is gone.
    let claims = |(p, known): (&crate::policy::Pool, &super::PoolState)| {
        known.pods_known && p.selector.derived && p.selector.selects(&reading.labels)
    };
    reading.pool.is_none() && policy.pools.iter().zip(&state.pools).any(claims)
}

impl ClusterState {
    /// Whether a pod belongs to a pool, where the cluster knows it; `None` where only labels tell. The operator's
    /// own selection of series is not overruled.
    pub fn claims(&self, policy: &Policy, pool: usize, namespace: &str, pod: &str) -> Option<bool> {
        let place = self.pods.get(namespace)?.get(pod)?;
        let known = self.pools.get(pool)?.pods_known && policy.pools.get(pool)?.selector.derived;
        known.then(|| place.pools.contains(&pool))
    }
}
