//! From plan and verdicts to the decision that is published and journaled.

use std::collections::BTreeSet;

use super::explain::{self, Subject};
use super::reasons::{PoolReasons, attainment as promised, weights};
use super::{Answer, problem, scopes};
use crate::control::decision::{
    AcceleratorUse, ClassDecision, Decision, Latency, LiveCorrection, ModelDecision, PoolDecision, Route, SolveReport,
};
use crate::control::reasons::Prediction;
use crate::observe::{Histogram, Observation, PoolObservation, Signal};
use crate::perf::{Target, latency_at};
use crate::plan::{Flow, Solution};
use crate::policy::{Mode, Policy, Promise};

/// Quantile shown for pools whose classes promise no latency.
const SHOWN_QUANTILE: f64 = 0.95;

pub(super) fn report(
    policy: &Policy,
    observation: &Observation,
    answer: &Answer<'_>,
    (reasons, reason_units): (Vec<PoolReasons>, u64),
    now_seconds: f64,
) -> Decision {
    let pools: Vec<PoolDecision> = reasons
        .into_iter()
        .enumerate()
        .map(|(p, reasons)| with_reasons(pool_decision(policy, observation, answer, p, now_seconds), reasons))
        .collect();
    let classes = (0..policy.classes.len()).map(|c| class_decision(policy, observation, answer, &pools, c)).collect();
    let models = (0..policy.models.len()).map(|m| model_decision(policy, answer, m)).collect();
    let accelerators = (0..policy.accelerators.len()).map(|a| accelerator_use(policy, answer, &pools, a)).collect();
    let said: Vec<u32> =
        pools.iter().zip(&answer.known.pools).map(|(p, k)| p.desired.or(k.current).unwrap_or(0)).collect();
    let price = |p: usize| policy.pools[p].price_per_hour(&policy.accelerators);
    let running = |p: usize| f64::from(answer.known.pools[p].current.unwrap_or(0));
    let (_, solution) = answer.acting;
    let (_, shadow) = answer.free;
    let ((_, kept), (_, advice)) = (answer.followed, answer.advice);
    let mut plans: Vec<&Solution> = vec![];
    for plan in [solution, shadow, kept, advice] {
        if !plans.iter().any(|p| std::ptr::eq(*p, plan)) {
            plans.push(plan);
        }
    }
    let is_kept = |plan: &Solution, best: &Solution| !std::ptr::eq(plan, best);
    Decision {
        at_seconds: now_seconds,
        policy: policy.fingerprint.clone(),
        currency: policy.currency.clone(),
        current_cost_per_hour: (0..policy.pools.len()).map(|p| price(p) * running(p)).sum(),
        planned_cost_per_hour: pools.iter().map(|p| p.cost_per_hour).sum(),
        pools,
        classes,
        models,
        accelerators,
        limits: scopes::limit_uses(policy, answer.known, &answer.acting.0.problem, &said),
        solve: SolveReport {
            solver: solution.solver.clone(),
            work_units: plans.iter().map(|plan| plan.work_units).sum(),
            gap: solution.gap,
            refused: solution.refused,
            objective: solution.objective,
            // No replica costs less than nothing.
            bound: if solution.bound.is_finite() { solution.bound } else { 0.0 },
            stopped: solution.stopped || kept.stopped,
            reason_units,
            effort_units: answer.effort_units,
            stopped_at: shadow.stopped_at,
            acting_stopped_at: solution.stopped_at,
            kept_stopped_at: kept.stopped_at.filter(|_| is_kept(kept, solution)),
            advised_kept_stopped_at: advice.stopped_at.filter(|_| is_kept(advice, shadow) && is_kept(advice, kept)),
        },
        findings: observation
            .findings
            .iter()
            .chain(&answer.known.findings)
            .cloned()
            .chain(scopes::conflicts(policy, answer.known, &answer.acting.0.problem))
            .collect(),
        analysis: None,
        source_error: observation.source_error.clone(),
    }
}

fn with_reasons(decision: PoolDecision, reasons: PoolReasons) -> PoolDecision {
    let PoolReasons { level, full_limits, runner_up, alternatives } = reasons;
    PoolDecision { level, full_limits, runner_up, alternatives, ..decision }
}

fn pool_decision(
    policy: &Policy,
    observation: &Observation,
    answer: &Answer<'_>,
    p: usize,
    now_seconds: f64,
) -> PoolDecision {
    let pool = &policy.pools[p];
    let known = &answer.known.pools[p];
    let (built, solution) = answer.source(pool.mode);
    let verdict = answer.verdicts[p];
    let absent = PoolObservation::default();
    let seen = observation.pools.get(p).unwrap_or(&absent);
    // An empty sum of floats is -0.
    let planned_rate = solution.plan.flows.iter().filter(|f| f.pool == p).map(|f| f.rate).sum::<f64>() + 0.0;
    let (binding, reason) = explain::explain(&Subject { policy, answer, pool: p, verdict, planned_rate });
    let (ttft, itl) = latencies(policy, answer, p, seen, planned_rate);
    let used = [seen.ready.age_seconds(now_seconds), seen.arrival_rate.age_seconds(now_seconds)];
    PoolDecision {
        namespace: pool.namespace.clone(),
        pool: pool.name.clone(),
        model: policy.models[pool.model].served_name.clone(),
        accelerator: policy.accelerators[pool.accelerator].name.clone(),
        accelerators_per_replica: pool.accelerators_per_replica,
        mode: pool.mode,
        desired: verdict.replicas,
        planned: answer.planned[p].filter(|_| pool.mode != Mode::Off),
        ready: known.ready,
        starting: known.starting,
        binding,
        reason,
        missing: known.missing.clone(),
        quality: seen.quality(),
        input_age_seconds: used.into_iter().flatten().reduce(f64::max),
        evidence: built.replicas[p].evidence,
        live: known.live.map(|live| LiveCorrection { spread: built.replicas[p].spread, ..live }),
        arrival_rate: seen.arrival_rate.value,
        planned_rate,
        replica_capacity: built.replica_capacity(p, &solution.plan),
        capacity_stretch: built.stretch(p, &solution.plan),
        running: seen.running.value,
        waiting: seen.waiting.value,
        kv_usage: seen.kv_usage.value,
        ttft,
        itl,
        ttft_histogram: seen.ttft.value.clone(),
        itl_histogram: seen.itl.value.clone(),
        cluster: seen.cluster.clone(),
        cost_per_hour: pool.price_per_hour(&policy.accelerators)
            * f64::from(verdict.replicas.or(known.current).unwrap_or(0)),
        price_per_hour: Some(pool.price_per_hour(&policy.accelerators)),
        level: None,
        full_limits: vec![],
        runner_up: None,
        alternatives: vec![],
    }
}

/// TTFT and ITL of a pool at the percentile of the tightest class it may serve.
fn latencies(
    policy: &Policy,
    answer: &Answer<'_>,
    p: usize,
    seen: &PoolObservation,
    planned_rate: f64,
) -> (Latency, Latency) {
    let pool = &policy.pools[p];
    let (built, solution) = answer.source(pool.mode);
    let (levels, _) = problem::levels(policy, pool.model);
    let tier = solution.plan.tiers[p].unwrap_or(0);
    let target = levels.get(tier).copied().unwrap_or(Target::THROUGHPUT);
    let promised = target.ttft_seconds.is_finite() || target.itl_seconds.is_finite();
    let quantile = if promised { target.quantile } else { SHOWN_QUANTILE };
    let replicas = f64::from(solution.plan.replicas[p].max(1));
    let predicted = built.mix(p, &solution.plan).and_then(|shape| {
        let replica = problem::for_shape(pool, &built.replicas[p], &shape);
        // Where few were late, the figures said at this load what they should have said at a smaller one.
        let rate = planned_rate / replicas / built.stretch(p, &solution.plan).unwrap_or(1.0);
        latency_at(&replica, &shape, &answer.known.models[pool.model].traffic, rate, quantile)
    });
    let observed = |signal: &Signal<Histogram>| signal.value.as_ref().and_then(|h| h.quantile(quantile));
    let latency = |observed_seconds, predicted_seconds: Option<f64>, target: f64| Latency {
        observed_seconds,
        predicted_seconds,
        target_seconds: target.is_finite().then_some(target),
        quantile: Some(quantile),
    };
    (
        latency(observed(&seen.ttft), predicted.map(|q| q.ttft_seconds), target.ttft_seconds),
        latency(observed(&seen.itl), predicted.map(|q| q.itl_seconds), target.itl_seconds),
    )
}

fn class_decision(
    policy: &Policy,
    observation: &Observation,
    answer: &Answer<'_>,
    pools: &[PoolDecision],
    class: usize,
) -> ClassDecision {
    let (built, solution) = answer.followed;
    let cells = || built.problem.cells.iter().enumerate().filter(move |(_, c)| c.class == class);
    let late = |i: usize| built.infeasible[i];
    let shortfall: f64 = cells().map(|(i, c)| if late(i) { c.rate } else { solution.plan.shortfall[i] }).sum();
    let demand: f64 = cells().map(|(_, c)| c.rate).sum();
    let predicted = promised(&policy.classes[class].promise, demand, shortfall).map(|attainment| {
        let (ttft_seconds, itl_seconds) = predicted_latencies(policy, answer, pools, class);
        Prediction { ttft_seconds, itl_seconds, attainment: Some(attainment) }
    });
    ClassDecision {
        class: policy.classes[class].name.clone(),
        priority: policy.classes[class].priority,
        promise: policy.classes[class].promise,
        demand_rate: demand,
        shortfall_rate: shortfall,
        attainment: attainment(policy, observation, class),
        infeasible: cells().filter(|(i, c)| late(*i) && c.rate > 0.0).map(|(_, c)| c.name.clone()).collect(),
        predicted,
    }
}

/// Latencies that a class sees in the slowest of the pools it is sent to. A pool's prediction counts where it
/// speaks of the class's percentile or of a higher one; one that does not leaves the answer open.
fn predicted_latencies(
    policy: &Policy,
    answer: &Answer<'_>,
    pools: &[PoolDecision],
    class: usize,
) -> (Option<f64>, Option<f64>) {
    let Promise::Latency { quantile, .. } = policy.classes[class].promise else { return (None, None) };
    let (built, solution) = answer.followed;
    let is_own = |f: &&Flow| built.problem.cells[f.cell].class == class && f.rate > 0.0;
    let used: BTreeSet<usize> = solution.plan.flows.iter().filter(is_own).map(|f| f.pool).collect();
    let worst = |latency: fn(&PoolDecision) -> &Latency| {
        let of = |p: &usize| {
            let latency = latency(&pools[*p]);
            latency.predicted_seconds.filter(|_| latency.quantile.is_some_and(|q| q >= quantile))
        };
        let all: Option<Vec<f64>> = used.iter().map(of).collect();
        all.and_then(|all| all.into_iter().reduce(f64::max))
    };
    (worst(|p| &p.ttft), worst(|p| &p.itl))
}

/// Share of the window's requests within each target, the smaller of the two: the servers report the two
/// latencies apart, so the share within both is at most this.
fn attainment(policy: &Policy, observation: &Observation, class: usize) -> Option<f64> {
    let Promise::Latency { ttft_seconds, itl_seconds, .. } = policy.classes[class].promise else { return None };
    let (mut ttft, mut itl) = (Histogram::default(), Histogram::default());
    for (pool, seen) in policy.pools.iter().zip(&observation.pools) {
        if policy.models[pool.model].classes.iter().any(|(c, share)| *c == class && *share > 0.0) {
            seen.ttft.trusted().into_iter().for_each(|h| ttft.add(h));
            seen.itl.trusted().into_iter().for_each(|h| itl.add(h));
        }
    }
    let share = |h: &Histogram, target: f64| if target.is_finite() { h.share_at_or_below(target) } else { None };
    match (share(&ttft, ttft_seconds), share(&itl, itl_seconds)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn model_decision(policy: &Policy, answer: &Answer<'_>, m: usize) -> ModelDecision {
    let model = &policy.models[m];
    let known = &answer.known.models[m];
    let (built, solution) = answer.followed;
    let mut routes: Vec<Route> = vec![];
    for &(class, _) in &model.classes {
        let demand: f64 = built.problem.cells.iter().filter(|c| c.model == m && c.class == class).map(|c| c.rate).sum();
        for &p in &model.pools {
            let rate: f64 = solution
                .plan
                .flows
                .iter()
                .filter(|f| f.pool == p && built.problem.cells[f.cell].class == class)
                .map(|f| f.rate)
                .sum();
            if rate > 0.0 && demand > 0.0 {
                routes.push(Route {
                    class: policy.classes[class].name.clone(),
                    pool: policy.pools[p].id(),
                    share: rate / demand,
                    rate,
                });
            }
        }
    }
    let sent = |p: usize| solution.plan.flows.iter().filter(|f| f.pool == p).map(|f| f.rate).sum::<f64>() + 0.0;
    let rates: Vec<(String, f64)> = model.pools.iter().map(|&p| (policy.pools[p].id(), sent(p))).collect();
    ModelDecision {
        namespace: model.namespace.clone(),
        name: model.name.clone(),
        model: model.served_name.clone(),
        offered_rate: known.offered,
        planned_rate: known.planned_rate(),
        horizon_seconds: known.horizon_seconds,
        input_tokens: known.mean.input_tokens,
        output_tokens: known.mean.output_tokens,
        routes,
        weights: weights(&rates),
    }
}

fn accelerator_use(policy: &Policy, answer: &Answer<'_>, pools: &[PoolDecision], a: usize) -> AcceleratorUse {
    let on = |p: &usize| policy.pools[*p].accelerator == a;
    let units = |p: usize, n: Option<u32>| n.unwrap_or(0) * policy.pools[p].accelerators_per_replica;
    let count = 0..policy.pools.len();
    AcceleratorUse {
        accelerator: policy.accelerators[a].name.clone(),
        stock: policy.can_be_had(a),
        in_use: count.clone().filter(on).map(|p| units(p, answer.known.pools[p].current)).sum(),
        planned: count.filter(on).map(|p| units(p, pools[p].desired.or(answer.known.pools[p].current))).sum(),
    }
}
