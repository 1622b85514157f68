//! Why this many: the binding constraint of a pool and one sentence for a person.

use super::learn::LEAST_RATE;
use super::problem::Built;
use super::{Answer, floors, scopes};
use crate::control::decision::Binding;
use crate::perf::Limit;
use crate::plan::Plan;
use crate::policy::{Mode, Policy, Promise};
use crate::safety::{Rule, Verdict};

/// Relative correction from which the sentence names it.
const WORTH_A_WORD: f64 = 0.05;

/// What is to be explained.
pub(super) struct Subject<'a> {
    pub policy: &'a Policy,
    pub answer: &'a Answer<'a>,
    pub pool: usize,
    pub verdict: Verdict,
    pub planned_rate: f64,
}

/// The constraint that decides a pool's number, and the sentence.
pub(super) fn explain(s: &Subject<'_>) -> (Binding, String) {
    let pool = &s.policy.pools[s.pool];
    if pool.mode == Mode::Off {
        return (Binding::Off, "switched off in the policy; only watched".into());
    }
    let known = &s.answer.known.pools[s.pool];
    if let Some(limit) = s.answer.cut[s.pool] {
        let (binding, words) = scopes::words(s.policy, limit, pool, s.verdict.replicas != Some(0));
        return (binding, format!("{words}; growth waits until others give way"));
    }
    match s.verdict.rule {
        Rule::Hold => {
            let why = match known.missing.as_slice() {
                [] if known.withheld.is_some() => {
                    let ready = known.ready.unwrap_or(0);
                    return (Binding::Hold, format!("only {ready} of them came; others carry the load until more do"));
                }
                [] if s.answer.planned[s.pool].is_none() => "no demand was measured yet".to_owned(),
                [] => "the load of this model is not fully visible".to_owned(),
                missing => missing.join(", "),
            };
            let what = match s.verdict.replicas {
                Some(n) => format!("kept at {n}, may grow, never shrinks"),
                None => "no number is given".to_owned(),
            };
            (Binding::Hold, format!("{why}: {what}"))
        }
        Rule::Dwell if s.answer.held[s.pool].is_some() => kept(s),
        Rule::Dwell => {
            let wanted = s.answer.planned[s.pool].unwrap_or(0);
            (Binding::Dwell, format!("{wanted} would do; waits until that has held, or until others are ready"))
        }
        Rule::Step => (Binding::Dwell, "on the way: the step is limited by the policy".into()),
        Rule::Min => (Binding::Min, scopes::floor_words(s.policy, known.floor)),
        Rule::Max => (Binding::Max, format!("upper limit of {} (policy or stock)", pool.max)),
        Rule::Plan => planned(s),
    }
}

/// A pool whose model keeps what it has until changing pays.
fn kept(s: &Subject<'_>) -> (Binding, String) {
    let (binding, text) = planned(s);
    match (s.answer.planned[s.pool], s.verdict.replicas) {
        (Some(best), Some(said)) if best < said => {
            (Binding::Dwell, format!("{best} would do; kept until that has saved what having it back costs ({text})"))
        }
        (Some(best), Some(said)) if best > said => {
            (binding, format!("{text}; {best} would be cheaper, once that pays for the change"))
        }
        _ => (binding, text),
    }
}

fn planned(s: &Subject<'_>) -> (Binding, String) {
    let pool = &s.policy.pools[s.pool];
    let (built, solution) = s.answer.source(pool.mode);
    let n = solution.plan.replicas[s.pool];
    let load: f64 = built.flows_on(s.pool, &solution.plan).map(|(i, rate)| rate / built.problem.serves[i].rate).sum();
    let needed = (load * (1.0 - 1e-6)).ceil() as u32;
    if n == 0 || load <= 0.0 {
        return unused(s, n);
    }
    if s.planned_rate <= 2.0 * LEAST_RATE {
        return (Binding::Idle, "no load; one replica stays, because demand is seen on the servers only".into());
    }
    let floor = s.answer.known.pools[s.pool].floor;
    let most = pool.max.max(floor.replicas);
    if short(s) {
        if let Some(limit) = scopes::full(&built.problem, s.pool, &solution.plan.replicas) {
            let (binding, words) = scopes::words(s.policy, limit, pool, true);
            return (binding, format!("{words}; part of the load misses its target"));
        }
        if n >= most {
            return (Binding::Max, format!("upper limit of {most}; part of the load misses its target"));
        }
    }
    if n > needed && n <= built.problem.pools[s.pool].min {
        let during = floors::during(s.policy, floor.schedule);
        return (Binding::Min, format!("lower limit{during}; {needed} would carry {:.1} req/s", s.planned_rate));
    }
    let model = &s.answer.known.models[pool.model];
    let together: u32 = s.policy.models[pool.model].pools.iter().map(|&p| solution.plan.replicas[p]).sum();
    if n > needed && together <= model.floor.replicas {
        let (keeps, during) = (model.floor.replicas, floors::during(s.policy, model.floor.schedule));
        let text = format!("the model keeps {keeps}{during}; {needed} here would carry {:.1} req/s", s.planned_rate);
        return (Binding::Min, text);
    }
    let heaviest = built
        .flows_on(s.pool, &solution.plan)
        .max_by(|(i, a), (j, b)| (a / built.problem.serves[*i].rate).total_cmp(&(b / built.problem.serves[*j].rate)));
    let Some((serve, _)) = heaviest else { return unused(s, n) };
    let capacity = built.replica_capacity(s.pool, &solution.plan).unwrap_or(0.0);
    let class = built.problem.cells[built.problem.serves[serve].cell].class;
    let binding = match built.capacities[serve].limit {
        Limit::Ttft => Binding::Ttft,
        Limit::Itl => Binding::Itl,
        Limit::KvMemory => Binding::KvMemory,
        Limit::MaxSequences => Binding::MaxSequences,
        Limit::Throughput => Binding::Throughput,
        Limit::Infeasible => Binding::Infeasible,
    };
    let text = format!(
        "{:.1} req/s at {capacity:.2} per replica; {}{}{}{}",
        s.planned_rate,
        limit_words(s.policy, class, binding),
        live_words(s),
        stretch_words(built, s, &solution.plan),
        model.raised.as_ref().map_or(String::new(), |floor| format!("; planned for {floor}"))
    );
    (binding, text)
}

/// What the servers showed of themselves, where it is worth a word.
fn live_words(s: &Subject<'_>) -> String {
    match s.answer.known.pools[s.pool].live {
        Some(live) if (live.itl - 1.0).abs() >= WORTH_A_WORD => {
            format!("; measured ITL is {:.2}x the stated one", live.itl)
        }
        _ => String::new(),
    }
}

/// More than the figures say, where it is worth a word.
fn stretch_words(built: &Built, s: &Subject<'_>, plan: &Plan) -> String {
    match built.stretch(s.pool, plan) {
        Some(factor) if factor - 1.0 >= WORTH_A_WORD => {
            format!("; few requests are late, so a replica is given {factor:.2}x what its figures say")
        }
        _ => String::new(),
    }
}

fn unused(s: &Subject<'_>, n: u32) -> (Binding, String) {
    let pool = &s.policy.pools[s.pool];
    let (built, solution) = s.answer.source(pool.mode);
    let offered: f64 = built.problem.cells.iter().filter(|c| c.model == pool.model).map(|c| c.rate).sum();
    let can_serve = built.problem.serves.iter().any(|x| x.pool == s.pool);
    if n > 0 {
        return (Binding::Min, format!("lower limit of {n}; no load is sent here"));
    }
    if let Some(limit) = scopes::full(&built.problem, s.pool, &solution.plan.replicas).filter(|_| can_serve && short(s))
    {
        let (binding, words) = scopes::words(s.policy, limit, pool, false);
        return (binding, format!("{words}; part of the load misses its target"));
    }
    match (offered > 0.0, can_serve) {
        (false, _) => (Binding::Idle, "no load".into()),
        (true, true) => (Binding::Cheaper, "other pools carry the load for less".into()),
        (true, false) => (Binding::Infeasible, "no replica of this pool can meet the targets".into()),
    }
}

/// True when load of this pool's model stays unserved.
fn short(s: &Subject<'_>) -> bool {
    let pool = &s.policy.pools[s.pool];
    let (built, solution) = s.answer.source(pool.mode);
    built
        .problem
        .cells
        .iter()
        .zip(&solution.plan.shortfall)
        .any(|(cell, short)| cell.model == pool.model && *short > 1e-6 * cell.rate.max(1e-6) && *short > 0.0)
}

fn limit_words(policy: &Policy, class: usize, binding: Binding) -> String {
    let name = &policy.classes[class].name;
    let (quantile, ttft, itl) = match policy.classes[class].promise {
        Promise::Latency { quantile, ttft_seconds, itl_seconds } => (quantile * 100.0, ttft_seconds, itl_seconds),
        Promise::Deadline { seconds } => return format!("{name} work within {}", words(seconds)),
    };
    match binding {
        Binding::Ttft => format!("more would break {name} p{quantile} TTFT {}", words(ttft)),
        Binding::Itl => format!("more would break {name} p{quantile} ITL {}", words(itl)),
        Binding::KvMemory => format!("KV memory is full beyond that ({name} p{quantile})"),
        Binding::MaxSequences => format!("max-num-seqs is reached beyond that ({name} p{quantile})"),
        Binding::Infeasible => format!("{name} p{quantile} cannot be met by any pool; served late"),
        _ => "throughput is the limit".into(),
    }
}

fn words(seconds: f64) -> String {
    crate::policy::units::Duration::from_seconds(seconds).to_string()
}
