//! What else could be planned and what that would cost: the reasons behind a plan. Pure.
//!
//! It owns questions about a plan that is made ("what if this pool stayed as it is?", "what would one more
//! accelerator bring?") and answers each by planning again, with one thing changed. Only the part that the
//! question touches is planned anew: models that compete for what is used up belong to it, everything else stays
//! as planned. It never makes the plan itself, and knows no more of the world than the solvers do.

mod part;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::{Effort, Limit, LimitKind, Objective, Plan, Problem, Solution, solve, verify};
use part::{Groups, Part};

/// Relative difference that is rounding.
const ROUNDING: f64 = 1e-6;

/// What a pool might do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instead {
    /// Stay at what runs now, or as near to it as its limits allow.
    Keep,
    /// At least one replica less.
    Fewer,
    /// At least one replica more.
    More,
    /// As few replicas as it may have: what the next best hardware would make of it.
    Without,
}

/// What another plan costs or brings, compared with the one that was chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Further cost with the spread costs of starts and stops, currency per hour: what the planner compares.
    pub cost_per_hour: f64,
    /// Further cost of the replicas alone, currency per hour.
    pub price_per_hour: f64,
    /// Further load outside its target, requests per second, by priority, most important first; only those that
    /// change.
    pub shortfall: Vec<(i32, f64)>,
    /// Pools with another number: (pool, chosen, there).
    pub replicas: Vec<(usize, u32, u32)>,
}

/// The best plan under a condition that the chosen plan does not keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    pub instead: Instead,
    pub plan: Plan,
    pub difference: Difference,
    /// Whether it was proven that no plan of the part that was planned anew is better.
    pub proven: bool,
}

/// What more of a limit would bring.
#[derive(Clone, Debug, PartialEq)]
pub struct More {
    /// Index of the limit.
    pub limit: usize,
    /// How much more was given: 1, or what one more replica takes where 1 brings nothing.
    pub amount: f64,
    /// What it changes: negative numbers are gains.
    pub difference: Difference,
    pub proven: bool,
}

/// What stops a pool from having another number of replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Binds {
    pub at_min: bool,
    pub at_max: bool,
    /// Limits that have no room for one more replica.
    pub limits: Vec<usize>,
}

/// Asks questions about one plan.
pub struct Analyst<'a> {
    problem: &'a Problem,
    plan: &'a Plan,
    proven: bool,
    room: Room,
    /// Pools and cells that depend on each other by "can serve" alone.
    narrow: Groups,
    /// The same with what competes under limits that are used up.
    wide: Groups,
    /// Pools up to which a part is planned anew.
    largest: usize,
    /// Units of work of one question.
    effort: u64,
    spent: u64,
}

impl<'a> Analyst<'a> {
    /// `largest`: pools up to which competing models are planned anew together; where there are more, all others
    /// stay as they are. `effort`: units of work for one question.
    pub fn new(problem: &'a Problem, solution: &'a Solution, largest: usize, effort: u64) -> Self {
        let plan = &solution.plan;
        let room = Room::new(problem, plan);
        Self {
            problem,
            plan,
            proven: solution.gap <= ROUNDING && !solution.stopped,
            narrow: Groups::new(problem, |l| !is_used_up_by_all(&problem.limits[l])),
            wide: Groups::new(problem, |l| !is_used_up_by_all(&problem.limits[l]) || room.is_full(problem, plan, l)),
            room,
            largest,
            effort,
            spent: 0,
        }
    }

    /// Units of work spent on all questions so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// The best plan in which the pool does something else. `None` where its limits leave it no choice, or
    /// where no such plan was found.
    pub fn instead(&mut self, pool: usize, instead: Instead) -> Option<Alternative> {
        let (least, most) = self.bounds(pool, instead)?;
        let groups = if self.wide.size(pool) <= self.largest { &self.wide } else { &self.narrow };
        let found = self
            .plan_anew(groups, pool, least, most)
            .or_else(|| self.plan_anew(&Groups::whole(self.problem), pool, least, most));
        let (plan, proven, work) = found?;
        self.spent += work;
        let difference = Difference::between(self.problem, self.plan, &plan);
        Some(Alternative { instead, plan, difference, proven })
    }

    /// Replicas of the pool that the question allows.
    fn bounds(&self, pool: usize, instead: Instead) -> Option<(u32, u32)> {
        let option = &self.problem.pools[pool];
        let chosen = self.plan.replicas[pool];
        let kept = option.running.max(option.min).min(option.max);
        let (least, most) = match instead {
            Instead::Keep if kept != chosen => (kept, kept),
            Instead::Keep => return None,
            Instead::Fewer => (option.min, chosen.checked_sub(1)?),
            Instead::More => (chosen.checked_add(1)?, option.max),
            Instead::Without if chosen > option.min => (option.min, option.min),
            Instead::Without => return None,
        };
        (least <= most).then_some((least, most))
    }

    /// Plan the pool's group anew with other bounds; (plan of the whole, whether proven, work).
    fn plan_anew(&self, groups: &Groups, pool: usize, least: u32, most: u32) -> Option<(Plan, bool, u64)> {
        if groups.size(pool) > self.largest.max(self.narrow.size(pool)) {
            return None;
        }
        let mut part = Part::new(self.problem, self.plan, groups, &[groups.pools[pool]]);
        let own = part.place_of(pool)?;
        (part.problem.pools[own].min, part.problem.pools[own].max) = (least, most);
        let found = solve(&part.problem, &Effort { units: self.effort, ..Effort::default() });
        let plan = part.in_whole(self.plan, &found.plan);
        verify(self.problem, &plan).ok()?;
        Some((plan, is_proven(&found), found.work_units))
    }

    /// What one more of a limit would bring; where one brings nothing, what room for one more replica would.
    /// `None` where nothing was found out.
    pub fn more(&mut self, limit: usize) -> Option<More> {
        let one = self.more_by(limit, 1.0)?;
        let step = self.replica_step(limit);
        if !one.difference.is_nothing() || step <= 1.0 {
            return Some(one);
        }
        self.more_by(limit, step).filter(|m| !m.difference.is_nothing()).or(Some(one))
    }

    fn more_by(&mut self, limit: usize, amount: f64) -> Option<More> {
        let users = &self.problem.limits[limit].uses;
        let mut chosen: Vec<usize> = users.iter().map(|(pool, _)| self.wide.pools[*pool]).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let mut wider = self.problem.clone();
        wider.limits[limit].most = self.problem.most(&wider.limits[limit]) + amount;
        for &(pool, each) in users.iter().filter(|(pool, each)| self.is_bounded_by(limit, *pool, *each)) {
            wider.pools[pool].max = whole(wider.limits[limit].most / each);
        }
        let effort = Effort { units: self.effort, ..Effort::default() };
        let part = Part::new(&wider, self.plan, &self.wide, &chosen);
        let found = solve(&part.problem, &effort);
        self.spent += found.work_units;
        let mut before = self.plan.clone();
        if !self.proven {
            // Both are searched alike, or luck of the search would be taken for a gain.
            let part = Part::new(self.problem, self.plan, &self.wide, &chosen);
            let again = solve(&part.problem, &effort);
            self.spent += again.work_units;
            before = better(self.problem, before, part.in_whole(self.plan, &again.plan));
        }
        let plan = part.in_whole(self.plan, &found.plan);
        verify(&wider, &plan).ok()?;
        // What was possible stays possible: nothing found is nothing gained.
        let plan = better(&wider, before.clone(), plan);
        let difference = Difference::between(self.problem, &before, &plan);
        Some(More { limit, amount, difference, proven: self.proven && is_proven(&found) })
    }

    /// How much more makes room for one more replica of some pool, in whole numbers.
    fn replica_step(&self, index: usize) -> f64 {
        let free = self.room.free[index];
        let limit = &self.problem.limits[index];
        let may_grow = |pool: usize, amount: f64| {
            self.plan.replicas[pool] < self.problem.pools[pool].max || self.is_bounded_by(index, pool, amount)
        };
        let needs = limit.uses.iter().filter(|(p, a)| *a > 0.0 && may_grow(*p, *a)).map(|(_, amount)| amount - free);
        needs.filter(|need| *need > 0.0).reduce(f64::min).unwrap_or(0.0).ceil()
    }

    /// Whether the pool's own upper limit says no more than this limit does: one that was derived from the stock
    /// moves with it.
    fn is_bounded_by(&self, limit: usize, pool: usize, amount: f64) -> bool {
        let option = &self.problem.pools[pool];
        let most = self.problem.most(&self.problem.limits[limit]);
        amount > 0.0 && option.min < option.max && option.max == whole(most / amount)
    }

    /// What stops the pool from another number.
    pub fn binds(&self, pool: usize) -> Binds {
        let (option, n) = (&self.problem.pools[pool], self.plan.replicas[pool]);
        let is_tight = |&&(limit, amount): &&(usize, f64)| amount > 0.0 && self.room.is_short(limit, amount);
        Binds {
            at_min: n <= option.min,
            at_max: n >= option.max,
            limits: self.room.uses[pool].iter().filter(is_tight).map(|(limit, _)| *limit).collect(),
        }
    }

    /// Limits on accelerators.
    pub fn stocks(&self) -> Vec<usize> {
        let is_stock = |l: &usize| self.problem.limits[*l].kind == LimitKind::Stock;
        (0..self.problem.limits.len()).filter(is_stock).collect()
    }
}

impl Difference {
    /// What `other` costs and leaves unserved beyond `chosen`.
    pub fn between(problem: &Problem, chosen: &Plan, other: &Plan) -> Self {
        let pairs = problem.shortfall_by_priority(&chosen.shortfall).into_iter();
        let further =
            pairs.zip(problem.shortfall_by_priority(&other.shortfall)).filter_map(|((priority, a), (_, b))| {
                let is_rounding = (b - a).abs() <= ROUNDING * a.max(b).max(1e-3);
                (!is_rounding).then_some((priority, b - a))
            });
        let pools = chosen.replicas.iter().zip(&other.replicas).enumerate();
        Self {
            cost_per_hour: rounded(cost(problem, other), cost(problem, chosen)),
            price_per_hour: rounded(problem.cost_per_hour(&other.replicas), problem.cost_per_hour(&chosen.replicas)),
            shortfall: further.collect(),
            replicas: pools.filter(|(_, (a, b))| a != b).map(|(pool, (&a, &b))| (pool, a, b)).collect(),
        }
    }

    /// Neither cheaper nor dearer, and as much is served.
    pub fn is_nothing(&self) -> bool {
        self.shortfall.is_empty() && self.cost_per_hour == 0.0
    }

    /// The better one first: served load before cost, important load before other load.
    pub fn compare(&self, other: &Self) -> Ordering {
        let of = |d: &Self, priority: i32| d.shortfall.iter().find(|s| s.0 == priority).map_or(0.0, |s| s.1);
        let mut priorities: Vec<i32> = self.shortfall.iter().chain(&other.shortfall).map(|s| s.0).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        let by_service = priorities.into_iter().map(|p| of(self, p).total_cmp(&of(other, p)));
        by_service.chain([self.cost_per_hour.total_cmp(&other.cost_per_hour)]).fold(Ordering::Equal, Ordering::then)
    }
}

/// What the plan costs, without a price for what is not served.
fn cost(problem: &Problem, plan: &Plan) -> f64 {
    let penalty: f64 = match &problem.objective {
        Objective::Strict => 0.0,
        Objective::Weighted(prices) => prices.iter().zip(&plan.shortfall).map(|(price, short)| price * short).sum(),
    };
    problem.objective(plan) - penalty
}

fn rounded(a: f64, b: f64) -> f64 {
    if (a - b).abs() <= ROUNDING * a.abs().max(b.abs()) { 0.0 } else { a - b }
}

fn better(problem: &Problem, before: Plan, other: Plan) -> Plan {
    let difference = Difference::between(problem, &before, &other);
    let gains = match problem.objective {
        Objective::Strict => difference.compare(&Difference::default()) == Ordering::Less,
        Objective::Weighted(_) => rounded(problem.objective(&other), problem.objective(&before)) < 0.0,
    };
    if gains { other } else { before }
}

/// The whole number of replicas in it.
fn whole(replicas: f64) -> u32 {
    (replicas * (1.0 + 1e-9)).floor().clamp(0.0, f64::from(u32::MAX)) as u32
}

fn is_proven(solution: &Solution) -> bool {
    solution.gap <= ROUNDING && !solution.stopped
}

/// Whether the limit is something that every pool under it uses up, so that pools can be looked at apart while
/// there is room.
fn is_used_up_by_all(limit: &Limit) -> bool {
    limit.uses.iter().all(|(_, amount)| *amount >= 0.0)
}

/// What a plan leaves of each limit.
struct Room {
    free: Vec<f64>,
    /// What rounding may add.
    slack: Vec<f64>,
    /// (limit, amount) of each pool.
    uses: Vec<Vec<(usize, f64)>>,
}

impl Room {
    fn new(problem: &Problem, plan: &Plan) -> Self {
        let mut uses = vec![vec![]; problem.pools.len()];
        for (limit, row) in problem.limits.iter().enumerate() {
            row.uses.iter().for_each(|&(pool, amount)| uses[pool].push((limit, amount)));
        }
        let most: Vec<f64> = problem.limits.iter().map(|l| problem.most(l)).collect();
        Self {
            free: problem.limits.iter().zip(&most).map(|(l, most)| most - l.used(&plan.replicas)).collect(),
            slack: most.iter().map(|m| ROUNDING * m.abs().max(1.0)).collect(),
            uses,
        }
    }

    /// Whether there is no room for one more replica that takes `amount`.
    fn is_short(&self, limit: usize, amount: f64) -> bool {
        amount > self.free[limit] + self.slack[limit]
    }

    /// Whether some pool that could grow finds no room.
    fn is_full(&self, problem: &Problem, plan: &Plan, limit: usize) -> bool {
        let may_grow = |pool: usize| plan.replicas[pool] < problem.pools[pool].max;
        problem.limits[limit].uses.iter().any(|&(pool, amount)| may_grow(pool) && self.is_short(limit, amount))
    }
}
