//! The limits of the fleet in the problem: which row stands for what, what is left of them, what they are called.
//!
//! Rows of `Problem::limits`: the stock of every accelerator type in order, then the other limits of the policy in
//! order, then the floors of models.

use super::floors::{Floor, during};
use super::learn::Known;
use crate::control::State;
use crate::control::decision::{Binding, LimitUse};
use crate::observe::{Finding, FindingKind};
use crate::plan::{Limit, LimitKind, Problem};
use crate::policy::{FleetLimit, LimitScope, Policy, Pool};
use crate::safety::{Knowledge, Rule, Verdict};

/// What sums of prices and watts may be off by, relative.
const ROUNDING: f64 = 1e-9;

/// What a row stands for.
pub(super) enum Row<'p> {
    /// The stock of the accelerator type with this index.
    Stock(usize),
    Fleet(&'p FleetLimit),
    /// Replicas that a model keeps.
    Floor,
}

pub(super) fn row(policy: &Policy, index: usize) -> Row<'_> {
    match index.checked_sub(policy.accelerators.len()) {
        None => Row::Stock(index),
        Some(other) => policy.limits.get(other).map_or(Row::Floor, Row::Fleet),
    }
}

pub(super) fn rows(policy: &Policy, known: &Known) -> Vec<Limit> {
    let stocks = (0..policy.accelerators.len()).map(|a| {
        let amount = |pool: &Pool| if pool.accelerator == a { 1.0 } else { 0.0 };
        let most = f64::from(policy.accelerators[a].stock);
        consumed(policy, &policy.accelerators[a].name, LimitKind::Stock, most, amount)
    });
    let others = policy.limits.iter().map(|limit| {
        let kind = match limit.scope {
            LimitScope::Budget => LimitKind::Budget,
            LimitScope::Power => LimitKind::Power,
            LimitScope::Stock | LimitScope::Quota | LimitScope::Reservation => LimitKind::Stock,
        };
        consumed(policy, &limit.name, kind, limit.most, |pool| limit.amount(pool.accelerator))
    });
    let floors = policy.models.iter().zip(&known.models).filter_map(|(model, known_model)| {
        let alone: u32 = model.pools.iter().map(|&p| known.pools[p].floor.replicas).sum();
        let floor = known_model.floor.replicas;
        (floor > alone).then(|| Limit {
            name: format!("{} floor", model.id()),
            kind: LimitKind::Floor,
            most: -f64::from(floor),
            uses: model.pools.iter().map(|&p| (p, -1.0)).collect(),
        })
    });
    stocks.chain(others).chain(floors).collect()
}

/// A limit on what is used up: `amount` of it by each accelerator of a pool.
fn consumed(policy: &Policy, name: &str, kind: LimitKind, most: f64, amount: impl Fn(&Pool) -> f64) -> Limit {
    let uses = policy.pools.iter().enumerate().map(|(p, pool)| {
        let each = amount(pool) * f64::from(pool.accelerators_per_replica);
        (p, each)
    });
    Limit { name: name.to_owned(), kind, most, uses: uses.filter(|(_, each)| *each > 0.0).collect() }
}

/// (limit, what one replica uses of it) by pool; floors are left out.
pub(super) fn uses_by_pool(policy: &Policy, problem: &Problem) -> Vec<Vec<(usize, f64)>> {
    let mut by_pool = vec![vec![]; policy.pools.len()];
    for (index, limit) in problem.limits.iter().enumerate().filter(|(_, l)| l.kind != LimitKind::Floor) {
        limit.uses.iter().for_each(|&(p, each)| by_pool[p].push((index, each)));
    }
    by_pool
}

/// Numbers that are kept for safety and numbers that grow may together ask for more than there is of something:
/// growth is cut then, the least important model's pools first, the last of them first. Returns what is left of each
/// limit, and the limit that cut each pool.
pub(super) fn fit(
    policy: &Policy,
    problem: &Problem,
    known: &Known,
    state: &State,
    verdicts: &mut [Verdict],
) -> (Vec<f64>, Vec<Option<usize>>) {
    let said: Vec<u32> =
        (0..policy.pools.len()).map(|p| verdicts[p].replicas.or(known.pools[p].current).unwrap_or(0)).collect();
    let mut free: Vec<f64> = problem.limits.iter().map(|l| l.most - l.used(&said)).collect();
    let uses = uses_by_pool(policy, problem);
    let mut cut = vec![None; policy.pools.len()];
    let mut order: Vec<usize> = (0..policy.pools.len()).rev().collect();
    order.sort_by_key(|&p| importance(policy, p));
    for p in order {
        let pool = &policy.pools[p];
        let before = state.pools.get(&pool.id()).and_then(|m| m.published).or(known.pools[p].current);
        let least = before.unwrap_or(0).max(known.pools[p].floor.replicas);
        let over = |free: &[f64]| {
            uses[p].iter().map(|(l, _)| *l).find(|&l| free[l] < -ROUNDING * problem.limits[l].most.max(1.0))
        };
        while let (Some(limit), Some(n)) = (over(&free), verdicts[p].replicas.filter(|n| *n > least)) {
            verdicts[p] = Verdict { replicas: Some(n - 1), rule: Rule::Max };
            cut[p] = Some(limit);
            uses[p].iter().for_each(|&(l, each)| free[l] += each);
        }
    }
    (free, cut)
}

/// Priority of the most important class that a pool may serve.
fn importance(policy: &Policy, pool: usize) -> i32 {
    let classes = policy.models[policy.pools[pool].model].classes.iter().filter(|(_, share)| *share > 0.0);
    classes.map(|(class, _)| policy.classes[*class].priority).max().unwrap_or(i32::MIN)
}

/// The first limit that has no room for one more replica of the pool.
pub(super) fn full(problem: &Problem, pool: usize, replicas: &[u32]) -> Option<usize> {
    problem.limits.iter().position(|limit| {
        let most = problem.most(limit);
        let each = limit.uses.iter().find(|(p, each)| *p == pool && *each > 0.0);
        each.is_some_and(|(_, each)| limit.used(replicas) + each > most + ROUNDING * most.abs().max(1.0))
    })
}

/// The binding name of a limit, and what it says about one more replica of the pool.
pub(super) fn words(policy: &Policy, limit: usize, pool: &Pool, is_used: bool) -> (Binding, String) {
    match row(policy, limit) {
        Row::Stock(a) => {
            let accelerator = &policy.accelerators[a];
            let text = match is_used {
                true => format!("all {} {} are taken", accelerator.stock, accelerator.name),
                false => format!("no {} is left", accelerator.name),
            };
            (Binding::Stock, text)
        }
        Row::Fleet(limit) => {
            let each = limit.amount(pool.accelerator) * f64::from(pool.accelerators_per_replica);
            let (each, most) = (limit.words(each, policy), limit.words(limit.most, policy));
            let text = format!("limit {} of {most} has no room for a replica, which needs {each}", limit.name);
            (binding(limit.scope), text)
        }
        Row::Floor => (Binding::Min, "the model keeps replicas".to_owned()),
    }
}

fn binding(scope: LimitScope) -> Binding {
    match scope {
        LimitScope::Stock => Binding::Stock,
        LimitScope::Quota => Binding::Quota,
        LimitScope::Reservation => Binding::Reservation,
        LimitScope::Budget => Binding::Budget,
        LimitScope::Power => Binding::Power,
    }
}

/// A floor in words: `lower limit of 4 in the policy`, `floor of 4 during office-hours`.
pub(super) fn floor_words(policy: &Policy, floor: Floor) -> String {
    match floor.schedule {
        None => format!("lower limit of {} in the policy", floor.replicas),
        Some(_) => format!("floor of {}{}", floor.replicas, during(policy, floor.schedule)),
    }
}

/// What of the limits besides stock is in use and planned. `planned`: replicas by pool.
pub(super) fn limit_uses(policy: &Policy, known: &Known, problem: &Problem, planned: &[u32]) -> Vec<LimitUse> {
    let current: Vec<u32> = known.pools.iter().map(|p| p.current.unwrap_or(0)).collect();
    let rows = problem.limits.iter().skip(policy.accelerators.len());
    let uses = policy.limits.iter().zip(rows).map(|(limit, row)| LimitUse {
        limit: limit.name.clone(),
        scope: limit.scope,
        most: limit.most,
        // An empty sum of floats is -0.
        in_use: row.used(&current) + 0.0,
        planned: row.used(planned) + 0.0,
    });
    uses.collect()
}

/// Limits and floors that no plan can keep now, by name.
pub(super) fn conflicts(policy: &Policy, known: &Known, problem: &Problem) -> Vec<Finding> {
    let mut findings = vec![];
    for (index, limit) in problem.limits.iter().enumerate() {
        let (least, most) = (problem.most(limit), limit.most);
        if least <= most + ROUNDING * most.abs().max(1.0) {
            continue;
        }
        let message = match row(policy, index) {
            Row::Stock(a) => over(&format!("{least} {}", policy.accelerators[a].name), &most.to_string()),
            Row::Fleet(limit) => over(&limit.words(least, policy), &limit.words(most, policy)),
            // A pool that is held because nothing is known of it cannot grow to reach a floor.
            Row::Floor if limit.uses.iter().any(|(p, _)| known.pools[*p].knowledge == Knowledge::None) => continue,
            Row::Floor => {
                let model = limit.uses.first().map(|(p, _)| policy.pools[*p].model);
                let floor = model.map_or(Floor::default(), |m| known.models[m].floor);
                format!(
                    "the model keeps {} replicas{}, its pools may have {} together now; raise their `max` or lower it",
                    floor.replicas,
                    during(policy, floor.schedule),
                    -least
                )
            }
        };
        findings.push(Finding { kind: FindingKind::LimitConflict, subject: limit.name.clone(), message });
    }
    findings
}

fn over(least: &str, most: &str) -> String {
    format!(
        "what has to run (`min`, floors, pools that are held) needs {least}, there are {most}; nothing is added, raise \
         the limit or lower the floors"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::learn::PoolKnown;
    use super::*;
    use crate::policy::from_text;

    const POLICY: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  accelerators:
    - {name: h100, type: H100, pricePerHour: 3, stock: 16}
    - {name: spot, type: H100, pricePerHour: 1, stock: 16}
  limits: [{name: account, accelerators: [h100, spot], most: 14}]
  budgetPerHour: 30
  classes:
    - {name: chat, priority: 9, percentile: 99, ttft: 2s, itl: 80ms}
    - {name: batch, deadline: 1h}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: a, namespace: n}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: batch}]
  pools: [{name: a-h100, accelerator: h100}, {name: a-spot, accelerator: spot, acceleratorsPerReplica: 2}]
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: z, namespace: n}
spec:
  model: Qwen/Qwen2.5-7B-Instruct
  classes: [{name: chat}]
  pools: [{name: z-h100, accelerator: h100}, {name: z-spot, accelerator: spot}]
";

    /// What is said of the pools when `current` replicas run, and the limit that cut each.
    fn fitted(current: [u32; 4], wanted: [u32; 4]) -> (Vec<u32>, Vec<f64>, Vec<Option<usize>>) {
        let policy = from_text("p.yaml", POLICY).unwrap();
        let pools = current.map(|n| PoolKnown { current: Some(n), ..PoolKnown::empty() }).into();
        let known = Known { pools, models: vec![], findings: vec![], now_seconds: 0.0 };
        let problem = Problem { limits: rows(&policy, &known), ..Problem::default() };
        let mut verdicts = wanted.map(|n| Verdict { replicas: Some(n), rule: Rule::Plan });
        let (free, cut) = fit(&policy, &problem, &known, &State::default(), &mut verdicts);
        (verdicts.iter().filter_map(|v| v.replicas).collect(), free, cut)
    }

    #[test]
    fn the_least_important_growth_is_cut_first_and_by_name() {
        let (said, free, cut) = fitted([2, 0, 2, 0], [6, 0, 6, 0]);
        assert_eq!((said, cut), (vec![4, 0, 6, 0], vec![Some(3), None, None, None]), "the budget is row 3");
        assert_eq!(free, [6.0, 16.0, 4.0, 0.0]);
        let (said, _, cut) = fitted([0, 0, 0, 0], [0, 5, 0, 8]);
        assert_eq!((said, cut), (vec![0, 3, 0, 8], vec![None, Some(2), None, None]), "the account is row 2");
    }

    proptest! {
        /// Nothing that runs is stopped, and whatever still grows fits every limit.
        #[test]
        fn growth_fits_every_limit(current in prop::array::uniform4(0u32..9), more in prop::array::uniform4(0u32..12)) {
            let wanted: [u32; 4] = std::array::from_fn(|p| current[p] + more[p]);
            let (said, free, cut) = fitted(current, wanted);
            let uses = [vec![0, 2, 3], vec![1, 2, 3], vec![0, 2, 3], vec![1, 2, 3]];
            for p in 0..4 {
                prop_assert!(said[p] >= current[p] && said[p] <= wanted[p]);
                prop_assert_eq!(said[p] < wanted[p], cut[p].is_some());
                let fits = uses[p].iter().all(|&l: &usize| free[l] >= 0.0);
                prop_assert!(said[p] == current[p] || fits, "{:?} of {:?}: {:?}", said, wanted, free);
            }
        }
    }
}
