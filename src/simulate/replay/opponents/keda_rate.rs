//! KEDA on requests per second.
//!
//! `kedacore/keda` with a Prometheus trigger: arrivals per second of the pool over the window against a threshold for
//! one replica, by way of an HPA with an External metric and AverageValue; between 1 and its most replicas KEDA is this
//! HPA ([`super::law`] says why it does not go to 0). The threshold is a share of the rate that one replica sustains
//! within its model's tightest latency target, at the mean lengths of the run: what a load test would have found.

use std::collections::BTreeMap;

use super::law::{Behaviour, Scalers, by_average};
use super::{Kind, Opponent, Order, Seen, Setting, capability};

pub(super) const KIND: KedaRate = KedaRate;

/// See the module.
#[derive(Debug)]
pub(super) struct KedaRate;

#[derive(Debug)]
struct Rule {
    scalers: Scalers,
    /// Requests per second for one replica, by pool.
    thresholds: BTreeMap<usize, f64>,
}

/// Rates of one replica at this share of its capacity, by pool of the given hardware, requests per second.
pub(super) fn thresholds(setting: &Setting<'_>) -> BTreeMap<usize, f64> {
    let threshold = |&(pool, _): &(usize, f64)| (pool, setting.target * capability::of(setting, pool).rate);
    setting.hardware.shares.iter().map(threshold).collect()
}

impl Kind for KedaRate {
    fn name(&self) -> &'static str {
        "keda-rate"
    }

    fn about(&self) -> &'static str {
        "KEDA's Prometheus scaler on requests per second for each replica (kedacore/keda)"
    }

    fn target(&self) -> &'static str {
        "requests/s, share of what a replica sustains within its targets"
    }

    fn targets(&self) -> Vec<f64> {
        vec![1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule { scalers: Scalers::new(&setting, Behaviour::DEFAULT), thresholds: thresholds(&setting) })
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.scalers.sync(seen, |pool| {
            let rate = seen.observation.pools[pool].arrival_rate.value?;
            Some(by_average(rate, self.thresholds[&pool], seen.wanted[pool]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;
    use crate::observe::Signal;

    #[test]
    fn the_rate_is_shared_out_at_the_target() {
        let room = Room::on(0).with_minutes(&[4.0]);
        let sustains = capability::of(&room.setting(0.0), 0).rate;
        // A little less than four, so that rounding does not decide.
        let busy = Scene::new(&[4, 0]).rate(0, 3.98 * sustains);
        let replicas = |target: f64| KedaRate.start(room.setting(target)).sync(&busy.seen()).replicas[0];
        assert_eq!((replicas(1.0), replicas(0.8), replicas(0.5)), (4, 5, 8));
    }

    #[test]
    fn split_pools_each_look_at_their_own_rate_and_hold_without_one() {
        let room = Room::split(0.5).with_minutes(&[4.0]);
        let [small, large] = [0, 1].map(|pool| capability::of(&room.setting(0.0), pool).rate);
        let scene = Scene::new(&[4, 3]).rate(0, 5.5 * small).rate(1, 0.2 * large);
        let mut rule = KedaRate.start(room.setting(1.0));
        assert_eq!(rule.sync(&scene.seen()).replicas, [6, 1]);
        let mut blind = scene.at(15.0);
        blind.observation.pools[0].arrival_rate = Signal::missing();
        assert_eq!(rule.sync(&blind.seen()).replicas, [4, 1]);
    }
}
