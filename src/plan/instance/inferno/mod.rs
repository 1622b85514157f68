//! Instances of inferno's optimiser: servers (a model in a service class) that want replicas on accelerators.
//!
//! Files and meaning: `llm-inferno/sample-data` and `llm-inferno/optimizer-light` (both Apache-2.0). The rate that one
//! replica carries comes from the first generation of their queueing model; the goal is cost alone. Once the candidates
//! are known this is a planning problem like any other: a cell for each server, a pool for each candidate.

mod candidates;
mod read;

use super::Instance;
use crate::plan::{Cell, Limit, LimitKind, PoolOption, Problem, Serve};

pub(super) use read::Target;

/// All files of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Servers {
    pub accelerators: Vec<Accelerator>,
    /// Accelerator types and how many units there are of each; a type that is not named has none.
    pub stock: Vec<(String, u32)>,
    pub servers: Vec<Server>,
}

/// A named accelerator: one or several units of a type.
#[derive(Clone, Debug, PartialEq)]
pub struct Accelerator {
    pub name: String,
    /// Place of its type in the stock.
    pub kind: usize,
    /// Units of the type in one of these.
    pub multiplicity: u32,
    /// Per hour.
    pub cost: f64,
}

/// A model in a service class.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub name: String,
    /// 1 is the most important.
    pub priority: u32,
    /// Requests per second.
    pub rate: f64,
    pub min_replicas: u32,
    pub current: Option<Current>,
    /// Accelerators that meet its targets.
    pub candidates: Vec<Candidate>,
}

/// What a server runs on now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Current {
    pub accelerator: usize,
    pub replicas: u32,
    /// Per hour.
    pub cost: f64,
}

/// One accelerator for one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub accelerator: usize,
    /// Accelerators of one replica.
    pub count: u32,
    /// Requests in execution at once.
    pub batch: u32,
    /// Requests per second of one replica within the targets.
    pub rate: f64,
    /// Replicas for the whole load on this accelerator alone.
    pub replicas: u32,
    /// Means at those replicas; `None` without load.
    pub itl_seconds: Option<f64>,
    pub ttft_seconds: Option<f64>,
}

impl Servers {
    /// Price of one replica per hour.
    pub fn price(&self, candidate: &Candidate) -> f64 {
        self.accelerators[candidate.accelerator].cost * f64::from(candidate.count)
    }

    /// Type of accelerator and units of it in one replica.
    pub fn units(&self, candidate: &Candidate) -> (usize, u32) {
        let accelerator = &self.accelerators[candidate.accelerator];
        (accelerator.kind, accelerator.multiplicity * candidate.count)
    }

    /// Replicas mixed as one likes: cost alone, load that finds no place counts by priority.
    pub(super) fn problem(&self) -> Problem {
        self.build(|_, candidate| (1, candidate.rate))
    }

    /// Each server on exactly one accelerator. A pool is then a whole allocation, there once or not at all: it carries
    /// the whole load of its server, so that a second one beside it would only cost.
    pub(super) fn single(&self, name: &str) -> Instance {
        let problem = self.build(|server, candidate| (candidate.replicas.max(1), server.rate));
        let bundle = self.pools().map(|(_, candidate)| candidate.replicas.max(1)).collect();
        Instance { name: name.into(), problem, bundle, servers: Some(self.clone()) }
    }

    /// (server, candidate) of each pool of the problem, in order.
    pub fn pools(&self) -> impl Iterator<Item = (usize, &Candidate)> {
        self.servers.iter().enumerate().flat_map(|(s, server)| server.candidates.iter().map(move |c| (s, c)))
    }

    /// `pool` tells how many replicas one step of the pool is, and the rate it carries.
    fn build(&self, pool: impl Fn(&Server, &Candidate) -> (u32, f64)) -> Problem {
        let mut problem = Problem::default();
        for (kind, (name, most)) in self.stock.iter().enumerate() {
            let of_kind = |(i, c): (usize, &Candidate)| {
                let (of, units) = self.units(c);
                (of == kind).then_some((i, units))
            };
            let bundle: Vec<u32> = self.pools().map(|(s, c)| pool(&self.servers[s], c).0).collect();
            let pools = self.pools().map(|(_, c)| c).enumerate();
            let uses = pools.filter_map(of_kind).map(|(i, units)| (i, f64::from(units) * f64::from(bundle[i])));
            problem.limits.push(Limit {
                name: name.clone(),
                kind: LimitKind::Stock,
                most: f64::from(*most),
                uses: uses.collect(),
            });
        }
        for (s, server) in self.servers.iter().enumerate() {
            problem.cells.push(Cell {
                name: server.name.clone(),
                model: s,
                class: s,
                priority: -i32::try_from(server.priority).unwrap_or(i32::MAX),
                rate: server.rate,
                may_wait: 0.0,
            });
            let first = problem.pools.len();
            for candidate in &server.candidates {
                let (bundle, rate) = pool(server, candidate);
                let (kind, units) = self.units(candidate);
                let step = (units * bundle).max(1);
                if server.rate > 0.0 {
                    problem.serves.push(Serve { cell: s, pool: problem.pools.len(), tier: 0, rate, then: None });
                }
                problem.pools.push(PoolOption {
                    name: format!("{} on {}", server.name, self.accelerators[candidate.accelerator].name),
                    price_per_hour: self.price(candidate) * f64::from(bundle),
                    start_cost_per_hour: 0.0,
                    stop_cost_per_hour: 0.0,
                    min: 0,
                    max: self.stock[kind].1 / step,
                    running: 0,
                    tier: None,
                });
            }
            // A floor under one step of each pool: whole allocations have theirs in them.
            if server.min_replicas > 0 {
                let steps = |c: &Candidate| -f64::from(pool(server, c).0);
                problem.limits.push(Limit {
                    name: format!("minNumReplicas of {}", server.name),
                    kind: LimitKind::Floor,
                    most: -f64::from(server.min_replicas),
                    uses: server.candidates.iter().enumerate().map(|(i, c)| (first + i, steps(c))).collect(),
                });
            }
        }
        problem
    }
}
