//! Prices of the limits and columns of the models: the two sides of the decomposition, in turns.

use super::block::Run;
use super::effort::Meter;
use super::fleet::{Fleet, Master, Member};
use super::gub::Gub;
use super::milp::{self, Depth};
use super::search::{Found, Search};
use super::{Objective, Problem};

/// Weight of the last prices when new ones are taken: they swing less.
const SMOOTH: f64 = 0.3;
/// Gain of a round, relative, below which no further one is worth its work.
const LEAST_ROUND: f64 = 1e-4;
/// Gap between the relaxation's prices and its master at which they are good enough to begin with.
const RELAXED_GAP: f64 = 1e-3;
/// Replicas of a model up to which the search begins from its last plan; with more, the relaxation knows better.
const FEW_REPLICAS: u32 = 30;

/// Rounds of exact answers at most, and the gap between the bound and the master at which they end.
const CERTIFY_ROUNDS: usize = 12;
const CERTIFIED: f64 = 2e-3;
/// The part of the models (one in so many) after which a round's whole work is known well enough.
const SURE_AFTER: usize = 6;
/// How far the exact answer of one model is searched.
const DEPTH: Depth = Depth { gap: 2e-3, slices: 6 };

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

    /// Column generation with exact answers: better columns and a bound. The last prices that raised the bound stay.
    ///
    /// The first round ends at `first` units, the others at `further`: they are for fleets that are soon done.
    /// Returns whether every model was answered.
    pub(super) fn certify(&mut self, first: u64, further: u64, meter: &mut Meter<'_>) -> bool {
        let mut asked = self.prices.clone();
        let mut is_whole = true;
        for round in 0..CERTIFY_ROUNDS {
            let until = if round == 0 { first } else { further };
            let (bound, is_answered) = self.certify_at(&asked, until, meter);
            is_whole &= round > 0 || is_answered;
            let is_better = bound > self.bound;
            let gain = (bound - self.bound) / bound.abs().max(f64::MIN_POSITIVE);
            if is_better {
                self.bound = bound;
                self.prices.clone_from(&asked);
            }
            let master = self.master();
            meter.spend(master.work);
            if meter.is_spent()
                || meter.used() > further
                || master.cost - self.bound < CERTIFIED * master.cost.abs()
                || gain.abs() < LEAST_ROUND
            {
                break;
            }
            asked = master.prices.iter().zip(&self.prices).map(|(new, old)| 0.5 * new + 0.5 * old).collect();
        }
        is_whole
    }

    /// The bound at these prices; where the effort ends before the last model, the rest of it is that of the relaxation.
    /// What cannot be done by `until` ends as soon as that shows.
    fn certify_at(&mut self, prices: &[f64], until: u64, meter: &mut Meter<'_>) -> (f64, bool) {
        let limits = self.most.len();
        let mut gub = Gub::default();
        let mut bound: f64 = -prices.iter().zip(&self.most).map(|(p, m)| p * m).sum::<f64>();
        let (begun, models) = (meter.used(), self.members.len());
        let (mut is_late, mut answered) = (false, 0);
        for (m, member) in self.members.iter_mut().enumerate() {
            let each = (meter.used() - begun) / (m as u64).max(1);
            is_late |= m >= models.div_ceil(SURE_AFTER) && begun + each * models as u64 > until;
            is_late |= meter.used() > until || meter.is_spent();
            let asked = member.prices(prices);
            let (relaxed, _) = member.block.relaxed(&asked, &[], &mut gub);
            meter.spend(1 + gub.pivots / 4);
            let part = if is_late { None } else { priced_part(member, &asked.replica) };
            let Some(part) = part else {
                bound += relaxed;
                continue;
            };
            let best = member.best_at(prices);
            let (flows, shortfall) = member.block.flows(&asked, &member.columns[best].runs, &mut gub);
            let start = part_plan(member, &member.columns[best].runs, flows, shortfall);
            answered += 1;
            match milp::bounded(&part, &start, DEPTH, meter) {
                Some(found) => {
                    bound += found.bound.max(relaxed).min(member.columns[best].priced(prices));
                    let runs = member.runs(&found.plan.replicas, &found.plan.tiers);
                    member.add(runs, limits, &mut gub);
                }
                None => bound += relaxed,
            }
        }
        self.exact_units = (meter.used() - begun).checked_div(answered).or(self.exact_units);
        (bound, !is_late)
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
    part.objective = Objective::Weighted(member.penalties());
    (!part.serves.is_empty()).then_some(part)
}

fn part_plan(member: &Member, runs: &[Run], flows: Vec<super::Flow>, shortfall: Vec<f64>) -> super::Plan {
    super::Plan { replicas: runs.iter().map(|r| r.replicas).collect(), tiers: member.tiers_of(runs), flows, shortfall }
}
