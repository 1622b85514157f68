//! The optimisation problem and its answer, as plain numbers.

use serde::{Deserialize, Serialize};

/// One (model, SLO class, shape bucket) with an offered rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub name: String,
    pub model: usize,
    pub class: usize,
    /// Higher is more important.
    pub priority: i32,
    /// Requests per second.
    pub rate: f64,
}

/// One pool whose replicas are to be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolOption {
    pub name: String,
    pub accelerator: usize,
    /// Accelerators one replica uses.
    pub units: u32,
    /// Price of one replica per hour.
    pub price_per_hour: f64,
    /// What starting one more replica costs, spread over the time it is expected to be needed,
    /// currency per hour.
    pub start_cost_per_hour: f64,
    pub min: u32,
    pub max: u32,
    /// Replicas that run or start now; only more than these cost a start.
    pub running: u32,
    /// Latency level at which the pool is operated now; another one costs a little, so that routes do not
    /// change places for nothing.
    pub tier: Option<usize>,
}

/// A cell that a pool can serve: the rate of one replica that is fed with this cell alone while the pool
/// is operated at the latency level `tier`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Serve {
    pub cell: usize,
    pub pool: usize,
    /// Latency level, 0 = tightest. A pool is operated at one level.
    pub tier: usize,
    /// Requests per second of one replica, above 0.
    pub rate: f64,
}

/// Sets and data of one decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub cells: Vec<Cell>,
    pub pools: Vec<PoolOption>,
    /// Accelerators of each type that can be had.
    pub stock: Vec<u32>,
    pub serves: Vec<Serve>,
}

/// Rate of one cell that is sent to one pool, requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub cell: usize,
    pub pool: usize,
    pub rate: f64,
}

/// Replicas and flows. Pools and cells are those of the problem, by index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub replicas: Vec<u32>,
    /// Latency level at which each pool is operated; `None` for a pool that serves nothing.
    pub tiers: Vec<Option<usize>>,
    pub flows: Vec<Flow>,
    /// Rate of each cell that is not served within its target, requests per second.
    pub shortfall: Vec<f64>,
}

/// A plan and how it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solution {
    pub plan: Plan,
    /// `milp`, `greedy` or `none` for an empty problem.
    pub solver: String,
    /// Simplex pivots and greedy steps.
    pub work_units: u64,
    /// (cost - proven bound) / cost of the worst part, 0 when proven optimal.
    pub gap: f64,
    /// Answers that the independent check refused and that were replaced.
    pub refused: u32,
}

impl Problem {
    /// Cost of the replicas, currency per hour, without start costs.
    pub fn cost_per_hour(&self, replicas: &[u32]) -> f64 {
        self.pools.iter().zip(replicas).map(|(p, &n)| p.price_per_hour * f64::from(n)).sum()
    }

    /// Cost that the plan minimises: replicas plus starts, currency per hour.
    pub fn objective(&self, replicas: &[u32]) -> f64 {
        let starts: f64 = self
            .pools
            .iter()
            .zip(replicas)
            .map(|(p, &n)| p.start_cost_per_hour * f64::from(n.saturating_sub(p.running)))
            .sum();
        self.cost_per_hour(replicas) + starts
    }

    /// Accelerators of each type that the replicas use.
    pub fn units(&self, replicas: &[u32]) -> Vec<u64> {
        let mut used = vec![0; self.stock.len()];
        for (pool, &n) in self.pools.iter().zip(replicas) {
            used[pool.accelerator] += u64::from(pool.units) * u64::from(n);
        }
        used
    }

    /// A plan that runs the fewest replicas allowed and serves nothing.
    pub fn empty_plan(&self) -> Plan {
        Plan {
            replicas: self.pools.iter().map(|p| p.min).collect(),
            tiers: vec![None; self.pools.len()],
            flows: vec![],
            shortfall: self.cells.iter().map(|c| c.rate).collect(),
        }
    }

    /// Shortfall by priority, most important first: what the plan minimises before cost.
    pub fn shortfall_by_priority(&self, shortfall: &[f64]) -> Vec<(i32, f64)> {
        let mut sums: Vec<(i32, f64)> = vec![];
        for (cell, s) in self.cells.iter().zip(shortfall) {
            match sums.iter_mut().find(|(p, _)| *p == cell.priority) {
                Some((_, sum)) => *sum += s,
                None => sums.push((cell.priority, *s)),
            }
        }
        sums.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        sums
    }
}
