//! From what is known to the optimisation problem.

use super::calibrate::corrected;
use super::learn::{Known, planned_hit_ratio};
use super::limits::{clipped, limits_of};
use super::scopes;
use crate::control::State;
use crate::demand::Bucket;
use crate::perf::{Capacity, Evidence, Limit, Replica, Shape, Target, Traffic};
use crate::plan::{Cell, Plan, PoolOption, Problem, Serve};
use crate::policy::{Mode, Policy, Pool, Promise, Role};
use crate::safety::Knowledge;

/// Time over which the cost of starting a replica is spread, seconds: a replica that is started is
/// expected to be needed for half an hour.
const START_SPREAD_SECONDS: f64 = 1800.0;
/// How much more than the best possible latency a cell is given that cannot meet its target anywhere:
/// its load is still carried, late.
const BEST_EFFORT: f64 = 2.0;

/// Which pools may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every pool that is not off.
    All,
    /// Only pools in mode `act`; the others stay as they are.
    ActingOnly,
}

/// The problem and what its numbers mean.
#[derive(Clone)]
pub(super) struct Built {
    pub problem: Problem,
    /// Capacity behind `problem.serves[i]`.
    pub capacities: Vec<Capacity>,
    /// How much of `problem.serves[i]` is over what the figures say, as a factor of at least 1.
    stretches: Vec<f64>,
    /// Shape of each cell.
    pub shapes: Vec<Shape>,
    /// True for a cell that no pool can serve within its class's targets.
    pub infeasible: Vec<bool>,
    pub replicas: Vec<Replica>,
}

pub(super) fn build(policy: &Policy, known: &Known, state: &mut State, scope: Scope) -> Built {
    let replicas: Vec<Replica> = policy.pools.iter().map(|pool| replica_of(pool, state)).collect();
    let pools: Vec<PoolOption> = (0..policy.pools.len()).map(|p| pool_option(policy, known, state, p, scope)).collect();
    let limits = scopes::rows(policy, known);
    let mut built = Built {
        problem: Problem { pools, limits, ..Problem::default() },
        capacities: vec![],
        stretches: vec![],
        shapes: vec![],
        infeasible: vec![],
        replicas,
    };
    for m in 0..policy.models.len() {
        add_cells(policy, known, state, m, &mut built);
    }
    built
}

/// What one replica of the pool is taken to be: the servers' own reports and arguments override the estimate.
fn replica_of(pool: &Pool, state: &State) -> Replica {
    let memory = state.pools.get(&pool.id());
    let reported = memory.and_then(|m| m.kv_tokens);
    let known = limits_of(pool, memory);
    let evidence = match (reported.is_some() || known.from_server, pool.evidence) {
        (true, Evidence::OutsideIn) => Evidence::Range,
        (_, evidence) => evidence,
    };
    let replica = Replica {
        prefix_hit_ratio: planned_hit_ratio(memory.and_then(|m| m.prefix_hit_ratio)),
        spread: pool.margin,
        ..Replica::new(pool.parameters, known.limits, reported.unwrap_or(pool.kv_tokens), evidence)
    };
    corrected(pool, replica, state)
}

/// The replica for requests of one shape: what is estimated depends on it. What the servers showed of themselves
/// changes an estimate for any shape by the same factors.
pub(super) fn for_shape(pool: &Pool, replica: &Replica, shape: &Shape) -> Replica {
    let Some(paper) = &pool.paper else { return *replica };
    let kv_tokens = if replica.kv_tokens == pool.kv_tokens { paper.kv_tokens(shape) } else { replica.kv_tokens };
    let parameters = paper.parameters(shape).changed_as(&pool.parameters, &replica.parameters);
    Replica { parameters, kv_tokens, ..*replica }
}

fn pool_option(policy: &Policy, known: &Known, state: &State, p: usize, scope: Scope) -> PoolOption {
    let pool = &policy.pools[p];
    let pool_known = &known.pools[p];
    let published = state.pools.get(&pool.id()).and_then(|m| m.published);
    let stays = pool.mode == Mode::Off || (scope == Scope::ActingOnly && pool.mode != Mode::Act);
    let base = published.or(pool_known.current).unwrap_or(0);
    let withheld = state.pools.get(&pool.id()).and_then(|m| m.withheld);
    let (min, max) = if stays {
        let runs = pool_known.current.unwrap_or(base);
        (runs, runs)
    } else {
        let min = pool_known.floor.replicas;
        match pool_known.knowledge {
            // What did not come is not counted on: others take over until it does.
            Knowledge::Full => (min, pool.max.min(withheld.unwrap_or(u32::MAX)).max(min)),
            Knowledge::Partial => (min.max(base), pool.max.max(base).max(min)),
            Knowledge::None => (base, base),
        }
    };
    let price = pool.price_per_hour(&policy.accelerators);
    PoolOption {
        name: pool.id(),
        price_per_hour: price,
        start_cost_per_hour: price * pool.startup_seconds / START_SPREAD_SECONDS,
        stop_cost_per_hour: 0.0,
        min,
        max,
        running: pool_known.current.unwrap_or(base),
        tier: state.pools.get(&pool.id()).and_then(|m| m.tier),
    }
}

/// Time for which replicas that were asked for are waited for, seconds.
pub(super) fn patience_seconds(pool: &Pool) -> f64 {
    2.0 * pool.startup_seconds
}

/// Latency levels of a model, tightest first, and the level of each of its classes.
pub(super) fn levels(policy: &Policy, model: usize) -> (Vec<Target>, Vec<usize>) {
    let target = |class: usize| match policy.classes[class].promise {
        Promise::Latency { quantile, ttft_seconds, itl_seconds } => Target { quantile, ttft_seconds, itl_seconds },
        Promise::Deadline { .. } => Target::THROUGHPUT,
    };
    let targets: Vec<Target> = policy.models[model].classes.iter().map(|&(class, _)| target(class)).collect();
    let mut levels = targets.clone();
    levels.sort_by(|a, b| {
        a.itl_seconds
            .total_cmp(&b.itl_seconds)
            .then(a.ttft_seconds.total_cmp(&b.ttft_seconds))
            .then(b.quantile.total_cmp(&a.quantile))
    });
    levels.dedup();
    let level_of = targets.iter().map(|t| levels.iter().position(|l| l == t).unwrap_or(0)).collect();
    (levels, level_of)
}

fn add_cells(policy: &Policy, known: &Known, state: &mut State, model: usize, built: &mut Built) {
    let (levels, level_of) = levels(policy, model);
    let model_known = &known.models[model];
    for (i, &(class, rate)) in model_known.classes.iter().enumerate() {
        let name = format!("{}/{}", policy.models[model].id(), policy.classes[class].name);
        let groups: Vec<(String, f64, Vec<Bucket>)> = if policy.planner.route_by_length {
            let alone = |b: &Bucket| Bucket { share: 1.0, ..b.clone() };
            model_known.buckets.iter().map(|b| (format!("{name}/{}", b.name), b.share, vec![alone(b)])).collect()
        } else {
            vec![(name, 1.0, model_known.buckets.clone())]
        };
        for (name, share, buckets) in groups {
            let cell = built.problem.cells.len();
            let priority = policy.classes[class].priority;
            let may_wait = share * model_known.waits.get(i).copied().unwrap_or(0.0);
            built.problem.cells.push(Cell { name, model, class, priority, rate: rate * share, may_wait });
            built.shapes.push(mean_shape(&buckets));
            let mix = Mix { buckets: &buckets, traffic: &model_known.traffic };
            let found = ways(policy, state, built, cell, mix, &levels[..=level_of[i]], Lateness::Tolerated);
            built.infeasible.push(found.is_empty());
            let found = match found.is_empty() {
                true => ways(policy, state, built, cell, mix, &levels[level_of[i]..=level_of[i]], Lateness::Accepted)
                    .into_iter()
                    .map(|(serve, capacity)| (Serve { tier: level_of[i], ..serve }, capacity))
                    .collect(),
                false => found,
            };
            for (serve, capacity) in found {
                built.stretches.push(serve.rate / capacity.rate);
                built.problem.serves.push(serve);
                built.capacities.push(capacity);
            }
        }
    }
}

/// Requests of a cell.
#[derive(Clone, Copy)]
struct Mix<'m> {
    buckets: &'m [Bucket],
    traffic: &'m Traffic,
}

/// What becomes of lengths that cannot meet the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lateness {
    /// Carried late as long as they are few enough for the class's percentile.
    Tolerated,
    /// Carried late whatever they are: no pool can do better.
    Accepted,
}

/// Part of the requests outside a class's percentile that lengths out of reach may use up; the rest is
/// for bad luck.
const LATE_PART: f64 = 0.5;

/// Pools and latency levels that serve the cell. A pool that is operated at a tighter level keeps that
/// level for everybody it serves.
fn ways(
    policy: &Policy,
    state: &mut State,
    built: &Built,
    cell: usize,
    mix: Mix<'_>,
    levels: &[Target],
    lateness: Lateness,
) -> Vec<(Serve, Capacity)> {
    let mut found = vec![];
    for pool in usable(policy, built.problem.cells[cell].model) {
        let longest = limits_of(&policy.pools[pool], state.pools.get(&policy.pools[pool].id())).longest;
        let mix = Mix { buckets: &clipped(mix.buckets, longest), ..mix };
        let lived = state.live.get(&policy.pools[pool].id()).map(|memory| memory.experience.clone());
        for (tier, target) in levels.iter().enumerate() {
            if let Some(capacity) =
                mix_capacity(state, &policy.pools[pool], &built.replicas[pool], mix, target, lateness)
            {
                let rate = capacity.rate * lived.as_ref().map_or(1.0, |lived| lived.stretch(target));
                found.push((Serve { cell, pool, tier, rate, then: None }, capacity));
            }
        }
    }
    found
}

/// Capacity of one replica for a mix of lengths: the loads of its parts add up. `None` when the mix cannot
/// be served within the target.
fn mix_capacity(
    state: &mut State,
    pool: &Pool,
    replica: &Replica,
    requests: Mix<'_>,
    target: &Target,
    lateness: Lateness,
) -> Option<Capacity> {
    let (mut load, mut late, mut heaviest) = (0.0, 0.0, 0.0);
    let mut mix = Capacity { rate: 0.0, limit: Limit::Throughput, ttft_seconds: 0.0, itl_seconds: 0.0, batch: 0.0 };
    for bucket in requests.buckets {
        let replica = &for_shape(pool, replica, &bucket.shape);
        let mut capacity = state.capacities.capacity(replica, &bucket.shape, requests.traffic, target);
        if capacity.rate <= 0.0 {
            late += bucket.share;
            let relaxed = Target {
                quantile: target.quantile,
                ttft_seconds: target.ttft_seconds.max(BEST_EFFORT * capacity.ttft_seconds),
                itl_seconds: target.itl_seconds.max(BEST_EFFORT * capacity.itl_seconds),
            };
            capacity = state.capacities.capacity(replica, &bucket.shape, requests.traffic, &relaxed);
            capacity.limit = Limit::Infeasible;
        }
        if capacity.rate <= 0.0 {
            return None;
        }
        let part = bucket.share / capacity.rate;
        load += part;
        mix.batch += bucket.share * capacity.batch;
        if part > heaviest {
            heaviest = part;
            mix.limit = capacity.limit;
            mix.ttft_seconds = capacity.ttft_seconds;
            mix.itl_seconds = capacity.itl_seconds;
        }
    }
    if lateness == Lateness::Tolerated && late > LATE_PART * (1.0 - target.quantile) {
        return None;
    }
    (load > 0.0).then(|| Capacity { rate: 1.0 / load, ..mix })
}

fn mean_shape(buckets: &[Bucket]) -> Shape {
    let sum = |f: fn(&Shape) -> f64| buckets.iter().map(|b| b.share * f(&b.shape)).sum::<f64>().max(1.0);
    Shape { input_tokens: sum(|s| s.input_tokens), output_tokens: sum(|s| s.output_tokens) }
}

fn usable(policy: &Policy, model: usize) -> Vec<usize> {
    policy.models[model].pools.iter().copied().filter(|&p| policy.pools[p].role == Role::Both).collect()
}

impl Built {
    /// Serves of a plan's flows on one pool: (serve index, rate).
    pub fn flows_on<'a>(&'a self, pool: usize, plan: &'a Plan) -> impl Iterator<Item = (usize, f64)> + 'a {
        plan.flows.iter().filter(move |f| f.pool == pool).filter_map(move |f| {
            let tier = plan.tiers[pool]?;
            let serve =
                self.problem.serves.iter().position(|s| s.cell == f.cell && s.pool == pool && s.tier == tier)?;
            Some((serve, f.rate))
        })
    }

    /// Requests per second that one replica of the pool carries at the mix the plan gives it; at its best
    /// cell when the plan gives it nothing.
    pub fn replica_capacity(&self, pool: usize, plan: &Plan) -> Option<f64> {
        let (mut rate, mut load) = (0.0, 0.0);
        for (serve, flow) in self.flows_on(pool, plan) {
            rate += flow;
            load += flow / self.problem.serves[serve].rate;
        }
        if load > 0.0 {
            return Some(rate / load);
        }
        self.problem.serves.iter().filter(|s| s.pool == pool).map(|s| s.rate).reduce(f64::max)
    }

    /// Part of [`replica_capacity`](Self::replica_capacity) over what the figures say, where there is one.
    pub fn stretch(&self, pool: usize, plan: &Plan) -> Option<f64> {
        let factors = self.flows_on(pool, plan).map(|(serve, _)| self.stretches[serve]);
        factors.reduce(f64::max).filter(|factor| *factor > 1.0)
    }

    /// Flow-weighted mean shape of what the plan sends to the pool.
    pub fn mix(&self, pool: usize, plan: &Plan) -> Option<Shape> {
        let (mut rate, mut input, mut output) = (0.0, 0.0, 0.0);
        for flow in plan.flows.iter().filter(|f| f.pool == pool) {
            let shape = &self.shapes[flow.cell];
            rate += flow.rate;
            input += flow.rate * shape.input_tokens;
            output += flow.rate * shape.output_tokens;
        }
        (rate > 0.0).then(|| Shape { input_tokens: input / rate, output_tokens: output / rate })
    }
}
