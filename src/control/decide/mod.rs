//! `decide`: the pure function in the middle.
//!
//! Same policy, same observation, same state, same time: the same decision, byte for byte. It asks no
//! clock and no network; the search budget is counted in units of work.

mod calibrate;
mod explain;
mod floors;
mod hold;
mod learn;
mod limits;
mod problem;
mod reasons;
mod report;
mod scopes;
mod size;
mod what_if;
mod wording;

pub use calibrate::LiveMemory;
pub(in crate::control) use calibrate::readable;
pub use size::{GivenDemand, Sizing, problem_for, size};

use super::{Analysis, Decision, SolveReport, State};
use crate::observe::Observation;
use crate::plan::{Effort, Problem, Solution, solve_again};
use crate::policy::{Mode, Policy, Pool};
use crate::safety::{self, Inputs, Knowledge, Move, Rule, Verdict, judge};
use problem::Built;

/// Time for which a model is watched before its pools may shrink, as long as its load is new, seconds.
const WATCH_SECONDS: f64 = 300.0;
/// Forecast errors after which a load is no longer new.
const FAMILIAR_MINUTES: usize = 20;

/// How much a decision says of its reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// The next best plan of the pools that change, as far as that is cheap: what every tick does.
    #[default]
    Brief,
    /// Other plans of every pool and what would change the plan; the pool with the index `first` before the others.
    Full { first: Option<usize> },
}

/// Decide what every pool should run.
///
/// `observation.pools` must have one entry per pool of the policy, in the same order; an entry that is
/// absent counts as missing data. `now_seconds` is Unix time.
pub fn decide(policy: &Policy, observation: &Observation, state: State, now_seconds: f64) -> (Decision, State) {
    decide_within(policy, observation, state, now_seconds, &Search::default())
}

/// How much the plans behind a decision may be searched: the one with all pools, and the one with those only
/// that follow it; and how much is said of the reasons, which changes nothing of what is decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search<'a> {
    pub advised: Effort<'a>,
    pub acting: Effort<'a>,
    /// For the same plans where models keep what they have.
    pub kept: Effort<'a>,
    pub advised_kept: Effort<'a>,
    pub detail: Detail,
}

impl Search<'_> {
    /// The search behind a decision, to find it again.
    pub fn of(solve: &SolveReport) -> Self {
        let effort = |units, stop_at| Effort { units, stop_at, ..Effort::default() };
        Self {
            advised: effort(solve.effort_units, solve.stopped_at),
            acting: effort(solve.effort_units, solve.acting_stopped_at),
            kept: effort(solve.effort_units, solve.kept_stopped_at),
            advised_kept: effort(solve.effort_units, solve.advised_kept_stopped_at),
            detail: Detail::Brief,
        }
    }
}

/// [`decide`] with a limit on the search, in units of work and by a flag from outside.
pub fn decide_within(
    policy: &Policy,
    observation: &Observation,
    mut state: State,
    now_seconds: f64,
    search: &Search<'_>,
) -> (Decision, State) {
    let detail = search.detail;
    own(policy, &mut state);
    let known = learn::learn(policy, observation, &mut state, now_seconds);
    let free = hold::lasting(policy, &known, problem::build(policy, &known, &mut state, problem::Scope::All));
    let advised = solve_again(&free.problem, &search.advised, &mut state.planner.advised);
    // Pools that only advise do not follow, so the numbers that are acted on must not count on them.
    let mixed = [Mode::Act, Mode::Advise].iter().all(|m| policy.pools.iter().any(|p| p.mode == *m));
    let acted = mixed.then(|| {
        let built =
            hold::lasting(policy, &known, problem::build(policy, &known, &mut state, problem::Scope::ActingOnly));
        let solution = solve_again(&built.problem, &search.acting, &mut state.planner.acting);
        (built, solution)
    });
    let (acting, acting_solution) = acted.as_ref().map_or((&free, &advised), |(b, s)| (b, s));

    let analysis = matches!(detail, Detail::Full { .. }).then(|| {
        let scope = if acted.is_some() { problem::Scope::ActingOnly } else { problem::Scope::All };
        let base = (acting, acting_solution);
        let (accelerators, for_accelerators) = what_if::accelerators(policy, base, detail.care());
        let (relaxations, for_targets) = what_if::relaxations(policy, &known, &mut state, scope, base);
        Analysis { accelerators, relaxations, work_units: for_accelerators + for_targets }
    });
    let planner = &mut state.planner;
    let (mut kept, mut advised_kept) = (std::mem::take(&mut planner.kept), std::mem::take(&mut planner.advised_kept));
    let (effort, of) = (&search.kept, hold::ACTING);
    let followed = hold::follow(policy, &known, (acting, acting_solution), &mut state, of, (effort, &mut kept));
    let (effort, of) = (&search.advised_kept, hold::ADVISED);
    let advice = mixed.then(|| {
        let memory = (effort, &mut advised_kept);
        hold::follow(policy, &known, (&free, &advised), &mut state, of, memory)
    });
    (state.planner.kept, state.planner.advised_kept) = (kept, advised_kept);

    let advice = advice.as_ref().unwrap_or(&followed);
    let by_pool = |of: &dyn Fn(usize, Mode) -> Option<u32>| -> Vec<Option<u32>> {
        let plannable = |pool: &Pool| known.models[pool.model].plannable();
        let one = |(p, pool): (usize, &Pool)| if plannable(pool) { of(p, pool.mode) } else { None };
        policy.pools.iter().enumerate().map(one).collect()
    };
    let best = |mode: Mode| if mode == Mode::Act { acting_solution } else { &advised };
    let planned = by_pool(&|p, mode| Some(best(mode).plan.replicas[p]));
    let held = by_pool(&|p, mode| if mode == Mode::Act { &followed } else { advice }.held(p, policy.pools[p].model));
    let source = followed.or((acting, acting_solution));
    let plans = Plans { planned: &planned, held: &held };
    let (verdicts, cut) = settle(policy, &known, source, plans, &mut state, now_seconds);
    let answer = Answer {
        known: &known,
        free: (&free, &advised),
        acting: (acting, acting_solution),
        followed: source,
        advice: advice.or((&free, &advised)),
        planned: &planned,
        held: &held,
        verdicts: &verdicts,
        effort_units: search.advised.units,
        cut: &cut,
    };
    let reasons = reasons::reasons(policy, &answer, detail);
    let decision = report::report(policy, observation, &answer, reasons, now_seconds);
    let decision = Decision { analysis, ..decision };
    forget(policy, &mut state);
    (decision, state)
}

/// The optimisation problem behind a decision, as the solver gets it: for comparing solvers and for
/// measuring.
pub fn problem_of(policy: &Policy, observation: &Observation, mut state: State, now_seconds: f64) -> Problem {
    own(policy, &mut state);
    let known = learn::learn(policy, observation, &mut state, now_seconds);
    problem::build(policy, &known, &mut state, problem::Scope::All).problem
}

/// Everything that the report is written from.
struct Answer<'a> {
    known: &'a learn::Known,
    free: (&'a Built, &'a Solution),
    acting: (&'a Built, &'a Solution),
    /// What `acting` and `free` became where models keep what they have.
    followed: (&'a Built, &'a Solution),
    advice: (&'a Built, &'a Solution),
    planned: &'a [Option<u32>],
    /// What pools run whose models keep what they have.
    held: &'a [Option<u32>],
    verdicts: &'a [Verdict],
    effort_units: u64,
    /// The limit that cut a pool's growth, by its row in the problem.
    cut: &'a [Option<usize>],
}

impl Answer<'_> {
    /// The best problem and plan for a pool.
    fn best(&self, mode: Mode) -> (&Built, &Solution) {
        if mode == Mode::Act { self.acting } else { self.free }
    }

    /// The problem and plan that a pool's number and its share of the load come from.
    fn source(&self, mode: Mode) -> (&Built, &Solution) {
        if mode == Mode::Act { self.followed } else { self.advice }
    }
}

/// What plans say of every pool.
#[derive(Clone, Copy)]
struct Plans<'a> {
    /// The best one.
    planned: &'a [Option<u32>],
    /// The one in which models keep what they have, for pools of such models.
    held: &'a [Option<u32>],
}

/// What was only advised is no base for acting: a pool that turns to `act` begins from what runs, in the plan too.
fn own(policy: &Policy, state: &mut State) {
    for pool in &policy.pools {
        let memory = state.pools.entry(pool.id()).or_default();
        let follows = pool.mode == Mode::Act;
        if follows && !memory.followed {
            memory.disown();
        }
        memory.followed = follows;
    }
}

/// Apply the safety rules pool by pool, then the order of steps model by model, and remember what is said. Returns
/// also the limit that cut a pool's growth.
fn settle(
    policy: &Policy,
    known: &learn::Known,
    (built, solution): (&Built, &Solution),
    plans: Plans<'_>,
    state: &mut State,
    now_seconds: f64,
) -> (Vec<Verdict>, Vec<Option<usize>>) {
    let planner = &policy.planner;
    let mut verdicts: Vec<Verdict> = policy
        .pools
        .iter()
        .enumerate()
        .map(|(p, pool)| {
            let inputs = Inputs {
                planned: plans.planned[p],
                held: plans.held[p],
                // What is on its way, however late, is not called back: it may be about to serve.
                knowledge: match known.pools[p].withheld {
                    Some(_) => known.pools[p].knowledge.at_most(Knowledge::Partial),
                    None => known.pools[p].knowledge,
                },
                current: known.pools[p].current,
                min: known.pools[p].floor.replicas,
                max: pool.max,
                dwell_seconds: dwell(policy, pool, known),
                max_step_up: planner.max_step_up,
                max_step_down: planner.max_step_down,
            };
            let memory = state.pools.entry(pool.id()).or_default();
            if pool.mode == Mode::Off {
                memory.interrupt();
                return Verdict { replicas: None, rule: Rule::Hold };
            }
            judge(&inputs, memory, now_seconds)
        })
        .collect();

    let (mut free, cut) = scopes::fit(policy, &built.problem, known, state, &mut verdicts);
    let uses = scopes::uses_by_pool(policy, &built.problem);
    for (m, model) in policy.models.iter().enumerate() {
        let moves = moves_of(policy, known, built, solution, &verdicts, state, &uses, &model.pools, now_seconds);
        let load = known.models[m].offered.unwrap_or(0.0);
        for (&p, said) in model.pools.iter().zip(safety::keep_serving(&moves, load, &mut free)) {
            let said = said.min(policy.pools[p].max.max(known.pools[p].floor.replicas));
            if verdicts[p].replicas.is_some_and(|n| n < said) {
                verdicts[p] = Verdict { replicas: Some(said), rule: Rule::Dwell };
            }
        }
    }
    for (p, (pool, verdict)) in policy.pools.iter().zip(&verdicts).enumerate() {
        let known = &known.pools[p];
        let memory = state.pools.entry(pool.id()).or_default();
        memory.tier = solution.plan.tiers[p].or(memory.tier);
        if let (Some(tier), Some(live)) = (solution.plan.tiers[p], state.live.get_mut(&pool.id()))
            && built.flows_on(p, &solution.plan).next().is_some()
            && let Some(target) = problem::levels(policy, pool.model).0.get(tier)
            && let Some(capacity) = built.replica_capacity(p, &solution.plan)
        {
            live.experience.plan(target, capacity);
        }
        if verdict.replicas.is_some() {
            (memory.published, memory.said_at_seconds) = (verdict.replicas, Some(now_seconds));
        }
        if let Some((wanted, ready)) = verdict.replicas.zip(known.ready) {
            memory.wait(now_seconds, wanted, ready, problem::patience_seconds(pool));
        }
    }
    (verdicts, cut)
}

/// How long a smaller number must have been enough: what the policy says, and at least the time it would
/// take to get the replica back. A load that was only just met must be watched for some minutes first.
fn dwell(policy: &Policy, pool: &Pool, known: &learn::Known) -> f64 {
    let asked = policy.planner.scale_down_dwell_seconds;
    if asked <= 0.0 {
        // A dry run has no memory to wait with.
        return 0.0;
    }
    let familiar = known.models[pool.model].forecast.is_some_and(|f| f.errors >= FAMILIAR_MINUTES);
    asked.max(pool.startup_seconds).max(if familiar { 0.0 } else { WATCH_SECONDS })
}

#[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the same borrowed parts
fn moves_of(
    policy: &Policy,
    known: &learn::Known,
    built: &Built,
    solution: &Solution,
    verdicts: &[Verdict],
    state: &State,
    uses: &[Vec<(usize, f64)>],
    pools: &[usize],
    now_seconds: f64,
) -> Vec<Move> {
    pools
        .iter()
        .map(|&p| {
            let pool = &policy.pools[p];
            let memory = state.pools.get(&pool.id());
            let after = verdicts[p].replicas.unwrap_or(0);
            Move {
                before: memory.and_then(|m| m.published).unwrap_or(after),
                after,
                ready: known.pools[p].ready.unwrap_or(0),
                capacity: built.replica_capacity(p, &solution.plan).unwrap_or(0.0),
                uses: uses[p].clone(),
                growing_seconds: memory.and_then(|m| m.growing_since).map_or(0.0, |t| now_seconds - t),
                patience_seconds: problem::patience_seconds(pool),
            }
        })
        .collect()
}

/// Drop the memory of pools and models that the policy no longer has.
fn forget(policy: &Policy, state: &mut State) {
    state.pools.retain(|id, _| policy.pools.iter().any(|p| p.id() == *id));
    state.models.retain(|id, _| policy.models.iter().any(|m| m.id() == *id));
    state.live.retain(|id, _| policy.pools.iter().any(|p| p.id() == *id));
}

impl Knowledge {
    /// What this knowledge leaves of a number that is known fully.
    fn at_most(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::Partial, _) | (_, Self::Partial) => Self::Partial,
            _ => Self::Full,
        }
    }
}
