//! What else could be planned for each pool, what leaves it no room, and at which latency level it is run.

use super::problem::{Built, levels};
use super::{Answer, Detail, wording};
use crate::control::reasons::{Focus, OperatingLevel, OtherChoice, OtherPlan, PoolWeight, PriorityRate, ReplicaChange};
use crate::perf::Target;
use crate::plan::analysis::{Alternative, Analyst, Difference, Instead};
use crate::plan::{Problem, Solution};
use crate::policy::units::Duration;
use crate::policy::{Mode, Policy, Promise};

/// How much a decision may spend on reasons.
#[derive(Clone, Copy)]
pub(super) struct Care {
    /// Pools that are planned anew together at most.
    largest: usize,
    /// Units of work of one question, and of all questions.
    one: u64,
    all: u64,
    /// Questions at most.
    questions: usize,
}

impl Detail {
    pub(super) fn care(self) -> Care {
        match self {
            Self::Brief => Care { largest: 40, one: 20_000, all: 60_000, questions: 16 },
            Self::Full { .. } => Care { largest: 400, one: 1_000_000, all: 6_000_000, questions: usize::MAX },
        }
    }
}

impl Care {
    pub(super) fn analyst<'a>(self, (built, solution): (&'a Built, &'a Solution)) -> Analyst<'a> {
        Analyst::new(&built.problem, solution, self.largest, self.one)
    }
}

/// The reasons of one pool.
#[derive(Clone, Default)]
pub(super) struct PoolReasons {
    pub level: Option<OperatingLevel>,
    pub full_limits: Vec<String>,
    pub runner_up: Option<OtherPlan>,
    pub alternatives: Vec<OtherPlan>,
}

/// The reasons of every pool, and the units of work they took.
pub(super) fn reasons(policy: &Policy, answer: &Answer<'_>, detail: Detail) -> (Vec<PoolReasons>, u64) {
    let care = detail.care();
    // A decision that was short of time spends none on this.
    let is_short = detail == Detail::Brief && [answer.acting.1, answer.free.1].iter().any(|s| s.stopped);
    let questions = if is_short { 0 } else { care.questions };
    let mut acting = care.analyst(answer.acting);
    let is_mixed = !std::ptr::eq(answer.acting.0, answer.free.0);
    let mut free = is_mixed.then(|| care.analyst(answer.free));
    let mut found: Vec<PoolReasons> = vec![PoolReasons::default(); policy.pools.len()];
    let mut spent = 0;
    for (asked, p) in order(policy, answer, detail).into_iter().enumerate() {
        let mode = policy.pools[p].mode;
        let analyst = free.as_mut().filter(|_| mode != Mode::Act).unwrap_or(&mut acting);
        let subject = Subject { policy, answer, pool: p };
        found[p].level = subject.level();
        found[p].full_limits = subject.full_limits(analyst);
        if answer.planned[p].is_none() || mode == Mode::Off || asked >= questions || spent >= care.all {
            continue;
        }
        let before = analyst.spent();
        match detail {
            Detail::Brief => found[p].runner_up = subject.other(analyst, Instead::Keep),
            Detail::Full { .. } => (found[p].runner_up, found[p].alternatives) = subject.others(analyst),
        }
        spent += analyst.spent() - before;
    }
    (found, spent)
}

/// Pools in the order in which they are asked about: the one asked for, then what the plan changes most.
fn order(policy: &Policy, answer: &Answer<'_>, detail: Detail) -> Vec<usize> {
    let change = |p: usize| {
        let (built, solution) = answer.best(policy.pools[p].mode);
        let pool = &built.problem.pools[p];
        pool.price_per_hour * f64::from(solution.plan.replicas[p].abs_diff(pool.running))
    };
    let first = |p: usize| matches!(detail, Detail::Full { first: Some(f) } if f == p);
    let mut order: Vec<(usize, f64)> = (0..policy.pools.len()).map(|p| (p, change(p))).collect();
    order.sort_by(|(a, x), (b, y)| first(*b).cmp(&first(*a)).then(y.total_cmp(x)).then(a.cmp(b)));
    order.into_iter().map(|(p, _)| p).collect()
}

struct Subject<'a> {
    policy: &'a Policy,
    answer: &'a Answer<'a>,
    pool: usize,
}

impl Subject<'_> {
    fn source(&self) -> (&Built, &Solution) {
        self.answer.best(self.policy.pools[self.pool].mode)
    }

    fn full_limits(&self, analyst: &Analyst<'_>) -> Vec<String> {
        let (built, _) = self.source();
        analyst.binds(self.pool).limits.into_iter().map(|l| built.problem.limits[l].name.clone()).collect()
    }

    /// The runner-up and all other plans worth telling.
    fn others(&self, analyst: &mut Analyst<'_>) -> (Option<OtherPlan>, Vec<OtherPlan>) {
        let mut ask = |instead| analyst.instead(self.pool, instead);
        let keep = ask(Instead::Keep);
        let near = [ask(Instead::Fewer), ask(Instead::More)];
        let without = ask(Instead::Without);
        let best = near.iter().flatten().min_by(|a, b| a.difference.compare(&b.difference));
        let runner_up = keep.as_ref().or(best).map(|a| self.told(a));
        let mut others: Vec<OtherPlan> = vec![];
        for other in keep.iter().chain(near.iter().flatten()).chain(&without).map(|a| self.told(a)) {
            if others.iter().all(|o| o.changes != other.changes) {
                others.push(other);
            }
        }
        (runner_up, others)
    }

    fn other(&self, analyst: &mut Analyst<'_>, instead: Instead) -> Option<OtherPlan> {
        analyst.instead(self.pool, instead).map(|a| self.told(&a))
    }

    fn told(&self, alternative: &Alternative) -> OtherPlan {
        let problem = &self.source().0.problem;
        let difference = &alternative.difference;
        let choice = match alternative.instead {
            Instead::Keep => OtherChoice::Keep,
            Instead::Fewer => OtherChoice::Fewer,
            Instead::More => OtherChoice::More,
            Instead::Without => OtherChoice::Without,
        };
        let mut plan = OtherPlan {
            choice,
            replicas: alternative.plan.replicas[self.pool],
            extra_cost_per_hour: difference.cost_per_hour,
            extra_price_per_hour: difference.price_per_hour,
            extra_shortfall: by_class(self.policy, problem, &difference.shortfall),
            changes: changes(problem, difference),
            proven: alternative.proven,
            sentence: String::new(),
        };
        plan.sentence = wording::other_plan(&plan, &problem.pools[self.pool].name, &self.policy.currency);
        plan
    }

    /// At which level the plan runs the pool, and for whom.
    fn level(&self) -> Option<OperatingLevel> {
        let (built, solution) = self.source();
        let level = solution.plan.tiers[self.pool]?;
        let model = self.policy.pools[self.pool].model;
        let (targets, level_of) = levels(self.policy, model);
        let target = *targets.get(level)?;
        let classes = &self.policy.models[model].classes;
        let name = |class: usize| self.policy.classes[class].name.clone();
        let owner = classes.iter().zip(&level_of).find(|(_, l)| **l == level).map(|((class, _), _)| *class)?;
        let mut others: Vec<String> = vec![];
        for flow in solution.plan.flows.iter().filter(|f| f.pool == self.pool && f.rate > 0.0) {
            let class = built.problem.cells[flow.cell].class;
            if class != owner && !others.contains(&name(class)) {
                others.push(name(class));
            }
        }
        let promises = target.ttft_seconds.is_finite() || target.itl_seconds.is_finite();
        let focus = if promises { Focus::Latency } else { Focus::Throughput };
        let why = match focus {
            Focus::Latency => latency_words(&name(owner), &target, &others),
            Focus::Throughput if others.is_empty() => format!("throughput-focused: {} only", name(owner)),
            Focus::Throughput => format!("throughput-focused: {} and {} only", name(owner), others.join(", ")),
        };
        Some(OperatingLevel { level, focus, class: name(owner), why })
    }
}

fn latency_words(class: &str, target: &Target, others: &[String]) -> String {
    let words = |seconds: f64| Duration::from_seconds(seconds).to_string();
    let of = |name: &str, seconds: f64| seconds.is_finite().then(|| format!("{name} {}", words(seconds)));
    let targets: Vec<String> =
        [of("TTFT", target.ttft_seconds), of("ITL", target.itl_seconds)].into_iter().flatten().collect();
    let percentile = (target.quantile * 1e4).round() / 100.0;
    let along = if others.is_empty() { String::new() } else { format!("; {} shares it", others.join(", ")) };
    format!("latency-focused at {class}'s p{percentile} targets ({}){along}", targets.join(", "))
}

/// Rates by priority with the classes that have it.
pub(super) fn by_class(policy: &Policy, problem: &Problem, rates: &[(i32, f64)]) -> Vec<PriorityRate> {
    let classes = |priority: i32| {
        let is_asked = |class: usize| problem.cells.iter().any(|c| c.class == class && c.rate > 0.0);
        let of = policy.classes.iter().enumerate().filter(|(i, c)| c.priority == priority && is_asked(*i));
        of.map(|(_, c)| c.name.clone()).collect()
    };
    rates.iter().map(|&(priority, rate)| PriorityRate { priority, classes: classes(priority), rate }).collect()
}

pub(super) fn changes(problem: &Problem, difference: &Difference) -> Vec<ReplicaChange> {
    let change =
        |&(pool, from, to): &(usize, u32, u32)| ReplicaChange { pool: problem.pools[pool].name.clone(), from, to };
    difference.replicas.iter().map(change).collect()
}

/// Whole weights that add up to 100, in proportion to the rates; what rounding leaves goes to the largest
/// remainders, ties to the first. Empty when nothing is sent anywhere.
pub(super) fn weights(rates: &[(String, f64)]) -> Vec<PoolWeight> {
    let total: f64 = rates.iter().map(|(_, rate)| rate).sum();
    if !(total.is_finite() && total > 0.0) {
        return vec![];
    }
    let exact: Vec<f64> = rates.iter().map(|(_, rate)| 100.0 * rate / total).collect();
    let mut weights: Vec<u32> = exact.iter().map(|e| e.floor() as u32).collect();
    let left = 100u32.saturating_sub(weights.iter().sum());
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    order.into_iter().cycle().take(left as usize).for_each(|i| weights[i] += 1);
    rates.iter().zip(weights).map(|((pool, _), weight)| PoolWeight { pool: pool.clone(), weight }).collect()
}

/// Share of a class's requests within both targets, at least: what is served keeps them at its percentile.
pub(super) fn attainment(promise: &Promise, demand: f64, shortfall: f64) -> Option<f64> {
    let Promise::Latency { quantile, .. } = promise else { return None };
    (demand > 0.0).then(|| quantile * (1.0 - shortfall / demand).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_a_hundred() {
        let of = |rates: &[f64]| {
            let named: Vec<(String, f64)> = rates.iter().enumerate().map(|(i, r)| (i.to_string(), *r)).collect();
            weights(&named).iter().map(|w| w.weight).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1.0, 1.0, 1.0]), [34, 33, 33]);
        assert_eq!(of(&[0.0, 5.0]), [0, 100]);
        assert_eq!(of(&[1.0, 199.0, 0.0]), [1, 99, 0]);
        assert_eq!(of(&[0.0]), Vec::<u32>::new());
        assert_eq!(of(&[f64::NAN, 1.0]), Vec::<u32>::new());
        assert_eq!(of(&[1e-300, 1e-300]), [50, 50]);
        for seed in 1..50u32 {
            let rates: Vec<f64> = (1..12).map(|i| f64::from(seed * i * 7919 % 101)).collect();
            assert_eq!(of(&rates).iter().sum::<u32>(), 100, "{rates:?}");
        }
    }

    #[test]
    fn what_is_served_attains_its_percentile() {
        let promise = Promise::Latency { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 1.0 };
        assert_eq!(attainment(&promise, 10.0, 0.0), Some(0.99));
        assert_eq!(attainment(&promise, 10.0, 5.0), Some(0.495));
        assert_eq!(attainment(&promise, 0.0, 0.0), None);
        assert_eq!(attainment(&Promise::Deadline { seconds: 60.0 }, 10.0, 0.0), None);
    }
}
