//! Prices of the limits and columns of the models: the two sides of the decomposition, in turns.

use super::block::Run;
use super::effort::Meter;
use super::fleet::{Fleet, Master, Member};
use super::gub::Gub;
use super::search::{Found, Search};
use super::{Objective, Problem, milp};

/// Weight of the last prices when new ones are taken: they swing less.
const SMOOTH: f64 = 0.3;
/// Gain of a round, relative, below which no further one is worth its work.
const LEAST_ROUND: f64 = 1e-4;
/// Gap between the relaxation's prices and its master at which they are good enough to begin with.
const RELAXED_GAP: f64 = 1e-3;
/// Replicas of a model up to which the search begins from its last plan; with more, the relaxation knows better.
const FEW_REPLICAS: u32 = 30;

impl Fleet {
    /// Prices of the limits when replicas may be fractions: where to begin, and a first bound.
    pub(super) fn relax(&mut self, rounds: usize, meter: &mut Meter<'_>) {
        let (mut gub, mut routes) = (Gub::default(), Gub::default());
        // (member, cost, uses) of fractional plans.
        let chosen = |m: &Member| (m.columns[m.chosen].cost, m.columns[m.chosen].uses.clone());
        let mut columns: Vec<(usize, f64, Vec<f64>)> =
            self.members.iter().map(chosen).enumerate().map(|(m, (cost, uses))| (m, cost, uses)).collect();
        let mut prices = self.prices.clone();
        let mut best = f64::NEG_INFINITY;
        for _ in 0..rounds {
            let mut bound: f64 = -prices.iter().zip(&self.most).map(|(p, m)| p * m).sum::<f64>();
            for (m, member) in self.members.iter().enumerate() {
                let (price, load) = member.block.relaxed(&member.prices(&prices), &[], &mut routes);
                meter.spend(2 + routes.pivots * (routes.columns() as u64 + 400) / 400);
                bound += price;
                let mut uses = vec![0.0; self.most.len()];
                for (load, amounts) in load.iter().zip(&member.uses) {
                    let n: f64 = load.iter().sum();
                    amounts.iter().for_each(|&(limit, amount)| uses[limit] += amount * n);
                }
                let cost = price - uses.iter().zip(&prices).map(|(u, p)| u * p).sum::<f64>();
                columns.push((m, cost, uses));
            }
            if bound > best {
                best = bound;
                self.prices.clone_from(&prices);
            }
            gub.begin(&self.most, self.members.len());
            for (m, cost, uses) in &columns {
                gub.push(*m, *cost, uses.iter().enumerate().filter(|(_, u)| **u != 0.0).map(|(l, u)| (l, *u)));
            }
            let total = gub.solve();
            meter.spend(gub.pivots * gub.columns() as u64 / 200);
            if total - best < RELAXED_GAP * total.abs() || meter.is_spent() {
                break;
            }
            prices = gub.prices().zip(&self.prices).map(|(new, old)| 0.5 * new + 0.5 * old).collect();
        }
        self.bound = self.bound.max(best);
    }

    /// Column generation: price, answer, until nobody has a better answer.
    pub(super) fn generate(&mut self, rounds: usize, is_warm: bool, meter: &mut Meter<'_>) {
        let limits = self.most.len();
        for round in 0..rounds {
            let Master { cost, prices, work, .. } = self.master();
            meter.spend(work);
            let smooth = if round == 0 { 1.0 } else { SMOOTH };
            let asked: Vec<f64> =
                prices.iter().zip(&self.prices).map(|(new, old)| new * (1.0 - smooth) + old * smooth).collect();
            self.prices = asked;
            let mut improved = 0.0;
            for batch in batches(self.members.len()) {
                let answers = self.answers(batch.clone(), |member, gub| {
                    answer(member, &self.prices, Way { round, is_quick: is_warm && round == 0 }, gub)
                });
                for (m, (found, seen, before, work)) in batch.zip(answers) {
                    meter.spend(work);
                    let member = &mut self.members[m];
                    let mut gub = Gub::default();
                    if found.price < before - 1e-7 * before.abs() {
                        improved += before - found.price;
                        member.add(found.runs, limits, &mut gub);
                    }
                    for runs in seen {
                        member.add(runs, limits, &mut gub);
                    }
                }
                if meter.is_spent() {
                    return;
                }
            }
            // The first round asks at the old prices: that nothing is gained there says nothing.
            if round > 0 && improved < LEAST_ROUND * cost.abs() {
                break;
            }
        }
    }

    /// Ask several members at once. They know nothing of each other, so threads change no answer.
    fn answers<T: Send>(&self, batch: std::ops::Range<usize>, ask: impl Fn(&Member, &mut Gub) -> T + Sync) -> Vec<T> {
        let members = &self.members[batch];
        if self.threads <= 1 {
            let mut gub = Gub::default();
            return members.iter().map(|m| ask(m, &mut gub)).collect();
        }
        let chunk = members.len().div_ceil(self.threads).max(1);
        std::thread::scope(|scope| {
            let ask = &ask;
            let parts: Vec<_> = members
                .chunks(chunk)
                .map(|part| {
                    scope.spawn(move || {
                        let mut gub = Gub::default();
                        part.iter().map(|m| ask(m, &mut gub)).collect::<Vec<T>>()
                    })
                })
                .collect();
            // A panic in a part goes on here, as it would without threads.
            parts.into_iter().flat_map(|p| p.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        })
    }

    /// Ask the exact solver for every model at the present prices: better columns and a bound.
    pub(super) fn certify(&mut self, meter: &mut Meter<'_>) {
        let limits = self.most.len();
        let mut gub = Gub::default();
        let mut bound: f64 = -self.prices.iter().zip(&self.most).map(|(p, m)| p * m).sum::<f64>();
        for m in 0..self.members.len() {
            if meter.is_spent() {
                return;
            }
            let member = &mut self.members[m];
            let asked = member.prices(&self.prices);
            let best = member.best_at(&self.prices);
            let (relaxed, _) = member.block.relaxed(&asked, &[], &mut gub);
            let Some(part) = priced_part(member, &asked.replica) else {
                bound += relaxed;
                continue;
            };
            let (flows, shortfall) = member.block.flows(&asked, &member.columns[best].runs, &mut gub);
            let start = part_plan(member, &member.columns[best].runs, flows, shortfall);
            match milp::bounded(&part, &start, meter) {
                Some(found) => {
                    bound += found.bound.max(relaxed).min(member.columns[best].priced(&self.prices));
                    let runs = part_runs(member, &found.plan);
                    member.add(runs, limits, &mut gub);
                }
                None => bound += relaxed,
            }
        }
        self.bound = self.bound.max(bound);
    }
}

/// Members that are asked together; the effort is looked at between them.
const BATCH: usize = 8;

fn batches(members: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..members).step_by(BATCH).map(move |first| first..(first + BATCH).min(members))
}

/// Rounds between two dives of a model with few replicas: in between the search goes on from its last plan.
const DIVE_EVERY: usize = 2;
/// Neighbours of an answer that become columns with it.
const NEIGHBOURS: usize = 4;
/// How much dearer than the answer they may be, relative.
const NEAR: f64 = 0.01;

/// How a model is asked.
#[derive(Clone, Copy)]
struct Way {
    round: usize,
    /// From its last plan only: there is one, and little changed.
    is_quick: bool,
}

/// Changes tried before a step when a model is asked quickly.
const QUICK_TRIED: usize = 24;

type Answer = (Found, Vec<Vec<Run>>, f64, u64);

/// The best plan of one model at these prices, its neighbours, the best price known before, and the work.
fn answer(member: &Member, prices: &[f64], way: Way, gub: &mut Gub) -> Answer {
    let asked = member.prices(prices);
    let best = member.best_at(prices);
    let before = member.columns[best].priced(prices);
    let mut search = Search::new(&member.block, &asked, gub);
    let mut found = Found { runs: member.columns[best].runs.clone(), price: before };
    let mut seen = vec![];
    let few = member.columns[best].runs.iter().map(|r| r.replicas).sum::<u32>() <= FEW_REPLICAS;
    let mut from_best = way.round > 0;
    if way.is_quick {
        search.most_tried = QUICK_TRIED;
    } else if !few || way.round.is_multiple_of(DIVE_EVERY) {
        let dived = search.dive();
        let dived_price = search.price(&dived);
        if member.block.allows(&dived) && (few || dived_price <= before) {
            let other = search.descend(dived);
            seen.append(&mut search.seen);
            from_best &= few;
            if other.price < found.price {
                found = other;
            }
        }
    }
    if from_best || seen.is_empty() {
        let other = search.descend(member.columns[best].runs.clone());
        seen.append(&mut search.seen);
        if other.price < found.price {
            found = other;
        }
    }
    let work = search.work;
    seen.retain(|s| s.price <= found.price + NEAR * found.price.abs());
    seen.sort_by(|a, b| a.price.total_cmp(&b.price));
    seen.truncate(NEIGHBOURS);
    (found, seen.into_iter().map(|s| s.runs).collect(), before, work)
}

/// The member's part with the limits' prices on its replicas; `None` where nothing can be served.
fn priced_part(member: &Member, replica: &[f64]) -> Option<Problem> {
    let mut part = member.part.clone();
    for (pool, price) in part.pools.iter_mut().zip(replica) {
        pool.price_per_hour += price;
        // Changing levels is left out: the bound must not be too high.
        pool.tier = None;
    }
    let rate = part.cells.iter().map(|c| c.rate);
    let penalties = member.cell.iter().zip(rate).map(|(price, rate)| if rate > 0.0 { price / rate } else { 0.0 });
    part.objective = Objective::Weighted(penalties.collect());
    (!part.serves.is_empty()).then_some(part)
}

fn part_plan(member: &Member, runs: &[Run], flows: Vec<super::Flow>, shortfall: Vec<f64>) -> super::Plan {
    let tier = |(pool, run): (usize, &Run)| member.block.levels[pool].get(run.level).map(|l| l.tier);
    super::Plan {
        replicas: runs.iter().map(|r| r.replicas).collect(),
        tiers: runs.iter().enumerate().map(tier).collect(),
        flows,
        shortfall,
    }
}

fn part_runs(member: &Member, plan: &super::Plan) -> Vec<Run> {
    let level = |pool: usize, tier: usize| member.block.levels[pool].iter().position(|l| l.tier == tier);
    let run = |pool: usize| Run {
        replicas: plan.replicas[pool],
        level: plan.tiers[pool].and_then(|tier| level(pool, tier)).unwrap_or(0),
    };
    (0..plan.replicas.len()).map(run).collect()
}
