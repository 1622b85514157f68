//! Our own forecast without anything else of ours: KEDA's law on the bound of the peak minute to come.
//!
//! What remains of the planner when hardware is given, classes are not told apart and nothing is learnt of the
//! servers. The bound is [`RateMemory::peak`] of each pool's own arrivals over its start-up time and the control's lag,
//! at the quantile of the policy.

use std::collections::BTreeMap;

use super::keda_rate::thresholds;
use super::law::{Behaviour, Scalers, by_average};
use super::{Kind, Opponent, Order, Seen, Setting};
use crate::demand::RateMemory;

pub(super) const KIND: ForecastOnly = ForecastOnly;

/// Time from a reading to a started replica besides its start-up, seconds: two syncs.
pub(super) const LAG_SECONDS: f64 = 30.0;

/// See the module.
#[derive(Debug)]
pub(super) struct ForecastOnly;

#[derive(Debug)]
struct Rule<'a> {
    setting: Setting<'a>,
    scalers: Scalers,
    /// Requests per second for one replica, by pool.
    thresholds: BTreeMap<usize, f64>,
    memories: BTreeMap<usize, RateMemory>,
}

impl Kind for ForecastOnly {
    fn name(&self) -> &'static str {
        "forecast-only"
    }

    fn about(&self) -> &'static str {
        "KEDA's law on our forecast's upper bound over the start-up time, hardware given"
    }

    fn target(&self) -> &'static str {
        "requests/s forecast, share of what a replica sustains within its targets"
    }

    fn targets(&self) -> Vec<f64> {
        vec![1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        let scalers = Scalers::new(&setting, Behaviour::DEFAULT);
        let thresholds = thresholds(&setting);
        Box::new(Rule { setting, scalers, thresholds, memories: BTreeMap::new() })
    }
}

impl Opponent for Rule<'_> {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        let policy = self.setting.policy;
        self.scalers.sync(seen, |pool| {
            let memory = self.memories.entry(pool).or_default();
            if let Some(rate) = seen.observation.pools[pool].arrival_rate.value {
                memory.note(seen.now_seconds, rate);
            }
            let horizon = policy.pools[pool].startup_seconds + LAG_SECONDS;
            let bound = memory.peak(horizon, policy.planner.demand_quantile)?.rate;
            Some(by_average(bound, self.thresholds[&pool], seen.wanted[pool]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::super::{capability, keda_rate};
    use super::*;

    /// After a steady hour the bound is the rate; after a load that jumps it is above.
    #[test]
    fn asks_for_the_bound() {
        let room = Room::on(0).with_minutes(&[4.0]);
        let sustains = capability::of(&room.setting(0.0), 0).rate;
        let after = |rate: &dyn Fn(u32) -> f64| {
            let mut rule = ForecastOnly.start(room.setting(1.0));
            let mut keda = keda_rate::KIND.start(room.setting(1.0));
            let mut both = [0, 0];
            for i in 0..800 {
                let scene = Scene::new(&[4, 0]).at(15.0 * f64::from(i)).rate(0, rate(i) * sustains);
                both = [rule.sync(&scene.seen()).replicas[0], keda.sync(&scene.seen()).replicas[0]];
            }
            both
        };
        assert_eq!(after(&|_| 4.0), [4, 4]);
        let [ours, keda] = after(&|i| if i % 160 > 148 && i < 700 { 7.0 } else { 4.0 });
        assert!(ours > keda && keda == 4, "{ours} {keda}");
    }

    #[test]
    fn nothing_is_asked_for_before_anything_was_seen() {
        let room = Room::on(0);
        let mut scene = Scene::new(&[3, 0]);
        scene.observation.pools[0].arrival_rate = crate::observe::Signal::missing();
        assert_eq!(ForecastOnly.start(room.setting(1.0)).sync(&scene.seen()).replicas, [3, 0]);
    }
}
