//! What a solve leaves to the next: prices of the limits and plans of the models. By name, so that an edited
//! policy finds what still fits.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Problem;
use super::block::Run;
use super::effort::Meter;
use super::fleet::{Fleet, Member};
use super::gub::Gub;

/// Plans kept of each model.
const PLANS: usize = 8;

/// Memory of the planner. Never needed for an answer; with it the next one is found sooner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Price of one more of each limit, by its name.
    prices: BTreeMap<String, f64>,
    /// Plans of each model, by the name of its first pool: pools in use with replicas and latency level.
    plans: BTreeMap<String, Vec<Vec<Use>>>,
    /// Units that exact answers for a model took on average.
    #[serde(default)]
    exact_units: u64,
}

/// Replicas of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Use {
    pool: String,
    replicas: u32,
    tier: usize,
}

impl Memory {
    /// Give the fleet the columns and prices that are known of it; whether there were prices.
    pub(super) fn recall(&self, fleet: &mut Fleet, meter: &mut Meter<'_>) -> bool {
        let limits = fleet.most.len();
        let mut gub = Gub::default();
        for member in &mut fleet.members {
            let Some(plans) = member.block.pools.first().and_then(|p| self.plans.get(&p.name)) else { continue };
            for plan in plans {
                let runs = runs_of(member, plan);
                if member.block.allows(&runs) {
                    member.add(runs, limits, &mut gub);
                    meter.spend(1 + gub.pivots / 4);
                }
            }
        }
        let known: Option<Vec<f64>> = fleet.names.iter().map(|name| self.prices.get(name).copied()).collect();
        match known {
            Some(prices) if !self.prices.is_empty() || limits == 0 && !self.plans.is_empty() => {
                fleet.prices = prices;
                true
            }
            _ => false,
        }
    }

    /// Whether exact answers for all models fit into so many units, as far as is known.
    pub(super) fn can_certify(&self, fleet: &Fleet, units: u64) -> bool {
        self.exact_units.saturating_mul(fleet.members.len() as u64) <= units
    }

    /// Drop what the problem no longer has.
    pub(super) fn forget(&mut self, problem: &Problem) {
        self.prices.retain(|name, _| problem.limits.iter().any(|l| l.name == *name));
        let pools: BTreeSet<&str> = problem.pools.iter().map(|p| p.name.as_str()).collect();
        self.plans.retain(|first, _| pools.contains(first.as_str()));
    }

    /// Remember the fleet's prices and the best columns of each model.
    pub(super) fn keep(&mut self, fleet: &Fleet) {
        self.prices.extend(fleet.names.iter().cloned().zip(fleet.prices.iter().copied()));
        self.exact_units = fleet.exact_units.unwrap_or(self.exact_units);
        for member in fleet.members.iter().filter(|m| !m.block.pools.is_empty()) {
            let price = |c: usize| member.columns[c].priced(&fleet.prices);
            let mut order: Vec<usize> = (0..member.columns.len()).collect();
            order.sort_by(|&a, &b| {
                (b == member.chosen).cmp(&(a == member.chosen)).then(price(a).total_cmp(&price(b))).then(a.cmp(&b))
            });
            order.truncate(PLANS);
            let plans = order.into_iter().map(|c| uses_of(member, &member.columns[c].runs)).collect();
            self.plans.insert(member.block.pools[0].name.clone(), plans);
        }
    }
}

fn runs_of(member: &Member, plan: &[Use]) -> Vec<Run> {
    let run = |(pool, option): (usize, &super::PoolOption)| {
        let known = plan.iter().find(|u| u.pool == option.name);
        let level = |tier: usize| member.block.levels[pool].iter().position(|l| l.tier == tier).unwrap_or(0);
        known.map_or(Run { replicas: option.min, level: 0 }, |u| Run {
            replicas: u.replicas.clamp(option.min, option.max),
            level: level(u.tier),
        })
    };
    member.block.pools.iter().enumerate().map(run).collect()
}

fn uses_of(member: &Member, runs: &[Run]) -> Vec<Use> {
    let of = |(pool, run): (usize, &Run)| Use {
        pool: member.block.pools[pool].name.clone(),
        replicas: run.replicas,
        tier: member.block.levels[pool].get(run.level).map_or(0, |l| l.tier),
    };
    runs.iter().enumerate().filter(|(_, r)| r.replicas > 0).map(of).collect()
}
