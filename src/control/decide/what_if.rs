//! What would change the plan: more accelerators of a type, looser targets. Computed when it is asked for.

use std::collections::BTreeSet;

use super::learn::Known;
use super::problem::{Built, Scope, build, levels};
use super::reasons::{Care, by_class, changes};
use super::wording;
use crate::control::State;
use crate::control::reasons::{AcceleratorValue, CapacityChange, Gain, LatencyTarget, PriorityRate, Relaxation};
use crate::plan::analysis::{Analyst, Difference};
use crate::plan::{Effort, Plan, Problem, Solution, solve};
use crate::policy::units::Duration;
use crate::policy::{Policy, Promise};

/// Share by which targets are relaxed.
const RELAXED: f64 = 0.1;

/// What more accelerators of each limit would bring, and the units of work it took.
pub(super) fn accelerators(policy: &Policy, base: (&Built, &Solution), care: Care) -> (Vec<AcceleratorValue>, u64) {
    let (problem, plan) = (&base.0.problem, &base.1.plan);
    let mut analyst = care.analyst(base);
    let mut values = vec![];
    for index in analyst.stocks() {
        let Some(more) = analyst.more(index) else { continue };
        let limit = &problem.limits[index];
        let gain = gain_of(policy, problem, &more.difference, more.proven);
        let mut value = AcceleratorValue {
            accelerators: accelerators_under(policy, problem, index),
            limit: limit.name.clone(),
            most: problem.most(limit),
            used: limit.used(&plan.replicas),
            more: more.amount,
            gain,
            sentence: String::new(),
        };
        value.sentence = accelerator_words(&value, &also_full(problem, &analyst, index), &policy.currency);
        values.push(value);
    }
    (values, analyst.spent())
}

/// Other limits that leave the pools under this one no room.
fn also_full(problem: &Problem, analyst: &Analyst<'_>, limit: usize) -> Vec<String> {
    let users = problem.limits[limit].uses.iter().map(|(pool, _)| analyst.binds(*pool).limits);
    let others: BTreeSet<usize> =
        users.filter(|full| full.contains(&limit)).flatten().filter(|other| *other != limit).collect();
    others.into_iter().map(|other| problem.limits[other].name.clone()).collect()
}

/// The accelerator types of the pools under the limit.
fn accelerators_under(policy: &Policy, problem: &Problem, limit: usize) -> Vec<String> {
    let pools = problem.limits[limit].uses.iter().filter_map(|(p, _)| policy.pools.get(*p));
    let types: BTreeSet<usize> = pools.map(|p| p.accelerator).collect();
    let own = &problem.limits[limit].name;
    if types.is_empty() {
        // Nobody uses them; a stock has the name of its type.
        return policy.accelerators.iter().filter(|a| a.name == *own).map(|a| a.name.clone()).collect();
    }
    types.into_iter().map(|a| policy.accelerators[a].name.clone()).collect()
}

fn accelerator_words(value: &AcceleratorValue, also_full: &[String], currency: &str) -> String {
    let AcceleratorValue { limit, more, gain, .. } = value;
    let name =
        if value.accelerators == [limit.as_str()] { limit.clone() } else { format!("accelerator under {limit}") };
    let lead = if *more == 1.0 { format!("one more {name}") } else { format!("{more} more {name}, one replica,") };
    let free = value.most - value.used;
    let why = match gain.is_nothing() {
        true if free >= 1.0 => format!(": the plan leaves {free:.0} free"),
        true if !also_full.is_empty() => format!(": {} leaves no room either", also_full.join(" and ")),
        _ => String::new(),
    };
    format!("{lead} {}{why}", wording::gain(gain, currency))
}

fn gain_of(policy: &Policy, problem: &Problem, difference: &Difference, proven: bool) -> Gain {
    let served = by_class(policy, problem, &difference.shortfall);
    Gain {
        // The sum of a float and 0 is never -0.
        saved_cost_per_hour: -difference.cost_per_hour + 0.0,
        saved_price_per_hour: -difference.price_per_hour + 0.0,
        served: served.into_iter().map(|s| PriorityRate { rate: -s.rate, ..s }).collect(),
        changes: changes(problem, difference),
        proven,
    }
}

/// What each class's targets, one at a time, would bring if they were looser by a tenth; and the units of work.
pub(super) fn relaxations(
    policy: &Policy,
    known: &Known,
    state: &mut State,
    scope: Scope,
    base: (&Built, &Solution),
) -> (Vec<Relaxation>, u64) {
    let mut found = vec![];
    let mut spent = 0;
    for (class, asked) in policy.classes.iter().enumerate() {
        let Promise::Latency { quantile, ttft_seconds, itl_seconds } = asked.promise else { continue };
        for (target, from_seconds) in [(LatencyTarget::Ttft, ttft_seconds), (LatencyTarget::Itl, itl_seconds)] {
            if !from_seconds.is_finite() {
                continue;
            }
            let to_seconds = from_seconds * (1.0 + RELAXED);
            let mut looser = policy.clone();
            looser.classes[class].promise = match target {
                LatencyTarget::Ttft => Promise::Latency { quantile, ttft_seconds: to_seconds, itl_seconds },
                LatencyTarget::Itl => Promise::Latency { quantile, ttft_seconds, itl_seconds: to_seconds },
            };
            let (gain, capacity, units) = relaxed(policy, &looser, known, state, scope, class, base);
            spent += units;
            let mut relaxation = Relaxation {
                class: asked.name.clone(),
                target,
                from_seconds,
                to_seconds,
                gain,
                capacity,
                sentence: String::new(),
            };
            relaxation.sentence = relaxation_words(&relaxation, &policy.currency);
            found.push(relaxation);
        }
    }
    (found, spent)
}

#[allow(clippy::too_many_arguments)] // one call site
fn relaxed(
    policy: &Policy,
    looser: &Policy,
    known: &Known,
    state: &mut State,
    scope: Scope,
    class: usize,
    (before, solution): (&Built, &Solution),
) -> (Gain, Vec<CapacityChange>, u64) {
    let mut built = build(looser, known, state, scope);
    let mut capacity = vec![];
    for (p, pool) in policy.pools.iter().enumerate() {
        if levels(policy, pool.model).1 != levels(looser, pool.model).1 {
            // Where the levels change places, the level that a pool is run at now means another one.
            built.problem.pools[p].tier = None;
        } else if before.flows_on(p, &solution.plan).any(|(s, _)| class_of(before, s) == class) {
            let both = before.replica_capacity(p, &solution.plan).zip(built.replica_capacity(p, &solution.plan));
            capacity.extend(both.map(|(from, to)| CapacityChange { pool: pool.id(), from, to }));
        }
    }
    let found = solve(&built.problem, &Effort::default());
    let (chosen, other) = (told(before, &solution.plan), told(&built, &found.plan));
    let mut difference = Difference::between(&before.problem, &chosen, &other);
    // Without the small price of another latency level, which is no money.
    let cost = |plan: &Plan| before.problem.running_cost(&plan.replicas);
    let saved = cost(&chosen) - cost(&other);
    difference.cost_per_hour = if saved.abs() <= 1e-6 * cost(&chosen) { 0.0 } else { -saved };
    if difference.compare(&Difference::default()) != std::cmp::Ordering::Less {
        difference = Difference::default();
    }
    let proven = [solution, &found].iter().all(|s| s.gap <= 1e-6 && !s.stopped);
    (gain_of(policy, &before.problem, &difference, proven), capacity, found.work_units)
}

fn class_of(built: &Built, serve: usize) -> usize {
    built.problem.cells[built.problem.serves[serve].cell].class
}

/// The plan with what is served late counted as not served.
fn told(built: &Built, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for (cell, short) in plan.shortfall.iter_mut().enumerate().filter(|(cell, _)| built.infeasible[*cell]) {
        *short = built.problem.cells[cell].rate;
    }
    plan
}

fn relaxation_words(relaxation: &Relaxation, currency: &str) -> String {
    let name = match relaxation.target {
        LatencyTarget::Ttft => "TTFT",
        LatencyTarget::Itl => "ITL",
    };
    let words = |seconds: f64| Duration::from_seconds(seconds).to_string();
    let looser = format!("{} → {}", words(relaxation.from_seconds), words(relaxation.to_seconds));
    let what = wording::gain(&relaxation.gain, currency);
    let mut text = format!("relaxing {}'s {name} by 10 % ({looser}) {what}", relaxation.class);
    if relaxation.gain.is_nothing() {
        let grows: Vec<String> = relaxation
            .capacity
            .iter()
            .filter(|c| c.to > c.from * 1.001)
            .map(|c| format!("a replica of {} would carry {:.2} req/s instead of {:.2}", c.pool, c.to, c.from))
            .collect();
        if !grows.is_empty() {
            text.push_str(&format!(" now; {}", grows.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_a_limit_reads_as_a_sentence() {
        let mut value = AcceleratorValue {
            accelerators: vec!["h100".into()],
            limit: "h100".into(),
            most: 8.0,
            used: 8.0,
            more: 2.0,
            gain: Gain { saved_cost_per_hour: 3.2, proven: true, ..Gain::default() },
            sentence: String::new(),
        };
        assert_eq!(accelerator_words(&value, &[], "USD"), "2 more h100, one replica, would save 3.20 USD/h");
        (value.gain, value.more) = (Gain::default(), 1.0);
        let both = accelerator_words(&value, &["team-a".to_owned()], "USD");
        assert_eq!(both, "one more h100 would change nothing: team-a leaves no room either");
        (value.used, value.limit) = (3.0, "team-a".into());
        let words = accelerator_words(&value, &[], "USD");
        assert_eq!(words, "one more accelerator under team-a would change nothing: the plan leaves 5 free");
    }
}
