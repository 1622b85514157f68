//! When a cheaper plan is worth changing to.
//!
//! A replica that is given back may be needed again before it has saved what having it back costs, and plans that
//! differ by little change places with every minute's noise. So a model keeps what it has, and only grows, until what
//! the cheaper plan would have saved by now exceeds what changing to it costs: a replica that is stopped costs some
//! minutes of its price, one that is started those of its start (the rule for hiring or buying of Karlin et al. 1988,
//! with start-up times as the price). This room owns that account. It knows prices, plans and what was said last; it
//! may not know why a plan is as it is.

use super::FAMILIAR_MINUTES;
use super::learn::Known;
use super::problem::Built;
use crate::control::State;
use crate::control::state::ModelMemory;
use crate::demand::{Forecast, RateMemory};
use crate::plan::{Effort, Memory, Plan, Solution, solve_again};
use crate::policy::{Mode, Policy, Promise};
use crate::safety::Waste;

/// What is given back should not be needed again within as long as it is kept, by this quantile of the highest load of
/// that time.
const LASTING_QUANTILE: f64 = 0.8;
/// Stopping a replica that is kept costs a little more than it saves.
const KEPT: f64 = 1.001;

/// The account of a model.
type Account = fn(&mut ModelMemory) -> &mut Waste;
pub(super) const ACTING: Account = |memory| &mut memory.waste;
pub(super) const ADVISED: Account = |memory| &mut memory.advised_waste;

/// The plan that is followed instead of the best one.
pub(super) struct Followed {
    /// By model of the policy: whether it keeps what it has.
    holds: Vec<bool>,
    /// `None` where no model does.
    kept: Option<(Built, Solution)>,
}

impl Followed {
    /// What a pool of a model runs that keeps what it has.
    pub fn held(&self, pool: usize, model: usize) -> Option<u32> {
        self.kept.as_ref().filter(|_| self.holds[model]).map(|(_, solution)| solution.plan.replicas[pool])
    }

    /// The plan that is followed, given the best one.
    pub fn or<'a>(&'a self, best: (&'a Built, &'a Solution)) -> (&'a Built, &'a Solution) {
        self.kept.as_ref().map_or(best, |(built, solution)| (built, solution))
    }
}

/// What is followed where `best` is the best plan for the load that lasts.
pub(super) fn follow(
    policy: &Policy,
    known: &Known,
    (built, solution): (&Built, &Solution),
    state: &mut State,
    of: Account,
    (effort, memory): (&Effort<'_>, &mut Memory),
) -> Followed {
    let holds = judge(policy, built, &solution.plan, state, of, known.now_seconds);
    let kept = holds.iter().any(|held| *held).then(|| {
        let now = kept(policy, known, state, built, (&holds, &vec![false; holds.len()]));
        let solution = solve_again(&now.problem, effort, memory);
        let grows = |m: usize| {
            let more = |p: &usize| solution.plan.replicas[*p] > has(policy, &now, state, *p);
            holds[m] && known.models[m].lasting > 1.0 && policy.models[m].pools.iter().any(more)
        };
        let grows: Vec<bool> = (0..holds.len()).map(grows).collect();
        if !grows.contains(&true) {
            return (now, solution);
        }
        // Once something has to start, enough for the load that lasts: one step instead of several.
        let lasting = kept(policy, known, state, built, (&holds, &grows));
        let solution = solve_again(&lasting.problem, effort, memory);
        (lasting, solution)
    });
    Followed { holds, kept }
}

/// Replicas that were said last and may come, or that run.
fn has(policy: &Policy, built: &Built, state: &State, pool: usize) -> u32 {
    let memory = state.pools.get(&policy.pools[pool].id()).filter(|memory| memory.withheld.is_none());
    let said = memory.and_then(|memory| memory.published);
    said.unwrap_or(built.problem.pools[pool].running)
}

/// The load that lasts as a multiple of the one that is planned for now, at least 1. `startup_seconds`: of the slowest
/// pool in use.
pub(super) fn lasting_share(
    policy: &Policy,
    rates: &mut RateMemory,
    now: Option<Forecast>,
    startup_seconds: f64,
) -> f64 {
    let starts = policy.planner.scale_down_starts;
    if starts <= 0.0 {
        return 1.0;
    }
    let later = rates.peak(starts * startup_seconds, LASTING_QUANTILE);
    // A prior knows nothing of this load; what is wasted still has to add up before anything is given back.
    let share =
        now.zip(later.filter(|later| later.errors >= FAMILIAR_MINUTES)).map(|(now, later)| later.rate / now.rate);
    share.filter(|share| share.is_finite()).unwrap_or(1.0).max(1.0)
}

/// The same problem for the load that lasts: what is given back should not be needed again soon.
pub(super) fn lasting(policy: &Policy, known: &Known, mut built: Built) -> Built {
    for cell in &mut built.problem.cells {
        if matches!(policy.classes[cell.class].promise, Promise::Latency { .. }) {
            cell.rate *= known.models[cell.model].lasting;
        }
    }
    built
}

/// Bring the accounts up to date and say which models keep what they have.
///
/// What the cheaper plan saves has to be saved for `scaleDownStarts` start-up times; what it starts instead has to pay
/// for as many, and for the start itself.
fn judge(policy: &Policy, built: &Built, plan: &Plan, state: &mut State, of: Account, now_seconds: f64) -> Vec<bool> {
    let starts = policy.planner.scale_down_starts;
    let held = policy.models.iter().map(|model| {
        let (mut saved_per_hour, mut price, mut is_same) = (0.0, 0.0, true);
        let (mut stopped, mut stopped_starts) = (0.0, 0.0);
        let options = model.pools.iter().map(|&p| (p, &built.problem.pools[p]));
        for (p, option) in options.filter(|(_, option)| option.min < option.max) {
            let pool = &policy.pools[p];
            let change = f64::from(plan.replicas[p]) - f64::from(has(policy, built, state, p));
            let cost = option.price_per_hour * change;
            is_same &= change == 0.0;
            saved_per_hour -= cost;
            if cost < 0.0 {
                stopped -= cost;
                stopped_starts -= cost * pool.startup_seconds;
            } else {
                price += cost * (1.0 + starts) * pool.startup_seconds / 3600.0;
            }
        }
        let mean_start_seconds = if stopped > 0.0 { stopped_starts / stopped } else { 0.0 };
        price += saved_per_hour.max(0.0) * starts * mean_start_seconds / 3600.0;
        let waste = of(state.models.entry(model.id()).or_default());
        waste.add(saved_per_hour, now_seconds);
        !is_same && starts > 0.0 && waste.sum < price
    });
    held.collect()
}

/// The problem of models that keep what they have, where giving it back saves nothing: for the load of now, or for the
/// one that lasts where the model has to grow.
fn kept(policy: &Policy, known: &Known, state: &State, built: &Built, (holds, grows): (&[bool], &[bool])) -> Built {
    let mut built = built.clone();
    for cell in built.problem.cells.iter_mut().filter(|cell| holds[cell.model] && !grows[cell.model]) {
        if matches!(policy.classes[cell.class].promise, Promise::Latency { .. }) {
            cell.rate /= known.models[cell.model].lasting;
        }
    }
    for (option, pool) in built.problem.pools.iter_mut().zip(&policy.pools) {
        if holds[pool.model] {
            // What was asked for and may still come costs no start any more.
            let memory = state.pools.get(&pool.id()).filter(|m| pool.mode == Mode::Act && m.withheld.is_none());
            option.running = option.running.max(memory.and_then(|m| m.published).unwrap_or(0)).min(option.max);
            option.stop_cost_per_hour = KEPT * option.price_per_hour;
        }
    }
    built
}
