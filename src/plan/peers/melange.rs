//! Mélange's program: each cell is cut into equal slices, each slice goes to one pool as a whole, cost is least.
//!
//! Rule: `tyler-griggs/melange-release:melange/solver.py` and `melange/lib/util.py` (Apache-2.0); AIBrix has the same
//! with a slice factor of 4. The source solves one model at a time and knows no stock and no running replicas. Here the
//! models take in turn what is left of the stock, and a slice that finds no place is paid for instead of making the
//! program insoluble. A search that reaches its node limit answers with the best it has.

use std::collections::{BTreeMap, BTreeSet};

use microlp::{ComparisonOp, OptimizationDirection, SolveOptions, Variable};

use super::Peer;
use crate::plan::{Limit, Objective, Problem, Serve};

/// Relative gap at which a program counts as solved.
const GAP: f64 = 1e-6;
/// Price of a request per second that is not served where the problem has none, over the dearest replica.
const NO_PRICE: f64 = 1e3;

/// Solve model by model with `slices` (at least 1) to a cell and at most `nodes` nodes for each model.
pub fn melange(problem: &Problem, slices: u32, nodes: u64) -> Peer {
    let mut left: Vec<f64> = problem.limits.iter().map(|l| problem.most(l).max(0.0)).collect();
    let mut peer = Peer { replicas: vec![0; problem.pools.len()], finished: true };
    let models: BTreeSet<usize> = problem.cells.iter().map(|c| c.model).collect();
    for model in models {
        let (replicas, finished) = Program::of(problem, model, slices.max(1), &left).solve(nodes);
        peer.finished &= finished;
        for (&pool, n) in &replicas {
            peer.replicas[pool] = (*n).clamp(problem.pools[pool].min, problem.pools[pool].max);
        }
        for (left, limit) in left.iter_mut().zip(&problem.limits) {
            let uses = limit.uses.iter().filter(|(pool, _)| replicas.contains_key(pool));
            *left -= uses.map(|&(pool, amount)| amount * f64::from(peer.replicas[pool])).sum::<f64>();
        }
    }
    peer
}

/// One slice and the columns it may go to.
struct Slice<'a> {
    ways: Vec<(&'a Serve, Variable)>,
    /// Requests per second.
    rate: f64,
    /// 1 when it finds no place.
    out: Variable,
}

/// The program of one model.
struct Program<'a> {
    program: microlp::Problem,
    /// Replicas of each of its pools.
    counts: BTreeMap<usize, Variable>,
    /// A start: each slice where it is cheapest, as long as there is room.
    start: Vec<(Variable, f64)>,
    slices: Vec<Slice<'a>>,
}

impl<'a> Program<'a> {
    fn of(problem: &'a Problem, model: usize, slices: u32, left: &[f64]) -> Self {
        let mut program = microlp::Problem::new(OptimizationDirection::Minimize);
        let ways: Vec<&Serve> =
            problem.serves.iter().filter(|s| problem.cells[s.cell].model == model && s.then.is_none()).collect();
        let pools: BTreeSet<usize> = ways.iter().map(|s| s.pool).collect();
        let most = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let count = |&pool: &usize| {
            let option = &problem.pools[pool];
            (pool, program.add_integer_var(option.price_per_hour, (0, most(option.max))))
        };
        let counts: BTreeMap<usize, Variable> = pools.iter().map(count).collect();
        let mut this = Self { program, counts, start: vec![], slices: vec![] };
        this.cut(problem, model, slices, &ways);
        for (&pool, &count) in &this.counts {
            let here = this.slices.iter().flat_map(|slice| slice.ways.iter().map(move |way| (slice.rate, way)));
            let load = here.filter(|(_, (s, _))| s.pool == pool).map(|(rate, (s, var))| (*var, rate / s.rate));
            let row: Vec<_> = load.chain([(count, -1.0)]).collect();
            this.program.add_constraint(row, ComparisonOp::Le, 0.0);
        }
        // Limits that ask for replicas instead of using something up are not known to the rule.
        let used_up = problem.limits.iter().zip(left).filter(|(l, _)| l.uses.iter().all(|(_, amount)| *amount >= 0.0));
        let own = |(limit, &most): (&Limit, &f64)| {
            let uses = limit.uses.iter().filter(|(pool, _)| this.counts.contains_key(pool)).copied();
            (uses.collect::<Vec<(usize, f64)>>(), most)
        };
        let rows: Vec<_> = used_up.map(own).filter(|(uses, _)| !uses.is_empty()).collect();
        for (uses, most) in &rows {
            let row: Vec<_> = uses.iter().map(|(pool, amount)| (this.counts[pool], *amount)).collect();
            this.program.add_constraint(row, ComparisonOp::Le, *most);
        }
        this.start = this.cheapest(problem, &rows);
        this
    }

    /// Columns of the slices, each of them placed once.
    fn cut(&mut self, problem: &Problem, model: usize, slices: u32, ways: &[&'a Serve]) {
        let dearest = problem.pools.iter().map(|p| p.price_per_hour).fold(0.0, f64::max);
        let cells = problem.cells.iter().enumerate();
        for (index, cell) in cells.filter(|(_, c)| c.model == model && c.rate > 0.0) {
            let rate = cell.rate / f64::from(slices);
            let price = match &problem.objective {
                Objective::Weighted(penalties) => penalties[index],
                Objective::Strict => NO_PRICE * dearest,
            };
            for _ in 0..slices {
                let of_cell = ways.iter().filter(|s| s.cell == index);
                let ways: Vec<_> = of_cell.map(|&s| (s, self.program.add_binary_var(0.0))).collect();
                let out = self.program.add_var(price * rate, (0.0, 1.0));
                let all: Vec<_> = ways.iter().map(|(_, var)| (*var, 1.0)).chain([(out, 1.0)]).collect();
                self.program.add_constraint(all, ComparisonOp::Eq, 1.0);
                self.slices.push(Slice { ways, rate, out });
            }
        }
    }

    fn cheapest(&self, problem: &Problem, limits: &[(Vec<(usize, f64)>, f64)]) -> Vec<(Variable, f64)> {
        let mut load: BTreeMap<usize, f64> = self.counts.keys().map(|&pool| (pool, 0.0)).collect();
        let mut values = vec![];
        let whole = |load: f64| (load - 1e-7).ceil().max(0.0);
        for slice in &self.slices {
            let price = |way: &&(&Serve, Variable)| problem.pools[way.0.pool].price_per_hour / way.0.rate;
            let best = slice.ways.iter().min_by(|a, b| price(a).total_cmp(&price(b)));
            let placed = best.filter(|(serve, _)| {
                let mut with = load.clone();
                with.entry(serve.pool).and_modify(|l| *l += slice.rate / serve.rate);
                let used = |uses: &[(usize, f64)]| uses.iter().map(|(p, amount)| amount * whole(with[p])).sum::<f64>();
                whole(with[&serve.pool]) <= f64::from(problem.pools[serve.pool].max)
                    && limits.iter().all(|(uses, most)| used(uses) <= *most)
            });
            if let Some((serve, _)) = placed {
                load.entry(serve.pool).and_modify(|l| *l += slice.rate / serve.rate);
            }
            let chosen = placed.map(|(_, var)| *var);
            values.extend(slice.ways.iter().map(|(_, var)| (*var, f64::from(u8::from(Some(*var) == chosen)))));
            values.push((slice.out, f64::from(u8::from(chosen.is_none()))));
        }
        values.extend(self.counts.iter().map(|(pool, count)| (*count, whole(load[pool]))));
        values
    }

    /// Replicas by pool, and whether they are proven to be the best.
    fn solve(self, nodes: u64) -> (BTreeMap<usize, u32>, bool) {
        let mut options = SolveOptions::default();
        options.mip_gap = GAP;
        options.node_limit = Some(nodes);
        options.warm_start = Some(self.start);
        let none = || (self.counts.keys().map(|&pool| (pool, 0)).collect(), self.slices.is_empty());
        if self.slices.is_empty() {
            return none();
        }
        let Ok(outcome) = self.program.solve_with(options) else { return none() };
        let Some(solution) = outcome.solution() else { return none() };
        let of = |(&pool, &count): (&usize, &Variable)| (pool, solution.var_value(count).round().max(0.0) as u32);
        (self.counts.iter().map(of).collect(), outcome.stats().gap.is_some_and(|gap| gap <= GAP))
    }
}
