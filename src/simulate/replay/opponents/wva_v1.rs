//! The saturation rule of llm-d's workload variant autoscaler, first version.
//!
//! Rule: `llm-d/llm-d-workload-variant-autoscaler:docs/saturation-analyzer.md`. A replica is saturated at a KV-cache
//! use of 0.80 or 5 waiting requests, peaks of the last minute. Once a minute, by model: one replica more in the
//! cheapest pool when the others' mean spare is under 0.1 of the KV cache or under 3 requests; one less in the dearest
//! when the load spread over one replica less leaves that spare. Pools with replicas that start are skipped; a pool is
//! not scaled below 1. The swept target is the KV threshold; the other figures stay. Its number is followed exactly,
//! as by an HPA with tolerance 0: with the default of 0.1 it could not grow beyond 10 replicas at all.

use std::collections::{BTreeMap, VecDeque};

use super::view::{pending, pools_of};
use super::{Kind, Opponent, Order, Seen, Setting};

pub(super) const KIND: WvaV1 = WvaV1;

/// Waiting requests at which a replica is saturated.
pub(super) const QUEUE_THRESHOLD: f64 = 5.0;
const KV_SPARE: f64 = 0.1;
const QUEUE_SPARE: f64 = 3.0;
/// Between two decisions; also the time whose peaks count. Seconds.
const PERIOD_SECONDS: f64 = 60.0;
/// A sync may come a little early.
const SLACK_SECONDS: f64 = 1.0;

/// See the module.
#[derive(Debug)]
pub(super) struct WvaV1;

#[derive(Debug)]
struct Rule<'a> {
    setting: Setting<'a>,
    peaks: Peaks,
    decided_at_seconds: f64,
}

/// The gauges of each replica over the last minute.
#[derive(Debug, Default)]
pub(super) struct Peaks {
    /// (Unix time, KV use, waiting requests) by replica, oldest first.
    samples: BTreeMap<u64, VecDeque<(f64, f64, f64)>>,
}

impl Peaks {
    /// Take in what is seen of all pools; replicas that are not seen any more are forgotten.
    pub fn note(&mut self, seen: &Seen<'_>) {
        for replica in seen.replicas.iter().flatten() {
            let sample = (seen.now_seconds, replica.kv_usage, replica.waiting);
            self.samples.entry(replica.id).or_default().push_back(sample);
        }
        self.samples.retain(|_, samples| {
            samples.retain(|(at, ..)| seen.now_seconds - at < PERIOD_SECONDS);
            samples.back().is_some_and(|(at, ..)| *at >= seen.now_seconds)
        });
    }

    /// Highest KV use and highest number of waiting requests of a replica in the last minute.
    pub fn of(&self, id: u64) -> (f64, f64) {
        let samples = self.samples.get(&id).into_iter().flatten();
        samples.fold((0.0, 0.0), |(kv, queue), (_, k, q)| (f64::max(kv, *k), f64::max(queue, *q)))
    }
}

/// What becomes of a model's replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    More,
    Fewer,
    None,
}

/// The analysis of a model's replicas: (KV use, waiting requests) of each.
fn analyse(replicas: &[(f64, f64)], kv_threshold: f64) -> Change {
    let free: Vec<_> = replicas.iter().filter(|(kv, queue)| *kv < kv_threshold && *queue < QUEUE_THRESHOLD).collect();
    let (kv, queue) = free.iter().fold((0.0, 0.0), |(k, q), (kv, queue)| (k + kv, q + queue));
    let n = free.len() as f64;
    let spare = |replicas: f64| (kv_threshold - kv / replicas, QUEUE_THRESHOLD - queue / replicas);
    let enough = |(kv, queue): (f64, f64)| kv >= KV_SPARE && queue >= QUEUE_SPARE;
    if free.is_empty() || !enough(spare(n)) {
        return Change::More;
    }
    if free.len() >= 2 && enough(spare(n - 1.0)) { Change::Fewer } else { Change::None }
}

impl Kind for WvaV1 {
    fn name(&self) -> &'static str {
        "wva-v1"
    }

    fn about(&self) -> &'static str {
        "saturation rule, one replica at a time (llm-d-workload-variant-autoscaler, first version)"
    }

    fn target(&self) -> &'static str {
        "KV-cache use at which a replica is saturated, 0..1"
    }

    fn targets(&self) -> Vec<f64> {
        vec![0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule { setting, peaks: Peaks::default(), decided_at_seconds: f64::NEG_INFINITY })
    }
}

/// A model's pools of the given hardware, the cheapest first, then by name.
pub(super) fn by_price(setting: &Setting<'_>, model: usize) -> Vec<usize> {
    let mut pools = pools_of(setting, model);
    let price = |p: &usize| setting.policy.pools[*p].price_per_hour(&setting.policy.accelerators);
    pools.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.cmp(b)));
    pools
}

/// What is asked for now, of the given pools only; a model's cheapest pool has one replica where it has none at all.
pub(super) fn begun(setting: &Setting<'_>, seen: &Seen<'_>) -> Vec<u32> {
    let mut replicas = vec![0; setting.policy.pools.len()];
    for model in 0..setting.policy.models.len() {
        let pools = by_price(setting, model);
        for &pool in &pools {
            replicas[pool] = seen.wanted[pool].max(setting.policy.pools[pool].min);
        }
        if let Some(&cheapest) = pools.first()
            && pools.iter().all(|p| replicas[*p] == 0)
        {
            replicas[cheapest] = setting.policy.pools[cheapest].max.min(1);
        }
    }
    replicas
}

impl Opponent for Rule<'_> {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.peaks.note(seen);
        let mut replicas = begun(&self.setting, seen);
        if seen.now_seconds - self.decided_at_seconds < PERIOD_SECONDS - SLACK_SECONDS {
            return Order { replicas, routes: None };
        }
        self.decided_at_seconds = seen.now_seconds;
        let policy = self.setting.policy;
        for model in 0..policy.models.len() {
            let pools = by_price(&self.setting, model);
            let ready: Vec<_> = pools.iter().flat_map(|p| &seen.replicas[*p]).map(|r| self.peaks.of(r.id)).collect();
            if ready.is_empty() {
                continue;
            }
            let settled = |p: &&usize| pending(seen, **p) == 0;
            match analyse(&ready, self.setting.target) {
                Change::More => {
                    let room = |p: &&usize| replicas[**p] < policy.pools[**p].max;
                    if let Some(&p) = pools.iter().filter(settled).find(room) {
                        replicas[p] += 1;
                    }
                }
                Change::Fewer => {
                    let spare = |p: &&usize| replicas[**p] > policy.pools[**p].min.max(1);
                    if let Some(&p) = pools.iter().rev().filter(settled).find(spare) {
                        replicas[p] -= 1;
                    }
                }
                Change::None => {}
            }
        }
        Order { replicas, routes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    /// Published with the rule: uses of 65 and 72 % leave 0.115, with one at 76 % it is 0.095.
    #[test]
    fn the_published_examples() {
        assert_eq!(analyse(&[(0.65, 0.0), (0.72, 0.0)], 0.8), Change::None);
        assert_eq!(analyse(&[(0.65, 0.0), (0.76, 0.0)], 0.8), Change::More);
    }

    #[test]
    fn saturation_queues_and_the_load_on_one_less() {
        assert_eq!(analyse(&[(0.85, 0.0), (0.3, 6.0)], 0.8), Change::More, "all are saturated");
        assert_eq!(analyse(&[(0.3, 1.0), (0.3, 4.0)], 0.8), Change::More, "spare queue 2.5");
        assert_eq!(analyse(&[(0.3, 0.0), (0.3, 0.0)], 0.8), Change::Fewer, "0.6 on one leaves 0.2");
        assert_eq!(analyse(&[(0.4, 0.0), (0.4, 0.0)], 0.8), Change::None, "0.8 on one leaves nothing");
        assert_eq!(analyse(&[(0.1, 0.0)], 0.8), Change::None, "the last one stays");
    }

    #[test]
    fn grows_the_cheapest_that_is_settled_and_shrinks_the_dearest() {
        let room = Room::split(0.5);
        let once = |scene: Scene| WvaV1.start(room.setting(0.8)).sync(&scene.seen()).replicas;
        let busy = || Scene::new(&[2, 2]).gauges(0, 9.0, 0.0, 0.75).gauges(1, 9.0, 0.0, 0.75);
        assert_eq!(once(busy()), [3, 2]);
        assert_eq!(once(busy().starting(0, 1)), [3, 3]);
        assert_eq!(once(busy().starting(0, 1).starting(1, 2)), [3, 4], "nobody is settled");
        assert_eq!(once(Scene::new(&[2, 2])), [2, 1]);
        assert_eq!(once(Scene::new(&[2, 1])), [1, 1]);
        assert_eq!(once(Scene::new(&[0, 0])), [1, 0]);
    }

    #[test]
    fn decides_once_a_minute_on_the_peaks_of_it() {
        let room = Room::split(0.5);
        let mut rule = WvaV1.start(room.setting(0.8));
        let quiet = || Scene::new(&[2, 2]).gauges(0, 9.0, 0.0, 0.6).gauges(1, 9.0, 0.0, 0.6);
        let peak = || Scene::new(&[2, 2]).gauges(0, 9.0, 9.0, 0.9).gauges(1, 9.0, 9.0, 0.9);
        assert_eq!(rule.sync(&quiet().seen()).replicas, [2, 2]);
        assert_eq!(rule.sync(&peak().at(15.0).seen()).replicas, [2, 2]);
        assert_eq!(rule.sync(&quiet().at(60.0).seen()).replicas, [3, 2]);
    }
}
