//! HPA on the running requests of the pods.
//!
//! A metric of type Pods, `vllm:num_requests_running`, target AverageValue; the law is that of [`super::law`]. The
//! target is a share of what one replica holds at the highest rate within its model's tightest latency target.

use std::collections::BTreeMap;

use super::law::{Behaviour, Scalers, by_pods};
use super::view::pending;
use super::{Kind, Opponent, Order, Seen, Setting, capability};

pub(super) const KIND: HpaRunning = HpaRunning;

/// See the module.
#[derive(Debug)]
pub(super) struct HpaRunning;

#[derive(Debug)]
struct Rule {
    scalers: Scalers,
    /// Running requests a pod, by pool.
    targets: BTreeMap<usize, f64>,
}

impl Kind for HpaRunning {
    fn name(&self) -> &'static str {
        "hpa-running"
    }

    fn about(&self) -> &'static str {
        "HPA on the mean running requests of the pods (autoscaling/v2, defaults)"
    }

    fn target(&self) -> &'static str {
        "running requests, share of what a replica holds within its targets"
    }

    fn targets(&self) -> Vec<f64> {
        vec![1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        let target = |&(pool, _): &(usize, f64)| (pool, setting.target * capability::of(&setting, pool).batch);
        let targets = setting.hardware.shares.iter().map(target).collect();
        Box::new(Rule { scalers: Scalers::new(&setting, Behaviour::DEFAULT), targets })
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.scalers.sync(seen, |pool| {
            let running: Vec<f64> = seen.replicas[pool].iter().map(|r| r.running).collect();
            by_pods(&running, pending(seen, pool), self.targets[&pool], seen.wanted[pool])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn the_target_is_a_share_of_what_a_replica_holds() {
        let room = Room::on(0).with_minutes(&[4.0]);
        let holds = capability::of(&room.setting(0.0), 0).batch;
        let full = Scene::new(&[4, 0]).gauges(0, holds, 0.0, 0.5);
        let replicas = |target: f64| HpaRunning.start(room.setting(target)).sync(&full.seen()).replicas[0];
        assert_eq!((replicas(1.0), replicas(0.8), replicas(0.5)), (4, 5, 8));
    }
}
