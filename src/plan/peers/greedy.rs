//! Inferno's greedy rule under capacity: each server takes one accelerator; who loses most by its second choice goes
//! first.
//!
//! Rule: `llm-inferno/optimizer-light:pkg/solver/greedy.go`, `pkg/core/allocation.go`, `pkg/core/server.go` (Apache-2.0),
//! with the saturation policy `RoundRobin`. Ties there fall as hash maps fall; here by name.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Peer;
use crate::plan::instance::{Candidate, Current, Servers};
use crate::plan::{Objective, Problem};

/// One server with what it could run on.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub name: String,
    /// The lowest goes first.
    pub priority: i64,
    pub choices: Vec<Choice>,
}

/// One accelerator for the whole of a server's load.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Pool of the problem.
    pub pool: usize,
    pub replicas: u32,
    /// Cost of going there from what runs now: the least is the best.
    pub value: f64,
    /// (limit, units of one replica).
    pub units: Vec<(usize, f64)>,
}

/// What a server got: all replicas of a choice, or as many as there was room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub choice: usize,
    pub replicas: u32,
}

/// Share of both costs that a change of accelerator is punished with.
const TRANSITION: f64 = 0.1;

/// Value of a choice, the least being the best: what `replicas` at `cost` per hour are worth from what runs now, with
/// the penalty for a change of accelerator.
pub fn transition_value(current: Option<&Current>, accelerator: usize, replicas: u32, cost: f64) -> f64 {
    match current {
        None => (1.0 + TRANSITION) * cost,
        Some(now) if now.accelerator != accelerator => TRANSITION * (now.cost + cost) + (cost - now.cost),
        Some(now) if now.replicas == replicas => 0.0,
        Some(now) => cost - now.cost,
    }
}

/// The rule on servers with their candidates: replicas by pool, in the order of [`Servers::pools`].
pub fn of_servers(servers: &Servers) -> Peer {
    let mut pool = 0;
    let claims: Vec<Claim> = servers
        .servers
        .iter()
        .map(|server| {
            let choice = |candidate: &Candidate| {
                pool += 1;
                let (kind, units) = servers.units(candidate);
                let cost = servers.price(candidate) * f64::from(candidate.replicas);
                Choice {
                    pool: pool - 1,
                    replicas: candidate.replicas,
                    value: transition_value(server.current.as_ref(), candidate.accelerator, candidate.replicas, cost),
                    units: vec![(kind, f64::from(units))],
                }
            };
            Claim {
                name: server.name.clone(),
                priority: i64::from(server.priority),
                choices: server.candidates.iter().map(choice).collect(),
            }
        })
        .collect();
    let mut stock: Vec<f64> = servers.stock.iter().map(|(_, n)| f64::from(*n)).collect();
    peer(claims, &mut stock, pool)
}

/// The rule on any problem: a server is a model's class, served by one pool; cells that this pool cannot serve are
/// paid for where they have a price. What runs now is not looked at.
pub fn one_per_class(problem: &Problem) -> Peer {
    let mut claims: BTreeMap<(usize, usize), Claim> = BTreeMap::new();
    let mut of_pool: BTreeMap<(usize, usize), BTreeMap<usize, (f64, f64)>> = BTreeMap::new();
    let mut all: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let price = |cell: usize| match &problem.objective {
        Objective::Weighted(penalties) => penalties[cell] * problem.cells[cell].rate,
        Objective::Strict => 0.0,
    };
    for (index, cell) in problem.cells.iter().enumerate() {
        let key = (cell.model, cell.class);
        *all.entry(key).or_default() += price(index);
        let claim = Claim { name: cell.name.clone(), priority: -i64::from(cell.priority), choices: vec![] };
        claims.entry(key).or_insert(claim);
    }
    for serve in problem.serves.iter().filter(|s| s.then.is_none()) {
        let cell = &problem.cells[serve.cell];
        let entry = of_pool.entry((cell.model, cell.class)).or_default().entry(serve.pool).or_default();
        entry.0 += cell.rate / serve.rate;
        entry.1 += price(serve.cell);
    }
    for (key, pools) in of_pool {
        let Some(claim) = claims.get_mut(&key) else { continue };
        for (pool, (load, saved)) in pools {
            // Loads are sums of quotients: what is whole up to rounding is whole.
            let replicas = (load - 1e-9).ceil().clamp(0.0, 1e6) as u32;
            let limits = problem.limits.iter().enumerate();
            let of = |(l, limit): (usize, &crate::plan::Limit)| {
                limit.uses.iter().find(|(p, amount)| *p == pool && *amount > 0.0).map(|(_, amount)| (l, *amount))
            };
            let cost = problem.pools[pool].price_per_hour * f64::from(replicas);
            claim.choices.push(Choice {
                pool,
                replicas,
                value: (1.0 + TRANSITION) * cost + all[&key] - saved,
                units: limits.filter_map(of).collect(),
            });
        }
    }
    let mut stock: Vec<f64> = problem.limits.iter().map(|l| problem.most(l)).collect();
    let mut peer = peer(claims.into_values().collect(), &mut stock, problem.pools.len());
    for (n, pool) in peer.replicas.iter_mut().zip(&problem.pools) {
        *n = (*n).clamp(pool.min, pool.max);
    }
    peer
}

fn peer(mut claims: Vec<Claim>, stock: &mut [f64], pools: usize) -> Peer {
    let given = greedy(&mut claims, stock);
    let mut replicas = vec![0; pools];
    for (claim, given) in claims.iter().zip(given) {
        if let Some(given) = given {
            replicas[claim.choices[given.choice].pool] += given.replicas;
        }
    }
    Peer { replicas, finished: true }
}

/// Give out the stock. Choices are sorted by value; the answer names them in that order.
pub fn greedy(claims: &mut [Claim], stock: &mut [f64]) -> Vec<Option<Given>> {
    for claim in claims.iter_mut() {
        claim.choices.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.pool.cmp(&b.pool)));
    }
    let mut given = vec![None; claims.len()];
    let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (i, claim) in claims.iter().enumerate().filter(|(_, c)| !c.choices.is_empty()) {
        groups.entry(claim.priority).or_default().push(i);
    }
    for group in groups.into_values() {
        let left_out = whole(claims, stock, group, &mut given);
        round_robin(claims, stock, &left_out, &mut given);
    }
    given
}

/// One in the queue: what it loses if it does not get its present choice, and what that choice is worth.
#[derive(Clone, Copy)]
struct Waiting {
    claim: usize,
    choice: usize,
    loss: f64,
    value: f64,
}

impl Waiting {
    fn new(claims: &[Claim], claim: usize, choice: usize) -> Self {
        let choices = &claims[claim].choices;
        let value = choices[choice].value;
        let loss = choices.get(choice + 1).map_or(f64::INFINITY, |next| next.value - value);
        Self { claim, choice, loss, value }
    }

    fn before(&self, other: &Self, claims: &[Claim]) -> Ordering {
        let by_name = claims[self.claim].name.cmp(&claims[other.claim].name);
        other.loss.total_cmp(&self.loss).then(other.value.total_cmp(&self.value)).then(by_name)
    }
}

/// Whole allocations, the largest loss first; returns those that got nothing.
fn whole(claims: &[Claim], stock: &mut [f64], group: Vec<usize>, given: &mut [Option<Given>]) -> Vec<usize> {
    let mut queue: Vec<Waiting> = group.into_iter().map(|claim| Waiting::new(claims, claim, 0)).collect();
    queue.sort_by(|a, b| a.before(b, claims));
    let mut queue = std::collections::VecDeque::from(queue);
    let mut left_out = vec![];
    while let Some(first) = queue.pop_front() {
        let choices = &claims[first.claim].choices;
        let choice = &choices[first.choice];
        if take(stock, choice, choice.replicas) {
            given[first.claim] = Some(Given { choice: first.choice, replicas: choice.replicas });
        } else if first.choice + 1 < choices.len() {
            let again = Waiting::new(claims, first.claim, first.choice + 1);
            let at = queue.partition_point(|w| w.before(&again, claims) == Ordering::Less);
            queue.insert(at, again);
        } else {
            left_out.push(first.claim);
        }
    }
    left_out
}

/// One replica at a time to those that got nothing, of the first choice that there is room for.
fn round_robin(claims: &[Claim], stock: &mut [f64], left_out: &[usize], given: &mut [Option<Given>]) {
    loop {
        let mut moved = false;
        for &claim in left_out {
            let choices = &claims[claim].choices;
            let choice = match given[claim] {
                Some(Given { choice, .. }) => Some(choice),
                None => choices.iter().position(|c| c.replicas > 0 && fits(stock, c, 1)),
            };
            let Some(choice) = choice else { continue };
            let got = given[claim].map_or(0, |g: Given| g.replicas);
            if got < choices[choice].replicas && take(stock, &choices[choice], 1) {
                given[claim] = Some(Given { choice, replicas: got + 1 });
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

fn fits(stock: &[f64], choice: &Choice, replicas: u32) -> bool {
    choice.units.iter().all(|&(limit, units)| units * f64::from(replicas) <= stock[limit] + 1e-9)
}

fn take(stock: &mut [f64], choice: &Choice, replicas: u32) -> bool {
    let there_is = fits(stock, choice, replicas);
    if there_is {
        for &(limit, units) in &choice.units {
            stock[limit] -= units * f64::from(replicas);
        }
    }
    there_is
}
