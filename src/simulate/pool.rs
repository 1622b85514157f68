//! One pool of the simulated fleet and its replicas: names, start-up, what one replica can hold.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::engine::{Engine, EngineSpec};
use super::exposition::{BLOCK_TOKENS, Page};
use super::fleet::{FleetOptions, ReplicaId};
use super::seed;
use crate::policy::{self, Policy, Promise, Role};

/// Letters of the random parts of pod names, as Kubernetes uses them.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Shape assumed where the policy names none, tokens.
const DEFAULT_SHAPE: (f64, f64) = (1024.0, 256.0);

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Ready at this time; infinite when somebody else will say so.
    Starting {
        ready_seconds: f64,
    },
    Ready,
    /// Taken away; `served` when it had been ready before.
    Draining {
        since_seconds: f64,
        served: bool,
    },
}

#[derive(Debug)]
pub struct Replica {
    pub id: ReplicaId,
    pub pod: String,
    pub phase: Phase,
    pub engine: Engine,
    /// Since when it costs money, seconds of the run.
    pub created_seconds: f64,
    /// Where its page is to be served; a free port when absent.
    pub address: Option<SocketAddr>,
}

impl Replica {
    /// Whether it answers: ready, or finishing what it has.
    pub fn serving(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Draining { served: true, .. })
    }
}

/// Time of the replicas that are gone, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Past {
    pub replica_seconds: f64,
    /// Of those that were never ready.
    pub never_ready_seconds: f64,
}

#[derive(Debug)]
pub struct Pool {
    /// `namespace/name`.
    pub id: String,
    pub namespace: String,
    /// Name of the scale target.
    pub deployment: String,
    pub model: usize,
    pub accelerator: usize,
    pub accelerators_per_replica: u32,
    pub price_per_hour: f64,
    /// Whether it serves whole requests.
    pub serves: bool,
    /// Requests at once that one replica holds within the tightest ITL target, by the planner's figures.
    pub capability: f64,
    pub page: Arc<Page>,
    /// Replicas asked for.
    pub wanted: u32,
    /// In the order of their start.
    pub replicas: Vec<Replica>,
    pub past: Past,
    spec: EngineSpec,
    startup_seconds: f64,
    startup_spread: f64,
    seed: u64,
    rng: ChaCha8Rng,
    names: Names,
}

/// How the scale target names its pods.
#[derive(Debug)]
enum Names {
    /// A Deployment: the hash of its ReplicaSet, and five letters of each pod.
    Hashed(String),
    /// A StatefulSet's pods and the leaders of a LeaderWorkerSet: numbered from 0, and the highest goes first.
    Numbered,
}

impl Pool {
    pub fn new(policy: &Policy, index: usize, options: &FleetOptions) -> Self {
        let pool = &policy.pools[index];
        let id = pool.id();
        let mut rng = seed::rng(options.seed, &format!("pool {id}"), 0);
        let factor = 1.0 + options.error * (2.0 * rng.random::<f64>() - 1.0);
        let kv_tokens = (pool.kv_tokens.max(0.0) as u64 / BLOCK_TOKENS).max(1) * BLOCK_TOKENS;
        let spec = EngineSpec {
            parameters: pool.parameters.slowed(factor),
            limits: pool.limits,
            kv_tokens,
            noise: options.noise,
            prefix_hit_ratio: options.prefix_hit_ratio,
        };
        let names = match pool.target.kind.as_str() {
            "StatefulSet" | "LeaderWorkerSet" => Names::Numbered,
            _ => Names::Hashed(random_name(&mut rng, 10)),
        };
        Self {
            namespace: pool.namespace.clone(),
            deployment: pool.target.name.clone(),
            model: pool.model,
            accelerator: pool.accelerator,
            accelerators_per_replica: pool.accelerators_per_replica,
            price_per_hour: pool.price_per_hour(&policy.accelerators),
            serves: pool.role == Role::Both,
            capability: capability(policy, pool),
            page: Arc::new(Page::new(&policy.models[pool.model].served_name, kv_tokens)),
            wanted: 0,
            replicas: Vec::new(),
            past: Past::default(),
            spec,
            startup_seconds: pool.startup_seconds,
            startup_spread: options.startup_spread,
            seed: options.seed,
            rng,
            names,
            id,
        }
    }

    /// What its servers really do, error included.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// A new replica, created at `now_seconds`.
    pub fn start(&mut self, id: ReplicaId, now_seconds: f64, at_once: bool) {
        let pod = self.free_name();
        let stretch = 1.0 + self.startup_spread * (2.0 * self.rng.random::<f64>() - 1.0);
        let (ready_seconds, phase) = if at_once {
            (now_seconds, Phase::Ready)
        } else {
            let ready_seconds = now_seconds + self.startup_seconds * stretch;
            (ready_seconds, Phase::Starting { ready_seconds })
        };
        let engine = self.fresh_engine(&pod, ready_seconds);
        self.replicas.push(Replica { id, pod, phase, engine, created_seconds: now_seconds, address: None });
    }

    /// The name of the next pod; numbers are given again once their pod is gone.
    fn free_name(&mut self) -> String {
        let Names::Hashed(hash) = &self.names else {
            let is_free = |n: &u64| self.replicas.iter().all(|r| self.number(r) != Some(*n));
            return format!("{}-{}", self.deployment, (0..).find(is_free).unwrap_or_default());
        };
        loop {
            let letters = random_name(&mut self.rng, 5);
            if self.replicas.iter().all(|r| !r.pod.ends_with(&letters)) {
                return format!("{}-{hash}-{letters}", self.deployment);
            }
        }
    }

    /// Number of a pod that has one.
    fn number(&self, replica: &Replica) -> Option<u64> {
        replica.pod.strip_prefix(&self.deployment)?.strip_prefix('-')?.parse().ok()
    }

    /// A pod that somebody else created at `now_seconds` and will say when it is ready.
    pub fn add(&mut self, id: ReplicaId, pod: &str, address: Option<SocketAddr>, now_seconds: f64) {
        let engine = self.fresh_engine(pod, now_seconds);
        let phase = Phase::Starting { ready_seconds: f64::INFINITY };
        self.replicas.push(Replica { id, pod: pod.to_owned(), phase, engine, created_seconds: now_seconds, address });
        self.wanted = self.live();
    }

    /// An idle engine; its noise depends on the pod's name, not on what else happens in the fleet.
    pub fn fresh_engine(&self, pod: &str, now_seconds: f64) -> Engine {
        let noise = seed::rng(self.seed, &format!("engine {}/{pod}", self.namespace), 0);
        Engine::new(self.spec, noise, now_seconds)
    }

    /// A replica ended.
    pub fn note_end(&mut self, replica: &Replica, at_seconds: f64) {
        let seconds = at_seconds - replica.created_seconds;
        self.past.replica_seconds += seconds;
        if !replica.serving() {
            self.past.never_ready_seconds += seconds;
        }
    }

    /// Replica seconds since the start of the run.
    pub fn replica_seconds(&self, now_seconds: f64) -> f64 {
        self.past.replica_seconds + self.replicas.iter().map(|r| now_seconds - r.created_seconds).sum::<f64>()
    }

    /// Replicas that start or serve, without those taken away.
    pub fn live(&self) -> u32 {
        self.count(|p| !matches!(p, Phase::Draining { .. }))
    }

    pub fn count(&self, is: impl Fn(&Phase) -> bool) -> u32 {
        self.replicas.iter().filter(|r| is(&r.phase)).count() as u32
    }

    pub fn ready(&self) -> u32 {
        self.count(|p| *p == Phase::Ready)
    }

    pub fn starting(&self) -> u32 {
        self.count(|p| matches!(p, Phase::Starting { .. }))
    }

    pub fn draining(&self) -> u32 {
        self.count(|p| matches!(p, Phase::Draining { .. }))
    }

    /// The replica to take away next: the highest number where pods have one; otherwise the newest starting
    /// one, else the least loaded ready one (the newest among equals).
    pub fn victim(&self) -> Option<usize> {
        if matches!(self.names, Names::Numbered) {
            let live = self.replicas.iter().enumerate().filter(|(_, r)| !matches!(r.phase, Phase::Draining { .. }));
            return live.max_by_key(|(_, r)| self.number(r)).map(|(i, _)| i);
        }
        let position = |of: fn(&Phase) -> bool| self.replicas.iter().rposition(|r| of(&r.phase));
        position(|p| matches!(p, Phase::Starting { .. })).or_else(|| {
            let ready = self.replicas.iter().enumerate().filter(|(_, r)| r.phase == Phase::Ready);
            ready.min_by_key(|(i, r)| (r.engine.outstanding(), std::cmp::Reverse(*i))).map(|(i, _)| i)
        })
    }

    /// Requests at a replica if it got one more, relative to what it can hold; 1 is full.
    pub fn load(&self, replica: &Replica) -> f64 {
        (replica.engine.outstanding() + 1) as f64 / self.capability
    }
}

/// Requests at once that one replica holds within the tightest ITL target of its model's classes: the
/// batch at which an iteration of the additive model lasts that long, limited by sequences and KV memory.
fn capability(policy: &Policy, pool: &policy::Pool) -> f64 {
    let model = &policy.models[pool.model];
    let (input, output) = model.expected_shape.unwrap_or(DEFAULT_SHAPE);
    let targets = model.classes.iter().filter_map(|(class, _)| match policy.classes[*class].promise {
        Promise::Latency { itl_seconds, .. } => Some(itl_seconds),
        Promise::Deadline { .. } => None,
    });
    let target = targets.fold(f64::INFINITY, f64::min);
    let p = &pool.parameters;
    let chunks = (input / f64::from(pool.limits.max_num_batched_tokens.max(1))).ceil().max(1.0);
    let prefill = (p.beta_seconds_per_token + p.gamma_seconds_per_token * (chunks + 1.0) / 2.0) * input;
    let context = input + (output + 1.0) / 2.0;
    let decode = (p.decode_seconds_per_token + p.gamma_seconds_per_token * context) * output;
    let per_request = (prefill + decode) / (chunks + output);
    // A batch that is limited by latency reads all experts.
    let fixed = p.alpha_seconds + p.experts.all_seconds;
    let by_latency = if per_request > 0.0 { (target - fixed) / per_request } else { f64::INFINITY };
    let by_memory = pool.kv_tokens / (input + output / 2.0);
    by_latency.min(by_memory).min(f64::from(pool.limits.max_num_seqs)).max(1.0)
}

fn random_name(rng: &mut ChaCha8Rng, length: usize) -> String {
    (0..length).map(|_| char::from(NAME_LETTERS[rng.random_range(0..NAME_LETTERS.len())])).collect()
}
