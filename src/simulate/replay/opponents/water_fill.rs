//! Sharing out what does not suffice for all, in proportion to weights.
//!
//! Rule: `deanlorenz/llm-d-workload-variant-autoscaler:internal/engines/pipeline/rescale.go`. Everybody has a floor; the
//! rest is shared out by weight up to everybody's cap, what is over a cap again among the others, and whole units go by
//! the largest remainder, of equals to the first.

/// One that gets a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// Units that it gets in any case.
    pub floor: u32,
    /// Units that it needs; it gets no more.
    pub cap: u32,
    /// Priority times demand, 0 or more.
    pub weight: f64,
}

/// What everybody gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub units: Vec<u32>,
    /// Whether the floors alone are more than there is; they are given all the same.
    pub conflict: bool,
}

/// Share out `budget` units.
pub(super) fn water_fill(shares: &[Share], budget: u32) -> Shared {
    let floors: u32 = shares.iter().map(|s| s.floor).sum();
    let floor = || shares.iter().map(|s| s.floor).collect();
    if floors > budget {
        return Shared { units: floor(), conflict: true };
    }
    let rest = budget - floors;
    let parts = proportional(shares, f64::from(rest));
    let mut units: Vec<u32> = floor();
    for (n, part) in units.iter_mut().zip(&parts) {
        *n += part.floor() as u32;
    }
    let mut left = budget - units.iter().sum::<u32>();
    let mut order: Vec<usize> = (0..shares.len()).filter(|i| parts[*i].fract() > 0.0).collect();
    order.sort_by(|a, b| parts[*b].fract().total_cmp(&parts[*a].fract()).then(a.cmp(b)));
    for i in order {
        if left > 0 && units[i] < shares[i].cap {
            units[i] += 1;
            left -= 1;
        }
    }
    Shared { units, conflict: false }
}

/// Parts of `rest` over the floors, none beyond its cap.
fn proportional(shares: &[Share], rest: f64) -> Vec<f64> {
    let room = |i: usize| f64::from(shares[i].cap.saturating_sub(shares[i].floor));
    let mut parts = vec![0.0; shares.len()];
    let mut open: Vec<usize> = (0..shares.len()).filter(|i| shares[*i].weight > 0.0 && room(*i) > 0.0).collect();
    let mut left = rest;
    while !open.is_empty() {
        let weights: f64 = open.iter().map(|i| shares[*i].weight).sum();
        let part = |i: usize| left * shares[i].weight / weights;
        let (full, others): (Vec<usize>, Vec<usize>) = open.iter().partition(|i| part(**i) >= room(**i));
        if full.is_empty() {
            others.iter().for_each(|i| parts[*i] = part(*i));
            break;
        }
        for i in full {
            parts[i] = room(i);
            left -= parts[i];
        }
        open = others;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(shares: &[(f64, f64, u32, u32)], budget: u32) -> (Vec<u32>, bool) {
        let share =
            |&(priority, demand, floor, cap): &(f64, f64, u32, u32)| Share { floor, cap, weight: priority * demand };
        let Shared { units, conflict } = water_fill(&shares.iter().map(share).collect::<Vec<_>>(), budget);
        (units, conflict)
    }

    /// The cases of the source's own tests: (priority, demand, floor, cap), budget.
    #[test]
    fn the_published_cases() {
        assert_eq!(shared(&[(1.0, 8.0, 0, 8), (3.0, 8.0, 0, 8)], 8), (vec![2, 6], false));
        assert_eq!(shared(&[(1.0, 8.0, 0, 8), (3.0, 4.0, 0, 4)], 8), (vec![4, 4], false));
        assert_eq!(shared(&[(1.0, 10.0, 2, 10), (1.0, 10.0, 0, 10)], 6), (vec![4, 2], false));
        assert_eq!(shared(&[(1.0, 1.0, 0, 7), (1.0, 1.0, 0, 7)], 7), (vec![4, 3], false));
        assert_eq!(shared(&[(1.0, 0.0, 1, 5), (1.0, 8.0, 0, 8)], 6), (vec![1, 5], false));
        assert_eq!(shared(&[(1.0, 5.0, 4, 5), (1.0, 5.0, 3, 5)], 6), (vec![4, 3], true));
    }

    #[test]
    fn nothing_is_given_beyond_need_or_budget() {
        assert_eq!(shared(&[(1.0, 3.0, 0, 3), (1.0, 2.0, 0, 2)], 9), (vec![3, 2], false));
        assert_eq!(shared(&[(1.0, 1.0, 0, 9), (1.0, 1.0, 0, 9), (1.0, 1.0, 0, 9)], 7), (vec![3, 2, 2], false));
        assert_eq!(shared(&[], 7), (vec![], false));
    }
}
