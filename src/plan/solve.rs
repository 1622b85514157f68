//! Which solver solves what: models are independent until they compete for the same accelerators.

use std::collections::BTreeSet;

use super::greedy::greedy;
use super::milp::exact;
use super::{Cell, Flow, Plan, PoolOption, Problem, Serve, Solution, verify};

/// How much search one decision may spend. Counted in work, not time, so that a decision replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Branch-and-bound nodes per part and stage.
    pub nodes: u64,
    /// Pools up to which a part is given to the exact solver.
    pub exact_pools: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: 2_000, exact_pools: 24 }
    }
}

/// Find replicas and flows. Always answers with a feasible plan as long as the lower limits of the pools
/// fit the stock; every answer has passed [`verify`].
pub fn solve(problem: &Problem, budget: &Budget) -> Solution {
    let mut groups = components(problem);
    loop {
        let parts: Vec<Part> = groups.iter().map(|g| Part::new(problem, g, &groups)).collect();
        let answers: Vec<Answer> = parts.iter().map(|p| p.solve(budget)).collect();
        let joined = join(problem, &parts, answers);
        let used = problem.units(&joined.plan.replicas);
        let over: BTreeSet<usize> =
            (0..problem.stock.len()).filter(|&a| used[a] > u64::from(problem.stock[a])).collect();
        if over.is_empty() || groups.len() <= 1 {
            return checked(problem, joined);
        }
        groups = merge(problem, groups, &over);
    }
}

/// One group of pools and cells that is solved on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    pools: Vec<usize>,
    cells: Vec<usize>,
}

/// Pools and cells connected by "can serve".
fn components(problem: &Problem) -> Vec<Group> {
    let pools = problem.pools.len();
    let mut parent: Vec<usize> = (0..pools + problem.cells.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for serve in &problem.serves {
        let (a, b) = (root(&mut parent, serve.pool), root(&mut parent, pools + serve.cell));
        parent[a.max(b)] = a.min(b);
    }
    let mut groups: std::collections::BTreeMap<usize, Group> = std::collections::BTreeMap::new();
    for node in 0..parent.len() {
        let r = root(&mut parent, node);
        let group = groups.entry(r).or_insert_with(|| Group { pools: vec![], cells: vec![] });
        if node < pools { group.pools.push(node) } else { group.cells.push(node - pools) }
    }
    groups.into_values().collect()
}

/// Join the groups that use an accelerator of which too much was asked for.
fn merge(problem: &Problem, groups: Vec<Group>, over: &BTreeSet<usize>) -> Vec<Group> {
    let uses = |g: &Group, a: usize| g.pools.iter().any(|&p| problem.pools[p].accelerator == a);
    let (competing, mut apart): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(|g| over.iter().any(|&a| uses(g, a)));
    let mut joined = Group { pools: vec![], cells: vec![] };
    for group in competing {
        joined.pools.extend(group.pools);
        joined.cells.extend(group.cells);
    }
    joined.pools.sort_unstable();
    joined.cells.sort_unstable();
    apart.push(joined);
    apart.sort_by(|a, b| a.pools.cmp(&b.pools).then(a.cells.cmp(&b.cells)));
    apart
}

/// A group as a problem of its own.
struct Part {
    problem: Problem,
    pools: Vec<usize>,
    cells: Vec<usize>,
}

struct Answer {
    plan: Plan,
    exact: bool,
    gap: f64,
    work_units: u64,
    refused: u32,
}

impl Part {
    /// The lower limits of all other groups are taken from the stock first.
    fn new(problem: &Problem, group: &Group, all: &[Group]) -> Self {
        let mut stock = problem.stock.clone();
        for other in all.iter().filter(|g| *g != group) {
            for &p in &other.pools {
                let pool = &problem.pools[p];
                stock[pool.accelerator] = stock[pool.accelerator].saturating_sub(pool.units.saturating_mul(pool.min));
            }
        }
        let place = |list: &[usize], item: usize| list.binary_search(&item).ok();
        let serves = problem
            .serves
            .iter()
            .filter_map(|s| {
                Some(Serve { cell: place(&group.cells, s.cell)?, pool: place(&group.pools, s.pool)?, ..*s })
            })
            .collect();
        let pools: Vec<PoolOption> = group.pools.iter().map(|&p| problem.pools[p].clone()).collect();
        let cells: Vec<Cell> = group.cells.iter().map(|&c| problem.cells[c].clone()).collect();
        Self {
            problem: Problem { cells, pools, stock, serves },
            pools: group.pools.clone(),
            cells: group.cells.clone(),
        }
    }

    fn solve(&self, budget: &Budget) -> Answer {
        let (fallback, steps) = greedy(&self.problem);
        let mut answer = Answer { plan: fallback, exact: false, gap: f64::NAN, work_units: steps, refused: 0 };
        let nothing_to_choose = self.problem.serves.is_empty() || self.problem.cells.iter().all(|c| c.rate <= 0.0);
        if nothing_to_choose {
            return Answer { exact: true, gap: 0.0, ..answer };
        }
        if self.problem.pools.len() > budget.exact_pools {
            return answer;
        }
        if let Some(found) = exact(&self.problem, budget.nodes) {
            answer.work_units += found.work_units;
            match verify(&self.problem, &found.plan) {
                Ok(()) if !better(&self.problem, &answer.plan, &found.plan) => {
                    answer.plan = found.plan;
                    answer.exact = true;
                    answer.gap = found.gap;
                }
                Ok(()) => {}
                Err(_) => answer.refused += 1,
            }
        }
        answer
    }
}

/// True when `a` is a valid plan and better than `b` by more than rounding.
fn better(problem: &Problem, a: &Plan, b: &Plan) -> bool {
    if verify(problem, a).is_err() {
        return false;
    }
    let (sa, sb) = (problem.shortfall_by_priority(&a.shortfall), problem.shortfall_by_priority(&b.shortfall));
    for ((_, a), (_, b)) in sa.iter().zip(&sb) {
        let tolerance = 1e-6 * a.max(*b).max(1e-3);
        if (a - b).abs() > tolerance {
            return a < b;
        }
    }
    let (ca, cb) = (problem.objective(&a.replicas), problem.objective(&b.replicas));
    ca < cb * (1.0 - 1e-6)
}

fn join(problem: &Problem, parts: &[Part], answers: Vec<Answer>) -> Solution {
    let mut plan = problem.empty_plan();
    let (mut exact, mut gap, mut work_units, mut refused) = (true, 0.0_f64, 0, 0);
    for (part, answer) in parts.iter().zip(answers) {
        for (i, &pool) in part.pools.iter().enumerate() {
            plan.replicas[pool] = answer.plan.replicas[i];
            plan.tiers[pool] = answer.plan.tiers[i];
        }
        for (i, &cell) in part.cells.iter().enumerate() {
            plan.shortfall[cell] = answer.plan.shortfall[i];
        }
        plan.flows.extend(answer.plan.flows.iter().map(|f| Flow {
            cell: part.cells[f.cell],
            pool: part.pools[f.pool],
            rate: f.rate,
        }));
        exact &= answer.exact;
        gap = if answer.gap.is_nan() { gap.max(1.0) } else { gap.max(answer.gap) };
        work_units += answer.work_units;
        refused += answer.refused;
    }
    plan.flows.sort_by_key(|f| (f.cell, f.pool));
    let solver = match (problem.pools.is_empty(), exact) {
        (true, _) => "none",
        (false, true) => "milp",
        (false, false) => "greedy",
    };
    Solution { plan, solver: solver.into(), work_units, gap, refused }
}

/// The last word: a plan that does not add up is replaced by the greedy one, and that by the fewest
/// replicas allowed.
fn checked(problem: &Problem, mut solution: Solution) -> Solution {
    if verify(problem, &solution.plan).is_ok() {
        return solution;
    }
    solution.refused += 1;
    solution.gap = 1.0;
    let (plan, steps) = greedy(problem);
    solution.work_units += steps;
    solution.solver = "greedy".into();
    solution.plan = if verify(problem, &plan).is_ok() { plan } else { problem.empty_plan() };
    solution
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(name: &str, accelerator: usize, units: u32, price: f64, max: u32) -> PoolOption {
        PoolOption {
            name: name.into(),
            accelerator,
            units,
            price_per_hour: price,
            start_cost_per_hour: 0.0,
            min: 0,
            max,
            running: 0,
            tier: None,
        }
    }

    fn cell(name: &str, priority: i32, rate: f64) -> Cell {
        Cell { name: name.into(), model: 0, class: 0, priority, rate }
    }

    fn serve(cell: usize, pool: usize, rate: f64) -> Serve {
        Serve { cell, pool, tier: 0, rate }
    }

    /// Integrality decides: a pool that is cheaper per request is dearer per replica.
    #[test]
    fn one_small_replica_beats_a_large_one() {
        let problem = Problem {
            cells: vec![cell("d", 0, 100.0)],
            pools: vec![pool("a", 0, 1, 10.0, 9), pool("b", 1, 1, 6.0, 9)],
            stock: vec![9, 9],
            serves: vec![serve(0, 0, 200.0), serve(0, 1, 100.0)],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!((s.plan.replicas, s.solver.as_str()), (vec![0, 1], "milp"));
    }

    /// Demand that fills one machine of each type exactly must not buy a third one.
    #[test]
    fn a_knife_edge_is_held() {
        let problem = Problem {
            cells: vec![cell("small", 0, 5.0), cell("large", 0, 5.0)],
            pools: vec![pool("a10g", 0, 1, 1.01, 9), pool("a100", 1, 1, 3.67, 9)],
            stock: vec![9, 9],
            serves: vec![serve(0, 0, 5.0), serve(0, 1, 20.0), serve(1, 0, 0.5), serve(1, 1, 5.0)],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!(s.plan.replicas, vec![1, 1]);
        assert!((problem.cost_per_hour(&s.plan.replicas) - 4.68).abs() < 1e-9);
    }

    #[test]
    fn shortage_degrades_the_lowest_priority_first() {
        let problem = Problem {
            cells: vec![cell("batch", 0, 1000.0), cell("interactive", 100, 10.0)],
            pools: vec![pool("p", 0, 2, 1.0, 9)],
            stock: vec![3],
            serves: vec![serve(0, 0, 100.0), serve(1, 0, 10.0)],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!(s.plan.replicas, vec![1]);
        assert!(s.plan.shortfall[1] < 1e-6, "{:?}", s.plan);
        assert!((s.plan.shortfall[0] - 1000.0).abs() < 1e-3);
    }

    #[test]
    fn models_that_compete_for_stock_are_solved_together() {
        let problem = Problem {
            cells: vec![cell("x", 10, 10.0), cell("y", 10, 10.0)],
            pools: vec![pool("x-a", 0, 1, 1.0, 9), pool("x-b", 1, 1, 5.0, 9), pool("y-a", 0, 1, 1.0, 9)],
            stock: vec![1, 4],
            serves: vec![serve(0, 0, 10.0), serve(0, 1, 10.0), serve(1, 2, 10.0)],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!(s.plan.replicas, vec![0, 1, 1]);
    }

    #[test]
    fn a_pool_is_operated_at_one_latency_level() {
        let mut problem = Problem {
            cells: vec![cell("tight", 10, 10.0), cell("loose", 0, 10.0)],
            pools: vec![pool("p", 0, 1, 1.0, 9)],
            stock: vec![9],
            serves: vec![serve(0, 0, 5.0), serve(1, 0, 5.0), Serve { tier: 1, ..serve(1, 0, 20.0) }],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!((s.plan.replicas.clone(), s.plan.tiers.clone()), (vec![4], vec![Some(0)]));
        problem.cells[0].rate = 0.0;
        let s = solve(&problem, &Budget::default());
        assert_eq!((s.plan.replicas, s.plan.tiers), (vec![1], vec![Some(1)]));
    }

    #[test]
    fn a_pool_keeps_its_latency_level_when_nothing_is_gained() {
        for now in [0, 1] {
            let mut problem = Problem {
                cells: vec![cell("loose", 0, 3.0)],
                pools: vec![pool("p", 0, 1, 1.0, 9)],
                stock: vec![9],
                serves: vec![serve(0, 0, 5.0), Serve { tier: 1, ..serve(0, 0, 20.0) }],
            };
            problem.pools[0].tier = Some(now);
            assert_eq!(solve(&problem, &Budget::default()).plan.tiers, vec![Some(now)]);
        }
    }

    #[test]
    fn a_start_costs_something() {
        let mut running = pool("running", 0, 1, 1.05, 9);
        running.running = 1;
        let mut cheaper = pool("cheaper", 1, 1, 1.0, 9);
        cheaper.start_cost_per_hour = 0.2;
        let problem = Problem {
            cells: vec![cell("d", 0, 1.0)],
            pools: vec![running, cheaper],
            stock: vec![9, 9],
            serves: vec![serve(0, 0, 1.0), serve(0, 1, 1.0)],
        };
        assert_eq!(solve(&problem, &Budget::default()).plan.replicas, vec![1, 0]);
    }

    #[test]
    fn an_unservable_cell_stops_nobody() {
        let problem = Problem {
            cells: vec![cell("nobody", 100, 5.0), cell("ok", 0, 5.0)],
            pools: vec![pool("p", 0, 1, 1.0, 9)],
            stock: vec![9],
            serves: vec![serve(1, 0, 5.0)],
        };
        let s = solve(&problem, &Budget::default());
        assert_eq!((s.plan.replicas, s.plan.shortfall), (vec![1], vec![5.0, 0.0]));
    }

    /// Exhaustive search over replicas with the best split of two cells over two pools.
    fn brute_force(problem: &Problem) -> f64 {
        let mut best = f64::INFINITY;
        for a in 0..=problem.pools[0].max {
            for b in 0..=problem.pools[1].max {
                let units = problem.units(&[a, b]);
                if units.iter().zip(&problem.stock).any(|(u, s)| *u > u64::from(*s)) {
                    continue;
                }
                if split_exists(problem, f64::from(a), f64::from(b)) {
                    best = best.min(problem.objective(&[a, b]));
                }
            }
        }
        best
    }

    /// Two cells, two pools: with the first pool filled by the first cell up to a share and by the second
    /// cell beyond it, the load on the second pool is piecewise linear in that share, so its corners decide.
    fn split_exists(problem: &Problem, a: f64, b: f64) -> bool {
        let need = |cell: usize, pool: usize| {
            let s = problem.serves.iter().find(|s| s.cell == cell && s.pool == pool);
            s.map_or(f64::INFINITY, |s| problem.cells[cell].rate / s.rate)
        };
        let corners = [0.0, 1.0, (a - need(1, 0)) / need(0, 0), a / need(0, 0)];
        corners.into_iter().filter(|x| (0.0..=1.0).contains(x)).any(|x| {
            let spare = a - x * need(0, 0);
            let y = (spare.max(0.0) / need(1, 0)).min(1.0);
            let load = (1.0 - x) * need(0, 1) + (1.0 - y) * need(1, 1);
            spare >= -1e-9 && load <= b * (1.0 + 1e-9) + 1e-9
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn tiny_fleets_equal_brute_force(
            rates in prop::array::uniform2(0.1f64..20.0), caps in prop::array::uniform4(1.0f64..10.0),
            prices in prop::array::uniform2(0.5f64..5.0),
        ) {
            let problem = Problem {
                cells: vec![cell("d0", 1, rates[0]), cell("d1", 1, rates[1])],
                pools: vec![pool("p0", 0, 1, prices[0], 12), pool("p1", 1, 1, prices[1], 12)],
                stock: vec![12, 12],
                serves: vec![serve(0, 0, caps[0]), serve(0, 1, caps[1]), serve(1, 0, caps[2]), serve(1, 1, caps[3])],
            };
            let s = solve(&problem, &Budget::default());
            prop_assert!(verify(&problem, &s.plan).is_ok());
            let best = brute_force(&problem);
            if s.plan.shortfall.iter().sum::<f64>() < 1e-6 {
                prop_assert!(problem.objective(&s.plan.replicas) <= best + 1e-6 , "{:?} against {best}", s);
            } else {
                prop_assert!(best.is_infinite());
            }
        }

        #[test]
        fn every_answer_is_feasible_and_repeats(
            seed in 0u64..10_000, pools in 1usize..8, cells in 1usize..8, stock in 0u32..20,
        ) {
            let mut x = seed;
            let mut random = move || { x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (x >> 33) as f64 / 2f64.powi(31) };
            let pools: Vec<PoolOption> = (0..pools)
                .map(|i| pool(&format!("p{i}"), i % 3, 1 + (random() * 4.0) as u32, 0.5 + random() * 8.0, 20))
                .collect();
            let cells: Vec<Cell> = (0..cells).map(|i| cell(&format!("c{i}"), (random() * 3.0) as i32, random() * 30.0)).collect();
            let mut serves = vec![];
            for c in 0..cells.len() { for p in 0..pools.len() { for tier in 0..2 {
                if random() < 0.6 { serves.push(Serve { cell: c, pool: p, tier, rate: 0.2 + random() * 9.0 }); }
            }}}
            let problem = Problem { cells, pools, stock: vec![stock; 3], serves };
            let budget = Budget { nodes: 200, exact_pools: 24 };
            let s = solve(&problem, &budget);
            prop_assert!(verify(&problem, &s.plan).is_ok(), "{:?}", verify(&problem, &s.plan));
            prop_assert_eq!(&s, &solve(&problem, &budget));
        }
    }
}
