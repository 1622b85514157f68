//! A part of a problem whose surroundings stay as a plan has them.

use std::collections::BTreeMap;

use crate::plan::{Flow, Limit, Objective, Plan, Problem, Serve, Stage};

/// Pools and cells that are planned anew, in order, and the problem they make.
pub(super) struct Part {
    pools: Vec<usize>,
    cells: Vec<usize>,
    pub problem: Problem,
}

impl Part {
    /// All pools and cells of the given groups; what the others use of each limit in `plan` is taken off.
    pub fn new(problem: &Problem, plan: &Plan, groups: &Groups, chosen: &[usize]) -> Self {
        let of = |nodes: &[usize]| (0..nodes.len()).filter(|&i| chosen.contains(&nodes[i])).collect::<Vec<_>>();
        let (pools, cells) = (of(&groups.pools), of(&groups.cells));
        let place = |list: &[usize], item: usize| list.binary_search(&item).ok();
        let serves = problem.serves.iter().filter_map(|s| {
            let then = match s.then {
                None => None,
                Some(stage) => Some(Stage { pool: place(&pools, stage.pool)?, ..stage }),
            };
            Some(Serve { cell: place(&cells, s.cell)?, pool: place(&pools, s.pool)?, then, ..*s })
        });
        let limits = problem.limits.iter().filter_map(|limit| {
            let (mut uses, mut others) = (vec![], 0.0);
            for &(pool, amount) in &limit.uses {
                match place(&pools, pool) {
                    Some(own) => uses.push((own, amount)),
                    None => others += amount * f64::from(plan.replicas[pool]),
                }
            }
            (!uses.is_empty()).then(|| Limit { most: problem.most(limit) - others, uses, ..limit.clone() })
        });
        let part = Problem {
            cells: cells.iter().map(|&c| problem.cells[c].clone()).collect(),
            pools: pools.iter().map(|&p| problem.pools[p].clone()).collect(),
            limits: limits.collect(),
            serves: serves.collect(),
            objective: match &problem.objective {
                Objective::Strict => Objective::Strict,
                Objective::Weighted(prices) => Objective::Weighted(cells.iter().map(|&c| prices[c]).collect()),
            },
        };
        Self { pools, cells, problem: part }
    }

    /// Where a pool of the whole stands here.
    pub fn place_of(&self, pool: usize) -> Option<usize> {
        self.pools.binary_search(&pool).ok()
    }

    /// The plan of the whole in which this part is done as in `own`.
    pub fn in_whole(&self, whole: &Plan, own: &Plan) -> Plan {
        let mut plan = whole.clone();
        plan.flows.retain(|f| self.cells.binary_search(&f.cell).is_err());
        for (i, &pool) in self.pools.iter().enumerate() {
            (plan.replicas[pool], plan.tiers[pool]) = (own.replicas[i], own.tiers[i]);
        }
        for (i, &cell) in self.cells.iter().enumerate() {
            plan.shortfall[cell] = own.shortfall[i];
        }
        plan.flows.extend(own.flows.iter().map(|f| Flow {
            cell: self.cells[f.cell],
            pool: self.pools[f.pool],
            then: f.then.map(|p| self.pools[p]),
            rate: f.rate,
        }));
        plan.flows.sort_by_key(|f| (f.cell, f.pool, f.then));
        plan
    }
}

/// Which pools and cells depend on each other: the group of each, by number.
pub(super) struct Groups {
    pub pools: Vec<usize>,
    pub cells: Vec<usize>,
    /// Pools in each group.
    sizes: BTreeMap<usize, usize>,
}

impl Groups {
    /// Those joined by "can serve", and by the limits for which `joins` says so.
    pub fn new(problem: &Problem, joins: impl Fn(usize) -> bool) -> Self {
        let count = problem.pools.len();
        let mut parent: Vec<usize> = (0..count + problem.cells.len()).collect();
        let mut join = |a: usize, b: usize| {
            let (a, b) = (root(&mut parent, a), root(&mut parent, b));
            parent[a.max(b)] = a.min(b);
        };
        for serve in &problem.serves {
            for stage in serve.stages() {
                join(stage.pool, count + serve.cell);
            }
        }
        for (_, limit) in problem.limits.iter().enumerate().filter(|(l, _)| joins(*l)) {
            for pair in limit.uses.windows(2) {
                join(pair[0].0, pair[1].0);
            }
        }
        let pools: Vec<usize> = (0..count).map(|p| root(&mut parent, p)).collect();
        let cells = (0..problem.cells.len()).map(|c| root(&mut parent, count + c)).collect();
        let mut sizes = BTreeMap::new();
        for group in &pools {
            *sizes.entry(*group).or_insert(0) += 1;
        }
        Self { pools, cells, sizes }
    }

    /// Everything is one group.
    pub fn whole(problem: &Problem) -> Self {
        let sizes = BTreeMap::from([(0, problem.pools.len())]);
        Self { pools: vec![0; problem.pools.len()], cells: vec![0; problem.cells.len()], sizes }
    }

    /// Pools in the group of a pool.
    pub fn size(&self, pool: usize) -> usize {
        self.sizes.get(&self.pools[pool]).copied().unwrap_or(0)
    }
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}
