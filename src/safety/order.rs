//! Make before break: a pool that gives way to another keeps serving until the other is ready.

/// What sums of prices and watts may be off by, relative to one replica.
const ROUNDING: f64 = 1e-6;

/// One pool of a model that is about to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// What was said last.
    pub before: u32,
    /// What is about to be said.
    pub after: u32,
    pub ready: u32,
    /// Requests per second of one replica at the planned mix.
    pub capacity: f64,
    /// (limit, what one replica uses of it).
    pub uses: Vec<(usize, f64)>,
    /// How long this pool has been growing, seconds; growth that takes longer than `patience_seconds`
    /// is not waited for.
    pub growing_seconds: f64,
    pub patience_seconds: f64,
}

/// Numbers to say instead of `after` so that the replicas that are ready keep carrying `load` requests
/// per second while others start. A pool is kept back only as far as `free` allows, because otherwise the replicas
/// that are waited for could never start.
///
/// `free[l]`: what is left of limit `l` (accelerators, budget, power) when everything in `moves` is done; it is
/// reduced by what is kept.
pub fn keep_serving(moves: &[Move], load: f64, free: &mut [f64]) -> Vec<u32> {
    let mut said: Vec<u32> = moves.iter().map(|m| m.after).collect();
    let waited_for = moves.iter().any(|m| m.after > m.ready && m.growing_seconds <= m.patience_seconds);
    if !waited_for {
        return said;
    }
    let carried =
        |said: &[u32]| -> f64 { moves.iter().zip(said).map(|(m, &n)| f64::from(n.min(m.ready)) * m.capacity).sum() };
    for index in 0..moves.len() {
        let m = &moves[index];
        while said[index] < m.before
            && said[index] < m.ready
            && carried(&said) < load
            && m.uses.iter().all(|&(limit, amount)| free[limit] >= amount * (1.0 - ROUNDING))
        {
            said[index] += 1;
            m.uses.iter().for_each(|&(limit, amount)| free[limit] -= amount);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(before: u32, after: u32, ready: u32, accelerator: usize) -> Move {
        Move {
            before,
            after,
            ready,
            capacity: 2.0,
            uses: vec![(accelerator, 1.0)],
            growing_seconds: 10.0,
            patience_seconds: 600.0,
        }
    }

    #[test]
    fn the_old_pool_serves_until_the_new_one_is_ready() {
        let moves = [pool(4, 0, 4, 0), pool(0, 4, 0, 1)];
        assert_eq!(keep_serving(&moves, 7.5, &mut [8.0, 0.0]), vec![4, 4]);
        let half = [pool(4, 0, 4, 0), pool(4, 4, 2, 1)];
        assert_eq!(keep_serving(&half, 7.5, &mut [8.0, 0.0]), vec![2, 4]);
        let done = [pool(4, 0, 4, 0), pool(4, 4, 4, 1)];
        assert_eq!(keep_serving(&done, 7.5, &mut [8.0, 0.0]), vec![0, 4]);
    }

    #[test]
    fn stock_that_both_need_is_given_up() {
        let moves = [pool(4, 0, 4, 0), pool(0, 4, 0, 0)];
        assert_eq!(keep_serving(&moves, 7.5, &mut [1.0]), vec![1, 4]);
    }

    #[test]
    fn every_limit_has_to_allow_what_is_kept() {
        let mut moves = [pool(4, 0, 4, 0), pool(0, 4, 0, 1)];
        moves[0].uses.push((2, 0.7));
        let mut free = [8.0, 0.0, 2.1];
        assert_eq!(keep_serving(&moves, 7.5, &mut free), vec![3, 4], "2.1 of a budget is three times 0.7");
        assert!(free[0] == 5.0 && free[2].abs() < 1e-9, "{free:?}");
    }

    #[test]
    fn a_pool_that_never_starts_is_not_waited_for() {
        let mut moves = [pool(4, 0, 4, 0), pool(4, 4, 0, 1)];
        moves[1].growing_seconds = 1000.0;
        assert_eq!(keep_serving(&moves, 7.5, &mut [8.0, 0.0]), vec![0, 4]);
    }
}
