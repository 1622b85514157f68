//! Which hardware and which target an opponent would have needed: tried in hindsight, so that nobody loses by a badly
//! chosen setting.
//!
//! A rule that is given hardware gets every pool alone and, of the two that do best alone, three fixed splits; on each
//! it gets every target of its list. Runs are independent of each other and of the number of threads.

use super::comparison::{Comparison, Contest};
use super::opponents::{Hardware, Kind, Truth};
use super::outcome::Outcome;
use super::run::{Contestant, RunOptions, run};
use super::workers::in_parallel;
use crate::policy::{Policy, Role};
use crate::simulate::fleet::RequestStream;

/// Shares of the first of two pools in the fixed splits.
const SPLITS: [f64; 3] = [0.25, 0.5, 0.75];

/// What is played again and again.
pub struct Stretch<'a> {
    pub policy: &'a Policy,
    /// The requests of a seed.
    pub requests: &'a (dyn Fn(u64) -> Box<dyn RequestStream> + Sync),
    pub truth: &'a Truth,
    /// Length of the run, seconds.
    pub seconds: f64,
    pub options: RunOptions,
    /// Threads to use, at least 1.
    pub threads: usize,
}

/// What an opponent may try.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tries {
    /// Targets instead of the rule's own list.
    pub targets: Option<Vec<f64>>,
    /// Hardware instead of every pool alone and splits.
    pub hardware: Option<Vec<Hardware>>,
}

impl std::fmt::Debug for Stretch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stretch")
            .field("seconds", &self.seconds)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Stretch<'_> {
    /// Run all contestants with their seeds, as many at once as there are threads; outcomes in their order.
    pub fn run_all(&self, contestants: &[(Contestant<'_>, u64)]) -> Vec<Outcome> {
        in_parallel(self.threads, contestants, |(contestant, seed)| {
            let options = RunOptions { seed: *seed, ..self.options.clone() };
            let requests = (self.requests)(*seed);
            let outcome = run(self.policy, requests, self.truth, self.seconds, contestant, &options);
            tracing::info!(rule = outcome.rule, hardware = outcome.hardware, target = ?outcome.target, cost = outcome.cost, "run");
            outcome
        })
    }

    /// Our planner with several seeds.
    pub fn with_seeds(&self, kind: &dyn Kind, seeds: &[u64]) -> Vec<Outcome> {
        let one =
            |seed: &u64| (Contestant { kind, hardware: Hardware::default(), target: default_target(kind) }, *seed);
        self.run_all(&seeds.iter().map(one).collect::<Vec<_>>())
    }

    /// Every try of one opponent, and the best that serves as well as `ours`.
    pub fn contest(&self, kind: &dyn Kind, tries: &Tries, ours: &Outcome) -> Contest {
        let targets = tries.targets.clone().filter(|t| !t.is_empty() && !kind.target().is_empty());
        let targets = targets.unwrap_or_else(|| if kind.targets().is_empty() { vec![0.0] } else { kind.targets() });
        let all = |hardware: &[Hardware]| -> Vec<Outcome> {
            let each = |h: &Hardware| {
                let one = |target: &f64| (Contestant { kind, hardware: h.clone(), target: *target }, self.options.seed);
                targets.iter().map(one).collect::<Vec<_>>()
            };
            self.run_all(&hardware.iter().flat_map(each).collect::<Vec<_>>())
        };
        let points = match (&tries.hardware, kind.is_given_hardware()) {
            (_, false) => all(&[Hardware::default()]),
            (Some(hardware), true) => all(hardware),
            (None, true) => {
                let singles = singles(self.policy);
                let mut points = all(&singles);
                points.extend(all(&splits(&singles, &points, targets.len(), ours)));
                points
            }
        };
        Contest {
            rule: kind.name().to_owned(),
            about: kind.about().to_owned(),
            target: kind.target().to_owned(),
            best: Comparison::best(&points, ours),
            points,
        }
    }
}

/// The target in the middle of a list; 0 without one.
fn default_target(kind: &dyn Kind) -> f64 {
    let targets = kind.targets();
    targets.get(targets.len() / 2).copied().unwrap_or(0.0)
}

/// Every model on one of its pools: the first pool of each, the second, and so on.
pub fn singles(policy: &Policy) -> Vec<Hardware> {
    let whole = |p: &usize| policy.pools[*p].role == Role::Both && policy.pools[*p].max > 0;
    let pools: Vec<Vec<usize>> =
        policy.models.iter().map(|m| m.pools.iter().copied().filter(whole).collect()).collect();
    let most = pools.iter().map(Vec::len).max().unwrap_or(0);
    let nth = |n: usize| Hardware {
        shares: pools.iter().filter(|p| !p.is_empty()).map(|p| (p[n.min(p.len() - 1)], 1.0)).collect(),
    };
    (0..most).map(nth).collect()
}

/// Fixed splits of the two hardwares that do best alone; `points` has `targets` entries for each of `singles`.
fn splits(singles: &[Hardware], points: &[Outcome], targets: usize, ours: &Outcome) -> Vec<Hardware> {
    // Whoever never serves as well is compared by how few are late.
    let late = |o: &Outcome| o.classes.iter().map(|c| c.arrived - c.met).sum::<u64>();
    let mut ranked: Vec<(bool, f64, usize)> = points
        .chunks(targets.max(1))
        .enumerate()
        .filter_map(|(index, of_one)| match Comparison::best(of_one, ours) {
            Some(best) => Some((false, of_one[best].cost, index)),
            None => of_one.iter().map(late).min().map(|late| (true, late as f64, index)),
        })
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let [(.., first), (.., second), ..] = ranked.as_slice() else { return vec![] };
    fixed_splits(&singles[*first], &singles[*second])
}

/// A quarter, a half and three quarters on the first, the rest on the second.
pub fn fixed_splits(first: &Hardware, second: &Hardware) -> Vec<Hardware> {
    let split = |share: f64| {
        let of = |&(pool, whole): &(usize, f64), share: f64| (pool, whole * share);
        let (a, b) = (first.shares.iter(), second.shares.iter());
        Hardware { shares: a.map(|s| of(s, share)).chain(b.map(|s| of(s, 1.0 - share))).collect() }
    };
    SPLITS.map(split).into_iter().map(merged).collect()
}

/// A pool that is named twice gets both shares.
fn merged(hardware: Hardware) -> Hardware {
    let mut shares: Vec<(usize, f64)> = vec![];
    for (pool, share) in hardware.shares {
        match shares.iter_mut().find(|(p, _)| *p == pool) {
            Some((_, sum)) => *sum += share,
            None => shares.push((pool, share)),
        }
    }
    Hardware { shares }
}
