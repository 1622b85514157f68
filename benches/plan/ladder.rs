//! The instances and what is asked of a plan for each.

use poolwright::plan::instance::Recipe;

pub struct Step {
    pub name: &'static str,
    pub recipe: Recipe,
}

/// What must be reached, and in which time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Relative gap.
    pub gap: f64,
    pub seconds: f64,
    /// Against the best plan known instead of the bound.
    pub of_best_known: bool,
}

/// A gap that counts as none.
const EXACT: f64 = 1e-4;

impl Mark {
    pub const DRIFT: Self = Self { gap: 0.01, seconds: 1.0, of_best_known: false };
}

const fn step(
    name: &'static str,
    (models, accelerators, cells, most_variants): (usize, usize, usize, usize),
    load: f64,
    tight: f64,
    seed: u64,
) -> Step {
    Step { name, recipe: Recipe { models, accelerators, cells, most_variants, load, tight, seed } }
}

pub const LADDER: [Step; 14] = [
    step("T1", (1, 4, 10, 8), 3.0, 1.2, 11),
    step("T2", (3, 4, 30, 24), 3.0, 1.2, 12),
    step("S1", (10, 6, 100, 100), 2.0, 1.2, 13),
    step("S1t", (10, 6, 100, 100), 2.0, 0.6, 13),
    step("S2", (10, 6, 100, 100), 20.0, 1.2, 14),
    step("M1", (30, 8, 300, 300), 2.0, 1.2, 15),
    step("M1t", (30, 8, 300, 300), 2.0, 0.6, 15),
    step("M2", (30, 8, 300, 300), 20.0, 1.2, 16),
    step("M3", (10, 8, 600, 300), 5.0, 1.2, 17),
    step("L1", (50, 10, 1000, 1000), 2.0, 1.2, 18),
    step("L2", (50, 10, 1000, 1000), 20.0, 1.2, 19),
    step("L2t", (50, 10, 1000, 1000), 20.0, 0.6, 19),
    step("X1", (80, 12, 2000, 2000), 5.0, 1.2, 20),
    step("X2", (80, 12, 2000, 2000), 50.0, 1.2, 21),
];

/// By the first letters of the instance's name.
pub fn mark_of(name: &str) -> Mark {
    let mark = |gap, seconds| Mark { gap, seconds, of_best_known: false };
    if name.starts_with('T') || name.starts_with("S1t") {
        mark(EXACT, 1.0)
    } else if name.starts_with("S1") {
        mark(EXACT, 4.0)
    } else if name.starts_with('S') {
        mark(1e-3, 10.0)
    } else if name.starts_with('M') {
        mark(0.01, 5.0)
    } else {
        Mark { of_best_known: true, ..mark(0.02, 15.0) }
    }
}
