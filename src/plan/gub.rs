//! A simplex method for linear programs that are choices under a few common rows.
//!
//! Every set of columns is a choice: its columns' values sum to 1. The rows `sum usage * value <= most` are few.
//! Both programs of the planner are of this kind: routing (a cell chooses pools, the rows are the open pools'
//! replicas) and the master of the decomposition (a model chooses one of its plans, the rows are the limits).
//! One key column of each set is kept out of the working basis, so that this has only as many rows as are
//! common (Dantzig and Van Slyke, Generalized upper bounding techniques, 1967); it is so small that it is
//! factored anew at every pivot, which keeps rounding from adding up. The rows' prices come for nothing.

/// Values below this are taken for zero.
const TINY: f64 = 1e-9;
/// Pivots after which the choice of the entering column is changed to one that cannot cycle.
const PATIENCE: usize = 200;
/// Pivots after which the search ends with what it has: feasible, perhaps not optimal.
const MOST_PIVOTS: usize = 3000;

/// A program. Build it with [`push`](Self::push) and [`begin`](Self::begin), then call [`solve`](Self::solve).
#[derive(Clone, Debug, Default)]
pub(super) struct Gub {
    most: Vec<f64>,
    /// Column of each set that is kept out of the working basis.
    key: Vec<usize>,
    /// Working basis, one for each row.
    basis: Vec<Basic>,
    set: Vec<usize>,
    cost: Vec<f64>,
    start: Vec<usize>,
    uses: Vec<(usize, f64)>,
    work: Work,
    pub(super) pivots: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basic {
    Column(usize),
    Slack(usize),
}

/// Memory of the method, kept from one program to the next.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Factors of the working basis, by column.
    lu: Vec<f64>,
    pivot: Vec<usize>,
    value: Vec<f64>,
    price: Vec<f64>,
    direction: Vec<f64>,
    of_set: Vec<f64>,
    rate_of_set: Vec<f64>,
    set_price: Vec<f64>,
}

impl Gub {
    /// Forget everything and begin a program with these rows and this many sets.
    pub(super) fn begin(&mut self, most: &[f64], sets: usize) {
        self.most.clear();
        self.most.extend_from_slice(most);
        self.basis.clear();
        self.basis.extend((0..most.len()).map(Basic::Slack));
        self.key.clear();
        self.key.resize(sets, usize::MAX);
        self.set.clear();
        self.cost.clear();
        self.uses.clear();
        self.start.clear();
        self.start.push(0);
        self.pivots = 0;
    }

    /// Add a column; the first column of a set is where it begins, and all first columns together must keep
    /// the rows.
    pub(super) fn push(&mut self, set: usize, cost: f64, uses: impl IntoIterator<Item = (usize, f64)>) -> usize {
        let column = self.set.len();
        self.set.push(set);
        self.cost.push(cost);
        self.uses.extend(uses);
        self.start.push(self.uses.len());
        if self.key[set] == usize::MAX {
            self.key[set] = column;
        }
        column
    }

    /// Begin the set at another of its columns. All key columns together must keep the rows.
    pub(super) fn begin_at(&mut self, column: usize) {
        self.key[self.set[column]] = column;
    }

    pub(super) fn columns(&self) -> usize {
        self.set.len()
    }

    fn uses(&self, column: usize) -> &[(usize, f64)] {
        &self.uses[self.start[column]..self.start[column + 1]]
    }

    /// Minimise; returns the cost. The prices of the rows are in [`prices`](Self::prices) then.
    pub(super) fn solve(&mut self) -> f64 {
        for pivot in 0..MOST_PIVOTS {
            self.factor();
            let Some(entering) = self.entering(pivot > PATIENCE) else { break };
            self.pivots += 1;
            if !self.exchange(entering) {
                break;
            }
        }
        self.factor();
        self.total()
    }

    /// What one more of each row is worth, at least 0.
    pub(super) fn prices(&self) -> impl Iterator<Item = f64> + '_ {
        self.work.price.iter().map(|p| (-p).max(0.0))
    }

    /// Cost at which a further column of each set would just come in.
    pub(super) fn set_prices(&self) -> &[f64] {
        &self.work.set_price
    }

    /// Columns above zero: (column, value).
    pub(super) fn values(&self) -> Vec<(usize, f64)> {
        let keys = self.key.iter().zip(&self.work.of_set).map(|(&column, &value)| (column, value));
        let others = self.basis.iter().zip(&self.work.value).filter_map(|(basic, &value)| match basic {
            Basic::Column(column) => Some((*column, value)),
            Basic::Slack(_) => None,
        });
        keys.chain(others).filter(|(_, value)| *value > TINY).collect()
    }

    fn total(&self) -> f64 {
        let keys: f64 = self.key.iter().zip(&self.work.of_set).map(|(&c, v)| self.cost[c] * v).sum();
        let others = self.basis.iter().zip(&self.work.value).map(|(b, v)| match b {
            Basic::Column(c) => self.cost[*c] * v,
            Basic::Slack(_) => 0.0,
        });
        keys + others.sum::<f64>()
    }

    /// Factor the working basis; values and prices of the present corner.
    fn factor(&mut self) {
        let m = self.most.len();
        let mut work = std::mem::take(&mut self.work);
        work.lu.clear();
        work.lu.resize(m * m, 0.0);
        for (i, basic) in self.basis.iter().enumerate() {
            let column = &mut work.lu[i * m..(i + 1) * m];
            match *basic {
                Basic::Slack(row) => column[row] = 1.0,
                Basic::Column(c) => self.relative(c, column),
            }
        }
        lu(&mut work.lu, &mut work.pivot, m);
        // Values: the rows less what the keys use.
        work.value.clear();
        work.value.extend_from_slice(&self.most);
        for &key in &self.key {
            for &(row, amount) in self.uses(key) {
                work.value[row] -= amount;
            }
        }
        solve(&work.lu, &work.pivot, m, &mut work.value);
        work.of_set.clear();
        work.of_set.resize(self.key.len(), 1.0);
        work.price.clear();
        for (basic, value) in self.basis.iter().zip(&work.value) {
            match *basic {
                Basic::Column(c) => {
                    work.of_set[self.set[c]] -= value;
                    work.price.push(self.cost[c] - self.cost[self.key[self.set[c]]]);
                }
                Basic::Slack(_) => work.price.push(0.0),
            }
        }
        solve_transposed(&work.lu, &work.pivot, m, &mut work.price);
        work.set_price.clear();
        for &key in &self.key {
            let used: f64 = self.uses(key).iter().map(|&(row, amount)| work.price[row] * amount).sum();
            work.set_price.push(self.cost[key] - used);
        }
        self.work = work;
    }

    /// A column less its set's key.
    fn relative(&self, column: usize, into: &mut [f64]) {
        for &(row, amount) in self.uses(column) {
            into[row] += amount;
        }
        for &(row, amount) in self.uses(self.key[self.set[column]]) {
            into[row] -= amount;
        }
    }

    /// The column that lowers the cost most per unit, or the first that lowers it at all.
    fn entering(&self, first: bool) -> Option<Basic> {
        let mut best: Option<(f64, Basic)> = None;
        let price = &self.work.price;
        for column in 0..self.set.len() {
            let base = self.work.set_price[self.set[column]];
            let used: f64 = self.uses(column).iter().map(|&(row, amount)| price[row] * amount).sum();
            let reduced = self.cost[column] - base - used;
            if reduced < -TINY * (1.0 + base.abs()) && best.is_none_or(|(b, _)| reduced < b) {
                best = Some((reduced, Basic::Column(column)));
                if first {
                    break;
                }
            }
        }
        for (row, price) in price.iter().enumerate() {
            if *price > TINY && best.is_none_or(|(b, _)| -price < b) {
                best = Some((-price, Basic::Slack(row)));
            }
        }
        best.map(|(_, basic)| basic)
    }

    /// Bring a column into the basis; false when nothing stops it (no such program is built).
    fn exchange(&mut self, entering: Basic) -> bool {
        let m = self.most.len();
        let mut work = std::mem::take(&mut self.work);
        work.direction.clear();
        work.direction.resize(m, 0.0);
        work.rate_of_set.clear();
        work.rate_of_set.resize(self.key.len(), 0.0);
        match entering {
            Basic::Slack(row) => work.direction[row] = 1.0,
            Basic::Column(c) => {
                self.relative(c, &mut work.direction);
                work.rate_of_set[self.set[c]] = -1.0;
            }
        }
        solve(&work.lu, &work.pivot, m, &mut work.direction);
        for (basic, rate) in self.basis.iter().zip(&work.direction) {
            if let Basic::Column(c) = basic {
                work.rate_of_set[self.set[*c]] += rate;
            }
        }
        let mut best: Option<(f64, f64, Leaving)> = None;
        let mut consider = |step: f64, size: f64, who: Leaving| {
            let better = best.is_none_or(|(s, z, _)| step < s - TINY || (step < s + TINY && size > z));
            if better {
                best = Some((step, size, who));
            }
        };
        for (i, (&value, &rate)) in work.value.iter().zip(&work.direction).enumerate() {
            if rate > TINY {
                consider(value.max(0.0) / rate, rate, Leaving::Working(i));
            }
        }
        for (set, (&value, &rate)) in work.of_set.iter().zip(&work.rate_of_set).enumerate() {
            if rate < -TINY {
                consider(value.max(0.0) / -rate, -rate, Leaving::Key(set));
            }
        }
        let done = match best {
            None => false,
            Some((_, _, Leaving::Working(i))) => {
                self.basis[i] = entering;
                true
            }
            Some((_, _, Leaving::Key(set))) => self.replace_key(set, entering, &work.direction),
        };
        self.work = work;
        done
    }

    fn replace_key(&mut self, set: usize, entering: Basic, direction: &[f64]) -> bool {
        if let Basic::Column(c) = entering
            && self.set[c] == set
        {
            self.key[set] = c;
            return true;
        }
        // Another basic column of the set becomes its key, and the entering one takes its place.
        let of_set = |basic: &Basic| matches!(basic, Basic::Column(c) if self.set[*c] == set);
        let heir = (0..self.basis.len())
            .filter(|&i| of_set(&self.basis[i]))
            .max_by(|&a, &b| direction[a].abs().total_cmp(&direction[b].abs()).then(b.cmp(&a)));
        match heir.map(|i| (i, self.basis[i])) {
            Some((i, Basic::Column(c))) => {
                self.key[set] = c;
                self.basis[i] = entering;
                true
            }
            _ => false,
        }
    }
}

#[derive(Clone, Copy)]
enum Leaving {
    Working(usize),
    Key(usize),
}

/// LU factors in place, by column, with row exchanges. A pivot of zero is taken for a tiny one: the basis of a
/// degenerate corner may be close to singular.
fn lu(a: &mut [f64], pivot: &mut Vec<usize>, m: usize) {
    pivot.clear();
    for k in 0..m {
        let best =
            (k..m).max_by(|&i, &j| a[k * m + i].abs().total_cmp(&a[k * m + j].abs()).then(j.cmp(&i))).unwrap_or(k);
        pivot.push(best);
        if best != k {
            for column in 0..m {
                a.swap(column * m + k, column * m + best);
            }
        }
        if a[k * m + k].abs() < 1e-14 {
            a[k * m + k] = 1e-14;
        }
        let head = a[k * m + k];
        for i in k + 1..m {
            a[k * m + i] /= head;
        }
        for column in k + 1..m {
            let top = a[column * m + k];
            if top != 0.0 {
                for i in k + 1..m {
                    a[column * m + i] -= a[k * m + i] * top;
                }
            }
        }
    }
}

fn solve(a: &[f64], pivot: &[usize], m: usize, x: &mut [f64]) {
    for (k, &p) in pivot.iter().enumerate() {
        x.swap(k, p);
    }
    for k in 0..m {
        let head = x[k];
        if head != 0.0 {
            for i in k + 1..m {
                x[i] -= a[k * m + i] * head;
            }
        }
    }
    for k in (0..m).rev() {
        x[k] /= a[k * m + k];
        let head = x[k];
        if head != 0.0 {
            for i in 0..k {
                x[i] -= a[k * m + i] * head;
            }
        }
    }
}

fn solve_transposed(a: &[f64], pivot: &[usize], m: usize, x: &mut [f64]) {
    for k in 0..m {
        let above: f64 = (0..k).map(|i| a[k * m + i] * x[i]).sum();
        x[k] = (x[k] - above) / a[k * m + k];
    }
    for k in (0..m).rev() {
        let below: f64 = (k + 1..m).map(|i| a[k * m + i] * x[i]).sum();
        x[k] -= below;
    }
    for (k, &p) in pivot.iter().enumerate().rev() {
        x.swap(k, p);
    }
}
