//! One model's pools and cells on their own: what a number of replicas costs, and better numbers near it.
//!
//! Everything that only this block decides is inside: routing, the price of replicas, switching, latency
//! levels. What it shares with other blocks (the limits) comes in as prices on replicas. Only limits within the
//! block are kept as such.

use super::gub::Gub;
use super::problem::TIER_CHANGE;
use super::{Flow, PoolOption, Problem};

/// What a block minimises: prices of replicas and of load that is not served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prices {
    /// On top, for each replica of each pool.
    pub replica: Vec<f64>,
    /// Of each whole cell that is not served.
    pub cell: Vec<f64>,
}

/// One latency level of a pool.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub tier: usize,
    /// (cell, replicas that the whole cell takes).
    pub carries: Vec<(usize, f64)>,
}

/// One latency level and the replicas of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Run {
    pub replicas: u32,
    /// Place in the pool's levels.
    pub level: usize,
}

/// A way to serve a cell in two steps: cell, then (pool, level, load) of both.
type Path = (usize, [(usize, usize, f64); 2]);

#[derive(Clone, Debug)]
pub(super) struct Block {
    pub pools: Vec<PoolOption>,
    /// Requests per second of each cell.
    pub rate: Vec<f64>,
    pub levels: Vec<Vec<Level>>,
    paths: Vec<Path>,
    /// Limits within the block: (most, amounts).
    own_limits: Vec<(f64, Vec<(usize, f64)>)>,
}

/// What is known of one choice of replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Routed {
    /// Price of what is not served.
    pub short: f64,
    /// Pool that gets most of each cell.
    pub home: Vec<usize>,
    /// Worth of one more replica of each pool; 0 for one that is closed.
    pub worth: Vec<f64>,
    /// Price of each cell: what it would save if it went elsewhere.
    pub cell_price: Vec<f64>,
}

impl Block {
    pub(super) fn new(part: &Problem) -> Self {
        let mut levels: Vec<Vec<Level>> = vec![vec![]; part.pools.len()];
        let mut level_of = |pool: usize, tier: usize| {
            let known = levels[pool].iter().position(|l| l.tier == tier);
            known.unwrap_or_else(|| {
                levels[pool].push(Level { tier, carries: vec![] });
                levels[pool].len() - 1
            })
        };
        let mut paths = vec![];
        let mut carries = vec![];
        for serve in part.serves.iter().filter(|s| part.cells[s.cell].rate > 0.0) {
            let rate = part.cells[serve.cell].rate;
            let level = level_of(serve.pool, serve.tier);
            match serve.then {
                None => carries.push((serve.pool, level, serve.cell, rate / serve.rate)),
                Some(then) => {
                    let second = level_of(then.pool, then.tier);
                    paths.push((
                        serve.cell,
                        [(serve.pool, level, rate / serve.rate), (then.pool, second, rate / then.rate)],
                    ));
                }
            }
        }
        for (pool, level, cell, load) in carries {
            levels[pool][level].carries.push((cell, load));
        }
        let own_limits = part.limits.iter().map(|l| (part.most(l), l.uses.clone())).collect();
        Self { pools: part.pools.clone(), rate: part.cells.iter().map(|c| c.rate).collect(), levels, paths, own_limits }
    }

    /// Keep one more limit within the block.
    pub(super) fn limit(&mut self, most: f64, uses: Vec<(usize, f64)>) {
        self.own_limits.push((most, uses));
    }

    /// The fewest replicas allowed.
    pub(super) fn least(&self) -> Vec<Run> {
        self.pools.iter().map(|p| Run { replicas: p.min, level: 0 }).collect()
    }

    /// Cost of the replicas with their switching; nothing of what is priced from outside.
    pub(super) fn own_cost(&self, pool: usize, run: Run) -> f64 {
        let p = &self.pools[pool];
        let n = run.replicas;
        let switching = p.start_cost_per_hour * f64::from(n.saturating_sub(p.running))
            + p.stop_cost_per_hour * f64::from(p.running.saturating_sub(n));
        let changes = n > 0 && p.tier.is_some() && self.levels[pool].get(run.level).map(|l| l.tier) != p.tier;
        let tier = if changes { TIER_CHANGE * p.price_per_hour } else { 0.0 };
        p.price_per_hour * f64::from(n) + switching + tier
    }

    pub(super) fn price_of(&self, prices: &Prices, pool: usize, run: Run) -> f64 {
        self.own_cost(pool, run) + prices.replica[pool] * f64::from(run.replicas)
    }

    /// Price of all replicas, without what is not served.
    pub(super) fn price(&self, prices: &Prices, runs: &[Run]) -> f64 {
        runs.iter().enumerate().map(|(pool, run)| self.price_of(prices, pool, *run)).sum()
    }

    /// Whether bounds and the block's own limits are kept.
    pub(super) fn allows(&self, runs: &[Run]) -> bool {
        let bounds = self.pools.iter().zip(runs).all(|(p, r)| (p.min..=p.max).contains(&r.replicas));
        let used = |uses: &[(usize, f64)]| uses.iter().map(|&(p, a)| a * f64::from(runs[p].replicas)).sum::<f64>();
        bounds && self.own_limits.iter().all(|(most, uses)| used(uses) <= most + 1e-9 * most.abs().max(1.0))
    }

    /// The routing program. It begins with every cell wholly at the pool of its `hint`, as far as there is room.
    fn load_program(
        &self,
        prices: &[f64],
        runs: &[Run],
        hint: &[usize],
        gub: &mut Gub,
    ) -> (Vec<usize>, Vec<(usize, [usize; 2])>) {
        let open: Vec<usize> = (0..runs.len()).filter(|&p| runs[p].replicas > 0).collect();
        let most: Vec<f64> = open.iter().map(|&p| f64::from(runs[p].replicas)).collect();
        gub.begin(&most, self.rate.len());
        let mut columns = Vec::with_capacity(4 * self.rate.len());
        for (cell, price) in prices.iter().enumerate() {
            gub.push(cell, *price, []);
            columns.push((cell, [usize::MAX; 2]));
        }
        for (row, &pool) in open.iter().enumerate() {
            let Some(level) = self.levels[pool].get(runs[pool].level) else { continue };
            let mut room = most[row];
            for &(cell, load) in &level.carries {
                let column = gub.push(cell, 0.0, [(row, load)]);
                columns.push((cell, [pool, usize::MAX]));
                if hint.get(cell) == Some(&pool) && load <= room {
                    gub.begin_at(column);
                    room -= load;
                }
            }
        }
        for (cell, [a, b]) in &self.paths {
            let row = |s: &(usize, usize, f64)| {
                let row = open.binary_search(&s.0).ok()?;
                (runs[s.0].level == s.1).then_some((row, s.2))
            };
            if let (Some(first), Some(second)) = (row(a), row(b)) {
                gub.push(*cell, 0.0, [first, second]);
                columns.push((*cell, [a.0, b.0]));
            }
        }
        (open, columns)
    }

    /// Route the load over the replicas at the least price of what stays unserved.
    pub(super) fn route(&self, prices: &Prices, runs: &[Run], hint: &[usize], gub: &mut Gub) -> Routed {
        let (open, columns) = self.load_program(&prices.cell, runs, hint, gub);
        let short = gub.solve();
        let mut worth = vec![0.0; runs.len()];
        for (&pool, price) in open.iter().zip(gub.prices()) {
            worth[pool] = price;
        }
        let mut home = vec![usize::MAX; self.rate.len()];
        let mut share = vec![0.0; self.rate.len()];
        for (column, value) in gub.values() {
            let (cell, [pool, _]) = columns[column];
            if value > share[cell] {
                (home[cell], share[cell]) = (pool, value);
            }
        }
        Routed { short, home, worth, cell_price: gub.set_prices().to_vec() }
    }

    /// Price of what stays unserved, nothing else.
    pub(super) fn short_price(&self, prices: &Prices, runs: &[Run], hint: &[usize], gub: &mut Gub) -> f64 {
        self.load_program(&prices.cell, runs, hint, gub);
        gub.solve()
    }

    /// Flows and unserved rates of the best routing: (flows with the block's numbers, unserved rate of each
    /// cell).
    pub(super) fn flows(&self, prices: &Prices, runs: &[Run], gub: &mut Gub) -> (Vec<Flow>, Vec<f64>) {
        let (_, columns) = self.load_program(&prices.cell, runs, &[], gub);
        gub.solve();
        let mut short = vec![0.0; self.rate.len()];
        let mut flows = vec![];
        for (column, value) in gub.values() {
            let (cell, [pool, then]) = columns[column];
            let rate = value * self.rate[cell];
            if pool == usize::MAX {
                short[cell] = rate;
            } else if rate > 0.0 {
                flows.push(Flow { cell, pool, then: (then != usize::MAX).then_some(then), rate });
            }
        }
        for (cell, short) in short.iter_mut().enumerate() {
            let sent: f64 = flows.iter().filter(|f| f.cell == cell).map(|f| f.rate).sum();
            let total = sent + *short;
            if *short <= 1e-9 * self.rate[cell] {
                *short = 0.0;
            }
            // What the values lack or exceed by rounding is spread over the cell's flows.
            if sent > 0.0 && total > 0.0 {
                let scale = (self.rate[cell] - *short) / sent;
                flows.iter_mut().filter(|f| f.cell == cell).for_each(|f| f.rate *= scale);
            } else {
                *short = self.rate[cell];
            }
        }
        (flows, short)
    }

    /// The relaxation in which replicas may be fractions: its price and the load of every pool and level. It
    /// tells where each load belongs when there is a lot of it. Pools that are `fixed` keep their replicas.
    /// Replicas that run cost less than new ones, so a pool has two rows.
    pub(super) fn relaxed(&self, prices: &Prices, fixed: &[Option<Run>], gub: &mut Gub) -> (f64, Vec<Vec<f64>>) {
        let mut most = vec![];
        let mut rows = vec![];
        let mut base = 0.0;
        for (pool, option) in self.pools.iter().enumerate() {
            let own = option.price_per_hour + prices.replica[pool];
            let fix = fixed.get(pool).copied().flatten();
            if let Some(run) = fix {
                base += self.price_of(prices, pool, run);
                if run.replicas > 0 {
                    rows.push((pool, Some(most.len()), 0.0, Some(run.level)));
                    most.push(f64::from(run.replicas));
                }
                continue;
            }
            base += option.stop_cost_per_hour * f64::from(option.running);
            let running = option.running.min(option.max);
            let stop = own - option.stop_cost_per_hour;
            let start = own + option.start_cost_per_hour;
            let paths = self.paths.iter().flat_map(|(_, s)| s).filter(|s| s.0 == pool).map(|s| s.2);
            let whole: f64 = self.levels[pool].iter().flat_map(|l| &l.carries).map(|c| c.1).chain(paths).sum();
            if running > 0 {
                // Where a stop costs more than it saves, all that run go on.
                base += stop.min(0.0) * f64::from(running);
                rows.push((pool, Some(most.len()), stop.max(0.0), None));
                most.push(f64::from(running));
            }
            if option.max > running {
                // Where all its cells together fit, the most needs no row.
                let row = (whole > f64::from(option.max - running)).then_some(most.len());
                rows.push((pool, row, start.max(0.0), None));
                most.extend(row.map(|_| f64::from(option.max - running)));
            }
        }
        gub.begin(&most, self.rate.len());
        let (mut columns, mut both) = (vec![], vec![]);
        for (cell, price) in prices.cell.iter().enumerate() {
            gub.push(cell, *price, []);
            columns.push(None);
        }
        for &(pool, row, price, only) in &rows {
            for (index, level) in self.levels[pool].iter().enumerate().filter(|(i, _)| only.is_none_or(|o| o == *i)) {
                for &(cell, load) in &level.carries {
                    gub.push(cell, load * price, row.map(|row| (row, load)));
                    columns.push(Some((pool, index, load)));
                }
            }
        }
        for (cell, stages) in &self.paths {
            let rows_of = |(pool, level, _): (usize, usize, f64)| {
                rows.iter().filter(move |r| r.0 == pool && r.3.is_none_or(|only| only == level))
            };
            for first in rows_of(stages[0]) {
                for second in rows_of(stages[1]) {
                    let loads = [stages[0].2, stages[1].2];
                    let uses = [(first.1, loads[0]), (second.1, loads[1])];
                    let price = loads[0] * first.2 + loads[1] * second.2;
                    gub.push(*cell, price, uses.into_iter().filter_map(|(row, load)| row.map(|row| (row, load))));
                    both.push((columns.len(), *stages));
                    columns.push(None);
                }
            }
        }
        let total = gub.solve() + base;
        let mut load: Vec<Vec<f64>> = self.levels.iter().map(|l| vec![0.0; l.len()]).collect();
        for (column, value) in gub.values() {
            if let Some((pool, level, whole)) = columns[column] {
                load[pool][level] += whole * value;
            } else if let Ok(place) = both.binary_search_by_key(&column, |b| b.0) {
                for (pool, level, whole) in both[place].1 {
                    load[pool][level] += whole * value;
                }
            }
        }
        (total, load)
    }
}
