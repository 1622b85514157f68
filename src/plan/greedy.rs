//! A plan without a solver: most important cells first, spare room before new replicas, the cheapest way
//! to carry the rest next. Never proven good, always feasible; the first incumbent and the fall-back.

use super::{Flow, Objective, Plan, Problem, Serve};

/// Plan greedily; returns the plan and the steps taken.
pub(super) fn greedy(problem: &Problem) -> (Plan, u64) {
    let mut state = Greedy::new(problem);
    let mut order: Vec<usize> = (0..problem.cells.len()).collect();
    let worth = |cell: usize| match &problem.objective {
        Objective::Strict => f64::from(problem.cells[cell].priority),
        Objective::Weighted(penalties) => penalties[cell],
    };
    order.sort_by(|&a, &b| {
        worth(b).total_cmp(&worth(a)).then(state.choices[a].len().cmp(&state.choices[b].len())).then(a.cmp(&b))
    });
    state.raise_to_floors();
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
    /// Use of each limit.
    used: Vec<f64>,
    /// Most of each limit.
    most: Vec<f64>,
    /// (limit, amount) of each pool.
    uses: Vec<Vec<(usize, f64)>>,
    /// Ways to serve each cell.
    choices: Vec<Vec<Serve>>,
    steps: u64,
}

/// What rounding may add to a limit, relative.
const ROUNDING: f64 = 1e-9;

impl<'a> Greedy<'a> {
    fn new(problem: &'a Problem) -> Self {
        let plan = problem.empty_plan();
        let mut choices = vec![vec![]; problem.cells.len()];
        for serve in &problem.serves {
            choices[serve.cell].push(*serve);
        }
        let mut uses = vec![vec![]; problem.pools.len()];
        for (limit, row) in problem.limits.iter().enumerate() {
            for &(pool, amount) in &row.uses {
                uses[pool].push((limit, amount));
            }
        }
        Self {
            used: problem.limits.iter().map(|l| l.used(&plan.replicas)).collect(),
            most: problem.limits.iter().map(|l| problem.most(l)).collect(),
            uses,
            plan,
            load: vec![0.0; problem.pools.len()],
            problem,
            choices,
            steps: 0,
        }
    }

    /// Run what floors ask for: the cheapest pools that help, as long as there is room.
    fn raise_to_floors(&mut self) {
        for limit in 0..self.used.len() {
            while self.used[limit] > self.most[limit] * (1.0 + ROUNDING.copysign(self.most[limit])) {
                self.steps += 1;
                let helps = self.problem.limits[limit].uses.iter().filter(|(_, amount)| *amount < 0.0);
                let price = |pool: usize| self.problem.pools[pool].price_per_hour;
                let best = helps
                    .filter(|(pool, _)| self.room_for(*pool) > 0)
                    .min_by(|a, b| (price(a.0) / -a.1).total_cmp(&(price(b.0) / -b.1)).then(a.0.cmp(&b.0)));
                let Some(&(pool, _)) = best else { break };
                self.add(pool, 1);
            }
        }
    }

    fn add(&mut self, pool: usize, count: u32) {
        self.plan.replicas[pool] += count;
        for &(limit, amount) in &self.uses[pool] {
            self.used[limit] += amount * f64::from(count);
        }
    }

    /// Replicas that can be added to the pool.
    fn room_for(&self, pool: usize) -> u32 {
        let own = self.problem.pools[pool].max.saturating_sub(self.plan.replicas[pool]);
        let by_limits = self.uses[pool].iter().filter(|(_, amount)| *amount > 0.0).map(|&(limit, amount)| {
            let room = (self.most[limit] - self.used[limit]) / amount;
            (room + ROUNDING * room.abs().max(1.0)).floor().clamp(0.0, f64::from(u32::MAX)) as u32
        });
        by_limits.fold(own, u32::min)
    }

    fn place(&mut self, cell: usize) {
        let mut left = self.problem.cells[cell].rate;
        let choices = std::mem::take(&mut self.choices[cell]);
        for serve in &choices {
            left -= self.send(serve, self.spare(serve).min(left));
        }
        while left > 0.0 {
            self.steps += 1;
            let best = choices
                .iter()
                .filter_map(|s| self.price_of(s, left).map(|(price, rate)| (price, s, rate)))
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.pool.cmp(&b.1.pool)));
            let Some((price, serve, rate)) = best else { break };
            if let Objective::Weighted(penalties) = &self.problem.objective
                && price >= penalties[cell]
            {
                break;
            }
            for stage in serve.stages() {
                let missing = self.missing(stage.pool, rate / stage.rate);
                self.add(stage.pool, missing);
            }
            let sent = self.send(serve, self.spare(serve).min(left));
            if sent <= 0.0 {
                break;
            }
            left -= sent;
        }
        self.plan.shortfall[cell] = left.max(0.0);
    }

    fn fits_tier(&self, serve: &Serve) -> bool {
        serve.stages().all(|s| self.plan.tiers[s.pool].is_none_or(|t| t == s.tier))
    }

    /// Rate that the replicas there are can still carry in this way.
    fn spare(&self, serve: &Serve) -> f64 {
        if !self.fits_tier(serve) {
            return 0.0;
        }
        let free = |pool: usize| (f64::from(self.plan.replicas[pool]) - self.load[pool]).max(0.0);
        serve.stages().map(|s| free(s.pool) * s.rate).fold(f64::INFINITY, f64::min)
    }

    fn send(&mut self, serve: &Serve, rate: f64) -> f64 {
        if rate <= 0.0 {
            return 0.0;
        }
        for stage in serve.stages() {
            self.plan.tiers[stage.pool] = Some(stage.tier);
            self.load[stage.pool] += rate / stage.rate;
        }
        self.plan.flows.push(Flow { cell: serve.cell, pool: serve.pool, then: serve.then.map(|s| s.pool), rate });
        rate
    }

    /// Replicas that the pool lacks to take `load` more.
    fn missing(&self, pool: usize, load: f64) -> u32 {
        let needed = ((self.load[pool] + load) * (1.0 - ROUNDING)).ceil();
        (needed - f64::from(self.plan.replicas[pool])).clamp(0.0, f64::from(self.room_for(pool))) as u32
    }

    /// Price per request/s of carrying up to `left` on new replicas, and the rate they carry.
    fn price_of(&self, serve: &Serve, left: f64) -> Option<(f64, f64)> {
        if !self.fits_tier(serve) {
            return None;
        }
        let most =
            |pool: usize| f64::from(self.plan.replicas[pool].saturating_add(self.room_for(pool))) - self.load[pool];
        let rate = serve.stages().map(|s| most(s.pool).max(0.0) * s.rate).fold(left, f64::min);
        let mut price = 0.0;
        for stage in serve.stages() {
            let pool = &self.problem.pools[stage.pool];
            let count = self.missing(stage.pool, rate / stage.rate);
            let before = self.plan.replicas[stage.pool].max(pool.running);
            let started = (self.plan.replicas[stage.pool] + count).saturating_sub(before);
            price += pool.price_per_hour * f64::from(count) + pool.start_cost_per_hour * f64::from(started);
        }
        (rate > ROUNDING * left).then_some((price / rate, rate))
    }

    /// Give back replicas that carry nothing, as far as floors allow.
    fn trim(&mut self) {
        for (index, pool) in self.problem.pools.iter().enumerate() {
            let needed = ((self.load[index] * (1.0 - ROUNDING)).ceil() as u32).max(pool.min);
            while self.plan.replicas[index] > needed && self.may_lose(index) {
                self.plan.replicas[index] -= 1;
                for &(limit, amount) in &self.uses[index] {
                    self.used[limit] -= amount;
                }
            }
        }
    }

    fn may_lose(&self, pool: usize) -> bool {
        self.uses[pool].iter().all(|&(l, amount)| amount >= 0.0 || self.used[l] - amount <= self.most[l])
    }
}
