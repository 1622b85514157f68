//! The token-based saturation rule of llm-d's workload variant autoscaler, second version.
//!
//! Rule: `deanlorenz/llm-d-workload-variant-autoscaler:internal/engines/analyzers/saturation_v2/analyzer.go` and
//! `internal/engines/pipeline/{cost_aware_optimizer,rescale}.go`. A replica holds the lesser of 0.80 of its KV memory
//! and of the tokens that were in it when its queue was saturated (mean of the last ten times for answers of this
//! length), before that of what its arguments let it hold. A model needs its demand over the upper utilisation, with
//! what starts counted; that much is bought where a token of room costs least. What is over its demand over the lower
//! utilisation is taken from the dearest. Where accelerators do not suffice, they are shared out by priority and
//! demand ([`super::water_fill`]).
//!
//! The swept target is the upper utilisation (0.85 there); the lower one is 0.15 below it, as there. The queue of an
//! inference gateway is not seen here: requests wait in the servers, where the rule counts them too. Its number is
//! followed exactly, at every sync.

use std::collections::{BTreeMap, VecDeque};

use super::view::{mean_lengths, pools_of};
use super::water_fill::{Share, water_fill};
use super::wva_v1::{Peaks, QUEUE_THRESHOLD, begun};
use super::{Kind, Opponent, Order, Seen, Setting};
use crate::policy::Pool;

pub(super) const KIND: WvaV2 = WvaV2;

const KV_THRESHOLD: f64 = 0.8;
/// Upper minus lower utilisation.
const BAND: f64 = 0.15;
/// Observed capacities that are remembered.
const REMEMBERED: usize = 10;
/// Mean answers below these are short and medium, tokens.
const LENGTHS: [f64; 2] = [100.0, 500.0];
/// Loads are sums and quotients: what is whole up to rounding is whole.
const ROUNDING: f64 = 1e-9;

/// See the module.
#[derive(Debug)]
pub(super) struct WvaV2;

#[derive(Debug)]
struct Rule<'a> {
    setting: Setting<'a>,
    peaks: Peaks,
    /// Tokens in saturated replicas, newest last, by pool and class of answer length.
    observed: BTreeMap<(usize, usize), VecDeque<f64>>,
    /// Tokens that a replica of the pool held when last seen.
    stored: BTreeMap<usize, f64>,
}

/// A pool as the optimiser sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Variant {
    pool: usize,
    price: f64,
    /// Tokens that one replica holds.
    capacity: f64,
    replicas: u32,
    min: u32,
    max: u32,
}

impl Kind for WvaV2 {
    fn name(&self) -> &'static str {
        "wva-v2"
    }

    fn about(&self) -> &'static str {
        "saturation rule on tokens (llm-d-workload-variant-autoscaler, second version)"
    }

    fn target(&self) -> &'static str {
        "utilisation above which replicas are added, 0..1"
    }

    fn targets(&self) -> Vec<f64> {
        vec![0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule { setting, peaks: Peaks::default(), observed: BTreeMap::new(), stored: BTreeMap::new() })
    }
}

/// Tokens that the arguments of a server let it hold, for prompts and answers of these lengths; 0 without answers.
fn by_arguments(token_budget: f64, most_sequences: f64, input: f64, output: f64) -> f64 {
    if output <= 0.0 {
        return 0.0;
    }
    (token_budget * output / (input + output)).min(most_sequences) * (input + output / 2.0)
}

/// Middle of the values; the mean of the two middle ones of an even number; `None` without any.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

/// Buy `needed` tokens of room, where they cost least first.
fn grow(variants: &mut [Variant], mut needed: f64) {
    variants.sort_by(|a, b| (a.price / a.capacity).total_cmp(&(b.price / b.capacity)).then(a.pool.cmp(&b.pool)));
    for variant in variants.iter_mut().filter(|v| v.capacity > 0.0) {
        let wanted = (needed / variant.capacity - ROUNDING).ceil().max(0.0) as u32;
        let added = wanted.min(variant.max.saturating_sub(variant.replicas));
        variant.replicas += added;
        needed -= f64::from(added) * variant.capacity;
    }
}

/// Give back at most `spare` tokens of room, the dearest replicas first; the last one of all stays.
fn shrink(variants: &mut [Variant], mut spare: f64) {
    variants.sort_by(|a, b| b.price.total_cmp(&a.price).then(a.capacity.total_cmp(&b.capacity)));
    for i in 0..variants.len() {
        let others: u32 = variants.iter().map(|v| v.replicas).sum::<u32>() - variants[i].replicas;
        let variant = &mut variants[i];
        if variant.capacity <= 0.0 {
            continue;
        }
        let least = if others == 0 { variant.min.max(1) } else { variant.min };
        let too_many = (spare / variant.capacity + ROUNDING).floor().max(0.0) as u32;
        let removed = too_many.min(variant.replicas.saturating_sub(least));
        variant.replicas -= removed;
        spare -= f64::from(removed) * variant.capacity;
    }
}

impl Rule<'_> {
    /// Tokens that one replica holds, from its peaks: in use now, all of its KV memory, waiting requests.
    fn replica_capacity(&mut self, pool: usize, in_use: f64, kv_tokens: f64, waiting: f64, shape: (f64, f64)) -> f64 {
        let memory = kv_tokens * KV_THRESHOLD;
        let length = LENGTHS.iter().filter(|limit| shape.1 >= **limit).count();
        let observed = self.observed.entry((pool, length)).or_default();
        let compute = if waiting >= QUEUE_THRESHOLD && in_use > 0.0 {
            observed.push_back(in_use);
            if observed.len() > REMEMBERED {
                observed.pop_front();
            }
            in_use
        } else if observed.is_empty() {
            let limits = &self.setting.policy.pools[pool].limits;
            let (budget, most) = (f64::from(limits.max_num_batched_tokens), f64::from(limits.max_num_seqs));
            match by_arguments(budget, most, shape.0, shape.1) {
                tokens if tokens > 0.0 => tokens,
                _ => memory,
            }
        } else {
            observed.iter().sum::<f64>() / observed.len() as f64
        };
        memory.min(compute)
    }

    /// Capacity of one replica of the pool, and the tokens that its replicas have or have waiting.
    fn measure(&mut self, seen: &Seen<'_>, pool: usize, shape: (f64, f64)) -> (f64, f64) {
        let (mut capacities, mut demand) = (vec![], 0.0);
        for replica in &seen.replicas[pool] {
            let (usage, waiting) = self.peaks.of(replica.id);
            let in_use = usage * replica.kv_tokens;
            capacities.push(self.replica_capacity(pool, in_use, replica.kv_tokens, waiting, shape));
            demand += in_use + waiting * shape.0;
        }
        let policy_pool = &self.setting.policy.pools[pool];
        let capacity = match median(capacities) {
            Some(live) => {
                self.stored.insert(pool, live);
                live
            }
            None => self.unseen(pool, policy_pool, shape),
        };
        (capacity, demand)
    }

    /// Capacity of a replica of a pool without any: what its arguments say, at most what it once showed.
    fn unseen(&self, index: usize, pool: &Pool, shape: (f64, f64)) -> f64 {
        let (budget, most) = (f64::from(pool.limits.max_num_batched_tokens), f64::from(pool.limits.max_num_seqs));
        let memory = self.stored.get(&index).copied().unwrap_or(KV_THRESHOLD * pool.kv_tokens);
        match by_arguments(budget, most, shape.0, shape.1) {
            tokens if tokens > 0.0 => memory.min(tokens),
            _ => memory,
        }
    }

    /// Replicas of the model's pools, changed in `replicas`.
    fn settle(&mut self, seen: &Seen<'_>, model: usize, replicas: &mut [u32]) {
        let shape = mean_lengths(self.setting.policy, seen, model).unwrap_or_default();
        let policy = self.setting.policy;
        let (mut variants, mut demand, mut supply, mut coming) = (vec![], 0.0, 0.0, 0.0);
        for pool in pools_of(&self.setting, model) {
            let (capacity, tokens) = self.measure(seen, pool, shape);
            let option = &policy.pools[pool];
            let price = option.price_per_hour(&policy.accelerators);
            demand += tokens;
            supply += seen.replicas[pool].len() as f64 * capacity;
            coming += f64::from(replicas[pool]) * capacity;
            variants.push(Variant { pool, price, capacity, replicas: replicas[pool], min: option.min, max: option.max });
        }
        let up = self.setting.target;
        let (required, spare) = (demand / up - coming, supply - demand / (up - BAND).max(BAND / 2.0));
        if required > 0.0 {
            grow(&mut variants, required);
        } else if spare > 0.0 {
            shrink(&mut variants, spare);
        }
        for variant in variants {
            replicas[variant.pool] = variant.replicas;
        }
    }

    /// Share out accelerators of which more are asked for than there are.
    fn rescale(&self, replicas: &mut [u32]) {
        let policy = self.setting.policy;
        for accelerator in 0..policy.accelerators.len() {
            let pools: Vec<usize> =
                (0..policy.pools.len()).filter(|p| policy.pools[*p].accelerator == accelerator).collect();
            let share = |&p: &usize| {
                let pool = &policy.pools[p];
                let classes = policy.models[pool.model].classes.iter().map(|(class, _)| policy.classes[*class].priority);
                let need = replicas[p] * pool.accelerators_per_replica;
                let floor = (pool.min * pool.accelerators_per_replica).min(need);
                // Weights are above 0; priorities of the policy need not be.
                let priority = f64::from(classes.max().unwrap_or(0).max(0)) + 1.0;
                Share { floor, cap: need, weight: priority * f64::from(need) }
            };
            let shares: Vec<Share> = pools.iter().map(share).collect();
            let stock = policy.can_be_had(accelerator);
            if shares.iter().map(|s| u64::from(s.cap)).sum::<u64>() > u64::from(stock) {
                for (&p, units) in pools.iter().zip(water_fill(&shares, stock).units) {
                    replicas[p] = units / policy.pools[p].accelerators_per_replica.max(1);
                }
            }
        }
    }
}

impl Opponent for Rule<'_> {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.peaks.note(seen);
        let mut replicas = begun(&self.setting, seen);
        for model in 0..self.setting.policy.models.len() {
            self.settle(seen, model, &mut replicas);
        }
        self.rescale(&mut replicas);
        Order { replicas, routes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{KV_TOKENS, Room, Scene};
    use super::*;

    fn rule(room: &Room) -> Rule<'_> {
        let setting = room.setting(0.85);
        Rule { setting, peaks: Peaks::default(), observed: BTreeMap::new(), stored: BTreeMap::new() }
    }

    /// Vectors of the source's own tests: tokens in use, KV memory, queue.
    #[test]
    fn a_replica_holds_what_memory_or_its_saturated_queue_say() {
        let room = Room::on(0);
        let long = (500.0, 2000.0);
        assert_eq!(rule(&room).replica_capacity(0, 5000.0, KV_TOKENS, 0.0, long), 12_800.0);
        let mut saturated = rule(&room);
        assert_eq!(saturated.replica_capacity(0, 8000.0, KV_TOKENS, 6.0, long), 8000.0);
        assert_eq!(saturated.replica_capacity(0, 4000.0, KV_TOKENS, 10.0, long), 4000.0);
        assert_eq!(saturated.replica_capacity(0, 100.0, KV_TOKENS, 0.0, long), 6000.0, "the mean of both");
        assert_eq!(saturated.replica_capacity(0, 100.0, KV_TOKENS, 0.0, (9000.0, 0.0)), 12_800.0, "other answers");
    }

    #[test]
    fn arguments_bound_what_is_held() {
        assert_eq!(by_arguments(4096.0, 256.0, 500.0, 100.0), 140_800.0);
        assert_eq!(by_arguments(8192.0, 64.0, 100.0, 200.0), 12_800.0);
        assert_eq!(by_arguments(8192.0, 64.0, 100.0, 0.0), 0.0);
    }

    #[test]
    fn a_pool_without_replicas_holds_no_more_than_it_once_showed() {
        let room = Room::on(0);
        let mut rule = rule(&room);
        rule.stored.insert(0, 40_000.0);
        let limits = crate::perf::Limits { max_num_seqs: 256, max_num_batched_tokens: 4096 };
        let pool = Pool { limits, ..room.policy.pools[0].clone() };
        assert_eq!(rule.unseen(0, &pool, (500.0, 100.0)), 40_000.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![1.0, 3.0, 5.0, 7.0]), Some(4.0));
        assert_eq!(median(vec![5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    /// Vectors of the source's own tests: (replicas, price, tokens) of the cheap and the dear pool.
    #[test]
    fn room_is_bought_where_it_is_cheapest_and_given_back_where_it_is_dearest() {
        let variants = |cheap: u32, dear: u32| {
            let of = |pool, price, capacity, replicas| Variant { pool, price, capacity, replicas, min: 0, max: 99 };
            [of(0, 5.0, 10_000.0, cheap), of(1, 15.0, 20_000.0, dear)]
        };
        let after = |mut variants: [Variant; 2], change: fn(&mut [Variant], f64), tokens: f64| {
            change(&mut variants, tokens);
            variants.sort_by_key(|v| v.pool);
            variants.map(|v| v.replicas)
        };
        assert_eq!(after(variants(2, 1), grow, 5000.0), [3, 1]);
        assert_eq!(after(variants(1, 0), grow, 25_000.0), [4, 0]);
        assert_eq!(after(variants(3, 2), shrink, 15_000.0), [2, 2]);
        assert_eq!(after(variants(1, 1), shrink, 30_000.0), [1, 0]);
    }

    /// Four replicas with 8,000 of 12,800 tokens each: at 0.85 they need 37,647 of the 51,200 and at 0.70 45,714; one
    /// replica more than these would be over. With 11,200 each 52,706 are needed.
    #[test]
    fn grows_and_shrinks_by_tokens() {
        let room = Room::on(0);
        let at = |usage: f64, waiting: f64, n: u32, starting: u32| {
            let mut scene = Scene::new(&[n, 0]).gauges(0, 9.0, waiting, usage).starting(0, starting);
            scene.observation.pools[0].output_tokens.value.as_mut().unwrap().sum = 2e6;
            rule(&room).sync(&scene.seen()).replicas[0]
        };
        assert_eq!(at(0.5, 0.0, 4, 0), 4);
        assert_eq!(at(0.7, 0.0, 4, 0), 5);
        assert_eq!(at(0.7, 0.0, 4, 1), 5, "what starts counts");
        assert_eq!(at(0.3, 0.0, 4, 0), 3, "27,429 leave room for one replica less, not for two");
        assert_eq!(at(0.5, 4.0, 4, 0), 4, "40,000 tokens with those that wait need 47,059");
        assert_eq!(at(0.0, 0.0, 4, 0), 1);
    }

    #[test]
    fn accelerators_that_do_not_suffice_are_shared_out() {
        let mut room = Room::split(0.5);
        room.policy.accelerators[0].stock = 5;
        room.policy.pools[1].accelerator = 0;
        let mut replicas = [6, 4];
        rule(&room).rescale(&mut replicas);
        assert_eq!(replicas, [3, 2]);
    }
}
