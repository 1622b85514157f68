//! The optimisation problem and its answer, as plain numbers.

use serde::{Deserialize, Serialize};

/// Price of operating a pool at another latency level than now, share of one replica's price per hour: its
/// queue is of the old kind, and so are the requests on their way.
pub(super) const TIER_CHANGE: f64 = 0.1;

/// One (model, SLO class, shape bucket) with an offered rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub name: String,
    pub model: usize,
    pub class: usize,
    /// Higher is more important.
    pub priority: i32,
    /// Requests per second that must be served now.
    pub rate: f64,
    /// Requests per second on top of `rate` that may wait (batch work ahead of its deadline): they get what
    /// is left over and no replica is started for them.
    #[serde(default)]
    pub may_wait: f64,
}

/// One pool whose replicas are to be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolOption {
    pub name: String,
    /// Price of one replica per hour.
    pub price_per_hour: f64,
    /// What starting one more replica costs, spread over the time it is expected to be needed,
    /// currency per hour.
    pub start_cost_per_hour: f64,
    /// What stopping one of the running replicas costs, spread in the same way, currency per hour.
    #[serde(default)]
    pub stop_cost_per_hour: f64,
    pub min: u32,
    pub max: u32,
    /// Replicas that run or start now; only more than these cost a start, only fewer a stop.
    pub running: u32,
    /// Latency level at which the pool is operated now; another one costs a little, so that routes do not
    /// change places for nothing.
    pub tier: Option<usize>,
}

/// A linear limit on the replicas of several pools: `sum amount * replicas <= most`.
///
/// Accelerators of one type may stand under several limits at once: those there are, a quota, a reservation.
/// A floor under several pools together, or a bound on the ratio of two pools, has negative amounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// As it is called in explanations, e.g. `h100` or `budget`.
    pub name: String,
    pub kind: LimitKind,
    pub most: f64,
    /// (pool, amount of one replica), in order of the pools.
    pub uses: Vec<(usize, f64)>,
}

/// What a limit speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Accelerators.
    Stock,
    /// Currency per hour.
    Budget,
    /// Watts.
    Power,
    /// Replicas that must run in several pools together, negated.
    Floor,
    /// Replicas of one pool against those of another.
    Ratio,
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
    /// The pool that goes on with the request: `pool` computes the prompt, this one the answer. The rate of
    /// the first is then also bounded by its link.
    #[serde(default)]
    pub then: Option<Stage>,
}

/// The second pool of a request that is served in two steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub pool: usize,
    pub tier: usize,
    /// Requests per second of one replica, above 0.
    pub rate: f64,
}

/// What is best.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Load that is not served within its target, most important priority first; then cost. No amount of
    /// load of a lower priority outweighs any of a higher one.
    #[default]
    Strict,
    /// Cost plus a price for load that is not served: currency per hour of one request per second, by cell.
    Weighted(Vec<f64>),
}

/// Sets and data of one decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub cells: Vec<Cell>,
    pub pools: Vec<PoolOption>,
    pub limits: Vec<Limit>,
    pub serves: Vec<Serve>,
    #[serde(default)]
    pub objective: Objective,
}

/// Rate of one cell that is sent to one pool, requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub cell: usize,
    pub pool: usize,
    /// The pool that goes on with the request, where it is served in two steps.
    #[serde(default)]
    pub then: Option<usize>,
    pub rate: f64,
}

/// Replicas and flows. Pools and cells are those of the problem, by index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub replicas: Vec<u32>,
    /// Latency level at which each pool is operated; `None` for a pool that serves nothing.
    pub tiers: Vec<Option<usize>>,
    pub flows: Vec<Flow>,
    /// Rate of each cell that is not served within its target, requests per second; load that may wait is
    /// not counted.
    pub shortfall: Vec<f64>,
}

/// A plan and how it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solution {
    pub plan: Plan,
    /// `milp`, `decomposition`, `greedy` or `none` for an empty problem.
    pub solver: String,
    /// Units of work spent; see [`Effort`](super::Effort).
    pub work_units: u64,
    /// Cost per hour of the plan with starts, stops and, where it is weighted, the load that is not served.
    pub objective: f64,
    /// Proven: no plan with this plan's shortfall costs less.
    pub bound: f64,
    /// (objective - bound) / objective; 0 when proven optimal.
    pub gap: f64,
    /// Answers that the independent check refused and that were replaced.
    pub refused: u32,
    /// Whether the work ended before its end because the effort was spent or it was told to stop.
    #[serde(default)]
    pub stopped: bool,
    /// Units at which it was told to stop from outside; with this and the same effort it can be repeated.
    #[serde(default)]
    pub stopped_at: Option<u64>,
}

/// Limits that cannot be kept whatever is planned: the fewest replicas allowed already break them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{limit}: the least that `min` asks for is {least}, the most there is is {most}")]
pub struct Conflict {
    pub limit: String,
    pub least: f64,
    pub most: f64,
}

impl Limit {
    /// What the replicas use of it.
    pub fn used(&self, replicas: &[u32]) -> f64 {
        self.uses.iter().map(|&(pool, amount)| amount * f64::from(replicas[pool])).sum()
    }

    /// The least that any plan can use of it.
    fn least(&self, pools: &[PoolOption]) -> f64 {
        let least = |&(pool, amount): &(usize, f64)| {
            let replicas = if amount >= 0.0 { pools[pool].min } else { pools[pool].max };
            amount * f64::from(replicas)
        };
        self.uses.iter().map(least).sum()
    }
}

impl Serve {
    /// The pools a request passes: (pool, tier, rate of one replica).
    pub fn stages(&self) -> impl Iterator<Item = Stage> + Clone {
        std::iter::once(Stage { pool: self.pool, tier: self.tier, rate: self.rate }).chain(self.then)
    }
}

impl Problem {
    /// Cost of the replicas, currency per hour, without start and stop costs.
    pub fn cost_per_hour(&self, replicas: &[u32]) -> f64 {
        self.pools.iter().zip(replicas).map(|(p, &n)| p.price_per_hour * f64::from(n)).sum()
    }

    /// Cost of the replicas with their starts and stops, currency per hour.
    pub fn running_cost(&self, replicas: &[u32]) -> f64 {
        let switching: f64 = self
            .pools
            .iter()
            .zip(replicas)
            .map(|(p, &n)| {
                p.start_cost_per_hour * f64::from(n.saturating_sub(p.running))
                    + p.stop_cost_per_hour * f64::from(p.running.saturating_sub(n))
            })
            .sum();
        self.cost_per_hour(replicas) + switching
    }

    /// What the plan minimises as one number: [`running_cost`](Self::running_cost), a small price for pools that
    /// change their latency level, and the price of what is not served where it has one.
    pub fn objective(&self, plan: &Plan) -> f64 {
        let changes: f64 = self
            .pools
            .iter()
            .zip(&plan.tiers)
            .filter(|(p, tier)| p.tier.is_some() && tier.is_some() && p.tier != **tier)
            .map(|(p, _)| TIER_CHANGE * p.price_per_hour)
            .sum();
        let penalty: f64 = match &self.objective {
            Objective::Strict => 0.0,
            Objective::Weighted(penalties) => penalties.iter().zip(&plan.shortfall).map(|(p, s)| p * s).sum(),
        };
        self.running_cost(&plan.replicas) + changes + penalty
    }

    /// Limits that no plan can keep. They are widened to what is needed at least, so that they stop nobody.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.limits
            .iter()
            .filter_map(|limit| {
                let least = limit.least(&self.pools);
                (least > limit.most).then(|| Conflict { limit: limit.name.clone(), least, most: limit.most })
            })
            .collect()
    }

    /// The most of a limit that a plan may use: what it says, or what it must.
    pub fn most(&self, limit: &Limit) -> f64 {
        limit.most.max(limit.least(&self.pools))
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
        let mut sums = std::collections::BTreeMap::new();
        for (cell, s) in self.cells.iter().zip(shortfall) {
            *sums.entry(std::cmp::Reverse(cell.priority)).or_insert(0.0) += s;
        }
        sums.into_iter().map(|(priority, sum)| (priority.0, sum)).collect()
    }
}
