//! Many models under common limits: price the limits, solve every model on its own at these prices, choose
//! among the plans of each model.
//!
//! Only limits couple models. A column is one model's integer replicas with their exact cost; the master
//! chooses one column for each model (Dantzig and Wolfe, Decomposition principle for linear programs, 1960) and
//! prices the limits, the models answer with better columns. At most as many models as there are limits are
//! torn between columns, so the more models there are the closer the choice comes to the bound.

use std::collections::{BTreeSet, HashMap};

use super::block::{Block, Prices, Run};
use super::gub::Gub;
use super::parts::{Group, components, is_shareable, part_of, plan_of};
use super::{Flow, Objective, Plan, Problem};

/// One model's replicas, what they cost and what they use of every limit.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub runs: Vec<Run>,
    pub cost: f64,
    pub uses: Vec<f64>,
}

/// One block with its columns.
pub(super) struct Member {
    pub group: Group,
    pub part: Problem,
    pub block: Block,
    /// Amounts that one replica of each pool uses: (limit, amount).
    pub uses: Vec<Vec<(usize, f64)>>,
    /// Price of each whole cell that is not served.
    pub cell: Vec<f64>,
    /// The same where only the routing is left to find: one priority far above the next.
    routing: Vec<f64>,
    pub columns: Vec<Column>,
    known: HashMap<Vec<Run>, usize>,
    /// The column that is in the plan.
    pub chosen: usize,
}

/// What is minimised besides the replicas' cost: a price for each whole cell that is not served.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub cell: Vec<f64>,
}

/// Blocks under limits.
pub(super) struct Fleet {
    pub members: Vec<Member>,
    /// Most of each limit.
    pub most: Vec<f64>,
    /// Names of the limits.
    pub names: Vec<String>,
    /// Price of one more of each limit.
    pub prices: Vec<f64>,
    /// Proven lower bound on the goal.
    pub bound: f64,
    /// Units that exact answers for a model took on average, where there were some.
    pub exact_units: Option<u64>,
    /// Threads that price models at the same time.
    pub threads: usize,
}

/// The master's answer when models may be torn between their columns.
pub(super) struct Master {
    pub cost: f64,
    /// Price of one more of each limit.
    pub prices: Vec<f64>,
    /// Price of each model.
    pub set_prices: Vec<f64>,
    /// (model, column, share) above zero.
    pub values: Vec<(usize, usize, f64)>,
    pub work: u64,
}

impl Member {
    pub(super) fn prices(&self, limits: &[f64]) -> Prices {
        let replica = self.uses.iter().map(|uses| uses.iter().map(|&(l, amount)| limits[l] * amount).sum()).collect();
        Prices { replica, cell: self.cell.clone() }
    }

    fn use_of(&self, runs: &[Run], limits: usize) -> Vec<f64> {
        let mut used = vec![0.0; limits];
        for (uses, run) in self.uses.iter().zip(runs) {
            for &(limit, amount) in uses {
                used[limit] += amount * f64::from(run.replicas);
            }
        }
        used
    }

    /// The column that is best at these prices of the limits.
    pub(super) fn best_at(&self, limits: &[f64]) -> usize {
        let price = |c: usize| self.columns[c].priced(limits);
        let best = (0..self.columns.len()).min_by(|&a, &b| price(a).total_cmp(&price(b)).then(a.cmp(&b)));
        best.unwrap_or(self.chosen)
    }

    /// Add a column unless it is there; returns its place.
    pub(super) fn add(&mut self, runs: Vec<Run>, limits: usize, gub: &mut Gub) -> usize {
        let runs: Vec<Run> = runs.into_iter().map(|r| if r.replicas == 0 { Run::default() } else { r }).collect();
        if let Some(&known) = self.known.get(&runs) {
            return known;
        }
        let free = self.prices(&vec![0.0; limits]);
        let cost = self.block.price(&free, &runs) + self.block.short_price(&free, &runs, &[], gub);
        let uses = self.use_of(&runs, limits);
        self.known.insert(runs.clone(), self.columns.len());
        self.columns.push(Column { runs, cost, uses });
        self.columns.len() - 1
    }

    /// Replicas and latency levels of its pools as runs.
    pub(super) fn runs(&self, replicas: &[u32], tiers: &[Option<usize>]) -> Vec<Run> {
        let level = |pool: usize, tier: usize| self.block.levels[pool].iter().position(|l| l.tier == tier);
        let run = |(pool, (&replicas, tier)): (usize, (&u32, &Option<usize>))| Run {
            replicas,
            level: tier.and_then(|tier| level(pool, tier)).unwrap_or(0),
        };
        replicas.iter().zip(tiers).enumerate().map(run).collect()
    }

    /// Latency level of each pool.
    pub(super) fn tiers_of(&self, runs: &[Run]) -> Vec<Option<usize>> {
        let tier = |(pool, run): (usize, &Run)| self.block.levels[pool].get(run.level).map(|l| l.tier);
        runs.iter().enumerate().map(tier).collect()
    }

    /// Price of one request per second that is not served, of each cell.
    pub(super) fn penalties(&self) -> Vec<f64> {
        let rates = self.part.cells.iter().map(|c| c.rate);
        self.cell.iter().zip(rates).map(|(price, rate)| if rate > 0.0 { price / rate } else { 0.0 }).collect()
    }
}

impl Column {
    pub(super) fn priced(&self, limits: &[f64]) -> f64 {
        self.cost + self.uses.iter().zip(limits).map(|(u, p)| u * p).sum::<f64>()
    }
}

impl Fleet {
    /// The problem's parts under its limits, beginning at `start`, which must keep them.
    pub(super) fn new(problem: &Problem, goal: &Goal, start: &Plan) -> Self {
        let (shared, own): (Vec<_>, Vec<_>) = problem.limits.iter().partition(|l| is_shareable(l));
        let free = Problem { limits: own.into_iter().cloned().collect(), ..problem.clone() };
        let mut uses = vec![vec![]; problem.pools.len()];
        for (limit, row) in shared.iter().enumerate() {
            for &(pool, amount) in row.uses.iter().filter(|(_, amount)| *amount > 0.0) {
                uses[pool].push((limit, amount));
            }
        }
        let mut gub = Gub::default();
        let members = components(problem).into_iter().map(|group| {
            let part = part_of(&free, &group);
            let mut member = Member {
                block: Block::new(&part),
                part,
                uses: group.pools.iter().map(|&p| uses[p].clone()).collect(),
                cell: group.cells.iter().map(|&c| goal.cell[c]).collect(),
                routing: routing_prices(problem, &group, goal),
                columns: vec![],
                known: HashMap::new(),
                chosen: 0,
                group,
            };
            let own = plan_of(&member.group, start);
            let runs = member.runs(&own.replicas, &own.tiers);
            member.chosen = member.add(runs, shared.len(), &mut gub);
            member
        });
        Self {
            members: members.collect(),
            most: shared.iter().map(|l| problem.most(l)).collect(),
            names: shared.iter().map(|l| l.name.clone()).collect(),
            prices: vec![0.0; shared.len()],
            bound: f64::NEG_INFINITY,
            exact_units: None,
            threads: 1,
        }
    }

    /// What the chosen columns cost together.
    pub(super) fn cost(&self) -> f64 {
        self.members.iter().map(|m| m.columns[m.chosen].cost).sum()
    }

    /// What they use of every limit.
    pub(super) fn used(&self) -> Vec<f64> {
        let mut used = vec![0.0; self.most.len()];
        for member in &self.members {
            for (sum, amount) in used.iter_mut().zip(&member.columns[member.chosen].uses) {
                *sum += amount;
            }
        }
        used
    }

    /// The chosen columns as a plan of the whole problem.
    pub(super) fn plan(&self, problem: &Problem) -> Plan {
        let mut plan = problem.empty_plan();
        let mut gub = Gub::default();
        for member in &self.members {
            let runs = &member.columns[member.chosen].runs;
            let prices = Prices { cell: member.routing.clone(), ..member.prices(&vec![0.0; self.most.len()]) };
            let (flows, short) = member.block.flows(&prices, runs, &mut gub);
            for (&pool, run) in member.group.pools.iter().zip(runs) {
                plan.replicas[pool] = run.replicas;
            }
            for flow in flows {
                for pool in std::iter::once(flow.pool).chain(flow.then) {
                    let level = member.block.levels[pool].get(runs[pool].level);
                    plan.tiers[member.group.pools[pool]] = level.map(|l| l.tier);
                }
                plan.flows.push(Flow {
                    cell: member.group.cells[flow.cell],
                    pool: member.group.pools[flow.pool],
                    then: flow.then.map(|p| member.group.pools[p]),
                    rate: flow.rate,
                });
            }
            for (&cell, short) in member.group.cells.iter().zip(short) {
                plan.shortfall[cell] = short;
            }
        }
        plan.flows.sort_by_key(|f| (f.cell, f.pool, f.then));
        plan
    }

    /// Solve the master.
    pub(super) fn master(&self) -> Master {
        let gub = &mut Gub::default();
        gub.begin(&self.most, self.members.len());
        let mut names = vec![];
        let mut push = |gub: &mut Gub, m: usize, c: usize| {
            let column = &self.members[m].columns[c];
            let uses = column.uses.iter().enumerate().filter(|(_, u)| **u != 0.0).map(|(l, u)| (l, *u));
            gub.push(m, column.cost, uses);
            names.push((m, c));
        };
        for (m, member) in self.members.iter().enumerate() {
            push(gub, m, member.chosen);
        }
        for (m, member) in self.members.iter().enumerate() {
            for c in (0..member.columns.len()).filter(|c| *c != member.chosen) {
                push(gub, m, c);
            }
        }
        let cost = gub.solve();
        let values = gub.values().into_iter().map(|(column, v)| (names[column].0, names[column].1, v)).collect();
        let work = gub.pivots * gub.columns() as u64 / 200;
        Master { cost, prices: gub.prices().collect(), set_prices: gub.set_prices().to_vec(), values, work }
    }
}

/// Whole factor between the most and the least important priority of a model, as far as sums can tell them apart.
const ALL_RANKS: f64 = 1e12;
/// Factor between two priorities.
const RANK: f64 = 1e4;

/// Prices for the last routing: with the strict objective all load of one priority is worth the same, and more
/// than all of the next.
fn routing_prices(problem: &Problem, group: &Group, goal: &Goal) -> Vec<f64> {
    if problem.objective != Objective::Strict {
        return group.cells.iter().map(|&c| goal.cell[c]).collect();
    }
    let priorities: BTreeSet<i32> = group.cells.iter().map(|&c| problem.cells[c].priority).collect();
    let steps = priorities.len().saturating_sub(1).max(1);
    let factor = RANK.min(ALL_RANKS.powf(1.0 / steps as f64));
    let price = |&c: &usize| {
        let rank = priorities.range(..problem.cells[c].priority).count();
        problem.cells[c].rate * factor.powi(rank as i32)
    };
    group.cells.iter().map(price).collect()
}
