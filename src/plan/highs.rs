//! A second opinion: the same problem, stated anew, for HiGHS. Behind the feature `highs`; nothing is decided with it.
//!
//! It shares no line with the program of the daemon's own exact solver, so that a mistake in either shows.

use std::collections::BTreeMap;

use highs::{Col, HighsModelStatus, HighsSolutionStatus, RowProblem, Sense};

use super::problem::TIER_CHANGE;
use super::{Objective, PoolOption, Problem};

/// What HiGHS found.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// `None` when the time was over before there was any plan.
    pub replicas: Option<Vec<u32>>,
    /// Load that is not served, by cell, requests per second.
    pub shortfall: Vec<f64>,
    /// As [`Solution::objective`](super::Solution::objective); infinite without a plan.
    pub objective: f64,
    /// No plan costs less, among those with this shortfall.
    pub bound: f64,
    /// Whether it was searched to its end.
    pub finished: bool,
}

/// Relative gap at which a program counts as solved.
const GAP: f64 = 1e-7;
/// Slack on the sums of the stages before, relative and absolute.
const SLACK: f64 = 1e-7;

/// Ask HiGHS, on one thread and for at most `seconds` for each stage, beginning from the replicas of a plan if one is
/// given. `None` when HiGHS fails or finds that no plan exists.
pub fn opinion(problem: &Problem, seconds: f64, start: Option<&[u32]>) -> Option<Opinion> {
    let mut sums: Vec<(i32, f64)> = vec![];
    let mut finished = true;
    if problem.objective == Objective::Strict {
        let none = vec![0.0; problem.cells.len()];
        for (priority, _) in problem.shortfall_by_priority(&none) {
            let stage = Program::new(problem, Some(priority), &sums).solve(problem, seconds, start)?;
            finished &= stage.finished;
            let short = problem.shortfall_by_priority(&stage.shortfall);
            sums.push((priority, short.iter().find(|(p, _)| *p == priority).map_or(0.0, |(_, s)| *s)));
        }
    }
    let last = Program::new(problem, None, &sums).solve(problem, seconds, start)?;
    Some(Opinion { finished: finished && last.finished, ..last })
}

struct Program {
    rows: RowProblem,
    /// Replicas of (pool, tier), in the order in which the columns were added.
    levels: BTreeMap<(usize, usize), Col>,
    /// Place of each of them, and of each cell's short share, among the columns.
    replicas_at: Vec<(usize, usize)>,
    short_at: Vec<usize>,
    columns: usize,
    constant: f64,
}

impl Program {
    /// Minimise the load of one priority that is not served, or cost; keep the sums of earlier stages.
    fn new(problem: &Problem, priority: Option<i32>, sums: &[(i32, f64)]) -> Self {
        let mut this = Self {
            rows: RowProblem::default(),
            levels: BTreeMap::new(),
            replicas_at: vec![],
            short_at: vec![],
            columns: 0,
            constant: 0.0,
        };
        for pool in 0..problem.pools.len() {
            this.add_pool(problem, pool, priority.is_none());
        }
        let short = this.add_cells(problem, priority);
        for &(of, limit) in sums {
            let cells = problem.cells.iter().zip(&short).filter(|(c, _)| c.priority == of);
            this.rows.add_row(..=limit * (1.0 + SLACK) + SLACK, cells.map(|(c, col)| (*col, c.rate)));
        }
        for limit in &problem.limits {
            let levels = &this.levels;
            let of_pool = |&(pool, amount): &(usize, f64)| {
                levels.range((pool, 0)..=(pool, usize::MAX)).map(move |(_, col)| (*col, amount))
            };
            let used: Vec<(Col, f64)> = limit.uses.iter().flat_map(of_pool).collect();
            this.rows.add_row(..=problem.most(limit), used);
        }
        this
    }

    fn column(&mut self, cost: f64, most: f64, integer: bool) -> (Col, usize) {
        self.columns += 1;
        let col = match integer {
            true => self.rows.add_integer_column(cost, 0.0..=most),
            false => self.rows.add_column(cost, 0.0..=most),
        };
        (col, self.columns - 1)
    }

    /// Replicas by latency level, at most one level open, starts and stops against what runs.
    fn add_pool(&mut self, problem: &Problem, pool: usize, costs: bool) {
        let option = &problem.pools[pool];
        let mut tiers: Vec<usize> =
            problem.serves.iter().flat_map(|s| s.stages()).filter(|s| s.pool == pool).map(|s| s.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() {
            tiers.push(0);
        }
        let price = |x: f64| if costs { x } else { 0.0 };
        let most = f64::from(option.max);
        let (mut all, mut open) = (vec![], vec![]);
        for &tier in &tiers {
            let (col, at) = self.column(price(option.price_per_hour - option.stop_cost_per_hour), most, true);
            self.levels.insert((pool, tier), col);
            self.replicas_at.push((pool, at));
            all.push((col, 1.0));
            if tiers.len() > 1 {
                let (is_open, _) = self.column(price(change_cost(option, tier)), 1.0, true);
                self.rows.add_row(..=0.0, [(col, 1.0), (is_open, -most)]);
                open.push((is_open, 1.0));
            }
        }
        if !open.is_empty() {
            self.rows.add_row(..=1.0, open);
        }
        self.rows.add_row(f64::from(option.min)..=most, all.clone());
        let switching = option.start_cost_per_hour + option.stop_cost_per_hour;
        let (started, _) = self.column(price(switching), most, false);
        self.rows.add_row(..=f64::from(option.running), all.into_iter().chain([(started, -1.0)]));
        self.constant += price(option.stop_cost_per_hour) * f64::from(option.running);
    }

    /// Shares of every cell, what is short of it, and the load they make; returns the short columns.
    fn add_cells(&mut self, problem: &Problem, priority: Option<i32>) -> Vec<Col> {
        let mut short = vec![];
        let mut of_cell: Vec<Vec<(Col, f64)>> = vec![];
        for (index, cell) in problem.cells.iter().enumerate() {
            let cost = match (&problem.objective, priority) {
                (_, Some(now)) => f64::from(u8::from(now == cell.priority)),
                (Objective::Weighted(penalties), None) => penalties[index],
                (Objective::Strict, None) => 0.0,
            };
            let (col, at) = self.column(cost * cell.rate, 1.0, false);
            short.push(col);
            self.short_at.push(at);
            of_cell.push(vec![(col, 1.0)]);
        }
        let mut load: BTreeMap<(usize, usize), Vec<(Col, f64)>> = BTreeMap::new();
        for serve in &problem.serves {
            let (share, _) = self.column(0.0, 1.0, false);
            of_cell[serve.cell].push((share, 1.0));
            for stage in serve.stages() {
                let replicas = problem.cells[serve.cell].rate / stage.rate;
                let level = self.levels[&(stage.pool, stage.tier)];
                load.entry((stage.pool, stage.tier)).or_default().push((share, replicas));
                if replicas < 1.0 {
                    self.rows.add_row(..=0.0, [(share, 1.0), (level, -1.0)]);
                }
            }
        }
        for all in of_cell {
            self.rows.add_row(1.0..=1.0, all);
        }
        for (level, load) in load {
            let replicas = self.levels[&level];
            self.rows.add_row(..=0.0, load.into_iter().chain([(replicas, -1.0)]));
        }
        short
    }

    fn solve(self, problem: &Problem, seconds: f64, start: Option<&[u32]>) -> Option<Opinion> {
        if self.columns == 0 {
            // Nothing to decide; HiGHS calls that no answer.
            let (objective, bound) = (self.constant, self.constant);
            return Some(Opinion { replicas: Some(vec![]), shortfall: vec![], objective, bound, finished: true });
        }
        let mut model = self.rows.try_optimise(Sense::Minimise).ok()?;
        model.make_quiet();
        model.try_set_option("threads", 1).ok()?;
        model.try_set_option("time_limit", seconds).ok()?;
        model.try_set_option("mip_rel_gap", GAP).ok()?;
        model.try_set_option("mip_abs_gap", 1e-6).ok()?;
        if let Some(start) = start {
            // Where a pool has one level; HiGHS finds the other columns itself, or does without.
            let mut values = vec![0.0; self.columns];
            for &(pool, at) in &self.replicas_at {
                values[at] = f64::from(start[pool]);
            }
            model.try_set_solution(Some(&values), None, None, None).ok()?;
        }
        let solved = model.try_solve().ok()?;
        if matches!(solved.status(), HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible) {
            return None;
        }
        let bound = solved.double_info_value(c"mip_dual_bound").ok()? + self.constant;
        if solved.primal_solution_status() != HighsSolutionStatus::Feasible {
            let shortfall = problem.cells.iter().map(|c| c.rate).collect();
            return Some(Opinion { replicas: None, shortfall, objective: f64::INFINITY, bound, finished: false });
        }
        let solution = solved.get_solution();
        let values = solution.columns();
        let mut replicas = vec![0; problem.pools.len()];
        for &(pool, at) in &self.replicas_at {
            replicas[pool] += values[at].round().max(0.0) as u32;
        }
        Some(Opinion {
            replicas: Some(replicas),
            shortfall: problem.cells.iter().zip(&self.short_at).map(|(c, &at)| c.rate * values[at]).collect(),
            objective: solved.objective_value() + self.constant,
            bound,
            finished: solved.status() == HighsModelStatus::Optimal,
        })
    }
}

/// Price of operating a pool at another latency level than now.
fn change_cost(option: &PoolOption, tier: usize) -> f64 {
    match option.tier {
        Some(now) if now != tier => TIER_CHANGE * option.price_per_hour,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
