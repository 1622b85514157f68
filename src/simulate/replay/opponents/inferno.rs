//! Inferno: birth-death inversion per class and pool on measured rates, one accelerator for each, greedy.
//!
//! Rule: `llm-inferno/queue-analysis` for the largest rate of one replica within mean latencies,
//! `llm-inferno/optimizer-light:pkg/core/allocation.go` and `pkg/solver/greedy.go` for the choice. A server is a model's
//! class; it takes replicas for its measured rate in one pool of the given hardware, that of the least value: cost, with
//! a penalty for a change of accelerator. Every minute, on rates and mean lengths of the window, no forecast. Targets
//! are the class's own, taken for means as there, times the swept factor; a class with a deadline has none and takes
//! nine tenths of the highest rate. The concurrency is what the server allows and its KV memory holds at these lengths,
//! ten times as many may queue. Its number is followed exactly; requests go where their class is served.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::capability::replica_for;
use super::law::least;
use super::view::{mean_lengths, pools_of, rate_of};
use super::{Kind, Opponent, Order, Seen, Setting};
use crate::perf::{Chain, Means, Parameters, Service, Shape, size};
use crate::plan::instance::Current;
use crate::plan::peers::{Choice, Claim, greedy, transition_value};
use crate::policy::Promise;
use crate::simulate::RouteShares;

pub(super) const KIND: Inferno = Inferno;

/// Between two decisions, seconds.
const PERIOD_SECONDS: f64 = 60.0;
/// A sync may come a little early.
const SLACK_SECONDS: f64 = 1.0;
/// Requests that may queue, for each that may run.
const QUEUE: usize = 10;
/// Share of the highest rate that is taken where no latency is promised.
const STABLE: f64 = 0.9;
/// Share of the KV memory that requests fill.
const KV_SHARE: f64 = 0.9;
/// Steps per e-fold to which lengths are rounded: what is found for a length is kept.
const LENGTH_STEPS: f64 = 20.0;
/// Lengths where nothing says any, tokens.
const FALLBACK: (f64, f64) = (1024.0, 256.0);

/// See the module.
#[derive(Debug)]
pub(super) struct Inferno;

#[derive(Debug)]
struct Rule<'a> {
    setting: Setting<'a>,
    decided_at_seconds: f64,
    order: Order,
    /// What each (model, class) runs.
    current: BTreeMap<(usize, usize), Current>,
    /// Rate of one replica by pool, class and rounded lengths, requests per second.
    rates: HashMap<(usize, usize, i32, i32), f64>,
}

impl Kind for Inferno {
    fn name(&self) -> &'static str {
        "inferno"
    }

    fn about(&self) -> &'static str {
        "queueing model within mean latencies, greedy choice of accelerators (llm-inferno)"
    }

    fn target(&self) -> &'static str {
        "factor on the classes' latency targets"
    }

    fn targets(&self) -> Vec<f64> {
        vec![1.5, 1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule {
            setting,
            decided_at_seconds: f64::NEG_INFINITY,
            order: Order::default(),
            current: BTreeMap::new(),
            rates: HashMap::new(),
        })
    }
}

/// Largest rate of one replica within the means, requests per second; 0 when none is.
fn replica_rate(parameters: Parameters, shape: Shape, budget: f64, concurrency: u32, queue: usize, means: &Means) -> f64 {
    let chain = Chain::new(Service { parameters, shape, token_budget: budget }, concurrency);
    size(&chain, means, queue).rate
}

fn rounded(tokens: f64) -> i32 {
    (tokens.max(1.0).ln() * LENGTH_STEPS).round() as i32
}

fn tokens(steps: i32) -> f64 {
    (f64::from(steps) / LENGTH_STEPS).exp()
}

impl Rule<'_> {
    fn rate(&mut self, pool: usize, class: usize, (input, output): (f64, f64)) -> f64 {
        let key = (pool, class, rounded(input), rounded(output));
        if let Some(rate) = self.rates.get(&key) {
            return *rate;
        }
        let shape = Shape { input_tokens: tokens(key.2), output_tokens: tokens(key.3) };
        let replica = replica_for(&self.setting.policy.pools[pool], &shape);
        let (means, share) = match self.setting.policy.classes[class].promise {
            Promise::Latency { ttft_seconds, itl_seconds, .. } => {
                let factor = self.setting.target;
                (Means { ttft_seconds: ttft_seconds * factor, itl_seconds: itl_seconds * factor }, 1.0)
            }
            Promise::Deadline { .. } => (Means { ttft_seconds: f64::INFINITY, itl_seconds: f64::INFINITY }, STABLE),
        };
        let held = KV_SHARE * replica.kv_tokens / (shape.input_tokens + shape.output_tokens / 2.0);
        let concurrency = f64::from(replica.limits.max_num_seqs).min(held).max(1.0) as u32;
        let budget = f64::from(replica.limits.max_num_batched_tokens);
        let queue = QUEUE * concurrency as usize;
        let rate = share * replica_rate(replica.parameters, shape, budget, concurrency, queue, &means);
        self.rates.insert(key, rate);
        rate
    }

    /// One server's pools with the replicas for its rate.
    fn claim(&mut self, model: usize, class: usize, rate: f64, lengths: (f64, f64)) -> Claim {
        let policy = self.setting.policy;
        let current = self.current.get(&(model, class)).cloned();
        let mut choices = vec![];
        for pool in pools_of(&self.setting, model) {
            let each = self.rate(pool, class, lengths);
            if each <= 0.0 {
                continue;
            }
            let option = &policy.pools[pool];
            let replicas = (rate / each).ceil().clamp(1.0, 1e6) as u32;
            let cost = f64::from(replicas) * option.price_per_hour(&policy.accelerators);
            let units = vec![(option.accelerator, f64::from(option.accelerators_per_replica))];
            choices.push(Choice { pool, replicas, value: transition_value(current.as_ref(), pool, replicas, cost), units });
        }
        let name = format!("{}/{}", policy.models[model].id(), policy.classes[class].name);
        Claim { name, priority: -i64::from(policy.classes[class].priority), choices }
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Order {
        let policy = self.setting.policy;
        let (mut claims, mut servers) = (vec![], vec![]);
        for model in 0..policy.models.len() {
            let Some(rate) = rate_of(policy, seen, model) else { continue };
            let lengths = mean_lengths(self.setting.policy, seen, model).unwrap_or(FALLBACK);
            for &(class, share) in &policy.models[model].classes {
                claims.push(self.claim(model, class, rate * share, lengths));
                servers.push((model, class));
            }
        }
        let mut stock: Vec<f64> = (0..policy.accelerators.len()).map(|a| f64::from(policy.can_be_had(a))).collect();
        let given = greedy(&mut claims, &mut stock);
        let mut routes = RouteShares::default();
        let mut replicas = vec![0; policy.pools.len()];
        let mut served = BTreeSet::new();
        for ((key, claim), given) in servers.iter().zip(&claims).zip(given) {
            let Some(given) = given else { continue };
            let pool = claim.choices[given.choice].pool;
            let price = policy.pools[pool].price_per_hour(&policy.accelerators);
            let cost = price * f64::from(given.replicas);
            replicas[pool] += given.replicas;
            routes.0.insert(*key, vec![(pool, 1.0)]);
            self.current.insert(*key, Current { accelerator: pool, replicas: given.replicas, cost });
            served.insert(key.0);
        }
        for model in 0..policy.models.len() {
            for pool in pools_of(&self.setting, model) {
                let option = &policy.pools[pool];
                // Where nothing is known or nothing fits, what runs stays.
                let wanted = if served.contains(&model) { replicas[pool] } else { seen.wanted[pool].max(least(option)) };
                replicas[pool] = wanted.clamp(option.min.min(option.max), option.max);
            }
        }
        Order { replicas, routes: Some(routes) }
    }
}

impl Opponent for Rule<'_> {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        if seen.now_seconds - self.decided_at_seconds < PERIOD_SECONDS - SLACK_SECONDS {
            return Order { replicas: self.order.replicas.clone(), routes: None };
        }
        self.decided_at_seconds = seen.now_seconds;
        self.order = self.decide(seen);
        self.order.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    /// Published with queue-analysis v0.7: within 60 ms and 20 ms one replica takes 2.9494622 requests per second.
    #[test]
    fn the_published_rate_of_a_replica() {
        let parameters = Parameters::uniform(0.012, 5e-5, 5e-7);
        let shape = Shape { input_tokens: 128.0, output_tokens: 512.0 };
        let means = Means { ttft_seconds: 0.060, itl_seconds: 0.020 };
        let rate = replica_rate(parameters, shape, 8192.0, 48, 128, &means);
        assert!((rate / 2.949_462_2 - 1.0).abs() < 1e-4, "{rate}");
    }

    fn rule<'a>(room: &'a Room, target: f64) -> Rule<'a> {
        Rule {
            setting: room.setting(target),
            decided_at_seconds: f64::NEG_INFINITY,
            order: Order::default(),
            current: BTreeMap::new(),
            rates: HashMap::new(),
        }
    }

    #[test]
    fn takes_replicas_for_the_measured_rate_and_stays_for_a_minute() {
        let room = Room::on(0);
        let mut rule = rule(&room, 0.5);
        let each = rule.rate(0, 0, (500.0, 100.0));
        let scene = |rate: f64, at: f64| Scene::new(&[2, 0]).at(at).rate(0, rate * each);
        let first = rule.sync(&scene(2.5, 0.0).seen());
        assert_eq!(first.replicas, [3, 0]);
        assert_eq!(first.routes.expect("routes").0[&(0, 0)], [(0, 1.0)]);
        assert_eq!(rule.sync(&scene(5.5, 15.0).seen()).replicas, [3, 0]);
        assert_eq!(rule.sync(&scene(5.5, 60.0).seen()).replicas, [6, 0]);
        assert_eq!(rule.sync(&scene(0.0, 120.0).seen()).replicas, [1, 0], "the last one stays");
    }

    /// A tighter factor leaves less for each replica; one that nobody meets leaves what runs.
    #[test]
    fn the_target_is_a_factor_on_the_latencies() {
        let room = Room::on(0);
        let each = |target: f64| rule(&room, target).rate(0, 0, (500.0, 100.0));
        assert!(each(0.3) < each(0.6), "{} {}", each(0.3), each(0.6));
        assert_eq!(each(0.01), 0.0);
        let scene = Scene::new(&[3, 0]).rate(0, 50.0);
        assert_eq!(rule(&room, 0.01).sync(&scene.seen()).replicas, [3, 0]);
    }

    /// The cheaper way is taken; what runs is left only for a gain above a tenth of both costs.
    #[test]
    fn one_pool_serves_the_class() {
        let room = Room::split(0.5);
        let order = rule(&room, 0.5).sync(&Scene::new(&[2, 2]).rate(0, 40.0).rate(1, 40.0).seen());
        let of = |pool: usize| rule(&room, 0.5).rate(pool, 0, (500.0, 100.0));
        let cost = |pool: usize| (80.0 / of(pool)).ceil() * [1.5, 3.0][pool];
        let cheaper = usize::from(cost(1) < cost(0));
        assert!(order.replicas[cheaper] > 0 && order.replicas[1 - cheaper] == 0, "{order:?}");
    }

    #[test]
    fn without_a_rate_what_runs_stays() {
        let room = Room::split(0.5);
        let mut scene = Scene::new(&[2, 3]);
        for pool in &mut scene.observation.pools {
            pool.arrival_rate = crate::observe::Signal::missing();
        }
        assert_eq!(rule(&room, 0.5).sync(&scene.seen()).replicas, [2, 3]);
    }
}
