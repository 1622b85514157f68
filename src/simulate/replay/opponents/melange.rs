//! Mélange: the cheapest mix of accelerators for the last window's rate, solved anew every minute.
//!
//! Rule: `tyler-griggs/melange-release:melange/solver.py`, as AIBrix runs it in its GPU optimizer: requests in buckets
//! of their lengths, each bucket cut into slices, each slice to one pool. It chooses among all pools; starts, stops and
//! what runs cost nothing, and there is no forecast. The rates of one replica are this planner's, at the class's
//! percentile for both latencies, where the source profiles the mean time per token: to its advantage. Buckets are
//! those of this planner, from lengths that count half after ten minutes. The swept target is a factor on the rate.
//! Its number is followed exactly; the gateway sends requests where the load is least.

use super::law::least;
use super::view::{lengths_of, rate_of};
use super::{Kind, Opponent, Order, Seen, Setting};
use crate::control::{GivenDemand, State, problem_for};
use crate::demand::ShapeMemory;
use crate::plan::peers::melange;
use crate::policy::Policy;

pub(super) const KIND: Melange = Melange;

/// Between two decisions, seconds.
const PERIOD_SECONDS: f64 = 60.0;
/// A sync may come a little early.
const SLACK_SECONDS: f64 = 1.0;
/// Slices of a bucket, as in AIBrix; Mélange has 8.
const SLICES: u32 = 4;
/// Nodes of a search; what it has by then is taken.
const NODES: u64 = 50;
/// A model without load keeps the means to see one, requests per second.
const LEAST_RATE: f64 = 1e-3;

/// See the module.
#[derive(Debug)]
pub(super) struct Melange;

#[derive(Debug)]
struct Rule {
    /// The policy with routing by length: Mélange's buckets are places of their own.
    policy: Policy,
    factor: f64,
    decided_at_seconds: f64,
    replicas: Vec<u32>,
    shapes: Vec<ShapeMemory>,
    state: State,
}

impl Kind for Melange {
    fn name(&self) -> &'static str {
        "melange"
    }

    fn about(&self) -> &'static str {
        "cheapest mix of accelerators for the last minute's rate (Mélange; AIBrix's GPU optimizer)"
    }

    fn target(&self) -> &'static str {
        "factor on the measured rate"
    }

    fn targets(&self) -> Vec<f64> {
        vec![0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0]
    }

    fn is_given_hardware(&self) -> bool {
        false
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        let mut policy = setting.policy.clone();
        policy.planner.route_by_length = true;
        Box::new(Rule {
            factor: setting.target,
            decided_at_seconds: f64::NEG_INFINITY,
            replicas: vec![0; policy.pools.len()],
            shapes: vec![ShapeMemory::default(); policy.models.len()],
            state: State::default(),
            policy,
        })
    }
}

impl Rule {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<u32> {
        let rates: Vec<Option<f64>> =
            (0..self.policy.models.len()).map(|model| rate_of(&self.policy, seen, model)).collect();
        let demands: Vec<GivenDemand> =
            rates.iter().enumerate().map(|(model, rate)| self.demand(seen, model, rate.unwrap_or(0.0))).collect();
        let problem = problem_for(&self.policy, &demands, &mut self.state);
        let mut replicas = melange(&problem, SLICES, NODES).replicas;
        for (model, rate) in self.policy.models.iter().zip(rates) {
            let nothing = model.pools.iter().all(|p| replicas[*p] == 0);
            if rate.is_some() && !nothing {
                continue;
            }
            // Nothing known, or nothing that fits: what runs stays.
            for &p in &model.pools {
                let pool = &self.policy.pools[p];
                replicas[p] = seen.wanted[p].clamp(pool.min.min(pool.max), pool.max);
            }
            if let Some(&first) = model.pools.first()
                && model.pools.iter().all(|p| replicas[*p] == 0)
            {
                replicas[first] = least(&self.policy.pools[first]);
            }
        }
        replicas
    }

    fn demand(&mut self, seen: &Seen<'_>, model: usize, rate: f64) -> GivenDemand {
        let (input, output) = lengths_of(&self.policy, seen, model);
        let of_policy = &self.policy.models[model];
        let memory = &mut self.shapes[model];
        memory.note(seen.now_seconds, self.policy.planner.window_seconds, &input, &output);
        let rate = (rate * self.factor).max(LEAST_RATE);
        GivenDemand {
            classes: of_policy.classes.iter().map(|(class, share)| (*class, rate * share)).collect(),
            buckets: memory.buckets(of_policy.expected_shape),
        }
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        if seen.now_seconds - self.decided_at_seconds >= PERIOD_SECONDS - SLACK_SECONDS {
            self.decided_at_seconds = seen.now_seconds;
            self.replicas = self.decide(seen);
        }
        Order { replicas: self.replicas.clone(), routes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    fn cost(replicas: &[u32]) -> f64 {
        1.5 * f64::from(replicas[0]) + 3.0 * f64::from(replicas[1])
    }

    /// Whole buckets and slices cost a little more than the best plan, and never less.
    #[test]
    fn buys_for_the_last_rate_about_what_the_best_plan_costs() {
        let room = Room::on(0);
        let scene = |at: f64, rate: f64| Scene::new(&[4, 4]).at(at).rate(0, rate / 2.0).rate(1, rate / 2.0);
        let mut rule = Melange.start(room.setting(1.0));
        let first = rule.sync(&scene(0.0, 200.0).seen()).replicas;
        let one = Room::on(0).with_minutes(&[200.0]);
        let best = crate::control::size(&one.policy, &one.truth.minutes[0], &mut State::default());
        assert!(cost(&first) >= 0.8 * best.cost_per_hour, "{first:?} {best:?}");
        assert!(cost(&first) <= 1.5 * best.cost_per_hour, "{first:?} {best:?}");
        assert_eq!(rule.sync(&scene(15.0, 20.0).seen()).replicas, first, "it stays for a minute");
        assert!(cost(&rule.sync(&scene(60.0, 20.0).seen()).replicas) < 0.5 * cost(&first));
    }

    #[test]
    fn the_target_is_a_factor_on_the_rate() {
        let room = Room::on(0);
        let scene = |rate: f64| Scene::new(&[4, 4]).rate(0, rate).rate(1, 0.0);
        let replicas = |target: f64, rate: f64| Melange.start(room.setting(target)).sync(&scene(rate).seen()).replicas;
        assert_eq!(replicas(2.0, 100.0), replicas(1.0, 200.0));
        assert!(cost(&replicas(2.0, 100.0)) > cost(&replicas(1.0, 100.0)));
        assert!(cost(&replicas(1.0, 0.0)) > 0.0, "a model without load can be woken");
    }

    #[test]
    fn without_a_rate_what_runs_stays() {
        let room = Room::on(0);
        let mut scene = Scene::new(&[2, 3]);
        for pool in &mut scene.observation.pools {
            pool.arrival_rate = crate::observe::Signal::missing();
        }
        assert_eq!(Melange.start(room.setting(1.0)).sync(&scene.seen()).replicas, [2, 3]);
    }
}
