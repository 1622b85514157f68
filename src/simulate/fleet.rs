//! The fleet in virtual time: pools of replicas on limited stock, a gateway that routes and queues, the
//! books. Everything happens inside [`Fleet::advance`]; how a stretch of time is cut into calls does not
//! change what happens in it. A fleet decides itself when a replica starts and ends, or somebody else does:
//! see [`Fleet::external`].

mod loss;
mod pods;
mod sight;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::net::SocketAddr;

use serde::Serialize;

use super::account::{Ledger, MinuteLoad, PoolSnapshot, Snapshot};
use super::engine::Completion;
use super::pool::{Phase, Pool, Replica};
use super::router::{RouteShares, Router};
use super::workload::{Request, Workload};
use crate::policy::Policy;

pub use pods::PodError;

/// Number of a replica in the run, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReplicaId(pub u64);

/// How the simulated world differs from the policy's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetOptions {
    pub seed: u64,
    /// Every pool is slower or faster than its parameters say by a factor drawn within ± this share.
    pub error: f64,
    /// Every iteration varies within ± this share.
    pub noise: f64,
    /// Every start-up time varies within ± this share.
    pub startup_spread: f64,
    /// Share of every prompt that the servers' prefix caches spare, 0..1.
    pub prefix_hit_ratio: f64,
    /// Unix time of the start of the run, seconds.
    pub start_unix_seconds: f64,
    /// Keep every finished request for [`Fleet::take_completions`].
    pub keep_completions: bool,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            error: 0.08,
            noise: 0.03,
            startup_spread: 0.05,
            prefix_hit_ratio: 0.0,
            start_unix_seconds: 0.0,
            keep_completions: false,
        }
    }
}

/// One replica as discovery would list it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedReplica {
    pub id: ReplicaId,
    pub namespace: String,
    pub pod: String,
    /// Name of the pool's scale target.
    pub deployment: String,
    /// Index of the pool.
    pub pool: usize,
    /// Whether it serves; false while it starts.
    pub ready: bool,
    /// Whether it was taken away and finishes what it has.
    pub draining: bool,
    /// Whether its page answers: ready, or finishing what it has.
    pub serving: bool,
    /// Where its page is to be served; a free port when absent.
    pub address: Option<SocketAddr>,
}

/// Requests in the order of their arrival.
pub trait RequestStream: Iterator<Item = Request> + std::fmt::Debug + Send {}

impl<S: Iterator<Item = Request> + std::fmt::Debug + Send> RequestStream for S {}

fn peekable(workloads: Vec<Workload>) -> Vec<Peekable<Box<dyn RequestStream>>> {
    let boxed = |workload: Workload| -> Box<dyn RequestStream> { Box::new(workload) };
    workloads.into_iter().map(|workload| boxed(workload).peekable()).collect()
}

/// Requests at the gateway: higher priority first, then in the order of arrival.
type GatewayQueue = BTreeMap<(Reverse<i32>, u64), Request>;

/// A simulated fleet; see the module.
#[derive(Debug)]
pub struct Fleet {
    options: FleetOptions,
    now_seconds: f64,
    pools: Vec<Pool>,
    /// Accelerators of each type.
    stock: Vec<u32>,
    workloads: Vec<Peekable<Box<dyn RequestStream>>>,
    /// Time 0 of the workloads, seconds of the run.
    arrivals_from_seconds: f64,
    /// Whether pods come and go as somebody else says.
    external: bool,
    router: Router,
    /// Requests of each model that has no ready replica.
    gateway: Vec<GatewayQueue>,
    ledger: Ledger,
    requests: u64,
    replicas_created: u64,
    /// Cost of the replicas that are gone.
    closed_cost: f64,
    completions: Vec<Completion>,
}

impl Fleet {
    /// A fleet of the policy's pools, each with its `min` replicas ready, at time 0. Pools that only
    /// prefill or only decode cost money but get no requests: whole requests are all that is played.
    pub fn new(policy: &Policy, workloads: Vec<Workload>, options: FleetOptions) -> Self {
        let mut fleet = Self::empty(policy, workloads, options);
        for (index, pool) in policy.pools.iter().enumerate() {
            fleet.place_ready(index, pool.min);
        }
        fleet
    }

    fn empty(policy: &Policy, workloads: Vec<Workload>, options: FleetOptions) -> Self {
        let pools: Vec<Pool> = (0..policy.pools.len()).map(|i| Pool::new(policy, i, &options)).collect();
        Self {
            options,
            now_seconds: 0.0,
            arrivals_from_seconds: 0.0,
            external: false,
            router: Router::new(policy, &pools),
            pools,
            stock: policy.accelerators.iter().map(|a| a.stock).collect(),
            workloads: peekable(workloads),
            gateway: vec![GatewayQueue::new(); policy.models.len()],
            ledger: Ledger::new(&policy.classes),
            requests: 0,
            replicas_created: 0,
            closed_cost: 0.0,
            completions: Vec::new(),
        }
    }

    /// Seconds since the start of the run.
    pub fn now_seconds(&self) -> f64 {
        self.now_seconds
    }

    /// Unix time of the run, seconds.
    pub fn unix_seconds(&self) -> f64 {
        self.options.start_unix_seconds + self.now_seconds
    }

    /// Let everything happen up to `to_seconds`, arrivals at that moment included. The past is ignored.
    pub fn advance(&mut self, to_seconds: f64) {
        while let Some(event) = self.next_event().filter(|e| e.at_seconds() <= to_seconds) {
            self.now_seconds = self.now_seconds.max(event.at_seconds());
            self.reap();
            match event {
                Event::Ready { pool, replica, .. } => self.become_ready(pool, replica),
                Event::Arrival { workload, .. } => self.arrive(workload),
            }
        }
        self.now_seconds = self.now_seconds.max(to_seconds);
        for pool in 0..self.pools.len() {
            self.advance_pool(pool);
        }
        self.reap();
        self.settle();
    }

    fn next_event(&mut self) -> Option<Event> {
        let mut next: Option<Event> = None;
        let mut offer = |event: Event| {
            if next.as_ref().is_none_or(|n| event.at_seconds() < n.at_seconds()) {
                next = Some(event);
            }
        };
        for (pool, p) in self.pools.iter().enumerate() {
            for r in &p.replicas {
                if let Phase::Starting { ready_seconds } = r.phase
                    && ready_seconds.is_finite()
                {
                    offer(Event::Ready { at_seconds: ready_seconds, pool, replica: r.id });
                }
            }
        }
        for (workload, requests) in self.workloads.iter_mut().enumerate() {
            if let Some(request) = requests.peek() {
                let at_seconds = self.arrivals_from_seconds + request.arrival_seconds;
                offer(Event::Arrival { at_seconds, workload });
            }
        }
        next
    }

    fn become_ready(&mut self, pool: usize, replica: ReplicaId) {
        if let Some(r) = self.pools[pool].replicas.iter_mut().find(|r| r.id == replica) {
            r.phase = Phase::Ready;
        }
        self.serve_waiting(self.pools[pool].model);
    }

    /// Send what waits at the gateway for a model.
    fn serve_waiting(&mut self, model: usize) {
        let waiting = self.gateway.get_mut(model).map(std::mem::take).unwrap_or_default();
        for request in waiting.into_values() {
            self.dispatch(request);
        }
    }

    fn arrive(&mut self, workload: usize) {
        let Some(mut request) = self.workloads[workload].next() else { return };
        request.id = self.requests;
        request.arrival_seconds += self.arrivals_from_seconds;
        self.requests += 1;
        self.ledger.arrived(&request);
        self.dispatch(request);
    }

    fn dispatch(&mut self, request: Request) {
        for i in 0..self.router.pools_of(request.model).len() {
            let pool = self.router.pools_of(request.model)[i];
            self.advance_pool(pool);
        }
        match self.router.choose(&request, &self.pools) {
            Some((pool, replica)) => self.pools[pool].replicas[replica].engine.submit(request, self.now_seconds),
            None => {
                if let Some(queue) = self.gateway.get_mut(request.model) {
                    queue.insert((Reverse(request.priority), request.id), request);
                }
            }
        }
    }

    fn advance_pool(&mut self, pool: usize) {
        for replica in &mut self.pools[pool].replicas {
            if replica.serving() {
                replica.engine.advance(self.now_seconds);
            }
        }
    }

    /// Enter the finished requests into the books.
    fn settle(&mut self) {
        for pool in 0..self.pools.len() {
            let engines = self.pools[pool].replicas.iter_mut().map(|r| &mut r.engine);
            let mut finished: Vec<Completion> = engines.flat_map(super::engine::Engine::take_completions).collect();
            self.book(pool, &mut finished);
        }
    }

    fn book(&mut self, pool: usize, finished: &mut Vec<Completion>) {
        finished.iter_mut().for_each(|completion| completion.pool = Some(pool));
        for completion in finished.iter() {
            self.ledger.finished(completion);
        }
        if self.options.keep_completions {
            self.completions.append(finished);
        }
    }

    /// Remove drained replicas, at the time they became empty, and start what waited for their accelerators.
    fn reap(&mut self) {
        if self.external || self.pools.iter().all(|p| p.draining() == 0) {
            return;
        }
        let mut gone: Vec<(f64, usize, ReplicaId)> = Vec::new();
        for (index, pool) in self.pools.iter_mut().enumerate() {
            for replica in &mut pool.replicas {
                let Phase::Draining { since_seconds, .. } = replica.phase else { continue };
                replica.engine.advance(self.now_seconds);
                if replica.engine.outstanding() == 0 {
                    gone.push((since_seconds.max(replica.engine.idle_since_seconds()), index, replica.id));
                }
            }
        }
        gone.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
        for (at_seconds, pool, id) in gone {
            self.remove(pool, id, at_seconds);
            self.start_pending(at_seconds);
        }
    }

    fn remove(&mut self, pool: usize, id: ReplicaId, at_seconds: f64) {
        let Some(position) = self.pools[pool].replicas.iter().position(|r| r.id == id) else { return };
        let mut replica = self.pools[pool].replicas.remove(position);
        self.pools[pool].note_end(&replica, at_seconds);
        self.closed_cost += self.pools[pool].price_per_hour * (at_seconds - replica.created_seconds) / 3600.0;
        self.book(pool, &mut replica.engine.take_completions());
    }

    /// Ask for `replicas` of a pool. More: they start as far as the stock allows, the rest stays pending.
    /// Fewer: the newest starting ones go first, then the least loaded ready ones drain. Nothing happens in a
    /// fleet whose pods somebody else creates.
    pub fn set_replicas(&mut self, pool: usize, replicas: u32) {
        let Some(p) = self.pools.get_mut(pool).filter(|_| !self.external) else { return };
        p.wanted = replicas;
        self.advance_pool(pool);
        while self.pools[pool].live() > replicas {
            let Some(victim) = self.pools[pool].victim() else { break };
            let now_seconds = self.now_seconds;
            let r = &mut self.pools[pool].replicas[victim];
            let (id, idle) = (r.id, r.engine.outstanding() == 0);
            r.phase = Phase::Draining { since_seconds: now_seconds, served: r.phase == Phase::Ready };
            if idle {
                self.remove(pool, id, now_seconds);
            }
        }
        self.start_pending(self.now_seconds);
    }

    /// Ask for `replicas` of a pool and have those that are missing ready at once, as far as the stock
    /// allows: the state a run begins with.
    pub fn place_ready(&mut self, pool: usize, replicas: u32) {
        while pool < self.pools.len() && !self.external && self.pools[pool].live() < replicas && self.fits(pool) {
            self.start(pool, self.now_seconds, true);
        }
        self.set_replicas(pool, replicas);
    }

    fn start_pending(&mut self, now_seconds: f64) {
        for pool in 0..self.pools.len() {
            while self.pools[pool].live() < self.pools[pool].wanted && self.fits(pool) {
                self.start(pool, now_seconds, false);
            }
        }
    }

    fn start(&mut self, pool: usize, now_seconds: f64, at_once: bool) {
        let id = self.next_id();
        self.pools[pool].start(id, now_seconds, at_once);
    }

    fn next_id(&mut self) -> ReplicaId {
        let id = ReplicaId(self.replicas_created);
        self.replicas_created += 1;
        id
    }

    /// Whether the stock has room for one more replica; draining ones still hold their accelerators.
    fn fits(&self, pool: usize) -> bool {
        let Pool { accelerator, accelerators_per_replica, .. } = self.pools[pool];
        let used = self.used(accelerator);
        used + u64::from(accelerators_per_replica) <= u64::from(self.stock.get(accelerator).copied().unwrap_or(0))
    }

    /// Send each class where the planner says from now on; an empty set of shares means by load alone.
    pub fn set_routes(&mut self, shares: RouteShares) {
        self.router.set_shares(shares);
    }

    /// From now on these requests arrive and no others; time 0 of the workloads is now.
    pub fn start_arrivals(&mut self, workloads: Vec<Workload>) {
        self.workloads = peekable(workloads);
        self.arrivals_from_seconds = self.now_seconds;
    }

    /// [`start_arrivals`](Self::start_arrivals) of any one stream.
    pub fn start_stream(&mut self, stream: Box<dyn RequestStream>) {
        self.workloads = vec![stream.peekable()];
        self.arrivals_from_seconds = self.now_seconds;
    }

    /// Count every token that is made by now: before servers are looked at.
    pub fn catch_up(&mut self) {
        let now_seconds = self.now_seconds;
        let replicas = self.pools.iter_mut().flat_map(|p| &mut p.replicas);
        replicas.filter(|r| r.serving()).for_each(|r| r.engine.catch_up(now_seconds));
    }

    /// No request arrives any more; what is inside goes on.
    pub fn stop_arrivals(&mut self) {
        self.workloads.clear();
    }

    /// (`status.replicas`, `spec.replicas`) of the pool's scale target. Pods exist as soon as they are
    /// asked for, pending ones included, and do not count once they terminate: both are the same number.
    pub fn scale(&self, pool: usize) -> (u32, u32) {
        let wanted = self.pools.get(pool).map_or(0, |p| p.wanted);
        (wanted, wanted)
    }

    /// Where everything stands now.
    pub fn snapshot(&self) -> Snapshot {
        let inside = self.pools.iter().flat_map(|p| &p.replicas).flat_map(|r| r.engine.unfinished());
        let outside = self.gateway.iter().flat_map(BTreeMap::values).map(|r| (r, None));
        let replicas = |p: &Pool| p.replicas.len() as f64;
        let running_cost = |p: &Pool| {
            let hours = |r: &Replica| (self.now_seconds - r.created_seconds) / 3600.0;
            p.price_per_hour * p.replicas.iter().map(hours).sum::<f64>()
        };
        Snapshot {
            at_seconds: self.now_seconds,
            pools: self.pools.iter().map(|pool| pool_snapshot(pool, self.now_seconds)).collect(),
            classes: self.ledger.classes(self.now_seconds, inside.chain(outside)),
            gateway_waiting: self.gateway.iter().map(|q| q.len() as u64).sum(),
            cost: self.closed_cost + self.pools.iter().map(running_cost).sum::<f64>(),
            cost_per_hour: self.pools.iter().map(|p| p.price_per_hour * replicas(p)).sum(),
        }
    }

    /// Arrivals by (model, class), one entry per minute of the run.
    pub fn arrivals_by_minute(&self) -> &BTreeMap<(usize, usize), Vec<MinuteLoad>> {
        self.ledger.minutes()
    }

    /// Requests that finished since the last call; nothing unless `keep_completions` is set.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.completions)
    }

    /// All replicas that exist.
    pub fn replicas(&self) -> Vec<ListedReplica> {
        let list = |(index, pool): (usize, &Pool)| {
            let entry = |r: &Replica| ListedReplica {
                id: r.id,
                namespace: pool.namespace.clone(),
                pod: r.pod.clone(),
                deployment: pool.deployment.clone(),
                pool: index,
                ready: r.phase == Phase::Ready,
                draining: matches!(r.phase, Phase::Draining { .. }),
                serving: r.serving(),
                address: r.address,
            };
            pool.replicas.iter().map(entry).collect::<Vec<_>>()
        };
        self.pools.iter().enumerate().flat_map(list).collect()
    }

    /// (namespace, scale target, wanted replicas, ready replicas) of every pool.
    pub fn deployments(&self) -> impl Iterator<Item = (&str, &str, u32, u32)> {
        self.pools.iter().map(|p| (p.namespace.as_str(), p.deployment.as_str(), p.wanted, p.ready()))
    }

    /// The metrics page of a replica; `None` when it does not serve one (starting or gone).
    pub fn metrics_page(&self, id: ReplicaId) -> Option<String> {
        let of_pool = |p: &'_ Pool| p.replicas.iter().position(|r| r.id == id);
        let (pool, position) = self.pools.iter().find_map(|p| of_pool(p).map(|i| (p, i)))?;
        let replica = &pool.replicas[position];
        let created = self.options.start_unix_seconds + replica.created_seconds;
        replica.serving().then(|| pool.page.write(&replica.engine, created))
    }
}

/// What happens next.
#[derive(Debug)]
enum Event {
    Ready { at_seconds: f64, pool: usize, replica: ReplicaId },
    Arrival { at_seconds: f64, workload: usize },
}

impl Event {
    fn at_seconds(&self) -> f64 {
        match self {
            Self::Ready { at_seconds, .. } | Self::Arrival { at_seconds, .. } => *at_seconds,
        }
    }
}

fn pool_snapshot(pool: &Pool, now_seconds: f64) -> PoolSnapshot {
    let (ready, starting) = (pool.ready(), pool.starting());
    let serving = pool.replicas.iter().filter(|r| r.phase == Phase::Ready);
    let oldest = pool.replicas.iter().filter_map(|r| r.engine.oldest_waiting_seconds()).min_by(f64::total_cmp);
    let kv_sum: f64 = serving.map(|r| r.engine.kv_usage()).sum();
    PoolSnapshot {
        pool: pool.id.clone(),
        spec: pool.wanted,
        ready,
        starting,
        draining: pool.draining(),
        pending: pool.wanted.saturating_sub(ready + starting),
        kv_usage: if ready > 0 { kv_sum / f64::from(ready) } else { 0.0 },
        running: pool.replicas.iter().map(|r| r.engine.running() as u64).sum(),
        waiting: pool.replicas.iter().map(|r| r.engine.waiting() as u64).sum(),
        longest_wait_seconds: oldest.map_or(0.0, |since| now_seconds - since),
    }
}
