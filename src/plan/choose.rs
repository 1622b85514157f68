//! The integer side of the decomposition: one column for each model, so that together they keep the limits.
//!
//! Starts from the master's values, made whole, and from what is chosen; then exchanges the columns of one and
//! of two models as long as something is gained. While searching, a limit may be overstepped at a price.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::block::Run;
use super::effort::Meter;
use super::fleet::{Fleet, Master, Member};
use super::gub::Gub;
use super::milp::{Pick, pick};

/// What one unit over a limit costs while searching, in prices of that limit.
const OVER: f64 = 8.0;
/// Columns of one model that are looked at, those that fit the prices best.
const COLUMNS: usize = 24;

/// Whether every limit is kept, but for rounding of the sums.
fn within(used: &[f64], most: &[f64]) -> bool {
    used.iter().zip(most).all(|(used, most)| *used <= most + 1e-9 * most.abs().max(1.0))
}

/// A choice under change.
struct Choice<'a> {
    fleet: &'a Fleet,
    chosen: Vec<usize>,
    used: Vec<f64>,
    cost: f64,
    /// Price of one unit over each limit.
    over: Vec<f64>,
    /// Columns worth looking at, by model.
    candidates: Vec<Vec<usize>>,
    work: u64,
}

impl<'a> Choice<'a> {
    fn new(fleet: &'a Fleet, chosen: Vec<usize>, over: Vec<f64>, candidates: Vec<Vec<usize>>) -> Self {
        let mut used = vec![0.0; fleet.most.len()];
        let mut cost = 0.0;
        for (member, &c) in fleet.members.iter().zip(&chosen) {
            cost += member.columns[c].cost;
            for (sum, amount) in used.iter_mut().zip(&member.columns[c].uses) {
                *sum += amount;
            }
        }
        Self { fleet, chosen, used, cost, over, candidates, work: 0 }
    }

    fn excess(&self, used: impl Iterator<Item = f64>) -> f64 {
        used.zip(&self.fleet.most).zip(&self.over).map(|((u, most), price)| price * (u - most).max(0.0)).sum()
    }

    fn value(&self) -> f64 {
        self.cost + self.excess(self.used.iter().copied())
    }

    fn fits(&self) -> bool {
        within(&self.used, &self.fleet.most)
    }

    fn put(&mut self, m: usize, c: usize) {
        let columns = &self.fleet.members[m].columns;
        let (old, new) = (&columns[self.chosen[m]], &columns[c]);
        self.cost += new.cost - old.cost;
        for ((sum, a), b) in self.used.iter_mut().zip(&new.uses).zip(&old.uses) {
            *sum += a - b;
        }
        self.chosen[m] = c;
    }

    /// Exchange the columns of one model, then of two, until nothing is gained.
    fn improve(&mut self) {
        let models = self.fleet.members.len();
        let mut again = true;
        while again {
            again = false;
            for first in 0..models {
                again |= self.exchange(first, None);
            }
            for first in 0..models {
                for second in first + 1..models {
                    again |= self.exchange(first, Some(second));
                }
            }
        }
    }

    /// The best columns of one or two models with all others as they are; true when that is better.
    fn exchange(&mut self, first: usize, second: Option<usize>) -> bool {
        let columns = |m: usize| &self.fleet.members[m].columns;
        let mut best = (self.value() * (1.0 - 1e-10), None);
        let one = &columns(first)[self.chosen[first]];
        let two = second.map(|m| &columns(m)[self.chosen[m]]);
        let base_cost = self.cost - one.cost - two.map_or(0.0, |c| c.cost);
        let base: Vec<f64> =
            (0..self.used.len()).map(|l| self.used[l] - one.uses[l] - two.map_or(0.0, |c| c.uses[l])).collect();
        for &a in &self.candidates[first] {
            let a_column = &columns(first)[a];
            let Some(second) = second else {
                let value = base_cost + a_column.cost;
                if value < best.0 {
                    let value = value + self.excess(base.iter().zip(&a_column.uses).map(|(b, u)| b + u));
                    if value < best.0 {
                        best = (value, Some((a, 0)));
                    }
                }
                continue;
            };
            for &b in &self.candidates[second] {
                let b_column = &columns(second)[b];
                let value = base_cost + a_column.cost + b_column.cost;
                if value < best.0 {
                    let uses = base.iter().zip(&a_column.uses).zip(&b_column.uses).map(|((x, y), z)| x + y + z);
                    let value = value + self.excess(uses);
                    if value < best.0 {
                        best = (value, Some((a, b)));
                    }
                }
            }
        }
        self.work += 1 + (self.candidates[first].len() * second.map_or(1, |m| self.candidates[m].len())) as u64 / 60;
        let Some((a, b)) = best.1 else { return false };
        self.put(first, a);
        if let Some(second) = second {
            self.put(second, b);
        }
        true
    }
}

impl Fleet {
    /// The master's values made whole: the largest of each model, and from the second sweep on one drawn by its
    /// share.
    fn rounded(&self, master: &Master, sweep: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(sweep as u64);
        let mut chosen: Vec<usize> = self.members.iter().map(|m| m.chosen).collect();
        let mut best = vec![0.0; chosen.len()];
        for &(m, c, share) in &master.values {
            let weight = if sweep == 0 { share } else { share * rng.random::<f64>() };
            if weight > best[m] {
                (chosen[m], best[m]) = (c, weight);
            }
        }
        chosen
    }

    /// Choose one column for each model under the limits, never a worse choice than the present one. A further
    /// `sweep` begins from another rounding of the master.
    pub(super) fn choose(&mut self, sweep: usize, meter: &mut Meter<'_>) {
        let master = self.master();
        meter.spend(master.work);
        let before = self.cost();
        let gap = (before - master.cost).max(0.0);
        let candidates = self.candidates(&master, gap);
        let usual = before / self.members.len().max(1) as f64;
        let most = self.most.clone();
        let over = |scale: f64| -> Vec<f64> {
            let amounts = master.prices.iter().zip(&most);
            amounts.map(|(p, most)| scale * (p + 0.1 * usual / most.max(1.0))).collect()
        };
        let rounded = self.rounded(&master, sweep);
        let present: Vec<usize> = self.members.iter().map(|m| m.chosen).collect();
        let mut best = (before, present.clone());
        let mean = self.mean(&master, meter);
        self.take(&mean);
        if self.fits() && self.cost() < best.0 {
            best = (self.cost(), mean.clone());
        }
        for (start, is_whole) in [(rounded.clone(), false), (rounded, true), (present, true)] {
            self.take(&start);
            // Either the models are fitted into the limits first, or the columns are exchanged first.
            if !is_whole && !self.repair(meter) {
                continue;
            }
            let chosen = self.members.iter().map(|m| m.chosen).collect();
            let mut choice = Choice::new(self, chosen, over(OVER), candidates.clone());
            choice.improve();
            if !choice.fits() {
                choice.over = over(100.0 * OVER);
                choice.improve();
            }
            meter.spend(choice.work);
            let (fits, found) = (choice.fits(), choice.chosen);
            self.take(&found);
            if (fits || self.repair(meter)) && self.cost() < best.0 {
                best = (self.cost(), self.members.iter().map(|m| m.chosen).collect());
            }
        }
        self.take(&best.1);
    }

    /// The master's shares as they are: every pool runs the mean of its model's columns, made whole downwards, and
    /// the models are fitted into what is left. With many replicas this is nearly what the master promises.
    fn mean(&mut self, master: &Master, meter: &mut Meter<'_>) -> Vec<usize> {
        let limits = self.most.len();
        let gub = &mut Gub::default();
        for (m, member) in self.members.iter_mut().enumerate() {
            let mut sums = vec![0.0; member.block.pools.len()];
            let mut level = vec![(0.0, 0); sums.len()];
            for &(_, c, share) in master.values.iter().filter(|v| v.0 == m) {
                for (pool, run) in member.columns[c].runs.iter().enumerate().filter(|(_, r)| r.replicas > 0) {
                    let part = share * f64::from(run.replicas);
                    sums[pool] += part;
                    if part > level[pool].0 {
                        level[pool] = (part, run.level);
                    }
                }
            }
            let whole = |(pool, sum): (usize, &f64)| {
                let option = &member.block.pools[pool];
                let replicas = ((sum + 1e-6).floor() as u32).clamp(option.min, option.max);
                Run { replicas, level: level[pool].1 }
            };
            let runs: Vec<Run> = sums.iter().enumerate().map(whole).collect();
            if member.block.allows(&runs) {
                member.chosen = member.add(runs, limits, gub);
            }
        }
        if !self.fits() && !self.repair(meter) {
            return self.members.iter().map(|m| m.chosen).collect();
        }
        self.refit_all(&master.prices, meter);
        self.refit_all(&vec![0.0; limits], meter);
        self.members.iter().map(|m| m.chosen).collect()
    }

    pub(super) fn fits(&self) -> bool {
        within(&self.used(), &self.most)
    }

    fn take(&mut self, chosen: &[usize]) {
        for (member, &c) in self.members.iter_mut().zip(chosen) {
            member.chosen = c;
        }
    }

    /// Columns that a better plan could have, by model: any plan costs at least the master plus its columns'
    /// reduced costs.
    fn candidates(&self, master: &Master, gap: f64) -> Vec<Vec<usize>> {
        let of = |(m, member): (usize, &Member)| {
            let reduced = |c: usize| member.columns[c].priced(&master.prices) - master.set_prices[m];
            let mut list: Vec<(f64, usize)> = (0..member.columns.len()).map(|c| (reduced(c), c)).collect();
            list.retain(|(r, _)| *r <= gap);
            list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            list.truncate(COLUMNS);
            list.into_iter().map(|(_, c)| c).collect()
        };
        self.members.iter().enumerate().map(of).collect()
    }

    /// Choose by branch and bound within `nodes` nodes; never a worse choice than the present one.
    pub(super) fn choose_exactly(&mut self, nodes: u64, meter: &mut Meter<'_>) {
        let master = self.master();
        meter.spend(master.work);
        let before = self.cost();
        let candidates = self.candidates(&master, (before - master.cost).max(0.0));
        let mut picks = vec![];
        for (m, (member, list)) in self.members.iter().zip(&candidates).enumerate() {
            let others = list.iter().copied().filter(|c| *c != member.chosen);
            for c in std::iter::once(member.chosen).chain(others) {
                let column = &member.columns[c];
                let is_chosen = c == member.chosen;
                picks.push(Pick { member: m, column: c, cost: column.cost, uses: &column.uses, is_chosen });
            }
        }
        let Some(found) = pick(&picks, self.members.len(), &self.most, nodes, meter) else { return };
        let mut chosen: Vec<usize> = self.members.iter().map(|m| m.chosen).collect();
        for (m, c) in found {
            chosen[m] = c;
        }
        let choice = Choice::new(self, chosen, vec![0.0; self.most.len()], vec![]);
        // The solver's word is not enough.
        let (is_better, chosen) = (choice.fits() && choice.cost < before, choice.chosen);
        if is_better {
            self.take(&chosen);
        }
    }
}
