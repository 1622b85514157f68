//! A plan without a solver: most important cells first, spare room before new replicas, the cheapest way
//! to carry the rest next. Never proven good, always feasible; the fall-back and the yardstick.

use super::{Flow, Plan, Problem, Serve};

/// Plan greedily; returns the plan and the steps taken.
pub(super) fn greedy(problem: &Problem) -> (Plan, u64) {
    let mut state = Greedy::new(problem);
    let mut order: Vec<usize> = (0..problem.cells.len()).collect();
    order.sort_by(|&a, &b| {
        let (ca, cb) = (&problem.cells[a], &problem.cells[b]);
        cb.priority.cmp(&ca.priority).then(state.choices[a].len().cmp(&state.choices[b].len())).then(a.cmp(&b))
    });
    for cell in order {
        state.place(cell);
    }
    state.trim();
    (state.plan, state.steps)
}

struct Greedy<'a> {
    problem: &'a Problem,
    plan: Plan,
    /// Load of each pool, in replicas.
    load: Vec<f64>,
    used: Vec<u64>,
    /// Ways to serve each cell.
    choices: Vec<Vec<Serve>>,
    steps: u64,
}

impl<'a> Greedy<'a> {
    fn new(problem: &'a Problem) -> Self {
        let plan = problem.empty_plan();
        let mut choices = vec![vec![]; problem.cells.len()];
        for serve in &problem.serves {
            choices[serve.cell].push(*serve);
        }
        Self {
            used: problem.units(&plan.replicas),
            plan,
            load: vec![0.0; problem.pools.len()],
            problem,
            choices,
            steps: 0,
        }
    }

    fn place(&mut self, cell: usize) {
        let mut left = self.problem.cells[cell].rate;
        let choices = std::mem::take(&mut self.choices[cell]);
        for serve in &choices {
            let room = self.spare(serve) * serve.rate;
            left -= self.send(serve, room.min(left));
        }
        while left > 0.0 {
            self.steps += 1;
            let best = choices
                .iter()
                .filter_map(|s| self.price_of(s, left).map(|(price, count)| (price, s, count)))
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.pool.cmp(&b.1.pool)));
            let Some((_, serve, count)) = best else { break };
            self.plan.replicas[serve.pool] += count;
            let pool = &self.problem.pools[serve.pool];
            self.used[pool.accelerator] += u64::from(pool.units) * u64::from(count);
            let room = self.spare(serve) * serve.rate;
            let sent = self.send(serve, room.min(left));
            if sent <= 0.0 {
                break;
            }
            left -= sent;
        }
        self.plan.shortfall[cell] = left.max(0.0);
    }

    fn fits_tier(&self, serve: &Serve) -> bool {
        self.plan.tiers[serve.pool].is_none_or(|t| t == serve.tier)
    }

    /// Free replicas of the pool for this way of serving.
    fn spare(&self, serve: &Serve) -> f64 {
        if !self.fits_tier(serve) {
            return 0.0;
        }
        (f64::from(self.plan.replicas[serve.pool]) - self.load[serve.pool]).max(0.0)
    }

    fn send(&mut self, serve: &Serve, rate: f64) -> f64 {
        if rate <= 0.0 {
            return 0.0;
        }
        self.plan.tiers[serve.pool] = Some(serve.tier);
        self.load[serve.pool] += rate / serve.rate;
        self.plan.flows.push(Flow { cell: serve.cell, pool: serve.pool, rate });
        rate
    }

    /// Price per request/s of carrying up to `left` on new replicas, and how many of them.
    fn price_of(&self, serve: &Serve, left: f64) -> Option<(f64, u32)> {
        if !self.fits_tier(serve) {
            return None;
        }
        let pool = &self.problem.pools[serve.pool];
        let stock = u64::from(self.problem.stock[pool.accelerator]).saturating_sub(self.used[pool.accelerator]);
        let by_stock = u32::try_from(stock / u64::from(pool.units.max(1))).unwrap_or(u32::MAX);
        let room = by_stock.min(pool.max.saturating_sub(self.plan.replicas[serve.pool]));
        if room == 0 {
            return None;
        }
        let needed = ((left / serve.rate) * (1.0 - 1e-9)).ceil().max(1.0);
        let count = if needed >= f64::from(room) { room } else { needed as u32 };
        let started = (self.plan.replicas[serve.pool] + count).saturating_sub(pool.running).min(count);
        let price = pool.price_per_hour * f64::from(count) + pool.start_cost_per_hour * f64::from(started);
        Some((price / left.min(f64::from(count) * serve.rate), count))
    }

    /// Give back replicas that carry nothing.
    fn trim(&mut self) {
        for (index, pool) in self.problem.pools.iter().enumerate() {
            let needed = (self.load[index] * (1.0 - 1e-9)).ceil() as u32;
            self.plan.replicas[index] = self.plan.replicas[index].min(needed.max(pool.min));
        }
    }
}
