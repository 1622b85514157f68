//! Columns and rows of the program, and the way back from its values to a plan.

use good_lp::solvers::microlp::MicroLpProblem;
use good_lp::{Expression, ProblemVariables, SolverModel, Variable, constraint, variable};

use super::{Fixed, Goal};
use crate::plan::problem::TIER_CHANGE;
use crate::plan::{Flow, Objective, Plan, Problem};

/// Share of a cell below which a flow is noise of the solver.
const NOISE: f64 = 1e-9;
/// Slack given to the stages before, as a part of the priority's load.
pub(super) const STAGE_SLACK: f64 = 1e-7;
/// Weight of the order of names against the price, so that ties always fall the same way.
pub(super) const TIE: f64 = 1e-7;

/// A column and its place in the solver's answer.
#[derive(Clone, Copy)]
struct Column {
    variable: Variable,
    at: usize,
}

/// Replicas of one pool at one latency level.
struct Level {
    pool: usize,
    tier: usize,
    replicas: Column,
    /// 1 where this level is the pool's; absent for a pool with one level.
    open: Option<Column>,
    /// (share, replicas it takes): what the level carries.
    carries: Vec<(Column, f64)>,
}

/// The program's columns, by what they mean.
pub(super) struct Columns {
    /// (index into `problem.serves`, share of the cell).
    shares: Vec<(usize, Column)>,
    /// Share of each cell that is not served; absent for a cell without load, or when all must be served.
    short: Vec<Option<Column>>,
    levels: Vec<Level>,
    /// Levels of each pool.
    of_pool: Vec<Vec<usize>>,
    /// Replicas started beyond the running ones, where a start or a stop costs something.
    starts: Vec<Option<Column>>,
    /// Part of the objective that no plan changes.
    constant: f64,
    count: usize,
}

/// Values of the program that are a plan.
pub(super) struct Found {
    replicas: Vec<u32>,
    tiers: Vec<Option<usize>>,
    /// (index into `problem.serves`, share of the cell).
    shares: Vec<(usize, f64)>,
    short: Vec<f64>,
}

struct Adder {
    vars: ProblemVariables,
    count: usize,
}

impl Adder {
    fn add(&mut self, definition: good_lp::VariableDefinition) -> Column {
        self.count += 1;
        Column { variable: self.vars.add(definition), at: self.count - 1 }
    }
}

impl Columns {
    pub(super) fn new(problem: &Problem, goal: &Goal, fixed: &Fixed) -> (ProblemVariables, Self, Expression) {
        let mut adder = Adder { vars: ProblemVariables::new(), count: 0 };
        let has_load = |cell: usize| problem.cells[cell].rate > 0.0;
        let unit = || variable().min(0.0).max(1.0);
        let must_serve = |cell: usize| match fixed {
            Fixed::Served => true,
            Fixed::Sums(limits) => {
                let priority = problem.cells[cell].priority;
                limits.iter().any(|(p, most)| *p == priority && *most <= STAGE_SLACK * rate_of(problem, priority))
            }
        };
        let short = (0..problem.cells.len())
            .map(|cell| (has_load(cell) && !must_serve(cell)).then(|| adder.add(unit())))
            .collect();
        let (mut levels, mut of_pool) = (vec![], vec![]);
        for (pool, tiers) in tiers_of(problem).into_iter().enumerate() {
            let option = &problem.pools[pool];
            let several = tiers.len() > 1;
            let first = levels.len();
            for tier in tiers {
                let least = if several { 0 } else { option.min };
                let replicas = adder.add(variable().integer().min(f64::from(least)).max(f64::from(option.max)));
                let open = several.then(|| adder.add(variable().binary()));
                levels.push(Level { pool, tier, replicas, open, carries: vec![] });
            }
            of_pool.push((first..levels.len()).collect::<Vec<usize>>());
        }
        let mut shares = vec![];
        for (index, serve) in problem.serves.iter().enumerate().filter(|(_, s)| has_load(s.cell)) {
            let column = adder.add(unit());
            shares.push((index, column));
            for stage in serve.stages() {
                let level = of_pool[stage.pool].iter().find(|&&l| levels[l].tier == stage.tier);
                // Every tier of a serve has its level.
                if let Some(&level) = level {
                    levels[level].carries.push((column, problem.cells[serve.cell].rate / stage.rate));
                }
            }
        }
        let switches = |p: &crate::plan::PoolOption| p.start_cost_per_hour > 0.0 || p.stop_cost_per_hour > 0.0;
        let starts = problem
            .pools
            .iter()
            .map(|p| switches(p).then(|| adder.add(variable().min(0.0).max(f64::from(p.max)))))
            .collect();
        let constant = problem.pools.iter().map(|p| p.stop_cost_per_hour * f64::from(p.running)).sum();
        let columns = Self { shares, short, levels, of_pool, starts, constant, count: adder.count };
        let objective = columns.objective(problem, goal);
        (adder.vars, columns, objective)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A bound of the program as a bound of the problem's objective: the order of names is taken out.
    pub(super) fn true_bound(&self, problem: &Problem, bound: f64) -> f64 {
        let ties = TIE * problem.pools.len() as f64;
        bound - ties * bound.abs() + self.constant
    }

    fn objective(&self, problem: &Problem, goal: &Goal) -> Expression {
        let mut sum = Expression::with_capacity(self.count);
        let shorts = || problem.cells.iter().zip(&self.short).enumerate().filter_map(|(i, (c, s))| Some((i, c, (*s)?)));
        if let Goal::Shortfall(priority) = goal {
            let all = rate_of(problem, *priority);
            for (_, cell, short) in shorts().filter(|(_, c, _)| c.priority == *priority) {
                sum.add_mul(cell.rate / all, short.variable);
            }
            return sum;
        }
        for level in &self.levels {
            let pool = &problem.pools[level.pool];
            let price = pool.price_per_hour.max(TIE) * (1.0 + TIE * level.pool as f64);
            sum.add_mul(price - pool.stop_cost_per_hour, level.replicas.variable);
            if let (Some(open), Some(now)) = (level.open, pool.tier)
                && now != level.tier
            {
                sum.add_mul(TIER_CHANGE * pool.price_per_hour, open.variable);
            }
        }
        for (pool, start) in problem.pools.iter().zip(&self.starts) {
            if let Some(start) = start {
                sum.add_mul(pool.start_cost_per_hour + pool.stop_cost_per_hour, start.variable);
            }
        }
        for (index, cell, short) in shorts() {
            let price = match &problem.objective {
                Objective::Weighted(penalties) => penalties[index],
                // Where load must stay unserved, the least of it: without this a zero price would drop it.
                Objective::Strict => TIE,
            };
            sum.add_mul(price * cell.rate, short.variable);
        }
        sum
    }

    /// Add all rows; returns how many.
    pub(super) fn add_rows(&self, problem: &Problem, goal: &Goal, fixed: &Fixed, model: &mut MicroLpProblem) -> usize {
        let mut rows = 0;
        let mut add = |row| {
            model.add_constraint(row);
            rows += 1;
        };
        let mut served: Vec<Expression> =
            self.short.iter().map(|s| s.map_or(0.0.into(), |s| s.variable.into())).collect();
        for (index, column) in &self.shares {
            served[problem.serves[*index].cell].add_mul(1.0, column.variable);
        }
        for (_, served) in problem.cells.iter().zip(served).filter(|(c, _)| c.rate > 0.0) {
            add(constraint!(served == 1.0));
        }
        for level in &self.levels {
            let mut load = Expression::with_capacity(level.carries.len() + 1);
            for (column, replicas) in &level.carries {
                load.add_mul(*replicas, column.variable);
                if *replicas < 1.0 && !matches!(goal, Goal::Shortfall(_)) {
                    // Closes most of the gap of the relaxation when models need few replicas.
                    add(constraint!(column.variable <= level.replicas.variable));
                }
            }
            if !level.carries.is_empty() {
                add(constraint!(load <= level.replicas.variable));
            }
            if let Some(open) = level.open {
                let most = f64::from(problem.pools[level.pool].max);
                add(constraint!(level.replicas.variable <= most * open.variable));
            }
        }
        for row in self.pool_rows(problem) {
            add(row);
        }
        if let Fixed::Sums(limits) = fixed {
            for &(priority, limit) in limits {
                let mut sum = Expression::from(0.0);
                for (cell, short) in problem.cells.iter().zip(&self.short) {
                    if let (Some(short), true) = (short, cell.priority == priority) {
                        sum.add_mul(cell.rate, short.variable);
                    }
                }
                add(constraint!(sum <= limit + STAGE_SLACK * rate_of(problem, priority)));
            }
        }
        rows
    }

    fn pool_rows(&self, problem: &Problem) -> Vec<good_lp::Constraint> {
        let mut rows = vec![];
        let replicas_of =
            |pool: usize| -> Expression { self.of_pool[pool].iter().map(|&l| self.levels[l].replicas.variable).sum() };
        for (pool, option) in problem.pools.iter().enumerate() {
            let open: Vec<Variable> =
                self.of_pool[pool].iter().filter_map(|&l| self.levels[l].open.map(|o| o.variable)).collect();
            if !open.is_empty() {
                let open: Expression = open.into_iter().sum();
                rows.push(constraint!(open <= 1.0));
                rows.push(constraint!(replicas_of(pool) >= f64::from(option.min)));
            }
            if let Some(start) = self.starts[pool] {
                rows.push(constraint!(replicas_of(pool) - start.variable <= f64::from(option.running)));
            }
        }
        for limit in &problem.limits {
            let mut used = Expression::with_capacity(limit.uses.len());
            for &(pool, amount) in &limit.uses {
                for &level in &self.of_pool[pool] {
                    used.add_mul(amount, self.levels[level].replicas.variable);
                }
            }
            rows.push(constraint!(used <= problem.most(limit)));
        }
        rows
    }

    /// The plan as values of the columns, for the solver to begin from; `None` when it is no answer to this
    /// stage.
    pub(super) fn values_of(
        &self,
        problem: &Problem,
        fixed: &Fixed,
        plan: &Plan,
    ) -> Option<Vec<(microlp::Variable, f64)>> {
        if matches!(fixed, Fixed::Served) && plan.shortfall.iter().any(|s| *s > 0.0) {
            return None;
        }
        let mut values = vec![0.0; self.count];
        for level in &self.levels {
            let first = self.levels[self.of_pool[level.pool][0]].tier;
            let here = plan.tiers[level.pool].unwrap_or(first) == level.tier;
            let n = f64::from(plan.replicas[level.pool]);
            values[level.replicas.at] = if here { n } else { 0.0 };
            if let Some(open) = level.open {
                values[open.at] = f64::from(u8::from(here && n > 0.0));
            }
        }
        for (index, column) in &self.shares {
            let serve = &problem.serves[*index];
            let flow = plan.flows.iter().filter(|f| {
                f.cell == serve.cell
                    && f.pool == serve.pool
                    && Some(serve.tier) == plan.tiers[serve.pool]
                    && f.then == serve.then.map(|s| s.pool)
            });
            values[column.at] = flow.map(|f| f.rate).sum::<f64>() / problem.cells[serve.cell].rate;
        }
        for ((cell, short), column) in problem.cells.iter().zip(&plan.shortfall).zip(&self.short) {
            if let Some(column) = column {
                values[column.at] = short / cell.rate;
            }
        }
        for ((pool, n), start) in problem.pools.iter().zip(&plan.replicas).zip(&self.starts) {
            if let Some(start) = start {
                values[start.at] = f64::from(n.saturating_sub(pool.running));
            }
        }
        // The solver's handles are its columns' places; a program of the same width gives them out.
        let mut handles = microlp::Problem::new(microlp::OptimizationDirection::Minimize);
        Some(values.into_iter().map(|v| (handles.add_var(0.0, (0.0, 0.0)), v)).collect())
    }

    pub(super) fn read(&self, values: &[f64]) -> Found {
        let mut replicas = vec![0u32; self.of_pool.len()];
        let mut tiers = vec![None; self.of_pool.len()];
        for level in &self.levels {
            let n = values[level.replicas.at].round().max(0.0) as u32;
            replicas[level.pool] += n;
            if n > 0 {
                tiers[level.pool] = Some(level.tier);
            }
        }
        Found {
            replicas,
            tiers,
            shares: self.shares.iter().map(|(i, c)| (*i, values[c.at].clamp(0.0, 1.0))).collect(),
            short: self.short.iter().map(|c| c.map_or(0.0, |c| values[c.at].clamp(0.0, 1.0))).collect(),
        }
    }
}

/// Load of one priority, requests per second.
pub(super) fn rate_of(problem: &Problem, priority: i32) -> f64 {
    problem.cells.iter().filter(|c| c.priority == priority).map(|c| c.rate).sum()
}

/// Latency levels of each pool, tightest first.
fn tiers_of(problem: &Problem) -> Vec<Vec<usize>> {
    let mut tiers = vec![vec![]; problem.pools.len()];
    for stage in problem.serves.iter().flat_map(|s| s.stages()) {
        tiers[stage.pool].push(stage.tier);
    }
    for tiers in &mut tiers {
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() {
            // A pool that can serve nothing still has replicas to count.
            tiers.push(0);
        }
    }
    tiers
}

impl Found {
    pub(super) fn shortfall_of(&self, problem: &Problem, priority: i32) -> f64 {
        problem.cells.iter().zip(&self.short).filter(|(c, _)| c.priority == priority).map(|(c, s)| c.rate * s).sum()
    }

    /// Shares become flows; noise is dropped and the rest scaled so that every cell adds up exactly.
    pub(super) fn plan(self, problem: &Problem) -> Plan {
        let mut served = vec![0.0; problem.cells.len()];
        let kept: Vec<(usize, f64)> = self.shares.into_iter().filter(|(_, share)| *share > NOISE).collect();
        for (index, share) in &kept {
            served[problem.serves[*index].cell] += share;
        }
        let short: Vec<f64> = self.short.iter().map(|&s| if s <= NOISE { 0.0 } else { s }).collect();
        let flows: Vec<Flow> = kept
            .iter()
            .map(|(index, share)| {
                let serve = &problem.serves[*index];
                let scale = (1.0 - short[serve.cell]) / served[serve.cell];
                let rate = problem.cells[serve.cell].rate * share * scale;
                Flow { cell: serve.cell, pool: serve.pool, then: serve.then.map(|s| s.pool), rate }
            })
            .collect();
        let mut tiers = self.tiers;
        for (pool, tier) in tiers.iter_mut().enumerate() {
            if !flows.iter().any(|f| f.pool == pool || f.then == Some(pool)) {
                *tier = None;
            }
        }
        let shortfall = problem
            .cells
            .iter()
            .enumerate()
            .map(|(cell, c)| if served[cell] > 0.0 { c.rate * short[cell] } else { c.rate })
            .collect();
        Plan { replicas: self.replicas, tiers, flows, shortfall }
    }
}
