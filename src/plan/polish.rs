//! Improving a plan of many models until the effort is spent.
//!
//! The master's prices are right for the fleet as a whole; the last step to whole replicas needs plans of each
//! model that use a little more of one limit and a little less of another. They are found by asking at prices
//! that are moved up and down, and by fitting each model anew into what the others leave.

use super::block::Run;
use super::effort::Meter;
use super::fleet::Fleet;
use super::gub::Gub;
use super::large::Depth;
use super::search::Search;

/// How far prices are moved, as factors.
const MOVES: [f64; 4] = [0.5, 0.8, 1.25, 2.0];
/// Sweeps without gain after which the search ends.
const PATIENCE: usize = 4;
/// The same while the gap is wide.
const MOST_PATIENCE: usize = 16;
/// A wide gap, relative.
const WIDE_GAP: f64 = 5e-3;
/// Gain of a sweep that counts, relative.
const LEAST_GAIN: f64 = 1e-5;
/// Nodes of the exact choice after the first sweep without gain; twice as many after each further one.
const NODES: u64 = 150;
/// Models, the largest users first, of which one gives way where a limit is overstepped.
const ASKED_TO_YIELD: usize = 8;
/// Neighbours kept from each answer.
const NEIGHBOURS: usize = 6;

impl Fleet {
    pub(super) fn polish(&mut self, depth: Depth, meter: &mut Meter<'_>) {
        let mut routes = Gub::default();
        let mut idle = 0;
        let mut sweep = 0;
        while idle < self.patience() && !meter.is_spent() {
            let before = self.cost();
            self.refit_all(&vec![0.0; self.most.len()], meter);
            for m in 0..self.members.len() {
                self.ask_elsewhere(m, sweep, &mut routes, meter);
                if meter.is_spent() {
                    break;
                }
            }
            self.choose(sweep, meter);
            if self.cost() >= before * (1.0 - LEAST_GAIN) && !meter.is_spent() {
                self.choose_exactly(NODES << idle.min(6), meter);
                if depth == Depth::Full {
                    self.rejoin(sweep, idle, meter);
                }
            }
            idle = if self.cost() < before * (1.0 - LEAST_GAIN) { 0 } else { idle + 1 };
            sweep += 1;
        }
    }

    /// Sweeps without gain that are waited for: more while the bound says that there is something to gain.
    fn patience(&self) -> usize {
        let gap = (self.cost() - self.bound) / self.cost().abs().max(f64::MIN_POSITIVE);
        if gap > WIDE_GAP { MOST_PATIENCE } else { PATIENCE }
    }

    /// Every model anew in what the others leave of the limits, at these prices.
    pub(super) fn refit_all(&mut self, prices: &[f64], meter: &mut Meter<'_>) {
        let mut routes = Gub::default();
        for m in 0..self.members.len() {
            if meter.is_spent() {
                return;
            }
            self.refit(m, prices, &mut routes, meter);
        }
    }

    /// The model anew at these prices in what the others leave of the limits. Returns its best column, which may
    /// be the present one.
    fn fitted(&mut self, m: usize, used: &[f64], prices: &[f64], routes: &mut Gub, meter: &mut Meter<'_>) -> usize {
        let limits = self.most.len();
        let member = &mut self.members[m];
        let own = &member.columns[member.chosen];
        let mut block = member.block.clone();
        let mut rows: Vec<Vec<(usize, f64)>> = vec![vec![]; limits];
        for (pool, uses) in member.uses.iter().enumerate() {
            uses.iter().for_each(|&(limit, amount)| rows[limit].push((pool, amount)));
        }
        let mut runs: Vec<Run> = own.runs.clone();
        let asked = member.prices(prices);
        let worth = member.block.route(&asked, &runs, &[], routes).worth;
        for (limit, uses) in rows.into_iter().enumerate() {
            let room = (self.most[limit] - used[limit] + own.uses[limit]).max(0.0);
            give_back(&mut runs, &uses, room, &worth, &block);
            block.limit(room, uses);
        }
        if !block.allows(&runs) {
            return member.chosen;
        }
        let mut search = Search::new(&block, &asked, routes);
        let found = search.descend(runs);
        meter.spend(search.work);
        member.add(found.runs, limits, routes)
    }

    fn refit(&mut self, m: usize, prices: &[f64], routes: &mut Gub, meter: &mut Meter<'_>) {
        let used = self.used();
        let found = self.fitted(m, &used, prices, routes, meter);
        let member = &mut self.members[m];
        let (new, own) = (member.columns[found].priced(prices), member.columns[member.chosen].priced(prices));
        if new < own - 1e-9 * own.abs() {
            member.chosen = found;
        }
    }

    /// Bring a choice that oversteps limits within them: the model that loses least gives way. Returns whether
    /// that was possible.
    pub(super) fn repair(&mut self, meter: &mut Meter<'_>) -> bool {
        let mut routes = Gub::default();
        let prices = self.prices.clone();
        for _ in 0..4 * self.members.len() {
            let used = self.used();
            let excess = |used: &[f64], most: &[f64], l: usize| (used[l] - most[l] * (1.0 + 1e-9) - 1e-9).max(0.0);
            let over: Vec<usize> = (0..used.len()).filter(|&l| excess(&used, &self.most, l) > 0.0).collect();
            if over.is_empty() {
                return true;
            }
            let share = |m: usize| {
                let member = &self.members[m];
                let uses = &member.columns[member.chosen].uses;
                over.iter().map(|&l| uses[l] / self.most[l].max(1.0)).sum::<f64>()
            };
            let mut users: Vec<usize> = (0..self.members.len()).filter(|&m| share(m) > 0.0).collect();
            users.sort_by(|&a, &b| share(b).total_cmp(&share(a)).then(a.cmp(&b)));
            users.truncate(ASKED_TO_YIELD);
            let mut best: Option<(f64, usize, usize)> = None;
            for m in users {
                if meter.is_spent() {
                    return false;
                }
                // What is given up elsewhere has its price too.
                let found = self.fitted(m, &used, &prices, &mut routes, meter);
                let member = &self.members[m];
                let (own, new) = (&member.columns[member.chosen], &member.columns[found]);
                let freed: f64 = over
                    .iter()
                    .map(|&l| {
                        (own.uses[l] - new.uses[l]).clamp(0.0, excess(&used, &self.most, l)) / self.most[l].max(1.0)
                    })
                    .sum();
                if freed <= 0.0 {
                    continue;
                }
                let loss = (new.priced(&prices) - own.priced(&prices)).max(0.0) / freed;
                if best.is_none_or(|b| loss < b.0) {
                    best = Some((loss, m, found));
                }
            }
            let Some((_, m, found)) = best else { return false };
            self.members[m].chosen = found;
        }
        false
    }

    /// Plans of the model at moved prices.
    fn ask_elsewhere(&mut self, m: usize, sweep: usize, routes: &mut Gub, meter: &mut Meter<'_>) {
        let limits = self.most.len();
        let moved: Vec<f64> = self
            .prices
            .iter()
            .enumerate()
            .map(|(l, p)| p * MOVES[(sweep * 7 + m * 3 + l * 5 + sweep * l) % MOVES.len()])
            .collect();
        let member = &mut self.members[m];
        let asked = member.prices(&moved);
        let mut search = Search::new(&member.block, &asked, routes);
        let found = search.descend(member.columns[member.chosen].runs.clone());
        meter.spend(search.work);
        let mut seen = std::mem::take(&mut search.seen);
        seen.sort_by(|a, b| a.price.total_cmp(&b.price));
        seen.truncate(NEIGHBOURS);
        let near = found.price + 0.05 * found.price.abs();
        member.add(found.runs, limits, routes);
        for other in seen.into_iter().filter(|s| s.price <= near) {
            member.add(other.runs, limits, routes);
        }
    }
}

/// Give back replicas until the use fits the room, those of the least worth first.
fn give_back(runs: &mut [Run], uses: &[(usize, f64)], room: f64, worth: &[f64], block: &super::block::Block) {
    let used = |runs: &[Run]| uses.iter().map(|&(p, a)| a * f64::from(runs[p].replicas)).sum::<f64>();
    while used(runs) > room + 1e-9 {
        let least = uses
            .iter()
            .filter(|(p, amount)| *amount > 0.0 && runs[*p].replicas > block.pools[*p].min)
            .min_by(|a, b| (worth[a.0] / a.1).total_cmp(&(worth[b.0] / b.1)).then(a.0.cmp(&b.0)));
        match least {
            Some(&(pool, _)) => runs[pool].replicas -= 1,
            None => return,
        }
    }
}
