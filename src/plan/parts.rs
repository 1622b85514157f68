//! Parts of a problem that can be solved apart: models are independent until they compete under a limit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Flow, Limit, Objective, Plan, Problem, Serve, Stage};

/// Pools and cells that are solved together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub pools: Vec<usize>,
    pub cells: Vec<usize>,
}

/// Pools and cells connected by "can serve", or by a limit with negative amounts: such a limit asks for
/// replicas, and cannot be shared out.
pub(super) fn components(problem: &Problem) -> Vec<Group> {
    let pools = problem.pools.len();
    let mut parent: Vec<usize> = (0..pools + problem.cells.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut join = |a: usize, b: usize| {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        parent[a.max(b)] = a.min(b);
    };
    for serve in &problem.serves {
        for stage in serve.stages() {
            join(stage.pool, pools + serve.cell);
        }
    }
    for limit in problem.limits.iter().filter(|l| !is_shareable(l)) {
        for &(pool, _) in &limit.uses {
            join(limit.uses[0].0, pool);
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for node in 0..parent.len() {
        let r = root(&mut parent, node);
        let group = groups.entry(r).or_default();
        if node < pools { group.pools.push(node) } else { group.cells.push(node - pools) }
    }
    groups.into_values().collect()
}

/// Whether a limit is something that is used up, so that parts can be checked against it together.
pub(super) fn is_shareable(limit: &Limit) -> bool {
    limit.uses.iter().all(|(_, amount)| *amount >= 0.0)
}

/// Join the groups that use a limit of which too much was asked for.
pub(super) fn merge(problem: &Problem, groups: Vec<Group>, over: &BTreeSet<usize>) -> Vec<Group> {
    let used: BTreeSet<usize> =
        over.iter().flat_map(|&l| problem.limits[l].uses.iter().map(|(pool, _)| *pool)).collect();
    let (competing, mut apart): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(|g| g.pools.iter().any(|p| used.contains(p)));
    let mut joined = Group::default();
    for group in competing {
        joined.pools.extend(group.pools);
        joined.cells.extend(group.cells);
    }
    joined.pools.sort_unstable();
    joined.cells.sort_unstable();
    apart.push(joined);
    apart.sort_by(|a, b| a.pools.cmp(&b.pools).then(a.cells.cmp(&b.cells)));
    apart
}

/// What a plan says of the group, with the group's numbers.
pub(super) fn plan_of(group: &Group, plan: &Plan) -> Plan {
    let place = |list: &[usize], item: usize| list.binary_search(&item).ok();
    let flow = |f: &Flow| {
        let then = match f.then {
            None => None,
            Some(pool) => Some(place(&group.pools, pool)?),
        };
        Some(Flow { cell: place(&group.cells, f.cell)?, pool: place(&group.pools, f.pool)?, then, rate: f.rate })
    };
    Plan {
        replicas: group.pools.iter().map(|&p| plan.replicas[p]).collect(),
        tiers: group.pools.iter().map(|&p| plan.tiers[p]).collect(),
        flows: plan.flows.iter().filter_map(flow).collect(),
        shortfall: group.cells.iter().map(|&c| plan.shortfall[c]).collect(),
    }
}

/// The group as a problem of its own; the least that all others use of each limit is taken off first.
pub(super) fn part_of(problem: &Problem, group: &Group) -> Problem {
    let place = |list: &[usize], item: usize| list.binary_search(&item).ok();
    let serves = problem.serves.iter().filter_map(|s| {
        let then = match s.then {
            None => None,
            Some(stage) => Some(Stage { pool: place(&group.pools, stage.pool)?, ..stage }),
        };
        Some(Serve { cell: place(&group.cells, s.cell)?, pool: place(&group.pools, s.pool)?, then, ..*s })
    });
    let limits = problem.limits.iter().filter_map(|limit| {
        let (mut uses, mut others) = (vec![], 0.0);
        for &(pool, amount) in &limit.uses {
            match place(&group.pools, pool) {
                Some(own) => uses.push((own, amount)),
                None => others += amount * f64::from(problem.pools[pool].min),
            }
        }
        (!uses.is_empty()).then(|| Limit { most: problem.most(limit) - others, uses, ..limit.clone() })
    });
    Problem {
        cells: group.cells.iter().map(|&c| problem.cells[c].clone()).collect(),
        pools: group.pools.iter().map(|&p| problem.pools[p].clone()).collect(),
        limits: limits.collect(),
        serves: serves.collect(),
        objective: match &problem.objective {
            Objective::Strict => Objective::Strict,
            Objective::Weighted(penalties) => Objective::Weighted(group.cells.iter().map(|&c| penalties[c]).collect()),
        },
    }
}
