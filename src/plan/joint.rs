//! A few models solved together by the exact solver, in what all others leave of the limits.
//!
//! Exchanging columns moves models that have the right column already; a program over two to eight of them finds the
//! columns that only make sense together, as when one gives up an accelerator that the other can use better.

use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::effort::Meter;
use super::fleet::Fleet;
use super::gub::Gub;
use super::milp::{self, Depth};
use super::{Flow, Limit, LimitKind, Objective, Plan, PoolOption, Problem, Serve, Stage};

/// Pools that are free together, at most: at first, more after each sweep without gain, and in the end.
const FEW_POOLS: usize = 30;
const MORE_POOLS: usize = 10;
const MOST_POOLS: usize = 60;
/// Models that are solved together, at most.
const MODELS: usize = 8;
/// Groups that are solved in one sweep, at most.
const GROUPS: usize = 10;
/// Columns of a model, those that fit the prices best, whose pools are worth a thought.
const COLUMNS: usize = 12;
/// How far one of these programs is searched.
const DEPTH: Depth = Depth { gap: 2e-4, slices: 2 };
/// Gain that counts, relative.
const LEAST_GAIN: f64 = 1e-9;

impl Fleet {
    /// Small groups of models, each solved anew as one program. Another `sweep` takes other groups, and larger ones
    /// the longer nothing was gained.
    pub(super) fn rejoin(&mut self, sweep: usize, idle: usize, meter: &mut Meter<'_>) {
        let most = (FEW_POOLS + MORE_POOLS * idle).min(MOST_POOLS);
        let models = self.members.len();
        let mut rng = ChaCha8Rng::seed_from_u64(sweep as u64);
        for first in sample(&mut rng, models, models.min(GROUPS)) {
            if meter.is_spent() {
                break;
            }
            // A few models with all their pools, or more of them with those that matter at these prices.
            let is_wide = rng.random::<bool>();
            let mut group: Vec<(usize, Vec<bool>)> = vec![];
            let mut pools = 0;
            let others = sample(&mut rng, models, models);
            for m in std::iter::once(first).chain(others.into_iter().filter(|m| *m != first)).take(4 * MODELS) {
                if group.len() == MODELS {
                    break;
                }
                let free =
                    if is_wide { self.worth_a_thought(m) } else { vec![true; self.members[m].block.pools.len()] };
                let more = free.iter().filter(|f| **f).count();
                if group.is_empty() || pools + more <= most {
                    pools += more;
                    group.push((m, free));
                }
            }
            group.sort_unstable();
            self.solve_together(&group, meter);
        }
    }

    /// Pools that the best columns at these prices use.
    fn worth_a_thought(&self, m: usize) -> Vec<bool> {
        let member = &self.members[m];
        let price = |c: usize| member.columns[c].priced(&self.prices);
        let mut order: Vec<(f64, usize)> = (0..member.columns.len()).map(|c| (price(c), c)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.truncate(COLUMNS);
        let mut free = vec![false; member.block.pools.len()];
        for c in order.into_iter().map(|o| o.1).chain([member.chosen]) {
            let runs = &member.columns[c].runs;
            free.iter_mut().zip(runs).zip(&member.block.pools).for_each(|((f, r), p)| *f |= r.replicas > p.min);
        }
        free
    }

    fn solve_together(&mut self, group: &[(usize, Vec<bool>)], meter: &mut Meter<'_>) {
        let (problem, start) = self.together(group);
        let Some(found) = milp::bounded(&problem, &start, DEPTH, meter) else { return };
        let limits = self.most.len();
        let before: Vec<usize> = group.iter().map(|(m, _)| self.members[*m].chosen).collect();
        let cost = self.cost();
        let mut pool = 0;
        for (m, _) in group {
            let member = &mut self.members[*m];
            let own = pool..pool + member.block.pools.len();
            pool = own.end;
            let runs = member.runs(&found.plan.replicas[own.clone()], &found.plan.tiers[own]);
            if !member.block.allows(&runs) {
                continue;
            }
            member.chosen = member.add(runs, limits, &mut Gub::default());
        }
        // The solver's word is not enough.
        let is_better = self.fits() && self.cost() < cost * (1.0 - LEAST_GAIN);
        if !is_better {
            group.iter().zip(before).for_each(|((m, _), c)| self.members[*m].chosen = c);
        }
    }

    /// The models as one problem in what the others leave, and what they run now as its plan. Pools that are not free
    /// stay as they are.
    fn together(&self, group: &[(usize, Vec<bool>)]) -> (Problem, Plan) {
        let mut room: Vec<f64> = self.most.iter().zip(self.used()).map(|(most, used)| most - used).collect();
        let mut rows: Vec<Vec<(usize, f64)>> = vec![vec![]; room.len()];
        let (mut problem, mut start, mut penalties) = (Problem::default(), Plan::default(), vec![]);
        let mut gub = Gub::default();
        for (m, free) in group {
            let member = &self.members[*m];
            let column = &member.columns[member.chosen];
            let (pools, cells) = (problem.pools.len(), problem.cells.len());
            for (room, own) in room.iter_mut().zip(&column.uses) {
                *room += own;
            }
            for (pool, uses) in member.uses.iter().enumerate() {
                uses.iter().for_each(|&(limit, amount)| rows[limit].push((pools + pool, amount)));
            }
            let part = &member.part;
            problem.pools.extend(part.pools.iter().zip(free).zip(&column.runs).map(|((pool, free), run)| {
                let (min, max) = if *free { (pool.min, pool.max) } else { (run.replicas, run.replicas) };
                PoolOption { min, max, ..pool.clone() }
            }));
            problem.cells.extend(part.cells.iter().cloned());
            penalties.extend(member.penalties());
            let is_open = |s: &&Serve| s.stages().all(|t| free[t.pool] || column.runs[t.pool].replicas > 0);
            problem.serves.extend(part.serves.iter().filter(is_open).map(|s| Serve {
                cell: cells + s.cell,
                pool: pools + s.pool,
                then: s.then.map(|t| Stage { pool: pools + t.pool, ..t }),
                ..*s
            }));
            problem.limits.extend(part.limits.iter().map(|l| Limit {
                uses: l.uses.iter().map(|&(pool, amount)| (pools + pool, amount)).collect(),
                ..l.clone()
            }));
            let prices = member.prices(&vec![0.0; self.most.len()]);
            let (flows, shortfall) = member.block.flows(&prices, &column.runs, &mut gub);
            start.replicas.extend(column.runs.iter().map(|r| r.replicas));
            start.tiers.extend(member.tiers_of(&column.runs));
            start.shortfall.extend(shortfall);
            start.flows.extend(flows.into_iter().map(|f| Flow {
                cell: cells + f.cell,
                pool: pools + f.pool,
                then: f.then.map(|p| pools + p),
                ..f
            }));
        }
        let shared = rows.into_iter().zip(room).zip(&self.names).filter(|((uses, _), _)| !uses.is_empty());
        problem.limits.extend(shared.map(|((uses, most), name)| Limit {
            name: name.clone(),
            kind: LimitKind::Stock,
            most: most.max(0.0),
            uses,
        }));
        problem.objective = Objective::Weighted(penalties);
        (problem, start)
    }
}
