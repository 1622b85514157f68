//! Local search within a block: replicas added, given back and exchanged as long as something is gained.
//!
//! The prices of a routing bound what any change can gain (the routing's cost is convex in the replicas), so
//! only changes that could be the best are tried out.

use super::block::{Block, Prices, Routed, Run};
use super::gub::Gub;

/// A choice of replicas and what it costs at the prices it was searched with.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub runs: Vec<Run>,
    pub price: f64,
}

/// A change: pools with the run they get.
type Change = [(usize, Run); 3];

struct Candidate {
    gain: f64,
    change: Change,
    parts: usize,
}

/// Least gain that counts, relative.
const LEAST_GAIN: f64 = 1e-9;

/// Replicas up to which three pools are changed at once: with more of them small steps find the way.
const FEW_REPLICAS: u32 = 30;
/// Changes after which any gain is taken.
const FEW_TRIED: usize = 10;
/// Changes tried at most before a step.
const MOST_TRIED: usize = 80;

pub(super) struct Search<'a> {
    block: &'a Block,
    prices: &'a Prices,
    /// Where each cell was served last: where the next routing begins.
    hint: Vec<usize>,
    pub gub: &'a mut Gub,
    /// Units of work spent.
    pub work: u64,
    /// Everything tried at the last step, and its price.
    pub seen: Vec<Found>,
}

impl<'a> Search<'a> {
    pub(super) fn new(block: &'a Block, prices: &'a Prices, gub: &'a mut Gub) -> Self {
        Self { block, prices, hint: vec![], gub, work: 0, seen: vec![] }
    }

    pub(super) fn price(&mut self, runs: &[Run]) -> f64 {
        let short = self.block.short_price(self.prices, runs, &self.hint, self.gub);
        self.count();
        self.block.price(self.prices, runs) + short
    }

    fn count(&mut self) {
        self.work += 1 + self.gub.pivots * (self.gub.columns() as u64 + 20) / 400;
    }

    /// Replicas from the relaxation: made whole pool by pool, the surest first, up or down as costs less.
    pub(super) fn dive(&mut self) -> Vec<Run> {
        let pools = self.block.pools.len();
        let mut fixed: Vec<Option<Run>> = vec![None; pools];
        loop {
            let (_, load) = self.block.relaxed(self.prices, &fixed, self.gub);
            self.count();
            let mut surest: Option<(f64, usize, f64, usize)> = None;
            for pool in (0..pools).filter(|p| fixed[*p].is_none()) {
                let all: f64 = load[pool].iter().sum();
                let level = (0..load[pool].len()).max_by(|&a, &b| load[pool][a].total_cmp(&load[pool][b])).unwrap_or(0);
                let off = (all - all.round()).abs();
                if off < 1e-6 && all < 0.5 {
                    continue;
                }
                if surest.is_none_or(|s| off < s.0) {
                    surest = Some((off, pool, all, level));
                }
            }
            let Some((_, pool, all, level)) = surest else { break };
            let option = &self.block.pools[pool];
            let clamp = |n: f64| Run { replicas: n.clamp(f64::from(option.min), f64::from(option.max)) as u32, level };
            let (down, up) = (clamp((all + 1e-6).floor()), clamp((all - 1e-6).ceil()));
            fixed[pool] = Some(down);
            if up != down {
                let (low, _) = self.block.relaxed(self.prices, &fixed, self.gub);
                self.count();
                fixed[pool] = Some(up);
                let (high, _) = self.block.relaxed(self.prices, &fixed, self.gub);
                self.count();
                if low <= high {
                    fixed[pool] = Some(down);
                }
            }
        }
        let least = self.block.least();
        fixed.into_iter().zip(least).map(|(run, least)| run.unwrap_or(least)).collect()
    }

    /// Improve until no change gains.
    pub(super) fn descend(&mut self, start: Vec<Run>) -> Found {
        let mut runs = start;
        loop {
            let routed = self.block.route(self.prices, &runs, &self.hint, self.gub);
            self.count();
            self.hint.clone_from(&routed.home);
            let base = self.block.price(self.prices, &runs);
            let now = base + routed.short;
            let mut candidates = self.candidates(&runs, &routed);
            if candidates.len() > MOST_TRIED {
                candidates.select_nth_unstable_by(MOST_TRIED, |a, b| b.gain.total_cmp(&a.gain));
                candidates.truncate(MOST_TRIED);
            }
            candidates.sort_by(|a, b| b.gain.total_cmp(&a.gain));
            let mut best: Option<(f64, Vec<Run>)> = None;
            self.seen.clear();
            for (tried, candidate) in candidates.iter().enumerate() {
                // A good change is taken soon: the next step sees further than the rest of this one.
                let enough = if tried < FEW_TRIED { candidate.gain } else { 0.0 };
                if best.as_ref().is_some_and(|(gain, _)| *gain >= enough) {
                    break;
                }
                let mut tried = runs.clone();
                for (pool, run) in &candidate.change[..candidate.parts] {
                    tried[*pool] = *run;
                }
                if !self.block.allows(&tried) {
                    continue;
                }
                let price = self.price(&tried);
                let gain = now - price;
                self.seen.push(Found { runs: tried.clone(), price });
                let least = LEAST_GAIN * now.abs().max(1e-6);
                if gain > best.as_ref().map_or(least, |(g, _)| *g) {
                    best = Some((gain, tried));
                }
            }
            match best {
                Some((_, better)) => runs = better,
                None => return Found { runs, price: now },
            }
        }
    }

    fn candidates(&mut self, runs: &[Run], routed: &Routed) -> Vec<Candidate> {
        let block = self.block;
        let now: Vec<f64> = (0..runs.len()).map(|p| block.price_of(self.prices, p, runs[p])).collect();
        let mut gives: Vec<(f64, usize, Run)> = vec![];
        let mut takes: Vec<(f64, usize, Run)> = vec![];
        for (pool, &run) in runs.iter().enumerate() {
            let option = &block.pools[pool];
            let mut fewer: Vec<u32> = vec![];
            if run.replicas > option.min {
                fewer.extend([run.replicas - 1, option.min, run.replicas / 2]);
                fewer.retain(|n| *n >= option.min && *n < run.replicas);
                fewer.sort_unstable();
                fewer.dedup();
            }
            for n in fewer {
                let less = Run { replicas: n, ..run };
                let loses = routed.worth[pool] * f64::from(run.replicas - n);
                gives.push((now[pool] - block.price_of(self.prices, pool, less) - loses, pool, less));
            }
            for level in 0..block.levels[pool].len() {
                self.add_takes(runs, routed, &now, pool, level, &mut takes);
            }
        }
        self.work += 1 + takes.len() as u64 / 4;
        let replicas: u32 = runs.iter().map(|r| r.replicas).sum();
        combine(gives, takes, replicas <= FEW_REPLICAS)
    }

    /// Ways to run more replicas of a pool, or the same at another level.
    fn add_takes(
        &self,
        runs: &[Run],
        routed: &Routed,
        now: &[f64],
        pool: usize,
        level: usize,
        takes: &mut Vec<(f64, usize, Run)>,
    ) {
        let block = self.block;
        let (run, option) = (runs[pool], &block.pools[pool]);
        let same_level = run.replicas == 0 || run.level == level;
        // The worth of cells that could come here, by replica.
        let mut worth: Vec<(f64, f64)> = block.levels[pool][level]
            .carries
            .iter()
            .filter(|(cell, _)| routed.cell_price[*cell] > 0.0)
            .map(|&(cell, load)| (routed.cell_price[cell], load))
            .collect();
        worth.sort_by(|a, b| (b.0 / b.1).total_cmp(&(a.0 / a.1)));
        let held = if run.replicas > 0 { routed.worth[pool] } else { 0.0 };
        let most = option.max.saturating_sub(run.replicas);
        let all_load: f64 = worth.iter().map(|w| w.1).sum();
        for step in [0, 1, 2, 4, 8, 16] {
            if (step == 0 && same_level) || step > most || (step > 2 && f64::from(step) > all_load + 2.0) {
                continue;
            }
            let next = Run { replicas: run.replicas + step, level };
            let gain = if same_level && run.replicas > 0 {
                // Its cells pay `held` already: only those that gain from coming count.
                bounded(&worth, f64::from(step), held)
            } else {
                bounded(&worth, f64::from(next.replicas), 0.0) - held * f64::from(run.replicas)
            };
            takes.push((gain - (block.price_of(self.prices, pool, next) - now[pool]), pool, next));
        }
    }
}

/// The most that `room` more replicas can be worth: the best cells first, each once; cells that pay `held` for
/// a replica here already gain nothing.
fn bounded(worth: &[(f64, f64)], room: f64, held: f64) -> f64 {
    if held > 0.0 {
        // Prices of an open pool are at most `held` for each replica.
        return held * room;
    }
    let (mut left, mut sum) = (room, 0.0);
    for &(price, load) in worth {
        if load >= left {
            return sum + price * left / load;
        }
        sum += price;
        left -= load;
    }
    sum
}

/// Single changes, and pairs and triples of giving back here and adding there.
fn combine(gives: Vec<(f64, usize, Run)>, takes: Vec<(f64, usize, Run)>, triples: bool) -> Vec<Candidate> {
    let mut all = vec![];
    let none = (usize::MAX, Run::default());
    for &(gain, pool, run) in gives.iter().chain(&takes) {
        if gain > 0.0 {
            all.push(Candidate { gain, change: [(pool, run), none, none], parts: 1 });
        }
    }
    for &(take, pool, run) in &takes {
        for (i, &(give, other, less)) in gives.iter().enumerate() {
            if other == pool {
                continue;
            }
            if take + give > 0.0 {
                all.push(Candidate { gain: take + give, change: [(pool, run), (other, less), none], parts: 2 });
            }
            for &(second, third, fewer) in gives[i + 1..].iter().filter(|_| triples) {
                if third == pool || third == other || take + give + second <= 0.0 {
                    continue;
                }
                let change = [(pool, run), (other, less), (third, fewer)];
                all.push(Candidate { gain: take + give + second, change, parts: 3 });
            }
        }
    }
    for (i, &(first, pool, run)) in takes.iter().enumerate().filter(|_| triples) {
        for &(second, other, more) in &takes[i + 1..] {
            if other == pool {
                continue;
            }
            for &(give, third, less) in &gives {
                let gain = first + second + give;
                if third != pool && third != other && gain > 0.0 {
                    let change = [(pool, run), (other, more), (third, less)];
                    all.push(Candidate { gain, change, parts: 3 });
                }
            }
        }
    }
    all
}
