//! Scaling rules that a replay compares, each in a file of its own.
//!
//! A rule owns its memory and nothing else: every 15 seconds it is shown what is seen of the fleet, and it answers
//! with the replicas of every scale target. A new one is a file here with a [`Kind`], named once in the list below;
//! the files beside the list are what several rules have in common.

use std::fmt::Debug;

use crate::control::GivenDemand;
use crate::observe::Observation;
use crate::policy::Policy;
use crate::simulate::RouteShares;

/// Declares the files and lists their kinds in this order.
macro_rules! opponents {
    ($($file:ident),* $(,)?) => {
        $(mod $file;)*

        /// Every rule, in the order in which they are shown.
        pub fn kinds() -> Vec<&'static dyn Kind> {
            vec![$(&$file::KIND),*]
        }
    };
}

opponents!(
    ours,
    static_peak,
    static_p95,
    hpa_kv,
    hpa_running,
    hpa_queue,
    keda_rate,
    kpa,
    wva_v1,
    wva_v2,
    inferno,
    melange,
    forecast_only,
    oracle,
    oracle_instant,
);

mod capability;
mod law;
#[cfg(test)]
mod testing;
mod view;
mod water_fill;

/// The rule with this name on the command line.
pub fn kind_named(name: &str) -> Option<&'static dyn Kind> {
    kinds().into_iter().find(|kind| kind.name() == name)
}

/// A scaling rule before it runs.
pub trait Kind: Sync + Debug {
    /// As on the command line, for example `keda-rate`.
    fn name(&self) -> &'static str;

    /// What it is and where its rule is written, one line.
    fn about(&self) -> &'static str;

    /// What the swept target is, with its unit; empty when there is none.
    fn target(&self) -> &'static str {
        ""
    }

    /// Values to sweep, at least 8 where there is a target, cheap to dear or dear to cheap; empty without one.
    fn targets(&self) -> Vec<f64> {
        vec![]
    }

    /// Whether it is given hardware: otherwise it chooses among all pools itself.
    fn is_given_hardware(&self) -> bool {
        true
    }

    /// Whether it knows what is to come: what can be reached, not what can be run.
    fn knows_future(&self) -> bool {
        false
    }

    /// Whether it is not asked while nothing can be read, as HPA leaves a scale target alone when its metrics are
    /// missing. Otherwise it is shown that no server answers, and judges itself.
    fn holds_when_blind(&self) -> bool {
        true
    }

    /// Whether replicas are ready as soon as they are asked for.
    fn has_instant_start(&self) -> bool {
        false
    }

    /// Start it.
    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a>;
}

/// A scaling rule at work.
pub trait Opponent: Debug {
    /// One sync of its controller.
    fn sync(&mut self, seen: &Seen<'_>) -> Order;
}

/// What a rule is started with.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub policy: &'a Policy,
    pub hardware: &'a Hardware,
    /// One of [`Kind::targets`], or what the user gave; 0 where there is none.
    pub target: f64,
    /// The future. Only for rules that say in their name that they know it.
    pub truth: &'a Truth,
}

/// Pools that a rule without choice runs, each with its share of the model's requests; those of one model sum to 1.
/// The other pools stay at 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hardware {
    pub shares: Vec<(usize, f64)>,
}

impl Hardware {
    /// For example `h100`, or `60 % h100, 40 % l40s`; pools by their accelerators.
    pub fn words(&self, policy: &Policy) -> String {
        let name = |pool: usize| &policy.accelerators[policy.pools[pool].accelerator].name;
        match self.shares.as_slice() {
            [(pool, _)] => name(*pool).clone(),
            shares => shares
                .iter()
                .map(|(pool, share)| format!("{:.0} % {}", 100.0 * share, name(*pool)))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

/// What really arrives.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Unix time at which minute 0 begins, seconds.
    pub start_seconds: f64,
    /// True mean rates and lengths of every minute of the run, by model of the policy.
    pub minutes: Vec<Vec<GivenDemand>>,
}

/// What a rule sees at a sync.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Unix time, seconds.
    pub now_seconds: f64,
    /// By pool: counters and histograms over the policy's rate window, gauges at the last scrape.
    pub observation: &'a Observation,
    /// The ready replicas of every pool at the last scrape.
    pub replicas: &'a [Vec<ReplicaSeen>],
    /// `spec.replicas` of every pool's scale target.
    pub wanted: &'a [u32],
    /// `status.readyReplicas` of every pool's scale target.
    pub ready: &'a [u32],
}

/// Gauges of one replica's page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicaSeen {
    /// Number of the replica in the run.
    pub id: u64,
    pub running: f64,
    pub waiting: f64,
    /// 0..=1.
    pub kv_usage: f64,
    /// KV memory, tokens.
    pub kv_tokens: f64,
}

/// What a rule writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// `spec.replicas` by pool; limits of the policy are kept by the caller.
    pub replicas: Vec<u32>,
    /// Where the gateway is to send each class; `None` leaves it as it is.
    pub routes: Option<RouteShares>,
}

#[cfg(test)]
mod tests {
    use super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn every_kind_is_told_apart_and_has_targets_to_sweep() {
        for kind in kinds() {
            assert_eq!(kind_named(kind.name()).map(Kind::about), Some(kind.about()), "{}", kind.name());
            let targets = kind.targets();
            assert_eq!(targets.is_empty(), kind.target().is_empty(), "{}", kind.name());
            let sorted = |less: fn(&f64, &f64) -> bool| targets.windows(2).all(|pair| less(&pair[0], &pair[1]));
            assert!(targets.is_empty() || targets.len() >= 8, "{}", kind.name());
            assert!(sorted(|a, b| a < b) || sorted(|a, b| a > b), "{}", kind.name());
        }
    }

    /// Whatever is seen, every rule says something for every pool and nothing beyond the limits.
    #[test]
    fn every_kind_answers_for_every_pool() {
        let room = Room::split(0.5).with_minutes(&[1.0, 2.0]);
        let scenes = [
            Scene::new(&[0, 0]),
            Scene::new(&[1, 1]).rate(0, 3.0).gauges(0, 4.0, 0.0, 0.3),
            Scene::new(&[2, 1]).rate(0, 300.0).gauges(0, 256.0, 900.0, 1.0).starting(1, 3),
        ];
        for kind in kinds() {
            let targets = kind.targets();
            let mut rule = kind.start(room.setting(targets.get(targets.len() / 2).copied().unwrap_or(0.0)));
            for (i, scene) in scenes.iter().cycle().take(12).enumerate() {
                let seen = Seen { now_seconds: testing::START + 15.0 * i as f64, ..scene.seen() };
                let order = rule.sync(&seen);
                assert_eq!(order.replicas.len(), 2, "{}", kind.name());
                let max = room.policy.pools.iter().map(|pool| pool.max);
                assert!(order.replicas.iter().zip(max).all(|(n, max)| *n <= max), "{}: {order:?}", kind.name());
            }
        }
    }
}
