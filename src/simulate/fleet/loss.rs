//! What a fleet loses against anybody's will: a replica, or accelerators of a type.

use super::super::engine::Completion;
use super::Fleet;

impl Fleet {
    /// A ready replica of the pool dies, the `nth` in the order of their start, counted round; its unfinished
    /// requests fail. A new one starts for it as far as the stock allows. False when the pool has none that is ready.
    pub fn lose_replica(&mut self, pool: usize, nth: usize) -> bool {
        let Some(p) = self.pools.get(pool) else { return false };
        let serving: Vec<usize> = (0..p.replicas.len()).filter(|i| p.replicas[*i].serving()).collect();
        if serving.is_empty() {
            return false;
        }
        self.advance_pool(pool);
        self.kill(pool, serving[nth % serving.len()]);
        self.start_pending(self.now_seconds);
        true
    }

    /// From now on there are so many accelerators of a type. Of replicas that have none any more the newest go,
    /// starting ones first; their unfinished requests fail.
    pub fn set_stock(&mut self, accelerator: usize, accelerators: u32) {
        let Some(stock) = self.stock.get_mut(accelerator) else { return };
        *stock = accelerators;
        while self.used(accelerator) > u64::from(accelerators) {
            let of_type = (0..self.pools.len()).filter(|p| self.pools[*p].accelerator == accelerator);
            let replicas = of_type.flat_map(|p| self.pools[p].replicas.iter().enumerate().map(move |(i, r)| (p, i, r)));
            let Some((pool, position, _)) = replicas.max_by_key(|(_, _, r)| (!r.serving(), r.id)) else { break };
            self.advance_pool(pool);
            self.kill(pool, position);
        }
        self.start_pending(self.now_seconds);
    }

    /// Accelerators of a type in use.
    pub(super) fn used(&self, accelerator: usize) -> u64 {
        let of_type = self.pools.iter().filter(|p| p.accelerator == accelerator);
        of_type.map(|p| p.replicas.len() as u64 * u64::from(p.accelerators_per_replica)).sum()
    }

    /// End a replica now; what it did not finish fails.
    pub(super) fn kill(&mut self, pool: usize, position: usize) {
        let replica = &self.pools[pool].replicas[position];
        let id = replica.id;
        let mut lost: Vec<Completion> =
            replica.engine.unfinished().map(|(request, _)| Completion::failed(*request, self.now_seconds)).collect();
        self.remove(pool, id, self.now_seconds);
        self.book(pool, &mut lost);
    }
}
