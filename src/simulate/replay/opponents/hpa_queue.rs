//! HPA on the waiting requests of the pods.
//!
//! A metric of type Pods, `vllm:num_requests_waiting`, target AverageValue, the default of many guides; the law is
//! that of [`super::law`]. A queue is empty until it is too late, so this shrinks until requests wait.

use super::law::{Behaviour, Scalers, by_pods};
use super::view::pending;
use super::{Kind, Opponent, Order, Seen, Setting};

pub(super) const KIND: HpaQueue = HpaQueue;

/// See the module.
#[derive(Debug)]
pub(super) struct HpaQueue;

#[derive(Debug)]
struct Rule {
    scalers: Scalers,
    target: f64,
}

impl Kind for HpaQueue {
    fn name(&self) -> &'static str {
        "hpa-queue"
    }

    fn about(&self) -> &'static str {
        "HPA on the mean waiting requests of the pods (autoscaling/v2, defaults)"
    }

    fn target(&self) -> &'static str {
        "waiting requests a pod"
    }

    fn targets(&self) -> Vec<f64> {
        vec![10.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule { scalers: Scalers::new(&setting, Behaviour::DEFAULT), target: setting.target })
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.scalers.sync(seen, |pool| {
            let waiting: Vec<f64> = seen.replicas[pool].iter().map(|r| r.waiting).collect();
            by_pods(&waiting, pending(seen, pool), self.target, seen.wanted[pool])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn grows_with_the_queue_and_shrinks_without_after_five_minutes() {
        let room = Room::on(0);
        let mut rule = HpaQueue.start(room.setting(2.0));
        assert_eq!(rule.sync(&Scene::new(&[4, 0]).gauges(0, 9.0, 3.0, 0.9).seen()).replicas, [6, 0]);
        let empty = |seconds: f64| Scene::new(&[6, 0]).gauges(0, 9.0, 0.0, 0.9).at(seconds);
        assert_eq!(rule.sync(&empty(15.0).seen()).replicas, [6, 0]);
        assert_eq!(rule.sync(&empty(300.0).seen()).replicas, [1, 0]);
    }
}
