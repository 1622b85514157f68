//! Small problems for tests.

use super::{Cell, Limit, LimitKind, PoolOption, Problem, Serve};

/// A pool, the accelerator type it uses and how many of them a replica takes.
pub(crate) type Stocked = (PoolOption, usize, u32);

pub(crate) fn pool(name: &str, accelerator: usize, units: u32, price: f64, max: u32) -> Stocked {
    let pool = PoolOption {
        name: name.into(),
        price_per_hour: price,
        start_cost_per_hour: 0.0,
        stop_cost_per_hour: 0.0,
        min: 0,
        max,
        running: 0,
        tier: None,
    };
    (pool, accelerator, units)
}

pub(crate) fn cell(name: &str, priority: i32, rate: f64) -> Cell {
    Cell { name: name.into(), model: 0, class: 0, priority, rate, may_wait: 0.0 }
}

pub(crate) fn serve(cell: usize, pool: usize, rate: f64) -> Serve {
    Serve { cell, pool, tier: 0, rate, then: None }
}

/// A problem with one stock limit for each accelerator type.
pub(crate) fn fleet(cells: Vec<Cell>, pools: Vec<Stocked>, stock: &[u32], serves: Vec<Serve>) -> Problem {
    let limit = |(accelerator, &most): (usize, &u32)| Limit {
        name: format!("a{accelerator}"),
        kind: LimitKind::Stock,
        most: f64::from(most),
        uses: (0..pools.len()).filter(|&p| pools[p].1 == accelerator).map(|p| (p, f64::from(pools[p].2))).collect(),
    };
    let limits = stock.iter().enumerate().map(limit).collect();
    Problem { cells, pools: pools.into_iter().map(|p| p.0).collect(), limits, serves, ..Problem::default() }
}
