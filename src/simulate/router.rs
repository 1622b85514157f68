//! The gateway's choice of a replica.
//!
//! Without advice a request goes to the model's ready replica with the least relative load: requests
//! inside against what such a replica can hold. With the planner's shares the pool is chosen first, so
//! that each pool gets its share of the class over time; a pool of which only a part is ready gets that
//! part of its share, and a latency-bound request whose pool is full goes wherever the load is least.

use std::collections::BTreeMap;

use super::pool::{Phase, Pool, Replica};
use super::workload::Request;
use crate::control::Decision;
use crate::policy::{Policy, Promise};

/// Share of each (model, class) for each pool, all as indices of the policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteShares(pub BTreeMap<(usize, usize), Vec<(usize, f64)>>);

impl RouteShares {
    /// The routes of a decision; names that the policy does not know and shares of 0 are left out.
    pub fn from_decision(policy: &Policy, decision: &Decision) -> Self {
        let mut shares: BTreeMap<(usize, usize), Vec<(usize, f64)>> = BTreeMap::new();
        for model in &decision.models {
            let is_it = |m: &crate::policy::Model| m.namespace == model.namespace && m.name == model.name;
            let Some(m) = policy.models.iter().position(is_it) else { continue };
            for route in model.routes.iter().filter(|r| r.share.is_finite() && r.share > 0.0) {
                let class = policy.classes.iter().position(|c| c.name == route.class);
                let pool = policy.pools.iter().position(|p| p.id() == route.pool);
                if let (Some(class), Some(pool)) = (class, pool) {
                    shares.entry((m, class)).or_default().push((pool, route.share));
                }
            }
        }
        Self(shares)
    }
}

/// Chooses replicas; remembers what each pool is still owed.
#[derive(Debug)]
pub struct Router {
    shares: RouteShares,
    /// Requests owed to a pool, by (model, class, pool).
    owed: BTreeMap<(usize, usize, usize), f64>,
    /// Pools of each model that serve whole requests.
    pools_of: Vec<Vec<usize>>,
    /// Whether requests of the class may leave a full pool.
    spills: Vec<bool>,
}

impl Router {
    pub fn new(policy: &Policy, pools: &[Pool]) -> Self {
        let of = |m: usize| (0..pools.len()).filter(|p| pools[*p].model == m && pools[*p].serves).collect();
        Self {
            shares: RouteShares::default(),
            owed: BTreeMap::new(),
            pools_of: (0..policy.models.len()).map(of).collect(),
            spills: policy.classes.iter().map(|c| matches!(c.promise, Promise::Latency { .. })).collect(),
        }
    }

    pub fn set_shares(&mut self, shares: RouteShares) {
        self.owed.retain(|(model, class, pool), _| {
            shares.0.get(&(*model, *class)).is_some_and(|list| list.iter().any(|(p, _)| p == pool))
        });
        self.shares = shares;
    }

    /// Pools that may serve a model.
    pub fn pools_of(&self, model: usize) -> &[usize] {
        self.pools_of.get(model).map_or(&[], Vec::as_slice)
    }

    /// Pool and position of the replica that gets the request; `None` when the model has no ready one.
    pub fn choose(&mut self, request: &Request, pools: &[Pool]) -> Option<(usize, usize)> {
        if let Some(pool) = self.advised_pool(request, pools)
            && let Some((replica, load)) = least_loaded(&pools[pool])
        {
            let may_spill = self.spills.get(request.class).copied().unwrap_or(true);
            if load <= 1.0 || !may_spill {
                return Some((pool, replica));
            }
        }
        let of_model = self.pools_of(request.model).iter();
        let best = of_model.filter_map(|&p| least_loaded(&pools[p]).map(|(r, load)| (p, r, load)));
        best.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(pool, replica, _)| (pool, replica))
    }

    /// The pool that is owed most of this class, given the shares and what is ready.
    fn advised_pool(&mut self, request: &Request, pools: &[Pool]) -> Option<usize> {
        let key = (request.model, request.class);
        let weights: Vec<(usize, f64)> = self
            .shares
            .0
            .get(&key)?
            .iter()
            .filter_map(|&(p, share)| {
                let pool = pools.get(p)?;
                let ready = f64::from(pool.ready());
                let weight = share * ready / f64::from(pool.wanted).max(ready).max(1.0);
                (pool.serves && pool.model == request.model && weight > 0.0).then_some((p, weight))
            })
            .collect();
        let total: f64 = weights.iter().map(|(_, w)| w).sum();
        for (pool, weight) in &weights {
            *self.owed.entry((key.0, key.1, *pool)).or_default() += weight / total;
        }
        let owed = |pool: usize| self.owed.get(&(key.0, key.1, pool)).copied().unwrap_or(0.0);
        // the first of equals: `max_by` would take the last
        let (pool, _) = weights.iter().rev().max_by(|a, b| owed(a.0).total_cmp(&owed(b.0)))?;
        *self.owed.entry((key.0, key.1, *pool)).or_default() -= 1.0;
        Some(*pool)
    }
}

/// Position and load of the pool's ready replica with the least load, the oldest of equals.
fn least_loaded(pool: &Pool) -> Option<(usize, f64)> {
    let ready = pool.replicas.iter().enumerate().filter(|(_, r)| r.phase == Phase::Ready);
    let loads = ready.map(|(i, replica): (usize, &Replica)| (i, pool.load(replica)));
    loads.min_by(|a, b| a.1.total_cmp(&b.1))
}
