//! The exact solver: the problem as a mixed integer program, solved stage by stage.
//!
//! Shares of cells are continuous (never make the split integer: it only costs time), replicas are
//! integer, and a pool with several latency levels opens one of them. Stages: the load that is not
//! served, one stage for each priority, then cost. When everything can be served the first stages are
//! skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use good_lp::solvers::microlp::{MicroLpProblem, microlp};
use good_lp::{Expression, ProblemVariables, SolverModel, Variable, constraint, variable};
use microlp::SolveOptions;

use super::{Flow, Plan, Problem, Serve};

/// Answer of the exact solver.
pub(super) struct Exact {
    pub plan: Plan,
    pub gap: f64,
    pub work_units: u64,
}

/// Share of a cell below which a flow is noise of the solver.
const NOISE: f64 = 1e-9;
/// Slack given to the stages before, relative.
const STAGE_SLACK: f64 = 1e-7;
/// Price of operating a pool at another latency level than now, share of one replica's price per hour: its
/// queue is of the old kind, and so are the requests on their way.
const TIER_CHANGE: f64 = 0.1;
/// Weight of the order of names against the price, so that ties always fall the same way.
const TIE: f64 = 1e-7;

/// Solve exactly within `nodes` branch-and-bound nodes per stage; `None` when no plan was found within
/// them or the solver failed.
pub(super) fn exact(problem: &Problem, nodes: u64) -> Option<Exact> {
    let mut work = 0;
    let all_served: Vec<Option<f64>> = vec![Some(0.0); problem.cells.len()];
    if let Some(found) = stage(problem, &Goal::Cost, &Fixed::Each(all_served), nodes, &mut work) {
        return Some(found.finish(problem, work));
    }
    let mut limits: Vec<(i32, f64)> = vec![];
    let zero = vec![0.0; problem.cells.len()];
    for (priority, _) in problem.shortfall_by_priority(&zero) {
        let found = stage(problem, &Goal::Shortfall(priority), &Fixed::Sums(limits.clone()), nodes, &mut work)?;
        let least = found.shortfall_of(problem, priority);
        limits.push((priority, least));
    }
    stage(problem, &Goal::Cost, &Fixed::Sums(limits), nodes, &mut work).map(|found| found.finish(problem, work))
}

enum Goal {
    Shortfall(i32),
    Cost,
}

/// What earlier stages decided about the shortfall.
enum Fixed {
    /// At most this share of each cell; `None` leaves it free.
    Each(Vec<Option<f64>>),
    /// At most this rate in all cells of a priority.
    Sums(Vec<(i32, f64)>),
}

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
}

struct Columns {
    /// (index into `problem.serves`, share of the cell).
    shares: Vec<(usize, Column)>,
    /// Share of each cell that is not served; absent for a cell without load.
    short: Vec<Option<Column>>,
    levels: Vec<Level>,
    /// Replicas started beyond the running ones, where a start costs something.
    starts: Vec<Option<Column>>,
}

struct Found {
    replicas: Vec<u32>,
    tiers: Vec<Option<usize>>,
    /// (index into `problem.serves`, share of the cell).
    shares: Vec<(usize, f64)>,
    short: Vec<f64>,
    gap: f64,
}

fn stage(problem: &Problem, goal: &Goal, fixed: &Fixed, nodes: u64, work: &mut u64) -> Option<Found> {
    let mut vars = ProblemVariables::new();
    let columns = add_columns(problem, fixed, &mut vars);
    let objective = objective(problem, goal, &columns);
    let mut model = vars.minimise(objective).using(microlp);
    add_rows(problem, fixed, &columns, &mut model);

    let mut options = SolveOptions::default();
    options.node_limit = Some(nodes);
    options.mip_gap = 1e-6;
    // A panic of the solver must not end the loop; the model is dropped with it.
    let (values, gap, pivots) = catch_unwind(AssertUnwindSafe(|| {
        let outcome = model.as_inner().solve_with(options).ok()?;
        let stats = outcome.stats();
        let values: Option<Vec<f64>> = outcome.solution().map(|s| s.iter().map(|(_, v)| v).collect());
        Some((values, stats.gap.unwrap_or(0.0), stats.lp_iterations))
    }))
    .ok()??;
    *work += pivots.max(1);
    let values = values?;
    values.iter().all(|v| v.is_finite()).then(|| read(problem, &columns, &values, gap.max(0.0)))
}

fn add_columns(problem: &Problem, fixed: &Fixed, vars: &mut ProblemVariables) -> Columns {
    let mut count = 0;
    let mut add = |definition| {
        count += 1;
        Column { variable: vars.add(definition), at: count - 1 }
    };
    let unit = || variable().min(0.0).max(1.0);
    let has_load = |cell: usize| problem.cells[cell].rate > 0.0;
    let shares =
        (0..problem.serves.len()).filter(|&i| has_load(problem.serves[i].cell)).map(|i| (i, add(unit()))).collect();
    let short = (0..problem.cells.len())
        .map(|cell| {
            let most = match fixed {
                Fixed::Each(limits) => limits[cell].unwrap_or(1.0),
                Fixed::Sums(_) => 1.0,
            };
            has_load(cell).then(|| add(variable().min(0.0).max(most)))
        })
        .collect();
    let mut levels = vec![];
    for (pool, option) in problem.pools.iter().enumerate() {
        let tiers = tiers_of(problem, pool);
        let several = tiers.len() > 1;
        for tier in tiers {
            let least = if several { 0 } else { option.min };
            let replicas = add(variable().integer().min(f64::from(least)).max(f64::from(option.max)));
            let open = several.then(|| add(variable().binary()));
            levels.push(Level { pool, tier, replicas, open });
        }
    }
    let starts = problem
        .pools
        .iter()
        .map(|p| (p.start_cost_per_hour > 0.0).then(|| add(variable().min(0.0).max(f64::from(p.max)))))
        .collect();
    Columns { shares, short, levels, starts }
}

fn tiers_of(problem: &Problem, pool: usize) -> Vec<usize> {
    let mut tiers: Vec<usize> = problem.serves.iter().filter(|s| s.pool == pool).map(|s| s.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    // A pool that can serve nothing still has replicas to count.
    if tiers.is_empty() { vec![0] } else { tiers }
}

fn objective(problem: &Problem, goal: &Goal, columns: &Columns) -> Expression {
    let mut sum = Expression::from(0.0);
    match goal {
        Goal::Shortfall(priority) => {
            for (cell, short) in problem.cells.iter().zip(&columns.short) {
                if let (Some(short), true) = (short, cell.priority == *priority) {
                    sum += cell.rate * short.variable;
                }
            }
        }
        Goal::Cost => {
            for level in &columns.levels {
                let price = problem.pools[level.pool].price_per_hour.max(TIE);
                sum += price * (1.0 + TIE * level.pool as f64) * level.replicas.variable;
            }
            for level in &columns.levels {
                let pool = &problem.pools[level.pool];
                if let (Some(open), Some(now)) = (level.open, pool.tier)
                    && now != level.tier
                {
                    sum += TIER_CHANGE * pool.price_per_hour * open.variable;
                }
            }
            for (pool, start) in problem.pools.iter().zip(&columns.starts) {
                if let Some(start) = start {
                    sum += pool.start_cost_per_hour * start.variable;
                }
            }
            // Where load must stay unserved, the least of it: without this a priced zero would be free to drop it.
            for (cell, short) in problem.cells.iter().zip(&columns.short) {
                if let Some(short) = short {
                    sum += TIE * cell.rate * short.variable;
                }
            }
        }
    }
    sum
}

fn add_rows(problem: &Problem, fixed: &Fixed, columns: &Columns, model: &mut MicroLpProblem) {
    for (cell, short) in columns.short.iter().enumerate() {
        let Some(short) = short else { continue };
        let served: Expression = shares_where(problem, columns, |s| s.cell == cell).map(|(_, c)| c.variable).sum();
        model.add_constraint(constraint!(served + short.variable == 1.0));
    }
    for level in &columns.levels {
        let mut load = Expression::from(0.0);
        for (serve, column) in shares_where(problem, columns, |s| s.pool == level.pool && s.tier == level.tier) {
            let replicas = problem.cells[serve.cell].rate / serve.rate;
            load += replicas * column.variable;
            if replicas < 1.0 {
                // Closes most of the gap of the relaxation when models need few replicas.
                model.add_constraint(constraint!(column.variable <= level.replicas.variable));
            }
        }
        model.add_constraint(constraint!(load <= level.replicas.variable));
        if let Some(open) = level.open {
            let most = f64::from(problem.pools[level.pool].max);
            model.add_constraint(constraint!(level.replicas.variable <= most * open.variable));
        }
    }
    add_pool_rows(problem, columns, model);
    if let Fixed::Sums(limits) = fixed {
        for (priority, limit) in limits {
            let mut sum = Expression::from(0.0);
            for (cell, short) in problem.cells.iter().zip(&columns.short) {
                if let (Some(short), true) = (short, cell.priority == *priority) {
                    sum += cell.rate * short.variable;
                }
            }
            model.add_constraint(constraint!(sum <= limit * (1.0 + STAGE_SLACK) + STAGE_SLACK));
        }
    }
}

fn add_pool_rows(problem: &Problem, columns: &Columns, model: &mut MicroLpProblem) {
    let replicas_of = |pool: usize| -> Expression {
        columns.levels.iter().filter(|l| l.pool == pool).map(|l| l.replicas.variable).sum()
    };
    for (pool, option) in problem.pools.iter().enumerate() {
        let open: Vec<Variable> =
            columns.levels.iter().filter(|l| l.pool == pool).filter_map(|l| l.open.map(|o| o.variable)).collect();
        if !open.is_empty() {
            let open: Expression = open.into_iter().sum();
            model.add_constraint(constraint!(open <= 1.0));
            model.add_constraint(constraint!(replicas_of(pool) >= f64::from(option.min)));
        }
        if let Some(start) = columns.starts[pool] {
            model.add_constraint(constraint!(replicas_of(pool) - start.variable <= f64::from(option.running)));
        }
    }
    for (accelerator, &stock) in problem.stock.iter().enumerate() {
        let mut used = Expression::from(0.0);
        for level in columns.levels.iter().filter(|l| problem.pools[l.pool].accelerator == accelerator) {
            used += f64::from(problem.pools[level.pool].units) * level.replicas.variable;
        }
        model.add_constraint(constraint!(used <= f64::from(stock)));
    }
}

fn shares_where<'a>(
    problem: &'a Problem,
    columns: &'a Columns,
    wanted: impl Fn(&Serve) -> bool + 'a,
) -> impl Iterator<Item = (&'a Serve, Column)> + 'a {
    columns.shares.iter().map(|(i, c)| (&problem.serves[*i], *c)).filter(move |(s, _)| wanted(s))
}

fn read(problem: &Problem, columns: &Columns, values: &[f64], gap: f64) -> Found {
    let mut replicas = vec![0u32; problem.pools.len()];
    let mut tiers = vec![None; problem.pools.len()];
    for level in &columns.levels {
        let n = values[level.replicas.at].round().max(0.0) as u32;
        replicas[level.pool] += n;
        if n > 0 {
            tiers[level.pool] = Some(level.tier);
        }
    }
    Found {
        replicas,
        tiers,
        shares: columns.shares.iter().map(|(i, c)| (*i, values[c.at].clamp(0.0, 1.0))).collect(),
        short: columns.short.iter().map(|c| c.map_or(0.0, |c| values[c.at].clamp(0.0, 1.0))).collect(),
        gap,
    }
}

impl Found {
    fn shortfall_of(&self, problem: &Problem, priority: i32) -> f64 {
        problem.cells.iter().zip(&self.short).filter(|(c, _)| c.priority == priority).map(|(c, s)| c.rate * s).sum()
    }

    /// Shares become flows; noise is dropped and the rest scaled so that every cell adds up exactly.
    fn finish(self, problem: &Problem, work_units: u64) -> Exact {
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
                Flow { cell: serve.cell, pool: serve.pool, rate: problem.cells[serve.cell].rate * share * scale }
            })
            .collect();
        let mut tiers = self.tiers;
        for (pool, tier) in tiers.iter_mut().enumerate() {
            if !flows.iter().any(|f| f.pool == pool) {
                *tier = None;
            }
        }
        let shortfall = problem
            .cells
            .iter()
            .enumerate()
            .map(|(cell, c)| if served[cell] > 0.0 { c.rate * short[cell] } else { c.rate })
            .collect();
        Exact { plan: Plan { replicas: self.replicas, tiers, flows, shortfall }, gap: self.gap, work_units }
    }
}
